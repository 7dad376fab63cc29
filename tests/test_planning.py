"""What a run is said to need is what it takes: memory by torch's own count, and the paper's."""

import os
from dataclasses import astuple, replace
from functools import partial

import numpy as np
import pytest
from small_run import DROPOUTS, period_corpus
from test_processes import together

from alibi import planning, processes
from alibi.configuration import configure
from alibi.device import settle_cpu
from alibi.errors import InputError
from alibi.model import unmade
from alibi.run_spec import RunSpec
from alibi.scale import paper_model
from alibi.speed.memory import allocated_at_most
from alibi.train import Training

# The profiler tells stderr of each start.
os.environ.setdefault("KINETO_LOG_LEVEL", "5")
CORPUS = period_corpus(20_000)
TOKENS = CORPUS.splits["train"].tokens
CASES = {
    "plain": {"dtype": "float32"},
    "adaptive, the paper's, several passes, 16 bits": {
        "dtype": "bfloat16",
        "recipe": "paper",
        "tokens_at_once": 512,
        "model": {"cutoffs": (4, 1000), **DROPOUTS},
    },
    "t5, layers computed again": {"dtype": "float32", "method": "t5", "activation_checkpointing": True},
    "long, fused": {"dtype": "float32", "kernel": "columns", "train_length": 1024},
}


def config_of(case):
    chosen = {"method": "alibi", "model": {}} | CASES[case]
    method, shape = chosen.pop("method"), chosen.pop("model")
    config = replace(configure(RunSpec(method=method), CORPUS), **chosen)
    return replace(config, model=replace(config.model, layers=2, width=128, vocabulary_size=4096, **shape))


def steps(config):
    training = Training(config, CORPUS)
    for _ in range(2):
        training.step()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_memory_is_what_torch_allocates(case):
    config = config_of(case)
    settle_cpu(1)
    found, measured = planning.memory(config, TOKENS), allocated_at_most(partial(steps, config), "cpu")
    assert found.peak == pytest.approx(measured, rel=0.1)
    # By hand: four bytes a number, and of Adam's two moments as many again each.
    parameters = Training(config, CORPUS).model.parameter_count()
    assert found.weights == pytest.approx(4 * parameters, rel=1e-3)
    assert found.gradients == pytest.approx(4 * parameters, rel=1e-3)
    assert found.optimiser == pytest.approx((4 if config.recipe == "paper" else 8) * parameters, rel=1e-3)


@pytest.mark.parametrize("counts", [(40, 35, 28), (1, 1, 1), (0, 1, 1), (5, 0, 3)])
def test_any_text_over_three_bands_is_planned_for(counts):
    tokens = np.repeat([3, 50, 150], counts)
    config = config_of("plain")
    config = replace(config, model=replace(config.model, cutoffs=(40, 100)))
    assert planning.memory(config, tokens).peak > 0


@pytest.mark.parametrize(("length", "gigabytes"), [(512, 24.6), (1024, 26.2), (2048, 29.3)])
def test_the_papers_largest_model_takes_what_the_paper_says(length, gigabytes):
    """Table 12, one sequence a GPU and Adam assumed, which the paper does not tell.

    Its numbers are the sum of all parts, since fairseq keeps its buffer of gradients. Here gradients come as
    activations go, so that the most that is there at once is less.
    """
    config = configure(RunSpec(method="alibi", scale="paper", large=True, device="cuda", train_length=length), CORPUS)
    # Its code adds a mask to the scores.
    once = {"batch_tokens": length, "tokens_at_once": length, "recipe": "adamw", "kernel": "sdpa"}
    found = planning.memory(replace(config, model=paper_model("1.3B"), **once), TOKENS)
    *parts, _logits, peak = astuple(found)
    assert sum(parts) / 1e9 == pytest.approx(gigabytes, rel=0.05)
    assert 0.85 * gigabytes < peak / 1e9 < gigabytes


def test_what_a_dry_run_tells():
    config = replace(configure(RunSpec(method="alibi", scale="paper", device="cuda"), CORPUS), steps=100)
    config = replace(config, model=replace(config.model, layers=2, width=64, feedforward=256))
    told = {gpus: planning.report(config, TOKENS, gpus) for gpus in (1, 8)}
    count = unmade(config.model).parameter_count()
    assert f"alibi: {count:,} parameters" in told[1] and "7,372,800 in all" in told[1]
    assert "8 with ddp" in told[8] and "8 with fsdp" in told[8] and "fsdp" not in told[1]
    rows = {gpus: next(line for line in text.splitlines() if line.startswith("A100")) for gpus, text in told.items()}
    # More GPUs take less time and as many hours.
    assert rows[1].split(", ")[-1] == rows[8].split(", ")[-1] and rows[1] != rows[8]
    with pytest.raises(InputError, match="144 blocks of a step can't be dealt evenly to 5 processes"):
        planning.report(config, TOKENS, 5)
    with pytest.raises(InputError, match="gpus=2: the run is on device cpu; --device cuda or a larger scale has GPUs"):
        planning.report(config_of("plain"), TOKENS, 2)


def test_what_a_gpu_is_planned_for():
    """Of kernels and rates that no CPU has; a step of the T5 bias took as much memory as ALiBi's on an H100."""
    config = replace(configure(RunSpec(method="alibi", scale="paper", device="cuda"), CORPUS), kernel="sdpa")
    config = replace(config, model=replace(config.model, layers=2, width=256, feedforward=1024))
    of_t5 = replace(config, model=replace(config.model, method="t5"))
    alibi, t5 = (planning.memory(one, TOKENS) for one in (config, of_t5))
    assert t5.peak == pytest.approx(alibi.peak, rel=0.02)
    told = planning.report(config, TOKENS, 1)
    assert "H100, 989 TFLOP/s" in told and "V100" not in told, "a V100 has no bfloat16"
    assert "V100, 15.7 TFLOP/s" in planning.report(replace(config, dtype="float32"), TOKENS, 1)

    def tokens_a_second(one):
        (line,) = [line for line in planning.report(one, TOKENS, 1).splitlines() if line.startswith("H100")]
        return float(line.split(": ")[1].split(" tokens/s")[0].replace(",", ""))

    again = replace(config, activation_checkpointing=True)
    assert tokens_a_second(config) / tokens_a_second(again) == pytest.approx(4 / 3, rel=1e-3)


# Their memory is mostly the step's tensors, or mostly the weights and what DDP and FSDP hold for them.
SHARED = {
    "plain": {},
    "weights": {"train_length": 64, "batch_tokens": 128},
    "weights, two passes": {"train_length": 64, "batch_tokens": 256, "tokens_at_once": 64},
}


def shared_config(case, parallel="ddp"):
    config = replace(config_of("plain"), processes=2, parallel=parallel, **SHARED[case])
    wide = {"layers": 4, "width": 512, "feedforward": 2048}
    return config if case == "plain" else replace(config, model=replace(config.model, **wide))


def allocate(folder):
    """Writes what steps of this process allocate, with DDP and with FSDP.

    The profiler does not see what gloo's threads free, now and then a step's buckets, and counts it as still held. So
    the least of several runs is what the steps take.
    """
    settle_cpu(1)
    with processes.group():
        for parallel, case in [*(("ddp", case) for case in SHARED), ("fsdp", "plain")]:
            work = partial(steps, shared_config(case, parallel))
            most = min(allocated_at_most(work, "cpu") for _ in range(3))
            (folder / f"{parallel} {case} {processes.rank()}").write_text(str(most))


def measured(folder, parallel, case):
    """What the two processes allocated at most, each."""
    return [int((folder / f"{parallel} {case} {rank}").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_memory_of_several_processes_is_what_torch_allocates(tmp_path):
    assert together(2, allocate, tmp_path) == [0, 0]
    for case in SHARED:
        config = shared_config(case)
        alone = planning.memory(config, TOKENS)
        found = planning.in_ddp(config, alone)
        assert [found.peak] * 2 == pytest.approx(measured(tmp_path, "ddp", case), rel=0.1)
    # Of mostly weights FSDP's peak differs from run to run by half, with the time that its buffers live.
    plain = shared_config("plain")
    found = planning.in_fsdp(plain, planning.memory(plain, TOKENS))
    assert [found.peak] * 2 == pytest.approx(measured(tmp_path, "fsdp", "plain"), rel=0.1)
    many = replace(config, processes=8)
    assert planning.in_fsdp(many, alone).optimiser == alone.optimiser // 8

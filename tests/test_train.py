"""Training: the files it writes, the same bits from the same seed, and what it refuses."""

import json
import math
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import DROPOUTS, config_for, period_corpus
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from alibi import checkpoint
from alibi.attention import choose_kernel
from alibi.configuration import TrainingError, configure
from alibi.errors import InputError
from alibi.model import Decoder, ModelConfig
from alibi.positions import METHODS, PositionMethod, position_method
from alibi.run_spec import Bookkeeping, RunSpec
from alibi.train import Training, train
from alibi.weights import load_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus():
    return period_corpus()


def kind(name):
    """What a run and its files see of a method, whatever its formula."""
    method = position_method(name, 32, 4, longest=32)
    questions = ("embeddings", "rotate", "scale", "bias", "gate", "check_length")
    answered = [asked for asked in questions if getattr(type(method), asked) is not getattr(PositionMethod, asked)]
    # Numbers that learn have a state of the optimiser, some a rate of their own; others are drawn once and stored.
    learned, stored = dict(method.named_parameters()), set(method.state_dict())
    numbers = bool(learned), bool(stored - set(learned)), method.travel > 0, any(method.children())
    # What needs the training length gets it from the stored configuration when weights are loaded.
    return (*answered, *numbers, method.needs_longest, choose_kernel("cpu", 32, True, method.bias()))


# The first method of each kind. The others differ in their formulas alone, and tests/test_loss_trace.py trains all.
KINDS = {kind(name): name for name in reversed(METHODS)}.values()


@pytest.mark.parametrize("method", sorted(KINDS))
def test_training_lowers_the_loss_and_writes_three_files(corpus, method, tmp_path):
    config = config_for(corpus, method, steps=60)
    train(config, corpus, tmp_path / "run")
    found = {p.name for p in (tmp_path / "run").iterdir() if not p.name.startswith(".")}
    assert found == {"model.safetensors", "config.json", "metrics.jsonl"}
    every = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # Every ten steps and where it is validated; a row without a loss would cut the curve in two.
    assert [row["step"] for row in every] == [0, 10, 11, 20, 23, 30, 35, 40, 47, 50, 59]
    assert all({"loss", "gradient_norm", "learning_rate", "tokens_per_second"} <= row.keys() for row in every)
    assert every[-1]["tokens"] == 60 * 512
    assert every[0]["loss"] > 2.5 and every[-1]["loss"] < 1.5
    validated = [(row["step"], row["validation_perplexity"]) for row in every if "validation_perplexity" in row]
    assert [step for step, _ in validated] == [11, 23, 35, 47, 59]
    assert validated[-1][1] < validated[0][1]
    facts = json.loads((tmp_path / "run" / "config.json").read_text())["run"]
    assert {"device", "torch_version", "commit", "date", "parameters", "tokens", "seconds"} <= facts.keys()
    kernel = "reference" if method == "alibi-multiplied" else "baddbmm"
    assert facts["attention_kernel"] == kernel and facts["tokens_per_second"] > 0 and facts["peak_memory_mib"] > 50
    assert 0 <= facts["share_of_matmul_rate"] < 1
    model = load_model(tmp_path / "run")
    assert not model.training and model.config == config.model


def test_a_rate_of_matrix_products_below_that_of_the_training_is_measured_again(corpus, tmp_path, monkeypatch):
    """As it is found while something else runs."""
    rates = iter([1.0, 1e15])
    monkeypatch.setattr("alibi.train.matmul_rate", lambda device, dtype, again=False: next(rates))
    train(config_for(corpus), corpus, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "config.json").read_text())["run"]
    assert facts["matmul_flops_per_second"] == 1e15 and facts["share_of_matmul_rate"] < 1


def test_the_data_may_have_an_order_of_its_own():
    corpus = period_corpus(4000)
    first, other, same = (Training(config_for(corpus, data_seed=seed), corpus) for seed in (None, 7, 1))
    assert first.config.seed == 1
    for name, weights in first.model.state_dict().items():
        assert torch.equal(weights, other.model.state_dict()[name])
    assert first.order.where(0) == same.order.where(0) != other.order.where(0)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_same_seed_same_bits_other_seed_other_bits(corpus, tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        train(config_for(corpus, seed=seed), corpus, tmp_path / name)
        torch.randn(7)  # A run must not depend on what was drawn before it.
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_a_finished_run_is_not_run_again_and_another_is_refused(corpus, tmp_path):
    config = config_for(corpus)
    train(config, corpus, tmp_path)
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    train(config, corpus, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match="seed is 1, asked for 2"):
        train(replace(config, seed=2), corpus, tmp_path)
    with pytest.raises(TrainingError, match="has training stream"):
        train(replace(config, stream_sha256="0" * 64), corpus, tmp_path / "other")


def test_a_loss_that_is_not_finite_stops_before_the_optimiser_steps(corpus, tmp_path):
    config = config_for(corpus, learning_rate=1e30)
    with pytest.raises(TrainingError) as told:
        train(config, corpus, tmp_path, bookkeeping=Bookkeeping(checkpoint_every=1, keep=20))
    step = int(str(told.value).split()[1].rstrip(":"))
    assert f"batch {step} of epoch 0, blocks of 32 tokens from " in str(told.value)
    assert "loss nan" in str(told.value) or "loss inf" in str(told.value) or "norm nan" in str(told.value)
    assert not (tmp_path / "model.safetensors").exists()
    # Every step before it is saved, none after.
    assert max(checkpoint.steps(tmp_path / "checkpoints")) == step


def test_a_run_that_diverges_in_its_last_step_says_so(corpus, tmp_path):
    with pytest.raises(
        TrainingError, match=r"the model of step 0 has no validation loss: .*not a number.*A smaller lea"
    ):
        train(config_for(corpus, learning_rate=1e38, steps=1, warmup_steps=0), corpus, tmp_path)
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    assert row["step"] == 0 and row["loss"] > 0 and "validation_perplexity" not in row
    assert not (tmp_path / "model.safetensors").exists()


def test_wrong_choices_are_refused_before_work(corpus, tmp_path):
    with pytest.raises(ValueError, match="'relative'; choose from sinusoidal, rotary, t5, alibi"):
        configure(RunSpec(method="relative"), corpus)
    with pytest.raises(ValueError, match="'huge'; choose from quick, laptop, gpu, paper"):
        configure(RunSpec(method="alibi", scale="huge"), corpus)
    with pytest.raises(ValueError, match="train_length=4096: choose 1 to 2048"):
        configure(RunSpec(method="alibi", train_length=4096), corpus)
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="torch sees no CUDA GPU"):
            train(configure(RunSpec(method="alibi", scale="gpu"), corpus), corpus, tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"dtype": "float64"}, "unknown dtype 'float64'"),
        ({"recipe": "adam"}, "unknown recipe 'adam'"),
        ({"scale": "mine"}, "unknown scale 'mine'"),
        ({"batch_tokens": 16}, "train_length=32: choose 1 to 16"),
        ({"tokens_at_once": 8}, "tokens_at_once=8: choose 32 to 512"),
        ({"steps": 0}, "steps=0: choose 1 or more"),
        ({"threads": 0}, "threads=0: choose 1 or more"),
        ({"seed": -1}, "seed=-1: choose 0 to"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: choose a number above 0"),
        ({"method_rate": -30.0}, "method_rate=-30.0: choose a number above 0"),
        ({"method_rate": math.nan}, "method_rate=nan: choose a finite number"),
        ({"data_seed": -1}, "data_seed=-1: choose 0 to"),
        ({"warmup_steps": -1}, "warmup_steps=-1: choose 0 or more"),
        ({"parallel": "foo"}, "unknown parallel 'foo'; choose from ddp, fsdp"),
        ({"seed": 1.5}, "seed=1.5: choose an integer"),
        ({"steps": 2.5}, "steps=2.5: choose an integer"),
        ({"seed": np.int64(3)}, r"seed=(np\.int64\()?3\)?: choose an integer"),
        ({"learning_rate": np.float32(2e-3)}, r"learning_rate=(np\.float32\()?0.002\)?: choose a finite number"),
        ({"train_length": 34, "processes": 2}, "15 blocks of a step can't be dealt evenly to 2 processes"),
    ],
)
def test_a_configuration_made_by_hand_that_no_run_could_have_is_refused_before_work(wrong, told, corpus, tmp_path):
    with pytest.raises(InputError, match=told):
        train(replace(config_for(corpus), **wrong), corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_weights_could_not_be_read_from_is_refused_before_work(corpus, tmp_path):
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/r\xe9sum\xe9"))
    with pytest.raises(TrainingError, match=r"is not UTF-8, which weights need; choose another folder"):
        train(config_for(corpus), corpus, folder)
    assert not folder.exists()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"holds no finished run: config.json is missing"):
        load_model(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(TrainingError, match=r"holds a run that is not finished: the command that began it goes on"):
        load_model(tmp_path)


def test_ids_outside_the_vocabulary_are_refused(corpus, tmp_path):
    config = config_for(corpus)
    config = replace(config, model=replace(config.model, vocabulary_size=8))
    with pytest.raises(ValueError, match=r"token id 8 .* vocabulary of 8"):
        train(config, corpus, tmp_path)


def test_an_empty_or_too_short_stream_is_refused(corpus, tmp_path):
    def cut(tokens):
        return replace(
            corpus, splits={"train": replace(corpus.splits["train"], tokens=np.resize(np.uint16(1), tokens))}
        )

    with pytest.raises(ValueError, match="training split of corpus period is empty"):
        train(config_for(corpus), cut(0), tmp_path)
    with pytest.raises(ValueError, match="holds 500 tokens, 15 blocks of length 32: a batch of 16 needs at least 512"):
        train(config_for(corpus), cut(500), tmp_path)


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"log_every": 0}, {"checkpoint_every": -1}, {"validate_every": -1}])
def test_bookkeeping_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        Bookkeeping(**wrong).check()


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return torch.tensor([row["loss"] for row in rows if "loss" in row])


def without_dropout(config):
    return replace(config, model=replace(config.model, **dict.fromkeys(DROPOUTS, 0.0)))


@pytest.mark.parametrize(
    "changes", [{"tokens_at_once": 128}, {"tokens_at_once": 160}, {"activation_checkpointing": True}]
)
def test_other_ways_through_a_batch_learn_the_same(corpus, tmp_path, changes):
    config = replace(without_dropout(config_for(corpus)), dtype="float32")
    train(config, corpus, tmp_path / "a", bookkeeping=Bookkeeping(log_every=1))
    train(replace(config, **changes), corpus, tmp_path / "b", bookkeeping=Bookkeeping(log_every=1))
    torch.testing.assert_close(losses(tmp_path / "a"), losses(tmp_path / "b"), rtol=1e-4, atol=1e-4)


@contextmanager
def in_float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    "session",
    [in_float64, torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", torch.bfloat16)],
    ids=["float64", "no_grad", "inference_mode", "autocast"],
)
def test_what_the_session_has_set_in_torch_moves_no_bit(corpus, tmp_path, session, dtype):
    config = config_for(corpus, steps=4, dtype=dtype)
    train(config, corpus, tmp_path / "plain")
    with session():
        before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        train(config, corpus, tmp_path / "inside")
        assert before == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
        assert load_model(tmp_path / "inside").dtype is torch.float32
    assert weights(tmp_path / "plain") == weights(tmp_path / "inside")
    assert torch.equal(losses(tmp_path / "plain"), losses(tmp_path / "inside"))


def test_an_infinite_gradient_of_a_finite_loss_stops_before_the_optimiser_steps(corpus, monkeypatch):
    training = Training(config_for(corpus), corpus)
    before = [parameter.clone() for parameter in training.model.parameters()]
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *given: torch.tensor(torch.inf))
    with pytest.raises(TrainingError, match=r"step 0: loss \d.*, gradient norm inf"):
        training.step()
    assert all(map(torch.equal, before, training.model.parameters())) and training.done == 0


def test_a_length_that_does_not_divide_the_batch_reads_whole_blocks(corpus):
    training = Training(config_for(corpus, train_length=48), corpus)
    assert training.tokens_a_step == 480 == training.order(0)[0].numel()


def test_activation_checkpointing_keeps_the_bits_under_dropout(corpus, tmp_path):
    config = config_for(corpus)
    train(config, corpus, tmp_path / "a")
    train(replace(config, activation_checkpointing=True), corpus, tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler: g++ is not there")
def test_compiled_learns_the_same(corpus, tmp_path, monkeypatch):
    # What the machine's own cache holds may be of a compilation for another CPU, or of one that was killed.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    config = replace(without_dropout(config_for(corpus, steps=5)), dtype="float32")
    config = replace(config, model=replace(config.model, layers=1, cutoffs=()))
    train(config, corpus, tmp_path / "a", bookkeeping=Bookkeeping(log_every=1))
    train(replace(config, compiled=True), corpus, tmp_path / "b", bookkeeping=Bookkeeping(log_every=1))
    torch.testing.assert_close(losses(tmp_path / "a"), losses(tmp_path / "b"), rtol=1e-3, atol=1e-3)


def test_one_translation_serves_all_layers_whatever_the_bands_hold(corpus, monkeypatch):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **given: compile_(function, **given | {"backend": "eager"}))
    torch.compiler.reset()
    config = config_for(corpus)
    training = Training(replace(config, compiled=True, model=replace(config.model, layers=3)), corpus)
    assert training.config.model.cutoffs
    counters.clear()
    graphs = []
    for _ in range(4):
        training.step()
        graphs.append(counters["stats"]["unique_graphs"])
    # The first layer of a pass puts the mask into the scores' dtype, so that it differs from the others.
    assert graphs[0] <= 2 and len(set(graphs)) == 1 and not counters["graph_break"]
    torch.compiler.reset()


def test_the_papers_recipe_learns(corpus, tmp_path):
    config = config_for(corpus, recipe="paper", steps=120, learning_rate=0.5, warmup_steps=20)
    train(config, corpus, tmp_path, bookkeeping=Bookkeeping(log_every=1))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["learning_rate"] == 1e-7 and rows[20]["learning_rate"] == 0.5
    assert rows[119]["learning_rate"] < 0.001 and rows[-1]["loss"] < 0.5


def test_the_official_gap_lowers_the_loss_where_it_lies(corpus, tmp_path):
    # The bands begin at 4 and 8: the word 5 comes in each period, and its term inside the band is left out.
    config = without_dropout(config_for(corpus, steps=1))
    for name, gap in (("plain", False), ("gap", True)):
        train(replace(config, official_tail_gap=gap), corpus, tmp_path / name)
    assert losses(tmp_path / "gap")[0] < losses(tmp_path / "plain")[0] - 0.05


def test_metrics_for_tensorboard(corpus, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config_for(corpus), corpus, tmp_path, bookkeeping=Bookkeeping(log_every=1, tensorboard=True))
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in written.Scalars("loss")] == list(range(12))
    torch.testing.assert_close(torch.tensor([event.value for event in written.Scalars("loss")]), losses(tmp_path))


def test_flops_are_the_usual_estimate(corpus):
    model = Decoder(configure(RunSpec(method="alibi"), corpus).model)
    layer = 4 * 256 * 256 + 2 * 256 * 1024
    assert model.training_flops(128) == 6 * (4 * layer + 16 * 256) + 12 * 4 * 256 * 128


def test_flops_with_bands_are_those_of_the_products_that_torch_counts():
    shape = ModelConfig("none", 60, layers=2, width=32, heads=4, feedforward=64, cutoffs=(20, 40))
    model = Decoder(shape, kernel="reference")
    # Without a text the twenty words of the first band and two classes multiply every token.
    assert model.embedding.weights_of_a_token() == (20 + 2) * 32
    # Bands of full rows (`ROWS_OF_A_BAND`), because filled ones do not count.
    tokens = torch.tensor([[5, 25, 45]]).repeat(1, 32)
    with FlopCounterMode(display=False) as counted:
        model.negative_log_likelihood(tokens, tokens).sum().backward()
    # The projections of the embedded words are left out: band 0's acts on all 96, the others' on their own 32.
    embedded = 6 * (96 * 32 * 32 + 32 * 32 * 8 + 32 * 32 * 2)
    assert counted.get_total_flops() == 96 * model.training_flops(96, tokens.flatten().numpy()) + embedded

"""On a CUDA device: kernels equal the reference, models and measures are a CPU's, and a run trains and goes on."""

import numpy as np
import pytest
import torch
from small_run import config_for, period_corpus, resumed_after, steps_done
from test_attention import PAIRS, equal_with_gradients

from alibi.attention import causal_attention
from alibi.corpora.corpus import Split
from alibi.evaluate import against_itself, evaluate
from alibi.interruption import Pool
from alibi.measures.attention_distance import attention_distance
from alibi.measures.receptive_field import receptive_field
from alibi.measures.repeats import repeats
from alibi.measures.truncation import FORMS, truncation
from alibi.model import Decoder, KeyValueCache, ModelConfig
from alibi.positions import METHODS, LinearBias, slopes
from alibi.speed.benchmark import bench
from alibi.speed.memory import _training_memory
from alibi.speed.shapes import SHAPES, Contender
from alibi.train import Training, train
from alibi.weights import load_model

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: nothing here was checked", allow_module_level=True)


@pytest.fixture(autouse=True)
def translations_of_its_own():
    """After a few translations of one function torch gives up and runs it as it is, which would check nothing."""
    torch.compiler.reset()


@pytest.mark.parametrize(("kernel", "name"), [pair for pair in PAIRS if pair[0] != "reference"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize(("length", "head_width"), [(1, 16), (33, 32), (130, 64), (200, 128)])
def test_kernels_equal_the_reference_with_gradients(kernel, name, dtype, tolerance, length, head_width):
    equal_with_gradients(kernel, name, dtype, tolerance, length, head_width, "cuda")


@pytest.mark.parametrize("name", METHODS)
def test_a_model_computes_what_it_computes_on_a_cpu(name):
    torch.manual_seed(3)
    shape = {"vocabulary_size": 600, "layers": 2, "width": 64, "heads": 4, "feedforward": 128, "cutoffs": (100, 300)}
    model = Decoder(ModelConfig(name, **shape, longest=40), "reference").eval()
    tokens = torch.randint(600, (2, 41))
    expected = model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:])
    model, tokens = model.cuda(), tokens.cuda()
    found = model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
    cache = KeyValueCache()
    steps = torch.cat([model(tokens[:, start : start + 8], cache) for start in range(0, 40, 8)], dim=1)
    torch.testing.assert_close(steps, model(tokens[:, :-1]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", ["flex", "window", "sdpa"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("length", [1, 200, 512, 1100])
def test_a_decay_window_is_the_masked_reference_with_gradients(kernel, dtype, tolerance, length):
    torch.manual_seed(2)
    bias = LinearBias(torch.tensor(slopes(8), dtype=torch.float64, device="cuda"), 2.0)
    *inputs, weights = torch.randn(4, 2, 8, length, 64, device="cuda").to(dtype)
    inputs, at = [x.requires_grad_() for x in inputs], torch.arange(length, device="cuda")
    results = []
    for chosen in ("reference", kernel):
        out = causal_attention(bias, at, at, chosen)(*inputs)
        results.append([out, *torch.autograd.grad((out * weights).sum(), inputs)])
    for expected, found in zip(*results, strict=True):
        scale = max(1.0, expected.float().abs().max().item())
        torch.testing.assert_close(found.float() / scale, expected.float() / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_trains_goes_on_and_is_evaluated(method, tmp_path):
    corpus = period_corpus(3200)
    config = config_for(corpus, method, device="cuda", dtype="bfloat16", compiled=True)
    train(config, corpus, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.device.type == "cuda"
    length = 32 if method == "learned" else 64
    found = evaluate(model, corpus.split("valid"), corpus.end_of_line, length, prefix=512)
    on_cpu = evaluate(
        load_model(tmp_path / "run", "cpu"), corpus.split("valid"), corpus.end_of_line, length, prefix=512
    )
    assert found.nats == pytest.approx(on_cpu.nats, rel=1e-3)
    straight, resumed = steps_done(Training(config, corpus), 6), steps_done(resumed_after(config, corpus, 3), 3)
    for (name, expected), value in zip(
        straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-2, atol=1e-3, msg=name)


@pytest.mark.parametrize("method", ["alibi", "sinusoidal", "rotary", "t5", "none"])
def test_what_is_measured_of_a_model_is_what_a_cpu_measures(method):
    torch.manual_seed(3)
    model = Decoder(ModelConfig(method, 600, layers=2, width=64, heads=4, feedforward=128))
    tokens = np.random.default_rng(0).integers(600, size=700, dtype=np.uint16)
    split = Split("valid", tokens, words=600, bytes=3000, articles=1, sha256="")
    measured = []
    for device in ("cpu", "cuda"):
        model = model.to(device)
        cut = [truncation(model, split, 0, 64, [16, 64], last=8, form=form, windows=5).losses for form in FORMS]
        distance = attention_distance(model, split, 0, 64, last=8, windows=5)
        measured.append(
            [
                evaluate(model, split, 0, 64, 8, skip=128).nats_by_position,
                against_itself(model, split, 0, 16, 64, 4).nats,
                *cut,
                repeats(model, split, 0, [16, 64], last=8, windows=5).losses,
                distance.mean,
                distance.first,
                receptive_field(model, split, 0, 64, windows=5).shares,
            ]
        )
    for on_cpu, found in zip(*measured, strict=True):
        np.testing.assert_allclose(found, on_cpu, rtol=1e-3, atol=1e-3)


def test_the_benchmark_times_every_method_on_its_kernels():
    found = bench(("W2",), device="cuda", methods=("sinusoidal", "alibi", "rotary", "t5"), kernel="baddbmm")
    assert {row.name for row in found.steps if row.fastest} == {"sinusoidal", "alibi", "rotary", "t5"}
    refused = [why for row in found.steps for why in row.refused.values()]
    assert all(why.startswith("InputError") for why in refused), refused


def test_memory_does_not_depend_on_what_was_measured_before():
    """What torch allocates once in a process counts with no method, and the first one is freed before the second."""
    given = SHAPES["W1"], Contender("alibi"), "sdpa", "cuda", 1
    with Pool(1) as pool:
        first, second = (pool.submit(_training_memory, *given).result() for _ in range(2))
    assert first == second

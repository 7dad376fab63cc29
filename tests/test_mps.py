"""On the GPU of a Mac: it trains, evaluates, goes on and generates, and computes what a CPU computes."""

import pytest
import torch
from small_run import config_for, period_corpus, resumed_after, steps_done

from alibi.attention import causal_attention
from alibi.configuration import configure
from alibi.device import absence, device_name, matmul_rate, peak_memory, placed
from alibi.evaluate import evaluate
from alibi.model import Decoder, ModelConfig
from alibi.positions import METHODS, LinearBias, slopes
from alibi.run_spec import RunSpec
from alibi.train import Training, train
from alibi.weights import load_model

if lacking := absence("mps"):
    pytest.skip(f"{lacking}: nothing here was checked", allow_module_level=True)


@pytest.mark.parametrize("cutoffs", [(), (100, 300)])
@pytest.mark.parametrize("name", METHODS)
def test_a_model_computes_what_it_computes_on_a_cpu(name, cutoffs):
    torch.manual_seed(3)
    shape = {"vocabulary_size": 600, "layers": 2, "width": 64, "heads": 4, "feedforward": 128, "cutoffs": cutoffs}
    model = Decoder(ModelConfig(name, **shape, longest=40), "reference").eval()
    tokens = torch.randint(600, (2, 41))
    expected = model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:])
    expected.sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    model, tokens = placed(model, "mps"), tokens.to("mps")
    found = model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
    found.sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad.cpu(), gradients[name], rtol=1e-2, atol=1e-2)
    generated = model.generate(tokens[0, :5], 5, 0.8, torch.Generator("mps").manual_seed(1))
    assert len(generated) == 10


@pytest.mark.parametrize("kernel", ["sdpa", "columns", "baddbmm", "window"])
def test_kernels_equal_the_reference_with_gradients(kernel):
    torch.manual_seed(2)
    window = 2.0 if kernel == "window" else None
    bias = LinearBias(torch.tensor(slopes(8), device="mps"), window)
    *inputs, weights = torch.randn(4, 2, 8, 200, 64, device="mps")
    inputs, at = [x.requires_grad_() for x in inputs], torch.arange(200, device="mps")
    results = []
    for chosen in ("reference", kernel):
        out = causal_attention(bias, at, at, chosen)(*inputs)
        results.append([out, *torch.autograd.grad((out * weights).sum(), inputs)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["alibi", "sinusoidal", "rotary", "t5"])
def test_a_run_trains_goes_on_and_is_evaluated(method, tmp_path):
    corpus = period_corpus(3200)
    config = config_for(corpus, method, device="mps", dtype="float32", compiled=False)
    train(config, corpus, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.device.type == "mps"
    found = evaluate(model, corpus.split("valid"), corpus.end_of_line, 64, prefix=512)
    on_cpu = evaluate(load_model(tmp_path / "run", "cpu"), corpus.split("valid"), corpus.end_of_line, 64, prefix=512)
    assert found.nats_by_position.dtype == "float64" and found.nats == pytest.approx(on_cpu.nats, rel=1e-3)
    straight, resumed = steps_done(Training(config, corpus), 6), steps_done(resumed_after(config, corpus, 3), 3)
    for (name, expected), value in zip(
        straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_what_the_device_is_asked_for():
    assert device_name("mps").endswith(" (MPS)") and matmul_rate("mps", "float32") > 0 and peak_memory("mps") > 0
    chosen = configure(RunSpec(method="alibi", scale="laptop", device="mps"), period_corpus(3200))
    assert (chosen.device, chosen.dtype, chosen.compiled) == ("mps", "float32", False)

"""On a CUDA device: every kernel equals the reference, with gradients, and a model is what it is on a CPU."""

import pytest
import torch
from test_attention import PAIRS, equal_with_gradients

from alibi.attention import causal_attention
from alibi.model import Decoder, KeyValueCache, ModelConfig
from alibi.positions import METHODS, LinearBias, slopes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: nothing here was checked")


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

"""On a CUDA device: every kernel equals the reference, with gradients, and a model is what it is on a CPU."""

import pytest
import torch
from test_attention import PAIRS, equal_with_gradients

from alibi.model import Decoder, KeyValueCache, ModelConfig
from alibi.positions import METHODS

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: nothing here was checked", allow_module_level=True)


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

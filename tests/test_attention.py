"""Every kernel gives what the definition gives: outputs and gradients, any offset, odd lengths, one token."""

import math

import pytest
import torch

from alibi.attention import KERNELS, causal_attention, choose_kernel
from alibi.positions import METHODS, position_method


def by_loops(q, k, v, bias, offset):
    """Softmax attention written out key by key, in float64."""
    out = torch.zeros_like(q)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        scores = torch.stack(
            [q[b, h, i] @ k[b, h, j] / math.sqrt(q.shape[-1]) + bias[h, i, j] for j in range(offset + i + 1)]
        )
        out[b, h, i] = (scores.softmax(0)[:, None] * v[b, h, : offset + i + 1]).sum(0)
    return out


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 7), (3, 9), (1, 1)])
def test_kernels_equal_the_loops(kernel, name, queries, keys):
    torch.manual_seed(0)
    bias = position_method(name, 32, 4).bias()
    q, k, v = (torch.randn(2, 4, n, 8) for n in (queries, keys, keys))
    positions, offset = torch.arange(keys), keys - queries
    dense = bias.dense(positions[offset:], positions)
    dense = torch.zeros(4, queries, keys) if dense is None else dense.detach()
    expected = by_loops(q.double(), k.double(), v.double(), dense.double(), offset)
    found = causal_attention(bias, positions[offset:], positions, kernel)(q, k, v)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k != "reference"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize(("length", "head_width"), [(1, 16), (33, 32), (130, 64), (65, 128)])
def test_kernels_equal_the_reference_with_gradients(kernel, name, dtype, tolerance, length, head_width):
    torch.manual_seed(1)
    method = position_method(name, 2 * head_width, 2)
    inputs = [torch.randn(3, 2, length, head_width).to(dtype).requires_grad_() for _ in range(3)]
    weights = torch.randn(3, 2, length, head_width)
    results = []
    for chosen in ("reference", kernel):
        method.zero_grad()
        for x in inputs:
            x.grad = None
        out = causal_attention(method.bias(), torch.arange(length), torch.arange(length), chosen)(*inputs)
        (out.float() * weights).sum().backward()
        results.append([out, *(x.grad for x in inputs), *(p.grad for p in method.parameters())])
    for expected, found in zip(*results, strict=True):
        scale = max(1.0, expected.float().abs().max().item())
        torch.testing.assert_close(found.float() / scale, expected.float() / scale, rtol=0, atol=tolerance)


def test_kernel_is_chosen_by_device_and_length_and_unknown_ones_are_refused():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_kernel(cpu, 128, True) == choose_kernel(cpu, 512, True) == choose_kernel(cpu, 128, False) == "baddbmm"
    assert choose_kernel(cpu, 2048, True) == choose_kernel(cpu, 512, False) == choose_kernel(cuda, 128, True) == "sdpa"
    with pytest.raises(ValueError, match="'flash'; known are automatic, reference, baddbmm, sdpa"):
        causal_attention(position_method("alibi", 32, 4).bias(), torch.arange(3), torch.arange(3), "flash")

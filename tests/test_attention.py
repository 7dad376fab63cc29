"""Every kernel gives what the definition gives: outputs and gradients, any offset, odd lengths, one token."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import pytest
import torch
from conftest import Sizes
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from alibi import attention
from alibi.attention import KERNELS, causal_attention, choose_kernel
from alibi.model import Decoder, ModelConfig
from alibi.official.rounding import DEVIATIONS, DRAWS, relative_error
from alibi.positions import METHODS, Bias, LinearBias, MultipliedBias, NoBias, position_method, slopes
from alibi.positions.base import DistanceBias


def by_loops(q, k, v, factor, bias, offset):
    """Softmax attention written out key by key, in float64."""
    out = torch.zeros_like(q)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        scores = torch.stack(
            [
                q[b, h, i] @ k[b, h, j] / math.sqrt(q.shape[-1]) * factor[h, i, j] + bias[h, i, j]
                for j in range(offset + i + 1)
            ]
        )
        out[b, h, i] = (scores.softmax(0)[:, None] * v[b, h, : offset + i + 1]).sum(0)
    return out


def method_named(name, width, heads):
    # Shorter than some passes, so that a window hides keys, and as long as the longest for a table.
    return position_method(name, width, heads, longest=200 if name == "learned" else 6)


def can(kernel, name):
    """Whether this kernel serves the bias of this method: key columns hold a linear one or none, and two multiply."""
    bias = method_named(name, 32, 4).bias()
    if isinstance(bias, MultipliedBias):
        return kernel in ("reference", "flex")
    hides = isinstance(bias, LinearBias) and bias.hides
    if kernel == "window":
        return hides
    return kernel != "columns" or (isinstance(bias, LinearBias | NoBias) and not hides)


def factor_and_bias(bias, queries, keys):
    """What scores are multiplied by and what is added to them: [heads, T, S], ones and zeros where nothing is."""
    if isinstance(bias, MultipliedBias):
        factor = bias.factor(queries, keys)
        return factor, torch.zeros_like(factor)
    dense = bias.dense(queries, keys)
    dense = torch.zeros(4, len(queries), len(keys)) if dense is None else dense
    return torch.ones_like(dense), dense


def learned_in_bias(method):
    """The parameters of a method that its bias is made of."""
    factor, added = factor_and_bias(method.bias(), torch.arange(2), torch.arange(2))
    total = (factor + added).sum()
    parameters = list(method.parameters()) if total.requires_grad else []
    gradients = torch.autograd.grad(total, parameters, allow_unused=True) if parameters else []
    return [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]


def kind(name):
    """What a kernel sees of a method: the class of its bias, by which it also hides keys, and whether that learns."""
    method = method_named(name, 32, 4)
    return type(method.bias()), bool(learned_in_bias(method))


# The first method of each kind. With a decay window, a linear bias is another kind: see tests/test_decay_window.py.
KINDS = {kind(name): name for name in reversed(METHODS)}.values()
PAIRS = [(kernel, name) for kernel in KERNELS for name in KINDS if can(kernel, name)]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("kernel", "name"), PAIRS)
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 7), (3, 9), (1, 1)])
def test_kernels_equal_the_loops(kernel, name, queries, keys):
    torch.manual_seed(0)
    bias = method_named(name, 32, 4).requires_grad_(False).bias()
    q, k, v = (torch.randn(2, 4, n, 8) for n in (queries, keys, keys))
    positions, offset = torch.arange(keys), keys - queries
    factor, added = factor_and_bias(bias, positions[offset:], positions)
    expected = by_loops(*(x.double() for x in (q, k, v, factor, added)), offset)
    found = causal_attention(bias, positions[offset:], positions, kernel)(q, k, v)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("kernel", "name"), [pair for pair in PAIRS if pair[0] != "flex"])
def test_what_is_prepared_for_a_pass_serves_every_layer_and_batch_of_it(kernel, name):
    torch.manual_seed(3)
    at, bias = torch.arange(9), method_named(name, 32, 4).bias()
    prepared = causal_attention(bias, at, at, kernel)
    for batch in (1, 2, 1):
        q, k, v = torch.randn(3, batch, 4, 9, 8)
        again = causal_attention(bias, at, at, kernel)(q, k, v)
        assert torch.equal(prepared(q, k, v), again)


def bounds_of_learned(method, inputs, weights, dtype):
    r"""The largest difference that rounding explains between two kernels, of the gradient of each learned number.

    It is the sum $\sum_p dS_p \, \partial b_p / \partial\theta$ over all pairs p of query and key in all windows and
    heads, with $S = q k^T / \sqrt{D} + b$, $P$ its softmax, $O = P v$, $dP = dO \, v^T$ and $dS = P (dP - O \cdot dO)$.
    A sum of n products that is kept in float32, the last one too, has an error as if one factor of each product were
    off by sqrt(n) 2^-24 (see `alibi.official.rounding`; Higham and Mary 2019); each result is rounded once more, to the
    dtype's unit. So these factors and results are moved by so much, with random signs, and the root mean square of the
    changes is the standard deviation of the gradient. It can exceed any share of the gradient, since the terms cancel
    and their errors don't. CUDA may round the factors of float32 to TF32, by 2^-11.
    """
    unit = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}[dtype]
    coarsest = 2.0**-11 if weights.is_cuda else 0.0
    method = copy.deepcopy(method).cpu().double()
    learned, generator = learned_in_bias(method), torch.Generator().manual_seed(0)
    q, k, v, d_out = (x.detach().cpu().double() for x in (*inputs, weights))
    at = torch.arange(q.shape[2])
    future, pairs = at[:, None] < at, q.shape[0] * q.shape[1] * len(at) * (len(at) + 1) // 2

    def gradients(share):
        def moved(x, error):
            return x * (1 + share * error * (2 * torch.randint(0, 2, x.shape, generator=generator) - 1))

        def factor(x, summands):
            return moved(x, max(relative_error(summands, torch.float32), coarsest))

        def product(a, b):
            return moved(factor(a, a.shape[-1]) @ b, unit)

        bias = method.bias().dense(at, at, torch.float64)
        scores = product(q, k.mT) / math.sqrt(q.shape[-1]) + moved(bias.detach(), unit)
        weighed = moved(scores.masked_fill(future, -math.inf).softmax(-1), unit)
        own = (factor(product(weighed, v), q.shape[-1]) * d_out).sum(-1, keepdim=True)
        d_scores = moved(weighed * (product(d_out, v.mT) - own), unit)
        return torch.autograd.grad(bias, learned, factor(d_scores, pairs).sum(0))

    if not learned:
        return []
    exact, draws = gradients(0), [gradients(1) for _ in range(DRAWS)]
    return [
        DEVIATIONS * torch.stack([one - expected for one in ones]).square().mean().sqrt().item()
        for expected, *ones in zip(exact, *draws, strict=True)
    ]


def equal_with_gradients(kernel, name, dtype, tolerance, length, head_width, device="cpu"):
    """The kernel's output, and its gradients for queries, keys, values and learned numbers, are the reference's."""
    torch.manual_seed(1)
    method = method_named(name, 2 * head_width, 2).to(device)
    inputs = [torch.randn(3, 2, length, head_width, device=device).to(dtype).requires_grad_() for _ in range(3)]
    weights, at = torch.randn(3, 2, length, head_width, device=device), torch.arange(length, device=device)
    results = []
    for chosen in ("reference", kernel):
        method.zero_grad()
        for x in inputs:
            x.grad = None
        out = causal_attention(method.bias(), at, at, chosen)(*inputs)
        (out.float() * weights).sum().backward()
        results.append([out, *(x.grad for x in inputs), *(p.grad for p in method.parameters() if p.grad is not None)])
    of_learned = bounds_of_learned(method, inputs, weights, dtype)
    assert len(results[0]) == len(results[1]) == 4 + len(of_learned)
    allowed = [tolerance * max(1.0, expected.float().abs().max().item()) for expected in results[0]]
    # Any order of summing is within the bound of rounding; a kernel's own order is no farther off than this.
    bounds = allowed[:4] + [min(rounding, 2 * most) for rounding, most in zip(of_learned, allowed[4:], strict=True)]
    for expected, found, bound in zip(*results, bounds, strict=True):
        torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=bound)


@pytest.mark.parametrize(("kernel", "name"), [pair for pair in PAIRS if pair[0] not in ("reference", "flex")])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize(("length", "head_width"), [(1, 16), (33, 32), (130, 64), (65, 128)])
def test_kernels_equal_the_reference_with_gradients(kernel, name, dtype, tolerance, length, head_width):
    equal_with_gradients(kernel, name, dtype, tolerance, length, head_width)


# What a kernel may do wrong with the gradient of its bias [heads, T, S] alone: all its other results are right.
FAULTS = {
    "the first key is left out": lambda d_HTS: d_HTS.index_fill(-1, torch.tensor([0]), 0),
    "the last query is left out": lambda d_HTS: d_HTS.index_fill(-2, torch.tensor([d_HTS.shape[-2] - 1]), 0),
    "the key before the query is left out": lambda d_HTS: d_HTS - d_HTS.diagonal(-1, -2, -1).diag_embed(-1),
    "heads share one": lambda d_HTS: d_HTS.mean(0, keepdim=True).expand_as(d_HTS),
    "larger by a thousandth": lambda d_HTS: 1.001 * d_HTS,
    "rounded to 16 bits": lambda d_HTS: d_HTS.bfloat16().float(),
}


@dataclass(frozen=True)
class FaultyBias:
    """Another bias, whose gradient goes through a fault."""

    bias: Bias
    fault: Callable[[Tensor], Tensor]

    def dense(self, *given):
        bias_HTS = self.bias.dense(*given)
        bias_HTS.register_hook(self.fault)
        return bias_HTS


@pytest.mark.parametrize("name", [name for name in KINDS if learned_in_bias(method_named(name, 32, 4))])
@pytest.mark.parametrize("fault", FAULTS)
def test_rounding_explains_no_fault_of_a_learned_gradient(fault, name, monkeypatch):
    def faulty(bias, *given):
        return attention.sdpa(FaultyBias(bias, FAULTS[fault]), *given)

    monkeypatch.setitem(KERNELS, "faulty", faulty)
    with pytest.raises(AssertionError, match="are not close"):
        equal_with_gradients("faulty", name, torch.float32, 1e-5, 33, 32)


@pytest.mark.parametrize(("kernel", "name"), [pair for pair in PAIRS if pair[0] in attention.DENSE])
@pytest.mark.parametrize("queries", [70, 97])
def test_a_long_pass_is_taken_in_blocks_to_the_same_results(kernel, name, queries, monkeypatch):
    at, bias = torch.arange(97), method_named(name, 32, 4).bias()
    inputs = [torch.randn(2, 4, n, 8, requires_grad=True) for n in (queries, 97, 97)]
    learned = [table for table in vars(bias).values() if isinstance(table, Tensor) and table.requires_grad]

    def outputs_and_gradients():
        out = causal_attention(bias, at[97 - queries :], at, kernel)(*inputs)
        return [out, *torch.autograd.grad(out.square().sum(), [*inputs, *learned])]

    whole = outputs_and_gradients()
    for name in ("PAIRS_AT_ONCE", "PAIRS_AT_ONCE_IN_TRAINING"):
        monkeypatch.setattr(attention, name, 64)
    monkeypatch.setattr(attention, "SCORES_A_BLOCK", 2 * 4 * 10 * 97)
    for found, expected in zip(outputs_and_gradients(), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "name"), [pair for pair in PAIRS if pair[0] in attention.DENSE])
def test_memory_of_a_long_pass_grows_with_the_keys_alone(kernel, name, monkeypatch):
    monkeypatch.setattr(attention, "PAIRS_AT_ONCE", 4096)
    monkeypatch.setattr(attention, "SCORES_A_BLOCK", 4 * 4096)
    bias = method_named(name, 32, 4).requires_grad_(False).bias()
    for length in (256, 512):
        with Sizes() as sizes, torch.no_grad():
            causal_attention(bias, torch.arange(length), torch.arange(length), kernel)(*torch.randn(3, 1, 4, length, 8))
        # A bias, or scores, of four heads for the pairs of a block (FIRE: 32 hidden units); or the inputs, of 3 x 4 x 8
        # numbers a token.
        pairs = (32 if name == "fire" else 4) * 4096
        assert sizes.largest <= max(pairs, 96 * length), sizes.largest


def test_a_block_of_several_sequences_has_no_more_scores_than_that_of_one(monkeypatch):
    monkeypatch.setattr(attention, "PAIRS_AT_ONCE", 4096)
    monkeypatch.setattr(attention, "SCORES_A_BLOCK", 4 * 4096)
    at, inputs = torch.arange(256), torch.randn(3, 8, 4, 256, 2)
    with Sizes() as sizes, torch.no_grad():
        causal_attention(method_named("alibi", 32, 4).bias(), at, at, "baddbmm")(*inputs)
    assert sizes.largest <= 4 * 4096


def test_a_long_pass_in_training_keeps_no_block_for_the_gradient(monkeypatch):
    monkeypatch.setattr(attention, "PAIRS_AT_ONCE_IN_TRAINING", 4096)
    monkeypatch.setattr(attention, "SCORES_A_BLOCK", 4 * 4096)
    at, kept = torch.arange(256), []
    q, k, v = torch.randn(3, 1, 4, 256, 8, requires_grad=True).unbind()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        causal_attention(method_named("alibi", 32, 4).bias(), at, at, "baddbmm")(q, k, v)
    assert max(kept) <= 4 * 256 * 8


def test_a_block_sees_no_later_key(monkeypatch):
    monkeypatch.setattr(attention, "PAIRS_AT_ONCE", 64)
    monkeypatch.setattr(attention, "SCORES_A_BLOCK", 4 * 10 * 97)
    at, widths = torch.arange(97), []

    def kernel(bias, queries, keys, *given):
        widths.append((int(queries[-1]), len(keys)))
        return attention.baddbmm(bias, queries, keys, *given)

    monkeypatch.setitem(KERNELS, "baddbmm", kernel)
    with torch.no_grad():
        causal_attention(NoBias(), at, at, "baddbmm")(*torch.randn(3, 1, 4, 97, 8))
    assert len(widths) == 10 and all(seen == last + 1 for last, seen in widths)


@pytest.mark.parametrize("kernel", KERNELS)
def test_shapes_that_do_not_fit_are_refused(kernel):
    at, (q, k, v) = torch.arange(6), torch.randn(3, 1, 4, 6, 16)
    bias = LinearBias(torch.rand(4)).within(9.0) if kernel == "window" else NoBias()
    attend = causal_attention(bias, at, at, kernel)
    wider, shorter, fewer = torch.randn(1, 4, 6, 24), k[:, :, :5], k[:, :2]
    for wrong in (
        (q, k, wider),
        (q, wider, v),
        (wider, k, v),
        (q, shorter, shorter),
        (q, fewer, fewer),
        (shorter, k, v),
    ):
        with pytest.raises(ValueError, match=r"this pass needs \[B, H, 6, D\] and twice \[B, H, 6, D\]"):
            attend(*wrong)


def test_a_bias_of_other_heads_is_refused():
    at = torch.arange(6)
    for kernel in ("reference", "baddbmm", "sdpa"):
        attend = causal_attention(LinearBias(torch.tensor([0.5, 0.25])), at, at, kernel)
        for heads in (4, 1):
            with pytest.raises(ValueError, match=f"a bias of 2 heads for queries of {heads}"):
                attend(*torch.randn(3, 1, heads, 6, 16))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_refuses_any_gradient_on_a_cpu():
    at = torch.arange(6)
    attend = causal_attention(NoBias(), at, at, "flex")
    for learns in range(3):
        given = [x.requires_grad_(number == learns) for number, x in enumerate(torch.randn(3, 1, 4, 6, 16))]
        with pytest.raises(ValueError, match="kernel flex has no backward pass on a CPU: choose automatic"):
            attend(*given)


def test_cached_keys_of_a_long_text_make_no_mask_of_all_pairs(monkeypatch):
    monkeypatch.setattr(attention, "SCORES_A_BLOCK", 2**20)
    bias, at = LinearBias(torch.rand(1)), torch.arange(5000)
    assert (
        choose_kernel("cpu", 5000, False, bias) == "columns" and choose_kernel("cuda", 5000, False, bias) == "columns"
    )
    with Sizes() as sizes, torch.no_grad():
        causal_attention(bias, at[2000:], at)(torch.randn(1, 1, 3000, 4), *torch.randn(2, 1, 1, 5000, 4))
    assert sizes.largest <= 2**20 < 3000 * 5000


@pytest.mark.parametrize("name", KINDS)
def test_score_mod_is_the_dense_bias_with_its_gradient(name):
    # FlexAttention maps this function over the scores; on a CPU it has no backward pass of its own to test.
    method, positions = method_named(name, 32, 4), torch.arange(150)
    queries = positions[40:]
    at = [torch.arange(n) for n in (4, len(queries), len(positions))]
    future_TS = queries[:, None] < positions
    scores_HTS, weights_HTS = torch.randn(2, 4, 110, 150)
    score_mod = method.bias().score_mod(queries, positions)
    assert (score_mod is None) == isinstance(method.bias(), NoBias)
    if score_mod is None:
        return
    # A bias of its own: what a method computes its numbers with goes backward once.
    factor, added = factor_and_bias(method.bias(), queries, positions)
    results = []
    for biased in (
        score_mod(scores_HTS, torch.tensor(0), at[0][:, None, None], at[1][:, None], at[2]),
        scores_HTS * factor + added,
    ):
        method.zero_grad()
        if learned_in_bias(method):
            (biased.masked_fill(future_TS, 0) * weights_HTS).sum().backward()
        results.append([biased.masked_fill(future_TS, 0), *(p.grad for p in method.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["reference", "baddbmm", "sdpa", "columns"])
def test_attention_dropout_keeps_the_mean_and_drops_its_share(kernel):
    torch.manual_seed(2)
    bias, at = position_method("alibi", 64, 4).bias(), torch.arange(16)
    q, k, v = torch.randn(1, 4, 16, 16), torch.randn(1, 4, 16, 16), torch.eye(16).expand(1, 4, 16, 16)
    exact = causal_attention(bias, at, at, kernel)(q, k, v)
    dropped = causal_attention(bias, at, at, kernel, dropout=0.25)(*(x.expand(4000, -1, -1, -1) for x in (q, k, v)))
    torch.testing.assert_close(dropped.mean(0, keepdim=True), exact, rtol=0, atol=0.05)
    seen = exact.expand_as(dropped) > 1e-3
    assert (dropped[seen] == 0).float().mean() == pytest.approx(0.25, abs=0.01)


KEYS, LAST = (512, 3072, 16384), 64


@lru_cache(maxsize=1)
def inputs_and_exact(heads, keys, dtype):
    """Queries, keys and values in this dtype, and outputs for the last queries in float64 from the definition."""
    torch.manual_seed(4)
    bias, at = position_method("alibi", 64 * heads, heads).bias(), torch.arange(keys)
    q, k, v = (torch.randn(1, heads, n, 64).to(dtype) for n in (LAST, keys, keys))
    exact = causal_attention(bias, at[-LAST:], at, "reference", dtype=torch.float64)(q.double(), k.double(), v.double())
    return (q, k, v), exact


def error_and_largest(heads, keys, kernel, dtype):
    """How far a kernel's outputs in this dtype lie from the exact ones at most; the largest value."""
    inputs, exact = inputs_and_exact(heads, keys, dtype)
    bias, at = position_method("alibi", 64 * heads, heads).bias(), torch.arange(keys)
    found = causal_attention(bias, at[-LAST:], at, kernel)(*inputs)
    return (found.double() - exact).abs().max(), inputs[2].abs().max().item()


# Kernels take turns at the same inputs, whose exact outputs are kept for the next one.
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kernel", [name for name in KERNELS if can(name, "alibi")])
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("heads", [8, 12])
def test_16_bits_err_by_their_rounding_at_any_length(kernel, heads, keys):
    error, largest = error_and_largest(heads, keys, kernel, torch.bfloat16)
    assert error < 2**-8 * largest


@pytest.mark.parametrize("kernel", ["reference", "baddbmm", "sdpa", "columns"])
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("heads", [8, 12])
def test_float32_errs_by_its_rounding_at_any_length(kernel, heads, keys):
    error, largest = error_and_largest(heads, keys, kernel, torch.float32)
    steepest = max(slopes(heads))
    bound = 8 * steepest * keys * 2**-24 if kernel == "columns" else 1e-5
    assert error < bound * largest


@pytest.mark.parametrize("name", ["alibi", "alibi-multiplied"])
def test_autocast_leaves_the_reference_its_dtype(name):
    """With gates its scores hold running sums over the window, which 16 bits would round to whole nats."""
    bias, at = position_method(name, 64, 8).bias(), torch.arange(96)
    q, k, v = torch.randn(3, 1, 8, 96, 8, generator=torch.Generator().manual_seed(0))
    attend = causal_attention(bias, at, at, "reference")
    expected = attend(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attend(q, k, v), expected)


def total_variation(found_HS, slopes_H):
    """Half the sum of differences between the attention weights of these biases and the exact ones, worst head."""
    exact_HS = -slopes_H[:, None] * torch.arange(found_HS.shape[1] - 1, -1, -1)
    return (found_HS.double().softmax(-1) - exact_HS.softmax(-1)).abs().sum(-1).max().item() / 2


@pytest.mark.parametrize(("keys", "absolute"), [(512, 0.15), (3072, 0.4), (16384, 0.75)])
@pytest.mark.parametrize("heads", [8, 12])
def test_the_relative_bias_survives_16_bits_and_the_absolute_one_does_not(heads, keys, absolute):
    bias, at = position_method("alibi", 64 * heads, heads).bias(), torch.arange(keys)
    slopes_H = torch.tensor(slopes(heads), dtype=torch.float64)
    assert total_variation(bias.dense(at[-1:], at)[:, 0].bfloat16(), slopes_H) < 2**-10
    queries_HE, keys_SE = bias.key_columns(at, torch.bfloat16)
    assert total_variation(queries_HE.float() @ keys_SE.float().T, slopes_H) < 2**-10
    assert total_variation((slopes_H[:, None] * at).bfloat16(), slopes_H) > absolute


def test_key_columns_are_exact_where_the_slopes_are_and_refuse_what_is_not():
    bias = position_method("alibi", 64, 8).bias()
    at = 5000 + torch.arange(2**16)
    queries_HE, keys_SE = bias.key_columns(at, torch.bfloat16)
    assert queries_HE.shape[1] == keys_SE.shape[1] and queries_HE.shape[1] % 8 == 0
    expected = torch.tensor(slopes(8), dtype=torch.float64)[:, None] * torch.arange(2**16)
    assert torch.equal(queries_HE.double() @ keys_SE.double().T, expected)
    with pytest.raises(ValueError, match=r"65537 keys: columns in torch.bfloat16 are exact up to 65536"):
        bias.key_columns(torch.arange(2**16 + 1), torch.bfloat16)
    with pytest.raises(ValueError, match="TableBias can't be written as columns"):
        causal_attention(position_method("t5", 32, 4).bias(), at[:3], at[:3], "columns")(*torch.randn(3, 1, 4, 3, 8))


@pytest.mark.parametrize(("dtype", "coarsest"), [(torch.float16, 2**-25), (torch.bfloat16, 0), (torch.float32, 0)])
@pytest.mark.parametrize("heads", [12, 71])
def test_key_columns_are_as_exact_as_they_say(heads, dtype, coarsest):
    slopes_H, at = torch.tensor(slopes(heads), dtype=torch.float64), torch.arange(2**14)
    queries_HE, keys_SE = LinearBias(slopes_H).key_columns(at, dtype)
    error_HS = queries_HE.float() @ keys_SE.float().T - slopes_H[:, None] * at
    assert (error_HS.abs().amax(1) <= 2**14 * (3 * slopes_H * 2**-24 + coarsest)).all()


def test_kernel_is_chosen_by_device_length_and_bias_and_unknown_ones_are_refused():
    linear, none = (position_method(name, 32, 4).bias() for name in ("alibi", "none"))
    chosen = {
        keys: [choose_kernel("cpu", keys, training, bias) for training in (True, False) for bias in (linear, none)]
        for keys in (128, 512, 1024, 2048, 70_000)
    }
    assert chosen[128] == ["baddbmm"] * 4
    assert chosen[512] == ["baddbmm", "baddbmm", "sdpa", "sdpa"]
    assert chosen[1024] == ["baddbmm", "baddbmm", "columns", "sdpa"]
    assert chosen[2048] == ["columns", "sdpa"] * 2
    assert chosen[70_000] == ["sdpa"] * 4
    assert choose_kernel("cuda", 128, True, linear) == "sdpa"
    assert {choose_kernel("cuda", 3072, training, linear) for training in (True, False)} == {"columns"}
    assert choose_kernel("cuda", 3072, True, none) == "sdpa"
    assert choose_kernel("cpu", 2048, True, linear, "flex") == "flex"
    multiplied = position_method("alibi-multiplied", 32, 4).bias()
    assert {choose_kernel("cpu", keys, training, multiplied) for keys in chosen for training in (True, False)} == {
        "reference"
    }
    assert choose_kernel("cuda", 128, True, multiplied) == "flex"
    assert choose_kernel("cuda", 128, True, multiplied, dropout=0.1) == "reference"  # flex has none.
    with pytest.raises(ValueError, match="'flash'; choose from automatic, reference, baddbmm, sdpa, columns, flex"):
        causal_attention(linear, torch.arange(3), torch.arange(3), "flash")


def test_flex_refuses_what_it_can_not_do():
    bias, at = position_method("alibi", 32, 4).bias(), torch.arange(3)
    with pytest.raises(ValueError, match="flex has no attention dropout"):
        causal_attention(bias, at, at, "flex", dropout=0.1)
    with pytest.raises(ValueError, match="flex has no backward pass on a CPU"):
        causal_attention(bias, at, at, "flex")(*torch.randn(3, 1, 4, 3, 8).requires_grad_())


FORWARD, BACK = {"BLOCK_N": 64}, {"BLOCK_N1": 64, "BLOCK_M2": 64}


def how_flex_reads(name):
    """The form in which flex reads this method's bias: by distance, dense, or computed from a slope."""
    bias = method_named(name, 32, 2).bias()
    if isinstance(bias, DistanceBias):
        return "by distance"
    return "dense" if type(bias).score_mod is Bias.score_mod and not isinstance(bias, NoBias) else "computed"


@pytest.mark.parametrize(
    ("head_width", "dtype", "expected"),
    [
        (64, torch.bfloat16, {"by distance": FORWARD, "dense": FORWARD}),
        (128, torch.bfloat16, {"dense": BACK}),
        (64, torch.float32, {}),
        (128, torch.float32, {}),
        (256, torch.bfloat16, {}),
    ],
)
def test_flex_takes_smaller_blocks_where_a_bias_read_for_each_score_would_not_fit(
    head_width, dtype, expected, monkeypatch
):
    # Without a GPU it is only seen what the kernel is asked for; tests/test_gpu.py makes it.
    asked = []
    monkeypatch.setattr(attention, "_flex_attention", lambda on_gpu: lambda q, k, v, **given: asked.append(given) or q)
    at, inputs = torch.arange(3), torch.randn(3, 1, 2, 3, head_width).to(dtype)
    for name in METHODS:
        causal_attention(method_named(name, 2 * head_width, 2).bias(), at, at, "flex")(*inputs)
    options = {name: given["kernel_options"] for name, given in zip(METHODS, asked, strict=True)}
    assert options == {name: expected.get(how_flex_reads(name)) for name in METHODS}
    assert [how_flex_reads(name) for name in ("fire", "t5", "alibi")] == ["dense", "by distance", "computed"]


def small_model(name, kernel):
    shape = {"vocabulary_size": 60, "layers": 2, "width": 64, "heads": 4, "feedforward": 128, "longest": 40}
    return Decoder(ModelConfig(name, **shape), kernel)


# Kernel window is for CPUs, where nothing waits.
@pytest.mark.parametrize(
    ("kernel", "name"),
    [pair for pair in product(KERNELS, METHODS) if can(*pair) and pair[0] not in ("flex", "window")],
)
def test_a_step_makes_no_gpu_wait_and_makes_its_tensors_where_the_model_is(kernel, name):
    # Tensors of this device have no data: a number that is copied to the host is an error, and a tensor of the CPU is.
    model, tokens = small_model(name, kernel).to("meta").train(), torch.zeros(2, 40, dtype=torch.long, device="meta")
    model.negative_log_likelihood(tokens, tokens).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", ["none", "t5", "alibi", "alibi-multiplied", "window"])
def test_flex_attention_makes_no_gpu_wait(name):
    # It does not know the meta device. Fake tensors of a CPU have no data either, and no backward pass there.
    with FakeTensorMode(), torch.no_grad():
        model, tokens = small_model(name, "flex").eval(), torch.zeros(2, 40, dtype=torch.long)
        assert model.negative_log_likelihood(tokens, tokens).shape == (2, 40)

"""Methods of other papers: their formulas written out, x-transformers where it has them, and special cases."""

import math
import warnings
from dataclasses import replace

import pytest
import torch

from alibi.attention import KERNELS, causal_attention, choose_kernel, gated
from alibi.model import Decoder, KeyValueCache, ModelConfig
from alibi.optim import WEIGHT_DECAY, adamw
from alibi.positions import LATER_METHODS, VARIANTS, position_method, slopes
from alibi.positions.forgetting import ForgetGate
from alibi.positions.xpos import LONGEST_PASS, LONGEST_PASS_FLOAT16

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it uses torch.jit.script
    from x_transformers.x_transformers import DataDependentAlibi, RotaryEmbedding, apply_rotary_pos_emb

SHAPE = {"vocabulary_size": 50, "layers": 2, "width": 32, "heads": 4, "feedforward": 64, "longest": 64}
KERNELS_WITHOUT_FLEX = [name for name in KERNELS if name not in ("flex", "window")]


def in_loops(heads, queries, keys, value):
    """value(head, query, key) where the key is not after the query, else 0: [heads, T, S]."""
    out = torch.zeros(heads, len(queries), len(keys), dtype=torch.float64)
    for h in range(heads):
        for i, query in enumerate(queries.tolist()):
            for j, key in enumerate(keys.tolist()):
                if key <= query:
                    out[h, i, j] = value(h, query, key)
    return out


def formulas(name, method, heads):
    """The published formula of a bias, in Python's floats, from the method's own learned numbers."""
    if name == "window":
        return lambda h, i, j: 0.0 if i - j < 3 else -math.inf
    if name == "kerple":
        scales, rates = method.log_scales_H.exp().tolist(), method.log_rates_H.exp().tolist()
        return lambda h, i, j: -scales[h] * math.log(1 + rates[h] * (i - j))
    if name == "sandwich":

        def embedding(position):
            angles = [position / 10000 ** (2 * k / 128) for k in range(64)]
            return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]

        def product(i, j):
            return sum(a * b for a, b in zip(embedding(i), embedding(j), strict=True))

        return lambda h, i, j: (product(i, j) - 64) / (8 * (h + 1) / heads)
    w_1, b_1 = method.hidden.weight[:, 0].tolist(), method.hidden.bias.tolist()
    w_2 = method.output.weight.tolist()
    c, threshold = 0.1, 12 / 4

    def fire(h, i, j):
        x = math.log(c * (i - j) + 1) / (math.log(c * max(i, threshold) + 1) + 1e-6)
        return sum(w_2[h][u] * max(0.0, w_1[u] * x + b_1[u]) for u in range(32))

    return fire


@pytest.mark.parametrize("heads", [1, 3, 8])
@pytest.mark.parametrize("name", ["window", "kerple", "sandwich", "fire"])
def test_a_bias_is_the_published_formula(name, heads):
    torch.manual_seed(heads)
    method = position_method(name, 8 * heads, heads, longest=12).double()
    keys = torch.arange(30)
    queries = keys[3:]
    expected = in_loops(heads, queries, keys, formulas(name, method, heads))
    found = method.bias().dense(queries, keys, torch.float64).masked_fill(queries[:, None] < keys, 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=2e-8)


def test_fire_takes_the_size_of_its_numbers_whatever_their_sign():
    method, at = position_method("fire", 32, 4, longest=12), torch.arange(30)
    expected = method.bias().dense(at, at)
    with torch.no_grad():
        method.c.neg_()
        method.multiple.neg_()
    assert torch.equal(method.bias().dense(at, at), expected)


@pytest.mark.parametrize("name", ["kerple", "fire"])
def test_the_gradient_of_learned_numbers_is_the_one_of_finite_differences(name):
    torch.manual_seed(1)
    method, at = position_method(name, 32, 4, longest=40).double(), torch.arange(20)
    q, k, v, weights = torch.randn(4, 2, 4, 20, 8).double()

    def loss(*numbers):
        with torch.no_grad():
            for p, number in zip(method.parameters(), numbers, strict=True):
                p.copy_(number)
        return (causal_attention(method.bias(), at, at, "reference", dtype=torch.float64)(q, k, v) * weights).sum()

    begun = [p.detach().clone() for p in method.parameters()]
    loss(*begun).backward()
    for number, p in enumerate(method.parameters()):
        step = 1e-6
        for index in range(0, p.numel(), max(1, p.numel() // 5)):
            ends = []
            for sign in (-1, 1):
                moved = [x.clone() for x in begun]
                moved[number].view(-1)[index] += sign * step
                ends.append(loss(*moved).item())
            expected = (ends[1] - ends[0]) / (2 * step)
            assert p.grad.view(-1)[index].item() == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_kerple_stays_positive_and_below_alibis_penalty_far_away():
    torch.manual_seed(2)
    method, at = position_method("kerple", 64, 8), torch.arange(20_000)
    with torch.no_grad():
        for p in method.parameters():
            p -= 5.0
    far_H = method.bias().dense(at[-1:], at)[:, 0, 0]
    assert (far_H < 0).all() and (far_H > -1).all()


def test_sandwich_falls_as_a_logarithm():
    at = torch.arange(8192)
    by_distance = position_method("sandwich", 64, 8).bias().dense(at[-1:], at, torch.float64)[7, 0].flip(-1)
    # The last head's ratio is 1 / 8. Of 64 frequencies 64 / ln(10^4) turn for each factor e of the distance.
    falls = [(by_distance[d : 2 * d].mean() - by_distance[16 * d : 32 * d].mean()).item() for d in (4, 16, 64, 256)]
    assert falls == pytest.approx([64 / math.log(10_000) * math.log(16) / 8] * 4, rel=0.1)


# -- Windowed attention -----------------------------------------------------------------------------------------------


def test_a_window_of_a_quarter_of_the_training_length_hides_what_is_beyond():
    torch.manual_seed(3)
    window, bare = (Decoder(ModelConfig(name, **SHAPE)).eval() for name in ("window", "none"))
    bare.load_state_dict(window.state_dict())
    tokens = torch.randint(50, (1, 200))
    assert torch.equal(window(tokens[:, :16]), bare(tokens[:, :16]))
    assert not torch.allclose(window(tokens)[:, 16:], bare(tokens)[:, 16:], atol=1e-3)
    # Two layers of windows of 16 reach back 30 tokens.
    changed = tokens.clone()
    changed[:, :169] = (changed[:, :169] + 1) % 50
    assert torch.allclose(window(tokens)[:, 199], window(changed)[:, 199], atol=1e-6)
    changed[:, 169] = (changed[:, 169] + 1) % 50
    assert not torch.allclose(window(tokens)[:, 199], window(changed)[:, 199], atol=1e-6)


def test_a_window_is_skipped_to_and_not_only_masked():
    bias = position_method("window", 32, 4, longest=256).bias()
    assert choose_kernel("cpu", 1024, False, bias) == "window" and choose_kernel("cuda", 256, True, bias) == "flex"
    at, (q, k, v) = torch.arange(700), torch.randn(3, 1, 4, 700, 8)
    expected = causal_attention(bias, at, at, "reference")(q, k, v)
    torch.testing.assert_close(causal_attention(bias, at, at, "window")(q, k, v), expected, rtol=0, atol=1e-5)
    assert bias.within(12.0).reach().tolist() == [63.0] * 4
    assert [position_method("window", 8, 1, longest=length).keys for length in (2, 3, 7, 8)] == [1, 1, 1, 2]
    sloping = replace(bias, slopes_H=torch.tensor([1.0, 0.5, 0.1, 0.0]), decay_window=12.0)
    assert sloping.reach().tolist() == [12.0, 24.0, 63.0, 63.0]


# -- xPos -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head_width", "length"), [(8, 50), (32, 700)])
def test_xpos_scores_are_those_of_x_transformers(head_width, length):
    q, k = torch.randn(2, 1, 2, length, head_width, dtype=torch.float64)
    theirs = RotaryEmbedding(head_width, use_xpos=True, scale_base=512).double()
    pairs = torch.arange(0, head_width, 2, dtype=torch.float64)
    # Theirs are rounded to float32.
    theirs.inv_freq, theirs.scale = 10000.0 ** (-pairs / head_width), (pairs + 0.4 * head_width) / (1.4 * head_width)
    turns, factors = theirs(torch.arange(length))
    expected = apply_rotary_pos_emb(q, turns, factors) @ apply_rotary_pos_emb(k, turns, 1 / factors).mT
    method, at = position_method("xpos", 2 * head_width, 2), torch.arange(length)
    scaled_q, scaled_k = method.scale(method.rotate(q, at), method.rotate(k, at), at, at)
    torch.testing.assert_close(scaled_q @ scaled_k.mT, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_xpos_is_as_exact_in_the_longest_pass_as_in_a_short_one(dtype, tolerance):
    torch.manual_seed(4)
    method, at = position_method("xpos", 32, 1), torch.arange(LONGEST_PASS)
    q, k = torch.randn(1, 1, 1, 32).to(dtype), torch.randn(1, 1, 40, 32).to(dtype)
    for last in (39, LONGEST_PASS - 1):
        queries, keys = at[last : last + 1], at[last - 39 : last + 1]
        turned = method.rotate(q.double(), queries), method.rotate(k.double(), keys)
        middle = torch.arange(0, 32, 2, dtype=torch.float64)
        decay = (((middle / 32 + 0.4) / 1.4) ** ((queries - keys)[:, None] / 512)).repeat(1, 2)
        exact = (turned[0] * turned[1] * decay).sum(-1)
        positions = at[: last + 1]
        padded = torch.zeros(1, 1, last + 1, 32, dtype=dtype)
        padded[:, :, -40:] = method.rotate(k, keys)
        scaled_q, scaled_k = method.scale(method.rotate(q, queries), padded, queries, positions)
        found = (scaled_q.double() * scaled_k[:, :, -40:].double()).sum(-1)
        assert scaled_q.isfinite().all() and scaled_k.isfinite().all()
        torch.testing.assert_close(found, exact, rtol=0, atol=tolerance * 32)


@pytest.mark.parametrize(
    ("dtype", "fitting"), [(torch.float32, LONGEST_PASS), (torch.float16, LONGEST_PASS_FLOAT16)], ids=str
)
def test_a_pass_too_long_for_the_factors_of_xpos_is_refused(dtype, fitting):
    method, at, x = position_method("xpos", 8, 1), torch.arange(fitting + 1), torch.ones(1, 1, fitting + 1, 8)
    with pytest.raises(ValueError, match=f"{fitting + 1} positions: the factors of xPos fit {fitting}"):
        method.scale(x[:, :, -1:].to(dtype), x.to(dtype), at[-1:], at)
    fits = method.scale(x[:, :, 1:].to(dtype), x[:, :, 1:].to(dtype), at[:-1], at[:-1])
    assert all(scaled.isfinite().all() for scaled in fits)
    # Counted from the middle, the factors of queries are no larger than those of keys.
    assert fits[1].max().item() == pytest.approx((1.4 / 0.4) ** (fitting / 2 / 512), rel=0.01)
    assert fits[0].max() <= 1.01 * fits[1].max()


@pytest.mark.parametrize("autocast", [False, True])
def test_xpos_refuses_a_pass_that_is_too_long_before_any_of_it_is_computed(autocast):
    model, tokens = Decoder(ModelConfig("xpos", **SHAPE)).eval(), torch.zeros(1, LONGEST_PASS + 1, dtype=torch.long)
    with pytest.raises(ValueError, match=f"{LONGEST_PASS + 1} positions: the factors of xPos fit {LONGEST_PASS}"):
        model.generate(tokens[0, :1], LONGEST_PASS + 1)
    cache = KeyValueCache()
    model, tokens = model if autocast else model.half(), tokens[:, : LONGEST_PASS_FLOAT16 + 1]
    with torch.no_grad(), torch.autocast("cpu", torch.float16, enabled=autocast):
        model(tokens[:, :1], cache)
        with pytest.raises(ValueError, match=f"positions: the factors of xPos fit {LONGEST_PASS_FLOAT16}"):
            model(tokens[:, 1:], cache)
    assert cache.length == 1 and all(keys.shape == cache.layers[0][0].shape for keys, _ in cache.layers)


# -- Forgetting -------------------------------------------------------------------------------------------------------


def by_definition(q, k, v, log_gates):
    """softmax(q k^T / sqrt(D) + sum of log gates between) v, in float64, each sum written out."""
    length = q.shape[2]
    between = torch.zeros(*log_gates.shape, length, dtype=torch.float64)
    for i in range(length):
        for j in range(i + 1):
            between[..., i, j] = log_gates[..., j + 1 : i + 1].double().sum(-1)
    scores = q.double() @ k.double().mT / math.sqrt(q.shape[-1]) + between
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(-1) @ v.double()


@pytest.mark.parametrize("kernel", KERNELS_WITHOUT_FLEX)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 4e-2)]
)
@pytest.mark.parametrize(("length", "head_width"), [(1, 8), (33, 32), (70, 24)])
def test_gates_by_any_kernel_are_the_definition_with_gradients(kernel, dtype, tolerance, length, head_width):
    torch.manual_seed(5)
    at, bias = torch.arange(length), position_method("forgetting", 2 * head_width, 2).bias()
    inputs = [torch.randn(3, 2, length, head_width).to(dtype).requires_grad_() for _ in range(3)]
    wide = torch.promote_types(dtype, torch.float32)
    log_gates = torch.nn.functional.logsigmoid(torch.randn(3, 2, length, dtype=wide)).requires_grad_()
    weights = torch.randn(3, 2, length, head_width)
    attend = causal_attention(bias, at, at, kernel, dtype=wide)
    results = []
    for out in (by_definition(*inputs, log_gates), gated(attend, *inputs, log_gates)):
        results.append([out, *torch.autograd.grad((out * weights).sum(), [*inputs, log_gates])])
    for expected, found in zip(*results, strict=True):
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(found.double() / scale, expected.double() / scale, rtol=0, atol=tolerance)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_gates_by_flex_are_the_definition():
    q, k, v = torch.randn(3, 2, 4, 40, 24)
    log_gates, at = torch.nn.functional.logsigmoid(torch.randn(2, 4, 40)), torch.arange(40)
    attend = causal_attention(position_method("forgetting", 96, 4).bias(), at, at, "flex")
    found = gated(attend, q, k, v, log_gates)
    torch.testing.assert_close(found.double(), by_definition(q, k, v, log_gates), rtol=0, atol=1e-5)


def test_gates_in_bfloat16_have_three_parts_of_their_sums():
    """Two parts leave an error of 2^-16 of the sum, which a thousand times exceeds that of float32."""
    torch.manual_seed(9)
    length = 4000
    log_gates = torch.nn.functional.logsigmoid(torch.randn(1, 1, length))
    sums, seen = log_gates.cumsum(-1), {}

    def attend(q, k, v):
        seen["columns"] = k[..., 8:].double().sum(-1) / math.sqrt(k.shape[-1])
        return v

    q, k, v = torch.zeros(3, 1, 1, length, 8, dtype=torch.bfloat16)
    gated(attend, q, k, v, log_gates)
    exact = log_gates.double().cumsum(-1)
    assert sums.min() < -2000 and (seen["columns"] + exact).abs().max() < 2000 * 2**-20


def test_gates_are_those_of_x_transformers():
    torch.manual_seed(6)
    gate, theirs = ForgetGate(32, 4), DataDependentAlibi(32, 4)
    theirs.to_forget_gates[0].load_state_dict(gate.state_dict())
    x_BTC, length = torch.randn(2, 50, 32), 50
    sums_BHT = gate(x_BTC).cumsum(-1)
    found = sums_BHT[..., :, None] - sums_BHT[..., None, :]
    torch.testing.assert_close(found, theirs(x_BTC), rtol=1e-5, atol=1e-5)
    q, k, v = torch.randn(3, 2, 4, length, 8)
    at, bias = torch.arange(length), position_method("forgetting", 32, 4).bias()
    ours = gated(causal_attention(bias, at, at), q, k, v, gate(x_BTC))
    mask = theirs(x_BTC).masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS_WITHOUT_FLEX)
def test_constant_gates_are_alibi(kernel):
    torch.manual_seed(7)
    forgetting, alibi = (Decoder(ModelConfig(name, **SHAPE), kernel).eval() for name in ("forgetting", "alibi"))
    shared = {name: value for name, value in forgetting.state_dict().items() if ".gate." not in name}
    alibi.load_state_dict(shared)
    with torch.no_grad():
        for layer in forgetting.layers:
            layer.gate.weight.zero_()
            # log sigmoid(b) = -m.
            layer.gate.bias.copy_(-torch.tensor(slopes(4), dtype=torch.float64).expm1().log())
        tokens = torch.randint(50, (2, 300))
        torch.testing.assert_close(forgetting(tokens), alibi(tokens), rtol=0, atol=1e-4)


def test_every_layer_has_a_gate_of_its_own_with_the_decay_of_other_weights():
    model = Decoder(ModelConfig("forgetting", **SHAPE))
    first, second = (layer.gate for layer in model.layers)
    assert not torch.equal(first.weight, second.weight) and not first.bias.any()
    optimizer = adamw(model, 1e-3, 10, None)
    groups = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert groups[id(first.weight)] == WEIGHT_DECAY and groups[id(first.bias)] == 0.0


def test_strong_gates_keep_their_precision_over_long_texts():
    torch.manual_seed(8)
    length, at = 4096, torch.arange(4096)
    q, k, v = torch.randn(3, 1, 2, length, 16)
    log_gates = torch.nn.functional.logsigmoid(torch.randn(1, 2, length) - 1)
    bias = position_method("forgetting", 32, 2).bias()
    sums = log_gates.double().cumsum(-1)
    scores = q[:, :, -8:].double() @ k.double().mT / 4 + sums[..., -8:, None] - sums[..., None, :]
    exact = scores.masked_fill(at[-8:, None] < at, -math.inf).softmax(-1) @ v.double()
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.bfloat16, 2e-2)):
        given = (x.to(dtype) for x in (q[:, :, -8:], k, v))
        found = gated(causal_attention(bias, at[-8:], at), *given, log_gates)
        assert (found.double() - exact).abs().max() < tolerance * v.abs().max()


@pytest.mark.parametrize("kernel", KERNELS_WITHOUT_FLEX)
@pytest.mark.parametrize("autocast", [False, True])
def test_gates_in_float16_have_sums_beyond_its_range(autocast, kernel):
    torch.manual_seed(8)
    at, (q, k, v) = torch.arange(200), torch.randn(3, 1, 2, 200, 16).half()
    log_gates = torch.full((1, 2, 200), -200.0)  # sqrt(24) * 200 * 200 is 195,959, and float16 ends at 65,504.
    log_gates[..., -4:] = -0.5
    attend = causal_attention(position_method("forgetting", 32, 2).bias(), at, at, kernel)
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        found = gated(attend, q, k, v, log_gates)
    assert found.dtype is torch.float16
    torch.testing.assert_close(found.double(), by_definition(q, k, v, log_gates), rtol=0, atol=1e-2)


# -- As methods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*VARIANTS, *LATER_METHODS])
def test_a_cache_past_the_training_length_gives_the_full_pass(name):
    torch.manual_seed(9)
    model, tokens, cache = (
        Decoder(ModelConfig(name, **SHAPE)).double().eval(),
        torch.randint(50, (2, 300)),
        KeyValueCache(),
    )
    with torch.no_grad():
        steps = [model(part, cache) for part in tokens.split([150, 1, 1, 100, 48], dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), model(tokens), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["window", "fire"])
def test_a_method_of_a_training_length_asks_for_it(name):
    with pytest.raises(ValueError, match="longest=0"):
        position_method(name, 32, 4)

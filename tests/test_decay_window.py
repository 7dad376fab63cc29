"""A decay window: its kernels equal the masked definition, nothing beyond it is seen, and what it drops is bounded."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import period_corpus
from torch.nn.attention.flex_attention import create_block_mask

from alibi import windowed_attention
from alibi.attention import KERNELS, additive_mask, causal_attention, choose_kernel
from alibi.configuration import config_from, configure
from alibi.decay_window import dropped_mass, seen_keys, window_for, zero_below
from alibi.evaluate import evaluate
from alibi.model import Decoder, KeyValueCache, ModelConfig
from alibi.positions import METHODS, LinearBias, NoBias, position_method, slopes
from alibi.run_spec import RunSpec
from alibi.windowed_attention import flex_blocks


def linear(heads, within=None):
    return LinearBias(torch.tensor(slopes(heads), dtype=torch.float64), within)


@given(heads=st.integers(1, 20), within=st.floats(0.01, 30, allow_subnormal=False), start=st.integers(0, 10_000))
@settings(max_examples=40)
def test_a_head_sees_as_far_as_its_bias_is_within_the_window(heads, within, start):
    bias, at = linear(heads, within), start + torch.arange(40)
    lowered = torch.tensor(slopes(heads), dtype=torch.float64)[:, None, None] * (at[:, None] - at)
    masked = additive_mask(bias, at, at, torch.float64)
    assert torch.equal(masked.isinf(), (at[:, None] < at) | (lowered > within))
    assert torch.equal(
        masked, additive_mask(linear(heads), at, at, torch.float64).masked_fill(masked.isinf(), -torch.inf)
    )
    rows = torch.arange(40)
    score_mod = bias.score_mod(at, at)
    scored = score_mod(
        torch.zeros(heads, 40, 40), torch.tensor(0), torch.arange(heads)[:, None, None], rows[:, None], rows
    )
    assert torch.equal(scored.masked_fill(rows[:, None] < rows, -torch.inf), additive_mask(bias, at, at))


def test_slopes_that_are_not_positive_see_everything():
    bias = LinearBias(torch.tensor([0.5, 0.0, -1.0]), 3.0)
    assert bias.reach().tolist() == [6, math.inf, math.inf]
    assert linear(8).reach().tolist() == [math.inf] * 8
    torch.manual_seed(0)
    at, (q, k, v) = torch.arange(300), torch.randn(3, 1, 3, 300, 8)
    expected = causal_attention(bias, at, at, "reference")(q, k, v)
    torch.testing.assert_close(causal_attention(bias, at, at, "window")(q, k, v), expected, rtol=0, atol=1e-5)


def results(bias, kernel, inputs, weights):
    at = torch.arange(weights.shape[2])
    out = causal_attention(bias, at, at, kernel, dtype=torch.promote_types(weights.dtype, torch.float32))(*inputs)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs)]


# One position, less than a block, a block, blocks and a rest; windows of a fraction of a block to many.
SHAPES = [(1, 8, 12.0), (5, 1, 12.0), (100, 12, 2.0), (128, 8, 3.0), (129, 12, 0.4), (385, 8, 3.0), (700, 1, 2.0)]


@pytest.mark.parametrize(("length", "heads", "within"), SHAPES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 4e-2)]
)
@pytest.mark.parametrize("kernel", ["window", "baddbmm", "sdpa"])
def test_kernels_equal_the_masked_reference_with_gradients(kernel, length, heads, within, dtype, tolerance):
    torch.manual_seed(1)
    *inputs, weights = torch.randn(4, 2, heads, length, 16).to(dtype)
    inputs = [x.requires_grad_() for x in inputs]
    bias = linear(heads, within)
    for expected, found in zip(
        *(results(bias, chosen, inputs, weights) for chosen in ("reference", kernel)), strict=True
    ):
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("length", [320, 333])
@pytest.mark.parametrize("at_once", [1, 2**18])
def test_window_computes_large_blocks_and_many_at_once(monkeypatch, length, at_once):
    monkeypatch.setattr(windowed_attention, "SMALLEST_BLOCK", 16)
    monkeypatch.setattr(windowed_attention, "LARGEST_BLOCK", 64)
    monkeypatch.setattr(windowed_attention, "SCORES_AT_ONCE", at_once)
    torch.manual_seed(2)
    # As the model gives them: views into one product of all three.
    inputs = [x.requires_grad_() for x in torch.randn(2, length, 3, 8, 16).permute(2, 0, 3, 1, 4)]
    weights, bias = torch.randn(2, 8, length, 16), linear(8, 2.5)
    assert len({head.mask_RW.shape[0] for head in windowed_attention._heads(bias, length, torch.float32)}) == 3
    for expected, found in zip(
        *(results(bias, kernel, inputs, weights) for kernel in ("reference", "window")), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_gradients_are_those_of_finite_differences(monkeypatch):
    monkeypatch.setattr(windowed_attention, "SMALLEST_BLOCK", 2)
    torch.manual_seed(3)
    at, bias = torch.arange(7), linear(2, 0.25)
    inputs = [x.requires_grad_() for x in torch.randn(3, 2, 2, 7, 3, dtype=torch.float64)]
    attend = causal_attention(bias, at, at, "window", dtype=torch.float64)
    assert torch.autograd.gradcheck(attend, inputs)


def test_a_token_acts_on_those_within_reach_and_on_no_others():
    torch.manual_seed(4)
    bias, at, place = linear(8, 1.5), torch.arange(600), 250
    q, k, v = torch.randn(3, 1, 8, 600, 16)
    before = causal_attention(bias, at, at, "window")(q, k, v)
    k[:, :, place], v[:, :, place] = torch.randn(2, 1, 8, 16)
    changed = (causal_attention(bias, at, at, "window")(q, k, v) != before).any(dim=-1)[0]
    assert torch.equal(changed, (at >= place) & (at - place <= bias.reach()[:, None]))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    ("queries", "keys", "within"), [(300, 300, 0.9), (128, 128, 0.9), (3, 200, 0.9), (130, 400, 0.9), (900, 900, 3.0)]
)
def test_flex_skips_the_blocks_beyond_the_window(queries, keys, within):
    torch.manual_seed(5)
    bias, at = linear(4, within), torch.arange(keys)
    q, k, v = (torch.randn(2, 4, n, 16) for n in (queries, keys, keys))
    expected = causal_attention(bias, at[keys - queries :], at, "reference")(q, k, v)
    found = causal_attention(bias, at[keys - queries :], at, "flex")(q, k, v)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    seen = ~additive_mask(bias, at[keys - queries :], at).isinf()
    padded = torch.nn.functional.pad(seen, (0, -keys % 128, 0, -queries % 128))
    tiles = padded.unflatten(1, (-1, 128)).unflatten(3, (-1, 128))
    blocks = flex_blocks(at[keys - queries :], at, bias.reach().float())
    # A block may be asked for though it holds nothing, where it lies partly past the end; no other, and none is missed.
    asked, some, whole = blocks.to_dense()[0].bool(), tiles.any(dim=4).any(dim=2), tiles.all(dim=4).all(dim=2)
    assert (asked >= some).all() and (asked & ~some).sum() <= 4
    wholes = torch.zeros_like(whole)
    for h, row in torch.cartesian_prod(torch.arange(4), torch.arange(whole.shape[1])).tolist():
        wholes[h, row, blocks.full_kv_indices[0, h, row, : blocks.full_kv_num_blocks[0, h, row]].long()] = True
    assert (wholes <= whole).all()
    if queries == keys == 300:
        assert (~asked).sum() > 4 * 3
    if queries == 900:
        # All of them but those in the last row, which has less than 128 queries.
        assert torch.equal(wholes[:, :-1], whole[:, :-1]) and wholes.any() and not wholes[:, -1].any()


@pytest.mark.parametrize(("queries", "keys"), [(300, 300), (128, 128), (130, 400), (1, 129)])
def test_flex_without_a_window_computes_the_blocks_that_torch_would(queries, keys):
    at = torch.arange(keys)
    first = keys - queries
    found = flex_blocks(at[first:], at)
    theirs = create_block_mask(lambda b, h, query, key: query + first >= key, None, None, queries, keys, device="cpu")
    assert torch.equal(found.to_dense(), theirs.to_dense())
    for asked, expected in ((found.kv_indices, theirs.kv_indices), (found.full_kv_indices, theirs.full_kv_indices)):
        assert asked.shape == expected.shape
    # torch's own calls a block whole though it has rows past the last query; it is computed in either case.
    assert (found.full_kv_num_blocks <= theirs.full_kv_num_blocks).all()
    assert torch.equal(found.kv_num_blocks + found.full_kv_num_blocks, theirs.kv_num_blocks + theirs.full_kv_num_blocks)


def test_the_window_kernel_refuses_other_heads_and_lengths_than_it_was_made_for():
    at = torch.arange(600)
    attend = causal_attention(linear(4, 3.0), at[:100], at[:100], "window")
    with pytest.raises(ValueError, match=r"queries of shape \[1, 2, 100, 8\]: the bias is for 4 heads, 100 positions"):
        attend(*torch.randn(3, 1, 2, 100, 8))
    with pytest.raises(ValueError, match=r"this pass needs \[B, H, 100, D\]"):
        attend(*torch.randn(3, 1, 4, 600, 8))
    with pytest.raises(ValueError, match="kernel window has no gradient for slopes: choose sdpa"):
        causal_attention(LinearBias(torch.ones(4, requires_grad=True), 3.0), at, at, "window")


def test_float32_does_not_move_the_reach_of_a_head():
    method = position_method("alibi", 96, 12)
    reach = method.bias().within(2327.0).reach()
    assert torch.equal(method.float().bias().within(2327.0).reach(), reach) and reach[-1] == 26326


SHAPE = {"vocabulary_size": 40, "layers": 2, "width": 32, "heads": 4, "feedforward": 64}


def small_model(kernel="automatic", within=1.0, method="alibi"):
    torch.manual_seed(6)
    return Decoder(ModelConfig(method, **SHAPE, decay_window=within), kernel).eval()


@pytest.mark.parametrize("kernel", ["window", "automatic", "sdpa"])
def test_cached_steps_equal_the_full_pass(kernel):
    model, tokens, cache = small_model(kernel), torch.randint(40, (2, 300)), KeyValueCache()
    with torch.no_grad():
        steps = [model(part, cache) for part in tokens.split([140, 1, 1, 100, 58], dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), model(tokens), rtol=0, atol=2e-5)
        assert torch.equal(model.generate(tokens[0], 3, 0), small_model("reference").generate(tokens[0], 3, 0))


def test_a_model_trains_and_is_evaluated_within_its_window():
    split = period_corpus(1500).split("valid")
    losses = {
        kernel: evaluate(small_model(kernel), split, 0, 700).nats for kernel in ("reference", "automatic", "sdpa")
    }
    assert losses["automatic"] == pytest.approx(losses["reference"], rel=1e-6)
    assert losses["sdpa"] == pytest.approx(losses["reference"], rel=1e-6)
    assert abs(evaluate(small_model(within=None), split, 0, 700).nats - losses["reference"]) > 1e-3
    wide = evaluate(small_model(within=100.0), split, 0, 700).nats
    assert wide == pytest.approx(evaluate(small_model(within=None), split, 0, 700).nats, rel=1e-6)
    tokens, gradients = torch.randint(40, (2, 601)), []
    for kernel in ("reference", "automatic"):
        model = small_model(kernel).train()
        model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:]).mean().backward()
        gradients.append(model.layers[0].queries_keys_values.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_bfloat16_errs_by_its_rounding_at_any_length():
    torch.manual_seed(7)
    bias, at = linear(8, 12.0), torch.arange(4096)
    q, k, v = torch.randn(3, 1, 8, 4096, 64).bfloat16()
    found = causal_attention(bias, at, at, "window")(q, k, v)
    exact = causal_attention(bias, at[-64:], at, "reference")(q[:, :, -64:].double(), k.double(), v.double())
    assert (found[:, :, -64:] - exact).abs().max() < 2**-8 * v.abs().max()


def test_kernel_is_chosen_for_the_window_where_it_pays_and_nothing_else_changes():
    bias, plain = linear(8, 12.0), linear(8)
    for training in (True, False):
        assert choose_kernel("cpu", 1023, training, bias) == choose_kernel("cpu", 1023, training, plain)
        assert choose_kernel("cpu", 1024, training, bias) == choose_kernel("cpu", 70_000, training, bias) == "window"
        assert choose_kernel("cuda", 512, training, bias) == "flex"
        assert choose_kernel("cuda", 512, training, plain) == choose_kernel("cuda", 512, training, bias, cached=True)
        assert choose_kernel("cpu", 4096, training, bias, dropout=0.1) == "sdpa"
        assert choose_kernel("cpu", 4096, training, bias, cached=True) == "sdpa"
        assert choose_kernel("cpu", 4096, training, plain) == "columns"
    learned = position_method("alibi-learned", 64, 8).bias().within(12.0)
    assert choose_kernel("cpu", 4096, True, learned) == "sdpa"
    at, q = torch.arange(3), torch.randn(1, 8, 3, 8)
    assert causal_attention(learned, at, at)(q, q, q).requires_grad


def test_what_has_no_window_is_refused():
    at = torch.arange(3)
    with pytest.raises(ValueError, match="window is for a linear bias with a decay window, not for a NoBias"):
        causal_attention(NoBias(), at, at, "window")
    with pytest.raises(ValueError, match="window is for a linear bias with a decay window"):
        causal_attention(linear(8), at, at, "window")
    with pytest.raises(ValueError, match="window has no attention dropout"):
        causal_attention(linear(8, 12.0), at, at, "window", dropout=0.1)
    with pytest.raises(ValueError, match="no gradient for slopes"):
        causal_attention(position_method("alibi-learned", 64, 8).bias().within(12.0), at, at, "window")
    with pytest.raises(ValueError, match="columns of the keys can't hold a window: choose kernel window"):
        causal_attention(linear(8, 12.0), at, at, "columns")(*torch.randn(3, 1, 8, 3, 8))
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"decay_window={wrong}: choose a positive, finite number of nats"):
            linear(8).within(wrong)


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].needs_longest])
def test_a_window_is_configured_for_linear_biases_only(method):
    corpus = period_corpus()
    if isinstance(position_method(method, 64, 8).bias(), LinearBias):
        config = configure(RunSpec(method=method, decay_window=12.0), corpus)
        assert config.model.decay_window == 12.0
        assert Decoder(config.model).bias().decay_window == 12.0
        with pytest.raises(ValueError, match=r"decay_window=-1\.0: choose a positive"):
            configure(RunSpec(method=method, decay_window=-1.0), corpus)
    else:
        with pytest.raises(
            ValueError, match=r"decay_window=12\.0: only a linear bias .alibi. has one, a .*Bias has not"
        ):
            configure(RunSpec(method=method, decay_window=12.0), corpus)
        with pytest.raises(ValueError, match="only a linear bias"):
            small_model(method=method)
    assert configure(RunSpec(method=method), corpus).model.decay_window is None


def test_configurations_stored_without_a_window_are_read():
    fields = dataclasses.asdict(configure(RunSpec(method="alibi"), period_corpus()))
    del fields["model"]["decay_window"]
    assert config_from(fields) == configure(RunSpec(method="alibi"), period_corpus())
    assert Decoder(config_from(fields).model).bias().decay_window is None


@given(
    slope=st.floats(0.003, 1, allow_subnormal=False),
    within=st.floats(0.5, 20, allow_subnormal=False),
    spread=st.floats(0, 8, allow_subnormal=False),
    seed=st.integers(0, 1000),
    adverse=st.booleans(),
)
@settings(max_examples=100)
def test_the_dropped_mass_is_below_its_bound(slope, within, spread, seed, adverse):
    distance = torch.arange(3000, dtype=torch.float64)
    scores = spread * torch.rand(3000, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if adverse:  # The keys beyond the window are those that the query wants.
        scores = torch.where(slope * distance > within, spread, 0.0)
    weights = (scores - slope * distance).softmax(dim=0)
    beyond = distance > LinearBias(torch.tensor([slope], dtype=torch.float64), within).reach()
    above_own = (scores.max() - scores[0]).item()
    assert weights[beyond].sum() <= dropped_mass(slope, within, above_own) * (1 + 1e-9)


def test_the_bound_falls_with_the_window_and_tells_what_a_model_needs():
    assert dropped_mass(1 / 256, 12, 0) < 2e-3 < dropped_mass(1 / 256, 5, 0) == 1
    assert dropped_mass(0.5, 12, 0) < 2e-5
    for slope, score_range, mass in ((1 / 256, 6.5, 1e-3), (0.5, 0, 1e-6), (2.0, 15, 0.5)):
        found = window_for(slope, score_range, mass)
        assert dropped_mass(slope, found, score_range) == pytest.approx(mass)
        assert dropped_mass(slope, found + 0.01, score_range) < mass < dropped_mass(slope, found - 0.01, score_range)
    with pytest.raises(ValueError, match="slope=0"):
        dropped_mass(0, 12, 1)
    with pytest.raises(ValueError, match="score_range=-1"):
        dropped_mass(0.5, 12, -1)
    with pytest.raises(ValueError, match="slope=0"):
        window_for(0, 1, 0.5)
    with pytest.raises(ValueError, match=r"mass=1\.0"):
        window_for(0.5, 1, 1.0)
    with pytest.raises(ValueError, match="score_range=-1"):
        window_for(0.5, -1, 0.5)


@pytest.fixture
def subnormal_numbers():
    """Another test may have told this process to take them as zero."""
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("subnormal_numbers")
@given(
    slope=st.floats(2**-9, 2),
    keys=st.integers(1, 20_000),
    dtype=st.sampled_from((torch.float16, torch.bfloat16, torch.float32)),
)
@settings(max_examples=60)
def test_seen_keys_are_those_that_a_softmax_leaves_above_zero(slope, keys, dtype):
    weights = (-slope * torch.arange(keys, dtype=torch.float64)).softmax(0)
    # Whether a weight within a rounding of the limit becomes zero is chance.
    near = int(((weights / zero_below(dtype) - 1).abs() < 1e-9).sum())
    assert abs(int((weights.to(dtype) > 0).sum()) - seen_keys(slope, keys, dtype)) <= near


@pytest.mark.usefixtures("subnormal_numbers")
def test_zero_below_is_the_last_number_that_becomes_zero():
    for dtype, power in ((torch.float16, 25), (torch.bfloat16, 134), (torch.float32, 150)):
        limit = torch.tensor([1.0, 1 + 2**-10], dtype=torch.float64) * zero_below(dtype)
        assert (limit.to(dtype) > 0).tolist() == [False, True]
        assert zero_below(dtype) == 2.0**-power


@pytest.mark.parametrize("slope, keys", [(0.0, 8), (-0.5, 8), (0.5, 0)])
def test_seen_keys_need_a_slope_and_a_key(slope, keys):
    with pytest.raises(ValueError, match=f"slope={slope}, keys={keys}"):
        seen_keys(slope, keys, torch.float16)


def weights_of(kernel, dtype, keys=128):
    """The attention weights of eight heads with equal scores, as a kernel applies them: values are unit vectors."""
    at = torch.arange(keys)
    bias = linear(8, 100.0 if kernel == "window" else None)
    q = torch.zeros(1, 8, keys, keys, dtype=dtype)
    with torch.no_grad():
        return causal_attention(bias, at, at, kernel)(q, q, torch.eye(keys, dtype=dtype).expand_as(q))[0]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_no_kernel_is_blind_to_keys_that_float16_loses(kernel, dtype):
    """Weights down to 2^-91 keep the digits of the dtype that models compute in."""
    weights, at = weights_of(kernel, dtype), torch.arange(128)
    exact = additive_mask(linear(8), at, at, torch.float64).softmax(-1)
    assert exact[exact > 0].min() < 2.0**-90
    torch.testing.assert_close(weights.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_float16_would_be_blind_and_no_run_computes_in_it():
    # The definition keeps its weights in float32: the rounding is this line's.
    seen = (weights_of("reference", torch.float32).half()[:, -1] > 0).sum(-1)
    assert seen.tolist() == [seen_keys(slope, 128, torch.float16) for slope in slopes(8)]
    assert seen[0] == 33
    with pytest.raises(ValueError, match="float16"):
        configure(RunSpec(method="alibi", dtype="float16"), period_corpus())


def test_seen_keys_need_a_dtype_whose_limit_is_above_zero():
    with pytest.raises(ValueError, match=r"torch\.float64: half of its smallest"):
        seen_keys(0.5, 8, torch.float64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_window_hides_the_same_keys_in_16_bits(dtype):
    bias, at = LinearBias(torch.tensor(slopes(8), dtype=torch.float64)).within(12.0), torch.arange(4096)
    hidden = [bias.dense(at[-1:], at, of).isneginf() for of in (dtype, torch.float32)]
    assert torch.equal(*hidden) and hidden[0].any()

"""Position methods: the published numbers, the rules for every head count, and the stated invariants."""

import inspect
import math
import pkgutil
from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alibi import positions
from alibi.errors import InputError
from alibi.positions import (
    LATER_METHODS,
    METHODS,
    PAPER_METHODS,
    SCALED_METHODS,
    VARIANTS,
    GateBias,
    GrowthBias,
    LinearBias,
    MultipliedBias,
    NoBias,
    NoPositions,
    PositionMethod,
    TableBias,
    position_method,
    slopes,
)
from alibi.positions.alibi import FixedSlopes
from alibi.positions.fire import FunctionBias
from alibi.positions.kerple import LogarithmicBias
from alibi.positions.rotary import rotate
from alibi.positions.sandwich import SinusoidBias
from alibi.positions.sinusoidal import FIRST_ROW, sinusoid
from alibi.positions.t5 import bucket
from alibi.positions.window import WindowBias


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (1, [2**-8]),
        (2, [0.0625, 0.00390625]),
        (6, [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]),
        (8, [2.0**-i for i in range(1, 9)]),
        (12, [2.0**-i for i in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
        (16, [2 ** (-i / 2) for i in range(1, 17)]),
    ],
)
def test_slopes_of_the_official_code(heads, expected):
    assert slopes(heads) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", METHODS)
def test_a_model_in_16_bits_keeps_its_fixed_numbers(name, dtype):
    torch.manual_seed(0)
    method = position_method(name, 96, 12, longest=64)
    before = {buffer: value.clone() for buffer, value in method.named_buffers()}
    method.to(dtype)
    assert all(value.dtype == before[buffer].dtype for buffer, value in method.named_buffers())
    assert all(torch.equal(value, before[buffer]) for buffer, value in method.named_buffers())
    assert all(weight.dtype == dtype for weight in method.parameters())
    if name == "alibi":
        assert method.bias().slopes_H.tolist() == slopes(12)


def test_slopes_for_every_head_count():
    for heads in range(1, 129):
        found = slopes(heads)
        assert len(found) == len(set(found)) == heads
        assert all(0 < slope < 1 for slope in found), heads
        lower = 2 ** int(math.log2(heads))
        assert found[:lower] == slopes(lower), heads
        assert set(found) <= set(slopes(2 * lower)) | set(slopes(lower)), heads


@pytest.mark.parametrize("name", METHODS)
def test_a_method_made_on_meta_has_its_fixed_numbers_when_it_has_memory_and_the_others_when_they_are_loaded(name):
    method = position_method(name, 24, 3, longest=8)
    with torch.device("meta"):
        other = position_method(name, 24, 3, longest=8)
    other = other.float().half().double().to_empty(device="cpu")
    for loaded in (False, True):
        if loaded:
            other.load_state_dict(method.state_dict())
        saved = () if loaded else method.state_dict().keys()
        for (key, expected), (_, found) in zip(method.named_buffers(), other.named_buffers(), strict=True):
            assert key in saved or torch.equal(found, expected), key


def test_fixed_numbers_that_depend_on_the_training_length_are_made_again_for_it():
    class ByLength(NoPositions):
        def __init__(self, width, heads, longest=0):
            super().__init__(width, heads, longest)
            self.register_buffer("log_length", torch.tensor(float(longest)).log(), persistent=False)

    with torch.device("meta"):
        method = ByLength(24, 3, 100)
    assert method.to_empty(device="cpu").log_length.item() == pytest.approx(math.log(100))


def test_slopes_that_a_user_sets_stay_when_weights_are_loaded_or_moved():
    method, own_H = position_method("alibi", 24, 3), torch.tensor([0.7, 0.3, 0.1])
    method.slopes_H = own_H
    method.load_state_dict(method.state_dict())
    assert torch.equal(method.slopes_H, own_H)
    assert torch.equal(method.half().to_empty(device="cpu").slopes_H, own_H)


@pytest.mark.parametrize("heads", [0, -8, 2.0, 2.5])
def test_slopes_need_a_number_of_heads(heads):
    with pytest.raises(InputError, match=f"heads={heads}: slopes are defined for an integer from 1 on"):
        slopes(heads)


@given(st.integers(0, 10**6), st.integers(0, 500), st.integers(1, 500))
@settings(max_examples=50)
def test_linear_bias_is_linear_and_knows_only_the_distance(start, first, second):
    bias = position_method("alibi", 64, 8).bias()
    assert isinstance(bias, LinearBias)

    def at(distance):
        return bias.dense(torch.tensor([start + distance]), torch.tensor([start]))[:, 0, 0]

    assert torch.equal(at(first) + at(second), at(first + second))
    assert torch.equal(at(second) / second, -torch.tensor(slopes(8)))


def test_bias_equals_the_triangle_of_figure_3():
    bias = position_method("alibi", 64, 8).bias().dense(torch.arange(4), torch.arange(4))
    triangle = torch.tensor([[0.0, 0, 0, 0], [-1, 0, 0, 0], [-2, -1, 0, 0], [-3, -2, -1, 0]])
    assert torch.equal(bias.tril(), torch.tensor(slopes(8))[:, None, None] * triangle)


@pytest.mark.parametrize(("buckets", "longest"), [(0, 128), (31, 128), (32, 16)])
def test_impossible_buckets_are_refused(buckets, longest):
    with pytest.raises(ValueError, match=f"buckets={buckets}, longest={longest}: choose an even number of buckets"):
        bucket(torch.arange(4), buckets, longest)


def test_t5_buckets():
    distances = torch.arange(4001)
    buckets = bucket(distances)
    assert buckets[:16].tolist() == list(range(16))
    # The last bucket starts at 113, by the float32 arithmetic of the reference implementation.
    assert [int((buckets == b).nonzero()[0]) for b in (16, 24, 30, 31)] == [16, 46, 99, 113]
    assert (buckets.diff() >= 0).all() and buckets.diff().max() == 1 and buckets.max() == 31


def test_t5_bias_reads_its_table_and_learns_it():
    method = position_method("t5", 64, 4)
    bias = method.bias()
    assert isinstance(bias, TableBias)
    dense = bias.dense(torch.arange(5, 9), torch.arange(9))
    for query, key, head in [(0, 0, 0), (3, 2, 1), (2, 7, 3)]:
        assert dense[head, query, key] == method.weights_KH[query + 5 - key, head]
    dense.sum().backward()
    assert method.weights_KH.grad is not None and method.weights_KH.grad[0].min() > 0


@given(st.integers(0, 4000), st.integers(0, 300), st.integers(0, 4000))
@settings(max_examples=50)
def test_rotary_scores_depend_on_the_offset_alone(start, offset, shift):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 4, 1, 32, generator=generator, dtype=torch.float64)

    def score(at):
        turned_q, turned_k = rotate(q, torch.tensor([at + offset])), rotate(k, torch.tensor([at]))
        return (turned_q * turned_k).sum(-1)

    torch.testing.assert_close(score(start), score(start + shift), rtol=0, atol=1e-9)


def test_rotary_equals_complex_multiplication():
    x = torch.randn(1, 2, 7, 16, dtype=torch.float64)
    angles = torch.arange(7.0, dtype=torch.float64)[:, None] * 10000 ** (-torch.arange(0, 16, 2) / 16)
    turned = torch.view_as_complex(x.unflatten(-1, (8, 2))) * torch.polar(torch.ones_like(angles), angles)
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    torch.testing.assert_close(rotate(x, torch.arange(7)), expected)


def test_rotary_in_16_bits_is_the_exact_rotation_rounded_once():
    x = torch.randn(1, 1, 2000, 32).bfloat16()
    exact = rotate(x.double(), torch.arange(2000))
    torch.testing.assert_close(rotate(x, torch.arange(2000)).double(), exact, rtol=2**-8, atol=1e-5)


def test_sinusoid_is_fairseqs():
    width, half = 16, 8
    table = sinusoid(torch.arange(600), width)
    for row in (0, 1, 17, 599):
        for column in range(half):
            angle = row * 10000 ** (-column / (half - 1))
            assert table[row, column] == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[row, half + column] == pytest.approx(math.cos(angle), abs=1e-6)
    added = position_method("sinusoidal", width, 2).embeddings(torch.arange(10))
    assert FIRST_ROW == 2 and torch.equal(added, table[2:12])


def test_every_method_of_the_folder_has_a_name_of_its_own_in_the_registry():
    modules = [import_module(f"alibi.positions.{file.name}") for file in pkgutil.iter_modules(positions.__path__)]
    for cls in {cls for module in modules for _, cls in inspect.getmembers(module, inspect.isclass)}:
        bases = cls in (PositionMethod, FixedSlopes) or cls.__name__.startswith("_")
        if issubclass(cls, PositionMethod) and not bases:
            assert METHODS.get(cls.name) is cls, f"{cls.__name__} is not in METHODS under its name, {cls.name!r}"
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_answers_for_positions_wherever_a_pass_begins(name):
    method, at = position_method(name, 64, 8, longest=7).eval(), torch.arange(7)
    whole, later = method.embeddings(at), method.embeddings(at[3:])
    assert whole is later is None or (whole.shape == (7, 64) and torch.equal(whole[3:], later))
    x = torch.randn(2, 8, 7, 8)
    assert method.rotate(x, at).shape == x.shape
    assert all(scaled.shape == x.shape for scaled in method.scale(x, x, at, at))
    torch.testing.assert_close(method.rotate(x[:, :, 3:], at[3:]), method.rotate(x, at)[:, :, 3:])
    bias = method.bias()
    dense = bias.factor if isinstance(bias, MultipliedBias) else bias.dense
    whole, later = dense(at, at), dense(at[3:], at)
    assert whole is later is None or (whole.shape == (8, 7, 7) and torch.equal(whole[:, 3:], later))


# Kind of bias and learned numbers of the published methods, width 64, 8 heads, a table of 5 positions.
PUBLISHED = {
    "sinusoidal": (NoBias, 0),
    "rotary": (NoBias, 0),
    "t5": (TableBias, 32 * 8),
    "alibi": (LinearBias, 0),
    "learned": (NoBias, 5 * 64),
    "none": (NoBias, 0),
    "alibi-learned": (LinearBias, 8),
    "alibi-random": (LinearBias, 0),
    "alibi-quadratic": (GrowthBias, 0),
    "alibi-multiplied": (MultipliedBias, 0),
    "window": (WindowBias, 0),
    "kerple": (LogarithmicBias, 2 * 8),
    "sandwich": (SinusoidBias, 0),
    "fire": (FunctionBias, 2 * 32 + 32 * 8 + 2),
    "xpos": (NoBias, 0),
    "forgetting": (GateBias, 0),
}


@pytest.mark.parametrize(("name", "kind", "numbers"), [(name, *known) for name, known in PUBLISHED.items()])
def test_a_published_method_does_only_what_it_is_known_for(name, kind, numbers):
    method = position_method(name, 64, 8, longest=5)
    x = torch.randn(1, 8, 5, 8)
    assert (method.embeddings(torch.arange(5)) is not None) == (name in ("sinusoidal", "learned"))
    at = torch.arange(5)
    assert torch.equal(method.rotate(x, at), x) == (name not in ("rotary", "xpos"))
    assert torch.equal(method.scale(x, x, at, at)[0], x) == (name != "xpos")
    assert (method.gate() is not None) == (name == "forgetting")
    assert type(method.bias()) is kind
    assert sum(p.numel() for p in method.parameters()) == numbers
    assert method.travel == (65.0 if name == "t5" else 0.0)


def test_the_paper_s_four_its_variants_later_and_scaled_methods_are_known_and_four_sets():
    groups = (*PAPER_METHODS, *VARIANTS, *LATER_METHODS, *SCALED_METHODS.values())
    assert set(groups) < set(METHODS) and len(set(groups)) == len(groups)


def test_wrong_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match=f"'alibbi'; choose from {', '.join(METHODS)}"):
        position_method("alibbi", 64, 8)
    with pytest.raises(ValueError, match="width=65 is not a multiple of heads=8"):
        position_method("alibi", 65, 8)
    with pytest.raises(ValueError, match="even head width, not 7"):
        rotate(torch.zeros(1, 1, 2, 7), torch.arange(2))
    with pytest.raises(ValueError, match="width=7"):
        sinusoid(torch.arange(3), 7)


def test_learned_positions_end_where_their_table_ends():
    with pytest.raises(ValueError, match="longest=0: learned positions need a table"):
        position_method("learned", 64, 8)
    method = position_method("learned", 64, 8, longest=16)
    assert method.embeddings(torch.arange(16)).shape == (16, 64)
    with pytest.raises(ValueError, match=r"position 16: the learned table ends at 15.*let it read up to 16 tokens"):
        method.check_length(17)
    method.check_length(16)

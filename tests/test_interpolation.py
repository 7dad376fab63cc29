"""Slopes and angles rescaled for longer windows: the published formulas, x-transformers and transformers."""

import math
import warnings

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from alibi.model import Decoder, ModelConfig
from alibi.positions import position_method, slopes
from alibi.positions.interpolation import INTERPOLATIONS, interpolated, yarn_frequencies

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it uses torch.jit.script
    from x_transformers.x_transformers import RotaryEmbedding, apply_rotary_pos_emb

KINDS = [(name, kind) for name, kinds in INTERPOLATIONS.items() for kind in kinds]


@pytest.mark.parametrize("factor", [2, 5])
def test_interpolated_slopes_give_far_keys_the_bias_of_near_ones(factor):
    method = position_method("alibi", 64, 8)
    squeezed = interpolated(method, "pi", 128, 128 * factor).bias()
    at = torch.arange(128)
    expected = method.bias().dense(at, at, torch.float64)
    torch.testing.assert_close(squeezed.dense(factor * at, factor * at, torch.float64), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("heads", [2, 8, 16])
def test_ntk_slopes_are_the_published_formula(heads):
    a = 3.0
    found = interpolated(position_method("alibi", 8 * heads, heads), "ntk", 100, 300).bias().slopes_H
    b = a ** (1 / (heads - 1))
    assert found.tolist() == pytest.approx([b / (2 ** (8 / heads) * b) ** h for h in range(1, heads + 1)], rel=1e-12)


@pytest.mark.parametrize("heads", [3, 12, 71])
def test_ntk_keeps_the_steepest_head_and_interpolates_the_flattest_for_any_head_count(heads):
    found = interpolated(position_method("alibi", 2 * heads, heads), "ntk", 10, 40).bias().slopes_H.tolist()
    ratios = dict(zip(slopes(heads), found, strict=True))
    shares = [ratios[slope] / slope for slope in sorted(ratios, reverse=True)]
    assert shares == pytest.approx([4 ** (-rank / (heads - 1)) for rank in range(heads)])


def test_interpolated_angles_are_those_of_x_transformers():
    q, k = torch.randn(2, 1, 2, 300, 16, dtype=torch.float64)
    theirs = RotaryEmbedding(16, interpolation_factor=3.0)
    theirs.inv_freq = 10000.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    turns, _ = theirs(torch.arange(300))
    expected = apply_rotary_pos_emb(q, turns) @ apply_rotary_pos_emb(k, turns).mT
    method = interpolated(position_method("rotary", 32, 2), "pi", 100, 300)
    at = torch.arange(300)
    torch.testing.assert_close(method.rotate(q, at) @ method.rotate(k, at).mT, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [2.0, 16.0])
@pytest.mark.parametrize(("head_width", "length"), [(4, 2), (32, 64), (32, 128), (64, 512), (128, 4096)])
def test_yarn_is_that_of_transformers(head_width, length, factor):
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": factor, "original_max_position_embeddings": length}
    shape = {"hidden_size": 2 * head_width, "num_attention_heads": 2, "max_position_embeddings": int(factor * length)}
    config = LlamaConfig(**shape, rope_parameters=rope)
    expected_K, magnitude = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
    found_K = yarn_frequencies(head_width, length, factor)
    torch.testing.assert_close(found_K, expected_K.double(), rtol=1e-5, atol=0)
    method = interpolated(position_method("rotary", 2 * head_width, 2), "yarn", length, int(factor * length))
    first, x = torch.zeros(1, dtype=torch.long), torch.randn(1, 2, 1, head_width)
    assert (method.rotate(x, first).norm() / x.norm()).item() == pytest.approx(magnitude)
    assert magnitude == pytest.approx(0.1 * math.log(factor) + 1)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_trained_model_is_read_with_it_and_stays_as_it_was(name, kind):
    torch.manual_seed(0)
    shape = {"vocabulary_size": 50, "layers": 2, "width": 32, "heads": 4, "feedforward": 64}
    model = Decoder(ModelConfig(name, **shape)).eval()
    tokens, trained = torch.randint(50, (1, 90)), model.positions
    before = model(tokens)
    assert interpolated(trained, kind, 30, 30) is trained is interpolated(trained, kind, 30, 7)
    model.positions = interpolated(trained, kind, 30, 90)
    after = model(tokens)
    assert after.isfinite().all() and not torch.allclose(after[:, 5:], before[:, 5:], atol=1e-3)
    model.load_state_dict(model.state_dict())
    assert torch.equal(model(tokens), after)
    model.positions = trained
    assert torch.equal(model(tokens), before)


def test_what_can_not_be_interpolated_is_refused():
    with pytest.raises(ValueError, match="'t5'; choose from alibi, rotary"):
        interpolated(position_method("t5", 32, 4), "pi", 10, 20)
    with pytest.raises(ValueError, match="'xpos'; choose from alibi, rotary"):
        interpolated(position_method("xpos", 32, 4), "pi", 10, 20)
    with pytest.raises(ValueError, match="interpolation of alibi 'yarn'; choose from pi, ntk"):
        interpolated(position_method("alibi", 32, 4), "yarn", 10, 20)
    with pytest.raises(ValueError, match="window=0"):
        interpolated(position_method("alibi", 32, 4), "pi", 10, 0)
    with pytest.raises(ValueError, match="train_length=0"):
        interpolated(position_method("alibi", 32, 4), "pi", 0, 20)
    twice = interpolated(position_method("rotary", 32, 4), "pi", 10, 20)
    with pytest.raises(ValueError, match="this rotary method is interpolated already"):
        interpolated(twice, "pi", 10, 20)
    with pytest.raises(ValueError, match="ntk needs two heads"):
        interpolated(position_method("alibi", 8, 1), "ntk", 10, 20)

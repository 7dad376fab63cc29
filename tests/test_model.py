"""The decoder: causal, the same with a cache, the same whatever its length, and the size that it states."""

import math

import pytest
import torch

from alibi.attention import causal_attention
from alibi.model import Decoder, KeyValueCache, ModelConfig
from alibi.positions import METHODS, position_method


@pytest.fixture(params=METHODS)
def model(request):
    torch.manual_seed(3)
    return Decoder(ModelConfig(request.param, vocabulary_size=50, layers=2, width=32, heads=4, feedforward=64)).eval()


def test_a_later_token_changes_no_earlier_output(model):
    tokens = torch.randint(50, (2, 40))
    changed = tokens.clone()
    changed[:, 25:] = (changed[:, 25:] + 7) % 50
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :25], after[:, :25])
    assert not torch.allclose(before[:, 25:], after[:, 25:])


@pytest.mark.parametrize("steps", [[40], [1] * 40, [7, 1, 20, 12], [39, 1]])
def test_cached_steps_equal_the_full_pass(model, steps):
    tokens, cache, start, outputs = torch.randint(50, (2, 40)), KeyValueCache(), 0, []
    for step in steps:
        outputs.append(model(tokens[:, start : start + step], cache))
        start += step
    assert cache.length == 40
    torch.testing.assert_close(torch.cat(outputs, dim=1), model(tokens), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["rotary", "t5", "alibi"])
def test_relative_methods_do_not_see_a_shift_of_all_positions(name):
    method, (q, k, v) = position_method(name, 32, 4), torch.randn(3, 1, 4, 12, 8)
    outputs = [
        causal_attention(method.bias(), at, at, "reference")(method.turn(q, at), method.turn(k, at), v)
        for at in (torch.arange(12), torch.arange(12) + 1000)
    ]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)


def test_length_is_not_baked_in(model):
    outputs = [model(torch.randint(50, (1, length))) for length in (1, 16, 300, 1100)]
    assert all(torch.isfinite(out).all() for out in outputs)


def test_loss_is_the_negative_log_likelihood(model):
    tokens = torch.randint(50, (2, 9))
    found = model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:])
    logits = model(tokens[:, :-1]) @ model.embedding.weight_VC.T
    expected = -logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    torch.testing.assert_close(found, expected)


def test_parameters_are_counted_as_the_formula_says():
    shape = {"vocabulary_size": 4096, "layers": 4, "width": 256, "heads": 8, "feedforward": 1024}
    counts = {name: Decoder(ModelConfig(name, **shape)).parameter_count() for name in METHODS}
    width, inner = 256, 1024
    layer = 4 * width * width + 4 * width + 2 * width * inner + width + inner + 4 * width
    assert counts["alibi"] == counts["sinusoidal"] == counts["rotary"] == 4096 * width + 4 * layer
    assert counts["t5"] == counts["alibi"] + 32 * 8


def test_methods_of_one_seed_share_every_other_weight():
    states = []
    for name in METHODS:
        torch.manual_seed(5)
        config = ModelConfig(name, vocabulary_size=20, layers=1, width=16, heads=2, feedforward=32)
        states.append({k: v for k, v in Decoder(config).state_dict().items() if not k.startswith("positions.")})
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[key], states[0][key]) for key in state)


def test_generation_continues_as_the_full_pass_would(model):
    prompt = torch.randint(50, (5,))
    found = model.generate(prompt, 30, temperature=0)
    assert found[:5].equal(prompt) and len(found) == 35
    for end in range(5, 35):
        logits = model.embedding.logits(model(found[None, :end])[0, -1])
        best, second = logits.topk(2).values
        assert found[end] == logits.argmax() or best - second < 1e-4
    samples = [model.generate(prompt, 20, 1.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert samples[0].equal(samples[1]) and not samples[0].equal(samples[2])
    with pytest.raises(ValueError, match="at least one token"):
        model.generate(prompt[:0], 3)


def test_embeddings_are_scaled_on_the_way_in():
    model = Decoder(ModelConfig("alibi", vocabulary_size=30, layers=1, width=64, heads=4, feedforward=64))
    tokens = torch.arange(30)[None]
    torch.testing.assert_close(model.embedding(tokens)[0], math.sqrt(64) * model.embedding.weight_VC)

"""The decoder: causal, the same with a cache, the same whatever its length, and the size that it states."""

import math
import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_attention import can

from alibi.attention import KERNELS, causal_attention
from alibi.errors import InputError
from alibi.model import Decoder, KeyValueCache, ModelConfig
from alibi.positions import METHODS, position_method

EMBEDDING = [name for name in METHODS if position_method(name, 8, 1, longest=1).embeddings(torch.arange(1)) is not None]


@pytest.fixture(params=METHODS)
def model(request):
    torch.manual_seed(3)
    shape = {"vocabulary_size": 50, "layers": 2, "width": 32, "heads": 4, "feedforward": 64}
    return Decoder(ModelConfig(request.param, **shape, longest=40)).eval()


def test_a_later_token_changes_no_earlier_output(model):
    tokens = torch.randint(50, (2, 40))
    changed = tokens.clone()
    changed[:, 25:] = (changed[:, 25:] + 7) % 50
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :25], after[:, :25])
    assert not torch.allclose(before[:, 25:], after[:, 25:])


KERNELS_WITHOUT_FLEX = [name for name in KERNELS if name not in ("flex", "window")]


def any_model(name, kernel):
    torch.manual_seed(3)
    shape = {"vocabulary_size": 50, "layers": 2, "width": 32, "heads": 4, "feedforward": 64}
    return Decoder(ModelConfig(name, **shape, longest=40), kernel).eval()


@given(data=st.data(), name=st.sampled_from(sorted(METHODS)), kernel=st.sampled_from(KERNELS_WITHOUT_FLEX))
@settings(max_examples=60)
def test_causality(data, name, kernel):
    assume(can(kernel, name))
    model = any_model(name, kernel)
    length = data.draw(st.integers(2, 40))
    place = data.draw(st.integers(1, length - 1))
    tokens = torch.randint(50, (1, length))
    changed = tokens.clone()
    changed[0, place:] = torch.randint(50, (length - place,))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[:, :place], model(changed)[:, :place], rtol=0, atol=1e-5)


@given(data=st.data(), name=st.sampled_from(sorted(METHODS)), kernel=st.sampled_from(KERNELS_WITHOUT_FLEX))
@settings(max_examples=60)
def test_cached_steps_equal_the_full_pass_for_any_split(data, name, kernel):
    assume(can(kernel, name))
    model = any_model(name, kernel)
    steps = data.draw(st.lists(st.integers(1, 13), min_size=1, max_size=8).filter(lambda drawn: sum(drawn) <= 40))
    tokens, cache, start, outputs = torch.randint(50, (2, sum(steps))), KeyValueCache(), 0, []
    with torch.no_grad():
        for step in steps:
            outputs.append(model(tokens[:, start : start + step], cache))
            start += step
        assert cache.length == sum(steps)
        torch.testing.assert_close(torch.cat(outputs, dim=1), model(tokens), rtol=0, atol=2e-5)


@given(st.integers(0, 100_000), st.sampled_from([name for name in METHODS if name not in (*EMBEDDING, "fire")]))
@settings(max_examples=40)
def test_relative_methods_do_not_see_a_shift_of_all_positions(shift, name):
    method, (q, k, v) = position_method(name, 32, 4, longest=5), torch.randn(3, 1, 4, 12, 8)

    def attended(at):
        placed = method.scale(method.rotate(q, at), method.rotate(k, at), at, at)
        return causal_attention(method.bias(), at, at, "reference")(*placed, v)

    torch.testing.assert_close(attended(torch.arange(12)), attended(torch.arange(12) + shift), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", EMBEDDING)
def test_absolute_methods_see_it(name):
    method = position_method(name, 32, 4, longest=40)
    assert not torch.allclose(method.embeddings(torch.arange(12)), method.embeddings(torch.arange(12) + 20), atol=1e-2)


def test_length_is_not_baked_in(model):
    lengths = (1, 16, 40) if model.positions.name == "learned" else (1, 16, 300, 1100)
    outputs = [model(torch.randint(50, (1, length))) for length in lengths]
    assert all(torch.isfinite(out).all() for out in outputs)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("alibi", "columns"), ("rotary", "sdpa"), ("t5", "automatic"), ("forgetting", "automatic"), ("xpos", "automatic")],
)
def test_a_model_is_exported_for_any_length(name, kernel):
    model, length = any_model(name, kernel), torch.export.Dim("T", min=2, max=400)
    given = (torch.randint(50, (2, 20)),)
    exported = torch.export.export(model, given, dynamic_shapes=({1: length},), strict=False).module()
    tokens = torch.randint(50, (2, 131))
    torch.testing.assert_close(exported(tokens), model(tokens), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("kernel", ["reference", "sdpa", "columns"])
def test_these_kernels_can_be_mapped(kernel):
    model, tokens = any_model("alibi", kernel), torch.randint(50, (3, 20))
    found = torch.func.vmap(lambda tokens_T: model(tokens_T[None])[0])(tokens)
    torch.testing.assert_close(found, model(tokens), rtol=0, atol=1e-6)


def test_a_model_in_16_bits_stays_in_16_bits(model):
    assert model.bfloat16()(torch.randint(50, (1, 9))).dtype == torch.bfloat16


@pytest.mark.parametrize("assign", [False, True])
def test_weights_loaded_into_a_model_made_on_meta_give_the_same_model(model, assign):
    with torch.device("meta"):
        other = Decoder(model.config)
    other = other.eval() if assign else other.to_empty(device="cpu").eval()
    random = torch.get_rng_state()
    other.load_state_dict(model.state_dict(), assign=assign)
    assert torch.equal(torch.get_rng_state(), random), "loading draws random numbers"
    tokens = torch.randint(50, (2, 9))
    torch.testing.assert_close(other(tokens), model(tokens), rtol=0, atol=0)


def test_a_gradient_through_a_cache_is_that_of_the_full_pass_with_activation_checkpointing():
    torch.manual_seed(5)
    shape = {"vocabulary_size": 50, "layers": 2, "width": 32, "heads": 4, "feedforward": 64}
    model, tokens = Decoder(ModelConfig("alibi", **shape), activation_checkpointing=True), torch.randint(50, (2, 9))
    cache, gradients = KeyValueCache(), []
    for out in (model(tokens), torch.cat([model(part, cache) for part in tokens.split([4, 5], dim=1)], dim=1)):
        gradients.append(torch.autograd.grad(out.square().sum(), model.layers[0].queries_keys_values.weight)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [[1, 0], [0, 3], [0, 0], [3], [1, 1, 3], []], ids=str)
def test_a_pass_without_a_token_or_without_sequences_is_refused(shape):
    model, tokens = any_model("alibi", "automatic"), torch.zeros(shape, dtype=torch.long)
    for run in (model, lambda tokens: model.negative_log_likelihood(tokens, tokens)):
        with pytest.raises(InputError, match=f"tokens of shape {re.escape(str(shape))}: a pass needs at least one"):
            run(tokens)


@pytest.mark.parametrize("shape", [[4, 10], [2, 19], [3, 20], [40]], ids=str)
def test_targets_of_another_shape_are_refused(shape):
    model, tokens = any_model("alibi", "automatic"), torch.zeros(2, 20, dtype=torch.long)
    told = re.escape(f"targets of shape {shape}: give one for each source, [2, 20]")
    with pytest.raises(InputError, match=told):
        model.negative_log_likelihood(tokens, torch.zeros(shape, dtype=torch.long))


def test_loss_is_the_negative_log_likelihood(model):
    tokens = torch.randint(50, (2, 9))
    found = model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:])
    logits = model(tokens[:, :-1]) @ model.embedding.weight_VC.T
    expected = -logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:], 2), found[:, 2:])
    for wrong in (-1, found.shape[1]):
        with pytest.raises(ValueError, match=f"context={wrong}: choose 0 to {found.shape[1] - 1}"):
            model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:], context=wrong)


def test_parameters_are_counted_as_the_formula_says():
    shape = {"vocabulary_size": 4096, "layers": 4, "width": 256, "heads": 8, "feedforward": 1024}
    counts = {name: Decoder(ModelConfig(name, **shape, longest=128)).parameter_count() for name in METHODS}
    width, inner = 256, 1024
    layer = 4 * width * width + 4 * width + 2 * width * inner + width + inner + 4 * width
    bare = 4096 * width + 4 * layer
    learned = {"t5": 32 * 8, "learned": 128 * width, "alibi-learned": 8, "kerple": 2 * 8, "fire": 2 * 32 + 32 * 8 + 2}
    learned["forgetting"] = 4 * (width + 1) * 8
    for name, count in counts.items():
        method = position_method(name, width, 8, longest=128)
        assert count == bare + sum(p.numel() for p in method.parameters()) + learned.get(name, 0) * (
            name == "forgetting"
        )
    assert {name: counts[name] - bare for name in learned} == learned
    assert counts["alibi"] == counts["sinusoidal"] == counts["rotary"] == counts["none"] == bare


def test_every_number_that_a_method_learns_has_a_gradient(model):
    tokens = torch.randint(50, (2, 40))
    model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:]).sum().backward()
    gates = [named for layer in model.layers if layer.gate is not None for named in layer.gate.named_parameters()]
    for name, p in [*model.positions.named_parameters(), *gates]:
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_methods_of_one_seed_share_every_other_weight():
    states = []
    for name in METHODS:
        torch.manual_seed(5)
        config = ModelConfig(name, vocabulary_size=20, layers=1, width=16, heads=2, feedforward=32, longest=8)
        state = Decoder(config).state_dict().items()
        states.append({k: v for k, v in state if not k.startswith("positions.") and ".gate." not in k})
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[key], states[0][key]) for key in state)


def test_generation_continues_as_the_full_pass_would(model):
    prompt = torch.randint(50, (5,))
    found = model.generate(prompt, 30, temperature=0)
    assert found[:5].equal(prompt) and len(found) == 35
    for end in range(5, 35):
        logits = model.embedding.log_probabilities(model(found[None, :end])[:, -1])[0]
        best, second = logits.topk(2).values
        assert found[end] == logits.argmax() or best - second < 1e-4
    samples = [model.generate(prompt, 20, 1.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert samples[0].equal(samples[1]) and not samples[0].equal(samples[2])
    # So cold that dividing by it leaves no finite number, and the most probable token is all that is left.
    for temperature in (1e-37, 1e-40, 1e-50, 5e-324):
        assert model.generate(prompt, 5, temperature, torch.Generator().manual_seed(0)).equal(found[:10])
    for wrong in (prompt[:0], prompt[None]):
        with pytest.raises(ValueError, match="at least one token"):
            model.generate(wrong, 3)
    with pytest.raises(ValueError, match=r"at least 0 new tokens \(got -1\)"):
        model.generate(prompt, -1)
    with pytest.raises(ValueError, match=r"temperature of at least 0 \(got nan\)"):
        model.generate(prompt, 1, math.nan)


def test_the_last_token_of_a_table_is_drawn_and_not_read():
    model = Decoder(ModelConfig("learned", 50, layers=1, width=16, heads=2, feedforward=16, longest=10))
    prompt = torch.randint(50, (5,))
    assert len(model.generate(prompt, 6)) == 11
    with pytest.raises(ValueError, match="position 10: the learned table ends at 9"):
        model.generate(prompt, 7)
    assert len(model.generate(torch.randint(50, (12,)), 0)) == 12


def test_other_positions_must_fit_the_model():
    model = Decoder(ModelConfig("none", 50, layers=1, width=32, heads=4, feedforward=16))
    for name, heads in (("alibi", 2), ("forgetting", 4)):
        with (
            pytest.raises(ValueError, match=rf"positions of {name} .* they must agree"),
            model.positions_by(position_method(name, 32, heads)),
        ):
            pass
    tokens = torch.randint(50, (1, 9))
    before = model(tokens)
    with model.positions_by(position_method("alibi", 32, 4)):
        assert not torch.allclose(model(tokens)[:, 1:], before[:, 1:])
    assert torch.equal(model(tokens), before)


def test_a_cache_of_another_model_or_batch_is_refused_and_stays_as_it_was():
    shape = {"width": 32, "heads": 4, "feedforward": 16}
    one, three = (Decoder(ModelConfig("alibi", 50, layers=layers, **shape)).eval() for layers in (1, 3))
    cache, tokens = KeyValueCache(), torch.randint(50, (2, 4))
    one(tokens, cache)
    with pytest.raises(ValueError, match="a cache of 1 layers and 2 sequences in a pass of 3 and 2"):
        three(tokens, cache)
    with pytest.raises(ValueError, match="in a pass of 1 and 1: begin with an empty one"):
        one(tokens[:1], cache)
    assert cache.length == 4 and len(cache.layers) == 1


def test_ids_may_be_of_32_bits_and_other_dtypes_are_refused():
    model = Decoder(ModelConfig("alibi", 50, layers=1, width=32, heads=4, feedforward=16, cutoffs=(20,)))
    tokens = torch.randint(50, (2, 9))
    found = model.negative_log_likelihood(tokens.int(), tokens.int())
    torch.testing.assert_close(found, model.negative_log_likelihood(tokens, tokens))
    for wrong in (tokens.float(), tokens.to(torch.uint8)):
        with pytest.raises(ValueError, match=r"ids are torch\.int64 or torch\.int32"):
            model(wrong)
        with pytest.raises(ValueError, match=r"ids are torch\.int64 or torch\.int32"):
            model.negative_log_likelihood(tokens, wrong)


def test_an_unknown_kernel_is_refused_when_the_model_is_made():
    with pytest.raises(ValueError, match="attention kernel 'flash'; choose from automatic, reference"):
        Decoder(ModelConfig("alibi", 50, layers=1, width=32, heads=4, feedforward=16), "flash")


def test_activation_checkpointing_keeps_the_inputs_of_layers_alone():
    kept = {}
    for checkpointing in (False, True):
        sizes = kept.setdefault(checkpointing, [])
        config = ModelConfig("alibi", 50, layers=3, width=16, heads=2, feedforward=64)
        model = Decoder(config, activation_checkpointing=checkpointing).train()
        with torch.autograd.graph.saved_tensors_hooks(lambda x, to=sizes: to.append(x.numel()) or x, lambda x: x):
            model(torch.randint(50, (1, 30)))
    # Among what the layers keep are the weights of attention and the activations inside the feedforward sublayer.
    assert kept[False].count(30 * 64) >= 3 and 30 * 64 not in kept[True]


def test_embeddings_are_scaled_on_the_way_in():
    model = Decoder(ModelConfig("alibi", vocabulary_size=30, layers=1, width=64, heads=4, feedforward=64))
    tokens = torch.arange(30)[None]
    torch.testing.assert_close(model.embedding(tokens)[0], math.sqrt(64) * model.embedding.weight_VC)


DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "softmax_dropout")


@pytest.mark.parametrize("name", DROPOUTS)
def test_each_dropout_acts_at_its_place_in_training_alone(name):
    torch.manual_seed(6)
    shape = {"vocabulary_size": 90, "layers": 2, "width": 32, "heads": 4, "feedforward": 64, "cutoffs": (30, 60)}
    model = Decoder(ModelConfig("alibi", **shape, **{name: 0.5}))
    tokens = torch.randint(90, (2, 21))
    seen = {}
    for place, module in {
        "embedding": model.embedding,
        "activation": model.layers[0].feedforward_out,
        "attention": model.layers[0].attention_output,
    }.items():
        module.register_forward_hook(lambda module, inputs, output, place=place: seen.update({place: (inputs, output)}))

    def passes(training):
        model.train(training)
        losses = model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:])
        return model(tokens[:, :-1]), losses, seen["activation"][0][0], seen["attention"][0][0]

    (hidden, losses, inner, attended), (again, losses_again, *_), (evaluated, *_) = (
        passes(True),
        passes(True),
        passes(False),
    )
    assert torch.equal(evaluated, passes(False)[0])
    assert not torch.allclose(losses, losses_again)
    assert torch.equal(hidden, again) == (name == "softmax_dropout")
    # After a ReLU about half is zero; dropout takes half of the rest.
    assert ((inner == 0).float().mean() > 0.65) == (name == "activation_dropout")
    if name == "attention_dropout":
        # The first token attends to itself alone: it is kept and doubled, or dropped, in each head.
        first = attended.view(2, 20, 4, 8)[:, 0].abs().sum(-1)
        assert set((first == 0).flatten().tolist()) == {True, False}


def test_weights_begin_as_in_fairseq():
    torch.manual_seed(7)
    shape = {"vocabulary_size": 20, "layers": 1, "width": 256, "heads": 4, "feedforward": 1024}
    layer = Decoder(ModelConfig("alibi", **shape)).layers[0]
    bounds = {
        layer.queries_keys_values.weight: math.sqrt(1.5 / 256),
        layer.queries_keys_values.bias: math.sqrt(1 / 256),
        layer.attention_output.weight: math.sqrt(3 / 256),
        layer.feedforward_in.weight: math.sqrt(1 / 256),
        layer.feedforward_in.bias: math.sqrt(1 / 256),
        layer.feedforward_out.weight: math.sqrt(1 / 1024),
        layer.feedforward_out.bias: math.sqrt(1 / 1024),
    }
    for parameter, bound in bounds.items():
        assert 0.97 * bound < parameter.abs().max() <= bound
    assert not layer.attention_output.bias.any()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"method": "rotary", "width": 12}, "rotary needs an even head width, not 3"),
        ({"method": "xpos", "width": 12}, "rotary needs an even head width, not 3"),
        ({"method": "sinusoidal", "width": 15, "heads": 3}, "width=15: a sinusoid needs an even width from 4 on"),
        ({"cutoffs": (10,), "band_factor": 0}, "band_factor=0: choose 1 or more"),
        ({"layers": 0}, "layers=0: choose 1 or more"),
        ({"width": 0}, "width=0: choose 1 or more"),
        ({"feedforward": -1}, "feedforward=-1: choose 1 or more"),
        ({"vocabulary_size": 0}, "vocabulary_size=0: choose 1 or more"),
        ({"dropout": 1.5}, "dropout=1.5: choose a probability from 0 to below 1"),
        ({"softmax_dropout": -0.1}, "softmax_dropout=-0.1: choose a probability from 0 to below 1"),
    ],
)
def test_impossible_shapes_are_refused_when_the_model_is_made(wrong, told):
    shape = {"method": "alibi", "vocabulary_size": 20, "layers": 1, "width": 16, "heads": 4, "feedforward": 8}
    with pytest.raises(ValueError, match=told):
        Decoder(ModelConfig(**shape | wrong))

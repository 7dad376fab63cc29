"""Variants of ALiBi: their formulas written out in loops, slopes that learn or are drawn, and kernels that refuse."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import config_for, period_corpus, resumed_after, steps_done
from test_attention import can
from test_later_methods import in_loops
from x_transformers.x_transformers import AlibiPositionalBias

from alibi.attention import KERNELS, causal_attention
from alibi.book.plots.looks import CHOSEN_LOOKS, LOOKS, SPARE_LOOKS
from alibi.model import Decoder, ModelConfig
from alibi.positions import METHODS, position_method, slopes
from alibi.train import Training, train
from alibi.weights import load_model

GROWTHS = {
    "alibi-quadratic": lambda d: d**2,
    "alibi-exponential": lambda d: (2 ** (d / 16) - 1) / (2 ** (1 / 16) - 1),
    "alibi-logarithmic": lambda d: math.log2(1 + d),
}
SHAPE = {"vocabulary_size": 50, "layers": 2, "width": 32, "heads": 4, "feedforward": 64}


@pytest.mark.parametrize("heads", [1, 3, 8])
@pytest.mark.parametrize("name", GROWTHS)
def test_growth_is_the_stated_function_of_the_distance(name, heads):
    keys = torch.arange(40) + 7
    queries = keys[25:]
    expected = in_loops(heads, queries, keys, lambda h, i, j: -slopes(heads)[h] * GROWTHS[name](i - j))
    found = position_method(name, 8 * heads, heads).bias().dense(queries, keys, torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", GROWTHS)
def test_growth_is_nothing_at_0_one_slope_at_1_and_never_falls(name):
    bias, at = position_method(name, 64, 8).bias(), torch.arange(4001)
    by_distance = -bias.dense(at[-1:], at)[:, 0].flip(-1)
    assert not by_distance[:, 0].any()
    torch.testing.assert_close(by_distance[:, 1], torch.tensor(slopes(8)), rtol=1e-6, atol=0)
    assert (by_distance[:, 1:] >= by_distance[:, :-1]).all() and not by_distance.isnan().any()


@pytest.mark.parametrize("kernel", ["reference", "baddbmm", "sdpa"])
def test_an_infinite_penalty_leaves_outputs_and_gradients_finite(kernel):
    bias, at = position_method("alibi-exponential", 8, 1).bias(), torch.arange(3000)
    assert bias.dense(at[-1:], at).isinf().any()
    q, k, v = (torch.randn(1, 1, n, 8).requires_grad_() for n in (2, 3000, 3000))
    causal_attention(bias, at[-2:], at, kernel)(q, k, v).sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("heads", [1, 4, 6])
def test_the_multiplied_bias_is_alibis_and_each_token_scores_nothing_with_itself(heads):
    at = torch.arange(20)
    factor = position_method("alibi-multiplied", 8 * heads, heads).bias().factor(at, at)
    assert torch.equal(factor, position_method("alibi", 8 * heads, heads).bias().dense(at, at))
    expected = in_loops(heads, at, at, lambda h, i, j: -slopes(heads)[h] * (i - j))
    torch.testing.assert_close(factor.double().tril(), expected, rtol=1e-6, atol=0)
    assert not factor.diagonal(dim1=1, dim2=2).any()


@pytest.mark.parametrize("kernel", ["baddbmm", "sdpa", "columns"])
def test_kernels_that_only_add_refuse_to_multiply(kernel):
    bias, at = position_method("alibi-multiplied", 32, 4).bias(), torch.arange(3)
    with pytest.raises(ValueError, match="MultipliedBias can't be"):
        causal_attention(bias, at, at, kernel)(*torch.randn(3, 1, 4, 3, 8))


@pytest.mark.parametrize(("heads", "unbiased"), [(1, 0), (2, 1), (5, 2), (8, 4), (16, 8)])
def test_half_of_the_heads_have_the_slopes_of_a_model_with_so_many(heads, unbiased):
    found = position_method("alibi-half", 8 * heads, heads).bias()
    assert found.slopes_H.tolist() == [0.0] * unbiased + slopes(heads - unbiased)
    theirs = AlibiPositionalBias(heads - unbiased, total_heads=heads)(30, 30)  # biased heads first
    ours = found.dense(torch.arange(30), torch.arange(30)).tril()
    torch.testing.assert_close(ours, theirs.roll(unbiased, 0).tril(), rtol=1e-5, atol=0)


# -- Slopes that learn ----------------------------------------------------------------------------------------------


def test_learned_slopes_begin_as_the_papers():
    method = position_method("alibi-learned", 64, 8)
    assert method.slopes_H.dtype == torch.float32 and method.slopes_H.tolist() == slopes(8)
    at = torch.arange(50)
    fixed = position_method("alibi", 64, 8).bias()
    assert torch.equal(method.bias().dense(at, at), fixed.dense(at, at))


@pytest.mark.parametrize("offset", [0, 1, 30])
@pytest.mark.parametrize("kernel", [name for name in KERNELS if name != "flex" and can(name, "alibi-learned")])
def test_the_gradient_of_a_slope_is_the_one_of_finite_differences(kernel, offset):
    torch.manual_seed(0)
    method, at = position_method("alibi-learned", 64, 4).double(), torch.arange(40)
    q, k, v, weights = (torch.randn(2, 4, n, 16).double() for n in (40 - offset, 40, 40, 40 - offset))

    def loss():
        attended = causal_attention(method.bias(), at[offset:], at, kernel, dtype=torch.float64)(q, k, v)
        return (attended * weights).sum()

    loss().backward()
    found = method.slopes_H.grad.clone()
    for head in range(4):
        values = []
        for change in (1e-6, -1e-6):
            with torch.no_grad():
                method.slopes_H[head] += change
                values.append(loss().item())
                method.slopes_H[head] -= change
        assert found[head].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kernel", ["baddbmm", "columns"])
def test_recomputed_layers_give_learned_slopes_the_same_gradient(kernel):
    gradients = []
    for recomputed in (False, True):
        torch.manual_seed(1)
        model = Decoder(ModelConfig("alibi-learned", **SHAPE), kernel, activation_checkpointing=recomputed)
        tokens = torch.randint(50, (2, 30))
        model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:]).sum().backward()
        gradients.append(model.positions.slopes_H.grad)
    assert gradients[0].abs().min() > 0
    torch.testing.assert_close(*gradients)


# -- Slopes that are drawn ------------------------------------------------------------------------------------------


def drawn(seed, heads=8):
    torch.manual_seed(seed)
    return position_method("alibi-random", 8 * heads, heads).slopes_H


def test_random_slopes_are_decided_by_the_seed():
    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))


def test_random_slopes_are_exponentially_distributed():
    ordered = drawn(3, 10_000).sort().values
    cumulative = 1 - torch.exp(-ordered)
    empirical = (torch.arange(10_000) + 0.5) / 10_000
    # Kolmogorov and Smirnov: a greater distance has a probability below one in a thousand.
    assert ordered[0] > 0 and (cumulative - empirical).abs().max() < 1.95 / 100


def test_random_slopes_are_saved_with_the_weights(tmp_path):
    saved, other = (Decoder(ModelConfig("alibi-random", **SHAPE)) for _ in range(2))
    assert not torch.equal(saved.positions.slopes_H, other.positions.slopes_H)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(saved.positions.slopes_H, other.positions.slopes_H)
    fixed = Decoder(ModelConfig("alibi", **SHAPE)).state_dict()
    assert other.state_dict().keys() - fixed.keys() == {"positions.slopes_H"}


# -- As methods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alibi-learned", "alibi-random"])
def test_a_run_keeps_its_slopes_through_checkpoint_and_folder(name, tmp_path):
    corpus = period_corpus()
    config = config_for(corpus, name)
    whole = Training(config, corpus)
    begun = whole.model.positions.slopes_H.detach().clone()
    steps_done(whole, config.steps)
    resumed = steps_done(resumed_after(config, corpus, 5), config.steps - 5)
    for tensor, other in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(tensor, other)
    train(config, corpus, tmp_path)
    found = load_model(tmp_path).positions.slopes_H
    assert torch.equal(found, whole.model.positions.slopes_H)
    assert torch.equal(found, begun) == (name == "alibi-random")


def test_every_method_has_a_look_of_its_own():
    assert LOOKS.keys() == METHODS.keys() >= CHOSEN_LOOKS.keys()
    looks = [*CHOSEN_LOOKS.values(), *SPARE_LOOKS]
    assert all(len(set(kind)) == len(looks) for kind in zip(*looks, strict=True))

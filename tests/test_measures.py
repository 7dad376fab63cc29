"""The measures of what a model reads, on models whose answer is known."""

import numpy as np
import pytest
import torch

from alibi.attention import causal_attention, gated
from alibi.corpora.corpus import Split
from alibi.evaluate import evaluate
from alibi.measures.attention_distance import attention_distance, bias_distance
from alibi.measures.receptive_field import receptive_field
from alibi.measures.repeats import last_occurrence, repeats
from alibi.measures.truncation import LastKeys, truncation
from alibi.model import Decoder, ModelConfig
from alibi.positions import METHODS, LinearBias, position_method
from alibi.windows import shift, spread_windows, windows_of_last_tokens

VOCABULARY = 40
ADDED = [name for name in METHODS if name not in ("learned", "alibi-multiplied")]


def decoder(method="alibi", layers=2, **changes):
    torch.manual_seed(0)
    return Decoder(ModelConfig(method, VOCABULARY, layers, width=32, heads=4, feedforward=64, **changes))


def split(tokens):
    return Split("valid", np.asarray(tokens, np.uint16), words=60, bytes=333, articles=1, sha256="")


def text(tokens=400):
    return split(np.random.default_rng(0).integers(0, VOCABULARY, tokens))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("method", ADDED)
def test_the_last_keys_of_any_bias_are_those_of_the_definition(method):
    queries, keys = torch.arange(3, 9), torch.arange(9)
    cut = LastKeys(position_method(method, 32, 4, longest=6).bias(), 4)
    q, k, v = (torch.randn(2, 4, n, 8, dtype=torch.float64) for n in (6, 9, 9))
    bias = cut.bias.dense(queries, keys, torch.float64)
    scores = q @ k.mT / 8**0.5 + (0 if bias is None else bias)
    for row, query in enumerate(queries):
        scores[:, :, row, (keys > query) | (keys <= query - 4)] = -torch.inf
    expected = scores.softmax(-1) @ v
    for kernel in ("reference", "sdpa", "baddbmm"):
        found = causal_attention(cut, queries, keys, kernel, dtype=torch.float64)(q, k, v)
        torch.testing.assert_close(found, expected)
    found = causal_attention(cut, queries, keys, "flex")(q.float(), k.float(), v.float())
    torch.testing.assert_close(found, expected.float())


@pytest.mark.parametrize("kernel", ["reference", "baddbmm", "sdpa"])
def test_all_keys_of_gates_in_16_bits_are_the_gates_themselves(kernel):
    # Sums of 600 log gates, which bfloat16 alone would round to two nats.
    at, bias = torch.arange(600), position_method("forgetting", 32, 4).bias()
    q, k, v = torch.randn(3, 1, 4, 600, 8).bfloat16()
    log_gates = torch.nn.functional.logsigmoid(torch.randn(1, 4, 600))
    both = (bias, LastKeys(bias, 600))
    whole, cut = (gated(causal_attention(one, at, at, kernel), q, k, v, log_gates) for one in both)
    torch.testing.assert_close(cut, whole, rtol=0, atol=2**-7)


def test_a_bias_that_multiplies_hides_no_keys():
    with pytest.raises(ValueError, match="keys can't be hidden"):
        truncation(decoder("alibi-multiplied"), text(), 3, 16, [8], last=4)
    with pytest.raises(ValueError, match="at least one key"):
        LastKeys(LinearBias(torch.ones(4)), 0)


# Both see nine keys at most.
@pytest.mark.parametrize(("method", "shape"), [("alibi", {"decay_window": 8 / 256}), ("window", {"longest": 36})])
@pytest.mark.parametrize("form", ["attention", "window"])
def test_a_model_that_is_blind_past_w_loses_nothing_there(form, method, shape):
    # Of the slopes 1/4 .. 1/256 the flattest sees 8 tokens before its own, so one layer reads 9 and two 17.
    for layers, reach in ((1, 9), (2, 17)):
        model = decoder(method, layers=layers, **shape)
        seen = [4, 8, 9, 12, 16, 17, 20]
        found = truncation(model, text(), 3, 32, seen, last=4, form=form)
        enough = 9 if form == "attention" else reach
        changes = {w: found.change(w)[0] for w in seen}
        assert all(abs(change) < 1e-6 for w, change in changes.items() if w >= enough)
        assert abs(changes[8]) > 1e-3 and (form == "attention" or layers == 1 or abs(changes[12]) > 1e-5)
        assert found.seen.tolist() == [*seen, 32] and found.tokens.sum() == 12 * 4


@pytest.mark.parametrize("method", ["alibi", "t5", "sinusoidal", "none", "forgetting"])
def test_the_whole_window_is_what_evaluate_measures_at_its_end(method):
    model, length = decoder(method), 20
    at_end = evaluate(model, text(), 3, length).nats_by_position[-6:].sum() / 120
    for form in ("attention", "window"):
        found = truncation(model, text(), 3, length, [5], last=6, form=form)
        assert found.losses[-1] == pytest.approx(at_end, rel=1e-6)
        assert found.change(20)[0] == 0
    # A window of 5 tokens for each scored one is the sliding evaluation with stride 1.
    sliding = sum(
        evaluate(
            model, split(text().tokens[max(0, end - 5) : end]), int(shift(text().tokens, 3)[end - 5]), 5
        ).nats_by_position[-1]
        for start in range(0, 400, 20)
        for end in range(start + 15, start + 21)
    )
    assert found.losses[0] == pytest.approx(sliding / 120, rel=1e-6)


def test_attention_is_whole_again_after_the_block():
    model, tokens = decoder(), torch.arange(20)[None]
    before = model(tokens)
    truncation(model, text(), 3, 16, [2], last=4)
    assert torch.equal(model(tokens), before)


def test_what_is_out_of_range_is_refused():
    for wrong in ({"seen": [0]}, {"seen": [17]}, {"last": 17}, {"last": 0}, {"stride": 0}):
        with pytest.raises(ValueError, match="choose 1 to the length of 16 tokens"):
            truncation(decoder(), text(), 3, 16, **({"seen": [8], "last": 4} | wrong))
    with pytest.raises(ValueError, match="unknown form of truncation 'keys'; choose from"):
        truncation(decoder(), text(), 3, 16, [8], 4, form="keys")
    with pytest.raises(ValueError, match="seen=7 was not measured; choose from 8, 16"):
        truncation(decoder(), text(), 3, 16, [8], 4).change(7)


def test_windows_are_spread_and_shortened_ones_lie_in_them():
    assert list(spread_windows(100, 8)) == list(range(0, 96, 8))
    assert list(spread_windows(100, 8, 5)) == [0, 16, 32, 48, 64, 80]
    with pytest.raises(ValueError, match="fewer than one window of 8"):
        spread_windows(7, 8)
    found = [(w.start, w.scored, w.end) for w in windows_of_last_tokens(100, 32, last=6, seen=8, stride=4)]
    assert found == [(122, 126, 130), (124, 130, 132)]
    assert [w.start for w in windows_of_last_tokens(100, 32, last=6, seen=30)] == [100, 100, 100, 100, 101, 102]
    (whole,) = windows_of_last_tokens(100, 32, last=6, seen=32)
    assert (whole.start, whole.scored, whole.end) == (100, 126, 132)


def with_equal_scores(method, **changes):
    """A decoder whose queries are zero, so that the bias alone decides its attention."""
    model = decoder(method, **changes)
    with torch.no_grad():
        for layer in model.layers:
            layer.queries_keys_values.weight[:32] = 0
            layer.queries_keys_values.bias[:32] = 0
    return model


def test_equal_scores_without_a_bias_reach_every_token_alike():
    found = attention_distance(with_equal_scores("none"), text(), 3, length=20, last=1)
    assert found.queries == 20 and found.weights.shape == (2, 4, 20)
    np.testing.assert_allclose(found.mean, np.full((2, 4), 19 / 2), rtol=1e-6)
    np.testing.assert_allclose(found.first, np.full((2, 4), 1 / 20), rtol=1e-6)
    assert (found.median == 9).all() or (found.median == 10).all()  # Half of the weight, within rounding.
    np.testing.assert_allclose(found.share_past(15), np.full((2, 4), 5 / 20), rtol=1e-6)
    # Of the last two queries one has 20 keys, the other 19.
    both = attention_distance(with_equal_scores("none"), text(), 3, length=20, last=2, windows=3)
    assert both.queries >= 6
    np.testing.assert_allclose(both.mean, np.full((2, 4), (19 / 2 + 18 / 2) / 2), rtol=1e-6)
    np.testing.assert_allclose(both.first, np.full((2, 4), (1 / 20 + 1 / 19) / 2), rtol=1e-6)


def test_errors_of_distance_and_gradient_are_over_windows():
    model, tokens = decoder(), text(100)
    five = [split(tokens.tokens[at : at + 20]) for at in range(0, 100, 20)]
    ends = [int(shift(tokens.tokens, 3)[at]) for at in range(0, 100, 20)]
    alone = [attention_distance(model, one, end, 20, 4) for one, end in zip(five, ends, strict=True)]
    found = attention_distance(model, tokens, 3, 20, 4, batch_tokens=40)
    means_KLH = np.stack([one.mean for one in alone])
    np.testing.assert_allclose(found.mean, means_KLH.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.mean_standard_error, means_KLH.std(0, ddof=1) / 5**0.5, rtol=1e-4)
    assert np.isnan(alone[0].mean_standard_error).all() and np.isnan(bias_distance(model, 8).mean_standard_error).all()
    alone = [receptive_field(model, one, end, 20) for one, end in zip(five, ends, strict=True)]
    found = receptive_field(model, tokens, 3, 20, batch_tokens=40)
    shares_KT = np.stack([one.cumulative for one in alone])
    np.testing.assert_allclose(found.cumulative_standard_error, shares_KT.std(0, ddof=1) / 5**0.5, rtol=1e-4, atol=1e-9)
    assert np.isnan(alone[0].cumulative_standard_error).all()


def test_a_linear_bias_alone_gives_geometric_weights():
    model = with_equal_scores("alibi")
    found = attention_distance(model, text(), 3, length=50, last=1)
    for head, slope in enumerate(2.0 ** -np.array([2, 4, 6, 8])):
        ratio = np.exp(-slope)
        weights = ratio ** np.arange(50) * (1 - ratio) / (1 - ratio**50)
        mean = ratio / (1 - ratio) - 50 * ratio**50 / (1 - ratio**50)
        past = (ratio**16 - ratio**50) / (1 - ratio**50)
        np.testing.assert_allclose(found.weights[:, head], [weights, weights], rtol=1e-5)
        np.testing.assert_allclose(found.mean[:, head], mean, rtol=1e-5)
        np.testing.assert_allclose(found.share_past(16)[:, head], past, rtol=1e-5)
        np.testing.assert_allclose(found.first[:, head], weights[-1], rtol=1e-5)
    # The same from the bias, and in a long window the mean of the whole series.
    np.testing.assert_allclose(bias_distance(model, 50).weights[0], found.weights[0], rtol=1e-5)
    assert bias_distance(model, 500).mean[0, 0] == pytest.approx(1 / np.expm1(1 / 4), rel=1e-5)
    assert bias_distance(decoder("none"), 8).first == pytest.approx(1 / 8)
    with pytest.raises(ValueError, match="length=0: choose at least one token"):
        bias_distance(model, 0)


@pytest.mark.parametrize("method", ["rotary", "t5", "alibi-multiplied", "alibi", "forgetting", "xpos"])
def test_recorded_weights_are_those_of_each_pass(method, monkeypatch):
    model, tokens = decoder(method), text(48)
    model.kernel = "reference"
    with torch.no_grad():  # Scores that differ enough for a mistake to show.
        for layer in model.layers:
            layer.queries_keys_values.weight *= 4
    weighed = []
    softmax = torch.Tensor.softmax

    def kept(scores, dim):
        weighed.append(softmax(scores, dim=dim))
        return weighed[-1]

    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(torch.Tensor, "softmax", kept)
        model(torch.from_numpy(shift(tokens.tokens, 3))[:48].view(3, 16))
    expected = torch.zeros(2, 4, 16, dtype=torch.float64)
    for layer, weights_BHTS in enumerate(weighed):
        for query in range(11, 16):
            for key in range(query + 1):
                expected[layer, :, query - key] += weights_BHTS[:, :, query, key].double().sum(0) / 15
    for scores_a_block in (2**25, 200):
        monkeypatch.setattr("alibi.measures.attention_distance.SCORES_A_BLOCK", scores_a_block)
        found = attention_distance(model, tokens, 3, length=16, last=5)
        np.testing.assert_allclose(found.weights, expected, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(found.weights.sum(-1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="last=17: choose 1 to the length of 16"):
        attention_distance(model, tokens, 3, length=16, last=17)


class CopiesFrom(torch.nn.Module):
    """A model that is sure that each token is the one at this distance before it, as far as its window goes.

    The loss is 0 where it is right, 1 where it is wrong, and 2 where its window does not reach.
    """

    device = torch.device("cpu")

    def __init__(self, distance):
        super().__init__()
        self.distance = distance

    def negative_log_likelihood(self, sources_BT, targets_BT, context=0):
        losses_BT = torch.full(sources_BT.shape, 2.0)
        reached = self.distance - 1
        copied_BT = sources_BT[:, : sources_BT.shape[1] - reached]
        losses_BT[:, reached:] = (copied_BT != targets_BT[:, reached:]).float()
        return losses_BT[:, context:]


def test_a_model_that_copies_from_nine_back_gains_where_windows_reach_nine():
    found = repeats(CopiesFrom(9), split(np.resize(np.arange(9), 200)), 30, [4, 8, 9, 32], last=8)
    # All tokens repeat what is nine before, the row of distances 8 to 15.
    assert found.distances == [(0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 32)]
    assert found.tokens.sum(axis=1).tolist() == [0, 0, 0, 0, 48, 0, 0]
    assert found.losses[:, 4].tolist() == [2, 2, 0, 0] and np.isnan(found.losses[:, 0]).all()
    assert found.change(9, 8, 4)[0] == -2


def test_repeats_are_counted_as_by_hand():
    tokens = [5, 6, 5, 7, 7, 6, 8, 5, 9, 9, 1, 2]
    # Windows of 6 with the token before each: [30 5 6 5 7 7 6] and [6 8 5 9 9 1 2], the last four of each.
    assert last_occurrence(np.array([30, *tokens[:6]])).tolist() == [0, 0, 0, 2, 0, 1, 4]
    found = repeats(CopiesFrom(1), split(tokens), 30, [2, 6], last=4, starts=np.array([0, 6]))
    assert found.distances == [(0, 0), (1, 1), (2, 3), (4, 6)]
    # Rows by article: of the first window 5 (2 back), 7 (first), 7 (1 back), 6 (4 back), of the second 9, 9, 1, 2.
    assert found.tokens.tolist() == [[1, 3], [1, 1], [1, 0], [1, 0]]
    assert found.losses.tolist() == [[1, 0, 1, 1], [1, 0, 1, 1]]
    # A model that copies from two back is right for the second 5 alone, in windows of 2 tokens and more.
    found = repeats(CopiesFrom(2), split(tokens), 30, [1, 2, 6], last=4, starts=np.array([0, 6]))
    assert found.losses.tolist() == [[2, 2, 2, 2], [1, 1, 0, 1], [1, 1, 0, 1]]


def test_repeats_add_up_to_the_loss_of_all_tokens():
    model = decoder()
    found = repeats(model, text(), 3, [4, 16], last=5, windows=10)
    assert found.tokens.sum() == 13 * 5 and (found.tokens[0] > 0).any()
    by_window = truncation(model, text(), 3, 16, [4], last=5, form="window", windows=10)
    np.testing.assert_allclose(found.nats.sum(axis=1), by_window.nats, rtol=1e-9)
    assert found.change(16, 16, 0)[0] == 0
    with pytest.raises(ValueError, match="length 8 was not measured; choose from 4, 16"):
        found.change(8, 16, 0)
    with pytest.raises(ValueError, match="row 9 has no tokens"):
        found.change(4, 16, 9)
    with pytest.raises(ValueError, match="choose 1 to the longest length"):
        repeats(model, text(), 3, [4, 16], last=17)


class Mean(torch.nn.Module):
    """One layer of uniform attention and nothing else: a linear loss of the mean of all embeddings so far."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, 8)

    def negative_log_likelihood(self, sources_BT, targets_BT, context=0):
        counts_T = torch.arange(1, sources_BT.shape[1] + 1)
        mean_BTC = self.embedding(sources_BT).cumsum(1) / counts_T[None, :, None]
        return mean_BTC.sum(-1)[:, context:]


def test_uniform_attention_has_every_token_alike_in_its_receptive_field():
    found = receptive_field(Mean(), text(), 3, 20, windows=5)
    assert found.windows >= 5
    np.testing.assert_allclose(found.shares, np.full(20, 1 / 20), rtol=1e-5)
    assert found.tokens() == 20 and found.tokens(0.52) == 11
    # In a decoder the last token also has its residual stream; equal tokens elsewhere have equal shares.
    shares = receptive_field(with_equal_scores("none", layers=1), split(np.full(81, 7)), 7, 20).shares
    assert shares[0] > 2 * shares[1] > 0
    np.testing.assert_allclose(shares[1:], shares[1], rtol=1e-4)


def test_the_receptive_field_is_as_wide_as_attention_and_layers_let_it_be():
    silent = decoder()
    for layer in silent.layers:
        torch.nn.init.zeros_(layer.attention_output.weight)
    assert receptive_field(silent, text(), 3, 20).shares.tolist() == [1.0] + [0.0] * 19
    # Nine tokens a layer.
    for layers, reach in ((1, 9), (2, 17)):
        shares = receptive_field(decoder(layers=layers, decay_window=8 / 256), text(), 3, 32).shares
        assert (shares[:reach] > 0).all() and not shares[reach:].any()


@pytest.mark.parametrize(("method", "changes"), [("sinusoidal", {}), ("t5", {}), ("rotary", {"cutoffs": (10, 20)})])
def test_the_gradient_is_what_a_small_change_of_an_embedding_does(method, changes):
    model, tokens = decoder(method, **changes).double(), text(12)
    found = receptive_field(model, tokens, 3, 6)
    stream = torch.from_numpy(shift(tokens.tokens, 3))
    shares = []
    for start in (0, 6):
        sources, target = stream[None, start : start + 6], stream[None, start + 1 : start + 7]
        with torch.no_grad():
            embedded = model.embedding(sources)
            slopes = torch.zeros_like(embedded)
            for place in np.ndindex(*embedded.shape):
                losses = []
                for step in (1e-5, -1e-5):
                    moved = embedded.clone()
                    moved[place] += step
                    hook = model.embedding.register_forward_hook(lambda *_, moved=moved: moved)
                    losses.append(model.negative_log_likelihood(sources, target, 5).item())
                    hook.remove()
                slopes[place] = (losses[0] - losses[1]) / 2e-5
        norms = slopes[0].norm(dim=-1)
        shares.append((norms / norms.sum()).flip(0))
    np.testing.assert_allclose(found.shares, torch.stack(shares).mean(0), rtol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_share_lies_between_0_and_1():
    with pytest.raises(ValueError, match="choose a number between 0 and 1"):
        receptive_field(Mean(), text(), 3, 20, windows=1).tokens(1.0)

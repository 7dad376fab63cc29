"""Evaluation: every token once, the same loss however windows are batched, and the units as defined."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from alibi import evaluate as evaluation
from alibi.corpora.corpus import Split
from alibi.evaluate import Evaluation, EvaluationError, against_itself, evaluate, standard_error
from alibi.model import Decoder, ModelConfig
from alibi.positions.sinusoidal import Sinusoidal
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.evaluations import records_by_position
from alibi.windows import evaluation_windows, shift


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Decoder(ModelConfig("alibi", vocabulary_size=40, layers=2, width=32, heads=4, feedforward=64))


def split(tokens):
    return Split("valid", tokens, words=60, bytes=333, articles=1, sha256="")


def test_nothing_is_dropped_whatever_mode_the_model_is_in(model, tokens):
    dropping = Decoder(replace(model.config, dropout=0.5, attention_dropout=0.5)).train()
    dropping.load_state_dict(model.state_dict())
    expected = evaluate(model, split(tokens), 3, 16)
    assert evaluate(dropping, split(tokens), 3, 16).nats == expected.nats


@pytest.fixture
def tokens():
    return np.random.default_rng(0).integers(0, 40, 101).astype(np.uint16)


@pytest.mark.parametrize(
    ("length", "stride"), [(16, None), (7, None), (16, 4), (16, 1), (12, 5), (200, None), (1, 1), (10**12, None)]
)
def test_loss_is_that_of_the_windows_run_one_at_a_time(model, tokens, length, stride):
    stream, expected = torch.from_numpy(shift(tokens, 3)), 0.0
    by_position = np.zeros(min(length, len(tokens)))
    for window in evaluation_windows(len(tokens), length, stride):
        taken = stream[None, window.start : window.end + 1]
        losses = model.negative_log_likelihood(taken[:, :-1], taken[:, 1:])[0].double()
        skip = window.scored - window.start
        expected += losses[skip:].sum().item()
        by_position[skip : len(losses)] += losses[skip:].detach().numpy()
    found = evaluate(model, split(tokens), 3, length, stride)
    assert found.nats == pytest.approx(expected, rel=1e-6)
    assert found.tokens_by_position.sum() == found.tokens == 101
    np.testing.assert_allclose(found.nats_by_position, by_position, rtol=1e-5)


def test_batches_change_nothing(model, tokens, monkeypatch):
    together = evaluate(model, split(tokens), 3, 8, 2).nats
    monkeypatch.setattr(evaluation, "BATCH_TOKENS", 1)
    assert evaluate(model, split(tokens), 3, 8, 2).nats == pytest.approx(together, rel=1e-7)


def test_units(model, tokens):
    found = evaluate(model, split(tokens), 3, 16)
    assert found.perplexity == pytest.approx(math.exp(found.nats / 101))
    assert found.word_perplexity == pytest.approx(math.exp(found.nats / 60))
    assert found.bits_per_byte == pytest.approx(found.nats / math.log(2) / 333)


def test_words_too_long_or_none_leave_the_other_units(model, tokens):
    found = evaluate(model, replace(split(tokens), words=0), 3, 16)
    assert math.isnan(found.word_perplexity) and found.remark.startswith("the text has no words")
    assert math.isfinite(found.perplexity) and math.isfinite(found.bits_per_byte)
    one = replace(found, nats=2000.0, words=1.0)
    assert one.word_perplexity == math.inf and one.perplexity == math.exp(2000 / 101)
    assert one.remark == "perplexity per word is more than a float holds, at 333 bytes a word"
    assert replace(one, tokens=1).perplexity == math.inf
    assert replace(one, words=60.0).remark == ""
    assert math.isnan(evaluate(model, replace(split(tokens), words=0, bytes=0), 3, 16).bits_per_byte)


def test_articles_that_do_not_begin_at_the_first_token_are_refused(model, tokens):
    for starts in ([5, 100], []):
        with pytest.raises(ValueError, match=r"starts=\[.*\]: the first article starts at token 0"):
            evaluate(model, split(tokens), 3, 16, starts=np.array(starts, dtype=int))


def test_a_uniform_model_has_the_vocabulary_size_as_perplexity(model, tokens):
    torch.nn.init.zeros_(model.embedding.weight_VC)
    assert evaluate(model, split(tokens), 3, 16, 8).perplexity == pytest.approx(40, rel=1e-6)


def test_a_prefix_scores_its_tokens_and_its_share_of_words(model, tokens):
    found = evaluate(model, split(tokens), 3, 16, prefix=50)
    alone = evaluate(model, split(tokens[:50]), 3, 16)
    assert found.nats == alone.nats and found.tokens == 50
    assert found.words == pytest.approx(60 * 50 / 101) and found.bytes == pytest.approx(333 * 50 / 101)


class BreaksOff(Sinusoidal):
    """Sinusoids whose queries are no numbers from position 16 on."""

    def scale(self, q_BHTD, k_BHSD, query_positions_T, key_positions_S):
        return torch.where((query_positions_T < 16)[:, None], q_BHTD, torch.nan), k_BHSD


@pytest.mark.parametrize("stride", [None, 4])
def test_a_loss_that_is_not_a_number_is_refused_and_never_left_out(tokens, stride):
    model = Decoder(ModelConfig("sinusoidal", vocabulary_size=40, layers=1, width=32, heads=4, feedforward=64))
    with model.positions_by(BreaksOff(32, 4)):
        assert evaluate(model, split(tokens), 3, 16, stride).tokens == 101
        with pytest.raises(EvaluationError, match=r"length 20: the loss of \d+ of 101 .* at position 17 of its window"):
            evaluate(model, split(tokens), 3, 20, stride)
        with pytest.raises(
            EvaluationError, match=r"windows of 32: .*; the first is token 17 of the text, at position 17"
        ):
            against_itself(model, split(tokens), 3, 16, 32, 4)


def test_nothing_to_evaluate_is_refused(model):
    with pytest.raises(ValueError, match="the split valid has no tokens"):
        evaluate(model, split(np.array([], np.uint16)), 3, 16)


def losses_of(model, tokens, windows):
    """The loss of each token by these windows, run one at a time."""
    stream, found = torch.from_numpy(shift(tokens, 3)), np.full(len(tokens), np.nan)
    for window in windows:
        taken = stream[None, window.start : window.end + 1]
        losses = model.negative_log_likelihood(taken[:, :-1], taken[:, 1:])[0].detach().numpy()
        found[window.scored : window.end] = losses[window.scored - window.start :]
    return found


@pytest.mark.parametrize("stride", [None, 4])
@pytest.mark.parametrize("sample", [None, 100])
def test_skipped_tokens_are_context_and_all_lengths_score_the_same_sample(model, stride, sample):
    tokens = np.random.default_rng(1).integers(0, 40, 760).astype(np.uint16)
    # Pieces of 64 tokens from 32 on, every fifth where a sample is taken: of 728 tokens 11 pieces, 2 wanted.
    scored = [t for t in range(32, 760) if sample is None or (t - 32) // 64 % 5 == 0]
    starts = np.array([0, 60, 100, 360, 380, 700])
    found = {n: evaluate(model, split(tokens), 3, n, stride, skip=32, sample=sample, starts=starts) for n in (8, 32)}
    for length, one in found.items():
        losses = losses_of(model, tokens, evaluation_windows(760, length, stride, 32))[scored]
        assert one.tokens == len(scored) and one.nats == pytest.approx(losses.sum(), rel=1e-6)
        article = np.searchsorted(starts, scored, side="right") - 1
        read = sorted(set(article))
        assert one.tokens_by_article.tolist() == [(article == a).sum() for a in read]
        np.testing.assert_allclose(one.nats_by_article, [losses[article == a].sum() for a in read], rtol=1e-5)
        np.testing.assert_allclose(one.squares_by_article, [(losses[article == a] ** 2).sum() for a in read], rtol=1e-5)
        assert one.words == pytest.approx(60 * len(scored) / 760)
        positions = np.flatnonzero(one.tokens_by_position)
        assert positions[0] == (0 if stride is None else length - stride)
    change, error = found[32].change_from(found[8])
    assert change == pytest.approx((found[32].nats - found[8].nats) / len(scored))
    assert 0 < error < found[32].loss_standard_error


def test_only_the_same_tokens_are_compared(model, tokens):
    with pytest.raises(ValueError, match="evaluations of the same tokens"):
        evaluate(model, split(tokens), 3, 8).change_from(evaluate(model, split(tokens), 3, 8, skip=8))


def test_the_standard_error_is_that_of_a_mean_over_articles():
    draw = np.random.default_rng(0)
    alike = draw.normal(5, 1, 50)
    assert standard_error(alike, np.ones(50)) == pytest.approx(alike.std(ddof=1) / 50**0.5)
    # As often as it says, where articles differ in length, share their level and are drawn again and again.
    means, errors = [], []
    for _ in range(2000):
        counts = draw.integers(20, 200, 40)
        sums = counts * (5 + draw.normal(0, 0.3, 40)) + draw.normal(0, 2, 40) * counts**0.5
        means.append(sums.sum() / counts.sum())
        errors.append(standard_error(sums, counts))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.05)
    # Articles that nothing was scored in don't count, and one alone has no error.
    assert standard_error(np.append(alike, 0), np.append(np.ones(50), 0)) == standard_error(alike, np.ones(50))
    assert math.isnan(standard_error(np.array([3.0]), np.array([7])))


def test_without_articles_blocks_stand_for_them(model):
    tokens = np.random.default_rng(2).integers(0, 40, 2500).astype(np.uint16)
    assert evaluate(model, split(tokens), 3, 64).tokens_by_article.tolist() == [1024, 1024, 452]


class LossIsPosition(torch.nn.Module):
    """A model whose loss is the number of tokens that it has read in the window, whatever they are."""

    device = torch.device("cpu")

    def negative_log_likelihood(self, sources_BT, targets_BT, context=0):
        places = torch.arange(1, sources_BT.shape[1] + 1, dtype=torch.float32)
        return places.expand(sources_BT.shape)[:, context:]


def test_against_itself_counts_what_a_long_window_adds():
    tokens = np.zeros(100, np.uint16)
    found = against_itself(LossIsPosition(), split(tokens), 3, length=8, window=32, stride=2)
    # Three whole windows of 32. Past 8 a shorter window has 7 tokens at odd positions and 8 at even ones.
    assert found.tokens.sum() == 96
    assert found.between(1, 8) == (0.0, pytest.approx(math.nan, nan_ok=True))
    assert found.between(9, 10)[0] == 2.0 and found.between(31, 32)[0] == 24.0
    assert found.between(9, 32)[0] == pytest.approx(np.mean([p - (8 if p % 2 == 0 else 7) for p in range(9, 33)]))


def test_against_itself_is_the_difference_of_windows_run_one_at_a_time(model):
    tokens = np.random.default_rng(3).integers(0, 40, 300).astype(np.uint16)
    starts = np.array([0, 70, 200])
    found = against_itself(model, split(tokens), 3, 8, 32, 4, starts=starts)
    stream, expected = torch.from_numpy(shift(tokens, 3)), np.zeros((9, 32))

    def loss(first, last):
        taken = stream[None, first : last + 1]
        return model.negative_log_likelihood(taken[:, :-1], taken[:, 1:])[0].detach().numpy()

    for window in range(9):
        long = loss(32 * window, 32 * window + 32)
        for p in range(8, 32):
            end = 32 * window + p // 4 * 4 + 4
            expected[window, p] = long[p] - loss(end - 8, end)[4 + p % 4]
    assert abs(found.between(1, 8)[0]) < 1e-6
    mean, error = found.between(9, 32)
    assert mean == pytest.approx(expected[:, 8:].mean(), abs=1e-6)
    article = np.searchsorted(starts, np.arange(288), side="right") - 1
    sums = np.bincount(article, expected.ravel())
    assert error == pytest.approx(standard_error(sums, found.tokens[2:].sum(axis=0)), rel=1e-4)
    assert found.tokens_between(9, 32) == 9 * 24


@pytest.mark.parametrize("method", ["sinusoidal", "alibi"])
def test_a_model_that_ignores_its_context_is_level_with_itself(method):
    model = Decoder(ModelConfig(method, vocabulary_size=40, layers=2, width=32, heads=4, feedforward=64))
    for layer in model.layers:
        torch.nn.init.zeros_(layer.attention_output.weight)
    if method == "sinusoidal":
        # Only the position remains, and beyond L it is one that a window of L does not have.
        torch.nn.init.normal_(model.embedding.weight_VC)
    tokens = np.random.default_rng(4).integers(0, 40, 300).astype(np.uint16)
    found = against_itself(model, split(tokens), 3, 16, 64, 4)
    assert abs(found.between(1, 16)[0]) < 1e-6
    assert (abs(found.between(17, 64)[0]) < 1e-6) == (method == "alibi")


@pytest.mark.parametrize("blind", [True, False])
def test_alibi_that_is_blind_past_the_shortest_context_is_level_with_itself(blind):
    # One layer, whose flattest head, slope 1 / 256, reads 24 tokens back: windows of 32 that slide by 4 have 28.
    shape = ModelConfig("alibi", vocabulary_size=40, layers=1, width=32, heads=4, feedforward=64)
    model = Decoder(replace(shape, decay_window=24 / 256) if blind else shape)
    torch.nn.init.normal_(model.layers[0].queries_keys_values.weight)
    tokens = np.random.default_rng(5).integers(0, 40, 600).astype(np.uint16)
    found = against_itself(model, split(tokens), 3, 32, 128, 4)
    largest = np.abs(found.nats).max() / found.tokens.max()
    assert (largest < 1e-5) == blind


@pytest.mark.parametrize(
    ("length", "window", "stride", "told"),
    [
        (16, 40, 4, "multiple of the next"),
        (16, 64, 3, "multiple of the next"),
        (16, 64, 0, "stride must lie"),
        (0, 64, 1, "at least 1 token"),
        (16, 128, 4, "fewer than one window of 128"),
    ],
)
def test_windows_that_cannot_be_compared_are_refused(model, tokens, length, window, stride, told):
    with pytest.raises(ValueError, match=told):
        against_itself(model, split(tokens), 3, length, window, stride)


def test_positions_of_a_comparison_are_whole_strides(model, tokens):
    found = against_itself(model, split(tokens), 3, 16, 64, 4)
    for first, last in ((2, 8), (1, 7), (61, 68), (9, 8)):
        with pytest.raises(ValueError, match=f"positions {first} to {last}: choose whole 4s of the 64 tokens"):
            found.between(first, last)


def test_a_sample_of_a_comparison_is_spread_over_the_text(model):
    tokens = np.random.default_rng(6).integers(0, 40, 640).astype(np.uint16)
    starts = np.arange(0, 640, 64)
    found = against_itself(model, split(tokens), 3, 16, 64, 4, sample=250, starts=starts)
    assert found.tokens.sum(axis=0).tolist() == [64, 0] * 4 + [64]


def test_the_loss_of_each_band_of_positions_is_of_its_tokens_alone():
    nats, tokens = np.arange(1.0, 11.0), np.array([1, 2, 3, 4, 5, 6, 7, 8, 0, 0])
    found = Evaluation(10, None, nats[:8].sum(), 36, 1, 1, nats, tokens)
    common = pd.DataFrame([{"eval_length": 10, "metric": "perplexity"}]).reindex(columns=MEASURED_COLUMNS)
    rows = records_by_position(common, found)
    # Of the last band, positions 9 and 10, no token is scored.
    for (low, high), row in zip([(1, 1), (2, 2), (3, 4), (5, 8)], rows.itertuples(), strict=True):
        assert (row.first_position, row.last_position, row.eval_length, row.metric) == (low, high, 10, "loss")
        assert row.tokens_scored == tokens[low - 1 : high].sum()
        assert row.value == pytest.approx(nats[low - 1 : high].sum() / row.tokens_scored)

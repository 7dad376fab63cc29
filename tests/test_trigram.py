"""The trigram with a cache against dictionaries that follow the papers' formulas, and as the control of a run."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from small_run import period_corpus

from alibi.errors import InputError
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction import control
from alibi.reproduction.control import ControlCell
from alibi.reproduction.evaluations import Measure
from alibi.reproduction.training_cell import TrainingCell
from alibi.reproduction.trigram import Trigram, best_weight, cache_probability, discounts, mixed_loss
from alibi.run_spec import RunSpec
from alibi.windows import TrainingOrder, scored_tokens, shift

VOCABULARY = 60


def zipf(tokens, seed=0):
    """A stream of which n-grams occur once, twice and often."""
    ids = np.random.default_rng(seed).zipf(1.3, tokens)
    return np.minimum(ids, VOCABULARY - 1).astype(np.uint16)


class Dictionaries:
    """Interpolated modified Kneser-Ney, an n-gram at a time: Chen and Goodman 1999, equations 24 to 26."""

    def __init__(self, stream, vocabulary):
        padded = [stream[0], *stream]
        trigrams = Counter(zip(padded, padded[1:], padded[2:], strict=False))
        bigrams = Counter(gram[1:] for gram in trigrams)
        self.counts = [Counter(gram[1:] for gram in bigrams), bigrams, trigrams]
        self.vocabulary = vocabulary
        self.of_context = [defaultdict(list) for _ in self.counts]
        for counts, of_context in zip(self.counts, self.of_context, strict=True):
            for gram, count in counts.items():
                of_context[gram[:-1]].append(count)

    def discount(self, order, count):
        n = Counter(self.counts[order].values())
        y = n[1] / (n[1] + 2 * n[2])
        return 0 if count == 0 else min(count, 3) - (min(count, 3) + 1) * y * n[min(count, 3) + 1] / n[min(count, 3)]

    def probability(self, gram):
        if not gram:
            return 1 / self.vocabulary
        order, counts = len(gram) - 1, self.of_context[len(gram) - 1][gram[:-1]]
        below = self.probability(gram[1:])
        if not counts:
            return below
        count, total = self.counts[order][gram], sum(counts)
        left = sum(self.discount(order, c) for c in counts) / total
        return max(count - self.discount(order, count), 0) / total + left * below


def test_equal_to_dictionaries():
    stream = shift(zipf(3000), 0)
    trigram, naive = Trigram(stream, VOCABULARY), Dictionaries(stream.tolist(), VOCABULARY)
    unseen = np.random.default_rng(1).integers(0, VOCABULARY, (500, 3))
    seen = np.lib.stride_tricks.sliding_window_view(stream, 3)[:500]
    for grams in (seen, unseen):
        expected = [naive.probability(tuple(gram)) for gram in grams.tolist()]
        np.testing.assert_allclose(trigram.probability(*grams.T), expected, rtol=1e-12)
    np.testing.assert_allclose(trigram.of_stream(stream)[1:501], trigram.probability(*seen.T), rtol=0)


@pytest.mark.parametrize("tokens", [5, 200, 20_000])
def test_probabilities_sum_to_one_whatever_came_before(tokens):
    trigram = Trigram(shift(zipf(tokens), 0), VOCABULARY)
    before = np.random.default_rng(2).integers(0, VOCABULARY, (2, 300, 1))
    found = trigram.probability(*before, np.arange(VOCABULARY))
    assert found.min() > 0
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_only_the_targets_are_counted():
    stream = shift(zipf(4000), 0)
    targets = np.arange(1, 2001)
    part, alone = Trigram(stream, VOCABULARY, targets), Trigram(stream[:2001], VOCABULARY)
    np.testing.assert_array_equal(part.of_stream(stream), alone.of_stream(stream))


def test_discounts_of_counts_of_counts():
    counts = np.repeat([1, 2, 3, 4, 9], [40, 20, 10, 5, 3])
    # Y = 40 / 80.
    np.testing.assert_allclose(discounts(counts), [0, 1 - 0.5, 2 - 3 * 0.5 * 10 / 20, 3 - 4 * 0.5 * 5 / 10])
    np.testing.assert_array_equal(discounts(np.array([1, 2])), [0, 0.5, 1, 1.5])
    # D_2 would be below 0, and contexts seen twice would leave the order below nothing.
    np.testing.assert_array_equal(discounts(np.array([1] * 10 + [2] + [3] * 10 + [4])), [0, 0.5, 1, 1.5])


def test_a_cache_is_the_share_among_the_words_before():
    tokens, windows = zipf(400), (1, 7, 64, 1000)
    found = cache_probability(tokens, windows)
    assert np.isnan(found[:, 0]).all()
    for row, window in zip(found, windows, strict=True):
        expected = [np.mean(tokens[max(0, i - window) : i] == tokens[i]) for i in range(1, len(tokens))]
        np.testing.assert_allclose(row[1:], expected, rtol=1e-12)


def test_the_weight_is_the_best_and_a_cache_of_text_that_repeats_helps():
    tokens = np.tile(zipf(300), 4)
    alone = Trigram(shift(zipf(5000, seed=3), 0), VOCABULARY).of_stream(shift(tokens, 0))
    (cache,) = cache_probability(tokens, (200,))
    weight = best_weight(alone, cache)
    losses = [mixed_loss(alone, cache, w).mean() for w in np.linspace(0, 0.99, 100)]
    assert mixed_loss(alone, cache, weight).mean() <= min(losses) + 1e-6
    assert min(losses) < mixed_loss(alone, cache, 0).mean() == pytest.approx(-np.log(alone).mean())


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="vocabulary of 4,000,000: a trigram takes at most 2,097,152 ids"):
        Trigram(np.zeros(9, np.int64), 4_000_000)
    with pytest.raises(InputError, match="needs tokens"):
        Trigram(np.zeros(1, np.int64), 5)


@pytest.fixture
def cell(monkeypatch):
    corpus = period_corpus(40_000)
    monkeypatch.setattr(control, "load", lambda *_: corpus)
    monkeypatch.setattr(TrainingCell, "outline", lambda self: corpus)
    spec = RunSpec(method="alibi", train_length=64, steps=5, seed=3)
    return ControlCell(
        TrainingCell(spec, measures=(Measure(64), Measure(96, 1, 512), Measure(96, 8, skip=96, sample=1024)))
    ), corpus


def test_the_control_counts_the_tokens_of_the_run(cell):
    found, corpus = cell
    config = found.run.config()
    order = TrainingOrder(corpus.splits["train"].tokens, 0, 64, config.batch_tokens // 64, 3)
    starts = {start for step in range(5) for start in order.where(step)[2]}
    assert found.targets(corpus).tolist() == sorted(start + i for start in starts for i in range(1, 65))
    assert len(found.targets(corpus)) == found.run.tokens


def test_the_control_is_recorded_once_and_apart_from_position_methods(cell):
    found, _ = cell
    records = found.records()
    assert list(records.columns) == MEASURED_COLUMNS and len(records) == found.measurements
    assert set(zip(records.protocol, records.method, strict=True)) == {
        ("trigram", "trigram"),
        ("cache", "trigram-cache"),
    }
    assert set(records[records.method == "trigram-cache"].eval_length) == {32, 64, 96, 128, 256, 512, 1024, 2048}
    assert set(records.prefix.dropna()) == {512} and set(records.skipped.dropna()) == {96}
    sampled = int(scored_tokens(40_000, 96, 1024).sum())
    assert set(records.tokens_scored) == {512, 40_000, sampled} and 1024 <= sampled < 2048
    known = [dict(zip(number, records[[*number]].iloc[0], strict=True)) for number in found.numbers()[:1]]
    assert [number["eval_length"] for number in known] == [2] and len(found.numbers()) == len(records)
    # After nine tokens the next is known.
    assert records[records.method == "trigram"].value.max() < 1.1
    assert records.seconds.isna().all(), "it is no training that a chapter would count"
    assert found.recorded(records) and not found.recorded(records[records.prefix.isna()])
    assert not found.recorded(records.assign(tokens_trained=1))

"""A trigram with a cache of recent words: the perplexity of reading two words, and then a bag of W words.

The trigram is interpolated modified Kneser-Ney (Chen and Goodman 1999, section 3); the cache is the distribution of
the last W tokens (Kuhn and De Mori 1990). It is trained on a run's tokens and scored on the same text: its curve over W
shows the nats that longer context offers, before any model is asked how many it gains. (KenLM estimates in a compiled
program beside its Python package, nltk.lm one n-gram at a time: neither counts a run's token ids in seconds.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alibi.errors import InputError

ORDER = 3
# Keys of three ids are packed in an int64.
LARGEST_VOCABULARY = 1 << 21
# Discounts of a text too small to tell them.
SMALL = np.array([0.0, 0.5, 1.0, 1.5])


def discounts(counts: np.ndarray) -> np.ndarray:
    """0, D_1, D_2 and D_3+: discounts for counts of 0, 1, 2 and more (Chen and Goodman 1999, equation 26).

    D_k = k - (k + 1) Y n_(k+1) / n_k and Y = n_1 / (n_1 + 2 n_2), where n_k n-grams have the count k. If a text is so
    small that one of n_1 to n_4 is 0, or that one of the three is not positive, they are 0.5, 1 and 1.5: otherwise some
    context would leave no weight to the order below.
    """
    n_1, n_2, n_3, n_4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not n_1 * n_2 * n_3 * n_4:
        return SMALL
    y = n_1 / (n_1 + 2 * n_2)
    raw = [1 - 2 * y * n_2 / n_1, 2 - 3 * y * n_3 / n_2, 3 - 4 * y * n_4 / n_3]
    return np.array([0.0, *raw]) if min(raw) > 0 else SMALL


@dataclass(frozen=True)
class Order:
    """The n-grams of one order: discounted counts by n-gram, and by context the weight left for the order below."""

    ngrams: np.ndarray
    """Packed, ascending, int64."""
    share: np.ndarray
    """(c - D(c)) / (sum of c over the context)."""
    contexts: np.ndarray
    """Packed n-grams without their last token, ascending, int64."""
    left: np.ndarray
    """Sum of D(c) / sum of c, the weight of the order below."""

    @classmethod
    def counted(cls, ngrams: np.ndarray, counts: np.ndarray, bits: int) -> "Order":
        """The order from ascending n-grams and their counts (below the highest order: their numbers of contexts)."""
        context = ngrams >> bits
        first = np.flatnonzero(np.diff(context, prepend=-1))
        discount = discounts(counts)[np.minimum(counts, 3)]
        total = np.add.reduceat(counts, first)
        share = (counts - discount) / np.repeat(total, np.diff(first, append=len(counts)))
        return cls(ngrams, share, context[first], np.add.reduceat(discount, first) / total)

    def probability(self, ngrams: np.ndarray, below: np.ndarray, bits: int) -> np.ndarray:
        """p(last token | context): the n-gram's share, plus the probability of the order below times its weight."""
        share = _looked_up(self.ngrams, self.share, ngrams, 0.0)
        return share + _looked_up(self.contexts, self.left, ngrams >> bits, 1.0) * below


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, missing: float) -> np.ndarray:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], missing)


class Trigram:
    """Interpolated modified Kneser-Ney of order 3, over a whole vocabulary.

    p(w | u v) = (c(u v w) - D) / c(u v) + left(u v) p(w | v), where p(w | v) and p(w) come in the same way from the
    number of words before v w and w, and the lowest order is 1 / vocabulary. It sums to 1 over the vocabulary. For 15.8
    million tokens of Wikipedia it takes 6 s on a core and at most 1 GB, and keeps 0.3 GB (8.7 million trigrams).

    Args:
        stream: token ids in reading order, with the end-of-line token in front (`alibi.windows.shift`).
        vocabulary: number of ids.
        targets: places in the stream, from 1, of the training tokens; None takes all. The two tokens before each come
            from the stream.

    Raises:
        InputError: for a vocabulary that is too large, or without targets.
    """

    def __init__(self, stream: np.ndarray, vocabulary: int, targets: np.ndarray | None = None) -> None:
        if vocabulary > LARGEST_VOCABULARY:
            raise InputError(f"vocabulary of {vocabulary:,}: a trigram takes at most {LARGEST_VOCABULARY:,} ids")
        targets = np.arange(1, len(stream)) if targets is None else targets
        if not len(targets):
            raise InputError("a trigram needs tokens to be trained on, and there are none")
        self.vocabulary, self.bits = vocabulary, max(1, (vocabulary - 1).bit_length())
        self.end_of_line = int(stream[0])
        orders = []
        ngrams, counts = np.unique(self._packed(stream, targets), return_counts=True)
        for order in range(ORDER, 0, -1):
            orders.append(Order.counted(ngrams, counts, self.bits))
            ngrams, counts = np.unique(ngrams & ((1 << self.bits * (order - 1)) - 1), return_counts=True)
        self.orders: tuple[Order, ...] = tuple(orders[::-1])

    def _packed(self, stream: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The trigrams that end at these places, with an end of line before the stream."""
        stream = stream.astype(np.int64, copy=False)
        two_before = np.where(targets >= 2, stream[targets - 2], self.end_of_line)
        return (((two_before << self.bits) | stream[targets - 1]) << self.bits) | stream[targets]

    def probability(self, first: Any, second: Any, token: Any) -> np.ndarray:
        """p(token | first second), float64, for ids or arrays of ids that broadcast together."""
        first, second, token = (np.asarray(ids, dtype=np.int64) for ids in (first, second, token))
        return self._probability((((first << self.bits) | second) << self.bits) | token)

    def _probability(self, trigrams: np.ndarray) -> np.ndarray:
        found = np.full(trigrams.shape, 1 / self.vocabulary)
        for order, of_order in enumerate(self.orders, start=1):
            found = of_order.probability(trigrams & ((1 << self.bits * order) - 1), found, self.bits)
        return found

    def of_stream(self, stream: np.ndarray) -> np.ndarray:
        """Probability of each token of a stream after the end of line in front, float64 [tokens]."""
        return self._probability(self._packed(stream, np.arange(1, len(stream))))


def cache_probability(tokens: np.ndarray, windows: Sequence[int]) -> np.ndarray:
    """The share of each token among the W tokens before it (fewer at the start), [windows, tokens].

    The first token has no token before it: nan.
    """
    place = np.arange(len(tokens))
    order = np.lexsort((place, tokens))
    # By token, then by place, so that a token's occurrences within W lie side by side.
    keys = (tokens.astype(np.int64) * (len(tokens) + 1) + place)[order]
    rank = np.empty(len(tokens), np.int64)
    rank[order] = place
    found = np.empty((len(windows), len(tokens)))
    for row, window in zip(found, windows, strict=True):
        oldest = tokens.astype(np.int64) * (len(tokens) + 1) + np.maximum(place - window, 0)
        with np.errstate(invalid="ignore"):
            row[:] = (rank - np.searchsorted(keys, oldest)) / np.minimum(place, window)
    return found


def mixed_loss(trigram: np.ndarray, cache: np.ndarray, weight: float) -> np.ndarray:
    """-ln((1 - weight) p_trigram + weight p_cache) of each token, nats; the trigram's own if the cache is empty."""
    return -np.log(np.where(np.isnan(cache), trigram, (1 - weight) * trigram + weight * np.nan_to_num(cache)))


def best_weight(trigram: np.ndarray, cache: np.ndarray) -> float:
    """The weight of the cache with the lowest loss on these tokens, to within 0.001; the loss is convex in it."""
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    found = minimize_scalar(
        lambda weight: mixed_loss(trigram, cache, weight).mean(), bounds=(0, 0.999), method="bounded",
        options={"xatol": 1e-3},
    )  # fmt: skip
    return float(found.x)

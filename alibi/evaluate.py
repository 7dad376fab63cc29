"""Evaluation: nonoverlapping and sliding window, perplexity per token and per word, loss by position and article."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch

from alibi import processes
from alibi.corpora.corpus import Split
from alibi.device import float64_device
from alibi.errors import InputError, UserError, quoted
from alibi.model import Decoder
from alibi.progress import bar as progress_bar
from alibi.windows import (
    Window,
    check_whole,
    check_window,
    evaluation_windows,
    scored_tokens,
    shift,
    spread_windows,
    windows_in_windows,
)

# Count this up when a change of the code moves measurements by more than rounding: cached evaluations are then made
# again.
PROTOCOL = 1
# Tokens run at once.
BATCH_TOKENS = 8192
# Tokens in a block, which stands for an article where the text marks none.
BLOCK = 1024
# The dtype in which a model with float32 weights is evaluated, whatever the dtype of its training.
EVALUATION_DTYPE = "float32"


class EvaluationError(UserError, RuntimeError):
    """A model whose loss can't be measured."""


def _none() -> np.ndarray:
    return np.zeros(0)


def standard_error(nats_A: np.ndarray, tokens_A: np.ndarray) -> float:
    r"""Standard error of a mean loss over tokens, as a ratio of two sums over articles, by which the loss varies.

    With sums $x_a$ over the $n_a$ tokens of each of $A$ articles, and the mean $r = \sum x_a / \sum n_a$, it is
    $\sqrt{A / (A - 1) \sum (x_a - r n_a)^2} / \sum n_a$ (Cochran, *Sampling Techniques*, section 6.4): tokens of one
    article are alike, and articles are taken as independent.

    Args:
        nats_A: sum over the tokens of each article.
        tokens_A: number of tokens of each article; articles without tokens don't count.

    Returns:
        In the unit of the sums; not a number for fewer than two articles.
    """
    there = tokens_A > 0
    sums, counts = nats_A[there], tokens_A[there]
    if len(sums) < 2:
        return math.nan
    residuals = sums - counts * sums.sum() / counts.sum()
    return math.sqrt(len(sums) / (len(sums) - 1) * float(residuals @ residuals)) / float(counts.sum())


@dataclass(frozen=True)
class Evaluation:
    """The loss of a model over a split, or over a sample of its tokens, each scored once."""

    length: int
    """Tokens in a window, L_valid."""
    stride: int | None
    """New tokens a window of the sliding-window evaluation; None for nonoverlapping."""
    nats: float
    """Sum of -ln p over the tokens."""
    tokens: int
    words: float
    bytes: float
    nats_by_position: np.ndarray
    """Sum of -ln p of the tokens scored at each position of the window, [length], or of a text that is shorter."""
    tokens_by_position: np.ndarray
    """Tokens scored at each position, [length]."""
    nats_by_article: np.ndarray = field(default_factory=_none)
    """Sum of -ln p in each article that has scored tokens, in text order; empty in older evaluations."""
    squares_by_article: np.ndarray = field(default_factory=_none)
    """Sum of (-ln p)^2 (nats^2) in each of these articles."""
    tokens_by_article: np.ndarray = field(default_factory=_none)
    """Tokens scored in each of these articles."""

    @property
    def perplexity(self) -> float:
        """exp of the mean loss of a token, which depends on the vocabulary."""
        return _exp(self.nats / self.tokens)

    @property
    def loss_standard_error(self) -> float:
        """Standard error (nats) of the mean loss of a token over articles, see `standard_error`."""
        return standard_error(self.nats_by_article, self.tokens_by_article)

    def change_from(self, other: "Evaluation") -> tuple[float, float]:
        """Mean loss minus another evaluation's loss on the same tokens, and the standard error of this difference.

        The difference is taken token by token, so difficulty of the text that both share cancels.

        Raises:
            InputError: if the numbers of scored tokens differ in an article. Texts with equal numbers are not told
                apart.
        """
        if not np.array_equal(self.tokens_by_article, other.tokens_by_article):
            raise InputError("these evaluations scored different tokens: compare evaluations of the same tokens")
        difference_A = self.nats_by_article - other.nats_by_article
        return (self.nats - other.nats) / self.tokens, standard_error(difference_A, self.tokens_by_article)

    @property
    def word_perplexity(self) -> float:
        """exp of the loss for each white-space separated word, which can be compared across vocabularies.

        Infinite if a float can't hold it, as in a script without spaces, whose words are whole lines; not a number for
        a text without words.
        """
        return _exp(self.nats / self.words) if self.words else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Loss in bits for each byte of UTF-8 text; not a number for tokens without a text, of 0 bytes."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan

    @property
    def remark(self) -> str:
        """The reason why the perplexity per word is missing or infinite; empty if it is finite."""
        if not self.words:
            return "the text has no words, so there is no perplexity per word"
        if math.isinf(self.word_perplexity):
            return f"perplexity per word is more than a float holds, at {self.bytes / self.words:,.0f} bytes a word"
        return ""


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def _batches(windows: Iterable[Window], batch_tokens: int) -> Iterator[list[Window]]:
    def shape(window: Window) -> tuple[int, int]:
        return window.end - window.start, window.scored - window.start

    for (length, _), same in groupby(sorted(windows, key=shape), key=shape):
        together = list(same)
        size = max(1, batch_tokens // length)
        yield from (together[i : i + size] for i in range(0, len(together), size))


@torch.no_grad()
def token_losses(
    model: Decoder,
    tokens: np.ndarray,
    end_of_line: int,
    windows: list[Window],
    what: str,
    batch_tokens: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """-ln p of each token (float64; not a number if no window scores it) and its position in its window (from 0).

    Several processes share the batches of windows. Each gets every loss and sums in the order of tokens, so that no
    digit depends on the number of processes. If a model is spread over the processes, each computes all windows.

    Raises:
        EvaluationError: if the loss of a scored token is not a number; the message names the token and its position.
    """
    stream = torch.from_numpy(shift(tokens, end_of_line)).to(model.device)
    sums = float64_device(model.device)
    losses_N = torch.zeros(len(tokens), dtype=torch.float64, device=sums)
    positions_N, scored_N = np.zeros(len(tokens), np.int64), np.zeros(len(tokens), bool)
    sharers = 1 if processes.is_sharded(model) else processes.count()
    model.eval()
    total = sum(window.end - window.scored for window in windows)
    with progress_bar(total=total, unit=" tokens", unit_scale=True, desc=what, leave=False, delay=1) as bar:
        for number, batch in enumerate(_batches(windows, batch_tokens or BATCH_TOKENS)):
            context, end = batch[0].scored - batch[0].start, batch[0].end - batch[0].start
            starts_B = np.array([window.start for window in batch])
            places_BT = starts_B[:, None] + np.arange(end + 1)
            scored_BT = places_BT[:, context:end]
            positions_N[scored_BT], scored_N[scored_BT] = np.arange(context, end), True
            bar.update(scored_BT.size)
            if sharers > 1 and number % sharers != processes.rank():
                continue
            taken = stream[torch.from_numpy(places_BT).to(model.device)]
            losses_BT = model.negative_log_likelihood(taken[:, :-1], taken[:, 1:], context)
            losses_N[torch.from_numpy(scored_BT).to(sums)] = losses_BT.to(sums).double()
    found_N = (processes.total(losses_N) if sharers > 1 else losses_N).cpu().numpy()
    if (broken := np.flatnonzero(np.isnan(found_N))).size:
        raise EvaluationError(
            f"{what}: the loss of {broken.size:,} of {scored_N.sum():,} scored tokens is not a number; the first is "
            f"token {broken[0] + 1:,} of the text, at position {positions_N[broken[0]] + 1:,} of its window"
        )
    found_N[~scored_N] = math.nan
    return found_N, positions_N


def article_numbers(tokens: int, starts: np.ndarray | None) -> np.ndarray:
    """Number of each token's article, [tokens]; of its block if articles are not known.

    Raises:
        InputError: if the first article does not start at token 0.
    """
    starts = np.arange(0, tokens, BLOCK) if starts is None else starts
    if tokens and (not len(starts) or starts[0] != 0):
        raise InputError(f"starts={quoted(list(starts[:3]))}: the first article starts at token 0")
    return np.searchsorted(starts, np.arange(tokens), side="right") - 1


def _first(split: Split, prefix: int | None) -> np.ndarray:
    """The first tokens of a split, or all of them.

    Raises:
        InputError: if none are asked for.
    """
    if prefix is not None and prefix < 1:
        raise InputError(f"prefix={prefix}: choose at least 1 token, or None for the whole split")
    return np.asarray(split.tokens[:prefix])


def evaluate(
    model: Decoder,
    split: Split,
    end_of_line: int,
    length: int,
    stride: int | None = None,
    prefix: int | None = None,
    batch_tokens: int | None = None,
    skip: int = 0,
    sample: int | None = None,
    starts: np.ndarray | None = None,
) -> Evaluation:
    """Scores tokens of a split once each, by the model's dtype, each loss in float32 or wider, summed in float64.

    If the device has no float64, the CPU sums.

    Args:
        model: a trained decoder; it is put into evaluation mode.
        split: the text.
        end_of_line: id of the end-of-line token, the source of the first target.
        length: tokens in a window at most, which need not be the training length.
        stride: new tokens a window; None for nonoverlapping windows.
        prefix: number of tokens to read from the split's start; None reads all. Words and bytes are counted for the
            whole split and multiplied by the scored share of its tokens.
        batch_tokens: tokens run at once, at least one window; None takes `BATCH_TOKENS`. It changes only the speed.
        skip: tokens at the start that are only context. If it is the longest window of a comparison, every sliding
            window is full, and all lengths and both protocols score the same tokens.
        sample: least number of tokens to score, spread evenly, see `alibi.windows.scored_tokens`; None scores all.
        starts: first token of each article, the first one 0; None takes blocks of `BLOCK` tokens for articles.

    Raises:
        InputError: if the split is empty, length, stride, prefix, skip or sample is out of range, or the first article
            does not start at token 0.
        EvaluationError: if the loss of a scored token is not a number.
    """
    check_whole(prefix=prefix, skip=skip, sample=sample)
    tokens = _first(split, prefix)
    if not len(tokens):
        raise InputError(f"the split {split.name} has no tokens to evaluate")
    counted = scored_tokens(len(tokens), skip, sample)
    grid = evaluation_windows(len(tokens), length, stride, skip)
    windows = [window for window in grid if counted[window.scored : window.end].any()]
    losses_N, positions_N = token_losses(model, tokens, end_of_line, windows, f"length {length}", batch_tokens)
    losses, positions, articles = losses_N[counted], positions_N[counted], article_numbers(len(tokens), starts)[counted]
    places = min(length, len(tokens))
    nats_by_position = np.bincount(positions, losses, places)
    tokens_by_article = np.bincount(articles)
    read = tokens_by_article > 0
    share = len(losses) / len(split.tokens)
    return Evaluation(
        length=length,
        stride=stride,
        nats=float(nats_by_position.sum()),
        tokens=len(losses),
        words=split.words * share,
        bytes=split.bytes * share,
        nats_by_position=nats_by_position,
        tokens_by_position=np.bincount(positions, minlength=places),
        nats_by_article=np.bincount(articles, losses)[read],
        squares_by_article=np.bincount(articles, losses**2)[read],
        tokens_by_article=tokens_by_article[read],
    )


@dataclass(frozen=True)
class AgainstItself:
    r"""The cost of a longer window: each token's loss in it minus the token's loss in a window of at most L.

    $$d(p) = \frac{1}{K} \sum_{k=1}^{K} \big( \ell_k(p \mid 1, \ldots, p - 1) -
    \ell_k(p \mid p - c, \ldots, p - 1) \big)$$

    Over $K$ windows, $\ell_k(p | \cdot)$ is $-\ln$ of the probability of the token at position $p$ of window $k$, given
    the tokens at these positions and the one that the window starts from. The longer window gives them all. The shorter
    windows lie in it. The first has its positions 1 to L, so there $d$ is 0 up to rounding. Each later one scores
    `stride` tokens: the first sees L - stride + 1 tokens of window, the last sees L.

    $d$ needs no second model, and the difficulty of the text cancels. It is positive where the model fails to read past
    L, negative where it gains from farther context, and 0 where it does neither.
    """

    length: int
    """Most tokens in a shorter window, L."""
    window: int
    """Tokens in a longer window."""
    stride: int
    """New tokens that each of the shorter windows brings."""
    nats: np.ndarray
    """Sum of the differences in each article, [window / stride, articles]: a row for `stride` positions."""
    tokens: np.ndarray
    """Number of tokens in each of these sums."""

    def between(self, first: int, last: int) -> tuple[float, float]:
        """Mean difference (nats) over the positions `first` to `last` (from 1), and its standard error over articles.

        Raises:
            InputError: if these positions are not whole strides of the window.
        """
        rows = self._rows(first, last)
        nats_A, tokens_A = self.nats[rows].sum(axis=0), self.tokens[rows].sum(axis=0)
        return float(nats_A.sum() / tokens_A.sum()), standard_error(nats_A, tokens_A)

    def tokens_between(self, first: int, last: int) -> int:
        """Number of tokens at these positions; raises the errors of `between`."""
        return int(self.tokens[self._rows(first, last)].sum())

    def _rows(self, first: int, last: int) -> slice:
        if (first - 1) % self.stride or last % self.stride or not 0 < first <= last <= self.window:
            raise InputError(f"positions {first} to {last}: choose whole {self.stride}s of the {self.window} tokens")
        return slice((first - 1) // self.stride, last // self.stride)


def against_itself(
    model: Decoder,
    split: Split,
    end_of_line: int,
    length: int,
    window: int,
    stride: int,
    sample: int | None = None,
    prefix: int | None = None,
    starts: np.ndarray | None = None,
) -> AgainstItself:
    """Compares a model's loss in long windows with its own loss on the same tokens in shorter ones.

    The long windows are consecutive full blocks of the split.

    Args:
        model: a trained decoder; it is put into evaluation mode.
        split: the text.
        end_of_line: id of the end-of-line token.
        length: tokens in a shorter window at most, L; a divisor of `window`.
        window: tokens in a longer window.
        stride: new tokens that each of the shorter windows brings; a divisor of `length`.
        sample: least number of tokens, in long windows that are spread evenly over the text; None takes all.
        prefix: number of tokens to read from the split's start; None reads all.
        starts: first token of each article, the first one 0; None takes blocks of `BLOCK` tokens for articles.

    Raises:
        InputError: if the split does not fill one long window, these lengths don't divide each other, or prefix is out
            of range.
        EvaluationError: if the loss of a scored token is not a number.
    """
    check_window(length, stride)
    check_whole(window=window, prefix=prefix, sample=sample)
    if window % length or length % stride:
        raise InputError(f"window={window}, length={length}, stride={stride}: each must be a multiple of the next")
    tokens = _first(split, prefix)
    places = spread_windows(len(tokens), window, None if sample is None else math.ceil(sample / window))
    whole = [Window(place, place, place + window) for place in places]
    parts = [part for place in places for part in windows_in_windows(place, length, window, stride)]
    longer, positions = token_losses(model, tokens, end_of_line, whole, f"windows of {window}")
    shorter, _ = token_losses(model, tokens, end_of_line, parts, f"windows of {length}")
    counted = ~np.isnan(longer)
    articles = article_numbers(len(tokens), starts)[counted]
    cells = positions[counted] // stride * (articles.max() + 1) + articles
    shape = window // stride, articles.max() + 1
    return AgainstItself(
        length=length,
        window=window,
        stride=stride,
        nats=np.bincount(cells, (longer - shorter)[counted], shape[0] * shape[1]).reshape(shape),
        tokens=np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape),
    )

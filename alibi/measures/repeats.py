"""Repeated tokens: the loss of tokens that occurred before in the window, by the distance of their last occurrence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alibi.corpora.corpus import Split
from alibi.errors import InputError
from alibi.evaluate import article_numbers, standard_error, token_losses
from alibi.model import Decoder
from alibi.windows import shift, spread_windows, windows_of_last_tokens


def last_occurrence(tokens_T: np.ndarray) -> np.ndarray:
    """Distance (in tokens, from 1) of each token to the last equal token before it; 0 if there is none."""
    order = np.argsort(tokens_T, kind="stable")
    before, after = order[:-1], order[1:]
    distances_T = np.zeros(len(tokens_T), np.int64)
    distances_T[after] = np.where(tokens_T[before] == tokens_T[after], after - before, 0)
    return distances_T


def distance_bands(longest: int) -> list[tuple[int, int]]:
    """Shortest and longest distance of each row in windows of up to `longest` tokens; (0, 0): first occurrences."""
    return [(0, 0), *((2**b, min(2 ** (b + 1) - 1, longest)) for b in range(longest.bit_length()))]


@dataclass(frozen=True)
class Repeats:
    """The loss of the same tokens in windows of several lengths, by the distance of their last occurrence.

    Row 0 has first occurrences: tokens that appear nowhere before in the longest window. Row b has tokens whose last
    occurrence is 2^(b-1) to 2^b - 1 tokens before them. A window of w tokens holds it if the distance is at most w.
    """

    lengths: np.ndarray
    """Tokens in a window, in rising order, [W]."""
    nats: np.ndarray
    """Sum of -ln p, [W, rows, articles]."""
    tokens: np.ndarray
    """Number of tokens in each sum, the same for every length, [rows, articles]."""

    @property
    def distances(self) -> list[tuple[int, int]]:
        """Shortest and longest distance of each row; (0, 0) for first occurrences."""
        return distance_bands(int(self.lengths[-1]))

    @property
    def losses(self) -> np.ndarray:
        """Mean loss (nats a token), [W, rows]; not a number in a row without tokens."""
        tokens = self.tokens.sum(axis=1)
        return self.nats.sum(axis=2) / np.where(tokens, tokens, np.nan)

    def change(self, length: int, than: int, row: int) -> tuple[float, float]:
        """Mean loss of a row in windows of `length` tokens minus its loss in windows of `than`, and the standard error.

        It is negative where the longer window helps. The error is over articles; see `alibi.evaluate.standard_error`.

        Raises:
            InputError: if a length was not measured, or the row has no tokens.
        """
        lengths = self.lengths.tolist()
        if unknown := [n for n in (length, than) if n not in lengths]:
            raise InputError(f"length {unknown[0]} was not measured; choose from {', '.join(map(str, lengths))}")
        if not 0 <= row < len(self.tokens) or not self.tokens[row].any():
            raise InputError(f"row {row} has no tokens; there are {len(self.tokens)} rows, and some may be empty")
        difference_A = self.nats[lengths.index(length), row] - self.nats[lengths.index(than), row]
        return float(difference_A.sum() / self.tokens[row].sum()), standard_error(difference_A, self.tokens[row])


def repeats(
    model: Decoder,
    split: Split,
    end_of_line: int,
    lengths: Sequence[int],
    last: int,
    windows: int | None = None,
    stride: int = 1,
    starts: np.ndarray | None = None,
) -> Repeats:
    r"""A test of copying from far back: the loss of repeated tokens by the distance of their last occurrence.

    $$\ell_w(b) = \frac{1}{|S_b|} \sum_{i \in S_b} -\ln P(x_i \mid x_{i-w}, \ldots, x_{i-1}), \qquad
    S_b = \{ i : 2^{b-1} \le i - \max \{ j < i : x_j = x_i \} < 2^b \}$$

    for windows of $w$ = each of `lengths`; $S_0$ are first occurrences. The tokens are the last ones of the longest
    windows, the same for every w, and the last occurrence is searched in the longest window. A model that copies gains
    in the rows whose distance w just covers; a longer window that helps first occurrences as much helps by topic, not
    by copying. Sun et al. (2021) split tokens in this way, and found that far context helps few tokens, above all
    those that can be copied.

    Args:
        model: a trained decoder; it is put into evaluation mode.
        split: the text.
        end_of_line: id of the end-of-line token, the source of the first target.
        lengths: tokens in a window, each w.
        last: tokens scored at the end of each longest window.
        windows: least number of windows, spread evenly over the text; None takes all.
        stride: new tokens in each shorter window (at most w): the last of them sees w tokens, the first w - stride + 1.
        starts: first token of each article, the first one 0; None takes blocks of `alibi.evaluate.BLOCK` tokens.

    Raises:
        InputError: for a number out of range, or a text shorter than one window.
    """
    every = sorted(set(lengths))
    if not every or every[0] < 1 or not 1 <= last <= every[-1] or stride < 1:
        raise InputError(f"lengths={list(lengths)}, last={last}, stride={stride}: choose 1 to the longest length")
    tokens, longest = np.asarray(split.tokens), every[-1]
    stream, places = shift(tokens, end_of_line), spread_windows(len(tokens), longest, windows)
    # Target i of the text is token i + 1 of the stream: a window's sources and its last target are longest + 1 tokens.
    distances_N = np.concatenate([last_occurrence(stream[at : at + longest + 1])[-last:] for at in places])
    scored_N = np.concatenate([np.arange(at + longest - last, at + longest) for at in places])
    articles_N = article_numbers(len(tokens), starts)[scored_N]
    # Exact: frexp gives 0 for 0, else 1 + floor(log2).
    rows_N = np.frexp(distances_N)[1]
    shape = longest.bit_length() + 1, articles_N.max() + 1
    cells_N = rows_N * shape[1] + articles_N

    def nats(length: int) -> np.ndarray:
        parts = [one for at in places for one in windows_of_last_tokens(at, longest, last, length, stride)]
        losses_N, _ = token_losses(model, tokens, end_of_line, parts, f"repeats in {length}")
        return np.bincount(cells_N, losses_N[scored_N], shape[0] * shape[1]).reshape(shape)

    return Repeats(
        lengths=np.array(every),
        nats=np.stack([nats(length) for length in every]),
        tokens=np.bincount(cells_N, minlength=shape[0] * shape[1]).reshape(shape),
    )

"""Truncation: the loss of a window's last tokens when only the last w tokens may be seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alibi.attention import Prepare, causal_attention
from alibi.corpora.corpus import Split
from alibi.errors import InputError, UnknownNameError
from alibi.evaluate import article_numbers, standard_error, token_losses
from alibi.model import Decoder
from alibi.positions.base import Bias, MultipliedBias, ScoreMod
from alibi.windows import Window, spread_windows, windows_of_last_tokens

FORMS = ("attention", "window")


@dataclass(frozen=True)
class LastKeys(Bias):
    """Another bias, with minus infinity from distance w on: a query sees itself and the w - 1 keys before it.

    Raises:
        InputError: if w is not positive, or the other bias is a factor of the scores.
    """

    bias: Bias
    seen: int
    """w, the number of keys that a query sees, including its own."""

    def __post_init__(self) -> None:
        if self.seen < 1:
            raise InputError(f"seen={self.seen}: a query sees at least one key, its own")
        if isinstance(self.bias, MultipliedBias):
            raise InputError("a MultipliedBias is not added to scores, so keys can't be hidden by another summand")

    @property
    def gated(self) -> bool:
        """As the other bias is."""
        return self.bias.gated

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[heads, T, S], or [T, S] if the other bias is none."""
        hidden_TS = query_positions_T[:, None] - key_positions_S[None, :] >= self.seen
        bias_HTS = self.bias.dense(query_positions_T, key_positions_S, dtype)
        if bias_HTS is None:
            bias_HTS = torch.zeros(hidden_TS.shape, dtype=dtype, device=hidden_TS.device)
        return bias_HTS.masked_fill(hidden_TS, -torch.inf)

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod:
        """The other bias's score within the last w keys, minus infinity beyond."""
        biased = self.bias.score_mod(query_positions_T, key_positions_S)

        def cut(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            seen = query_positions_T[query] - key_positions_S[key] < self.seen
            kept = score if biased is None else biased(score, batch, head, query, key)
            return torch.where(seen, kept, -torch.inf)

        return cut


def last_keys(seen: int) -> Prepare:
    """Causal attention in which each query sees only the last `seen` keys, for `Decoder.attention_by`."""
    return lambda bias, *of_pass: causal_attention(LastKeys(bias, seen), *of_pass)


@dataclass(frozen=True)
class Truncation:
    """The loss of the same tokens for each number w of tokens that may be seen; see `truncation`."""

    length: int
    """Tokens in a window."""
    seen: np.ndarray
    """Each w in rising order, the last one the length, [W]."""
    nats: np.ndarray
    """Sum of -ln p over the scored tokens of each article, [W, articles]."""
    tokens: np.ndarray
    """Tokens scored in each article, [articles]."""

    @property
    def losses(self) -> np.ndarray:
        """Mean loss (nats a token) for each w, [W]."""
        return self.nats.sum(axis=1) / self.tokens.sum()

    def change(self, seen: int) -> tuple[float, float]:
        """Mean loss with the last `seen` tokens minus the loss with the whole window (nats), and its standard error.

        The difference is taken token by token, and the error over articles; see `alibi.evaluate.standard_error`.

        Raises:
            InputError: if this w was not measured.
        """
        if seen not in self.seen:
            raise InputError(f"seen={seen} was not measured; choose from {', '.join(map(str, self.seen))}")
        difference_A = self.nats[list(self.seen).index(seen)] - self.nats[-1]
        return float(difference_A.sum() / self.tokens.sum()), standard_error(difference_A, self.tokens)


def truncation(
    model: Decoder,
    split: Split,
    end_of_line: int,
    length: int,
    seen: Sequence[int],
    last: int,
    form: str = "attention",
    windows: int | None = None,
    stride: int = 1,
    starts: np.ndarray | None = None,
) -> Truncation:
    r"""The loss of the last tokens of windows when only the last w tokens may be seen; the same tokens for all w.

    $$\ell(w) = \frac{1}{K n} \sum_{k=1}^{K} \sum_{p=T-n+1}^{T} -\ln P_w(x_{k,p+1} \mid x_{k,1}, \ldots, x_{k,p})$$

    over $K$ windows of $T$ = `length` tokens and the targets of their last $n$ = `last` tokens. The curve flattens at
    the number of tokens that the model uses. $P_w$ has two forms:

    - "attention": in every layer a query sees the last w keys, including its own; positions do not change. Information
      moves on through the layers, so the loss can depend on the last (w - 1) x layers + 1 tokens. With w = L, the
      training length, it is the windowed control of Chi et al. (2023), at evaluation.
    - "window": the window itself is shortened to its last w tokens, as in a sliding evaluation of length w. No layer
      reads farther tokens, and positions count from the shorter window's start.

    At w = T both give the whole window's loss.

    Args:
        model: a trained decoder; it is put into evaluation mode.
        split: the text.
        end_of_line: id of the end-of-line token, the source of the first target.
        length: tokens in a window, T.
        seen: each w, from 1 to the length; the length is always measured too.
        last: tokens scored at the end of each window, n.
        form: attention or window.
        windows: least number of windows, spread evenly over the text; None takes all.
        stride: new tokens in each shortened window (at most w): the last of them sees w tokens, the first w - stride +
            1. Only for the form "window".
        starts: first token of each article, the first one 0; None takes blocks of `alibi.evaluate.BLOCK` tokens.

    Raises:
        InputError: for an unknown form, a number out of range, a text shorter than one window, or the form "attention"
            with a position method that multiplies scores, since its keys can't be hidden.
    """
    if form not in FORMS:
        raise UnknownNameError("form of truncation", form, FORMS)
    wrong = [w for w in seen if not 1 <= w <= length]
    if wrong or not 1 <= last <= length or stride < 1:
        raise InputError(f"seen={list(seen)}, last={last}, stride={stride}: choose 1 to the length of {length} tokens")
    tokens = np.asarray(split.tokens)
    places = spread_windows(len(tokens), length, windows)
    whole = [Window(place, place + length - last, place + length) for place in places]
    scored_N = np.concatenate([np.arange(window.scored, window.end) for window in whole])
    articles_N = article_numbers(len(tokens), starts)[scored_N]

    def nats_by_article(w: int) -> np.ndarray:
        what = f"last {w} of {length}"
        if form == "window":
            shorter = [one for place in places for one in windows_of_last_tokens(place, length, last, w, stride)]
            losses_N, _ = token_losses(model, tokens, end_of_line, shorter, what)
        else:
            with model.attention_by(last_keys(w)):
                losses_N, _ = token_losses(model, tokens, end_of_line, whole, what)
        return np.bincount(articles_N, losses_N[scored_N])

    every = sorted({*seen, length})
    return Truncation(
        length=length,
        seen=np.array(every),
        nats=np.stack([nats_by_article(w) for w in every]),
        tokens=np.bincount(articles_N),
    )

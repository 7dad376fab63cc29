"""Attention distance: how far back each head looks on text, and its weight on the window's first token."""

from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from alibi.attention import SCORES_A_BLOCK, Attend, attention_weights, causal_attention
from alibi.corpora.corpus import Split
from alibi.device import float64_device
from alibi.errors import InputError
from alibi.evaluate import token_losses
from alibi.model import Decoder
from alibi.positions.base import Bias
from alibi.windows import Window, spread_windows


@dataclass(frozen=True)
class AttentionDistance:
    r"""Mean attention weight of each head by distance; see `attention_distance`.

    With $a(d)$ the weight at distance $d = i - j$ of query $i$ and key $j$, averaged over queries:
    mean $\sum_d d \, a(d)$, median the smallest $m$ with $\sum_{d \le m} a(d) \ge 1/2$, share past L
    $\sum_{d \ge L} a(d)$: no key at such a distance lies in a window of L tokens.
    """

    queries: int
    """Number of queries in the mean, over all windows."""
    weights: np.ndarray
    """Mean weight at each distance from 0, [layers, heads, length]; each head's sum is 1."""
    first: np.ndarray
    """Mean weight on the first token of the window, [layers, heads]; at 1 / T attention prefers no token."""
    mean_standard_error: np.ndarray
    """Standard error of the mean distance over windows, [layers, heads]; not a number for a single window."""

    @property
    def mean(self) -> np.ndarray:
        """Mean distance in tokens, [layers, heads]."""
        found: np.ndarray = self.weights @ np.arange(self.weights.shape[-1])
        return found

    @property
    def median(self) -> np.ndarray:
        """Smallest distance in tokens that covers half of the weight, [layers, heads]."""
        return (self.weights.cumsum(axis=-1) >= 0.5).argmax(axis=-1)

    def share_past(self, length: int) -> np.ndarray:
        """Share of the weight at distances of `length` tokens and more, [layers, heads].

        Raises:
            InputError: if the length is negative.
        """
        if length < 0:
            raise InputError(f"length={length}: choose 0 or more tokens")
        return self.weights[..., length:].sum(axis=-1)


class _Recorder:
    """Sums of attention weights over the last queries of every window, by layer, head and distance."""

    def __init__(self, model: Decoder, length: int, last: int) -> None:
        shape, device = (model.config.layers, model.config.heads), float64_device(model.device)
        self.last, self.queries = last, 0
        self.weights_LHN = torch.zeros(*shape, length, dtype=torch.float64, device=device)
        self.first_LH = torch.zeros(shape, dtype=torch.float64, device=device)
        # Sum and squares of the windows' mean distances, for the standard error.
        self.windows = 0
        self.sums_LH, self.squares_LH = torch.zeros(2, *shape, dtype=torch.float64, device=device)

    def prepare(
        self,
        bias: Bias,
        query_positions_T: Tensor,
        key_positions_S: Tensor,
        kernel: str,
        dropout: float,
        dtype: torch.dtype,
    ) -> Attend:
        attend = causal_attention(bias, query_positions_T, key_positions_S, kernel, dropout, dtype)
        layers = count()  # A pass calls its attention once a layer, in their order.

        def attend_and_record(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
            layer, (batch, heads, queries, _) = next(layers), q_BHTD.shape
            rows = max(1, SCORES_A_BLOCK // (batch * heads * len(key_positions_S)))
            means_BH = torch.zeros(batch, heads, dtype=torch.float64, device=self.first_LH.device)
            for start in range(queries - self.last, queries, rows):
                block = slice(start, min(start + rows, queries))
                weigh = attention_weights(bias, query_positions_T[block], key_positions_S, dtype)
                weights_BHTS = weigh(q_BHTD[:, :, block], k_BHSD)
                self._add(layer, weights_BHTS, start)
                distances_TS = (query_positions_T[block, None] - key_positions_S).to(weights_BHTS.dtype)
                means_BH += torch.einsum("bhts,ts->bh", weights_BHTS, distances_TS).to(means_BH) / self.last
            self.sums_LH[layer] += means_BH.sum(dim=0)
            self.squares_LH[layer] += means_BH.square().sum(dim=0)
            if layer == 0:
                self.queries += batch * self.last
                self.windows += batch
            return attend(q_BHTD, k_BHSD, v_BHSD)

        return attend_and_record

    def _add(self, layer: int, weights_BHTS: Tensor, start: int) -> None:
        weights_HTS = weights_BHTS.to(self.first_LH.device).double().sum(dim=0)
        self.first_LH[layer] += weights_HTS[:, :, 0].sum(dim=1)
        for row in range(weights_HTS.shape[1]):
            keys = start + row + 1
            self.weights_LHN[layer, :, :keys] += weights_HTS[:, row, :keys].flip(-1)

    def mean_standard_error(self) -> np.ndarray:
        """Standard error of the mean distance over windows, [layers, heads]."""
        windows = self.windows
        if windows < 2:
            return np.full(self.sums_LH.shape, np.nan)
        squares_LH = (self.squares_LH - self.sums_LH.square() / windows).clamp(min=0)
        found: np.ndarray = (squares_LH / (windows - 1) / windows).sqrt().cpu().numpy()
        return found


def attention_distance(
    model: Decoder,
    split: Split,
    end_of_line: int,
    length: int,
    last: int,
    windows: int | None = None,
    batch_tokens: int | None = None,
) -> AttentionDistance:
    r"""The attention weight of each head on text, by distance and on the window's first token.

    $$a_{l,h}(d) = \frac{1}{K n} \sum_{k=1}^{K} \sum_{i=T-n+1}^{T} A^{(k)}_{l,h}(i, i - d)$$

    over $K$ windows of $T$ = `length` tokens and the last $n$ = `last` queries of each, with $A$ the weights after the
    softmax. Queries at the end have nearly the same number of keys before them; `bias_distance` gives a head's distance
    there if all its scores are equal. A first token that gets much weight, whatever token it is, is called an attention
    sink (Xiao et al. 2024).

    Args:
        model: a trained decoder; it is put into evaluation mode.
        split: the text.
        end_of_line: id of the end-of-line token, the source of the first target.
        length: tokens in a window, T.
        last: queries at the end of each window that count, n.
        windows: least number of windows, spread evenly over the text; None takes all.
        batch_tokens: tokens run at once; None takes `alibi.evaluate.BATCH_TOKENS`. It changes only the speed.

    Raises:
        InputError: for a number out of range, or a text shorter than one window.
    """
    if not 1 <= last <= length:
        raise InputError(f"last={last}: choose 1 to the length of {length} tokens")
    tokens = np.asarray(split.tokens)
    # The loss itself is not needed: one scored token in each window costs least.
    whole = [Window(at, at + length - 1, at + length) for at in spread_windows(len(tokens), length, windows)]
    recorder = _Recorder(model, length, last)
    with model.attention_by(recorder.prepare):
        token_losses(model, tokens, end_of_line, whole, f"attention in {length}", batch_tokens)
    return AttentionDistance(
        queries=recorder.queries,
        weights=(recorder.weights_LHN / recorder.queries).cpu().numpy(),
        first=(recorder.first_LH / recorder.queries).cpu().numpy(),
        mean_standard_error=recorder.mean_standard_error(),
    )


@torch.no_grad()
def bias_distance(model: Decoder, length: int) -> AttentionDistance:
    r"""The attention distance from the model's bias alone: for a window's last query, if all scores are equal.

    $$a_h(d) = e^{b_h(d)} / \sum_{e=0}^{T-1} e^{b_h(e)}$$

    For ALiBi $b_h(d) = -m_h d$, a geometric series with mean $1 / (e^{m_h} - 1)$ in long windows; without a bias every
    token has 1 / T. It is the distance that a slope allows; on text, scores and a method's gates move it.

    Args:
        model: a decoder, trained or not.
        length: tokens in a window, T.

    Returns:
        One layer, [1, heads, length], since all have the same bias.

    Raises:
        InputError: if the window has no token.
    """
    if length < 1:
        raise InputError(f"length={length}: choose at least one token")
    keys_S = torch.arange(length, device=model.device)
    nothing_BHTD = torch.zeros(1, model.config.heads, 1, 1, device=model.device)
    weigh = attention_weights(model.bias(), keys_S[-1:], keys_S, torch.float32)
    weights_HS = weigh(nothing_BHTD, nothing_BHTD.expand(-1, -1, length, -1))[0, :, 0].cpu().double().numpy()
    weights_LHN, first_LH = weights_HS[None, :, ::-1], weights_HS[None, :, 0]
    return AttentionDistance(1, weights_LHN, first_LH, np.full(first_LH.shape, np.nan))

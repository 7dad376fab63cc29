"""What a position method may do to a transformer, and the bias as a value.

A position method answers three questions, each with a default of "nothing": what is added to the token
embeddings, how queries and keys are rotated, and what bias the score of a query and a key gets. All three are
asked with absolute positions, so that an answer is right with a key-value cache by construction.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alibi.device import widest_dtype
from alibi.errors import InputError

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

# A position is 256 a + b with a, b below 256: both parts are exact in 16 bits, up to this many positions.
SPLIT = 256
# The fused CUDA kernels take head widths in multiples of this.
COLUMN_ALIGNMENT = 8


class Bias:
    """What is added to attention scores; a kernel looks at the kind of bias, never at the method it came from.

    One value, three forms: a dense tensor, a function of single scores, or columns that extend queries and keys. One
    kind is multiplied with the scores instead of being added.
    """

    def dense(
        self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor | None:
        """The bias of every head, query and key: [heads, T, S] in this dtype, or None where nothing is added."""
        raise NotImplementedError

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod | None:
        """The bias as FlexAttention takes it: (score, batch, head, query, key) -> score, or None; float32."""
        raise NotImplementedError

    def key_columns(self, key_positions_S: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Columns for queries [heads, E] and keys [S, E] whose product is the bias, up to a constant of the query.

        None where nothing is added. A causal kernel that knows no bias then computes one, without a T x S tensor.

        Raises:
            ValueError: if this kind of bias has no such form, or the positions no exact one in this dtype.
        """
        raise InputError(f"a {type(self).__name__} can't be written as columns of the keys: only a linear one can")

    def within(self, decay_window: float) -> "Bias":
        """This bias where it has lowered a score by `decay_window` nats at most; farther keys are not seen at all.

        Raises:
            ValueError: if this kind of bias does not fall with the distance, or the window is not positive.
        """
        raise InputError(f"decay_window={decay_window}: a {type(self).__name__} has none, only a linear bias (alibi)")


class NoBias(Bias):
    """Nothing is added to the scores."""

    def dense(
        self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor | None:
        """Nothing, for any positions."""
        return None

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod | None:
        """Nothing."""
        return None

    def key_columns(self, key_positions_S: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Nothing."""
        return None


@dataclass(frozen=True)
class LinearBias(Bias):
    """Each head's slope times the distance: bias[h, i, j] = -slopes[h] * (i - j) (section 3, Figure 3).

    With a decay window t a head of slope m sees no key farther than t / m: see `alibi.decay_window`.

    Raises:
        ValueError: if the decay window is not positive.
    """

    slopes_H: Tensor
    decay_window: float | None = None
    """In nats; None lets every head see all keys."""

    def __post_init__(self) -> None:
        if self.decay_window is not None and not self.decay_window > 0:
            raise InputError(f"decay_window={self.decay_window}: choose a positive number of nats")

    def within(self, decay_window: float) -> "LinearBias":
        """The same slopes with this decay window.

        Raises:
            ValueError: if it is not positive.
        """
        return replace(self, decay_window=decay_window)

    def reach(self) -> Tensor:
        """The farthest distance that each head sees, floor(t / slope): [heads], in the device's widest dtype.

        Infinite without a window, and where a slope is not positive.
        """
        slopes_H = self.slopes_H.detach().to(widest_dtype(self.slopes_H.device))
        decay_window = torch.inf if self.decay_window is None else self.decay_window
        return torch.where(slopes_H > 0, decay_window / slopes_H, torch.inf).floor()

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[heads, T, S] from the difference of positions, which stays exact at any length.

        The official code adds slope * j instead. The softmax cancels the difference of slope * i per row, but
        the absolute values grow with the length and lose precision in 16 bits; the relative ones do not. Beyond a
        decay window it is minus infinity.
        """
        # Keys after the query are masked anyway; positive values there would only invite overflow.
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0).to(dtype)
        bias_HTS = -self.slopes_H.to(dtype)[:, None, None] * distance_TS
        if self.decay_window is None:
            return bias_HTS
        return bias_HTS.masked_fill(distance_TS > self.reach().to(dtype)[:, None, None], -torch.inf)

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod:
        """score - slope * (i - j), minus infinity beyond a decay window."""
        slopes_H = self.slopes_H.float()

        def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score - slopes_H[head] * (query_positions_T[query] - key_positions_S[key])

        if self.decay_window is None:
            return biased
        reach_H = self.reach().float()

        def windowed(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            seen = query_positions_T[query] - key_positions_S[key] <= reach_H[head]
            return torch.where(seen, biased(score, batch, head, query, key), -torch.inf)

        return windowed

    def key_columns(self, key_positions_S: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Queries carry the slopes, keys their positions: the product is slope * (j - first key).

        In 16 bits a position is split into 256 a + b and a slope into three parts, so that every factor is exact and
        the sum, which the hardware keeps in float32, errs by its rounding alone: slope * S * 2^-24 for S keys.

        Raises:
            ValueError: if 16 bits are asked to hold more than 65,536 positions, or there is a decay window: columns
                can lower a score but hide no key.
        """
        if self.decay_window is not None:
            raise InputError("columns of the keys can't hold a decay window: choose kernel window, flex or sdpa")
        from_first_S = key_positions_S - key_positions_S[0]
        if dtype.itemsize == 2 and int(from_first_S[-1]) >= SPLIT * SPLIT:
            raise InputError(f"{int(from_first_S[-1]) + 1} keys: columns in {dtype} are exact up to {SPLIT * SPLIT}")
        rest_H, queries_EH = self.slopes_H.to(widest_dtype(self.slopes_H.device)), []
        for _ in range(3 if dtype.itemsize == 2 else 1):
            part_H = rest_H.to(dtype)
            queries_EH += [SPLIT * part_H, part_H]
            rest_H = rest_H - part_H
        keys_ES = [from_first_S // SPLIT, from_first_S % SPLIT] * (len(queries_EH) // 2)
        padding = -len(queries_EH) % COLUMN_ALIGNMENT
        queries_HE, keys_SE = torch.stack(queries_EH, dim=1), torch.stack(keys_ES, dim=1).to(dtype)
        return F.pad(queries_HE, (0, padding)), F.pad(keys_SE, (0, padding))


@dataclass(frozen=True)
class TableBias(Bias):
    """A learned number for each bucket of distances and head: bias[h, i, j] = weights[bucket(i - j), h]."""

    bucket: Callable[[Tensor], Tensor]
    weights_KH: Tensor

    def by_distance(self, longest: int, dtype: torch.dtype) -> Tensor:
        """The bias of each head at the distances 0 to `longest`: [heads, longest + 1]."""
        return self.weights_KH.to(dtype)[self.bucket(torch.arange(longest + 1, device=self.weights_KH.device))].t()

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[heads, T, S]; the gradient flows to the table's weights."""
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0)
        # One look-up for each distance, then a gather: T + S buckets are computed, not T x S.
        return self.by_distance(int(distance_TS.max()), dtype)[:, distance_TS]

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod:
        """score + weights[bucket(i - j), h]; the gradient flows to the table's weights."""
        by_distance_HN = self.by_distance(int(query_positions_T.max() - key_positions_S.min()), torch.float32)

        def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score + by_distance_HN[head, (query_positions_T[query] - key_positions_S[key]).clamp(min=0)]

        return biased


@dataclass(frozen=True)
class GrowthBias(Bias):
    """Each head's slope times a function of the distance: bias[h, i, j] = -slopes[h] * growth(i - j)."""

    slopes_H: Tensor
    growth: Callable[[Tensor], Tensor]
    """Of floating point distances, not negative, elementwise; 0 at 0."""

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[heads, T, S]; minus infinity where the function leaves the dtype's range."""
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0).to(dtype)
        return -self.slopes_H.to(dtype)[:, None, None] * self.growth(distance_TS)

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod:
        """score - slope * growth(i - j)."""
        slopes_H = self.slopes_H.float()

        def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            distance = (query_positions_T[query] - key_positions_S[key]).clamp(min=0).float()
            return score - slopes_H[head] * self.growth(distance)

        return biased


@dataclass(frozen=True)
class MultipliedBias(Bias):
    """A linear bias that scores are multiplied by: score * -slopes[h] * (i - j). Kernels that only add refuse it."""

    slopes_H: Tensor

    def factor(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What the scores are multiplied by, after they are divided by sqrt(head width): [heads, T, S]."""
        return LinearBias(self.slopes_H).dense(query_positions_T, key_positions_S, dtype)

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Not defined.

        Raises:
            ValueError: always.
        """
        raise InputError("a MultipliedBias can't be added to scores: choose kernel reference or flex, which multiply")

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod:
        """score * -slope * (i - j)."""
        slopes_H = self.slopes_H.float()

        def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score * -(slopes_H[head] * (query_positions_T[query] - key_positions_S[key]))

        return biased


class PositionMethod(nn.Module):
    """How a transformer learns where its tokens stand.

    A method is a file with a subclass, and the class in `alibi.positions.METHODS`. No length is baked in: positions are
    arguments, and what is asked for longer positions is computed for them.

    Args:
        width: of the residual stream.
        heads: attention heads, which divide the width.
        longest: positions that a method with a table of them can hold; all others take no notice.

    Raises:
        ValueError: if the heads do not divide the width.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    """To be counted up when a change moves what a model with this method learns: its cached runs are trained anew."""
    limited: ClassVar[bool] = False
    """Whether the method has a table of positions and knows none past its end."""
    rate: ClassVar[float] = 1.0
    """Factor for the learning rate of the method's own parameters under AdamW.

    A step of Adam is hardly longer than its learning rate, however steep the loss. That suits weights, of which many
    act together; a parameter that alone must travel far, in units of scores, needs a rate of that size.
    """

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(f"width={width} is not a multiple of heads={heads}; choose a width that is")
        self.width, self.heads, self.head_width = width, heads, width // heads

    def embeddings(self, positions_T: Tensor) -> Tensor | None:
        """What is added to the (scaled) token embeddings at these positions: [T, width], or None."""
        return None

    def rotate(self, heads_BHTD: Tensor, positions_T: Tensor) -> Tensor:
        """Queries or keys as attention sees them; the same function is applied to both."""
        return heads_BHTD

    def bias(self) -> Bias:
        """What is added to the scores of every layer, after they are divided by sqrt(head width)."""
        return NoBias()

"""The interface of position methods, and the bias of scores as a value.

A position method answers five questions, each with a default of "nothing": the vectors added to the token embeddings,
the rotation of queries and keys, their scale, the bias of scores, and a gate that lowers scores by a layer's input. All
positions are absolute, also those that a kernel gives to a bias, so that the answers are right with a key-value cache.
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

# A position is 256 a + b with a, b below 256: both parts are exact in 16 bits, for 256 * 256 positions.
SPLIT = 256
# Head widths of the fused CUDA kernels are multiples of this.
COLUMN_ALIGNMENT = 8


class Bias:
    """A summand of attention scores; a kernel looks at the kind of bias, never at its position method.

    Positions of keys are consecutive, and no query comes after the last key: so the number of keys gives the distances,
    and a GPU need not wait until a maximum has reached the host.

    One value has three forms: a dense tensor, a function of single scores, and columns that extend queries and keys.
    `MultipliedBias` is a factor of the scores instead.
    """

    @property
    def gated(self) -> bool:
        """Whether each layer's log gates come as columns of its keys (`alibi.attention.gated`)."""
        return False

    def dense(
        self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor | None:
        """The bias of every head, query and key: [heads, T, S] in this dtype, or None for no bias."""
        raise NotImplementedError

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod | None:
        """The bias in FlexAttention's form: (score, batch, head, query, key) -> score, or None; float32.

        It reads the dense form, unless a kind of bias has a way without a T x S tensor.
        """
        bias_HTS = self.dense(query_positions_T, key_positions_S)
        if bias_HTS is None:
            return None

        def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score + bias_HTS[head, query, key]

        return biased

    def key_columns(self, key_positions_S: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Columns for queries [heads, E] and keys [S, E] whose product is the bias, up to a constant of the query.

        None for no bias. With these columns a causal kernel that has no bias argument adds the bias, without a T x S
        tensor.

        Raises:
            InputError: if this kind of bias has no columns, or the positions have no exact ones in this dtype.
        """
        raise InputError(f"a {type(self).__name__} can't be written as columns of the keys: only a linear one can")

    def within(self, decay_window: float) -> "Bias":
        """This bias within a decay window: keys whose score it lowers by more than `decay_window` nats are hidden.

        Raises:
            InputError: if this kind of bias has no decay window, or the window is not positive.
        """
        raise InputError(
            f"decay_window={decay_window}: only a linear bias (alibi) has one, a {type(self).__name__} has not"
        )


class NoBias(Bias):
    """No bias: nothing is added to the scores."""

    def dense(
        self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor | None:
        """None, for any positions."""
        return None

    def key_columns(self, key_positions_S: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """None."""
        return None


class GateBias(NoBias):
    """No bias in these forms: it comes with each layer's log gates."""

    @property
    def gated(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class LinearBias(Bias):
    """Each head's slope times the distance: bias[h, i, j] = -slopes[h] * (i - j) (section 3, Figure 3).

    With a decay window t a head of slope m sees no key farther than t / m: see `alibi.decay_window`.

    Raises:
        InputError: if the decay window is not positive and finite.
    """

    slopes_H: Tensor
    decay_window: float | None = None
    """Decay window in nats; None lets every head see all keys."""

    def __post_init__(self) -> None:
        if self.decay_window is not None and not 0 < self.decay_window < torch.inf:
            raise InputError(f"decay_window={self.decay_window}: choose a positive, finite number of nats")

    @property
    def hides(self) -> bool:
        """Whether keys beyond some distance are hidden."""
        return self.decay_window is not None

    def within(self, decay_window: float) -> "LinearBias":
        """The same slopes with this decay window.

        Raises:
            InputError: if the window is not positive and finite.
        """
        return replace(self, decay_window=decay_window)

    def reach(self) -> Tensor:
        """The farthest distance that each head sees, floor(t / slope): [heads], in the device's widest dtype.

        Infinite without a window, and for a slope that is not positive.
        """
        slopes_H = self.slopes_H.detach().to(widest_dtype(self.slopes_H.device))
        decay_window = torch.inf if self.decay_window is None else self.decay_window
        return torch.where(slopes_H > 0, decay_window / slopes_H, torch.inf).floor()

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[heads, T, S] from the difference of positions, which is exact at any length; minus infinity beyond a window.

        The official code adds slope * j instead. The softmax cancels the difference of slope * i per row, but the
        absolute values grow with the length and lose precision in 16 bits; the relative ones do not.
        """
        # Keys after the query get 0, as a page or figure shows them; a mask hides them later.
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0)
        bias_HTS = -self.slopes_H.to(dtype)[:, None, None] * distance_TS.to(dtype)
        if not self.hides:
            return bias_HTS
        return bias_HTS.masked_fill(distance_TS > self.reach()[:, None, None], -torch.inf)

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod:
        """score - slope * (i - j), minus infinity beyond a decay window."""
        slopes_H = self.slopes_H.float()

        def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score - slopes_H[head] * (query_positions_T[query] - key_positions_S[key])

        if not self.hides:
            return biased
        reach_H = self.reach().float()

        def windowed(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            seen = query_positions_T[query] - key_positions_S[key] <= reach_H[head]
            return torch.where(seen, biased(score, batch, head, query, key), -torch.inf)

        return windowed

    def key_columns(self, key_positions_S: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Slopes for the queries and positions for the keys: their product is slope * (j - first key).

        In 16 bits a position is split into 256 a + b, which is exact, and a slope into three parts. The hardware sums
        in float32, with an error of at most three times slope * S * 2^-24 for S keys. In float16, where no part is
        finer than 2^-24, a slope is off by up to 2^-25, which adds S * 2^-25.

        Raises:
            InputError: for more than 65,536 positions in 16 bits, or for a decay window: columns can lower a score but
                not hide a key.
        """
        if self.hides:
            raise InputError("columns of the keys can't hold a window: choose kernel window, flex or sdpa")
        from_first_S = key_positions_S - key_positions_S[0]
        if dtype.itemsize == 2 and key_positions_S.shape[0] > SPLIT * SPLIT:
            raise InputError(f"{key_positions_S.shape[0]} keys: columns in {dtype} are exact up to {SPLIT * SPLIT}")
        rest_H, queries_EH = self.slopes_H.to(widest_dtype(self.slopes_H.device)), []
        for _ in range(3 if dtype.itemsize == 2 else 1):
            part_H = rest_H.to(dtype)
            queries_EH += [SPLIT * part_H, part_H]
            rest_H = rest_H - part_H
        keys_ES = [from_first_S // SPLIT, from_first_S % SPLIT] * (len(queries_EH) // 2)
        padding = -len(queries_EH) % COLUMN_ALIGNMENT
        queries_HE, keys_SE = torch.stack(queries_EH, dim=1), torch.stack(keys_ES, dim=1).to(dtype)
        return F.pad(queries_HE, (0, padding)), F.pad(keys_SE, (0, padding))


class DistanceBias(Bias):
    """A bias that depends only on head and distance: bias[h, i, j] = by_distance[h, i - j]."""

    def by_distance(self, longest: int, dtype: torch.dtype) -> Tensor:
        """The bias of each head at the distances 0 to `longest`: [heads, longest + 1]."""
        raise NotImplementedError

    def dense(
        self,
        query_positions_T: Tensor,
        key_positions_S: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """[heads, T, S]; the gradient flows to whatever the bias is made of."""
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0)
        # Each distance once, then a gather: this computes S numbers a head, not T x S.
        return self.by_distance(key_positions_S.shape[0] - 1, dtype)[:, distance_TS]

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod:
        """score + by_distance[h, i - j], with the same gradient."""
        by_distance_HN = self.by_distance(key_positions_S.shape[0] - 1, torch.float32)

        def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            # Keys after the query are masked, so any distance will do for them. `clamp` would give a single position's
            # distance the shape [1], for which Inductor (torch 2.11) can't make the kernel of the gradient.
            return score + by_distance_HN[head, (query_positions_T[query] - key_positions_S[key]).abs()]

        return biased


@dataclass(frozen=True)
class TableBias(DistanceBias):
    """A learned number for each bucket of distances and head: bias[h, i, j] = weights[bucket(i - j), h]."""

    bucket: Callable[[Tensor], Tensor]
    weights_KH: Tensor

    def by_distance(self, longest: int, dtype: torch.dtype) -> Tensor:
        """The bias of each head at the distances 0 to `longest`: [heads, longest + 1]."""
        return self.weights_KH.to(dtype)[self.bucket(torch.arange(longest + 1, device=self.weights_KH.device))].t()


@dataclass(frozen=True)
class GrowthBias(Bias):
    """Each head's slope times a function of the distance: bias[h, i, j] = -slopes[h] * growth(i - j)."""

    slopes_H: Tensor
    growth: Callable[[Tensor], Tensor]
    """An elementwise function of floating point distances of at least 0; 0 at 0."""

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[heads, T, S]; minus infinity if the function leaves the dtype's range."""
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
    """A linear bias as a factor: score * -slopes[h] * (i - j). Kernels that only add a bias refuse it."""

    slopes_H: Tensor

    def factor(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The factor of the scores after their division by sqrt(head width): [heads, T, S]."""
        return LinearBias(self.slopes_H).dense(query_positions_T, key_positions_S, dtype)

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Not defined.

        Raises:
            InputError: always.
        """
        raise InputError("a MultipliedBias can't be added to scores: choose kernel reference or flex, which multiply")

    def score_mod(self, query_positions_T: Tensor, key_positions_S: Tensor) -> ScoreMod:
        """score * -slope * (i - j)."""
        slopes_H = self.slopes_H.float()

        def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score * -(slopes_H[head] * (query_positions_T[query] - key_positions_S[key]))

        return biased


class PositionMethod(nn.Module):
    """A way to give a transformer the positions of its tokens.

    To add a method, write a file with a subclass and put the class in `_LATER` of `alibi.positions`, which makes
    `METHODS`. A method has no fixed length: positions are arguments, and any position gets an answer, unless
    `check_length` refuses it.

    Numbers that training changes must be parameters or persistent buffers, since checkpoints and weights hold nothing
    else. Numbers that `__init__` computes, such as slopes, are buffers with `persistent=False`. Random numbers are
    torch's own.

    Args:
        width: width of the residual stream.
        heads: number of attention heads, which divides the width.
        longest: the training length, for a method with `needs_longest`; other methods ignore it.

    Raises:
        InputError: if the heads do not divide the width.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    """Count this up when a change moves the losses of this method's models: its cached runs are then trained again."""
    needs_longest: ClassVar[bool] = False
    """Whether the method needs the training length, for the size of its table or window."""
    travel: ClassVar[float] = 0.0
    """Nats that each of the method's own parameters must be able to move in a training run.

    A step of Adam is hardly longer than its learning rate, however steep the loss. That suits weights, because many act
    together. A single parameter that must change by several nats may need a larger rate (`alibi.optim`).
    """

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(f"width={width} is not a multiple of heads={heads}; choose a multiple")
        self.width, self.heads, self.head_width, self.longest = width, heads, width // heads, longest

    def compute_lost(self, device: torch.device) -> None:
        """Computes what weights don't hold, such as ALiBi's slopes, if it is still on `meta`, where the model was made.

        Other numbers stay, since they may be the user's own.
        """
        for name, value in list(self.named_buffers(recurse=False)):
            if value.is_meta and name in self._non_persistent_buffers_set:
                setattr(self, name, self._made_again(name).to(device, value.dtype))

    def _made_again(self, name: str) -> Tensor:
        with torch.device("cpu"):
            made = type(self)(self.width, self.heads, self.longest)
        return getattr(made, name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PositionMethod":
        """Moves fixed numbers, such as slopes, with the model, and keeps their values, whatever `fn` makes of them.

        A cast to a narrower dtype would round them, and `to_empty` leaves them as memory is found.
        """
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, after in list(self.named_buffers(recurse=False)):
            kept, dtype = before[name], after.dtype
            if after.is_floating_point() and dtype.itemsize < kept.dtype.itemsize:
                widest = widest_dtype(after.device)
                dtype = kept.dtype if widest == torch.float64 else widest
            if after.is_meta or not kept.is_meta:
                self._buffers[name] = kept.to(after.device, dtype)
            elif name in self._non_persistent_buffers_set:
                self._buffers[name] = self._made_again(name).to(after.device, dtype)
        return self

    def check_length(self, length: int, dtype: torch.dtype = torch.float32) -> None:
        """Refuses a length, in tokens, for which some position has no answer.

        Args:
            length: of the whole pass, with cached positions.
            dtype: of the queries and keys.

        Raises:
            InputError: if the table of positions is shorter, or the dtype can't hold a position's factor.
        """

    def embeddings(self, positions_T: Tensor) -> Tensor | None:
        """The vectors added to the (scaled) token embeddings at these positions: [T, width], or None."""
        return None

    def rotate(self, heads_BHTD: Tensor, positions_T: Tensor) -> Tensor:
        """Queries or keys, rotated by their positions; the same function serves both."""
        return heads_BHTD

    def scale(
        self, q_BHTD: Tensor, k_BHSD: Tensor, query_positions_T: Tensor, key_positions_S: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rotated queries and all keys, also cached ones, each multiplied by a factor of its position."""
        return q_BHTD, k_BHSD

    def bias(self) -> Bias:
        """The bias of the scores of every layer, added after their division by sqrt(head width)."""
        return NoBias()

    def gate(self) -> nn.Module | None:
        """A new module for one layer, or None: the layer's normalised input [B, T, width] to log gates [B, H, T].

        The score of query i and key j gets the sum of the log gates of tokens j + 1 to i. The module belongs to its
        layer, with the learning rate and weight decay of the layer's other weights.
        """
        return None

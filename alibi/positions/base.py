"""What a position method may do to a transformer, and the bias as a value.

A position method answers three questions, each with a default of "nothing": what is added to the token
embeddings, how queries and keys are turned, and what bias the score of a query and a key gets. All three are
asked with absolute positions, so that an answer is right with a key-value cache by construction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


class Bias:
    """What is added to attention scores; a kernel looks at the kind of bias, never at the method it came from."""

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor) -> Tensor | None:
        """The bias of every head, query and key: float32 [heads, T, S], or None where nothing is added."""
        raise NotImplementedError


class NoBias(Bias):
    """Nothing is added to the scores."""

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor) -> Tensor | None:
        """Nothing, for any positions."""
        return None


@dataclass(frozen=True)
class LinearBias(Bias):
    """Each head's slope times the distance: bias[h, i, j] = -slopes[h] * (i - j) (section 3, Figure 3)."""

    slopes_H: Tensor

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor) -> Tensor:
        """Float32 [heads, T, S] from the difference of positions, which stays exact at any length.

        The official code adds slope * j instead. The softmax cancels the difference of slope * i per row, but
        the absolute values grow with the length and lose precision in 16 bits; the relative ones do not.
        """
        # Keys after the query are masked anyway; positive values there would only invite overflow.
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0).to(self.slopes_H.dtype)
        return -self.slopes_H[:, None, None] * distance_TS


@dataclass(frozen=True)
class TableBias(Bias):
    """A learned number for each bucket of distances and head: bias[h, i, j] = weights[bucket(i - j), h]."""

    bucket: Callable[[Tensor], Tensor]
    weights_KH: Tensor

    def dense(self, query_positions_T: Tensor, key_positions_S: Tensor) -> Tensor:
        """Float32 [heads, T, S]; the gradient flows to the table's weights."""
        distance_TS = (query_positions_T[:, None] - key_positions_S[None, :]).clamp(min=0)
        # One look-up for each distance, then a gather: T + S buckets are computed, not T x S.
        longest = int(distance_TS.max()) + 1
        by_distance_HN = self.weights_KH[self.bucket(torch.arange(longest, device=distance_TS.device))].t()
        return by_distance_HN[:, distance_TS]


class PositionMethod(nn.Module):
    """How a transformer learns where its tokens stand.

    A method is one file with a subclass and one line in the registry. No length is baked in: positions are
    arguments, and what is asked for longer positions is computed for them.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width={width} is not a multiple of heads={heads}; choose a width that is")
        self.width, self.heads, self.head_width = width, heads, width // heads

    def embeddings(self, positions_T: Tensor) -> Tensor | None:
        """What is added to the (scaled) token embeddings at these positions: [T, width], or None."""
        return None

    def turn(self, heads_BHTD: Tensor, positions_T: Tensor) -> Tensor:
        """Queries or keys as attention sees them; the same function is applied to both."""
        return heads_BHTD

    def bias(self) -> Bias:
        """What is added to the scores of every layer, after they are divided by sqrt(head width)."""
        return NoBias()

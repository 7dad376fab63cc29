"""Attention with linear biases (section 3): no position embeddings, each score biased by its distance."""

import math
from numbers import Integral

import torch
from torch import Tensor

from alibi.errors import InputError
from alibi.positions.base import LinearBias, PositionMethod


def slopes(heads: int) -> list[float]:
    """The heads' slopes, by the official rule for every head count.

    For a power of two n the geometric sequence that starts at 2^(-8/n) with that ratio
    (p. 5): eight heads get 1/2, 1/4 .. 1/256. For other n, with p the largest power of
    two below: the slopes of p heads, then every second one of the slopes for 2p heads,
    appended and not sorted in (official code; the paper trains powers of two only).

    Raises:
        InputError: if heads is below 1 or not an integer.
    """
    if not isinstance(heads, Integral) or heads < 1:
        raise InputError(f"heads={heads}: slopes are defined for an integer from 1 on")
    if math.log2(heads).is_integer():
        return [2.0 ** (-8.0 * (head + 1) / heads) for head in range(heads)]
    power = 2 ** math.floor(math.log2(heads))
    return slopes(power) + slopes(2 * power)[0::2][: heads - power]


class FixedSlopes(PositionMethod):
    """The paper's slopes, for a linear bias or another."""

    slopes_H: Tensor

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        # Not saved with the weights, because the head count decides them. They are rounded only at their use.
        self.register_buffer("slopes_H", torch.tensor(slopes(heads), dtype=torch.float64), persistent=False)


class ALiBi(FixedSlopes):
    """Adds -slope * (i - j) to the score of query i and key j; nothing is learned and nothing is embedded."""

    name = "alibi"
    title = "ALiBi"

    def bias(self) -> LinearBias:
        """The slopes."""
        return LinearBias(self.slopes_H)

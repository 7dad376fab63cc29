"""The paper's methods with constants for an eighth of its lengths: 64 tokens for 512.

A run at scale quick or laptop divides the paper's lengths by eight and keeps the methods' constants. Here the constants
are divided too: a comparison of both shows the effect of the length itself.
"""

from typing import ClassVar

import torch
from torch import Tensor

from alibi.positions.alibi import ALiBi
from alibi.positions.base import TableBias
from alibi.positions.rotary import Rotary, rotate
from alibi.positions.sinusoidal import FIRST_ROW, Sinusoidal, sinusoid
from alibi.positions.t5 import T5Bias, bucket

FACTOR = 8
"""The divisor of the lengths."""
BASE = 10000.0 / FACTOR
"""Base of rotary and sinusoidal: the longest wavelength is an eighth, of rotary at head width 32 a seventh."""
BUCKETS = 16
LONGEST_DISTANCE = 128 // FACTOR


class ScaledSinusoidal(Sinusoidal):
    """Sinusoids of base 1250: the slowest one turns eight times as fast."""

    name = "sinusoidal-base"
    title = "Sinusoidal, base 1250"
    unscaled: ClassVar[str] = Sinusoidal.name

    def embeddings(self, positions_T: Tensor) -> Tensor:
        """The sinusoid of these positions, [T, width]."""
        return sinusoid(positions_T + FIRST_ROW, self.width, BASE)


class ScaledRotary(Rotary):
    """Rotations of base 1250: the pair (x_2k, x_2k+1) at position p turns by p * 1250^(-2k / D)."""

    name = "rotary-base"
    title = "Rotary, base 1250"
    unscaled: ClassVar[str] = Rotary.name

    def rotate(self, heads_BHTD: Tensor, positions_T: Tensor) -> Tensor:
        """Queries or keys, rotated."""
        width = heads_BHTD.shape[-1]
        exponents_K = torch.arange(0, width, 2, dtype=torch.float64) / width
        return rotate(heads_BHTD, positions_T, BASE**-exponents_K)


def bucket_of_16(distance: Tensor) -> Tensor:
    """The bucket of a distance: one each for 0 to 14, and the last from 15 on: eight wider ones up to 16 have no room.

    32 buckets up to 128 would leave five untrained at 64 tokens. With these, 59 % of the pairs in a block of 64 fall
    into the last bucket; with the paper's 512 tokens and 32 buckets, 61 % do.
    """
    return bucket(distance, BUCKETS, LONGEST_DISTANCE)


class ScaledT5Bias(T5Bias):
    """A T5 bias of 16 buckets up to a distance of 16; see `bucket_of_16`."""

    name = "t5-16"
    title = "T5 bias, 16 buckets"
    unscaled: ClassVar[str] = T5Bias.name
    buckets = BUCKETS

    def bias(self) -> TableBias:
        """The table and its bucket function."""
        return TableBias(bucket_of_16, self.weights_KH)


class ScaledALiBi(ALiBi):
    """ALiBi with eight times the slopes, so that -m (i - j) at 64 tokens equals the paper's at 512."""

    name = "alibi-x8"
    title = "ALiBi, slopes x 8"
    unscaled: ClassVar[str] = ALiBi.name

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        self.slopes_H *= FACTOR

"""The T5 bias (Raffel et al. 2020): a learned number for each bucket of distances, in every head."""

import math

import torch
from torch import Tensor, nn

from alibi.positions.base import PositionMethod, TableBias

BUCKETS = 32
LONGEST_DISTANCE = 128


def bucket(
    distance: Tensor,
    buckets: int = BUCKETS,
    longest: int = LONGEST_DISTANCE,
) -> Tensor:
    """The bucket of a distance i - j >= 0: one each for 0 to 15, then 16 that widen.

    bucket(n) = n for n < 16, else min(31, 16 + floor(16 * ln(n / 16) / ln(128 / 16))),
    in float32 as in the reference implementation (the paper's footnote 7), whose
    rounding decides the borders. Every distance from 113 on falls into the last bucket.

    Args:
        distance: integers, not negative, any shape.
        buckets: how many there are, half of them exact.
        longest: the distance up to which they widen.

    Returns:
        Buckets 0 to 31, int64, in the same shape.
    """
    exact = buckets // 2
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(longest / exact)
    wide = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    return torch.where(distance < exact, distance.long(), wide)


class T5Bias(PositionMethod):
    """Adds a learned number to each score, shared by the layers.

    Each head has 32 numbers, one for each bucket of distances.
    """

    name = "t5"
    title = "T5 bias"
    version = 2
    # As far as the best factor of the sweep `learning_rates`, 30, moves a number in the
    # sweep's 1,450 steps.
    travel = 65.0
    buckets = BUCKETS

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        self.weights_KH = nn.Parameter(torch.randn(self.buckets, heads) * width**-0.5)

    def bias(self) -> TableBias:
        """The table and its bucket function."""
        return TableBias(bucket, self.weights_KH)

"""The T5 bias (Raffel et al. 2020): a learned number for each bucket of distances, in every head."""

import math
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from alibi.errors import InputError
from alibi.positions.base import PositionMethod, TableBias

BUCKETS = 32
LONGEST_DISTANCE = 128


def bucket(
    distance: Tensor,
    buckets: int = BUCKETS,
    longest: int = LONGEST_DISTANCE,
) -> Tensor:
    """The bucket of a distance i - j >= 0: half of them for one each, the others widen.

    With B buckets, h = B / 2 and the longest distance m: bucket(n) = n for n < h, else
    min(B - 1, h + floor((B - h) * ln(n / h) / ln(m / h))), in float32 as in the
    reference implementation (the paper's footnote 7), whose rounding decides the
    borders. Of 32 buckets up to 128, the last holds every distance from 113 on.

    Args:
        distance: integers, not negative, any shape.
        buckets: B, even.
        longest: m, above B / 2.

    Returns:
        Buckets 0 to B - 1, int64, in the same shape.

    Raises:
        InputError: if B is odd or below 2, or m is not above B / 2.
    """
    if buckets < 2 or buckets % 2 or longest <= buckets // 2:
        right = "an even number of buckets, and a distance above half of it"
        raise InputError(f"buckets={buckets}, longest={longest}: choose {right}")
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
    buckets: ClassVar[int] = BUCKETS
    longest_distance: ClassVar[int] = LONGEST_DISTANCE

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        self.weights_KH = nn.Parameter(torch.randn(self.buckets, heads) * width**-0.5)

    def bias(self) -> TableBias:
        """The table and its bucket function."""
        own = partial(bucket, buckets=self.buckets, longest=self.longest_distance)
        return TableBias(own, self.weights_KH)

"""Variants of ALiBi that the paper tried and dropped (sections 3 and 5, footnote 11), and two similar ones.

The paper gives neither numbers nor code for them, so each docstring separates the paper's words from our choices. The
paper's comparisons include none of them.
"""

import math

import torch
from torch import Tensor, nn

from alibi.positions.alibi import ALiBi, FixedSlopes, slopes
from alibi.positions.base import GrowthBias, LinearBias, MultipliedBias, PositionMethod

RANDOM_RATE = 1.0
DOUBLING = 16


class LearnedSlopes(PositionMethod):
    """Learned slopes, one for each head and shared by the layers, that begin as ALiBi's.

    "We initially experimented with making the slopes trainable, but this did not yield strong extrapolation results";
    training was 3% slower (p. 5, footnote 11). They may fall below zero, since the paper names no constraint.

    They have the learning rate of all other weights: slopes lie in (0, 1), and a quick run of AdamW can move one by a
    third of this range, many times the initial slopes of the flatter half of the heads.
    """

    name = "alibi-learned"
    title = "ALiBi, learned slopes"

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        # Float32 like all trained weights; the fixed slopes are float64.
        self.slopes_H = nn.Parameter(torch.tensor(slopes(heads), dtype=torch.float32))

    def bias(self) -> LinearBias:
        """The current slopes; the gradient flows to them."""
        return LinearBias(self.slopes_H)


class RandomSlopes(ALiBi):
    """Slopes drawn from the exponential distribution, and saved with the weights.

    "Even randomly sampling from the exponential distribution worked well in some cases
    (although that method had high variance)" (p. 5). The paper gives no rate: here it
    is 1, the distribution's standard form, whose density is highest at 0 and which
    draws 63% of the slopes from (0, 1), the range that the paper found to work best.
    torch's generator draws them as the model is made, so that the seed of a run
    decides.
    """

    name = "alibi-random"
    title = "ALiBi, random slopes"

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        drawn_H = torch.empty(heads, dtype=torch.float64).exponential_(RANDOM_RATE)
        self.register_buffer("slopes_H", drawn_H)


class HalfBiased(ALiBi):
    """No bias in half of the heads (rounded down); the n others have the slopes of a model with n heads.

    Not in the paper: x-transformers offers it (`alibi_num_heads`) so that some heads can look far back. It tests how
    many biased heads extrapolation needs.
    """

    name = "alibi-half"
    title = "ALiBi, half the heads"

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        unbiased = heads // 2
        self.slopes_H = torch.tensor([0.0] * unbiased + slopes(heads - unbiased), dtype=torch.float64)


class Quadratic(FixedSlopes):
    """Adds -slope * d^2 for the distance d = i - j: each further token adds a larger penalty than the one before.

    Growth faster than linear was worse (the official FAQ). All growth functions here are 0 at distance 0 and 1 at
    distance 1, so that a slope is the penalty of the nearest neighbour, as in ALiBi.
    """

    name = "alibi-quadratic"
    title = "ALiBi, quadratic"

    def bias(self) -> GrowthBias:
        """The slopes, and the square."""
        return GrowthBias(self.slopes_H, torch.square)


def exponential(distance: Tensor) -> Tensor:
    """(2^(d / 16) - 1) / (2^(1 / 16) - 1), elementwise.

    In float32 it is infinite from about 2,000 tokens on. It doubles every 16 tokens.
    Doubling at every token would leave the flattest of eight heads 11 tokens until its
    penalty is 8 nats, and nothing would be tested. This one is nearly linear within the
    reach of the steepest head (12 tokens, ALiBi 16) and leaves the flattest about 100
    (ALiBi 2,048, the square 45).
    """
    rate = math.log(2) / DOUBLING
    return torch.expm1(rate * distance) / math.expm1(rate)


class Exponential(FixedSlopes):
    """Adds -slope * (2^(d / 16) - 1) / (2^(1 / 16) - 1) for the distance d; see `exponential` and `Quadratic`."""

    name = "alibi-exponential"
    title = "ALiBi, exponential"

    def bias(self) -> GrowthBias:
        """The slopes, and the exponential."""
        return GrowthBias(self.slopes_H, exponential)


def logarithmic(distance: Tensor) -> Tensor:
    """log2(1 + d), elementwise."""
    return torch.log2(1 + distance)


class Logarithmic(FixedSlopes):
    """Adds -slope * log2(1 + d) for the distance d, which multiplies attention weights by a power of 1 + d.

    Its growth is slower than linear; see `Quadratic`. With learned slopes and scales it is KERPLE's logarithmic kernel
    (Chi et al. 2022).
    """

    name = "alibi-logarithmic"
    title = "ALiBi, logarithmic"

    def bias(self) -> GrowthBias:
        """The slopes, and the logarithm."""
        return GrowthBias(self.slopes_H, logarithmic)


class Multiplied(FixedSlopes):
    """Multiplies each score by ALiBi's bias instead of adding it: q k^T / sqrt(D) * (-slope * (i - j)).

    This takes "Multiplying attention scores by the bias (instead of adding, as in ALiBi) degraded performance" (p. 9)
    literally. Each token's score for itself is then 0, and scores of either sign grow with the distance: far keys get
    extreme weights instead of small ones. The negative sign does not matter, since queries and keys are learned.
    Factors that fall with the distance (Wu et al. 2021, with a ReLU on the scores) are another method.
    """

    name = "alibi-multiplied"
    title = "ALiBi, multiplied"

    def bias(self) -> MultipliedBias:
        """The slopes, as a factor."""
        return MultipliedBias(self.slopes_H)

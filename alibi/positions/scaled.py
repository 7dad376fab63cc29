"""The paper's methods with constants for an eighth of its lengths: 64 tokens for 512.

A run at scale quick or laptop divides the paper's lengths by eight and keeps the methods' constants. Here the constants
are divided too: a comparison of both shows the effect of the length itself.
"""

from typing import ClassVar

from alibi.positions.alibi import ALiBi
from alibi.positions.rotary import Rotary
from alibi.positions.sinusoidal import Sinusoidal
from alibi.positions.t5 import T5Bias

FACTOR = 8
"""The divisor of the lengths."""


class ScaledSinusoidal(Sinusoidal):
    """Sinusoids of base 1250: the slowest one turns eight times as fast, and has an eighth of the wavelength."""

    name = "sinusoidal-base"
    title = "Sinusoidal, base 1250"
    unscaled: ClassVar[str] = Sinusoidal.name
    base = Sinusoidal.base / FACTOR


class ScaledRotary(Rotary):
    """Rotations of base 1250: at head width 32 the longest wavelength is a seventh."""

    name = "rotary-base"
    title = "Rotary, base 1250"
    unscaled: ClassVar[str] = Rotary.name
    base = Rotary.base / FACTOR


class ScaledT5Bias(T5Bias):
    """A T5 bias of 16 buckets: one each for distances 0 to 14, the last from 15 on. Wider ones up to 16 have no room.

    32 buckets up to 128 would leave five untrained at 64 tokens. With these, 59 % of the pairs in a block of 64 fall
    into the last bucket; with the paper's 512 tokens and 32 buckets, 61 % do.
    """

    name = "t5-16"
    title = "T5 bias, 16 buckets"
    unscaled: ClassVar[str] = T5Bias.name
    buckets = 16
    longest_distance = T5Bias.longest_distance // FACTOR


class ScaledALiBi(ALiBi):
    """ALiBi with eight times the slopes, so that -m (i - j) at 64 tokens equals the paper's at 512."""

    name = "alibi-x8"
    title = "ALiBi, slopes x 8"
    unscaled: ClassVar[str] = ALiBi.name

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        self.slopes_H *= FACTOR

"""KERPLE with its logarithmic kernel (Chi et al. 2022): a learned logarithm of the distance."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alibi.positions.base import DistanceBias, PositionMethod

SMALLEST = 0.01


@dataclass(frozen=True)
class LogarithmicBias(DistanceBias):
    """bias[h, i, j] = -scales[h] * ln(1 + rates[h] * (i - j))."""

    scales_H: Tensor
    rates_H: Tensor

    def by_distance(self, longest: int, dtype: torch.dtype) -> Tensor:
        """The bias of each head at the distances 0 to `longest`: [heads, longest + 1]."""
        distance_N = torch.arange(longest + 1, dtype=dtype, device=self.scales_H.device)
        return -self.scales_H.to(dtype)[:, None] * torch.log1p(self.rates_H.to(dtype)[:, None] * distance_N)


class Kerple(PositionMethod):
    """Adds -r1 ln(1 + r2 (i - j)) with r1, r2 > 0: two learned numbers for each head, shared by the layers.

    This kernel of Chi et al. (2022, arXiv:2205.09921) extrapolates best; another of their kernels, -r1 (i - j), is
    ALiBi with learned slopes. r1 begins uniform in (0, 2) and r2 in (0, 1), both at least 0.01, as in the authors'
    code. That code keeps them positive by clamping at 0.01; here they are exponentials of learned numbers, which have a
    gradient everywhere.
    """

    name = "kerple"
    title = "KERPLE (log)"

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        self.log_scales_H = nn.Parameter((2 * torch.rand(heads)).clamp(min=SMALLEST).log())
        self.log_rates_H = nn.Parameter(torch.rand(heads).clamp(min=SMALLEST).log())

    def bias(self) -> LogarithmicBias:
        """The current r1 and r2."""
        return LogarithmicBias(self.log_scales_H.exp(), self.log_rates_H.exp())

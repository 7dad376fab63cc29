"""Sandwich (Chi et al. 2023): the product of two sinusoidal embeddings as a bias, without parameters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from alibi.device import float64_device
from alibi.positions.base import DistanceBias, PositionMethod

# D of the sinusoids: the paper's hyperparameter, not the model's width.
SINUSOID_WIDTH = 128


@dataclass(frozen=True)
class SinusoidBias(DistanceBias):
    """bias[h, i, j] = ratios[h] * sum_k (cos((i - j) / 10000^(2k / D)) - 1) for k = 0 .. D / 2 - 1."""

    ratios_H: Tensor

    def by_distance(self, longest: int, dtype: torch.dtype) -> Tensor:
        """The bias of each head at the distances 0 to `longest`: [heads, longest + 1]; 0 at 0 and negative beyond."""
        computes = float64_device(self.ratios_H.device)
        # In float64: float32 angles are off by more than 1e-4 beyond a few thousand positions.
        distance_N = torch.arange(longest + 1, dtype=torch.float64, device=computes)
        product_N = torch.zeros_like(distance_N)
        # One frequency at a time, so that memory grows only with the distances.
        for k_2 in range(0, SINUSOID_WIDTH, 2):
            product_N += (distance_N * 10000.0 ** (-k_2 / SINUSOID_WIDTH)).cos() - 1
        return (self.ratios_H.to(computes)[:, None] * product_N).to(dtype).to(self.ratios_H.device)


class Sandwich(PositionMethod):
    """Adds r_h p_i . p_j, where p are sinusoidal embeddings of width D = 128 and r_h = H / (8 h) for head h = 1 .. H.

    p_i . p_j = sum_k cos((i - j) / 10000^(2k / D)) falls about as -log(i - j), with ripples (Chi et al. 2023,
    arXiv:2212.10356, section 5). The paper divides it by 8 h / H, the exponents of ALiBi's slopes. D / 2 is subtracted
    here, so that distance 0 has the bias 0, as in the other methods; the softmax cancels the difference.
    """

    name = "sandwich"
    title = "Sandwich"

    ratios_H: Tensor

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        ratios_H = heads / (8 * torch.arange(1, heads + 1, dtype=torch.float64))
        self.register_buffer("ratios_H", ratios_H, persistent=False)

    def bias(self) -> SinusoidBias:
        """The ratios of the heads."""
        return SinusoidBias(self.ratios_H)

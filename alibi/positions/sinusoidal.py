"""Sinusoidal position embeddings (Vaswani et al. 2017), in fairseq's form, which the paper trains."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from alibi.device import float64_device
from alibi.errors import InputError
from alibi.positions.base import PositionMethod

# fairseq numbers positions from its padding index (1) plus one.
FIRST_ROW = 2


def check_width(width: int) -> None:
    """Refuses a width that can't hold a sinusoid.

    Raises:
        InputError: if it is odd or below 4.
    """
    if width < 4 or width % 2:
        raise InputError(f"width={width}: a sinusoid needs an even width from 4 on")


def sinusoid(rows_T: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """Row r is [sin(r f_0) .. sin(r f_{n-1}), cos(r f_0) .. cos(r f_{n-1})].

    Here n = width / 2. The frequencies f_k = 10000^(-k / (n - 1)) fall from 1 to
    1/10000. Unlike the textbook's, sines and cosines are not interleaved and the
    exponent is divided by n - 1 (fairseq, which the official code is built on).

    Args:
        rows_T: row numbers, any integers.
        width: columns of the result, even and at least 4.
        base: 10000, by which frequencies are divided in all.

    Returns:
        Float32 [T, width].

    Raises:
        InputError: if the width is odd or below 4.
    """
    check_width(width)
    half = width // 2
    # In float64 and rounded once: float32 angles are off by more than 1e-4 beyond a few
    # thousand positions.
    steps = torch.arange(half, dtype=torch.float64)
    frequencies = torch.exp(-math.log(base) / (half - 1) * steps)
    computes = float64_device(rows_T.device)
    angles = rows_T.to(computes).to(torch.float64)[:, None] * frequencies.to(computes)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float().to(rows_T.device)


class Sinusoidal(PositionMethod):
    """Adds a fixed sinusoid of the position to each token embedding, once, before the first layer.

    Raises:
        InputError: if the width is odd or below 4.
    """

    name = "sinusoidal"
    title = "Sinusoidal"
    base: ClassVar[float] = 10000.0

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        check_width(width)

    def embeddings(self, positions_T: Tensor) -> Tensor:
        """The sinusoid of these positions, [T, width]."""
        return sinusoid(positions_T + FIRST_ROW, self.width, self.base)

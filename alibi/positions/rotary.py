"""Rotary position embeddings (Su et al. 2021), as in the RoFormer code that the paper uses (its footnote 5)."""

from typing import ClassVar

import torch
from torch import Tensor

from alibi.device import float64_device
from alibi.errors import InputError
from alibi.positions.base import PositionMethod


def frequencies(head_width: int, base: float = 10000.0) -> Tensor:
    """The angle of each pair at position 1: base^(-2k / D) for k = 0 .. D / 2 - 1, float64."""
    return base ** -(torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)


def check_even(head_width: int) -> None:
    """Refuses an odd head width, which has no pairs.

    Raises:
        InputError: if it is odd.
    """
    if head_width % 2:
        raise InputError(f"rotary needs an even head width, not {head_width}")


def rotate(
    heads_BHTD: Tensor,
    positions_T: Tensor,
    frequencies_K: Tensor | None = None,
) -> Tensor:
    """Turns the pair (x_2k, x_2k+1) at position p by the angle p * 10000^(-2k / D).

    The score of a turned query at i and a turned key at j depends on i - j alone, since
    turning both by the same angle leaves their product as it was. Results come as all
    first halves of the pairs, then all second halves: the order of the columns does not
    matter to a product in which both sides have it.

    Args:
        heads_BHTD: queries or keys, the head width D even.
        positions_T: absolute positions, from 0.
        frequencies_K: other angles at position 1, for a rescaled rotation
            (`alibi.positions.interpolation`).

    Returns:
        The turned vectors, in the input's shape and dtype.

    Raises:
        InputError: if the head width is odd.
    """
    head_width = heads_BHTD.shape[-1]
    check_even(head_width)
    device, computes = heads_BHTD.device, float64_device(positions_T.device)
    theta_K = frequencies(head_width) if frequencies_K is None else frequencies_K
    positions_T = positions_T.to(computes).to(torch.float64)
    angles_TK = positions_T[:, None] * theta_K.to(computes)
    # In float32 at least: a cosine of 16 bits turns by another angle than its sine.
    wide = torch.promote_types(heads_BHTD.dtype, torch.float32)
    cosine_TK = angles_TK.cos().to(wide).to(device)
    sine_TK = angles_TK.sin().to(wide).to(device)
    # A compiler knows no complex numbers, but makes one pass of real ones; MPS has them
    # of late, and in part.
    if torch.compiler.is_compiling() or device.type == "mps":
        first, second = heads_BHTD[..., 0::2], heads_BHTD[..., 1::2]
        turned_first = first * cosine_TK - second * sine_TK
        turned_second = second * cosine_TK + first * sine_TK
        return torch.cat([turned_first, turned_second], dim=-1).to(heads_BHTD.dtype)
    # Queries are columns of a larger tensor: widened and laid out in one copy. Each
    # pair is one complex number.
    dense_BHTD = heads_BHTD.to(wide, memory_format=torch.contiguous_format).contiguous()
    pairs_BHTK = torch.view_as_complex(dense_BHTD.unflatten(-1, (-1, 2)))
    turned_BHTK2 = torch.view_as_real(pairs_BHTK * torch.complex(cosine_TK, sine_TK))
    # Narrowed before the halves are parted, which moves half as many bytes.
    return turned_BHTK2.to(heads_BHTD.dtype).transpose(-1, -2).flatten(-2)


class Rotary(PositionMethod):
    """Rotates queries and keys of every layer by angles that grow with the position; values stay as they are.

    Raises:
        InputError: if the head width is odd.
    """

    name = "rotary"
    title = "Rotary"
    base: ClassVar[float] = 10000.0

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads)
        check_even(self.head_width)

    def rotate(self, heads_BHTD: Tensor, positions_T: Tensor) -> Tensor:
        """Queries or keys, rotated."""
        return rotate(heads_BHTD, positions_T, frequencies(self.head_width, self.base))

"""No positions at all: order is seen only through the causal mask (Haviv et al. 2022, Kazemnejad et al. 2023)."""

from alibi.positions.base import PositionMethod


class NoPositions(PositionMethod):
    """Adds nothing, rotates nothing, biases nothing."""

    name = "none"
    title = "None (NoPE)"

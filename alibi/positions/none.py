"""No positions at all: only the causal mask shows the order (Haviv et al. 2022, Kazemnejad et al. 2023)."""

from alibi.positions.base import PositionMethod


class NoPositions(PositionMethod):
    """Adds nothing, rotates nothing, biases nothing."""

    name = "none"
    title = "None (NoPE)"

"""Learned position embeddings (Gehring et al. 2017): a table with one vector for each position, up to its end."""

import torch
from torch import Tensor, nn

from alibi.errors import InputError
from alibi.positions.base import PositionMethod


class Learned(PositionMethod):
    """Adds a learned vector of the position to each token embedding; it can't extrapolate at all (section 2).

    Raises:
        InputError: if the table would be empty; later, for a text longer than the table (`check_length`).
    """

    name = "learned"
    title = "Learned"
    needs_longest = True

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads, longest)
        if longest < 1:
            raise InputError(f"longest={longest}: learned positions need a table, as long as the training length")
        self.weights_TC = nn.Parameter(torch.randn(longest, width) * width**-0.5)

    def check_length(self, length: int, dtype: torch.dtype = torch.float32) -> None:
        """Refuses a text longer than the table.

        Raises:
            InputError: for a longer text; the message has the last position of text and table.
        """
        if length > (longest := len(self.weights_TC)):
            raise InputError(
                f"position {length - 1}: the learned table ends at {longest - 1}, since the model was made for "
                f"{longest} tokens; let it read up to {longest} tokens, or train another with a longer table"
            )

    def embeddings(self, positions_T: Tensor) -> Tensor:
        """The rows of these positions, [T, width]."""
        return self.weights_TC[positions_T]

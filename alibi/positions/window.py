"""Windowed attention, the control for ALiBi (Chi et al. 2023): the nearest w keys in full, all others hidden."""

from dataclasses import dataclass

import torch
from torch import Tensor

from alibi.errors import InputError
from alibi.positions.base import LinearBias, PositionMethod

# Windows in a training length.
WINDOWS_IN_L = 4


@dataclass(frozen=True)
class WindowBias(LinearBias):
    """0 for the nearest keys, minus infinity for the others: a linear bias of slope 0 that hides keys."""

    keys: int = 1
    """w: the number of keys that a query sees, including its own token's."""

    @property
    def hides(self) -> bool:
        """True: the bias hides keys."""
        return True

    def reach(self) -> Tensor:
        """w - 1, or less within a decay window: [heads]."""
        return super().reach().clamp(max=self.keys - 1)


class Window(PositionMethod):
    """Adds 0 to scores at distances below w = L / 4, and minus infinity beyond; nothing is learned.

    "When two tokens are distant, ALiBi becomes highly similar to windowed attention" (Chi et al. 2023,
    arXiv:2212.10356, section 1). With it n layers read n (w - 1) + 1 tokens. A quarter of the training length L is the
    largest w for which four layers read at most L, so that a longer window of text shows them nothing new.

    With w = L nothing would be hidden in training. For that case, cut the attention of a model without positions
    (`none`) in evaluation: `alibi.measures.truncation`.

    Raises:
        InputError: without a training length.
    """

    name = "window"
    title = "Windowed attention"
    version = 2
    needs_longest = True

    slopes_H: Tensor

    def __init__(self, width: int, heads: int, longest: int = 0) -> None:
        super().__init__(width, heads, longest)
        if longest < 1:
            raise InputError(f"longest={longest}: windowed attention needs a training length, at least 1")
        self.keys = max(1, longest // WINDOWS_IN_L)
        # A buffer, so that the bias is on the model's device.
        self.register_buffer("slopes_H", torch.zeros(heads, dtype=torch.float64), persistent=False)

    def bias(self) -> WindowBias:
        """The window."""
        return WindowBias(self.slopes_H, keys=self.keys)

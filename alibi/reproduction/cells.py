"""What the runner asks of a cell, the part of an experiment that is run and recorded at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from alibi.run_spec import BOOKKEEPING, Bookkeeping, RunSpec

if TYPE_CHECKING:
    import pandas as pd


class Cell(Protocol):
    """The questions that the runner asks of every cell."""

    @property
    def scale(self) -> str:
        """Name of its scale."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Position methods that it measures."""

    @property
    def train_length(self) -> int:
        """L, tokens."""

    @property
    def title(self) -> str:
        """Its name in a listing, which no other cell of the experiment at this scale has."""

    @property
    def device(self) -> str:
        """The device that runs it: the one asked for, or the scale's own."""

    @property
    def trains(self) -> RunSpec | None:
        """The training run that it needs, which other cells may need too."""

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The training text, its tokenisation, and the text for evaluation."""

    @property
    def measurements(self) -> int:
        """How many evaluations it makes."""

    @property
    def alone(self) -> bool:
        """Whether nothing else may run beside it."""

    @property
    def absent(self) -> str | None:
        """The corpus that it needs and that would have to be fetched."""

    def on(self, device: str) -> "Cell":
        """The same cell on another device."""

    def configured(self) -> dict[str, Any]:
        """Its configuration as plain data."""

    def prepare(self) -> None:
        """Builds missing corpora: once, and not by the first of several waiting processes."""

    def begun(self) -> bool:
        """Whether a part of it is done."""

    def trained(self) -> bool:
        """Whether all of its training is done."""

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether all that it measures is among these records."""

    def numbers(self) -> list[dict[str, Any]]:
        """The numbers that it measures: of each record the columns that are known beforehand."""

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Runs it, and returns one number a row (see `alibi.records`)."""


def records_of(cells: Sequence[Cell]) -> "pd.DataFrame":
    """The records of these cells, one after the other in this process; what the cache holds takes no time."""
    import pandas as pd

    return pd.concat([cell.records() for cell in cells], ignore_index=True)

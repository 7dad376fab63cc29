"""The interface of a cell: the part of an experiment that is run and recorded at once."""

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
    def seed(self) -> int | None:
        """The seed of its weights; None for a cell that trains nothing but a few steps to time them."""

    @property
    def title(self) -> str:
        """Its name in a listing, unique in the experiment at this scale."""

    @property
    def device(self) -> str:
        """The device that runs it: the requested one, or the scale's own."""

    @property
    def trains(self) -> RunSpec | None:
        """The training run that it needs; other cells may need the same run."""

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The training text, its tokenisation, and the text for evaluation."""

    @property
    def measurements(self) -> int:
        """Number of its evaluations."""

    @property
    def alone(self) -> bool:
        """Whether it must run alone on the machine."""

    @property
    def absent(self) -> str | None:
        """The corpus that it needs and that must be fetched first, if there is one."""

    def on(self, device: str) -> "Cell":
        """The same cell on another device."""

    def in_dtype(self, dtype: str) -> "Cell":
        """The same cell with its training in this dtype; itself if it trains nothing, or the dtype is its subject."""

    def configured(self) -> dict[str, Any]:
        """Its configuration as plain data."""

    def prepare(self) -> None:
        """Builds missing corpora once, before several processes would wait for one of them to do it."""

    def begun(self) -> bool:
        """Whether a part of the cell is done."""

    def trained(self) -> bool:
        """Whether all of its training is done."""

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether these records contain all of its measurements."""

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known."""

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Runs it, and returns one number a row (see `alibi.records`)."""


def records_of(cells: Sequence[Cell]) -> "pd.DataFrame":
    """The records of these cells, one after the other in this process; cached parts take no time."""
    import pandas as pd

    return pd.concat([cell.records() for cell in cells], ignore_index=True)

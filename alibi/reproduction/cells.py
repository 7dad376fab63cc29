"""A cell: the part of an experiment that is run and recorded at once."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from alibi.records import plain_rows
from alibi.run_spec import BOOKKEEPING, Bookkeeping, RunSpec

if TYPE_CHECKING:
    import pandas as pd


class Cell(ABC):
    """The questions that the runner asks of every cell, with the answers of a cell without training or text."""

    if TYPE_CHECKING:
        # Many cells have these as fields, and a dataclass would take a property of its base for their default.
        @property
        @abstractmethod
        def scale(self) -> str:
            """Name of its scale."""

        @property
        @abstractmethod
        def methods(self) -> tuple[str, ...]:
            """Position methods that it measures."""

        @property
        @abstractmethod
        def train_length(self) -> int:
            """L, tokens."""

        @property
        @abstractmethod
        def seed(self) -> int | None:
            """The seed of its weights; None for a cell that trains nothing but a few steps to time them."""

    alone: ClassVar[bool] = False
    """Whether it must run alone on the machine."""

    compared: ClassVar[tuple[str, ...]] = (
        "method", "metric", "split", "protocol", "eval_length", "stride", "prefix", "skipped", "sample",
        "interpolation", "distractors", "decay_window",
    )  # fmt: skip
    """Columns in which a record equals a number that it stands for."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Its name in a listing, unique in the experiment at this scale."""

    @property
    @abstractmethod
    def device(self) -> str:
        """The device that runs it: the requested one, or the scale's own."""

    @property
    def trains(self) -> RunSpec | None:
        """The training run that it needs; other cells may need the same run."""
        return None

    @property
    def training_dtype(self) -> str | None:
        """The dtype of its training; None takes the device's native one."""
        return None if self.trains is None else self.trains.dtype

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The training text, its tokenisation, and the text for evaluation; empty if it reads none."""
        return ()

    @property
    @abstractmethod
    def measurements(self) -> int:
        """Number of its evaluations."""

    @property
    def absent(self) -> str | None:
        """The corpus that it needs and that must be fetched first, if there is one."""
        return None

    def on(self, device: str) -> Self:
        """The same cell on another device; itself if it has only one."""
        return self

    def in_dtype(self, dtype: str) -> Self:
        """The same cell with its training in this dtype; itself if it trains nothing, or in one dtype only."""
        return self

    @abstractmethod
    def configured(self) -> dict[str, Any]:
        """Its configuration as plain data."""

    def prepare(self) -> None:
        """Builds missing corpora once, before several processes would wait for one of them to do it."""
        return  # Many cells read no text.

    def begun(self) -> bool:
        """Whether a part of the cell is done and kept; never for a cell that starts again."""
        return False

    def trained_share(self) -> float:
        """The share of its training that is done and kept, 0 to 1."""
        return 0.0

    @abstractmethod
    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The columns that tell its records from those of the experiment's other cells; None is an empty one."""

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether these records, without those of smoke runs, have each of its numbers, by the columns `compared`."""
        its_rows = ~records.smoke.astype("boolean").fillna(False)
        for column, value in self.identity().items():
            its_rows &= records[column].isna() if value is None else records[column] == value
        # One choice of rows at the end: each copies all columns.
        found = {tuple(row.values()) for row in plain_rows(records.loc[its_rows, [*self.compared]])}
        return found.issuperset(tuple(map(number.get, self.compared)) for number in self.numbers())

    @abstractmethod
    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known."""

    @abstractmethod
    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Runs it, and returns one number a row (see `alibi.records`)."""


def records_of(cells: Sequence[Cell]) -> "pd.DataFrame":
    """The records of these cells, one after the other in this process; cached parts take no time."""
    import pandas as pd

    return pd.concat([cell.records() for cell in cells], ignore_index=True)

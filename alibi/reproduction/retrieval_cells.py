"""Cells that train small models on generated windows, and count their right answers past L."""

import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from alibi.device import THREADS
from alibi.model import Decoder, unmade
from alibi.positions.interpolation import INTERPOLATIONS, interpolated
from alibi.provenance import provenance
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.cells import Cell
from alibi.reproduction.evidence import LEARNED
from alibi.retrieval.accuracy import Accuracy, accuracy, greedy
from alibi.retrieval.tasks import COPYING, KEY_SYMBOLS, PASSKEY, RECALL, TASKS, Windows, draw
from alibi.retrieval.training import Budget, train
from alibi.run_spec import BOOKKEEPING, Bookkeeping, smoke_steps
from alibi.scale import scale_named

if TYPE_CHECKING:
    import pandas as pd

GENERATED = "generated windows"
ANSWERS = EXACT_MATCH, TOKEN_ACCURACY = "exact_match", "token_accuracy"
LENGTHS = (64, 128, 256, 512, 1024)
# Numbers of key-value pairs in a window of `recall`, if they fit: one is asked for, the others distract.
PAIRS = (4, 16, 64, 256)
# A passkey window has one short answer; the other tasks have many answers, or one of many tokens.
TEST_WINDOWS = {PASSKEY: 256, RECALL: 64, COPYING: 64}
# Number of parts of the window by which answers are counted.
PARTS = 8


@dataclass(frozen=True)
class RetrievalMeasure:
    """One task at one length, with one number of pairs and one kind of interpolation."""

    task: str
    length: int
    """Tokens in a window, T."""
    pairs: int | None = None
    """Number of pairs, only for task `recall`."""
    interpolation: str | None = None
    """Kind of `alibi.positions.interpolation` that rescales slopes or angles; None leaves them."""

    @property
    def parts(self) -> list[tuple[int, int]]:
        """First and last position of each part of a window that may hold an answer."""
        last = self.length - 2 * KEY_SYMBOLS + 1 if self.task == PASSKEY else self.length // 2
        size = self.length // PARTS
        return [(first, first + size - 1) for first in range(1, last + 1, size)]

    def windows(self) -> Windows:
        """The test windows, held out from training and the same for every model."""
        random = np.random.default_rng([list(TASKS).index(self.task), self.length, self.pairs or 0])
        return draw(self.task, random, TEST_WINDOWS[self.task], self.length, self.pairs, held_out=True)

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers: exact match and token accuracy of the whole window, and one of them by part.

        By part it gives exact match; for copying, whose one answer fills half of the window, token accuracy.
        """
        own = {
            "protocol": self.task, "eval_length": self.length, "interpolation": self.interpolation, "unit": "",
            "distractors": None if self.pairs is None else self.pairs - 1,
        }  # fmt: skip
        metric = EXACT_MATCH if self.task != COPYING else TOKEN_ACCURACY
        whole = [own | {"metric": name} for name in ANSWERS]
        parts = [own | {"metric": metric, "first_position": low, "last_position": high} for low, high in self.parts]
        return whole + parts


def measures(method: str, train_length: int) -> list[RetrievalMeasure]:
    """Every task at every length, and past L again with each interpolation of this method."""
    plain = [
        RetrievalMeasure(task, length, pairs)
        for task in TASKS
        for length in LENGTHS
        for pairs in ([n for n in PAIRS if n <= length // 4] if task == RECALL else [None])
    ]
    past = [measure for measure in plain if measure.length > train_length]
    kinds = INTERPOLATIONS.get(method, {})
    return plain + [replace(measure, interpolation=kind) for kind in kinds for measure in past]


@dataclass(frozen=True)
class RetrievalCell(Cell):
    """One small model, trained on all tasks at once and tested at every length."""

    method: str
    scale: str
    seed: int
    budget: Budget
    asked_device: str | None = None
    """Device for training and tests; the scale's own if left out."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Its position method, as a tuple of one."""
        return (self.method,)

    @property
    def train_length(self) -> int:
        """L, tokens of the longest windows in training."""
        return self.budget.length

    @property
    def training_dtype(self) -> str:
        """float32 on every device."""
        return "float32"

    @property
    def title(self) -> str:
        """The cell's name, such as "retrieval of alibi, L = 64, seed 0"."""
        return f"retrieval of {self.method}, L = {self.train_length}, seed {self.seed}"

    @property
    def device(self) -> str:
        """The device for training and tests."""
        return self.asked_device or scale_named(self.scale).device

    @property
    def measurements(self) -> int:
        """Number of its evaluations."""
        return len(measures(self.method, self.train_length))

    def on(self, device: str) -> Self:
        """The same cell on another device."""
        return replace(self, asked_device=device)

    def configured(self) -> dict[str, Any]:
        """Model and training, as plain data."""
        config = asdict(self.budget.config(self.method))
        return asdict(self.budget) | {"model": config, "seed": self.seed, "device": self.device}

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""
        model = unmade(self.budget.config(self.method))
        evaluations = sum(
            model.training_flops(m.length) / 3 * m.length * TEST_WINDOWS[m.task]
            for m in measures(self.method, self.train_length)
        )
        return model.training_flops(self.train_length) * self._tokens, evaluations

    @property
    def _tokens(self) -> int:
        return _tokens(self.budget, self.seed)

    def identity(self) -> dict[str, Any]:
        """The columns that all of its records share."""
        return {
            "corpus": GENERATED, "corpus_used": GENERATED, "split": "valid", "method": self.method,
            "train_length": self.train_length, "scale": self.scale, "seed": self.seed, "tokens_trained": self._tokens,
        }  # fmt: skip

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known."""
        own = self.identity()
        return [own | number for m in measures(self.method, self.train_length) for number in m.numbers()]

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Trains and tests the model, and returns one number a row; a note marks a task that was not learned.

        If the environment variable ALIBI_SMOKE holds a number of steps, it trains only these steps, and tests only at
        L.
        """
        import pandas as pd

        budget, asked, smoke = self.budget, measures(self.method, self.train_length), False
        if short := smoke_steps():
            budget, smoke = replace(budget, steps=min(budget.steps, short)), True
            asked = [measure for measure in asked if measure.length == self.train_length]
            print(f"ALIBI_SMOKE is set: {budget.steps} steps, a run that shows nothing", file=sys.stderr)
        threads = scale_named(self.scale).threads or THREADS
        trained = train(self.method, budget, self.seed, self.device, threads, bookkeeping.bar_row)
        count = trained.model.parameter_count()
        common = self.identity() | provenance(self.device)
        common |= {
            "model": f"{count / 1e6:.1f}M", "parameters": count, "tokens_trained": budget.tokens(self.seed),
            "provenance": "measured", "dtype": self.training_dtype, "seconds": round(trained.seconds, 1),
            "smoke": smoke,
        }  # fmt: skip
        found = {measure: measured(trained.model, measure, self.train_length) for measure in asked}
        at_length: dict[str, list[float]] = {}
        for measure, answers in found.items():
            if measure.length == self.train_length:
                at_length.setdefault(measure.task, []).append(answers.exact_match()[0])
        rows = []
        for measure, answers in found.items():
            least = min(at_length[measure.task])
            told = {"note": None if least > LEARNED else f"not learned: exact match {least:.2f} at L"}
            for number in measure.numbers():
                value, scored = _of(answers, number)
                rows.append(common | number | told | {"value": value, "tokens_scored": scored})
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


@cache
def _tokens(budget: Budget, seed: int) -> int:
    return budget.tokens(seed)


def measured(model: Decoder, measure: RetrievalMeasure, train_length: int) -> Accuracy:
    """The answers of a trained model; it keeps its own slopes and angles afterwards."""
    positions = model.positions
    if measure.interpolation is not None:
        positions = interpolated(positions, measure.interpolation, train_length, measure.length)
    with model.positions_by(positions):
        return accuracy(greedy(model), measure.windows())


def _of(found: Accuracy, number: dict[str, Any]) -> tuple[float, int]:
    places = number.get("first_position", 1), number.get("last_position")
    return found.exact_match(*places) if number["metric"] == EXACT_MATCH else found.token_accuracy(*places)

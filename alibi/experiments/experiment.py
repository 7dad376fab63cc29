"""What an experiment is made of: cells, each a training run and what is measured of it, and how cells are run."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from alibi.configuration import TrainConfig, configure
from alibi.corpus import Corpus, load, outline
from alibi.evaluate import Evaluation
from alibi.model import Decoder
from alibi.runs import Run, run_folder, trained
from alibi.scale import scale_named

if TYPE_CHECKING:
    import pandas as pd

# Evaluation lengths as multiples of the training length, in the chapters' live runs.
EXTRAPOLATION = (0.5, 1, 1.25, 2, 4, 8, 16)
# The same in the experiments, up to the scale's longest: just past the training length, and doublings.
MULTIPLES = (1, 1.125, 1.25, 2, 4, 8, 16, 32)
LONGEST = {"quick": 2048, "laptop": 2048, "gpu": 16_384, "paper": 16_384}
# Tokens that the sliding window scores, from the start of the split: at stride 1 each costs a whole window.
HALF_STRIDE_TOKENS = {"quick": 4096, "laptop": 32_768, "gpu": 32_768, "paper": 32_768}
STRIDE_1_TOKENS = {"quick": 64, "laptop": 1024, "gpu": 1024, "paper": 1024}


@dataclass(frozen=True)
class Text:
    """What is trained on, and what is evaluated on in its vocabulary (the same corpus if left out)."""

    train: str
    evaluate: str = ""
    tokenisation: str = ""
    """Words, bytes or bert; empty takes the corpus's own."""


@dataclass(frozen=True)
class Measure:
    """One evaluation of a trained run."""

    length: int
    """Tokens in a window, L_valid."""
    stride: int | None = None
    """New tokens a window; None for nonoverlapping windows."""
    prefix: int | None = None
    """Tokens that are scored, from the start of the split; None scores all."""
    split: str = "valid"


@dataclass(frozen=True)
class Cell:
    """One training run and what is measured of it."""

    method: str
    scale: str
    train_length: int
    text: Text = Text("wikipedia-sample")
    corpus: str = "wikitext-103"
    """The paper's set, whatever text is read."""
    seed: int = 1
    steps: int = 0
    """Optimiser steps; 0 takes the scale's own number."""
    large: bool = False
    """Whether the scale's larger model is trained."""
    equal_time: bool = False
    """Whether the steps are fewer, so that it takes no longer than the run that it is compared with."""
    measures: tuple[Measure, ...] = ()
    by_position: bool = False
    """Whether the loss is recorded by the position in the window as well."""

    alone: ClassVar[bool] = False
    """Whether nothing else may run beside it."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Its position method, in the form that cells of several have."""
        return (self.method,)

    def prepare(self) -> None:
        """Builds the corpora that are missing: once, and not by the first of several waiting processes.

        Raises:
            ValueError: if a split that is to be trained or evaluated on is not there.
        """
        text = load(self.text.train, self.text.tokenisation)
        text.require("train")
        (self.read() or text).require(*(measure.split for measure in self.measures or _live(self)))

    @property
    def title(self) -> str:
        """Such as "alibi, L = 64, seed 0"."""
        return f"{self.method}, L = {self.train_length}, seed {self.seed}"

    def outline(self) -> Corpus:
        """The corpus that is trained on, or where that would have to be fetched, its published sizes."""
        return outline(self.text.train, self.text.tokenisation)

    @property
    def absent(self) -> str:
        """The corpus that is trained on if it would have to be fetched, else empty."""
        return "" if self.outline().source else self.text.train

    def config(self) -> TrainConfig:
        """The configuration of the run; of a corpus that is not here it lacks the digest."""
        text = self.outline()
        return configure(self.method, text, self.scale, self.train_length, self.seed, self.steps, large=self.large)

    def configured(self) -> dict[str, Any]:
        """The configuration as plain data."""
        return asdict(self.config())

    def run(self, bar_row: int = 0) -> Run:
        """The trained run, from the cache or trained now."""
        return trained(
            self.method, self.text.train, self.scale, self.train_length, self.seed, self.steps, bar_row,
            self.text.tokenisation, self.large,
        )  # fmt: skip

    def read(self) -> Corpus | None:
        """What is evaluated on, where it is not the corpus of the run."""
        return load(self.text.evaluate) if self.text.evaluate else None

    def records(self, bar_row: int = 0) -> "pd.DataFrame":
        """Trains what is not in the cache, evaluates, and returns one number a row (see `alibi.records`)."""
        import pandas as pd

        run, read, tables = self.run(bar_row), self.read(), []
        for m in self.measures or _live(self):
            tables.append(run.records([m.length], m.stride, m.split, m.prefix, read, self.corpus))
            if self.by_position:
                tables.append(_by_position(tables[-1], run.evaluation(m.length, m.stride, m.split, m.prefix, read)))
        return pd.concat(tables, ignore_index=True).assign(equal_time=self.equal_time)

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether every measure of this cell is among these records."""
        used = f"{self.text.train} -> {self.text.evaluate}" if self.text.evaluate else self.text.train
        own = records[
            (records.method == self.method)
            & (records.scale == self.scale)
            & (records.train_length == self.train_length)
            & (records.seed == self.seed)
            & (records.corpus_used == used)
            & (records.tokens_trained == self.tokens)
            & ~records.smoke.fillna(False)
        ]
        found = set(zip(own.split, own.eval_length, own.stride.fillna(0), own.prefix.fillna(0), strict=True))
        return all((m.split, m.length, m.stride or 0, m.prefix or 0) in found for m in self.measures)

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        chosen = scale_named(self.scale)
        batch = chosen.batch_tokens // self.train_length * self.train_length
        return (self.steps or chosen.steps) * batch

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""
        config = self.config()
        with torch.device("meta"):
            model = Decoder(config.model)
        text = outline(self.text.evaluate) if self.text.evaluate else self.outline()
        text.require(*(measure.split for measure in self.measures))
        evaluations = 0.0
        for measure in self.measures:
            # A pass forward is a third of a training step; a window's context is run and not scored.
            scored = measure.prefix or text.splits[measure.split].words
            evaluations += (
                model.training_flops(measure.length) / 3 * scored * measure.length / (measure.stride or measure.length)
            )
        return model.training_flops(self.train_length) * self.tokens, evaluations

    def begun(self) -> bool:
        """Whether the cache holds a part of the run."""
        config = self.config()
        can_be = config.stream_sha256 and (config.device == "cpu" or torch.cuda.is_available())
        return bool(can_be) and run_folder(config).is_dir()


def _live(cell: Cell) -> Iterable[Measure]:
    return [Measure(round(multiple * cell.train_length)) for multiple in EXTRAPOLATION]


def _by_position(records: "pd.DataFrame", found: Evaluation) -> "pd.DataFrame":
    """The mean loss (nats) of the tokens at positions 1, 2, 3 to 4, 5 to 8 and so on of the window."""
    import pandas as pd

    edges = [0, *(2**power for power in range(found.length.bit_length()))]
    rows = []
    for low, high in zip(edges, [*edges[1:], found.length], strict=True):
        tokens = int(found.tokens_by_position[low:high].sum())
        if tokens:
            nats = float(found.nats_by_position[low:high].sum()) / tokens
            own = {"metric": "loss", "value": nats, "unit": "nats", "tokens_scored": tokens}
            rows.append(records.iloc[0].to_dict() | own | {"first_position": low + 1, "last_position": high})
    return pd.DataFrame(rows).reindex(columns=records.columns)


def nonoverlapping(scale: str, train_length: int, others: Iterable[int] = ()) -> tuple[Measure, ...]:
    """Evaluations of the whole validation split at `MULTIPLES` of the training length, and at other lengths."""
    lengths = {round(multiple * train_length) for multiple in MULTIPLES} | set(others)
    return tuple(Measure(length) for length in sorted(lengths) if length <= LONGEST[scale])


def sliding(scale: str, train_length: int) -> tuple[Measure, ...]:
    """Sliding windows of 1, 2 and 4 training lengths, strides L_valid / 2 and 1, over the beginning of the split."""
    lengths = [multiple * train_length for multiple in (1, 2, 4)]
    half = [Measure(length, length // 2, HALF_STRIDE_TOKENS[scale]) for length in lengths]
    return (*half, *(Measure(length, 1, STRIDE_1_TOKENS[scale]) for length in lengths))


def grid(
    methods: Sequence[str], scale: str, lengths: Sequence[int], seeds: Sequence[int], text: Text, corpus: str
) -> list[Cell]:
    """Every method at every training length, both protocols; the first seed and the shortest lengths first."""
    return [
        Cell(
            method,
            scale,
            length,
            text,
            corpus,
            seed,
            measures=nonoverlapping(scale, length, lengths) + sliding(scale, length),
        )
        for seed in seeds
        for length in lengths
        for method in methods
    ]


def records(cells: Sequence[Cell]) -> "pd.DataFrame":
    """The records of these cells, one after the other in this process; what the cache holds takes no time."""
    import pandas as pd

    return pd.concat([cell.records() for cell in cells], ignore_index=True)

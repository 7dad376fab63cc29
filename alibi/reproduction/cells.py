"""What an experiment is made of: cells, each something that is run, and the records that come of it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from alibi.configuration import TrainConfig, configure
from alibi.corpora.corpus import Corpus, load, name_at, outline, split_names
from alibi.corpora.folders import STAND_INS
from alibi.evaluate import Evaluation
from alibi.model import Decoder
from alibi.progress import say
from alibi.run_spec import BOOKKEEPING, Bookkeeping, RunSpec
from alibi.runs import Run, cached_run, run_folder
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
    evaluate: str | None = None
    tokenisation: str | None = None
    """Words, bytes or bert; None takes the corpus's own."""


def text_named(corpus: str | None, default: Text) -> Text:
    """The text that a reader chose, or the experiment's own.

    It is evaluated on its own validation split; a stand-in without one, on the corpus that it stands for.

    Args:
        corpus: a name that `alibi.corpora.corpus.load` knows; None takes the default.
        default: the experiment's.

    Raises:
        ValueError: for an unknown name; those there are are listed.
    """
    if corpus is None or corpus == default.train:
        return default
    held_out = "valid" in split_names(corpus)
    return Text(corpus, None if held_out or corpus not in STAND_INS else STAND_INS[corpus].evaluated_on)


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


class Cell(Protocol):
    """What the runner asks of a cell, whatever it measures."""

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
        """What a line of a listing calls it."""

    @property
    def steps(self) -> int | None:
        """Optimiser steps, where they are not the scale's own."""

    @property
    def measurements(self) -> int:
        """How many evaluations it makes."""

    @property
    def alone(self) -> bool:
        """Whether nothing else may run beside it."""

    @property
    def absent(self) -> str | None:
        """The corpus that it needs and that would have to be fetched."""

    def configured(self) -> dict[str, Any]:
        """What is run, as plain data."""

    def prepare(self) -> None:
        """Builds what is missing of the corpora: once, and not by the first of several waiting processes."""

    def begun(self) -> bool:
        """Whether a part of it is done."""

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether all that it measures is among these records."""

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Runs it, and returns one number a row (see `alibi.records`)."""


@dataclass(frozen=True)
class TrainingCell:
    """One training run and what is measured of it."""

    spec: RunSpec
    paper_corpus: str = "wikitext-103"
    """The paper's set, whatever text is read."""
    eval_corpus: str | None = None
    """What is evaluated on, in the vocabulary of the run; the corpus of the run if left out."""
    measures: tuple[Measure, ...] = ()
    by_position: bool = False
    """Whether the loss is recorded by the position in the window as well."""
    equal_time: bool = False
    """Whether the steps are fewer, so that it takes no longer than the run that it is compared with."""

    alone: ClassVar[bool] = False

    @property
    def scale(self) -> str:
        """Name of its scale."""
        return self.spec.scale

    @property
    def methods(self) -> tuple[str, ...]:
        """Its position method, in the form that cells of several have."""
        return (self.spec.method,)

    @property
    def train_length(self) -> int:
        """L, tokens."""
        return self.spec.train_length or scale_named(self.scale).train_length

    @property
    def title(self) -> str:
        """Such as "alibi, L = 64, seed 0"."""
        return f"{self.spec.method}, L = {self.train_length}, seed {self.spec.seed}"

    @property
    def steps(self) -> int | None:
        """Optimiser steps, where they are not the scale's own."""
        return self.spec.steps

    @property
    def measurements(self) -> int:
        """How many evaluations it makes."""
        return len(self.measures)

    def prepare(self) -> None:
        """Builds the corpora that are missing: once, and not by the first of several waiting processes.

        Raises:
            InputError: if what is trained or evaluated on lacks a split.
        """
        trained_on = load(self.spec.corpus, self.spec.tokenisation)
        trained_on.require("train")
        evaluated_on = self.evaluated_on()
        (evaluated_on or trained_on).require(*(measure.split for measure in self.measures))
        times = self.tokens / len(trained_on.split("train").tokens)
        if times > 1:
            _say_once(f"{trained_on.name}: the text is read {times:.1f} times, {self.tokens:,} tokens in all")

    def outline(self) -> Corpus:
        """The corpus that is trained on, or where that would have to be fetched, its published sizes."""
        return outline(self.spec.corpus, self.spec.tokenisation)

    @property
    def absent(self) -> str | None:
        """The corpus that is trained on, if it would have to be fetched."""
        return None if self.outline().source else self.spec.corpus

    def config(self) -> TrainConfig:
        """The configuration of the run; of a corpus that is not here it lacks the digest."""
        return configure(self.spec, self.outline())

    def configured(self) -> dict[str, Any]:
        """The configuration as plain data."""
        return asdict(self.config())

    def run(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> Run:
        """The trained run, from the cache or trained now."""
        return cached_run(self.spec, bookkeeping)

    def evaluated_on(self) -> Corpus | None:
        """What is evaluated on, where it is not the corpus of the run."""
        return None if self.eval_corpus is None else load(self.eval_corpus)

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Trains what is not in the cache, evaluates, and returns one number a row (see `alibi.records`)."""
        import pandas as pd

        run, text, tables = self.run(bookkeeping), self.evaluated_on(), []
        for m in self.measures or _live(self):
            tables.append(run.records([m.length], m.stride, m.split, m.prefix, text, self.paper_corpus))
            if self.by_position:
                tables.append(_by_position(tables[-1], run.evaluation(m.length, m.stride, m.split, m.prefix, text)))
        return pd.concat(tables, ignore_index=True).assign(equal_time=self.equal_time)

    @property
    def corpus_used(self) -> str:
        """What its records say was read: "a -> b" is trained on a and evaluated on b."""
        return f"{self.spec.corpus} -> {self.eval_corpus}" if self.eval_corpus else self.spec.corpus

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether every measure of this cell is among these records."""
        same = {
            "method": self.spec.method,
            "scale": self.scale,
            "train_length": self.train_length,
            "seed": self.spec.seed,
            "corpus_used": self.corpus_used,
            "tokens_trained": self.tokens,
        }
        own = records[~records.smoke.fillna(False)]
        for column, value in same.items():
            own = own[own[column] == value]
        found = set(zip(own.split, own.eval_length, own.stride.fillna(0), own.prefix.fillna(0), strict=True))
        return all((m.split, m.length, m.stride or 0, m.prefix or 0) in found for m in self.measures)

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        scale = scale_named(self.scale)
        return (self.spec.steps or scale.steps) * (scale.batch_tokens // self.train_length * self.train_length)

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""
        config = self.config()
        with torch.device("meta"):
            model = Decoder(config.model)
        text = outline(self.eval_corpus) if self.eval_corpus else self.outline()
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


@cache
def _say_once(message: str) -> None:
    say(message)


def _live(cell: TrainingCell) -> Iterable[Measure]:
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


def spec_of(method: str, scale: str, train_length: int, text: Text, seed: int, **chosen: Any) -> RunSpec:
    """The run of a method on this text; further fields of `RunSpec` by name."""
    return RunSpec(
        method=method,
        scale=scale,
        train_length=train_length,
        corpus=name_at(scale_named(scale), text.train, text.tokenisation),
        tokenisation=text.tokenisation,
        seed=seed,
        **chosen,
    )


def grid(
    methods: Sequence[str], scale: str, lengths: Sequence[int], seeds: Sequence[int], text: Text, paper_corpus: str
) -> list[TrainingCell]:
    """Every method at every training length, both protocols; the first seed and the shortest lengths first."""
    return [
        TrainingCell(
            spec_of(method, scale, length, text, seed),
            paper_corpus,
            text.evaluate,
            measures=nonoverlapping(scale, length, lengths) + sliding(scale, length),
        )
        for seed in seeds
        for length in lengths
        for method in methods
    ]


def records_of(cells: Sequence[Cell]) -> "pd.DataFrame":
    """The records of these cells, one after the other in this process; what the cache holds takes no time."""
    import pandas as pd

    return pd.concat([cell.records() for cell in cells], ignore_index=True)

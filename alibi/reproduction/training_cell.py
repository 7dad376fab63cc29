"""A training run and its measurements as a cell of an experiment, and grids of such cells."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from alibi import checkpoint
from alibi.configuration import CHECKPOINTS, CONFIG, TrainConfig, configure
from alibi.corpora.corpus import Corpus, load, name_at, outline
from alibi.device import compute_dtype, is_here
from alibi.model import unmade
from alibi.progress import say_once
from alibi.protocols import AGAINST_ITSELF, NONOVERLAPPING, SLIDING, SLOPES
from alibi.reproduction.cells import Cell
from alibi.reproduction.evaluations import (
    Measure,
    SelfMeasure,
    against_itself,
    full_windows,
    live,
    nonoverlapping,
    position_bands,
    records_by_position,
    records_of_slopes,
)
from alibi.reproduction.reading import ReadingMeasure, numbers_of_reading, records_of_reading
from alibi.reproduction.texts import Text
from alibi.run_cache import run_folder
from alibi.run_spec import BOOKKEEPING, Bookkeeping, RunSpec
from alibi.runs import Run, cached_run, metrics_of, ranges_against_itself
from alibi.scale import scale_named

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TrainingCell(Cell):
    """One training run and its measurements."""

    spec: RunSpec
    paper_corpus: str = "wikitext-103"
    """The paper's set; the text that is read may be another one."""
    eval_corpus: str | None = None
    """Text for evaluation, in the vocabulary of the run; the corpus of the run if left out."""
    measures: tuple[Measure, ...] = ()
    against_itself: SelfMeasure | None = None
    """The comparison of the run with itself; none if left out."""
    reading: ReadingMeasure | None = None
    """The measures of how far the run reads; none if left out."""
    slopes: bool = False
    """Whether to record the slope of each head, which training or the seed decides."""
    by_position: bool = False
    """Whether to record the loss by position in the window too, for evaluations that skip no token."""
    equal_time: bool = False
    """Whether the run has fewer steps, so that it takes no longer than the run that it is compared with."""
    asked_dtype: str | None = None
    """The requested dtype of the training, where `spec` leaves it to the machine; a record in another one counts."""

    # Some numbers may have no record: a single article has no standard error, and no token may be repeated at some
    # distance. So a record of each measure is enough, at each position, layer, head and number of tokens seen.
    compared: ClassVar[tuple[str, ...]] = (
        *(name for name in Cell.compared if name != "metric"),
        *("first_position", "layer", "head", "seen"),
    )

    @property
    def scale(self) -> str:
        """Name of its scale."""
        return self.spec.scale

    @property
    def methods(self) -> tuple[str, ...]:
        """Its position method, in the form that cells of several have."""
        return (self.spec.method,)

    @property
    def seed(self) -> int:
        """The seed of its weights, and of the data order if `spec` names no other for that."""
        return self.spec.seed

    @property
    def train_length(self) -> int:
        """L, tokens."""
        return self.spec.train_length or scale_named(self.scale).train_length

    @property
    def title(self) -> str:
        """The cell's name, such as "alibi, L = 64, seed 0", with steps and rate if they are not the scale's own."""
        title = f"{self.spec.method}, L = {self.train_length}, seed {self.spec.seed}"
        for name, chosen in self._chosen().items():
            title += f", {chosen}" if name == "dtype" else f", {name.replace('_', ' ')} {chosen:g}"
        if self.spec.steps is not None:
            title += f", {self.spec.steps:,} steps"
        return f"{title} for equal time" if self.equal_time else title

    @property
    def device(self) -> str:
        """The device that trains and evaluates: the requested one, or the scale's own."""
        return self.spec.device or scale_named(self.scale).device

    @property
    def trains(self) -> RunSpec:
        """The run, without what this machine and the scale choose anyway: one run has one specification."""
        scale, spec = scale_named(self.scale), replace(self.spec, dtype=self.spec.dtype or self.asked_dtype)
        return replace(
            spec,
            steps=None if spec.steps == scale.steps else spec.steps,
            learning_rate=None if spec.learning_rate == scale.learning_rate else spec.learning_rate,
            dtype=None if spec.dtype == compute_dtype(self.device) else spec.dtype,
        )

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The training text, its tokenisation, and the text for evaluation."""
        return self.spec.corpus, self.spec.tokenisation, self.eval_corpus

    def on(self, device: str) -> Self:
        """The same cell on another device."""
        return replace(self, spec=replace(self.spec, device=device))

    def in_dtype(self, dtype: str) -> Self:
        """The same cell with its training in this dtype, if its experiment does not choose one."""
        return replace(self, asked_dtype=dtype)

    @property
    def measurements(self) -> int:
        """Number of its evaluations."""
        # The reading is truncation in two forms, repeats, attention in two windows, and a gradient.
        return len(self.measures) + (self.against_itself is not None) + 6 * (self.reading is not None)

    def prepare(self) -> None:
        """Builds missing corpora once, before several processes would wait for one of them to do it.

        Raises:
            InputError: if the text for training or evaluation lacks a split.
        """
        trained_on = load(self.spec.corpus, self.spec.tokenisation)
        if not trained_on.streamed:
            trained_on.require("train")
        (self.evaluated_on() or trained_on).require(*self._splits())
        if trained_on.streamed:
            return
        times = self.tokens / len(trained_on.split("train").tokens)
        if times > 1:
            say_once(f"{trained_on.name}: the text is read {times:.1f} times, {self.tokens:,} tokens in all")

    def outline(self) -> Corpus:
        """The training corpus, or its published sizes if it must be fetched first."""
        return outline(self.spec.corpus, self.spec.tokenisation)

    @property
    def absent(self) -> str | None:
        """The training corpus, if it must be fetched first."""
        return None if self.outline().source else self.spec.corpus

    def config(self) -> TrainConfig:
        """The configuration of the run, without a digest of the text if the corpus is not here."""
        return configure(self.trains, self.outline())

    def configured(self) -> dict[str, Any]:
        """The configuration as plain data."""
        return asdict(self.config())

    def run(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> Run:
        """The trained run, from the cache or trained now."""
        return cached_run(self.trains, bookkeeping)

    def evaluated_on(self) -> Corpus | None:
        """The text for evaluation, if it is not the corpus of the run."""
        return None if self.eval_corpus is None else load(self.eval_corpus)

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Trains the run if it is not in the cache, evaluates it, returns one number a row (see `alibi.records`)."""
        import pandas as pd

        run, text, tables = self.run(bookkeeping), self.evaluated_on(), []
        measured_otherwise = self.reading is not None or self.against_itself is not None
        for m in self.measures or (() if measured_otherwise else live(self.train_length)):
            chosen = m.stride, m.split, m.prefix, text
            tables.append(run.records([m.length], *chosen, self.paper_corpus, m.skip, m.sample, m.interpolation))
            if self.by_position and not m.skip:
                tables.append(records_by_position(tables[-1], run.evaluation(m.length, *chosen)))
        if own := self.against_itself:
            chosen_itself = own.window, own.stride, own.split, own.sample, text
            tables.append(run.records_against_itself(*chosen_itself, self.paper_corpus))
        if self.reading:
            tables.append(records_of_reading(run, self.reading, text, self.paper_corpus))
        if self.slopes:
            tables.append(records_of_slopes(run, text, self.paper_corpus))
        return pd.concat(tables, ignore_index=True).assign(equal_time=self.equal_time)

    @property
    def corpus_used(self) -> str:
        """The text in its records; "a -> b" means trained on a and evaluated on b."""
        return f"{self.spec.corpus} -> {self.eval_corpus}" if self.eval_corpus else self.spec.corpus

    def identity(self) -> dict[str, Any]:
        """The run and its texts: other cells of the experiment have other runs."""
        return self._of_run() | {"corpus_used": self.corpus_used}

    def _chosen(self) -> dict[str, Any]:
        """Columns of its records that the specification sets, not the scale or the machine."""
        names = ("learning_rate", "method_rate", "data_seed", "dtype", "decay_window")
        named = {name: getattr(self.spec, name) for name in names}
        return {name: chosen for name, chosen in named.items() if chosen is not None}

    def known(self) -> dict[str, Any]:
        """The columns that all of its records share."""
        return {"corpus": self.paper_corpus} | self._of_run()

    def _of_run(self) -> dict[str, Any]:
        return {
            "method": self.spec.method,
            "train_length": self.train_length,
            "paper_length": self.train_length * scale_named(self.scale).paper_factor,
            "scale": self.scale,
            "seed": self.spec.seed,
            "tokens_trained": self.tokens,
            "data_seed": None,
            "method_rate": None,
        } | self._chosen()

    def _known_of(
        self, split: str | None, length: int | None, protocol: str, stride: int | None, sample: int | None
    ) -> dict[str, Any]:
        return self.known() | {
            "split": split,
            "eval_length": length,
            "protocol": protocol,
            "stride": stride,
            "sample": sample,
            "equal_time": self.equal_time,
        }

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known."""
        found: list[dict[str, Any]] = []
        for m in self.measures:
            own = self._known_of(
                m.split, m.length, NONOVERLAPPING if m.stride is None else SLIDING, m.stride, m.sample
            ) | {"prefix": m.prefix, "skipped": m.skip or None, "interpolation": m.interpolation}
            metrics = metrics_of(m.length, self.train_length, m.skip, m.stride)
            found += [own | {"metric": metric, "unit": unit} for metric, unit in metrics.items()]
            if self.by_position and not m.skip:
                loss = {"metric": "loss", "unit": "nats"}
                bands = position_bands(m.length)
                found += [own | loss | {"first_position": low + 1, "last_position": high} for low, high in bands]
        if itself := self.against_itself:
            own = self._known_of(itself.split, itself.window, AGAINST_ITSELF, itself.stride, itself.sample)
            found += [
                own | {"metric": metric, "unit": "nats", "first_position": low + 1, "last_position": high}
                for low, high in ranges_against_itself(self.train_length, itself.window, itself.stride)
                for metric in ("loss_against_itself", "loss_against_itself_standard_error")
            ]
        if r := self.reading:
            known = self.known() | {"equal_time": self.equal_time}
            found += [known | number for number in self._numbers_of(r)]
        if self.slopes:
            own = self._known_of(None, None, SLOPES, None, None) | {"metric": "slope", "unit": "nats/token"}
            found += [own | {"head": head} for head in range(1, scale_named(self.scale).model.heads + 1)]
        return found

    def _numbers_of(self, reading: ReadingMeasure) -> list[dict[str, Any]]:
        scale = scale_named(self.scale)
        shape = scale.large if self.spec.large else scale.model
        return numbers_of_reading(reading, self.train_length, shape.layers, shape.heads)

    def _splits(self) -> list[str]:
        """The splits that are evaluated."""
        every = (*self.measures, self.against_itself, self.reading)
        return list(dict.fromkeys(measure.split for measure in every if measure))

    @property
    def tokens(self) -> int:
        """Number of training tokens."""
        scale = scale_named(self.scale)
        return (self.spec.steps or scale.steps) * (scale.batch_tokens // self.train_length * self.train_length)

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""
        config = self.config()
        model = unmade(config.model)
        text = outline(self.eval_corpus) if self.eval_corpus else self.outline()
        text.require(*self._splits())
        evaluations = sum(m.flops(model, text.splits[m.split].words) for m in self.measures)
        if own := self.against_itself:
            evaluations += own.flops(model, text.splits[own.split].words, self.train_length)
        if self.reading:
            evaluations += self.reading.flops(model, text.splits[self.reading.split].words, self.train_length)
        return model.training_flops(self.train_length) * self.tokens, evaluations

    def begun(self) -> bool:
        """Whether the cache holds a part of the run."""
        return (folder := self._folder()) is not None and folder.is_dir()

    def trained_share(self) -> float:
        """The share of the run's steps that the cache holds: 1 if it is finished, else up to its newest checkpoint."""
        if (folder := self._folder()) is None:
            return 0.0
        if (folder / CONFIG).is_file():
            return 1.0
        return max(checkpoint.steps(folder / CHECKPOINTS), default=0) / self.config().steps

    def _folder(self) -> Path | None:
        config = self.config()
        return run_folder(config) if config.stream_sha256 and is_here(config.device) else None


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


def extrapolation_cell(
    spec: RunSpec, text: Text, lengths: Sequence[int], paper_corpus: str = "wikitext-103"
) -> TrainingCell:
    """This run, evaluated far past its own length.

    It is measured on the whole split in windows that don't overlap, on the same tokens by both protocols, and against
    itself.

    Args:
        spec: specification of the run, made by `spec_of`.
        text: text of the run.
        lengths: training lengths of the runs that it is compared with; it is evaluated in windows of each.
        paper_corpus: the paper's corpus that the text stands for.
    """
    length = spec.train_length or scale_named(spec.scale).train_length
    return TrainingCell(
        spec,
        paper_corpus,
        text.evaluate,
        measures=nonoverlapping(spec.scale, length, lengths) + full_windows(spec.scale, length),
        against_itself=against_itself(spec.scale, length),
    )

"""What an experiment is made of: cells, each something that is run, and the records that come of it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from alibi.configuration import CONFIG, TrainConfig, configure
from alibi.corpora.corpus import Corpus, load, name_at, outline, split_names
from alibi.corpora.folders import STAND_INS
from alibi.corpora.reading import Reading
from alibi.device import is_here
from alibi.evaluate import Evaluation
from alibi.model import Decoder
from alibi.progress import say_once
from alibi.reproduction.evidence import AGAINST_ITSELF, NONOVERLAPPING, SLIDING
from alibi.reproduction.reading import ReadingMeasure, numbers_of_reading, records_of_reading
from alibi.run_cache import run_folder
from alibi.run_spec import BOOKKEEPING, Bookkeeping, RunSpec
from alibi.runs import Run, cached_run, metrics_of, ranges_against_itself
from alibi.scale import scale_named
from alibi.windows import PIECE

if TYPE_CHECKING:
    import pandas as pd

# Evaluation lengths as multiples of the training length, in the chapters' live runs.
EXTRAPOLATION = (0.5, 1, 1.25, 2, 4, 8, 16)
# The same in the experiments, up to the scale's longest: just past the training length, and doublings.
MULTIPLES = (1, 1.125, 1.25, 2, 4, 8, 16, 32)
LONGEST = {"quick": 2048, "laptop": 2048, "gpu": 16_384, "paper": 16_384}
# Tokens that windows overlapping by half score, from the start of the split.
HALF_STRIDE_TOKENS = {"quick": 4096, "laptop": 32_768, "gpu": 32_768, "paper": 32_768}
# Of records from before full windows were scored: at stride 1, from the start of the split.
STRIDE_1_TOKENS = {"quick": 64, "laptop": 1024, "gpu": 1024, "paper": 1024}
# Full windows. The first tokens, this many, are context, and no longer window slides: training lengths, window lengths,
# methods and both protocols score the same tokens at a scale.
SKIPPED = {"quick": 1024, "laptop": 512, "gpu": 4096, "paper": 4096}
# A sliding window brings 1 / so much of the training length, so each token has all but that of a full window before it:
# 8 of 64 and 16 of 128 tokens at laptop, 32 of 512 at gpu. None is the paper's stride of 1, where it can be paid for.
STRIDES_IN_L = {"quick": 8, "laptop": 8, "gpu": 16, "paper": None}
# Tokens scored in full windows, and compared by a model with itself, at least: spread evenly over the split, None all.
# At laptop all evaluations of a run together cost about half of its training.
FULL_WINDOW_TOKENS = {"quick": 4096, "laptop": 16_384, "gpu": None, "paper": None}
AGAINST_ITSELF_TOKENS = {"quick": 16_384, "laptop": 32_768, "gpu": None, "paper": None}


@dataclass(frozen=True)
class Text:
    """The training text, and the text evaluated in its vocabulary (the same corpus if left out)."""

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
    held_out, stand_in = "valid" in split_names(corpus), STAND_INS.get(Reading.named(corpus).corpus)
    return Text(corpus, None if held_out or stand_in is None else stand_in.evaluated_on)


@dataclass(frozen=True)
class Measure:
    """One evaluation of a trained run."""

    length: int
    """Tokens in a window, L_valid."""
    stride: int | None = None
    """New tokens a window; None for nonoverlapping windows."""
    prefix: int | None = None
    """Tokens that are read, from the start of the split; None reads all."""
    split: str = "valid"
    skip: int = 0
    """Tokens at the start that are context and not scored."""
    sample: int | None = None
    """Tokens that are scored at least, spread evenly over the text; None scores all."""
    interpolation: str | None = None
    """How slopes or angles are rescaled for it, a kind of `alibi.positions.interpolation`; None leaves them."""

    def flops(self, model: Decoder, tokens: int) -> float:
        """Floating point operations of it on a split of this size; a window's context is run and not scored."""
        scored = float(min(self.prefix or tokens, tokens) - self.skip)
        new = self.stride or self.length
        if self.sample is not None:
            # A window that is longer than a piece of the sample brings tokens around it, which don't count.
            scored = min(scored, self.sample * max(1.0, new / PIECE))
        return scored * _forward_flops(model, self.length, new)


def _forward_flops(model: Decoder, length: int, new: int) -> float:
    """Floating point operations per scored token, for windows of this length that bring `new` tokens each.

    A pass forward is a third of a training step; the output layer has the scored tokens alone.
    """
    output = 2.0 * model.embedding.weights_of_every_token()
    return (model.training_flops(length) / 3 - output) * length / new + output


@dataclass(frozen=True)
class SelfMeasure:
    """A comparison of a trained run with itself, in windows of L tokens and of more."""

    window: int
    """Tokens in a longer window, a multiple of L."""
    stride: int
    """New tokens that each window of L brings."""
    sample: int | None = None
    """Tokens that are compared at least, spread evenly over the text; None compares all."""
    split: str = "valid"

    def flops(self, model: Decoder, tokens: int, train_length: int) -> float:
        """Floating point operations of it on a split of this size."""
        longer, shorter = (self.window, self.window), (train_length, self.stride)
        compared = min(self.sample or tokens, tokens)
        return compared * (_forward_flops(model, *longer) + _forward_flops(model, *shorter))


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
        """What a line of a listing calls it; no other cell of the experiment at this scale is called so."""

    @property
    def device(self) -> str:
        """What runs it: the scale's own device, or the one asked for."""

    @property
    def trains(self) -> RunSpec | None:
        """The run that it needs, which other cells may need too."""

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
        """Which numbers it measures: of each record the columns that are known before."""

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Runs it, and returns one number a row (see `alibi.records`)."""


@dataclass(frozen=True)
class TrainingCell:
    """One training run and its measurements."""

    spec: RunSpec
    paper_corpus: str = "wikitext-103"
    """The paper's set, which may differ from the text read."""
    eval_corpus: str | None = None
    """Text for evaluation, in the vocabulary of the run; the corpus of the run if left out."""
    measures: tuple[Measure, ...] = ()
    against_itself: SelfMeasure | None = None
    """How the run is compared with itself; not, if left out."""
    reading: ReadingMeasure | None = None
    """How far it reads; not measured, if left out."""
    by_position: bool = False
    """Whether the loss is recorded by the position in the window as well, where no token is skipped."""
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
        """Such as "alibi, L = 64, seed 0", with the steps and the rate where they are not the scale's own."""
        title = f"{self.spec.method}, L = {self.train_length}, seed {self.spec.seed}"
        for name, chosen in self._chosen().items():
            title += f", {chosen}" if name == "dtype" else f", {name.replace('_', ' ')} {chosen:g}"
        if self.spec.steps is not None:
            title += f", {self.spec.steps:,} steps"
        return f"{title} for equal time" if self.equal_time else title

    @property
    def device(self) -> str:
        """What trains and evaluates: the scale's own device, or the one asked for."""
        return self.spec.device or scale_named(self.scale).device

    @property
    def trains(self) -> RunSpec | None:
        """The run."""
        return self.spec

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The training text, its tokenisation, and the text for evaluation."""
        return self.spec.corpus, self.spec.tokenisation, self.eval_corpus

    def on(self, device: str) -> "TrainingCell":
        """The same cell on another device."""
        return replace(self, spec=replace(self.spec, device=device))

    @property
    def measurements(self) -> int:
        """How many evaluations it makes."""
        # The reading is truncation in two forms, repeats, attention in two windows and a gradient.
        return len(self.measures) + (self.against_itself is not None) + 6 * (self.reading is not None)

    def prepare(self) -> None:
        """Builds the corpora that are missing: once, and not by the first of several waiting processes.

        Raises:
            InputError: if the text for training or evaluation lacks a split.
        """
        trained_on = load(self.spec.corpus, self.spec.tokenisation)
        trained_on.require("train")
        evaluated_on = self.evaluated_on()
        (evaluated_on or trained_on).require(*self._splits())
        times = self.tokens / len(trained_on.split("train").tokens)
        if times > 1:
            say_once(f"{trained_on.name}: the text is read {times:.1f} times, {self.tokens:,} tokens in all")

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
        """Text for evaluation, where it is not the corpus of the run."""
        return None if self.eval_corpus is None else load(self.eval_corpus)

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Trains the run if it is not in the cache, evaluates it, returns one number a row (see `alibi.records`)."""
        import pandas as pd

        run, text, tables = self.run(bookkeeping), self.evaluated_on(), []
        measured_otherwise = self.reading is not None or self.against_itself is not None
        for m in self.measures or (() if measured_otherwise else _live(self)):
            chosen = m.stride, m.split, m.prefix, text
            tables.append(run.records([m.length], *chosen, self.paper_corpus, m.skip, m.sample, m.interpolation))
            if self.by_position and not m.skip:
                tables.append(_by_position(tables[-1], run.evaluation(m.length, *chosen)))
        if own := self.against_itself:
            chosen_itself = own.window, own.stride, own.split, own.sample, text
            tables.append(run.records_against_itself(*chosen_itself, self.paper_corpus))
        if self.reading:
            tables.append(records_of_reading(run, self.reading, text, self.paper_corpus))
        return pd.concat(tables, ignore_index=True).assign(equal_time=self.equal_time)

    @property
    def corpus_used(self) -> str:
        """The text that its records name: "a -> b" is trained on a and evaluated on b."""
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
        } | self._chosen()
        own = records[~records.smoke.fillna(False)]
        for column, value in same.items():
            own = own[own[column] == value]
        if self.spec.data_seed is None:
            own = own[own.data_seed.isna()]
        columns = [own[name].fillna(0) for name in ("eval_length", "stride", "prefix", "skipped", "sample")]
        protocols = own.protocol.mask(own.protocol.isin([NONOVERLAPPING, SLIDING]), "")
        kinds = own.interpolation.fillna("")
        found = set(zip(protocols, kinds, own.split, *columns, strict=True))
        wanted = [
            ("", m.interpolation or "", m.split, m.length, m.stride or 0, m.prefix or 0, m.skip, m.sample or 0)
            for m in self.measures
        ]
        if m := self.against_itself:
            wanted.append((AGAINST_ITSELF, "", m.split, m.window, m.stride, 0, 0, m.sample or 0))
        if r := self.reading:
            # A record of each measure, since those of a cell come all at once.
            of_reading = {
                (n["protocol"], "", r.split, n["eval_length"], n["stride"] or 0, 0, 0, n["sample"])
                for n in self._numbers_of(r)
            }
            wanted += of_reading
        return found.issuperset(wanted)

    def _chosen(self) -> dict[str, Any]:
        """Columns of its records that the specification sets, instead of the scale or the machine."""
        named = {name: getattr(self.spec, name) for name in ("learning_rate", "method_rate", "data_seed", "dtype")}
        return {name: chosen for name, chosen in named.items() if chosen is not None}

    def known(self) -> dict[str, Any]:
        """What all of its records say."""
        return {
            "corpus": self.paper_corpus,
            "method": self.spec.method,
            "train_length": self.train_length,
            "paper_length": self.train_length * scale_named(self.scale).paper_factor,
            "scale": self.scale,
            "seed": self.spec.seed,
            "tokens_trained": self.tokens,
        } | self._chosen()

    def _known_of(
        self, split: str, length: int, protocol: str, stride: int | None, sample: int | None
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
        """Which numbers it measures: of each record the columns that are known before."""
        found: list[dict[str, Any]] = []
        for m in self.measures:
            own = self._known_of(
                m.split, m.length, "nonoverlapping" if m.stride is None else "sliding_window", m.stride, m.sample
            ) | {"prefix": m.prefix, "skipped": m.skip or None, "interpolation": m.interpolation}
            metrics = metrics_of(m.length, self.train_length, m.skip)
            found += [own | {"metric": metric, "unit": unit} for metric, unit in metrics.items()]
            if self.by_position and not m.skip:
                loss = {"metric": "loss", "unit": "nats"}
                bands = position_bands(m.length)
                found += [own | loss | {"first_position": low + 1, "last_position": high} for low, high in bands]
        if itself := self.against_itself:
            own = self._known_of(itself.split, itself.window, "against_itself", itself.stride, itself.sample)
            found += [
                own | {"metric": metric, "unit": "nats", "first_position": low + 1, "last_position": high}
                for low, high in ranges_against_itself(self.train_length, itself.window, itself.stride)
                for metric in ("loss_against_itself", "loss_against_itself_standard_error")
            ]
        if r := self.reading:
            known = self.known() | {"equal_time": self.equal_time}
            found += [known | number for number in self._numbers_of(r)]
        return found

    def _numbers_of(self, reading: ReadingMeasure) -> list[dict[str, Any]]:
        scale = scale_named(self.scale)
        shape = scale.large if self.spec.large else scale.model
        return numbers_of_reading(reading, self.train_length, shape.layers, shape.heads)

    def _splits(self) -> list[str]:
        """The split that is evaluated."""
        every = (*self.measures, self.against_itself, self.reading)
        return list(dict.fromkeys(measure.split for measure in every if measure))

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

    def trained(self) -> bool:
        """Whether the cache holds the finished run."""
        return (folder := self._folder()) is not None and (folder / CONFIG).is_file()

    def _folder(self) -> Path | None:
        config = self.config()
        return run_folder(config) if config.stream_sha256 and is_here(config.device) else None


def _live(cell: TrainingCell) -> Iterable[Measure]:
    return [Measure(round(multiple * cell.train_length)) for multiple in EXTRAPOLATION]


def position_bands(length: int) -> list[tuple[int, int]]:
    """Positions of a window of this length in bands, 0 to 1, 1 to 2, 2 to 4, 4 to 8 and so on, the first left out."""
    edges = [0, *(2**power for power in range(length.bit_length()))]
    return list(zip(edges, [*edges[1:], length], strict=True))


def _by_position(records: "pd.DataFrame", found: Evaluation) -> "pd.DataFrame":
    """The mean loss (nats) of the tokens at positions 1, 2, 3 to 4, 5 to 8 and so on of the window."""
    import pandas as pd

    rows = []
    for low, high in position_bands(found.length):
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


def full_windows(scale: str, train_length: int) -> tuple[Measure, ...]:
    """Nonoverlapping windows, and full ones that slide, on the same tokens, in multiples of L up to `SKIPPED`.

    The sliding stride is that of `STRIDES_IN_L`. A model that is trained longer than the scale's own L is also read in
    sliding windows of that L, by a stride as much shorter: what it gains from there to its own L, context gave it.
    """
    skip, sample = SKIPPED[scale], FULL_WINDOW_TOKENS[scale]
    slide = STRIDES_IN_L[scale] or train_length
    lengths = [multiple * train_length for multiple in (1, 2, 4) if multiple * train_length <= skip]
    found = [
        Measure(length, stride, skip=skip, sample=sample)
        for stride in (None, train_length // slide)
        for length in lengths
    ]
    shortest = scale_named(scale).train_length
    if shortest < train_length:
        found.append(Measure(shortest, max(1, shortest // slide), skip=skip, sample=sample))
    return tuple(found)


def against_itself(scale: str, train_length: int) -> SelfMeasure:
    """Windows of 8 L, or of as many L as the scale's longest holds, against windows of L that slide by L / 8."""
    window = min(8, LONGEST[scale] // train_length) * train_length
    return SelfMeasure(window, train_length // 8, AGAINST_ITSELF_TOKENS[scale])


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
    methods: Sequence[str],
    scale: str,
    lengths: Sequence[int],
    seeds: Sequence[int],
    text: Text,
    paper_corpus: str,
    steps: int | None = None,
) -> list[TrainingCell]:
    """Every method at every training length; the first seed and the shortest lengths first.

    Each is evaluated on the whole split in windows that don't overlap, on the same tokens by both protocols, and
    against itself.
    """
    return [
        TrainingCell(
            spec_of(method, scale, length, text, seed, steps=steps),
            paper_corpus,
            text.evaluate,
            measures=nonoverlapping(scale, length, lengths) + full_windows(scale, length),
            against_itself=against_itself(scale, length),
        )
        for seed in seeds
        for length in lengths
        for method in methods
    ]


def records_of(cells: Sequence[Cell]) -> "pd.DataFrame":
    """The records of these cells, one after the other in this process; what the cache holds takes no time."""
    import pandas as pd

    return pd.concat([cell.records() for cell in cells], ignore_index=True)

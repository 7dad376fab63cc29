"""Cells that measure speed and memory, and the loss within decay windows."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from alibi.device import compute_dtype, device_name, provenance, settle_cpu
from alibi.evaluate import evaluate
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.cells import TrainingCell
from alibi.run_spec import BOOKKEEPING, Bookkeeping, RunSpec
from alibi.scale import scale_named
from alibi.speed.attention import ATTENTION_HEADS, ATTENTION_TOKENS, ATTENTION_WIDTH, BIASES, attention
from alibi.speed.benchmark import bench
from alibi.speed.evaluation import evaluation
from alibi.speed.memory import memory
from alibi.speed.result import ratio_of
from alibi.speed.shapes import SHAPES, Contender, Shape

if TYPE_CHECKING:
    import pandas as pd

FASTEST_OF = 3  # Kernels that compete, two steps each.
KERNELS_TRIED = 8
RANDOM_TOKENS = "random tokens"
# What a `SpeedCell` measures of each method, with its unit; ratios to the first method have none.
UNITS = {
    "train_speed": "tokens/s", "eval_speed": "tokens/s", "train_memory": "GB",
    "train_time_ratio": "", "eval_time_ratio": "", "train_memory_ratio": "",
}  # fmt: skip
DECAY_WINDOWS = (None, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)


def _of_machine(records: "pd.DataFrame", device: str | None) -> "pd.DataFrame":
    """Those measured on this device of this machine; all, where none is asked for."""
    return records if device is None else records[records.device == device_name(device)]


@dataclass(frozen=True)
class SpeedCell:
    """Speed and memory of methods at one shape, side by side; ratios divide the others by the first."""

    shape: str
    scale: str
    methods: tuple[str, ...]
    paper_corpus: str = "wikitext-103"
    """The paper's corpus in the experiment; the models read random tokens."""
    asked_device: str | None = None
    """The device that is measured; the scale's own if left out."""

    alone: ClassVar[bool] = True
    trains: ClassVar[RunSpec | None] = None
    texts: ClassVar[tuple[str | None, ...]] = ()
    absent: ClassVar[str | None] = None
    steps: ClassVar[int | None] = None
    measurements: ClassVar[int] = 3
    """Training, evaluation, memory."""

    @property
    def device(self) -> str:
        """What is measured."""
        return self.asked_device or scale_named(self.scale).device

    def on(self, device: str) -> "SpeedCell":
        """The same cell on another device."""
        return replace(self, asked_device=device)

    @property
    def at(self) -> Shape:
        """The shape itself."""
        return SHAPES[self.shape]

    @property
    def model(self) -> str:
        """Name of the shape's model, such as W2, which the records of all its lengths share."""
        return self.at.size

    @property
    def train_length(self) -> int:
        """L, tokens."""
        return self.at.length

    @property
    def title(self) -> str:
        """Such as "speed of sinusoidal and alibi, W2"."""
        return f"speed of {' and '.join(self.methods) if len(self.methods) < 3 else 'all'}, {self.shape}"

    def configured(self) -> dict[str, Any]:
        """The shape and methods, as plain data."""
        return asdict(self.at) | {"methods": self.methods}

    def prepare(self) -> None:
        """Nothing to prepare: the tokens are random."""

    def begun(self) -> bool:
        """Never: an interrupted measurement begins anew."""
        return False

    def trained(self) -> bool:
        """Never: the training is what is measured."""
        return False

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training steps, and of the evaluations."""
        step = self.at.unmade(self.methods[0]).training_flops(self.at.length) * self.at.tokens * len(self.methods)
        return step * (12 + 2 * FASTEST_OF), step * 12

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether every metric of every method is among these records, measured on this machine if it was asked for."""
        own = records[(records.scale == self.scale) & (records.model == self.model)]
        own = _of_machine(own[own.train_length == self.train_length], self.asked_device)
        metrics = ("train_speed", "eval_speed", "train_memory")
        return {(method, metric) for method in self.methods for metric in metrics} <= set(
            zip(own.method, own.metric, strict=True)
        )

    def _known(self, method: str) -> dict[str, Any]:
        return {
            "corpus": self.paper_corpus, "split": "valid", "model": self.model, "method": method,
            "train_length": self.train_length, "eval_length": self.train_length, "protocol": "nonoverlapping",
            "scale": self.scale, "seed": 0, "parameters": self.at.unmade(method).parameter_count(),
            "corpus_used": RANDOM_TOKENS, "paper_length": self.train_length,
        }  # fmt: skip

    def numbers(self) -> list[dict[str, Any]]:
        """Which numbers it measures: of each record the columns that are known before."""
        return [
            known | {"metric": metric, "unit": unit}
            for method, known in ((method, self._known(method)) for method in self.methods)
            for metric, unit in UNITS.items()
            if method != self.methods[0] or not metric.endswith("_ratio")
        ]

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Measures, and returns one number a row: tokens/s, GB, and ratios to the first method."""
        import pandas as pd

        device, shape, first = self.device, self.at, self.methods[0]
        contenders = tuple(Contender(method) for method in self.methods)
        trained = bench((self.shape,), device=device, methods=self.methods)
        steps = {row.name: row for row in trained.steps}
        kernels = {contender: steps[contender.name].way.kernel_label for contender in contenders}
        evaluated, eval_ratios = evaluation(shape, contenders, device, beyond=False)
        peaks, memory_ratios = memory(shape, kernels, device, beyond=False)
        eval_speeds = {row.method: row.tokens_per_second for row in evaluated}
        train_bytes = {row.method: row.train_bytes for row in peaks}
        common = {"provenance": "measured", "dtype": compute_dtype(device), **provenance(device)}
        rows = []
        for contender in contenders:
            method = contender.name
            way = {"kernel": kernels[contender], "compiled": steps[method].way.form == "compiled"}
            own = self._known(method) | common | way
            measured = {
                "train_speed": steps[method].tokens_per_second,
                "eval_speed": eval_speeds[method],
                "train_memory": train_bytes[method] / 1e9,
            }
            if method != first:
                measured |= {
                    "train_time_ratio": ratio_of(trained.ratios, "train_step", method),
                    "eval_time_ratio": ratio_of(eval_ratios, "evaluate", method),
                    "train_memory_ratio": ratio_of(memory_ratios, "train_memory", method),
                }
            rows += [own | {"metric": metric, "unit": UNITS[metric], "value": v} for metric, v in measured.items()]
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


@dataclass(frozen=True)
class AttentionCell:
    """Attention alone, forward and backward: no bias, ALiBi's, and ALiBi's within the decay window, on every kernel.

    A record is the time of one pass (metric attention_time, seconds) of a `kernel`.
    """

    scale: str
    train_length: int
    """Keys, and queries."""
    paper_corpus: str = "wikitext-103"
    asked_device: str | None = None
    """What is measured; the scale's own device if left out."""

    trains: ClassVar[RunSpec | None] = None
    texts: ClassVar[tuple[str | None, ...]] = ()
    methods: ClassVar[tuple[str, ...]] = ("alibi",)
    alone: ClassVar[bool] = True
    absent: ClassVar[str | None] = None
    steps: ClassVar[int | None] = None
    measurements: ClassVar[int] = 1

    @property
    def title(self) -> str:
        """Such as "attention at 8192"."""
        return f"attention at {self.train_length}"

    @property
    def device(self) -> str:
        """What is measured."""
        return self.asked_device or scale_named(self.scale).device

    def on(self, device: str) -> "AttentionCell":
        """The same cell on another device."""
        return replace(self, asked_device=device)

    def configured(self) -> dict[str, Any]:
        """The length and the heads, as plain data."""
        return {"length": self.train_length, "heads": ATTENTION_HEADS, "head_width": ATTENTION_WIDTH}

    def prepare(self) -> None:
        """Nothing to prepare: queries, keys and values are random."""

    def begun(self) -> bool:
        """Never."""
        return False

    def trained(self) -> bool:
        """Never: nothing is trained."""
        return False

    def flops(self) -> tuple[float, float]:
        """Operations of forward and backward pass: 12 heads head-width length^2 a window, of which half is masked."""
        windows = max(1, ATTENTION_TOKENS // self.train_length)
        passes = 12.0 * ATTENTION_HEADS * ATTENTION_WIDTH * self.train_length**2 * windows / 2
        return passes * KERNELS_TRIED * 6, 0.0

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether this length is among these records, measured on this machine if it was asked for."""
        own = records[(records.scale == self.scale) & (records.metric == "attention_time")]
        return bool((_of_machine(own, self.asked_device).train_length == self.train_length).any())

    def numbers(self) -> list[dict[str, Any]]:
        """Which numbers it measures: of each record the columns that are known before, the kernel not among them."""
        common = {
            "corpus": self.paper_corpus, "model": f"attention, {ATTENTION_HEADS} heads of {ATTENTION_WIDTH}",
            "train_length": self.train_length, "eval_length": self.train_length, "scale": self.scale,
            "corpus_used": RANDOM_TOKENS, "paper_length": self.train_length, "metric": "attention_time", "unit": "s",
        }  # fmt: skip
        return [common | {"method": bias} for bias in BIASES]

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Measures, and returns one number a row."""
        import pandas as pd

        device = self.device
        settle_cpu(torch.get_num_threads())
        measured, _ = attention(device, (self.train_length,))
        common = {"provenance": "measured", "dtype": compute_dtype(device), **provenance(device)}
        known = {number["method"]: number | common for number in self.numbers()}
        rows = [
            known[row.bias] | {"value": row.seconds, "kernel": row.kernel}
            for row in measured
            if row.seconds is not None
        ]
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


@dataclass(frozen=True)
class DecayWindowCell(TrainingCell):
    """The loss that a decay window costs: one trained ALiBi model, evaluated within windows of several nats.

    A record is the loss (metric loss, nats a token) at 16 L within a `decay_window`.
    """

    @property
    def title(self) -> str:
        """Such as "decay windows, L = 128, seed 0"."""
        return f"decay windows, L = {self.train_length}, seed {self.spec.seed}"

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether its losses are among these records."""
        same = (records.scale == self.scale) & (records.corpus_used == self.corpus_used)
        own = records[same & (records.metric == "loss")]
        return bool(((own.train_length == self.train_length) & (own.seed == self.spec.seed)).any())

    def numbers(self) -> list[dict[str, Any]]:
        """Which numbers it measures: of each record the columns that are known before."""
        (measure,) = self.measures
        loss = {
            "split": measure.split, "eval_length": measure.length, "protocol": "nonoverlapping",
            "prefix": measure.prefix, "metric": "loss", "unit": "nats",
        }  # fmt: skip
        return [self.known() | loss | {"decay_window": nats} for nats in DECAY_WINDOWS]

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Trains the model if it is not in the cache, evaluates, and returns one number a row."""
        import pandas as pd

        run, text = self.run(bookkeeping), self.evaluated_on()
        split = (text or run.corpus).encoded_by(run.corpus, "valid")
        settle_cpu(run.config.threads)
        (measure,) = self.measures
        rows = []
        for number in self.numbers():
            run.model.config = replace(run.model.config, decay_window=number["decay_window"])
            found = evaluate(run.model, split, run.corpus.end_of_line, measure.length, prefix=measure.prefix)
            loss = {"value": found.nats / found.tokens, "tokens_scored": found.tokens}
            rows.append(number | run.provenance(text) | loss)
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

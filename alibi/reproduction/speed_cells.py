"""Cells that measure speed and memory, and the loss within decay windows."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch

from alibi.device import compute_dtype, device_name, settle_cpu
from alibi.evaluate import EVALUATION_DTYPE, evaluate
from alibi.protocols import NONOVERLAPPING
from alibi.provenance import provenance
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.cells import Cell
from alibi.reproduction.training_cell import TrainingCell
from alibi.run_spec import BOOKKEEPING, Bookkeeping
from alibi.scale import scale_named
from alibi.speed.attention import (
    ATTENTION_HEADS,
    ATTENTION_TOKENS,
    ATTENTION_WIDTH,
    BIASES,
    attention,
    kernels_at,
)
from alibi.speed.benchmark import bench
from alibi.speed.evaluation import evaluation
from alibi.speed.memory import memory
from alibi.speed.shapes import SHAPES, Contender, Shape
from alibi.speed.t5_forms import FORMS, t5_forms
from alibi.speed.timing import FEWEST_ROUNDS
from alibi.speed.trials import CANDIDATES, ONE_KERNEL

if TYPE_CHECKING:
    import pandas as pd

RANDOM_TOKENS = "random tokens"
STANDARD_ERROR = "_standard_error"
ON_ONE_KERNEL = "_on_one_kernel"
"""End of a ratio's metric if both methods ran on the cell's kernel; in other ratios each runs on its fastest."""
# Metrics of a `SpeedCell` for each method, with their units; ratios to the first method have none.
_RATIOS = [f"{name}{end}" for end in (ON_ONE_KERNEL, "") for name in ("train_time_ratio", "eval_time_ratio")]
UNITS = (
    {name: "tokens/s" for speed in ("train_speed", "eval_speed") for name in (speed, speed + STANDARD_ERROR)}
    | {"train_memory": "GB", "train_memory_ratio": "", f"train_memory_ratio{ON_ONE_KERNEL}": ""}
    | {name: "" for ratio in _RATIOS for name in (ratio, ratio + STANDARD_ERROR)}
)
DECAY_WINDOWS = (None, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)


class _Measured(NamedTuple):
    method: str
    metric: str
    value: float
    error: float | None
    """Standard error; None for memory."""
    kernel: str
    compiled: bool = False


@dataclass(frozen=True)
class TimingCell(Cell):
    """The common part of cells that measure times on random numbers, without training or text."""

    scale: str
    paper_corpus: str = field(default="wikitext-103", kw_only=True)
    """The paper's corpus in the experiment."""
    asked_device: str | None = field(default=None, kw_only=True)
    """The device to measure; the scale's own if left out."""

    alone: ClassVar[bool] = True
    seed: ClassVar[int | None] = None

    @property
    def device(self) -> str:
        """The device to measure."""
        return self.asked_device or scale_named(self.scale).device

    def on(self, device: str) -> Self:
        """The same cell on another device."""
        return replace(self, asked_device=device)

    @property
    @abstractmethod
    def model(self) -> str:
        """Name of what it times, the same in the records of all its lengths."""

    def identity(self) -> dict[str, Any]:
        """Scale, model and L, and the device if it was requested; else the records of any machine count."""
        machine = {} if self.asked_device is None else {"device": device_name(self.asked_device)}
        return {"scale": self.scale, "model": self.model, "train_length": self.train_length} | machine


@dataclass(frozen=True)
class ShapeCell(TimingCell):
    """A cell that measures models of one shape."""

    shape: str

    @property
    def at(self) -> Shape:
        """The shape itself."""
        return SHAPES[self.shape]

    @property
    def model(self) -> str:
        """Name of the shape's model, such as W2, the same in the records of all its lengths."""
        return self.at.size

    @property
    def train_length(self) -> int:
        """L, tokens."""
        return self.at.length


@dataclass(frozen=True)
class SpeedCell(ShapeCell):
    """Speed and memory of methods at one shape, side by side; ratios divide the others by the first.

    Each method is measured on its fastest attention kernel, chosen separately for training and evaluation, and on the
    cell's kernel if it names one. The `kernel` of a record is the one that ran; if a number has records on two kernels,
    the fastest kernel's comes last. The standard error of each median has its own record.
    """

    methods: tuple[str, ...]
    kernel: str | None = None
    """Attention kernel on which all methods are measured too."""

    measurements: ClassVar[int] = 3
    """Training, evaluation, memory."""

    @property
    def title(self) -> str:
        """The cell's name, such as "speed of sinusoidal and alibi, W2"."""
        return f"speed of {' and '.join(self.methods) if len(self.methods) < 3 else 'all'}, {self.shape}"

    def configured(self) -> dict[str, Any]:
        """The shape and methods, as plain data."""
        return asdict(self.at) | {"methods": self.methods, "kernel": self.kernel}

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training steps, and of the evaluations."""
        step = self.at.unmade(self.methods[0]).training_flops(self.at.length) * self.at.tokens * len(self.methods)
        kernels = 1 if self.kernel is None else 2
        trials = 2 * len(CANDIDATES[self.device])  # Two steps of each.
        return kernels * step * (FEWEST_ROUNDS + trials), kernels * step / 3 * (FEWEST_ROUNDS + trials)

    def _known(self, method: str) -> dict[str, Any]:
        return {
            "corpus": self.paper_corpus, "split": "valid", "model": self.model, "method": method,
            "train_length": self.train_length, "eval_length": self.train_length, "protocol": NONOVERLAPPING,
            "scale": self.scale, "seed": 0, "parameters": self.at.unmade(method).parameter_count(),
            "corpus_used": RANDOM_TOKENS, "paper_length": self.train_length,
        }  # fmt: skip

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known."""
        return [
            known | {"metric": metric, "unit": unit}
            for method, known in ((method, self._known(method)) for method in self.methods)
            for metric, unit in UNITS.items()
            if (method != self.methods[0] or "_ratio" not in metric)
            and (self.kernel is not None or ON_ONE_KERNEL not in metric)
        ]

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Measures, and returns one number a row: tokens/s, GB, and ratios to the first method."""
        import pandas as pd

        rows = []
        machine = {"provenance": "measured", **provenance(self.device)}
        for found in self._measured():
            own = self._known(found.method) | machine
            own["dtype"] = EVALUATION_DTYPE if found.metric.startswith("eval_") else compute_dtype(self.device)
            own |= {"kernel": found.kernel, "compiled": found.compiled}
            for metric, value in ((found.metric, found.value), (found.metric + STANDARD_ERROR, found.error)):
                if value is not None:
                    rows.append(own | {"metric": metric, "unit": UNITS[metric], "value": value})
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

    def _measured(self) -> Iterator[_Measured]:
        device, shape = self.device, self.at
        contenders = tuple(Contender(method) for method in self.methods)
        trained = bench((self.shape,), device=device, methods=self.methods, kernel=self.kernel)
        ways = {row.name: row.way for row in trained.steps if row.fastest}
        kernels = {contender: ways[contender.name].kernel_label for contender in contenders}
        evaluated, eval_ratios = evaluation(shape, contenders, device, beyond=False, kernel=self.kernel)
        peaks, memory_ratios = memory(shape, kernels, device, beyond=False, kernel=self.kernel)
        # The fastest comes last.
        for row in sorted(trained.steps, key=lambda row: row.fastest):
            speed, way = row.tokens_per_second, row.way
            error = speed * row.standard_error / row.seconds
            yield _Measured(row.name, "train_speed", speed, error, way.kernel_label, way.form == "compiled")
        for timed in sorted(evaluated, key=lambda row: row.fastest):
            speed = timed.tokens_per_second
            yield _Measured(
                timed.method, "eval_speed", speed, speed * timed.standard_error / timed.seconds, timed.kernel
            )
        for peak in sorted(peaks, key=lambda row: row.fastest):
            yield _Measured(peak.method, "train_memory", peak.train_bytes / 1e9, None, peak.kernel)
        trained_on = {method: way.kernel_label for method, way in ways.items()}
        evaluated_on = {row.method: row.kernel for row in evaluated if row.fastest}
        for metric, ratios, fastest in (
            ("train_time_ratio", trained.ratios, trained_on),
            ("eval_time_ratio", eval_ratios, evaluated_on),
            ("train_memory_ratio", memory_ratios, trained_on),
        ):
            for ratio in ratios:
                method, end = ratio.numerator, "" if ratio.kernel is None else ON_ONE_KERNEL
                compiled = metric == "train_time_ratio" and ways[method].form == "compiled"
                kernel = ratio.kernel or fastest[method]
                yield _Measured(method, metric + end, ratio.value, ratio.standard_error, kernel, compiled)


@dataclass(frozen=True)
class T5FormsCell(ShapeCell):
    """The cost of the T5 bias in each form of its computation, beside sinusoidal at one shape: `alibi.speed.t5_forms`.

    Records are the times of a forward pass and of a whole training step, and their ratios to sinusoidal's; `method` is
    a form.
    """

    methods: ClassVar[tuple[str, ...]] = ("t5",)
    measurements: ClassVar[int] = 2
    """Forward pass and step."""

    @property
    def title(self) -> str:
        """The cell's name, such as "T5 in three forms, W2"."""
        return f"T5 in three forms, {self.shape}"

    def configured(self) -> dict[str, Any]:
        """The shape and forms, as plain data."""
        return asdict(self.at) | {"methods": FORMS, "kernel": ONE_KERNEL}

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training steps, and of the forward passes."""
        shape = self.at
        step = shape.unmade("t5").training_flops(shape.length) * shape.tokens * (1 + len(FORMS))
        return step * (1 + FEWEST_ROUNDS), step * (1 + FEWEST_ROUNDS) / 3

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known."""
        common = {
            "corpus": self.paper_corpus, "model": self.model, "train_length": self.train_length,
            "eval_length": self.train_length, "scale": self.scale, "seed": 0, "corpus_used": RANDOM_TOKENS,
            "paper_length": self.train_length, "kernel": ONE_KERNEL, "compiled": False,
        }  # fmt: skip
        return [
            common | {"method": method, "metric": time + ratio + error, "unit": "" if ratio else "s"}
            for method in ("sinusoidal", *FORMS)
            for time in ("forward_time", "step_time")
            for ratio in ("", "_ratio")
            for error in ("", STANDARD_ERROR)
            if method != "sinusoidal" or not ratio
        ]

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Measures, and returns one number a row."""
        import pandas as pd

        settle_cpu(torch.get_num_threads())
        found = t5_forms(self.at, self.device)
        machine = {"provenance": "measured", **provenance(self.device)}
        rows = []
        for number in self.numbers():
            dtype = EVALUATION_DTYPE if number["metric"].startswith("forward_") else compute_dtype(self.device)
            median = found[number["metric"].removesuffix(STANDARD_ERROR), number["method"]]
            value = median.standard_error if number["metric"].endswith(STANDARD_ERROR) else median.value
            rows.append(number | machine | {"dtype": dtype, "value": value})
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


@dataclass(frozen=True)
class AttentionCell(TimingCell):
    """Attention alone, forward and backward: no bias, ALiBi's, and ALiBi's within the decay window, on every kernel.

    A record is the time of one pass (metric attention_time, seconds) of a `kernel`, or its standard error.
    """

    train_length: int
    """Keys, and queries."""

    methods: ClassVar[tuple[str, ...]] = ("alibi",)
    measurements: ClassVar[int] = 1

    @property
    def title(self) -> str:
        """The cell's name, such as "attention at 8192"."""
        return f"attention at {self.train_length}"

    @property
    def model(self) -> str:
        """The heads, such as "attention, 8 heads of 64"."""
        return f"attention, {ATTENTION_HEADS} heads of {ATTENTION_WIDTH}"

    def configured(self) -> dict[str, Any]:
        """The length and the heads, as plain data."""
        return {"length": self.train_length, "heads": ATTENTION_HEADS, "head_width": ATTENTION_WIDTH}

    def flops(self) -> tuple[float, float]:
        """Operations of forward and backward pass: 12 heads head-width length^2 a window; half of them are masked."""
        windows = max(1, ATTENTION_TOKENS // self.train_length)
        passes = 12.0 * ATTENTION_HEADS * ATTENTION_WIDTH * self.train_length**2 * windows / 2
        kernels = 1 + sum(map(len, kernels_at(self.train_length, self.device).values()))  # One for the decay window.
        return passes * kernels * (1 + FEWEST_ROUNDS), 0.0

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known, without the kernel."""
        common = {
            "corpus": self.paper_corpus, "model": self.model,
            "train_length": self.train_length, "eval_length": self.train_length, "scale": self.scale,
            "corpus_used": RANDOM_TOKENS, "paper_length": self.train_length, "unit": "s",
        }  # fmt: skip
        timed = {
            metric: common | {"metric": metric} for metric in ("attention_time", f"attention_time{STANDARD_ERROR}")
        }
        return [number | {"method": bias} for bias in BIASES for number in timed.values()]

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Measures, and returns one number a row."""
        import pandas as pd

        device = self.device
        settle_cpu(torch.get_num_threads())
        measured, _ = attention(device, (self.train_length,))
        common = {"provenance": "measured", "dtype": compute_dtype(device), **provenance(device)}
        rows = [
            number | common | {"value": value, "kernel": row.kernel}
            for row in measured
            for number in self.numbers()
            if number["method"] == row.bias
            and (value := row.standard_error if number["metric"].endswith(STANDARD_ERROR) else row.seconds) is not None
        ]
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


@dataclass(frozen=True)
class DecayWindowCell(TrainingCell):
    """The loss that a decay window costs: one trained ALiBi model, evaluated within windows of several nats.

    A record is the loss (metric loss, nats a token) at 16 L within a `decay_window`.
    """

    @property
    def title(self) -> str:
        """The cell's name, such as "decay windows, L = 128, seed 0"."""
        return f"decay windows, L = {self.train_length}, seed {self.spec.seed}"

    @property
    def measurements(self) -> int:
        """Number of its evaluations."""
        return len(DECAY_WINDOWS)

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training, and of the evaluations that follow."""
        training, evaluation = super().flops()
        return training, evaluation * len(DECAY_WINDOWS)

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known."""
        (measure,) = self.measures
        loss = {
            "split": measure.split, "eval_length": measure.length, "protocol": NONOVERLAPPING,
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
            measured = {"value": found.nats / found.tokens, "tokens_scored": found.tokens}
            measured["decay_window"] = number["decay_window"]  # Not that of its training.
            rows.append(number | run.provenance(text, self.paper_corpus) | measured)
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

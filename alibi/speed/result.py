"""The result of the benchmark: rows of measurements, ratios between them, and both as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from alibi.device import matmul_rate

AS_INSTALLED = "as installed"
"""Form of another library's model with its default settings."""


class Way(NamedTuple):
    """A way to make a training step."""

    kernel: str | None
    """Attention kernel; None for another library's own."""
    form: str
    """eager, compiled, or `AS_INSTALLED`."""

    @property
    def label(self) -> str:
        """Kernel and form, such as "sdpa, eager"."""
        return self.form if self.kernel is None else f"{self.kernel}, {self.form}"

    @property
    def kernel_label(self) -> str:
        """The kernel's name, or "its own"."""
        return self.kernel or "its own"


@dataclass(frozen=True)
class StepRow:
    """The time of one contestant's training step."""

    shape: str
    name: str
    """Position method, with "+window" at its end for a decay window, or "peer" and the other library's model."""
    way: Way
    """The fastest way that was tried, or the requested one."""
    seconds: float
    """Median."""
    standard_error: float
    """Standard error of the median, in seconds."""
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    steps: int
    """Number of timed steps."""
    warm_up: float
    """Seconds of the first steps, including compilation; the timed steps exclude them."""
    tokens_per_second: float
    flops_per_second: float | None
    """Floating point operations; None for peers, whose operations are not counted."""
    tried: dict[Way, float]
    """Seconds of a step in each way that was tried."""
    refused: dict[Way, str]
    """Reason why a way failed."""
    fastest: bool = True
    """Whether the way is the contestant's fastest; if not, its kernel was requested."""

    @property
    def contestant(self) -> str:
        """The name in JSON and in ratios; it separates a peer as installed from the same peer with our settings."""
        if not self.fastest:
            return f"{self.name} on {self.way.kernel_label}"
        return f"{self.name} ({AS_INSTALLED})" if self.way.form == AS_INSTALLED else self.name

    def share_of(self, ceiling: "Ceiling") -> float | None:
        """Share of the rate of matrix products that this process measured."""
        return None if self.flops_per_second is None else self.flops_per_second / ceiling.rate

    def as_json(self, ceiling: "Ceiling") -> dict[str, Any]:
        """The row as plain data."""
        return {
            "shape": self.shape,
            "contestant": self.contestant,
            "kernel": self.way.kernel_label,
            "form": self.way.form,
            "seconds": self.seconds,
            "standard_error": self.standard_error,
            "low": self.low,
            "high": self.high,
            "steps": self.steps,
            "warm_up": self.warm_up,
            "tokens_per_second": self.tokens_per_second,
            "share_of_matmul_rate": self.share_of(ceiling),
            "tried": {way.label: seconds for way, seconds in self.tried.items()},
            "refused": {way.label: reason for way, reason in self.refused.items()},
        }


@dataclass(frozen=True)
class EvaluationRow:
    """The time of one evaluation."""

    shape: str
    method: str
    protocol: str
    length: int
    """Tokens in a window, L_valid."""
    kernel: str
    """Attention kernel that ran."""
    seconds: float
    """Median."""
    standard_error: float
    """Standard error of the median, in seconds."""
    repeats: int
    tokens_per_second: float
    fastest: bool = True
    """Whether the kernel is the method's fastest here; if not, it was requested."""


@dataclass(frozen=True)
class MemoryRow:
    """Peak memory of a method."""

    shape: str
    method: str
    kernel: str
    """Attention kernel of the training."""
    train_bytes: int
    """Peak of training, with model, gradients and optimiser."""
    evaluate_8L_bytes: int | None = None
    """Peak of evaluation without the model; None if it was not measured."""
    evaluate_16L_bytes: int | None = None
    fastest: bool = True
    """Whether the kernel is the fastest for the method's training; if not, it was requested."""


@dataclass(frozen=True)
class AttentionRow:
    """The time of attention alone, forward and backward, with one kernel."""

    length: int
    bias: str
    """none, alibi, or alibi+window for the bias within a decay window."""
    kernel: str
    seconds: float | None = None
    """Median; None if the kernel refused."""
    standard_error: float | None = None
    """Standard error of the median, in seconds."""
    refused: str | None = None
    """The kernel's reason."""


@dataclass(frozen=True)
class Ratio:
    """The median ratio of paired measurements, or the ratio of two peaks of memory."""

    quantity: str
    """The compared quantity: train_step (time), speed (its inverse), evaluate, train_memory and so on."""
    numerator: str
    denominator: str
    column: str
    """Name of the shape; for attention alone, the length."""
    value: float
    standard_error: float | None = None
    """Standard error of the median; peaks of memory have none."""
    kernel: str | None = None
    """The attention kernel of both, if one was requested; else each has its fastest."""

    @property
    def title(self) -> str:
        """The ratio in words, such as "train_step alibi/sinusoidal" or "train_step alibi/sinusoidal on baddbmm"."""
        on = "" if self.kernel is None else f" on {self.kernel}"
        return f"{self.quantity} {self.numerator}/{self.denominator}{on}"


@dataclass
class Ceiling:
    """The highest measured rate of matrix products, FLOP/s."""

    device: str
    dtype: str
    rate: float = 0.0

    def measure(self) -> None:
        """Measures again and keeps the higher rate: background load in one measurement would flatter every row."""
        self.rate = max(self.rate, matmul_rate(self.device, self.dtype, again=True))


@dataclass
class Result:
    """The measurements of one call of `alibi.speed.benchmark.bench`; a part that was not requested has no rows."""

    machine: dict[str, Any]
    ceiling: Ceiling
    steps: list[StepRow] = field(default_factory=list)
    evaluation: list[EvaluationRow] = field(default_factory=list)
    memory: list[MemoryRow] = field(default_factory=list)
    attention: list[AttentionRow] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)

    def ceilings(self) -> dict[str, float]:
        """Measured ceilings by name."""
        return {f"matmul {self.ceiling.dtype}, FLOP/s": self.ceiling.rate}

    def by_title(self, number: Literal["value", "standard_error"] = "value") -> dict[str, dict[str, float]]:
        """Title to column to ratio, or to its standard error, which only medians have."""
        by_title: dict[str, dict[str, float]] = {}
        for ratio in self.ratios:
            if (found := getattr(ratio, number)) is not None:
                by_title.setdefault(ratio.title, {})[ratio.column] = found
        return by_title

    def as_json(self) -> dict[str, Any]:
        """The result as plain data; parts without rows and values that were not measured are left out."""
        plain: dict[str, Any] = {
            "machine": self.machine,
            "ceilings": self.ceilings(),
            "rows": [row.as_json(self.ceiling) for row in self.steps],
            "ratios": self.by_title(),
            "standard_errors": self.by_title("standard_error"),
        }
        parts: dict[str, Sequence[EvaluationRow | MemoryRow | AttentionRow]] = {
            "evaluation": self.evaluation,
            "memory": self.memory,
            "kernels": self.attention,
        }
        for name, rows in parts.items():
            if rows:
                measured = [asdict(row) for row in rows]
                plain[name] = [{key: value for key, value in row.items() if value is not None} for row in measured]
        return plain

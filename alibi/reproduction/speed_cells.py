"""Cells that measure speed and memory, and what a decay window costs in loss."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from alibi.device import compute_dtype, provenance, settle_cpu
from alibi.evaluate import evaluate
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.cells import TrainingCell
from alibi.run_spec import BOOKKEEPING, Bookkeeping
from alibi.scale import scale_named
from alibi.speed.attention import ATTENTION_HEADS, ATTENTION_TOKENS, ATTENTION_WIDTH, attention
from alibi.speed.benchmark import bench
from alibi.speed.evaluation import evaluation
from alibi.speed.memory import memory
from alibi.speed.shapes import SHAPES, Shape

if TYPE_CHECKING:
    import pandas as pd

FASTEST_OF = 3  # kernels that are tried, two steps each
KERNELS_TRIED = 8
DECAY_WINDOWS = (None, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)


@dataclass(frozen=True)
class SpeedCell:
    """The speed and memory of methods at one shape, side by side; the first is what the others are divided by."""

    shape: str
    scale: str
    methods: tuple[str, ...]
    paper_corpus: str = "wikitext-103"
    """The paper's set of the experiment; what is read are random tokens."""

    alone: ClassVar[bool] = True
    absent: ClassVar[str | None] = None
    steps: ClassVar[int | None] = None
    measurements: ClassVar[int] = 3
    """Training, evaluation, memory."""

    @property
    def at(self) -> Shape:
        """The shape itself."""
        return SHAPES[self.shape]

    @property
    def model(self) -> str:
        """The shape's name without its length, such as W2: what records of all lengths share."""
        return self.shape.partition("-")[0]

    @property
    def train_length(self) -> int:
        """L, tokens."""
        return self.at.length

    @property
    def title(self) -> str:
        """Such as "speed of sinusoidal and alibi, W2"."""
        return f"speed of {' and '.join(self.methods) if len(self.methods) < 3 else 'all'}, {self.shape}"

    def configured(self) -> dict[str, Any]:
        """What is measured, as plain data."""
        return asdict(self.at) | {"methods": self.methods}

    def prepare(self) -> None:
        """Nothing: random tokens."""

    def begun(self) -> bool:
        """Never: a measurement that was stopped begins anew."""
        return False

    def flops(self) -> tuple[float, float]:
        """Floating point operations of the training steps, and of the evaluations."""
        step = self.at.unmade(self.methods[0]).training_flops(self.at.length) * self.at.tokens * len(self.methods)
        return step * (12 + 2 * FASTEST_OF), step * 12

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether every metric of every method is among these records."""
        own = records[(records.scale == self.scale) & (records.model == self.model)]
        own = own[own.train_length == self.train_length]
        metrics = ("train_speed", "eval_speed", "train_memory")
        return {(method, metric) for method in self.methods for metric in metrics} <= set(
            zip(own.method, own.metric, strict=True)
        )

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Measures, and returns one number a row: tokens/s, GB, and ratios to the first method."""
        import pandas as pd

        device, shape, first = scale_named(self.scale).device, self.at, self.methods[0]
        found = bench((self.shape,), device=device, methods=self.methods)
        trained = {row["contestant"]: row for row in found["rows"]}
        kernels = {method: trained[method]["kernel"] for method in self.methods}
        evaluated, eval_ratios = evaluation(shape, self.methods, device, beyond=False)
        weighed, memory_ratios = memory(shape, kernels, device, beyond=False)
        common = {
            "corpus": self.paper_corpus, "split": "valid", "model": self.model, "train_length": shape.length,
            "eval_length": shape.length, "protocol": "nonoverlapping", "provenance": "measured", "scale": self.scale,
            "seed": 0, "corpus_used": "random tokens", "paper_length": shape.length,
            "dtype": compute_dtype(device), **provenance(device),
        }  # fmt: skip
        rows = []
        for method in self.methods:
            own = common | {
                "method": method,
                "kernel": kernels[method],
                "compiled": trained[method]["form"] == "compiled",
                "parameters": shape.unmade(method).parameter_count(),
            }
            eval_speed = next(row["tokens_per_second"] for row in evaluated if row["method"] == method)
            bytes_used = next(r["train_bytes"] for r in weighed if r["method"] == method)
            measured = {
                ("train_speed", "tokens/s"): trained[method]["tokens_per_second"],
                ("eval_speed", "tokens/s"): eval_speed,
                ("train_memory", "GB"): bytes_used / 1e9,
            }
            if method != first:
                pair = f"{method}/{first}"
                measured |= {
                    ("train_time_ratio", ""): found["ratios"][f"train_step {pair}"][self.shape],
                    ("eval_time_ratio", ""): eval_ratios[f"evaluate {pair} at L"][self.shape],
                    ("train_memory_ratio", ""): memory_ratios[f"train_memory {pair}"][self.shape],
                }
            rows += [own | {"metric": metric, "unit": unit, "value": v} for (metric, unit), v in measured.items()]
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

    methods: ClassVar[tuple[str, ...]] = ("alibi",)
    alone: ClassVar[bool] = True
    absent: ClassVar[str | None] = None
    steps: ClassVar[int | None] = None
    measurements: ClassVar[int] = 1

    @property
    def title(self) -> str:
        """Such as "attention at 8192"."""
        return f"attention at {self.train_length}"

    def configured(self) -> dict[str, Any]:
        """What is measured, as plain data."""
        return {"length": self.train_length, "heads": ATTENTION_HEADS, "head_width": ATTENTION_WIDTH}

    def prepare(self) -> None:
        """Nothing: random queries, keys and values."""

    def begun(self) -> bool:
        """Never."""
        return False

    def flops(self) -> tuple[float, float]:
        """Of forward and backward pass: 12 heads head-width length^2 a window, half of it masked; and nothing else."""
        windows = max(1, ATTENTION_TOKENS // self.train_length)
        passes = 12.0 * ATTENTION_HEADS * ATTENTION_WIDTH * self.train_length**2 * windows / 2
        return passes * KERNELS_TRIED * 6, 0.0

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether this length is among these records."""
        own = records[(records.scale == self.scale) & (records.metric == "attention_time")]
        return bool((own.train_length == self.train_length).any())

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Measures, and returns one number a row."""
        import pandas as pd

        device = scale_named(self.scale).device
        settle_cpu(torch.get_num_threads())
        found, _ = attention(device, (self.train_length,))
        common = {
            "corpus": self.paper_corpus, "model": f"attention, {ATTENTION_HEADS} heads of {ATTENTION_WIDTH}",
            "train_length": self.train_length, "eval_length": self.train_length, "provenance": "measured",
            "scale": self.scale, "corpus_used": "random tokens", "paper_length": self.train_length,
            "dtype": compute_dtype(device), **provenance(device), "metric": "attention_time", "unit": "s",
        }  # fmt: skip
        rows = [
            common | {"method": row["bias"], "value": row["seconds"], "kernel": row["kernel"]}
            for row in found
            if "seconds" in row
        ]
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


@dataclass(frozen=True)
class DecayWindowCell(TrainingCell):
    """What a decay window costs in loss: one trained ALiBi model, evaluated within windows of several nats.

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

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Trains the model if it is not in the cache, evaluates, and returns one number a row."""
        import pandas as pd

        run, text = self.run(bookkeeping), self.evaluated_on()
        split = (text or run.corpus).encoded_by(run.corpus, "valid")
        settle_cpu(run.config.threads)
        (measure,) = self.measures
        common = run.provenance(text) | {
            "corpus": self.paper_corpus, "split": "valid", "eval_length": measure.length, "protocol": "nonoverlapping",
            "prefix": measure.prefix, "metric": "loss", "unit": "nats",
        }  # fmt: skip
        rows = []
        for nats in DECAY_WINDOWS:
            run.model.config = replace(run.model.config, decay_window=nats)
            found = evaluate(run.model, split, run.corpus.end_of_line, measure.length, prefix=measure.prefix)
            loss = {"value": found.nats / found.tokens, "tokens_scored": found.tokens}
            rows.append(common | loss | {"decay_window": nats})
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

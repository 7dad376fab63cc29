"""Speed and memory: Table 1, Figures 2 and 7, and the costs of Tables 11 and 12.

Expected (Table 1, L = 512, 1024, 3072, one V100): ALiBi trains at 99 to 101% of sinusoidal's speed with at most 0.1 GB
more; rotary at 68 to 75%, the T5 bias at 28 to 51%. Training at 512 is 1.84 times as fast as at 3072.

    scale    model                                  L                  all of it takes about
    quick    W1: 4 layers, width 256                128                2 minutes on two cores
    laptop   W2: 6 layers, width 512                512, 1024, 3072    25 minutes on two cores
    gpu      247M: 16 layers, width 1024            512, 1024, 3072    minutes on an H100
    paper    the same

Speed needs no reduced lengths: they are the paper's. Steps are on random tokens, of all methods in turns, each on the
attention kernel that is its fastest; a ratio is the median of those of neighbouring steps. Nothing else should run.

    python -m alibi reproduce efficiency --scale laptop
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from alibi.bench import bench
from alibi.device import compute_dtype, settle_cpu
from alibi.evaluate import evaluate
from alibi.experiments.experiment import HALF_STRIDE_TOKENS, Cell, Measure
from alibi.experiments.wikitext103 import TEXTS
from alibi.gauges import ATTENTION_HEADS, ATTENTION_TOKENS, ATTENTION_WIDTH, LONGER, attention, evaluation, memory
from alibi.positions import PAPER_METHODS
from alibi.records import MEASURED_COLUMNS, provenance
from alibi.scale import scale_named
from alibi.shapes import SHAPES, Shape

if TYPE_CHECKING:
    import pandas as pd

FASTEST_OF = 3  # kernels that are tried, two steps each
KERNELS_TRIED = 8
KERNEL_LENGTHS = {
    "quick": (128,),
    "laptop": (128, 512, 1024, 3072, 8192, 16_384),
    "gpu": (512, 1024, 3072, 8192, 16_384, 32_768, 65_536),
    "paper": (),
}
# 0 is no window.
DECAY_WINDOWS = (0, 3, 4, 5, 6, 8, 10, 12, 15, 20)
PAPER_SHAPES = ("247M-512", "247M-1024", "247M-3072")
MODELS = {"quick": ("W1",), "laptop": ("W2", "W2-1024", "W2-3072"), "gpu": PAPER_SHAPES, "paper": PAPER_SHAPES}
LARGE = {
    "quick": (),
    "laptop": ("large-512", "large-1024", "large-2048"),
    "gpu": ("1.3B-512", "1.3B-1024", "1.3B-2048"),
    "paper": ("1.3B-512", "1.3B-1024", "1.3B-2048"),
}


@dataclass(frozen=True)
class SpeedCell:
    """The speed and memory of methods at one shape, side by side; the first is what the others are divided by."""

    shape: str
    scale: str
    methods: tuple[str, ...]
    corpus: str = "wikitext-103"
    """The paper's set of the experiment; what is read are random tokens."""

    alone, absent = True, ""
    seed, steps = 0, 0
    measures = ("train", "evaluation", "memory")

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

    def records(self, bar_row: int = 0) -> "pd.DataFrame":
        """Measures, and returns one number a row: tokens/s, GB, and ratios to the first method."""
        import pandas as pd

        device, shape, first = scale_named(self.scale).device, self.at, self.methods[0]
        found = bench((self.shape,), device=device, methods=self.methods)
        trained = {row["contestant"]: row for row in found["rows"]}
        kernels = {method: trained[method]["kernel"] for method in self.methods}
        evaluated, eval_ratios = evaluation(shape, self.methods, device, beyond=False)
        weighed, memory_ratios = memory(shape, kernels, device, beyond=False)
        common = {
            "corpus": self.corpus, "split": "valid", "model": self.model, "train_length": shape.length,
            "eval_length": shape.length, "protocol": "nonoverlapping", "provenance": "measured", "scale": self.scale,
            "seed": self.seed, "corpus_used": "random tokens", "paper_length": shape.length,
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
class AttentionCell(Cell):
    """Attention alone, forward and backward: no bias, ALiBi's, and ALiBi's within the decay window, on every kernel.

    A record is the time of one pass (metric attention_time, seconds) of a `kernel`.
    """

    alone = True
    absent = ""

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

    def records(self, bar_row: int = 0) -> "pd.DataFrame":
        """Measures, and returns one number a row."""
        import pandas as pd

        device = scale_named(self.scale).device
        settle_cpu(torch.get_num_threads())
        found, _ = attention(device, (self.train_length,))
        common = {
            "corpus": self.corpus, "model": f"attention, {ATTENTION_HEADS} heads of {ATTENTION_WIDTH}",
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
class DecayWindowCell(Cell):
    """What a decay window costs in loss: one trained ALiBi model, evaluated within windows of several nats.

    A record is the loss (metric loss, nats a token) at 16 L within a `decay_window`.
    """

    @property
    def title(self) -> str:
        """Such as "decay windows, L = 128, seed 0"."""
        return f"decay windows, L = {self.train_length}, seed {self.seed}"

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether its losses are among these records."""
        own = records[(records.scale == self.scale) & (records.metric == "loss")]
        return bool(((own.train_length == self.train_length) & (own.seed == self.seed)).any())

    def records(self, bar_row: int = 0) -> "pd.DataFrame":
        """Trains the model if it is not in the cache, evaluates, and returns one number a row."""
        import pandas as pd

        run, text = self.run(bar_row), self.read()
        split = (text or run.corpus).encoded_by(run.corpus, "valid")
        settle_cpu(run.config.threads)
        (measure,) = self.measures
        common = run.provenance(text) | {
            "corpus": self.corpus, "split": "valid", "eval_length": measure.length, "protocol": "nonoverlapping",
            "prefix": measure.prefix, "metric": "loss", "unit": "nats",
        }  # fmt: skip
        rows = []
        for nats in DECAY_WINDOWS:
            run.model.config = replace(run.model.config, decay_window=nats)
            found = evaluate(run.model, split, run.corpus.end_of_line, measure.length, prefix=measure.prefix)
            loss = {"value": found.nats / found.tokens, "tokens_scored": found.tokens}
            rows.append(common | loss | {"decay_window": nats or None})
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


def cells(scale: str, seeds: tuple[int, ...] = (0,)) -> list[SpeedCell | Cell]:
    """All methods of the paper at each length, attention by kernel, and what a decay window loses.

    Speed has no seed: the cells are the same whatever the seeds.
    """
    length = scale_named(scale).train_length
    measured = (Measure(LONGER * length, None, HALF_STRIDE_TOKENS[scale]),)
    return [
        *(SpeedCell(shape, scale, PAPER_METHODS) for shape in MODELS[scale]),
        *(AttentionCell("alibi", scale, length) for length in sorted(KERNEL_LENGTHS[scale])),
        DecayWindowCell("alibi", scale, length, TEXTS[scale], seed=seeds[0], measures=measured),
    ]


def large(scale: str) -> list[SpeedCell]:
    """What the larger model costs at the lengths of Table 12, for `cc100_roberta`."""
    return [SpeedCell(shape, scale, ("sinusoidal", "alibi"), "cc100+roberta") for shape in LARGE[scale]]


def learned(scale: str) -> list[SpeedCell]:
    """What learning the slopes costs, for `slopes`."""
    return [SpeedCell(shape, scale, ("alibi", "alibi-learned")) for shape in MODELS[scale][:1]]

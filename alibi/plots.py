"""The paper's figures and ours, from records; a method has one colour, marker and dash everywhere.

Every function draws on axes that it is given or makes, and returns them. Colours are Okabe and Ito's, which stay
apart for colour-blind readers; markers and dashes say the same once more.
"""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from alibi.positions import METHODS

TITLES = {name: method.title for name, method in METHODS.items()}
COLOURS = {"sinusoidal": "#D55E00", "rotary": "#CC79A7", "t5": "#009E73", "alibi": "#0072B2"}
MARKERS = {"sinusoidal": "s", "rotary": "^", "t5": "D", "alibi": "o"}
DASHES = {"sinusoidal": (4, 1.5), "rotary": (1, 1), "t5": (5, 1, 1, 1), "alibi": ""}


def use_style() -> None:
    """Seaborn's white grid with type that stays legible at the width of a phone."""
    sns.set_theme(context="notebook", style="whitegrid", font_scale=0.95)
    plt.rcParams |= {
        "figure.dpi": 110,
        "figure.figsize": (7.2, 4.2),
        "figure.constrained_layout.use": True,
        "axes.titlesize": "medium",
        "legend.frameon": False,
        "lines.markersize": 5,
        # Text of a figure must not depend on what fonts a machine has.
        "font.family": "DejaVu Sans",
    }


def _plain(axis: object) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # type: ignore[attr-defined]
    axis.set_minor_locator(NullLocator())  # type: ignore[attr-defined]


def logarithmic(ax: Axes, x: Sequence[float] | None = None, y: Sequence[float] | None = None) -> None:
    """Logarithmic axes with these ticks, labelled as plain numbers; an axis without ticks stays as it is."""
    if x is not None:
        ax.set_xscale("log")
        ax.set_xticks(list(x))
        _plain(ax.xaxis)
    if y is not None:
        ax.set_yscale("log")
        ax.set_yticks(list(y))
        _plain(ax.yaxis)


def nice_ticks(low: float, high: float) -> list[float]:
    """Ticks 1, 2, 5 times powers of ten that cover an interval of positive numbers on a logarithmic axis."""
    steps = [m * 10.0**e for e in range(-3, 9) for m in (1, 2, 5)]
    return [b for a, b in pairwise(steps) if b >= low * 0.999 and a < high]


def perplexities(
    records: pd.DataFrame, metric: str = "perplexity", protocol: str = "nonoverlapping", split: str = "valid"
) -> pd.DataFrame:
    """The rows of one metric, protocol and split that hold a value."""
    chosen = (records.metric == metric) & (records.protocol == protocol) & (records.split == split)
    return records[chosen & records.value.notna()]


def extrapolation(
    records: pd.DataFrame, ax: Axes | None = None, metric: str = "perplexity", legend: bool = True
) -> Axes:
    """Perplexity against evaluation length, one curve a method, the training length marked (Figure 1).

    Both axes are logarithmic. Records of several seeds give a mean and a band from the least to the greatest.
    """
    ax = plt.gca() if ax is None else ax
    chosen = perplexities(records, metric)
    order = [name for name in COLOURS if name in set(chosen.method)]
    sns.lineplot(
        chosen, x="eval_length", y="value", hue="method", style="method", hue_order=order, style_order=order,
        palette=COLOURS, markers=MARKERS, dashes=DASHES, errorbar=("pi", 100), ax=ax, legend=legend,
    )  # fmt: skip
    (train_length,) = chosen.train_length.unique()
    ax.axvline(train_length, color="0.35", lw=1, ls=":")
    ax.annotate(
        f"trained at {train_length:g}", (train_length, 1), xytext=(3, -3), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", fontsize="small", color="0.3",
    )  # fmt: skip
    lengths = sorted(chosen.eval_length.unique())
    logarithmic(
        ax, _doublings(lengths[0], lengths[-1], train_length), nice_ticks(chosen.value.min(), chosen.value.max())
    )
    ax.set(xlabel="evaluation length (tokens)", ylabel=METRIC_LABELS[metric])
    if legend:
        handles, names = ax.get_legend_handles_labels()
        ax.legend(handles, [TITLES[name] for name in names], title=None)
    return ax


METRIC_LABELS = {
    "perplexity": "perplexity (per token)",
    "word_perplexity": "perplexity (per word)",
    "bits_per_byte": "bits per byte",
}


def _doublings(low: float, high: float, start: float) -> list[float]:
    ticks = [start * 2.0**power for power in range(-6, 12)]
    return [tick for tick in ticks if low * 0.99 <= tick <= high * 1.01]


def headline(paper: pd.DataFrame, measured: pd.DataFrame) -> Figure:
    """The paper's extrapolation at L = 512 (Table 2) and the live runs side by side, same axes and colours."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2))
    table = paper[(paper.source == "Table 2") & (paper.eval_length >= 512)]
    extrapolation(table, left)
    left.set_title("The paper: WikiText-103,\n247M parameters, trained at 512")
    row = measured.iloc[0]
    extrapolation(measured, right, legend=False)
    size = f"{row.parameters / 1e6:.1f}M parameters"
    right.set_title(f"Live, scaled down: {row.corpus_used},\n{size}, trained at {row.train_length:g}")
    return figure

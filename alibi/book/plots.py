"""The paper's figures and ours, from records; a method has one colour, marker and dash everywhere.

Every function draws on axes that it is given or makes, and returns them. Colours are Okabe and Ito's, those of ALiBi's
variants Paul Tol's, which stay apart for colour-blind readers; markers and dashes say the same once more.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from alibi.evaluate import AgainstItself
from alibi.positions import METHODS, PAPER_METHODS

# Of columns and rows in tables.
PAPER_ORDER = list(PAPER_METHODS)
TITLES = {name: method.title for name, method in METHODS.items()}
Look = tuple[str, str | tuple[int, int, int], tuple[float, ...] | str]
"""Colour, marker and dashes of a line."""
CHOSEN_LOOKS: dict[str, Look] = {
    "sinusoidal": ("#D55E00", "s", (4, 1.5)),
    "rotary": ("#CC79A7", "^", (1, 1)),
    "t5": ("#009E73", "D", (5, 1, 1, 1)),
    "alibi": ("#0072B2", "o", ""),
    "learned": ("#E69F00", "v", (2, 1)),
    "none": ("#000000", "P", (6, 2)),
    # Other slopes cool, other growth warm.
    "alibi-learned": ("#332288", "<", (7, 1)),
    "alibi-random": ("#44AA99", "X", (1, 2)),
    "alibi-half": ("#88CCEE", ">", (3, 1, 1, 1)),
    "alibi-quadratic": ("#882255", "p", (3, 2)),
    "alibi-exponential": ("#CC6677", "d", (5, 3)),
    "alibi-logarithmic": ("#DDCC77", "*", (8, 1, 1, 1)),
    "alibi-multiplied": ("#999933", "h", (2, 2)),
    # Methods of other papers.
    "window": ("#777777", (4, 1, 0), (6, 1, 2, 1)),
    "kerple": ("#117733", "H", (4, 3)),
    "sandwich": ("#663333", (8, 1, 0), (9, 2)),
    "fire": ("#EE3377", (6, 1, 0), (3, 3)),
    "xpos": ("#AA4499", "8", (1, 3)),
    "forgetting": ("#4477AA", (3, 1, 0), (2, 1, 6, 1)),
    # Constants for an eighth of the lengths: lighter than the method itself.
    "sinusoidal-base": ("#F0A868", (4, 0, 20), (2, 1, 1, 1)),
    "rotary-base": ("#E6BFD6", (3, 0, 90), (1, 1, 3, 1)),
    "t5-16": ("#7FCFB8", (6, 0, 0), (6, 1)),
    "alibi-x8": ("#7FB8DC", (5, 0, 36), (3, 1)),
}
# For methods that chose none, in the order of METHODS. Two numbers of a marker are its corners and 1 for a star.
SPARE_LOOKS: tuple[Look, ...] = (
    ("#994F00", (7, 1, 0), (10, 1, 2, 1)),
    ("#225555", (9, 1, 0), (1, 4)),
    ("#BBBBBB", (10, 1, 0), (7, 3)),
    ("#AA3377", (12, 1, 0), (4, 1, 1, 2)),
)


def _looks() -> dict[str, Look]:
    without = [name for name in METHODS if name not in CHOSEN_LOOKS]
    if len(without) > len(SPARE_LOOKS):
        raise ValueError(f"no look is left for {', '.join(without[len(SPARE_LOOKS) :])}: add some to SPARE_LOOKS")
    looks = CHOSEN_LOOKS | dict(zip(without, SPARE_LOOKS, strict=False))
    return {name: looks[name] for name in METHODS}


LOOKS = _looks()
COLOURS = {name: colour for name, (colour, _, _) in LOOKS.items()}
MARKERS = {name: marker for name, (_, marker, _) in LOOKS.items()}
DASHES = {name: dashes for name, (_, _, dashes) in LOOKS.items()}


# What a figure gets on a dark page, by the filters of book.css: lightness turned around, hue kept (Filter Effects
# Module Level 1, hueRotate with the cosine -1).
INVERTED = 0.93
TURNED = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])


def on_dark(colour: str) -> str:
    """The colour (#RRGGBB) that one of a figure becomes on a dark page, for what is drawn in the page itself."""
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    turned = TURNED @ (INVERTED + channels * (1 - 2 * INVERTED))
    return "#" + "".join(f"{round(255 * channel):02X}" for channel in turned.clip(0, 1))


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
    """Round numbers between two positive ones for a logarithmic axis: 1, 2, 5 times powers of ten, or even steps."""
    if high / low < 5:
        ticks = [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    else:
        ticks = [multiple * 10.0**power for power in range(-3, 9) for multiple in (1, 2, 5)]
    return [tick for tick in ticks if low * 0.95 <= tick <= high * 1.05]


def band(ax: Axes, rows: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    """The mean of one column at each value of another, and a band from its least to its greatest seed.

    Args:
        ax: to draw on; without rows nothing is drawn.
        rows: with both columns.
        x: column of the horizontal axis.
        y: column of the vertical axis.
        look: of the line, its colour among it.
    """
    if rows.empty:
        return
    at = rows.groupby(x)[y].agg(["mean", "min", "max"]).astype(float)
    ax.plot(at.index, at["mean"], **look)
    ax.fill_between(at.index, at["min"], at["max"], color=look["color"], alpha=0.2, lw=0)


def legend_above(figure: Figure, ncols: int, names: Sequence[str] = ()) -> None:
    """One legend above all panels, of what the first of them holds; other names may be given."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, list(names) or labels, loc="outside upper center", ncols=ncols)


def perplexities(
    records: pd.DataFrame, metric: str = "perplexity", protocol: str = "nonoverlapping", split: str = "valid"
) -> pd.DataFrame:
    """The rows of one metric, protocol and split that hold a value; without overlap those that skip no tokens."""
    chosen = (records.metric == metric) & (records.protocol == protocol) & (records.split == split)
    if protocol == "nonoverlapping" and "skipped" in records:
        chosen &= records.skipped.isna()
    return records[chosen & records.value.notna()]


def extrapolation(
    records: pd.DataFrame,
    ax: Axes | None = None,
    metric: str = "perplexity",
    legend: bool = True,
    protocol: str = "nonoverlapping",
) -> Axes:
    """Perplexity against evaluation length, one curve a method, the training length marked (Figure 1).

    Both axes are logarithmic. Records of several seeds give a mean and a band from the least to the greatest.
    """
    ax = plt.gca() if ax is None else ax
    chosen = perplexities(records, metric, protocol)
    order = [name for name in COLOURS if name in set(chosen.method)]
    sns.lineplot(
        chosen, x="eval_length", y="value", hue="method", style="method", hue_order=order, style_order=order,
        palette=COLOURS, markers=MARKERS, dashes=DASHES, errorbar=("pi", 100), ax=ax, legend=legend,
    )  # fmt: skip
    (train_length,) = chosen.train_length.unique()
    ax.axvline(train_length, color="0.35", lw=1, ls=":", label=f"trained at {train_length:g}")
    lengths = sorted(chosen.eval_length.unique())
    logarithmic(
        ax, _doublings(lengths[0], lengths[-1], train_length), nice_ticks(chosen.value.min(), chosen.value.max())
    )
    ax.set(xlabel="evaluation length (tokens)", ylabel=METRIC_LABELS[metric])
    if legend:
        handles, names = ax.get_legend_handles_labels()
        ax.legend(handles, [TITLES.get(name, name) for name in names], title=None)
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
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 4.4))
    extrapolation(paper[paper.source == "Table 2"], left)
    handles, names = left.get_legend_handles_labels()
    names = [TITLES.get(name, "training length L") for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=5, columnspacing=1.2, handletextpad=0.5)
    left.get_legend().remove()
    left.set_title("The paper: WikiText-103,\n247M parameters, L = 512")
    row = measured.iloc[0]
    extrapolation(measured, right, legend=False)
    size = f"{row.parameters / 1e6:.1f}M parameters"
    right.set_title(f"Live, scaled down: {row.corpus_used},\n{size}, L = {row.train_length:g}")
    return figure


def by_position(found: AgainstItself) -> np.ndarray:
    """Mean loss against itself (nats a token) of each `stride` positions of the long window: [window / stride]."""
    return found.nats.sum(axis=1) / found.tokens.sum(axis=1)


def against_itself(found: Mapping[str, AgainstItself]) -> Figure:
    """The loss of each method's model in a long window less its own within L, against the position (tokens).

    Bands are two standard errors over articles to each side.
    """
    figure, ax = plt.subplots(figsize=(6.4, 4))
    for method, own in found.items():
        firsts = range(1, own.window, own.stride)
        margin = 2 * np.array([own.between(first, first + own.stride - 1)[1] for first in firsts])
        centres, means = np.array(firsts) + own.stride / 2, by_position(own)
        ax.plot(centres, means, color=COLOURS[method], dashes=DASHES[method] or (1, 0), label=TITLES[method])
        ax.fill_between(centres, means - margin, means + margin, color=COLOURS[method], alpha=0.2, lw=0)
    ax.axhline(0, color="0.35", lw=1)
    ax.axvline(own.length, color="0.35", lw=1, ls=":", label=f"trained at {own.length}")
    ax.set_xticks([multiple * own.length for multiple in (0, 1, 2, 4, 6, 8) if multiple * own.length <= own.window])
    ax.set(xlabel="position in the window (tokens)", ylabel="loss added (nats)")
    ax.legend()
    return figure


def figure_3(tokens: int = 5) -> Figure:
    """Figure 3, drawn: the scores of queries and keys, and the penalty that ALiBi adds to each, for one head."""
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.1))
    shades = ["0.94", *sns.light_palette(COLOURS["alibi"], 2 * tokens)[2:]]
    for ax, title in zip(axes, ("scores", "+  penalty"), strict=True):
        for query in range(tokens):
            for key in range(query + 1):
                back = query - key
                penalty = ["0", "$-m$"][back] if back < 2 else f"$-{back}m$"
                text = f"$q_{query + 1} k_{key + 1}$" if ax is axes[0] else penalty
                shade = shades[0 if ax is axes[0] else back]
                ax.add_patch(Rectangle((key, query), 1, 1, facecolor=shade, edgecolor="white", lw=2))
                ax.text(key + 0.5, query + 0.5, text, ha="center", va="center")
        ax.set(xlim=(0, tokens), ylim=(tokens, 0), title=title, xlabel="key", ylabel="query", xticks=[], yticks=[])
        ax.set_aspect("equal")
        sns.despine(ax=ax, left=True, bottom=True)
    return figure


# The paper's tables and its remaining figures, in its order. Each function takes the paper's rows, measured ones or
# both; measured models are of other sizes, on other texts and machines, and so get a panel of their own.

METRIC_NAMES = {
    "perplexity": "perplexity",
    "word_perplexity": "perplexity per word",
    "bits_per_byte": "bits per byte",
    "train_speed": "training speed",
    "eval_speed": "inference speed",
    "train_memory": "training memory",
}
CORPUS_NAMES = {"wikitext-103": "WikiText-103", "bookcorpus": "BookCorpus", "cc100+roberta": "CC100 + RoBERTa"}


def _parts(records: pd.DataFrame, *sources: str) -> list[tuple[str, pd.DataFrame]]:
    """The paper's rows of these tables or figures, then the measured rows of each corpus and scale, with titles."""
    measured = records.provenance == "measured"
    paper = records[records.source.isin(sources) & ~measured]
    parts = []
    if len(paper):
        corpus, model = CORPUS_NAMES.get(paper.corpus.iloc[0], paper.corpus.iloc[0]), paper.model.dropna().iloc[0]
        parts.append((f"The paper: {corpus}, {model} parameters", paper))
    if measured.any():
        for (corpus, _), group in records[measured].groupby(["corpus_used", "scale"]):
            parts.append((f"Measured: {corpus}, {group.parameters.max() / 1e6:.1f}M parameters", group))
    return [(title, part) for title, part in parts if len(part)]


def _stack(panels: int, height: float = 3.9) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(panels, 1, figsize=(6.6, height * panels), squeeze=False)
    return figure, list(axes[:, 0])


def _pairs(records: pd.DataFrame, sources: Sequence[str], protocol: str) -> Figure:
    """Extrapolation curves, a panel a training length, two panels a row."""
    panels = []
    for title, part in _parts(records, *sources):
        for length, group in perplexities(part, protocol=protocol).groupby("train_length"):
            if group.eval_length.nunique() > 1:
                panels.append((title.replace(", ", ",\n") + f", L = {length:g}", group))
    columns, rows = min(2, len(panels)), math.ceil(len(panels) / 2)
    size = (7.8, 3.9 * rows) if columns == 2 else (6.6, 4.2)
    # Several rows are drawn at a lower resolution: a figure in the book has at most 100 kB.
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, dpi=110 if rows == 1 else 85)
    handles: dict[str, Artist] = {}
    for ax, (title, group) in zip(axes.flat, panels, strict=False):
        extrapolation(group, ax, protocol=protocol)
        drawn, names = ax.get_legend_handles_labels()
        titles = [TITLES.get(name, "training length L") for name in names]
        handles |= dict(zip(titles, drawn, strict=True))
        ax.get_legend().remove()
        ax.set_title(title)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_visible(False)
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=5, columnspacing=1)
    return figure


def figure_1(records: pd.DataFrame) -> Figure:
    """Figure 1 (Tables 2 and 3): perplexity per token against evaluation length (tokens), nonoverlapping.

    A panel for each training length, both axes logarithmic.
    """
    return _pairs(records, ("Table 2", "Table 3"), "nonoverlapping")


def figure_2(records: pd.DataFrame) -> Figure:
    """Figure 2 (Table 1): speed of training and inference (thousand words/s) and memory of training (GB).

    Bars by training length (tokens) and method; a row of panels for the paper, one for each measured scale.
    """
    metrics = ["train_speed", "eval_speed", "train_memory"]
    parts = [(title, part[part.metric.isin(metrics)]) for title, part in _parts(records, "Table 1")]
    parts = [(title, part) for title, part in parts if len(part)]
    figure, axes = plt.subplots(len(parts), 3, figsize=(7.8, 3.4 * len(parts)), squeeze=False)
    for (title, part), row in zip(parts, axes, strict=True):
        row[1].set_title(title)
        for metric, ax in zip(metrics, row, strict=True):
            chosen = part[part.metric == metric].astype({"train_length": int})
            order = [name for name in COLOURS if name in set(chosen.method)]
            sns.barplot(
                chosen, x="train_length", y="value", hue="method", hue_order=order, palette=COLOURS, saturation=1,
                errorbar=None, ax=ax,
            )  # fmt: skip
            ax.set(xlabel="L (tokens)", ylabel=_quantity(chosen, ax))
            handles, names = ax.get_legend_handles_labels()
            ax.get_legend().remove()
    figure.legend(handles, [TITLES[name] for name in names], loc="outside upper center", ncols=4, columnspacing=1)
    return figure


def _quantity(records: pd.DataFrame, ax: Axes) -> str:
    """Name and unit of a metric; speeds are written in thousands."""
    (metric,), unit = records.metric.unique(), records.unit.iloc[0]
    if str(unit).endswith("/s"):
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}"))
        unit = f"thousand {unit}"
    return f"{METRIC_NAMES[metric]}\n({unit})"


def figure_4(records: pd.DataFrame) -> Figure:
    """Figure 4 (Table 5): perplexity per token of ALiBi models trained at L, against evaluation length (tokens).

    Each curve is one ALiBi model, labelled with its L at its left end; each square a sinusoidal model, evaluated at
    its own L. The evaluation length is logarithmic.
    """
    parts = _parts(records, "Table 5")
    figure, axes = _stack(len(parts))
    for ax, (title, part) in zip(axes, parts, strict=True):
        chosen = perplexities(part)
        chosen = chosen[chosen.eval_length >= chosen.train_length]
        curves = chosen[chosen.method == "alibi"].groupby(["train_length", "eval_length"]).value.mean()
        lengths = list(curves.index.unique("train_length"))
        for length, shade in zip(lengths, _shades(len(lengths)), strict=True):
            curve = curves[length]
            label = TITLES["alibi"] if length == lengths[len(lengths) // 2] else None
            ax.plot(curve.index, curve, color=shade, marker=MARKERS["alibi"], label=label)
            ax.annotate(
                f"{length:g}", (curve.index[0], curve.iloc[0]), xytext=(-2, -9), textcoords="offset points",
                ha="right", va="top", fontsize="small", color="0.3",
            )  # fmt: skip
        own = chosen[(chosen.method == "sinusoidal") & (chosen.eval_length == chosen.train_length)]
        baseline = own.groupby("eval_length").value.mean()
        ax.plot(
            baseline.index, baseline, color=COLOURS["sinusoidal"], marker=MARKERS["sinusoidal"], ls="--", lw=1,
            label=f"{TITLES['sinusoidal']} at its own L",
        )  # fmt: skip
        logarithmic(ax, _spread(sorted(chosen.eval_length.unique())))
        ax.margins(x=0.09, y=0.1)
        ax.set(xlabel="evaluation length (tokens)", ylabel=METRIC_LABELS["perplexity"], title=title)
        ax.legend()
    return figure


def _shades(count: int) -> list[Any]:
    """Of ALiBi's blue, for models trained at different lengths, the shortest lightest."""
    return list(sns.blend_palette(["#7FC4EE", COLOURS["alibi"], "#002A42"], count))


def _spread(lengths: Sequence[float]) -> list[float]:
    """Those lengths that are far enough apart for a label each, the longest among them."""
    kept = [lengths[-1]]
    for length in reversed(lengths[:-1]):
        if kept[-1] / length > 1.45:
            kept.append(length)
    return kept[::-1]


def figure_5(sides: Mapping[str, pd.DataFrame]) -> Figure:
    """Figure 5 (points read off it): perplexity per token against the time of training, nonoverlapping.

    In panels of 1024 and 2048 tokens, ALiBi trained at half the length beside sinusoidal trained at it.

    Args:
        sides: rows by title: `paper_length` and `paper_eval_length` in the paper's tokens, `time` with its
            `time_unit`, and `point`, which is the same for all seeds of one moment in training.
    """
    figure, axes = plt.subplots(len(sides), 2, figsize=(6.4, 3.3 * len(sides)), squeeze=False, dpi=90)
    for row, (title, rows) in zip(axes, sides.items(), strict=True):
        for ax, window in zip(row, (1024, 2048), strict=True):
            for method, length, line in (("alibi", window / 2, "-"), ("sinusoidal", window, "--")):
                run = rows[(rows.method == method) & (rows.paper_length == length) & (rows.paper_eval_length == window)]
                at = run.groupby("point")[["time", "value"]].agg(["mean", "min", "max"]).astype(float)
                mean, low, high = at["value", "mean"], at["value", "min"], at["value", "max"]
                ax.errorbar(
                    at["time", "mean"], mean, yerr=[mean - low, high - mean], ls=line, marker=MARKERS[method],
                    color=COLOURS[method], label=TITLES[method],
                )  # fmt: skip
            ax.set(title=f"{title}, at {window}", xlabel=rows.time_unit.iloc[0], ylabel=METRIC_LABELS["perplexity"])
            ax.locator_params(axis="x", nbins=4)
    legend_above(figure, 2)
    return figure


def figure_6(sides: Mapping[str, pd.DataFrame]) -> Figure:
    """Figure 6 (digitised) and Table 12: perplexity per token against evaluation length (tokens), nonoverlapping.

    A panel for each training length; all span the same ratios about the perplexity at L.

    Args:
        sides: rows of `alibi.book.results.relative` by title.
    """
    panels = [
        (f"{title}, L = {{:g}}", part) for title, rows in sides.items() for _, part in rows.groupby("paper_length")
    ]
    ratios = np.concatenate([part.ratio[part.method == "alibi"] for _, part in panels])
    top = 1.05 * math.exp(np.abs(np.log(ratios)).max())
    height = math.ceil(len(panels) / 2)
    figure, axes = plt.subplots(height, 2, figsize=(6.4, 3.2 * height), squeeze=False, dpi=90)
    for ax, (title, part) in zip(axes.flat, panels, strict=False):
        extrapolation(part, ax)
        ax.get_legend().remove()
        start, own = part.train_length.iloc[0], part[part.multiple == 1].value.mean()
        logarithmic(ax, [start, 2 * start, 8 * start, 32 * start], nice_ticks(own / top, own * top))
        ax.set(xlim=(0.9 * start, 36 * start), ylim=(own / top, own * top), title=title.format(start))
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    legend_above(figure, 3, [TITLES["sinusoidal"], TITLES["alibi"], "training length L"])
    return figure


def figure_7(records: pd.DataFrame) -> Figure:
    """Figure 7 (points read off it): speed of training (thousand words/s) against training length (tokens)."""
    parts = [(title, part[part.metric == "train_speed"]) for title, part in _parts(records, "Figure 7")]
    parts = [(title, part) for title, part in parts if len(part)]
    figure, axes = _stack(len(parts), 3.6)
    for ax, (title, part) in zip(axes, parts, strict=True):
        order = [name for name in COLOURS if name in set(part.method)]
        sns.lineplot(
            part, x="train_length", y="value", hue="method", style="method", hue_order=order, style_order=order,
            palette=COLOURS, markers=MARKERS, dashes=DASHES, errorbar=("pi", 100), ax=ax,
        )  # fmt: skip
        logarithmic(ax, _spread(sorted(part.train_length.unique())))
        ax.set(xlabel="training length L (tokens)", ylabel=_quantity(part, ax), title=title)
        ax.set_ylim(bottom=0)
        handles, names = ax.get_legend_handles_labels()
        ax.legend(handles, [TITLES.get(name, name) for name in names], title=None)
    return figure


def figure_8(records: pd.DataFrame) -> Figure:
    """Figure 8 (Table 5, Figure 7): perplexity per token against the speed of training (thousand words/s).

    Every model is evaluated at one length, the longest trained (3072 in the paper), and labelled with its L. Rotary and
    T5 bias have their speeds from Table 1.
    """
    panels = []
    for title, part in _parts(records, "Table 5", "Figure 7", "Table 1"):
        keys = ["method", "train_length"]
        timed = part[part.metric == "train_speed"].sort_values("provenance")
        speeds = timed.groupby(keys).value.first()
        scored = perplexities(part[part.eval_length == part.train_length.max()]).groupby(keys).value.mean()
        if len(points := pd.concat({"speed": speeds, "perplexity": scored}, axis=1, join="inner")):
            panels.append((title, part.train_length.max(), timed.unit.iloc[0], points))
    figure, axes = _stack(len(panels), 4.2)
    for ax, (title, length, unit, points) in zip(axes, panels, strict=True):
        for method in [name for name in COLOURS if name in points.index]:
            at = points.loc[method]
            ax.plot(
                at.speed, at.perplexity, color=COLOURS[method], marker=MARKERS[method], lw=1, ms=7,
                label=TITLES[method] if len(at) > 1 else f"{TITLES[method]}, L = {at.index[0]:g}",
            )  # fmt: skip
            for train_length, speed, perplexity in at.itertuples() if len(at) > 1 else ():
                ax.annotate(
                    f"{train_length:g}", (speed, perplexity), xytext=(-5, 5), textcoords="offset points",
                    ha="right", fontsize="small", color="0.3",
                )  # fmt: skip
        if "sinusoidal" in points.index:
            ax.axhline(points.loc["sinusoidal"].perplexity.iloc[-1], color=COLOURS["sinusoidal"], lw=1, ls=":")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}"))
        ax.margins(0.09)
        ax.set(xlabel=f"training speed (thousand {unit})", ylabel=f"perplexity at {length:g} tokens", title=title)
        ax.legend()
    return figure


def figure_9(sides: Mapping[str, pd.DataFrame]) -> Figure:
    """Figure 9 (Table 8): perplexity per token against evaluation length (tokens), nonoverlapping, both logarithmic.

    ALiBi from each training length, sinusoidal at its own; all panels span the same ratios of perplexity.

    Args:
        sides: rows of `alibi.book.results.relative` by title.
    """
    half = 0.55 * max(np.ptp(np.log(rows.value)) for rows in sides.values())
    figure, axes = plt.subplots(len(sides), 1, figsize=(6.4, 3.7 * len(sides)), squeeze=False, dpi=90)
    for ax, (title, rows) in zip(axes.flat, sides.items(), strict=True):
        runs = rows[rows.method == "alibi"].groupby("train_length")
        for (length, run), shade in zip(runs, _shades(len(runs)), strict=True):
            look = {"color": shade, "marker": MARKERS["alibi"], "label": f"ALiBi, L = {length:g}"}
            band(ax, run, "eval_length", "value", **look)
        look = {"color": COLOURS["sinusoidal"], "marker": MARKERS["sinusoidal"], "label": "sinusoidal, own L"}
        band(ax, rows[rows.method == "sinusoidal"], "eval_length", "value", ls="--", **look)
        middle = np.log([rows.value.min(), rows.value.max()]).mean()
        low, high = np.exp([middle - half, middle + half])
        logarithmic(ax, sorted(rows.train_length.unique()), nice_ticks(low, high))
        ax.set(xlabel="evaluation length (tokens)", ylabel=METRIC_LABELS["perplexity"], title=title, ylim=(low, high))
        ax.legend(fontsize="small")
    return figure


def figure_11(records: pd.DataFrame, stride: int = 1) -> Figure:
    """Figure 11 (Tables 13 to 15): perplexity per token against evaluation length (tokens), sliding window.

    A panel for each training length, both axes logarithmic.
    """
    return _pairs(records[records.stride == stride], ("Table 13", "Table 14", "Table 15"), "sliding_window")


def relative(records: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Perplexity over that at L, against evaluation length over L: what compares across models and texts.

    The paper's rows are lines, measured ones large filled markers, side by side where they would hide one another.
    Of each, one training length is expected.
    """
    ax = plt.gca() if ax is None else ax
    chosen = perplexities(records)
    chosen = chosen[chosen.eval_length >= chosen.train_length].sort_values("eval_length")
    own = chosen.value.where(chosen.eval_length == chosen.train_length)
    ratio = chosen.value / own.groupby([chosen.provenance, chosen.method]).transform("mean")
    chosen = chosen.assign(multiple=chosen.eval_length / chosen.train_length, ratio=ratio)
    order = [name for name in COLOURS if name in set(chosen.method)]
    measured = chosen.provenance == "measured"
    for method in order:
        curve = chosen[(chosen.method == method) & ~measured]
        if len(curve):
            ax.plot(curve.multiple, curve.ratio, color=COLOURS[method], lw=1.2, label=f"{TITLES[method]}: the paper")
    for place, method in enumerate(order):
        points = chosen[(chosen.method == method) & measured].groupby("multiple").ratio.mean()
        ax.plot(
            points.index * 1.055 ** (place - (len(order) - 1) / 2), points, ls="", marker=MARKERS[method],
            color=COLOURS[method], ms=8, mec="black", mew=0.7,
            label=f"{TITLES[method]}: measured",
        )  # fmt: skip
    logarithmic(ax, _doublings(1, chosen.multiple.max(), 1), nice_ticks(0.5, chosen.ratio.max()))
    ax.set(xlabel="evaluation length / L", ylabel="perplexity / perplexity at L")
    ax.legend(fontsize="small")
    return ax


def forest(ax: Axes, effects: pd.DataFrame, names: Mapping[str, str], xlabel: str, log: bool = True) -> None:
    """A row for each part of a claim: where its rule holds (grey), the paper's value, ours and its interval.

    Args:
        ax: to draw on.
        effects: columns low and high (of the rule), paper, effect (measured), start and end (of its interval), outcome.
        names: what is said of each part, by its label in the index of `effects`; the first on top.
        xlabel: what the values are.
        log: whether the axis is logarithmic.
    """
    rows = effects.loc[list(names)]
    y = pd.Series(range(len(rows)), rows.index)
    ax.set_xscale("log" if log else "linear")
    ax.plot(rows.paper, y, "D", mfc="none", mec="0.25", ms=11, label="the paper")
    ax.hlines(y, rows.start, rows.end, color="black", lw=1.5)
    for outcome, marker in (("holds", "o"), ("broken", "X"), ("undecided", "s")):
        ours = rows[rows.outcome == outcome]
        ax.plot(ours.effect, y[ours.index], marker, color="black", ms=7, label=f"measured: {outcome}")
    ax.plot(rows.low, y, "|k", rows.high, y, "|k", ms=16)
    if log:
        logarithmic(ax, nice_ticks(*ax.get_xlim()))
    start, end = ax.get_xlim()
    left = rows.low.clip(lower=start)
    ax.barh(y, rows.high.clip(upper=end) - left, left=left, color="0.87", height=0.7, zorder=0)
    ax.set(xlim=(start, end), ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    ax.set_yticks(y, [f"{name}  {label}" for label, name in names.items()])

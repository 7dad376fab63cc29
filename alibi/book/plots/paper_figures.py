"""The paper's figures, in its order, by its number.

Each function takes the paper's rows, measured rows or both. Measured models have other sizes, texts and machines, and
so get their own panels.
"""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from alibi.book.plots.axes import band, far_apart, legend_above, logarithmic, nice_ticks
from alibi.book.plots.curves import extrapolation, perplexities
from alibi.book.plots.looks import (
    COLOURS,
    DASHES,
    MARKERS,
    METRIC_NAMES,
    PERPLEXITY,
    TITLES,
    TRAINING_LENGTH,
    WIDTH,
)
from alibi.protocols import NONOVERLAPPING, SLIDING

# Letters of a title's line, and a space that ends none.
TITLE, SPACE = 36, "\N{NO-BREAK SPACE}"
CORPUS_NAMES = {"wikitext-103": "WikiText-103", "bookcorpus": "BookCorpus", "cc100+roberta": "CC100 + RoBERTa"}


def _parts(records: pd.DataFrame, *sources: str) -> list[tuple[str, pd.DataFrame]]:
    """The paper's rows of these tables or figures, then the measured rows of each corpus and scale, with titles."""
    measured = records.provenance == "measured"
    paper = records[records.source.isin(sources) & ~measured]
    parts = []
    if len(paper):
        corpus, model = CORPUS_NAMES.get(paper.corpus.iloc[0], paper.corpus.iloc[0]), paper.model.dropna().iloc[0]
        parts.append((f"The paper: {corpus}, {model}{SPACE}parameters", paper))
    if measured.any():
        for (corpus, _), group in records[measured].groupby(["corpus_used", "scale"]):
            parts.append((f"Measured: {corpus}, {group.parameters.max() / 1e6:.1f}M{SPACE}parameters", group))
    return [(fill(title, TITLE), part) for title, part in parts if len(part)]


def _stack(panels: int, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(panels, 1, figsize=(WIDTH, height * panels), squeeze=False)
    return figure, list(axes[:, 0])


def _by_length(records: pd.DataFrame, sources: Sequence[str], protocol: str) -> Figure:
    """Extrapolation curves, one panel a training length."""
    panels = []
    for title, part in _parts(records, *sources):
        for length, group in perplexities(part, protocol=protocol).groupby("train_length"):
            if group.eval_length.nunique() > 1:
                panels.append((f"{title}, L = {length:g}", group))
    figure, axes = _stack(len(panels))
    for ax, (title, group) in zip(axes, panels, strict=True):
        extrapolation(group, ax, protocol=protocol, mark=TRAINING_LENGTH)
        ax.set_title(title)
    legend_above(figure, 3)
    return figure


def figure_1(records: pd.DataFrame) -> Figure:
    """Figure 1 (Tables 2 and 3): perplexity per token against evaluation length (tokens), nonoverlapping.

    A panel for each training length, both axes logarithmic.
    """
    return _by_length(records, ("Table 2", "Table 3"), NONOVERLAPPING)


def figure_2(records: pd.DataFrame) -> Figure:
    """Figure 2 (Table 1): speed of training and inference (thousand words/s) and memory of training (GB).

    Bars by training length (tokens) and method; one column of panels for the paper, and one for each measured scale.
    """
    metrics = ["train_speed", "eval_speed", "train_memory"]
    parts = [(title, part[part.metric.isin(metrics)]) for title, part in _parts(records, "Table 1")]
    parts = [(title, part) for title, part in parts if len(part)]
    figure, axes = plt.subplots(3, len(parts), figsize=(WIDTH, 10.5), squeeze=False)
    for (title, part), column in zip(parts, axes.T, strict=True):
        column[0].set_title(fill(title, TITLE // len(parts)))
        for metric, ax in zip(metrics, column, strict=True):
            chosen = part[part.metric == metric].astype({"train_length": int})
            order = [name for name in COLOURS if name in set(chosen.method)]
            sns.barplot(
                chosen, x="train_length", y="value", hue="method", hue_order=order, palette=COLOURS, saturation=1,
                errorbar=None, ax=ax,
            )  # fmt: skip
            ax.set(xlabel="L (tokens)" if ax is column[-1] else "", ylabel=_quantity(chosen, ax))
    legend_above(figure, 4)
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

    Each curve is one ALiBi model, darker for a longer L; each square a sinusoidal model, evaluated at its own L. The
    evaluation length is logarithmic.
    """
    parts = _parts(records, "Table 5")
    figure, axes = _stack(len(parts), 4.8)
    for ax, (title, part) in zip(axes, parts, strict=True):
        chosen = perplexities(part)
        chosen = chosen[chosen.eval_length >= chosen.train_length]
        curves = chosen[chosen.method == "alibi"].groupby(["train_length", "eval_length"]).value.mean()
        lengths = list(curves.index.unique("train_length"))
        for length, shade in zip(lengths, _shades(len(lengths)), strict=True):
            curve = curves[length]
            ax.plot(curve.index, curve, color=shade, marker=MARKERS["alibi"], label=f"{length:g}")
        own = chosen[(chosen.method == "sinusoidal") & (chosen.eval_length == chosen.train_length)]
        baseline = own.groupby("eval_length").value.mean()
        ax.plot(
            baseline.index, baseline, color=COLOURS["sinusoidal"], marker=MARKERS["sinusoidal"], ls="--", lw=1,
            label=TITLES["sinusoidal"],
        )  # fmt: skip
        logarithmic(ax, far_apart(sorted({*lengths, float(chosen.eval_length.max())})))
        ax.margins(x=0.09, y=0.1)
        ax.set(xlabel="evaluation length (tokens)", ylabel=PERPLEXITY, title=title)
        ax.legend(title=f"{TITLES['alibi']} trained at L", ncols=2, columnspacing=1, labelspacing=0.2)
    return figure


def figure_5(sides: Mapping[str, pd.DataFrame]) -> Figure:
    """Figure 5 (points read off it): perplexity per token against the time of training, nonoverlapping.

    Panels of 1024 and 2048 tokens show ALiBi trained at half the length beside sinusoidal trained at the length.

    Args:
        sides: rows by title: `paper_length` and `paper_eval_length` in the paper's tokens, `time` with its
            `time_unit`, and `point`, which is the same for all seeds of one moment in training.
    """
    figure, axes = plt.subplots(len(sides), 2, figsize=(WIDTH, 3.6 * len(sides)), squeeze=False)
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
            ax.set(title=f"{title},\nat {window}", xlabel=rows.time_unit.iloc[0], ylabel=PERPLEXITY)
            ax.locator_params(axis="x", nbins=2)
    legend_above(figure, 2)
    return figure


def figure_6(sides: Mapping[str, pd.DataFrame]) -> Figure:
    """Figure 6 (digitised) and Table 12: perplexity per token against evaluation length (tokens), nonoverlapping.

    One panel for each training length; all span the same ratios around the perplexity at L.

    Args:
        sides: rows of `alibi.book.results.relative` by title.
    """
    panels = [
        (f"{title}, L = {{:g}}", part) for title, rows in sides.items() for _, part in rows.groupby("paper_length")
    ]
    ratios = np.concatenate([part.ratio[part.method == "alibi"] for _, part in panels])
    top = 1.05 * math.exp(np.abs(np.log(ratios)).max(initial=0))
    figure, axes = _stack(len(panels), 3.6)
    for ax, (title, part) in zip(axes, panels, strict=True):
        extrapolation(part, ax, mark=TRAINING_LENGTH)
        start, own = part.train_length.iloc[0], part[part.multiple == 1].value.mean()
        logarithmic(ax, [start, 4 * start, 16 * start], nice_ticks(own / top, own * top))
        ax.set(xlim=(0.9 * start, 36 * start), ylim=(own / top, own * top), title=title.format(start))
    legend_above(figure, 3)
    return figure


def figure_7(records: pd.DataFrame) -> Figure:
    """Figure 7 (points read off it): speed of training (thousand words/s) against training length (tokens)."""
    parts = [(title, part[part.metric == "train_speed"]) for title, part in _parts(records, "Figure 7")]
    parts = [(title, part) for title, part in parts if len(part)]
    figure, axes = _stack(len(parts))
    for ax, (title, part) in zip(axes, parts, strict=True):
        order = [name for name in COLOURS if name in set(part.method)]
        sns.lineplot(
            part, x="train_length", y="value", hue="method", style="method", hue_order=order, style_order=order,
            palette=COLOURS, markers=MARKERS, dashes=DASHES, errorbar=("pi", 100), ax=ax,
        )  # fmt: skip
        logarithmic(ax, far_apart(sorted(part.train_length.unique())))
        ax.set(xlabel="training length L (tokens)", ylabel=_quantity(part, ax), title=title)
        ax.set_ylim(bottom=0)
    legend_above(figure, 2)
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
    figure, axes = _stack(len(panels), 4.8)
    for ax, (title, length, unit, points) in zip(axes, panels, strict=True):
        for method in [name for name in COLOURS if name in points.index]:
            at = points.loc[method]
            ax.plot(
                at.speed, at.perplexity, color=COLOURS[method], marker=MARKERS[method], lw=1, ms=7,
                label=TITLES[method] if len(at) > 1 else f"{TITLES[method]}, L = {at.index[0]:g}",
            )  # fmt: skip
            for place, (train_length, speed, perplexity) in enumerate(at.itertuples() if len(at) > 1 else ()):
                # Above and below in turns, so that neighbours have room.
                side = (
                    {"ha": "right", "xytext": (-5, 5)} if place % 2 else {"ha": "left", "va": "top", "xytext": (4, -4)}
                )
                look: dict[str, Any] = {"textcoords": "offset points", "color": "0.3"} | side
                ax.annotate(f"{train_length:g}", (speed, perplexity), **look)
        if "sinusoidal" in points.index:
            ax.axhline(points.loc["sinusoidal"].perplexity.iloc[-1], color=COLOURS["sinusoidal"], lw=1, ls=":")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}"))
        ax.margins(0.09)
        ax.set(xlabel=f"training speed (thousand {unit})", ylabel=f"perplexity at {length:g} tokens", title=title)
        ax.legend()
    return figure


def figure_9(sides: Mapping[str, pd.DataFrame]) -> Figure:
    """Figure 9 (Table 8): perplexity per token against evaluation length (tokens), nonoverlapping, both logarithmic.

    ALiBi is drawn from each training length, sinusoidal at its own; all panels span the same ratios of perplexity.

    Args:
        sides: rows of `alibi.book.results.relative` by title.
    """
    half = 0.55 * max(np.ptp(np.log(rows.value)) for rows in sides.values())
    lengths = sorted(set().union(*(rows.paper_length[rows.method == "alibi"] for rows in sides.values())))
    shades = dict(zip(lengths, _shades(len(lengths)), strict=True))
    figure, axes = plt.subplots(len(sides), 1, figsize=(WIDTH, 4.2 * len(sides)), squeeze=False)
    for ax, (title, rows) in zip(axes.flat, sides.items(), strict=True):
        for (length, stands_for), run in rows[rows.method == "alibi"].groupby(["train_length", "paper_length"]):
            look = {"color": shades[stands_for], "marker": MARKERS["alibi"], "label": f"ALiBi, L = {length:g}"}
            band(ax, run, "eval_length", "value", **look)
        look = {"color": COLOURS["sinusoidal"], "marker": MARKERS["sinusoidal"], "label": "sinusoidal, own L"}
        band(ax, rows[rows.method == "sinusoidal"], "eval_length", "value", ls="--", **look)
        middle = np.log([rows.value.min(), rows.value.max()]).mean()
        low, high = np.exp([middle - half, middle + half])
        logarithmic(ax, sorted({*rows.train_length, rows.eval_length.max()}), nice_ticks(low, high))
        ax.set(
            xlabel="evaluation length (tokens)",
            ylabel=PERPLEXITY,
            title=fill(title, TITLE),
            ylim=(low, high),
        )
    legend_above(figure, 2)
    return figure


def figure_11(records: pd.DataFrame) -> Figure:
    """Figure 11 (Tables 13 to 15): perplexity per token against evaluation length (tokens), sliding window, stride 1.

    A panel for each training length, both axes logarithmic.
    """
    return _by_length(records[records.stride == 1], ("Table 13", "Table 14", "Table 15"), SLIDING)


def _shades(count: int) -> list[Any]:
    """Shades of ALiBi's blue for models trained at different lengths, the shortest lightest."""
    return list(sns.blend_palette(["#7FC4EE", COLOURS["alibi"], "#002A42"], count))

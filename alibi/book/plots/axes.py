"""Axes, ticks, bands and legends that figures share."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from alibi.book.plots.looks import TITLES


def _plain(axis: object) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # type: ignore[attr-defined]
    axis.set_minor_locator(NullLocator())  # type: ignore[attr-defined]


def logarithmic(ax: Axes, x: Sequence[float] | None = None, y: Sequence[float] | None = None) -> None:
    """Makes axes logarithmic with these ticks, labelled as plain numbers; an axis without ticks does not change."""
    if x is not None:
        ax.set_xscale("log")
        ax.set_xticks(list(x))
        _plain(ax.xaxis)
    if y is not None:
        ax.set_yscale("log")
        ax.set_yticks(list(y))
        _plain(ax.yaxis)


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones for a logarithmic axis: even steps, or some in each power of ten."""
    if high / low < 5:
        ticks = [float(tick) for tick in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    else:
        multiples = (1, 1.5, 2, 3, 5) if high / low < 10 else (1, 2, 5)
        ticks = [multiple * 10.0**power for power in range(-3, 9) for multiple in multiples]
    return [tick for tick in ticks if low * 0.95 <= tick <= high * 1.05]


def band(ax: Axes, rows: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    """Draws the mean of one column at each value of another, and a band from the least to the greatest seed.

    Args:
        ax: the axes; without rows nothing is drawn.
        rows: rows with both columns.
        x: column of the horizontal axis.
        y: column of the vertical axis.
        look: look of the line, with its colour.
    """
    if rows.empty:
        return
    at = rows.groupby(x)[y].agg(["mean", "min", "max"]).astype(float)
    ax.plot(at.index, at["mean"], **look)
    ax.fill_between(at.index, at["min"], at["max"], color=look["color"], alpha=0.2, lw=0)


def legend_above(figure: Figure, ncols: int) -> None:
    """One legend above all panels, of what they hold.

    It takes the place of the panels' own. Methods have their titles. There are fewer columns if they would be wider
    than the figure.
    """
    for own in [*figure.legends, *filter(None, (ax.get_legend() for ax in figure.axes))]:
        own.remove()
    shown: dict[str, Artist] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            shown.setdefault(TITLES.get(label, label), handle)
    for columns in range(ncols, 0, -1) if shown else ():
        look: dict[str, Any] = {"loc": "outside upper center", "columnspacing": 1, "handletextpad": 0.5}
        legend = figure.legend(list(shown.values()), list(shown), ncols=columns, **look)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def doublings(low: float, high: float, start: float) -> list[float]:
    """Ticks of a logarithmic axis between two numbers: `start`, its doublings and its halves."""
    ticks = [start * 2.0**power for power in range(-6, 12)]
    return [tick for tick in ticks if low * 0.99 <= tick <= high * 1.01]


def far_apart(lengths: Sequence[float]) -> list[float]:
    """The lengths that are far enough apart for labels, including the longest."""
    kept = [lengths[-1]]
    for length in reversed(lengths[:-1]):
        if kept[-1] / length > 1.6:
            kept.append(length)
    return kept[::-1]

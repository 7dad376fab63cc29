"""The parts of a claim side by side: rule, paper and measurement."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alibi.book.plots.axes import legend_above, logarithmic, nice_ticks
from alibi.book.plots.looks import WIDTH


def forests(effects: pd.DataFrame, *panels: tuple[Mapping[str, str], str, bool]) -> Figure | None:
    """A figure of one `forest` below another, with the parts for which the paper or we have a number.

    Nothing is drawn if no part has one.

    Args:
        effects: as in `forest`.
        panels: for each its names, its xlabel, and whether its axis is logarithmic, as in `forest`.
    """
    known = effects.index[effects[["paper", "effect"]].notna().any(axis=1)]
    panels_known = [
        ({part: name for part, name in names.items() if part in known}, xlabel, log) for names, xlabel, log in panels
    ]
    drawn = [panel for panel in panels_known if panel[0]]
    if not drawn:
        return None
    rows = [len(names) for names, _, _ in drawn]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(WIDTH, 0.6 * sum(rows) + 1.2 * len(rows)), height_ratios=rows, squeeze=False
    )
    for ax, (names, xlabel, log) in zip(axes.flat, drawn, strict=True):
        forest(ax, effects, names, xlabel, log)
    legend_above(figure, 3)
    return figure


def forest(ax: Axes, effects: pd.DataFrame, names: Mapping[str, str], xlabel: str, log: bool) -> None:
    """A row for each part of a claim: its rule's range (grey), the paper's value, and ours with its interval.

    The name of a part stands above its row, so that the values have the figure's width on a phone too.

    Args:
        ax: the axes.
        effects: columns low and high (of the rule), paper, effect (measured), start and end (of its interval), outcome.
        names: text of each part, by its label in the index of `effects`; the first on top.
        xlabel: label of the values' axis.
        log: whether the axis is logarithmic.
    """
    rows = effects.loc[list(names)]
    y = pd.Series(range(len(rows)), rows.index)
    ax.set_xscale("log" if log else "linear")
    if rows.paper.notna().any():
        ax.plot(rows.paper, y, "D", mfc="none", mec="0.25", ms=11, label="the paper")
    ax.hlines(y, rows.start, rows.end, color="black", lw=1.5)
    for outcome, marker in (("holds", "o"), ("broken", "X"), ("undecided", "s")):
        ours = rows[(rows.outcome == outcome) & rows.effect.notna()]
        if ours.empty:
            continue
        ax.plot(ours.effect, y[ours.index], marker, color="black", ms=7, label=f"measured: {outcome}")
    ax.plot(rows.low, y, "|k", rows.high, y, "|k", ms=16)
    if log:
        logarithmic(ax, nice_ticks(*ax.get_xlim()))
    start, end = ax.get_xlim()
    left = rows.low.clip(lower=start)
    ax.barh(y, rows.high.clip(upper=end) - left, left=left, color="0.87", height=0.4, zorder=0)
    ax.set(xlim=(start, end), ylim=(len(rows) - 0.6, -0.8), xlabel=xlabel)
    ax.set_yticks(y, list(names))
    for place, name in enumerate(names.values()):
        ax.text(0.01, place - 0.5, name, transform=ax.get_yaxis_transform(), va="center")

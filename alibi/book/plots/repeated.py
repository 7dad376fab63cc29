"""The gain from longer windows by the distance of a word's last occurrence, from records of the reading experiment."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from alibi.book.plots.axes import legend_above
from alibi.book.plots.looks import COLOURS, DASHES, MARKERS, TITLES, WIDTH

CHANGE = "loss_repeated_change"


def repeated(records: pd.DataFrame) -> Figure:
    """Nats that windows of 2 L save against windows of L on the same tokens, a panel for each L and a curve a method.

    Distances from L to 2 L are grey: the longer window holds that occurrence, the shorter does not. Several seeds give
    their mean. Bars are 95 % intervals over articles, the mean of the seeds' own.

    Args:
        records: of the reading experiment, with at least one run.
    """
    twice = records[records.seen == 2 * records.train_length]
    keys = ["train_length", "method", "first_distance", "last_distance"]
    rows = twice.pivot_table("value", keys, "metric").reset_index()
    lengths = sorted(rows.train_length.unique())
    figure, axes = plt.subplots(len(lengths), 1, figsize=(WIDTH, 3.9 * len(lengths)), sharey=True, squeeze=False)
    for ax, length in zip(axes[:, 0], lengths, strict=True):
        own = rows[rows.train_length == length]
        # The last groups hold few tokens, and more than windows of 2 L could show.
        ends = sorted(own[own.first_distance <= 2 * length].first_distance.unique())
        methods = [name for name in COLOURS if name in set(own.method)]
        for number, method in enumerate(methods):
            of = own[own.method == method].set_index("first_distance").reindex(ends)
            at = np.arange(len(ends)) + 0.12 * (number - (len(methods) - 1) / 2)
            look = {"color": COLOURS[method], "marker": MARKERS[method], "dashes": DASHES[method] or (1, 0)}
            margin = 1.96 * of[f"{CHANGE}_standard_error"]
            ax.plot(at, -of[CHANGE], label=TITLES[method], lw=1, **look)
            ax.errorbar(at, -of[CHANGE], margin, ls="", color=COLOURS[method])
        copied = ends.index(length)
        ax.axvspan(copied - 0.5, copied + 0.5, color="0.5", alpha=0.2, lw=0)
        ax.axhline(0, color="0.35", lw=1)
        last = own.groupby("first_distance").last_distance.first()
        spans = [f"{first:.0f} to {last[first]:.0f}" if first < last[first] else f"{first:.0f}" for first in ends]
        ax.set_xticks(range(len(ends)), ["never" if span == "0" else span for span in spans], rotation=45)
        ax.set(title=f"Trained at L = {length}", ylabel="gain (nats)")
    axes[-1, 0].set_xlabel("last occurrence (tokens before)")
    legend_above(figure, 3)
    return figure

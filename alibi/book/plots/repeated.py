"""The gain from longer windows by the distance of a word's last occurrence, from records of the reading experiment."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from alibi.book.plots.axes import legend_above
from alibi.book.plots.looks import COLOURS, MARKERS, WIDTH

CHANGE = "loss_repeated_change"
# Windows drawn, in multiples of L: the first that holds a word from past L, and the longest.
MULTIPLES = (2, 16)


def repeated(records: pd.DataFrame) -> Figure:
    """Nats that windows of 2 L and 16 L save against windows of L on the same tokens, a panel for each L.

    Distances from L to 2 L are grey: any of the longer windows holds that occurrence, one of L does not. Several seeds
    give their mean. Bars are 95 % intervals over articles, the mean of the seeds' own.

    Args:
        records: of the reading experiment and of one position method, with at least one run.
    """
    (method,) = records.method.unique()
    multiple = records.seen / records.train_length
    keys = ["train_length", "seen", "first_distance", "last_distance"]
    rows = records[multiple.isin(MULTIPLES)].pivot_table("value", keys, "metric").reset_index()
    lengths = sorted(rows.train_length.unique())
    figure, axes = plt.subplots(len(lengths), 1, figsize=(WIDTH, 3.9 * len(lengths)), sharey=True, squeeze=False)
    for ax, length in zip(axes[:, 0], lengths, strict=True):
        own = rows[rows.train_length == length]
        last = own.groupby("first_distance").last_distance.first()
        ends = sorted(last.index)
        for number, times in enumerate(MULTIPLES):
            of = own[own.seen == times * length].set_index("first_distance").reindex(ends)
            at = np.arange(len(ends)) + 0.16 * (number - (len(MULTIPLES) - 1) / 2)
            face = COLOURS[method] if number == 0 else "white"
            look = {"color": COLOURS[method], "marker": MARKERS[method], "mfc": face, "ls": ("-", ":")[number]}
            ax.plot(at, -of[CHANGE], label=f"windows of {times} L", lw=1, **look)
            margin = 1.96 * of[f"{CHANGE}_standard_error"]
            ax.errorbar(at, -of[CHANGE], margin, ls="", color=COLOURS[method])
        copied = ends.index(length)
        ax.axvspan(copied - 0.5, copied + 0.5, color="0.5", alpha=0.2, lw=0)
        ax.axhline(0, color="0.35", lw=1)
        spans = [f"{first:.0f} to {last[first]:.0f}" if first < last[first] else f"{first:.0f}" for first in ends]
        ax.set_xticks(range(len(ends)), ["never" if span == "0" else span for span in spans], rotation=45, ha="right")
        ax.set(title=f"Trained at L = {length}", ylabel="gain (nats)")
    axes[-1, 0].set_xlabel("last occurrence (tokens before)")
    legend_above(figure, 2)
    return figure

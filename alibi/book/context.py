"""The gain that longer context offers, counted by a trigram with a cache, and the part of it that each model takes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from alibi.book import plots
from alibi.book.plots.looks import WIDTH
from alibi.protocols import CACHE, SLIDING
from alibi.reproduction.evidence import TRIGRAM_WITH_CACHE

# Rows with equal values here scored the same tokens, in the vocabulary of one run's training text.
TOKENS = ["corpus_used", "train_length", "seed", "skipped", "sample"]


def gains(records: pd.DataFrame) -> pd.DataFrame:
    r"""Nats a token that each model and the control gain from more context, on the same tokens: column `nats`.

    $\ln \mathrm{PPL}(W_0) - \ln \mathrm{PPL}(W)$, with W words of context, in a full sliding window or in the cache.
    $W_0$ is the shortest window. Records without the control or without windows are left out.
    """
    chosen = (records.metric == "perplexity") & (records.split == "valid") & records.skipped.notna()
    rows = records[chosen & records.protocol.isin([CACHE, SLIDING]) & records.value.notna()]
    rows = rows.drop_duplicates([*TOKENS, "method", "eval_length"], keep="last")
    found = [rows.iloc[:0].assign(nats=0.0)]
    for _, same in rows.groupby(TOKENS, dropna=False):
        windows = same[same.protocol == SLIDING].eval_length
        shortest = same[same.eval_length == windows.min()].set_index("method").value.astype(float)
        if TRIGRAM_WITH_CACHE in shortest and len(windows):
            longer = same[same.eval_length >= windows.min()]
            ratio = longer.method.map(shortest).astype(float) / longer.value.astype(float)
            found.append(longer.assign(nats=np.log(ratio)).dropna(subset="nats"))
    return pd.concat(found, ignore_index=True)


def offered_and_taken(gained: pd.DataFrame) -> Figure:
    """Nats gained against words of context, one panel a training length; bands go from the least to the greatest seed.

    Args:
        gained: from `gains`, not empty.
    """
    lengths = sorted(gained.train_length.unique())
    figure, axes = plt.subplots(len(lengths), 1, figsize=(WIDTH, 3.8 * len(lengths)), sharex=True, squeeze=False)
    for ax, length in zip(axes.flat, lengths, strict=True):
        own = gained[gained.train_length == length]
        control = own[own.method == TRIGRAM_WITH_CACHE]
        plots.band(ax, control, "eval_length", "nats", color="0.2", ls="--", label="offered: trigram")
        for method in [name for name in plots.COLOURS if name in set(own.method)]:
            look = {"color": plots.COLOURS[method], "marker": plots.MARKERS[method]}
            taken = own[own.method == method]
            plots.band(ax, taken, "eval_length", "nats", label=f"taken: {plots.TITLES[method]}", **look)
        ax.axhline(0, color="0.35", lw=1)
        ax.axvline(length, color="0.35", lw=1, ls=":")
        ax.set(title=f"trained at {length:g}", ylabel="nats gained")
        # A curve that fails leaves the panel downwards.
        ax.set_ylim(-own.nats.max() - 0.01, 1.1 * own.nats.max() + 0.01)
    shortest, longest = gained.eval_length.min(), gained.eval_length.max()
    plots.logarithmic(ax, [shortest * 2**power for power in range(20) if shortest * 2**power <= longest])
    ax.set_xlabel("words of context")
    plots.legend_above(figure, ncols=2)
    return figure

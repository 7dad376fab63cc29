"""Curves of perplexity and loss against length and position, from the paper or measured."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alibi.book.plots.axes import doublings, legend_above, logarithmic, nice_ticks
from alibi.book.plots.looks import AT_LENGTH, COLOURS, DASHES, MARKERS, PERPLEXITY, TITLES, TRAINING_LENGTH, WIDTH
from alibi.evaluate import AgainstItself
from alibi.protocols import AGAINST_ITSELF, NONOVERLAPPING


def perplexities(records: pd.DataFrame, protocol: str = NONOVERLAPPING) -> pd.DataFrame:
    """The perplexities of the validation split by one protocol; without overlap, only rows that skip no tokens."""
    chosen = (records.metric == "perplexity") & (records.protocol == protocol) & (records.split == "valid")
    if protocol == NONOVERLAPPING and "skipped" in records:
        chosen &= records.skipped.isna()
    return records[chosen & records.value.notna()]


def extrapolation(
    records: pd.DataFrame,
    ax: Axes | None = None,
    legend: bool = True,
    protocol: str = NONOVERLAPPING,
    mark: str | None = None,
) -> Axes:
    """Perplexity against evaluation length, one curve a method, with a mark at the training length (Figure 1).

    Both axes are logarithmic. Records of several seeds give a mean and a band from the least to the greatest.
    The mark is named "trained at" its length, or as `mark` says, so that several panels can share a legend.
    """
    ax = plt.gca() if ax is None else ax
    chosen = perplexities(records, protocol)
    order = [name for name in COLOURS if name in set(chosen.method)]
    sns.lineplot(
        chosen, x="eval_length", y="value", hue="method", style="method", hue_order=order, style_order=order,
        palette=COLOURS, markers=MARKERS, dashes=DASHES, errorbar=("pi", 100), ax=ax, legend=legend,
    )  # fmt: skip
    (train_length,) = chosen.train_length.unique()
    ax.axvline(train_length, **AT_LENGTH, label=mark or f"trained at {train_length:g}")
    lengths = sorted(chosen.eval_length.unique())
    logarithmic(
        ax, doublings(lengths[0], lengths[-1], train_length), nice_ticks(chosen.value.min(), chosen.value.max())
    )
    ax.set(xlabel="evaluation length (tokens)", ylabel=PERPLEXITY)
    if legend:
        handles, names = ax.get_legend_handles_labels()
        ax.legend(handles, [TITLES.get(name, name) for name in names], title=None)
    return ax


def headline(paper: pd.DataFrame, measured: pd.DataFrame) -> Figure:
    """The paper's extrapolation at L = 512 (Table 2) above the live runs, with the same axes and colours."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 8))
    row = measured.iloc[0]
    size = f"{row.parameters / 1e6:.1f}M parameters"
    titles = (
        "The paper: WikiText-103,\n247M parameters, L = 512",
        f"Live: {row.corpus_used},\n{size}, L = {row.train_length:g}",
    )
    for ax, rows, title in zip((above, below), (paper[paper.source == "Table 2"], measured), titles, strict=True):
        extrapolation(rows, ax, mark=TRAINING_LENGTH)
        ax.set_title(title)
    legend_above(figure, 3)
    return figure


def by_position(found: AgainstItself) -> tuple[np.ndarray, np.ndarray]:
    """Loss against itself by position: mean and two standard errors over articles (nats a token).

    Each array has one number for each `stride` positions of the long window: [window / stride].
    """
    firsts = range(1, found.window, found.stride)
    errors = np.array([found.between(first, first + found.stride - 1)[1] for first in firsts])
    return found.nats.sum(axis=1) / found.tokens.sum(axis=1), 2 * errors


def against_itself(found: Mapping[str, AgainstItself]) -> Figure:
    """The loss of each method's model in a long window minus its own within L, against the position (tokens).

    Up to L it is zero by construction. Bands are two standard errors over articles to each side.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 5))
    for method, own in found.items():
        # A curve leaves zero at L, not at the middle of the stretch before it.
        centres = np.arange(0, own.window, own.stride) + own.stride / 2
        past = np.searchsorted(centres, own.length)
        centres = np.insert(centres, past, own.length)
        means, margin = (np.insert(values, past, 0) for values in by_position(own))
        ax.plot(centres, means, color=COLOURS[method], dashes=DASHES[method] or (1, 0), label=TITLES[method])
        ax.fill_between(centres, means - margin, means + margin, color=COLOURS[method], alpha=0.2, lw=0)
    ax.axhline(0, color="0.35", lw=1)
    ax.axvline(own.length, **AT_LENGTH, label=f"trained at {own.length}")
    ax.set_xticks([multiple * own.length for multiple in (0, 1, 2, 4, 6, 8) if multiple * own.length <= own.window])
    ax.set(xlabel="position in the window (tokens)", ylabel="loss added (nats)")
    legend_above(figure, 3)
    return figure


def recorded_against_itself(records: pd.DataFrame, ax: Axes) -> None:
    """As `against_itself`, from the records of runs with one training length: a marker at the middle of each stretch.

    Several seeds give their mean. Bands are two standard errors over articles to each side, the mean of the seeds' own.
    """
    own = records[records.protocol == AGAINST_ITSELF]
    length, window = own.train_length.iloc[0], own.eval_length.max()
    # One record of each run is of all positions past L.
    stretches = own[(own.first_position != length + 1) | (own.last_position != window)]
    keys = ["method", "first_position", "last_position"]
    means = stretches.pivot_table("value", keys, "metric").reset_index().astype({"first_position": float})
    for method in [name for name in COLOURS if name in set(means.method)]:
        past = means[(means.method == method) & (means.first_position > length)]
        middles = [0, length, *(past.first_position + past.last_position) / 2]
        nats = np.array([0, 0, *past.loss_against_itself])
        margin = np.array([0, 0, *2 * past.loss_against_itself_standard_error])
        looks: dict[str, Any] = {"color": COLOURS[method], "marker": MARKERS[method], "label": TITLES[method]}
        ax.plot(middles, nats, dashes=DASHES[method] or (1, 0), markevery=slice(2, None), **looks)
        ax.fill_between(middles, nats - margin, nats + margin, color=COLOURS[method], alpha=0.2, lw=0)
    ax.axhline(0, color="0.35", lw=1)
    ax.axvline(length, **AT_LENGTH, label=TRAINING_LENGTH)
    ax.set_xticks([multiple * length for multiple in (0, 1, 2, 4, 6, 8) if multiple * length <= window])
    ax.set(xlabel="position in the window (tokens)", ylabel="loss added (nats)")


def two_readings(
    losses: Mapping[str, np.ndarray],
    words: Mapping[str, Mapping[str, float]],
    weights: Mapping[str, np.ndarray],
    length: int,
    stretch: int = 32,
) -> Figure:
    """Models that read one text in a single window: loss, likeliest next tokens, and a head's attention from the end.

    Args:
        losses: loss of each token (nats), by method.
        words: probabilities of the likeliest next tokens, by method.
        weights: a head's attention from the last token over all tokens, by method.
        length: the training length, L in tokens.
        stretch: number of tokens in each drawn mean of the loss; a bar of attention has the weight of two stretches.
    """
    rows: list[Any] = [["loss", "loss"], [f"words {name}" for name in losses], [f"looks {name}" for name in losses]]
    figure, axes = plt.subplot_mosaic(rows, figsize=(WIDTH, 9))
    likeliest = 105 * max(share for likely in words.values() for share in likely.values())
    for method, found in losses.items():
        starts, colour = np.arange(0, len(found), stretch), COLOURS[method]
        means = np.add.reduceat(found, starts) / np.diff([*starts, len(found)])
        axes["loss"].plot(
            starts + stretch / 2, means, dashes=DASHES[method] or (1, 0), label=TITLES[method], color=colour
        )
        tokens, shares = list(words[method])[::-1], list(words[method].values())[::-1]
        ax = axes[f"words {method}"]
        ax.barh(tokens, 100 * np.array(shares), color=colour)
        ax.set(title=f"{TITLES[method]}:\nnext tokens", xlabel="probability (%)", xlim=(0, likeliest))
        ax = axes[f"looks {method}"]
        starts = np.arange(0, len(weights[method]), 2 * stretch)
        ax.bar(starts + stretch, np.add.reduceat(weights[method], starts), 2 * stretch, color=colour)
        ax.axvline(len(weights[method]) - length, **AT_LENGTH)
        ax.set(title=f"{TITLES[method]}:\nattention", xlabel="token that is looked at", ylabel="weight of a bar")
        ax.sharey(axes[f"looks {next(iter(losses))}"])
    axes["loss"].axvline(length, **AT_LENGTH, label=f"trained at {length}")
    axes["loss"].set(xlabel="token of the text", ylabel="loss (nats)")
    legend_above(figure, 3)
    return figure


def relative(records: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Perplexity over perplexity at L, against evaluation length over L: comparable across models and texts.

    The paper's rows are lines, measured rows large filled markers, side by side where they would hide one another. Both
    have one training length.
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
            ax.plot(curve.multiple, curve.ratio, color=COLOURS[method], label=f"{TITLES[method]}, paper")
    for place, method in enumerate(order):
        points = chosen[(chosen.method == method) & measured].groupby("multiple").ratio.mean()
        if points.empty:
            continue
        ax.plot(
            points.index * 1.055 ** (place - (len(order) - 1) / 2), points, ls="", marker=MARKERS[method],
            color=COLOURS[method], ms=8, mec="black", mew=0.7,
            label=f"{TITLES[method]}, ours",
        )  # fmt: skip
    logarithmic(ax, doublings(1, chosen.multiple.max(), 1), nice_ticks(0.5, chosen.ratio.max()))
    ax.set(xlabel="evaluation length / L", ylabel="relative perplexity")
    ax.legend()
    return ax

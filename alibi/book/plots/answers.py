"""Answers to questions about one place far back, from records of the retrieval experiment."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from alibi.book.plots.axes import band, doublings, legend_above, logarithmic
from alibi.book.plots.looks import AT_LENGTH, COLOURS, DASHES, MARKERS, TITLES, WIDTH

# Other pairs in a window of recall: the largest number that fits every length.
DISTRACTORS = 15
RESCALED = {"ntk": "NTK's slopes", "pi": "interpolated", "yarn": "YaRN"}


def exact_matches(records: pd.DataFrame, interpolated: bool = False) -> pd.DataFrame:
    """The rows of entirely right answers in whole windows, for recall with `DISTRACTORS` other pairs.

    Args:
        records: of the retrieval experiment.
        interpolated: only those of rescaled slopes or angles, instead of only those without.
    """
    whole = (records.metric == "exact_match") & records.first_position.isna()
    asked = records.distractors.isna() | (records.distractors == DISTRACTORS)
    return records[whole & asked & (records.interpolation.notna() == interpolated)].astype({"value": float})


def answers(records: pd.DataFrame) -> Figure:
    """Share of right answers by the length of the window, a panel a task and a curve a method, with a line at L.

    Args:
        records: of `exact_matches`, at least one row. Rows of a task that a method did not learn at L are left out.
    """
    learned = records[records.note.isna()]
    tasks = [task for task in ("passkey", "recall", "copying") if task in set(learned.protocol)]
    figure, axes = plt.subplots(len(tasks), 1, figsize=(WIDTH, 3 * len(tasks)), sharex=True, squeeze=False)
    for ax, task in zip(axes[:, 0], tasks, strict=True):
        for method in COLOURS:
            rows = learned[(learned.protocol == task) & (learned.method == method)]
            look = {"color": COLOURS[method], "marker": MARKERS[method], "dashes": DASHES[method] or (1, 0)}
            band(ax, rows, "eval_length", "value", label=TITLES[method], **look)
        ax.axvline(learned.train_length.max(), **AT_LENGTH)
        ax.set(title=task, ylabel="right (share)", ylim=(-0.05, 1.05))
    lengths = learned.eval_length
    logarithmic(axes[-1, 0], doublings(lengths.min(), lengths.max(), lengths.min()))
    axes[-1, 0].set_xlabel("window (tokens)")
    legend_above(figure, 2)
    return figure

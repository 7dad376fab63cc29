"""Figures of answers and of repeated words: what was not learned, cut or rescaled is no point of a curve."""

import matplotlib.pyplot as plt
import pandas as pd

from alibi.book.plots import answers, exact_matches, repeated
from alibi.records import MEASURED_COLUMNS

ONE = {"protocol": "passkey", "method": "alibi", "train_length": 64, "metric": "exact_match"}
ROWS = [
    ONE | {"eval_length": 64, "value": 1.0},
    ONE | {"eval_length": 128, "value": 0.75},
    ONE | {"eval_length": 128, "value": 0.25, "seed": 1},
    ONE | {"eval_length": 128, "value": 0.5, "interpolation": "ntk"},
    ONE | {"eval_length": 128, "value": 0.125, "first_position": 65},
    ONE | {"eval_length": 128, "value": 0.875, "metric": "token_accuracy"},
    ONE | {"eval_length": 64, "value": 0.05, "method": "none", "note": "not learned: exact match 0.05 at L"},
    ONE | {"eval_length": 64, "value": 0.9, "protocol": "recall", "distractors": 3},
    ONE | {"eval_length": 64, "value": 0.96, "protocol": "recall", "distractors": 15},
]
RECORDS = pd.DataFrame(ROWS).reindex(columns=MEASURED_COLUMNS)


def test_a_curve_holds_the_right_answers_of_a_method_that_learned_the_task():
    figure = answers(exact_matches(RECORDS))
    drawn = {
        ax.get_title(): {line.get_label(): line.get_ydata().tolist() for line in ax.lines if line.get_label()[0] != "_"}
        for ax in figure.axes
    }
    assert drawn == {"passkey": {"ALiBi": [1.0, 0.5]}, "recall": {"ALiBi": [0.96]}}
    plt.close(figure)


def test_rescaled_answers_stand_apart():
    assert exact_matches(RECORDS, interpolated=True).value.tolist() == [0.5]


def test_a_gain_is_what_longer_windows_save():
    change = {"method": "alibi", "train_length": 4, "eval_length": 64, "metric": "loss_repeated_change", "seen": 8}
    of = {0: -0.25, 2: 0.5, 4: -1.0, 8: -0.125}
    rows = [change | {"first_distance": at, "last_distance": max(0, 2 * at - 1), "value": v} for at, v in of.items()]
    rows += [row | {"metric": f"{row['metric']}_standard_error", "value": 0.5} for row in rows]
    rows += [
        rows[2] | {"value": -2.0, "seed": 1},
        rows[2] | {"value": 9.0, "seen": 16},
        rows[3] | {"value": -3.0, "seen": 64},
    ]
    figure = repeated(pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS))
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.lines}
    near, far = lines["windows of 2 L"], lines["windows of 16 L"]
    assert near.get_ydata().tolist() == [0.25, -0.5, 1.5, 0.125] and far.get_ydata()[3] == 3
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["never", "2 to 3", "4 to 7", "8 to 15"]
    (grey,) = ax.patches
    assert all(grey.get_x() < line.get_xdata()[2] < grey.get_x() + grey.get_width() for line in (near, far))
    bars = ax.collections[0]
    assert abs(bars.get_segments()[0][1][1] - 0.25 - 1.96 * 0.5) < 1e-9
    plt.close(figure)

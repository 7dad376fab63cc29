"""Figures of answers: what was not learned, cut or rescaled is no point of a curve."""

import matplotlib.pyplot as plt
import pandas as pd

from alibi.book.plots import answers, exact_matches
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

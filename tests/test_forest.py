"""Figures of rules and measurements: what nobody has a number for is left out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from alibi.book import findings
from alibi.book.plots import forests
from alibi.records import paper_results
from alibi.reproduction.claims import scorecard
from alibi.reproduction.evidence import as_records
from alibi.reproduction.later_rules import LATER_CLAIMS

ROWS = {
    "1": [0.9, 1.0, 0.95, 0.97, 0.96, 0.98, "holds"],
    "2": [0.9, 1.0, 0.95, np.nan, np.nan, np.nan, ""],
    "3": [0.9, 1.0, np.nan, np.nan, np.nan, np.nan, ""],
}
EFFECTS = pd.DataFrame.from_dict(ROWS, "index", columns=["low", "high", "paper", "effect", "start", "end", "outcome"])
EFFECTS = EFFECTS.astype(dict.fromkeys(["low", "high", "paper", "effect", "start", "end"], float))


def test_parts_and_panels_without_a_number_are_left_out():
    figure = forests(EFFECTS, ({"1": "one", "3": "three", "2": "two"}, "ratio", True), ({"3": "three"}, "nats", False))
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "2"]
    assert {text.get_text() for text in ax.texts} == {"one", "two"} and ax.get_xlabel() == "ratio"
    plt.close(figure)


def test_nothing_is_drawn_where_nothing_is_known():
    before = plt.get_fignums()
    assert forests(EFFECTS, ({"3": "three"}, "nats", False)) is None
    assert plt.get_fignums() == before


def test_statistics_are_counted():
    asked = sum(len(claim.parts) for claim in LATER_CLAIMS)
    verdicts = scorecard(as_records(paper_results()), claims=LATER_CLAIMS)
    (told, drawn) = findings.measured_line(verdicts).data.split(". ")
    assert told == f"The rules ask for {asked} statistics; 0 of them are measured" and drawn == "Nothing is drawn."

"""Context offered and context taken: gains are on the same tokens, and the experiment measures what they need."""

import math

import pandas as pd
import pytest

from alibi.book import context, plots
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.choice import Choice, cells


def row(method, window, value, **more):
    known = {
        "corpus_used": "wikitext-103", "split": "valid", "method": method, "train_length": 64, "eval_length": window,
        "protocol": "cache" if method == "trigram-cache" else "sliding_window", "metric": "perplexity", "value": value,
        "seed": 0, "skipped": 512, "sample": 16_384,
    }  # fmt: skip
    return known | more


ROWS = [
    *(row("trigram-cache", window, value) for window, value in ((32, 420), (64, 400), (128, 390), (512, 350))),
    *(row("alibi", window, value) for window, value in ((64, 300), (128, 280), (256, 285))),
    *(row("none", window, value) for window, value in ((64, 310), (128, 330))),
]


def records(rows):
    return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


def test_gains_begin_at_the_shortest_window_and_belong_to_the_same_tokens():
    other = [row("t5", 128, 1.0, sample=999), row("alibi", 128, 1.0, skipped=None), row("alibi", 64, 9.0, split="test")]
    found = context.gains(records([*ROWS, *other])).set_index(["method", "eval_length"]).nats
    expected = {("alibi", 128): 300 / 280, ("alibi", 256): 300 / 285, ("none", 128): 310 / 330}
    expected |= {("trigram-cache", 128): 400 / 390, ("trigram-cache", 512): 400 / 350}
    for place, ratio in expected.items():
        assert found[place] == pytest.approx(math.log(ratio))
    assert len(found) == len(expected) + 3 and ("trigram-cache", 32) not in found


def test_each_training_length_has_a_panel_with_the_control_and_every_model():
    longer = [one | {"train_length": 128} for one in ROWS if one["eval_length"] >= 128]
    figure = context.offered_and_taken(context.gains(records([*ROWS, *longer])))
    assert [ax.get_title() for ax in figure.axes] == ["trained at 64", "trained at 128"]
    titles = [f"taken: {plots.TITLES[method]}" for method in plots.COLOURS if method in ("alibi", "none")]
    for ax in figure.axes:
        assert ax.get_legend_handles_labels()[1] == ["offered: trigram", *titles]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["offered: trigram", *titles]


@pytest.mark.parametrize("missing", ["trigram-cache", "alibi"])
def test_nothing_is_gained_without_the_control_or_without_windows(missing):
    assert context.gains(records([one for one in ROWS if one["method"] not in (missing, "none")])).empty
    assert context.gains(records([])).empty


def test_the_experiment_measures_both_on_the_same_tokens():
    numbers = [number for cell in cells(Choice("wikitext103", "laptop")) for number in cell.numbers()]
    found = context.gains(records(numbers).assign(value=1.0, corpus_used="the same"))
    for length in (64, 128):
        assert {"trigram-cache", "alibi", "none"} <= set(found[found.train_length == length].method)

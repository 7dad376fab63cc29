"""Records of what a run reads: truncation, attention distance, repeated tokens and receptive field."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alibi.corpora.corpus import Corpus
from alibi.measures.truncation import FORMS
from alibi.records import MEASURED_COLUMNS
from alibi.runs import Run

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ReadingMeasure:
    """What is measured of how a run reads, all in full windows that are spread evenly over a split."""

    length: int
    """Tokens in a window, at least the training length."""
    seen: tuple[int, ...]
    """Tokens that may be seen of it in turn (w); the training length and the whole window are measured anyway."""
    last: int
    """Tokens at the end of each window that are scored, or whose attention is measured."""
    windows: int
    """At least so many."""
    stride: int = 1
    """New tokens that each window brings that is shortened to w."""
    split: str = "valid"


def records_of_reading(
    run: Run, reading: ReadingMeasure, text: Corpus | None = None, corpus: str = "wikitext-103"
) -> "pd.DataFrame":
    """One number a row, in the columns of `alibi.records.MEASURED_COLUMNS`; data/README.md lists the metrics.

    Args:
        run: trained.
        reading: what is measured.
        text: what is read, in the vocabulary of the run; the corpus of the run if left out.
        corpus: the paper's set, by which our records join its numbers, whatever was read.

    Raises:
        ValueError: for an unknown split, one shorter than a window, or a number out of range.
    """
    import pandas as pd

    within, windows = run.config.train_length, reading.windows
    every, split = sorted({*reading.seen, within, reading.length}), reading.split
    common = run.provenance(text) | {
        "corpus": corpus,
        "split": split,
        "eval_length": reading.length,
        "sample": reading.windows * reading.last,
        "smoke": run.smoke,
    }
    rows: list[dict[str, Any]] = []

    def add(protocol: str, values: dict[str, float], unit: str = "nats", **columns: Any) -> None:
        """A row for each value that there is: a single article has no standard error."""
        own = common | columns | {"protocol": protocol, "unit": unit}
        rows.extend(own | {"metric": m, "value": float(v)} for m, v in values.items() if not math.isnan(v))

    for form in FORMS:
        stride = reading.stride if form == "window" else None
        cut = run.truncation(reading.length, every, reading.last, form, windows, stride or 1, split, text)
        for w, loss in zip(cut.seen.tolist(), cut.losses, strict=True):
            change, error = cut.change(w)
            values = {"loss_truncated": loss}
            if w < cut.length:
                values |= {"loss_truncated_change": change, "loss_truncated_change_standard_error": error}
            add(f"truncated_{form}", values, seen=w, stride=stride, tokens_scored=int(cut.tokens.sum()))

    found = run.repeats(every, reading.last, windows, reading.stride, split, text)
    for row, (nearest, farthest) in enumerate(found.distances):
        tokens = int(found.tokens[row].sum())
        for w, loss in zip(found.lengths.tolist(), found.losses[:, row], strict=True):
            values = {"loss_repeated": loss}
            if tokens and w > within:
                change, error = found.change(w, within, row)
                values |= {"loss_repeated_change": change, "loss_repeated_change_standard_error": error}
            distances = {"first_distance": nearest, "last_distance": farthest}
            add("repeats", values, "nats", seen=w, stride=reading.stride, tokens_scored=tokens, **distances)

    distance = run.attention_distance(reading.length, reading.last, windows, split, text)
    of_heads = {
        "attention_distance_mean": (distance.mean, "tokens"),
        "attention_distance_median": (distance.median, "tokens"),
        "attention_past_length": (distance.share_past(within), ""),
        "attention_on_first": (distance.first, ""),
    }
    for metric, (values_LH, unit) in of_heads.items():
        for layer, values_H in enumerate(values_LH, start=1):
            for head, value in enumerate(values_H, start=1):
                add("attention", {metric: value}, unit, layer=layer, head=head, tokens_scored=distance.queries)

    field = run.receptive_field(reading.length, windows, split, text)
    add("gradient", {"receptive_field": field.tokens()}, "tokens", tokens_scored=field.windows)
    for w in every:
        if w <= len(field.shares):  # A smoke run has a shorter window.
            share = {"gradient_share": field.cumulative[w - 1]}
            add("gradient", share, "", seen=w, tokens_scored=field.windows)
    return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

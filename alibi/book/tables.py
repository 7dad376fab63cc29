"""Tables for the book: records by the columns that head rows and columns, a model against itself, texts."""

import math
import re
from collections.abc import Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from alibi.book.plots import METRIC_NAMES, TITLES
from alibi.evaluate import AgainstItself

DECIMALS = {"perplexity": 2, "word_perplexity": 1, "bits_per_byte": 3, "train_memory": 1}
KEY_NAMES = {"train_length": "L", "eval_length": "L_valid", "multiple": "L_valid / L"}


def table(records: pd.DataFrame, caption: str, rows: Sequence[str], columns: Sequence[str]) -> Styler:
    """A table of records: lengths in tokens, perplexity per token, speed in words/s, memory in GB.

    Several records of one cell (seeds) give their mean. A record without a value shows its note, such as out of
    memory, or a dash; a cell without a record stays empty.

    Args:
        records: the rows to show.
        caption: number of the table, and the meaning of its cells.
        rows: columns of the records that head the rows.
        columns: columns of the records that head the columns.
    """
    keys = [*rows, *columns]
    cells = records.groupby(keys, sort=False, dropna=False, as_index=False).agg(
        text_metric=("metric", "first"), value=("value", "mean"), note=("note", "first")
    )
    texts = [
        ("" if pd.isna(note) else note.removesuffix(" on a 32 GB GPU")) or "-"
        if pd.isna(value)
        else f"{value:,.{DECIMALS.get(metric, 0) if value < 1000 else 0}f}"
        for metric, value, note in zip(cells.text_metric, cells.value, cells.note, strict=True)
    ]
    heads = pd.DataFrame({KEY_NAMES.get(key, key): _heads(cells[key]) for key in keys})
    names = list(heads)
    pivot = heads.assign(text=texts).pivot(index=names[: len(rows)], columns=names[len(rows) :], values="text")
    pivot = pivot.sort_index().sort_index(axis=1)
    return styled(pivot.astype(object).fillna(""), caption)


def styled(texts: pd.DataFrame, caption: str) -> Styler:
    """A table of texts for the book, with its caption above; a wide table scrolls by itself on a narrow screen."""
    # A fixed id, so that the same records give the same page. Ids of cells would double its size, and nothing uses
    # them.
    uuid = "-".join(re.findall("[a-z0-9]+", caption.split(":")[0].lower()))
    shown = Styler(texts, uuid=uuid, cell_ids=False)
    for axis in (0, 1):  # pandas would write a length as 64.000000.
        shown = shown.format_index(lambda head: f"{head:g}" if isinstance(head, float) else str(head), axis=axis)
    shown = shown.set_caption(caption).set_table_attributes(
        'class="dataframe" style="display: block; overflow-x: auto; width: max-content; max-width: 100%"'
    )
    return shown.set_table_styles(
        [
            {"selector": "caption", "props": "caption-side: top; text-align: left; font-weight: bold"},
            {"selector": "td", "props": "text-align: right"},
        ]
    )


def left(rows: pd.DataFrame, caption: str) -> Styler:
    """A table of sentences, aligned to the left of their cells."""
    aligned = [{"selector": "td", "props": "text-align: left"}]
    return styled(rows, caption).set_table_styles(aligned, overwrite=False)  # type: ignore[arg-type]


def against_itself(found: Mapping[str, AgainstItself]) -> Styler:
    """The loss (nats a token) that a window longer than L adds to each model, just past L and at its end.

    Means over the positions L + 1 to 2 L and over the last L, each with two standard errors over articles.
    """
    rows = {}
    for method, own in found.items():
        places = {"from L to 2 L": own.length + 1, "the last L tokens": own.window - own.length + 1}
        costs = {name: own.between(first, first + own.length - 1) for name, first in places.items()}
        # A text of one article, or of one block, has no error.
        rows[TITLES[method]] = {
            name: f"{mean:+z.3f}" + ("" if math.isnan(error) else f" ± {2 * error:.3f}")
            for name, (mean, error) in costs.items()
        }
    return styled(pd.DataFrame.from_dict(rows, orient="index"), "Loss added by the longer window (nats per token)")


def _heads(column: pd.Series) -> pd.Series:
    """The entries as text; numbers in rising order, names in the order of appearance."""
    if pd.api.types.is_numeric_dtype(column):
        order = [f"{value:g}" for value in sorted(column.dropna().unique())]
        texts, order = ["" if pd.isna(value) else f"{value:g}" for value in column], ["", *order]
    else:
        texts = [TITLES.get(name, METRIC_NAMES.get(name, name)) for name in column]
        order = list(dict.fromkeys(texts))
    return pd.Series(texts).astype(pd.CategoricalDtype(order))

"""Once: what records said in English, in `note`, goes into columns of its own; no value changes.

python data/notes_to_columns.py
"""

import re
from pathlib import Path

import pandas as pd

from alibi.records import COUNTS, MEASURED_COLUMNS, PAPER_COLUMNS

DATA = Path(__file__).parent
BLANK = {"note": None}
FORMS = [
    (r"first (\d+) tokens", lambda m: {"prefix": int(m[1]), "tokens_scored": int(m[1])}),
    (r"first (\d+) tokens, no decay window", lambda m: {"prefix": int(m[1])}),
    (r"first (\d+) tokens, decay window ([\d.]+) nats", lambda m: {"prefix": int(m[1]), "decay_window": float(m[2])}),
    (r"(eager|compiled), attention kernel (\w+)", lambda m: {"compiled": m[1] == "compiled", "kernel": m[2]}),
    (r"attention kernel (\w+)", lambda m: {"kernel": m[1]}),
    (
        r"(\d+) tokens at positions (\d+) to (\d+)",
        lambda m: {"tokens_scored": int(m[1]), "first_position": int(m[2]), "last_position": int(m[3])},
    ),
    (r"equal training time", lambda m: {"equal_time": True}),
    (r"after (\d+) GPU hours", lambda m: {"gpu_hours": int(m[1])}),
]


def columns_of(note: object) -> dict[str, object]:
    """The columns that a note stands for; the note itself where it is a remark for readers."""
    if pd.isna(note):
        return BLANK
    for pattern, columns in FORMS:
        if match := re.fullmatch(pattern, str(note)):
            return BLANK | columns(match)
    return {"note": note}


def migrated(path: Path, names: list[str]) -> pd.DataFrame:
    """The table of this file in the new columns."""
    old = pd.read_csv(path, dtype=str)
    new = old.drop(columns="note").join(pd.DataFrame([columns_of(note) for note in old["note"]], index=old.index))
    new = new.reindex(columns=names)
    counts = [name for name in new if name in COUNTS and name not in old]
    new[counts] = new[counts].astype("Int64")
    if path.stem == "cc100_roberta":
        tokens = pd.to_numeric(old["tokens_trained"])
        most = tokens.groupby([old["scale"], old["corpus_used"]]).transform("max")
        new["equal_time"] = (tokens < 0.99 * most).map({True: True, False: None})
    # A loss by position comes right after the perplexities of the same evaluation, which tell its prefix.
    if "prefix" in new:
        by_position = new["first_position"].notna()
        new["prefix"] = new["prefix"].where(~by_position, new["prefix"].where(~by_position).ffill())
    kept = [name for name in old if name != "note"]
    assert new[kept].equals(old[kept]), path
    return new


tables = {path: MEASURED_COLUMNS for path in sorted((DATA / "results").glob("*.csv"))}
for path, names in (tables | {DATA / "paper" / "paper_results.csv": PAPER_COLUMNS}).items():
    migrated(path, names).to_csv(path, index=False, lineterminator="\n")

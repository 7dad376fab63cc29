"""Merging of records from another machine: checked column by column, and appended to ours if all are right.

Each number (`KEY`) is recorded once. A number that was measured again is

- skipped if it has the same value, so that a whole folder of results may be sent, with our records in it;
- refused if the same device in the same dtype gave another value: one of the two is wrong;
- kept out, with a message of both values, if it was trained on another device or in another dtype. A seed decides
  weights and data order, so a second training checks the first and is not a second sample. The first record stays,
  whichever is better. New samples need other seeds.

Speed and memory belong to a machine: device and dtype are part of their key, so each machine has its own records. Where
an experiment chooses the dtype of its runs, it is part of the key too.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alibi.errors import UserError, listed, quoted
from alibi.records import (
    COUNTS,
    FRACTIONS,
    LATER,
    MEASURED_COLUMNS,
    ROW_DIGEST,
    TRUTHS,
    TYPES,
    VALUE_FORMAT,
    add,
    held,
    measured_results,
    plain_rows,
    row_sha256,
)
from alibi.reproduction.experiments import EXPERIMENTS
from alibi.reproduction.record_checks import Row, wrong_columns
from alibi.reproduction.speed_cells import RANDOM_TOKENS
from alibi.reproduction.training_cell import TrainingCell
from alibi.scale import SCALES

if TYPE_CHECKING:
    import pandas as pd

# fmt: off
KEY = (
    "source", "corpus", "split", "method", "train_length", "eval_length", "protocol", "stride", "equal_time", "metric",
    "prefix", *LATER, "first_position", "last_position", "decay_window", "scale", "seed", "tokens_trained",
    "corpus_used", "smoke",
)
# fmt: on
MACHINE = ("device", "dtype")
ANY_RATE = "any learning rate"


class MergeError(UserError, RuntimeError):
    """Faults in files of records, a line each; nothing was written."""


@dataclass
class _File:
    """The rows of a file by line, and its faults."""

    path: Path
    rows: dict[int, Row] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def fault(self, line: int, column: str, value: object, right: str) -> None:
        """Notes a fault of a column."""
        shown = "empty" if value in (None, "") else quoted(value)
        self.faults.append(f"{self.path}:{line}: {column} is {shown}: {right}")


@dataclass(frozen=True)
class Merged:
    """The outcome for the rows of the files."""

    appended: int
    known: int
    """Number of rows that were already recorded."""
    kept_out: tuple[str, ...]
    """A message, with line and both values, for each number that has another value from another machine."""


def merge(paths: Sequence[Path]) -> Merged:
    """Appends the records of these files to those of their experiments, or nothing if a record has a fault.

    Args:
        paths: CSV files in the columns of `alibi.records.MEASURED_COLUMNS`; a row without a `source` belongs to the
            experiment that the file is named after.

    Raises:
        MergeError: lists every fault with its file, line, column and value, and the right value.
        alibi.records.RecordsError: if our own records can't be read.
    """
    import pandas as pd

    files = [_read(path) for path in paths]
    known, kept_out = 0, []
    with held(*EXPERIMENTS):
        recorded = _recorded({str(row["source"]) for file in files for row in file.rows.values()})
        fresh: dict[tuple[object, ...], Row] = {}
        for file in files:
            for line, row in file.rows.items():
                key, before = _key(row), _found(row, recorded)
                if before and _same(row, before):
                    known += 1  # Even if today's checks would refuse it.
                    continue
                for column, right in wrong_columns(row):
                    file.fault(line, column, row[column], right)
                before = before or fresh.get(key)
                if row["value"] is None:
                    continue  # A fault, told above.
                if before is None:
                    fresh[key] = row
                elif _same(row, before):
                    known += 1
                elif all(row[name] == before[name] for name in MACHINE):
                    file.fault(line, "value", row["value"], f"{before['value']:.7g} is recorded from the same device")
                else:
                    kept_out.append(_told(file.path, line, row, before))
        if faults := [fault for file in files for fault in file.faults]:
            raise MergeError("\n".join([f"{len(faults)} faults, and nothing was written:", *faults]))
        for experiment in dict.fromkeys(row["source"] for row in fresh.values()):
            rows = [row for row in fresh.values() if row["source"] == experiment]
            add(experiment, pd.DataFrame(rows, columns=MEASURED_COLUMNS, dtype=object).astype(TYPES))
    return Merged(len(fresh), known, tuple(kept_out))


def append_unrecorded(experiment: str, rows: "pd.DataFrame") -> None:
    """Appends those of these rows whose number (`KEY`) has no record yet.

    A cell that gained a measure since it was recorded gives its old numbers again, and another process may have
    recorded the same cell meanwhile: the first record stays.
    """
    with held(experiment):
        recorded = _recorded([experiment])
        named = rows.assign(source=experiment).reindex(columns=MEASURED_COLUMNS)
        fresh = [_found(row, recorded) is None for row in plain_rows(named)]
        if any(fresh):
            add(experiment, rows[fresh])


def _told(path: Path, line: int, row: Row, before: Row) -> str:
    difference = abs(row["value"] - before["value"])
    apart = f"{difference / abs(before['value']):.2%}" if before["value"] else f"{difference:.7g}"
    return (
        f"{path}:{line}: {row['metric']} of {row['method']}, L = {row['train_length']}, seed {row['seed']}, is "
        f"{row['value']:.7g} on {row['device']} in {row['dtype']}, and recorded as {before['value']:.7g} from "
        f"{before['device']} in {before['dtype']} ({apart} apart): a seed counts once, and the first stays"
    )


def _read(path: Path) -> _File:
    found = _File(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            lines = [(reader.line_num, fields) for fields in reader if fields]
    except (OSError, UnicodeError, csv.Error) as wrong:
        raise MergeError(f"{path} can't be read: {wrong}; nothing was written") from wrong
    missing = [name for name in MEASURED_COLUMNS if name not in header and name not in LATER]
    others = [name for name in header if name not in (*MEASURED_COLUMNS, ROW_DIGEST)]
    if missing or others or len(set(header)) < len(header):
        twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
        told = [f"lacks {listed(missing)}"] * bool(missing) + [f"has {listed(others)} besides"] * bool(others)
        told += [f"has {listed(twice)} more than once"] * bool(twice)
        right = f"the columns are those of alibi.records.MEASURED_COLUMNS, each once; this {' and '.join(told)}"
        found.fault(1, "the header", ",".join(header), right)
        return found
    for line, fields in lines:
        if len(fields) != len(header):
            found.fault(line, "the row", ",".join(fields), f"{len(fields)} fields, and the header has {len(header)}")
        elif ROW_DIGEST in header and fields[header.index(ROW_DIGEST)] != row_sha256(
            dict(zip(header, fields, strict=True))
        ):
            right = f"it is not as it was written: send it again, or, if the change is wanted, without {ROW_DIGEST}"
            found.fault(line, "the row", ",".join(fields), right)
        else:
            written = dict(zip(header, (text.strip() for text in fields), strict=True))
            row: Row = {}
            for name in MEASURED_COLUMNS:
                try:
                    row[name] = _typed(name, written.get(name, ""))
                except ValueError as wrong:
                    found.fault(line, name, written[name], str(wrong))
            if len(row) == len(MEASURED_COLUMNS):
                row["source"] = row["source"] or path.stem
                found.rows[line] = row
    if not lines:
        found.fault(2, "the row", "", "there is no record in this file")
    return found


def _typed(name: str, text: str) -> Any:
    if not text:
        return None
    if name in COUNTS:
        if not (text.isascii() and text.isdecimal()) or int(text) >= 2**63:
            raise ValueError("choose a whole number, not negative")
        return int(text)
    if name in TRUTHS:
        if text not in ("True", "False"):
            raise ValueError("choose True or False")
        return text == "True"
    if name in FRACTIONS:
        try:
            return float(text)
        except ValueError:
            raise ValueError("choose a number") from None
    return text


def _recorded(experiments: Iterable[str]) -> dict[tuple[object, ...], Row]:
    """The records of these experiments; a key has its experiment, so the others hold none of them.

    A record with a learning rate is found without it too, by a key with `ANY_RATE`.
    """
    found: dict[tuple[object, ...], Row] = {}
    for row in chain.from_iterable(plain_rows(measured_results(experiment)) for experiment in experiments):
        found[_key(row)] = row
        found.setdefault((ANY_RATE, *_key(row | {"learning_rate": None})), row)
    return found


def _found(row: Row, recorded: Mapping[tuple[object, ...], Row]) -> Row | None:
    """The record of the same number; files written before records had learning rates, ours or theirs, name none."""
    without = _key(row | {"learning_rate": None})
    if row["learning_rate"] is None:
        return recorded.get(without) or recorded.get((ANY_RATE, *without))
    return recorded.get(_key(row)) or recorded.get(without)


def _key(row: Row) -> tuple[object, ...]:
    truth = {name: bool(row[name]) for name in TRUTHS}
    # As files have them, so that a fresh row has the key of its record.
    written = {name: VALUE_FORMAT % row[name] for name in FRACTIONS if row[name] is not None}
    machine = (*MACHINE, "model", "kernel") if _of_machine(row) else ()
    dtype = ("dtype",) if _chooses_dtype(row["source"], row["scale"]) else ()
    return tuple((row | truth | written)[name] for name in (*KEY, *machine, *dtype))


@cache
def _chooses_dtype(experiment: str, scale: str) -> bool:
    if experiment not in EXPERIMENTS or scale not in SCALES:
        return False
    cells = EXPERIMENTS[experiment](scale, (0,))
    return any(isinstance(cell, TrainingCell) and cell.spec.dtype for cell in cells)


def _of_machine(row: Row) -> bool:
    return bool(row["corpus_used"] == RANDOM_TOKENS)


def _same(row: Row, before: Row) -> bool:
    """Whether both values are equal to the precision of the files."""
    if row["value"] is None or any(row[name] != before[name] for name in MACHINE):
        return False
    return VALUE_FORMAT % row["value"] == VALUE_FORMAT % before["value"]

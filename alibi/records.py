"""Records: one measured or published number a row, in the same columns."""

import csv
from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alibi.errors import InputError, UserError, listed, quoted, told
from alibi.files import content_sha256, locked, write_whole
from alibi.paths import data_folder, results_folder, shipped_results_folder

if TYPE_CHECKING:
    import pandas as pd

# fmt: off
PAPER_COLUMNS = [
    "source", "page", "corpus", "split", "model", "method", "train_length", "eval_length", "protocol", "stride",
    "equal_time", "gpu_hours", "metric", "value", "unit", "provenance", "note",
]
MEASURED_COLUMNS = [
    *PAPER_COLUMNS, "prefix", "first_position", "last_position", "tokens_scored", "kernel", "compiled", "decay_window",
    "smoke", "scale", "seed", "tokens_trained", "parameters", "corpus_used", "paper_length", "device", "torch_version",
    "dtype", "commit", "config_hash", "seconds", "date", "skipped", "sample", "seen", "first_distance", "last_distance",
    "layer", "head", "learning_rate", "method_rate", "interpolation", "data_seed", "distractors",
]
# Later columns: in a file without one of them, it is empty for every record.
LATER_COUNTS = (
    "skipped", "sample", "seen", "first_distance", "last_distance", "layer", "head", "data_seed", "distractors",
)
RATES = ("learning_rate", "method_rate")
LATER = (*LATER_COUNTS, *RATES, "interpolation")
COUNTS = (
    "page", "train_length", "eval_length", "stride", "gpu_hours", "prefix", "first_position", "last_position",
    "tokens_scored", "seed", "tokens_trained", "parameters", "paper_length", *LATER_COUNTS,
)
# fmt: on
VALUE_FORMAT = "%.7g"
# The last column of a file: SHA-256 of the row's other cells, in 12 digits. Older files lack it.
ROW_DIGEST = "row_sha256"
TRUTHS = ("equal_time", "compiled", "smoke")
FRACTIONS = (*RATES, "value", "decay_window", "seconds")
TEXTS = tuple(name for name in MEASURED_COLUMNS if name not in (*COUNTS, *TRUTHS, *FRACTIONS))
TYPES = (
    dict.fromkeys(COUNTS, "Int64")
    | dict.fromkeys(TRUTHS, "boolean")
    | dict.fromkeys(TEXTS, "object")
    | dict.fromkeys(FRACTIONS, "float64")
)


class RecordsError(UserError, RuntimeError):
    """A file can't be read, or does not hold records; it is not overwritten."""


def paper_results() -> "pd.DataFrame":
    """Every number of the paper's tables and the digitised points of Figures 5 to 7, one number a row.

    Columns: source (table or figure), page, corpus, split, model, method, train_length, eval_length (tokens),
    protocol (nonoverlapping or sliding_window), stride (tokens), equal_time (true for a run that stopped early, to take
    no longer than the run it is compared with), gpu_hours (hours of training before a value that was measured during
    training), metric, value, unit, provenance (printed or digitised) and note, a remark for readers. A missing value is
    a cell that ran out of memory; its note says so.
    """
    import pandas as pd

    found = pd.read_csv(data_folder() / "paper" / "paper_results.csv")
    return found.astype({"equal_time": "boolean", "gpu_hours": "Int64"})


def measured_results(experiment: str = "") -> "pd.DataFrame":
    """The measured records of one experiment or of all, in the columns of `MEASURED_COLUMNS`; the table may be empty.

    Of a wheel, they are those that it ships and the reader's own.

    `source` names the experiment, `corpus` the paper's set and `corpus_used` the text that was read; `train_length` is
    our length and `paper_length` the paper's length that it stands for. A loss or perplexity is a mean over
    `tokens_scored` tokens. They come from the first `prefix` tokens of the split (missing: all), without the first
    `skipped`, which are only context (missing: none). `sample` is the least number of them that were to be scored,
    spread evenly (missing: all). They stand at the positions `first_position` to `last_position` of the window (from 1;
    missing: all) and see keys within `decay_window` nats (missing: no limit). `seen` is the number w of tokens of a
    window that may be seen; the last occurrence of a token lies `first_distance` to `last_distance` tokens back (0: it
    has none); `layer` and `head` count from 1. `distractors` is the number of distractors in the window of a retrieved
    answer. `learning_rate` is the highest one, and `method_rate` its factor for the method's own parameters (missing:
    that of `alibi.optim.method_rate`); `data_seed` is the seed of the data order (missing: `seed`). `interpolation`
    says how an evaluation rescaled the slopes or angles of a trained run (pi, ntk or yarn, each by L_valid / L; see
    `alibi.positions.interpolation`). Speeds and times have the attention `kernel`, and `compiled`: whether the model
    was compiled. The numbers of a `smoke` run mean nothing.
    """
    import pandas as pd

    folders = [folder for folder in (shipped_results_folder(), results_folder()) if folder]
    files = [path for folder in folders for path in sorted(folder.glob("*.csv"))]
    tables = [_read(path) for path in files if experiment in ("", path.stem)]
    found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=MEASURED_COLUMNS)
    return found.astype(TYPES)


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header, lines = reader.fieldnames, [(reader.line_num, row) for row in reader]
        if not header:
            raise ValueError("line 1, the header, is empty")
        if longer := [line for line, row in lines if None in row]:
            raise ValueError(f"line {longer[0]} has more cells than the header")
        # A commit such as 12345678e901 is not a number, and a corpus may be called 2024 or NA. A float can't hold all
        # seeds.
        types: dict[Hashable, Any] = dict.fromkeys(TEXTS, str) | dict.fromkeys(COUNTS, "Int64")
        found = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
    except (OSError, ValueError, csv.Error) as wrong:
        raise RecordsError(f"{path} can't be read ({told(wrong)}): restore it, or move it away") from wrong
    if missing := [name for name in MEASURED_COLUMNS if name not in found and name not in LATER]:
        raise RecordsError(f"{path} lacks the columns {listed(missing)}: restore it, or move it away")
    if others := [name for name in found if name not in (*MEASURED_COLUMNS, ROW_DIGEST)]:
        raise RecordsError(f"{path} has the columns {listed(others)} besides: restore it, or move it away")
    digested = enumerate(lines, 1) if ROW_DIGEST in found else ()
    if changed := [number for number, (_, row) in digested if row[ROW_DIGEST] != row_sha256(row)]:
        raise RecordsError(
            f"{path}: records {listed(changed)} are not as they were written: restore it, or, if the changes are "
            f"wanted, remove the column {ROW_DIGEST}"
        )
    try:
        return found.reindex(columns=MEASURED_COLUMNS).astype(TYPES)
    except (ValueError, TypeError) as wrong:
        raise RecordsError(f"{path} can't be read ({told(wrong)}): restore it, or move it away") from wrong


def plain_rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Records as dicts of Python's own types, those of `TYPES`; an empty cell is None."""
    typed = table.astype({name: kind for name, kind in TYPES.items() if name in table}).astype(object)
    rows: list[Any] = typed.where(typed.notna(), None).to_dict("records")
    return rows


def row_sha256(row: Mapping[Any, str]) -> str:
    """The digest of a row for the column `ROW_DIGEST`; empty cells do not count.

    Args:
        row: the cells as the file has them, by column.
    """
    return content_sha256({name: text for name, text in row.items() if text}, ROW_DIGEST)[:12]


def append(experiment: str, rows: "pd.DataFrame") -> None:
    """Adds records to the file of an experiment, all or none; several processes may add at the same time.

    Raises:
        InputError: for a name that is not one of a file, or a column that is not in `MEASURED_COLUMNS`.
        RecordsError: if the file can't be read or holds something else.
    """
    with held(experiment):
        add(experiment, rows)


@contextmanager
def held(*experiments: str) -> Iterator[None]:
    """Keeps other processes from adding to the files of these experiments while the block runs.

    The locks lie beside the files, since processes that share them may have caches of their own.

    Raises:
        InputError: for a name that is not one of a file.
    """
    for experiment in experiments:
        # A path would leave the folder of records.
        if not experiment or Path(experiment).name != experiment or "\\" in experiment:
            raise InputError(
                f"experiment {quoted(experiment)}: choose a name, which a file of records gets; not a path"
            )
    results_folder().mkdir(parents=True, exist_ok=True)
    with ExitStack() as holding:
        for experiment in sorted(set(experiments)):  # In one order, so that no two processes wait for each other.
            holding.enter_context(locked(results_folder() / f".{experiment}.lock"))
        yield


def add(experiment: str, rows: "pd.DataFrame") -> None:
    """Like `append`, for a file that is already `held`."""
    import pandas as pd

    if not len(rows):
        return
    if others := [name for name in rows if name not in MEASURED_COLUMNS]:
        raise InputError(f"records of {experiment}: unknown columns {listed(others)}; choose from MEASURED_COLUMNS")
    path = results_folder() / f"{experiment}.csv"
    added = rows.assign(source=experiment).reindex(columns=MEASURED_COLUMNS).astype(TYPES)
    together = pd.concat([_read(path), added], ignore_index=True) if path.exists() else added
    text = together.to_csv(index=False, float_format=VALUE_FORMAT)
    written = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
    written[ROW_DIGEST] = [row_sha256(row) for row in csv.DictReader(StringIO(text))]
    write_whole(path, lambda part: written.to_csv(part, index=False, lineterminator="\n"), alone=True)

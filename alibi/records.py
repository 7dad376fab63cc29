"""Records: one measured or published number a row, in the same columns."""

import subprocess
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import torch

from alibi.device import device_name
from alibi.paths import checkout, data_folder

if TYPE_CHECKING:
    import pandas as pd

# fmt: off
PAPER_COLUMNS = [
    "source", "page", "corpus", "split", "model", "method", "train_length", "eval_length", "protocol", "stride",
    "metric", "value", "unit", "provenance", "note",
]
MEASURED_COLUMNS = [
    *PAPER_COLUMNS, "scale", "seed", "tokens_trained", "parameters", "corpus_used", "paper_length", "device",
    "torch_version", "dtype", "commit", "config_hash", "seconds", "date",
]
# fmt: on


def paper_results() -> "pd.DataFrame":
    """Every number of the paper's tables and the digitised points of Figures 5 to 7, one number a row.

    Columns: source (table or figure), page, corpus, split, model, method, train_length, eval_length (tokens),
    protocol (nonoverlapping or sliding_window), stride (tokens), metric, value, unit, provenance (printed or
    digitised), note. A value that is missing is a cell that ran out of memory, as its note says.
    """
    import pandas as pd

    return pd.read_csv(data_folder() / "paper" / "paper_results.csv")


@cache
def commit() -> str:
    """The commit of the checkout, with "+" if files differ from it; "not a checkout" for an installed wheel."""
    root = checkout()
    if root is None:
        return "not a checkout"

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", "alibi") else "")
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"


def provenance(device: str) -> dict[str, str]:
    """Which machine and which code measured: device, torch version, commit, date (UTC)."""
    return {
        "device": device_name(device),
        "torch_version": torch.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }

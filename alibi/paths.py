"""Folders of the project: the checkout, the data that ship with the package, results, texts and the cache.

Chapters and commands find the same folders from any working directory.
"""

import os
from pathlib import Path
from tempfile import TemporaryFile

import platformdirs

from alibi.errors import InputError

PACKAGE = Path(__file__).resolve().parent


def expanded(path: str | Path) -> Path:
    """The path with `~` or `~name` at its start replaced by that home folder.

    A shell replaces it only at the start of a word: not in `--out=~/x`, nor in a variable.

    Raises:
        InputError: if the home folder is unknown.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"no home folder is known for {str(path)!r}: write it in full, or ./ before it") from None


def checkout() -> Path | None:
    """The root of the checkout that holds this package, or None if it was installed from a wheel."""
    root = PACKAGE.parent
    return root if (root / "book" / "_toc.yml").is_file() else None


def data_folder() -> Path:
    """Published numbers and measured records: `data/` of the checkout, `alibi/data/` of an installed wheel."""
    root = checkout()
    return PACKAGE / "data" if root is None else root / "data"


def results_folder() -> Path:
    """Measured records, one file an experiment: `$ALIBI_RESULTS`, else `data/results/` (of a wheel: in the cache).

    Raises:
        InputError: if `$ALIBI_RESULTS` is a file.
    """
    if chosen := os.environ.get("ALIBI_RESULTS"):
        if (folder := expanded(chosen).resolve()).is_file():
            raise InputError(f"ALIBI_RESULTS is {folder}, a file: name a folder")
        return folder
    root = checkout()
    return cache_folder() / "results" if root is None else root / "data" / "results"


def shipped_results_folder() -> Path | None:
    """Records of a wheel, to which nobody adds; None in a checkout and with `$ALIBI_RESULTS`, whose folder has all."""
    return None if os.environ.get("ALIBI_RESULTS") or checkout() else data_folder() / "results"


def golden_folder() -> Path:
    """Vectors of the official code: `tests/golden/` of the checkout, `alibi/golden/` of an installed wheel."""
    root = checkout()
    return PACKAGE / "golden" if root is None else root / "tests" / "golden"


def texts_folder() -> Path | None:
    """The reader's own texts, one folder for each corpus: `$ALIBI_DATA`, or None if it is not set."""
    chosen = os.environ.get("ALIBI_DATA")
    return expanded(chosen) if chosen else None


def check_output(path: Path, make_folder: bool = False) -> None:
    """Checks that a file can be written, before the work that fills it; an existing file stays unchanged.

    Args:
        path: the file.
        make_folder: make the file's folder if it is missing.

    Raises:
        InputError: if it can't be written; the message says why.
    """
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.open("ab").close()
        else:  # Writing to a broken link makes a file in the folder that it points to.
            TemporaryFile(dir=path.resolve().parent).close()
    except OSError as wrong:
        folder = path.resolve().parent if path.is_symlink() else path.parent
        why = wrong.strerror if folder.is_dir() else f"{folder} is not a folder"
        raise InputError(f"{path} can't be written: {why}") from wrong


def cache_folder() -> Path:
    """Prepared corpora and trained runs: `$ALIBI_CACHE`, else `.cache/` of the checkout, else the user's cache."""
    if chosen := os.environ.get("ALIBI_CACHE"):
        return expanded(chosen).resolve()
    root = checkout()
    return Path(platformdirs.user_cache_dir("alibi-book", appauthor=False)) if root is None else root / ".cache"

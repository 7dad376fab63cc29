"""The chapters of the book: their order, their files, and the files of their executed copies."""

from pathlib import Path

import yaml

from alibi.errors import UserError
from alibi.paths import checkout

# The kernel that every chapter names.
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class BookError(UserError, RuntimeError):
    """The book can't be built: a chapter failed, or its outputs do not belong in a repository."""


def chapters(root: Path | None = None) -> list[Path]:
    """The chapters in reading order, notebooks and Markdown pages, as the parts of `book/_toc.yml` list them.

    Raises:
        BookError: outside a checkout, or if a listed chapter does not exist.
    """
    book = (root or book_root()) / "book"
    table = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    names = [table["root"], *(entry["file"] for part in table["parts"] for entry in part["chapters"])]
    paths = []
    for name in names:
        found = [path for suffix in (".ipynb", ".md") if (path := book / f"{name}{suffix}").is_file()]
        if len(found) != 1:
            raise BookError(f"book/_toc.yml lists {name!r}: book/ needs exactly one of .ipynb and .md, and has {found}")
        paths += found
    return paths


def notebooks(root: Path) -> list[Path]:
    """The chapters that are notebooks, in reading order; errors as for `chapters`."""
    return [path for path in chapters(root) if path.suffix == ".ipynb"]


def executed_path(root: Path, name: str) -> Path:
    """The path of the executed notebook of this name, which papermill writes."""
    return root / "_build" / "executed" / f"{name}.ipynb"


def book_root() -> Path:
    """The root of the checkout.

    Raises:
        BookError: for an installed package, which has no chapters.
    """
    root = checkout()
    if root is None:
        raise BookError("the installed package has no chapters: run this in a checkout of the book's repository")
    return root

"""The book: papermill executes the chapters, their outputs are cleaned, jupyter-book builds the site.

    book/*.ipynb  ->  _build/executed/  ->  _build/staging/  ->  _build/html/
    source            papermill             cleaned              jupyter-book

Only `refresh` writes into book/, and it writes cleaned outputs.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path

import nbformat

from alibi.book.chapters import BookError, book_root, executed_path, notebooks
from alibi.book.execution import changed, execute_all
from alibi.book.outputs import cleaned
from alibi.book.widgets import FIGURE_FILES, FIGURE_FOLDER, SITE_FILES, SITE_FOLDER
from alibi.files import locked, write_whole

HEADLINE = "headline"
VERDICTS_BEGIN, VERDICTS_END = "<!-- verdicts, written by make notebooks -->", "<!-- end of the verdicts -->"
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def build(root: Path | None = None) -> Path:
    """Executes the chapters that changed, builds the site, and prints and returns the path of its first page.

    A chapter has changed if its code, the package, `data/` or torch changed since its last execution.

    Raises:
        BookError: if a chapter fails, its outputs are refused, the site has a warning, or another build runs.
    """
    root = root or book_root()
    with _alone(root):
        _bring_up_to_date(root)
        first_page = render(_stage(root), root / "_config.yml", root)
    print(f"the book: {first_page.as_uri()}")
    return first_page


def refresh(root: Path | None = None) -> None:
    """Executes the chapters that changed and writes the cleaned outputs of all into `book/`, or none after an error.

    The figure of the first chapter's cell `headline` goes to `book/headline.png` too, and the verdicts on the paper's
    claims go into the README, which shows both.

    Raises:
        BookError: if a chapter fails, its outputs are refused, the README lacks the marks, or another build runs.
    """
    root = root or book_root()
    with _alone(root):
        _bring_up_to_date(root)
        written = {path: text.encode() for path, text in _cleaned_chapters(root).items()}
        first = notebooks(root)[0]
        opening = nbformat.reads(written[first].decode(), as_version=4).cells
        outputs = [output.get("data", {}) for cell in opening if cell.get("id") == HEADLINE for output in cell.outputs]
        for figure in [data["image/png"] for data in outputs if "image/png" in data]:
            written[root / "book" / "headline.png"] = base64.b64decode(figure)
        if (readme := root / "README.md").is_file():
            written[readme] = with_verdicts(readme.read_text(encoding="utf-8")).encode()
        for path, content in written.items():
            write_whole(path, methodcaller("write_bytes", content))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Refuses a second build of the same checkout: both would write the same files."""
    from filelock import Timeout

    lock = root / "_build" / "book.lock"
    lock.parent.mkdir(exist_ok=True)
    try:
        with locked(lock, timeout=0):
            yield
    except Timeout as held:
        raise BookError(f"another process builds this book and holds {lock}: wait until it ends") from held


def with_verdicts(readme: str) -> str:
    """The README with the verdicts of the current records between its two marks.

    Raises:
        BookError: if it lacks the marks.
    """
    from alibi.reproduction.claim_tables import summary
    from alibi.reproduction.claims import both_scorecards

    before, begin, rest = readme.partition(VERDICTS_BEGIN)
    _, end, after = rest.partition(VERDICTS_END)
    if not end:
        raise BookError(
            f"README.md lacks {VERDICTS_BEGIN} or, after it, {VERDICTS_END}: put both where verdicts belong"
        )
    return f"{before}{begin}\n{summary(*both_scorecards())}{end}{after}"


def render(source: Path, config: Path, output: Path) -> Path:
    """Builds the site from a folder of executed chapters; a warning is an error, and leaves the last site as it was.

    Args:
        source: folder with `_toc.yml` and the chapters.
        config: the `_config.yml`.
        output: folder; the site goes to its `_build/html`.

    Returns:
        The site's first page.

    Raises:
        BookError: if jupyter-book fails; its message follows.
    """
    # Build every page again, which takes seconds: a page shows the titles of others, and Sphinx would not repeat the
    # warnings of a failed build.
    unfinished, site = output / "_build" / "unfinished", output / "_build" / "html"
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    options = ["--config", str(config), "--path-output", str(unfinished), "-W", "--keep-going", "-q"]
    # UTF-8 for its messages and files on any console.
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
    finished = subprocess.run(command + options, capture_output=True, encoding="utf-8", env=environment)
    if finished.returncode:
        raise BookError(f"jupyter-book could not build {source}:\n{COLOUR.sub('', finished.stderr)}")
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(unfinished / "_build" / "html", site)
    shutil.rmtree(unfinished)
    return site / "index.html"


def _bring_up_to_date(root: Path) -> None:
    waiting = changed(root)
    if not waiting:
        print("no chapter has changed since its last execution")
        return
    execute_all(waiting, root)


def _stage(root: Path) -> Path:
    """Fills `_build/staging` with book/, its notebooks replaced by the executed chapters."""
    staging = root / "_build" / "staging"
    staged = {staging / path.name: text for path, text in _cleaned_chapters(root).items()}
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(root / "book", staging, ignore=shutil.ignore_patterns("*.ipynb", "_build", ".*"))
    for path, text in (staged | _site_files(root, staging)).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return staging


def _site_files(root: Path, staging: Path) -> dict[Path, str]:
    """Files that only the site has: those of `alibi.book.widgets.give_to_site`, drawings and numbers of figures."""
    given: dict[str, str] = {}
    for source in notebooks(root):
        described = {cell.get("id"): cell.metadata.get("mystnb", {}) for cell in nbformat.read(source, 4).cells}
        for cell in nbformat.read(executed_path(root, source.stem), as_version=4).cells:
            name = described.get(cell.get("id"), {}).get("figure", {}).get("name")
            for data in (output.get("data", {}) for output in cell.get("outputs", [])):
                given |= data.get(SITE_FILES, {})
                if name:
                    # A schematic drawing is an SVG already and shows no numbers.
                    drawn = {"svg": data["image/svg+xml"]} if "image/svg+xml" in data else {}
                    files = drawn | data.get(FIGURE_FILES, {})
                    given |= {f"{FIGURE_FOLDER}/{name}.{kind}": text for kind, text in files.items()}
    return {staging / SITE_FOLDER / name: text for name, text in given.items()}


def _cleaned_chapters(root: Path) -> dict[Path, str]:
    return {path: cleaned(path, executed_path(root, path.stem), root) for path in notebooks(root)}

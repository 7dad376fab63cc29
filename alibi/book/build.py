"""The book: papermill executes the chapters, their outputs are cleaned, jupyter-book builds the site.

    book/*.ipynb  ->  _build/executed/  ->  _build/staging/  ->  _build/html/
    source            papermill             cleaned              jupyter-book

Papermill never writes into book/; only `refresh` does, and it writes cleaned outputs.
"""

import asyncio
import base64
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import nbformat
import yaml
from nbformat import NotebookNode
from PIL import Image

from alibi import progress
from alibi.book.parameters import ParameterError, parse
from alibi.book.widgets import FIGURE_FILES, FIGURE_FOLDER, SITE_FILES, SITE_FOLDER
from alibi.errors import UnknownNameError, UserError, bounded
from alibi.interruption import Pool, UnfinishedError
from alibi.paths import checkout, results_folder

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

AT_A_TIME = 2
# An interrupted chapter has this time to finish its training step and save a checkpoint.
SECONDS_TO_STOP = 60.0
# Kernels talk through sockets in this folder, whose paths may have about a hundred characters. Windows has none.
SOCKETS = "/tmp" if os.name == "posix" else None
FIGURE_BYTES = 100_000
# Of a stored figure. Lines, bands and their soft edges need no more.
FIGURE_COLOURS = 64
NOTEBOOK_BYTES = 1_000_000
HEADLINE = "headline"
VERDICTS_BEGIN, VERDICTS_END = "<!-- verdicts, written by make notebooks -->", "<!-- end of the verdicts -->"
# The only metadata kept in a chapter: everything else that tools write changes from run to run.
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CELL_METADATA = {"tags", "mystnb"}
WIDGET = "application/vnd.jupyter.widget-view+json"

COLOUR = re.compile(r"\x1b\[[\d;]*m")
PROGRESS_BAR = re.compile(r"\d+%\|.*\|.*\[.*\]")
TIMING = re.compile(r"^(CPU times|Wall time): ")
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
MACHINE_FOLDERS = "Users|home|mnt|opt|private|root|srv|tmp|usr|var"
ABSOLUTE_PATH = re.compile(rf"(?:(?<![\w.<-])/(?:{MACHINE_FOLDERS})/|\b[A-Z]:\\)[^\s'\"<>]*")


class BookError(UserError, RuntimeError):
    """The book can't be built: a chapter failed, or its outputs do not belong in a repository."""


def chapters(root: Path | None = None) -> list[Path]:
    """The chapters in reading order, notebooks and Markdown pages, as the parts of `book/_toc.yml` list them.

    Raises:
        BookError: outside a checkout, or if a listed chapter does not exist.
    """
    book = (root or _root()) / "book"
    table = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    names = [table["root"], *(entry["file"] for part in table["parts"] for entry in part["chapters"])]
    paths = []
    for name in names:
        found = [path for suffix in (".ipynb", ".md") if (path := book / f"{name}{suffix}").is_file()]
        if len(found) != 1:
            raise BookError(f"book/_toc.yml lists {name!r}: book/ needs exactly one of .ipynb and .md, and has {found}")
        paths += found
    return paths


def execute(chapter: str, assignments: Sequence[str] = (), root: Path | None = None) -> Path:
    """Executes one chapter with the reader's parameters, and prints the path of the result.

    Args:
        chapter: its name, such as alibi.
        assignments: parameters such as train_length=64; the others keep the chapter's values.
        root: root of the checkout.

    Raises:
        InputError: for an unknown chapter; the message lists the known ones.
        ParameterError: for a parameter that the chapter does not have, or an impossible value, before anything runs.
        BookError: if a cell fails.
    """
    root = root or _root()
    notebooks = {path.stem: path for path in _notebooks(root)}
    if chapter not in notebooks:
        raise UnknownNameError("chapter", chapter, notebooks)
    values = _values(notebooks[chapter], assignments)
    suffix = "".join(f".{name}={value}" for name, value in values.items())
    executed = _executed(root, chapter + suffix)
    # A terminal shows the progress bars that the chapter writes to stderr; a log leaves them out.
    drawn = progress.drawn()
    shown = {"progress_bar": drawn or progress.in_lines(), "stderr_file": sys.stderr if drawn else _WithoutBars()}
    _run(notebooks[chapter], executed, root, values, **shown)
    print(executed)
    return executed


def build(root: Path | None = None) -> Path:
    """Executes the chapters that changed, builds the site, and prints and returns the path of its first page.

    A chapter has changed if its code, the package, `data/` or torch changed since its last execution.

    Raises:
        BookError: if a chapter fails, its outputs are refused, or the site has a warning.
    """
    root = root or _root()
    _bring_up_to_date(root)
    first_page = render(_stage(root), root / "_config.yml", root)
    print(f"the book: {first_page.as_uri()}")
    return first_page


def refresh(root: Path | None = None) -> None:
    """Executes the chapters that changed and writes the cleaned outputs of all into `book/`, or none after an error.

    The figure of the first chapter's cell `headline` goes to `book/headline.png` too, and the verdicts on the paper's
    claims go into the README, which shows both.

    Raises:
        BookError: if a chapter fails or its outputs are refused.
    """
    root = root or _root()
    _bring_up_to_date(root)
    for path, text in _cleaned_chapters(root).items():
        path.write_text(text, encoding="utf-8")
    opening = nbformat.read(_notebooks(root)[0], as_version=4).cells
    outputs = [output.get("data", {}) for cell in opening if cell.get("id") == HEADLINE for output in cell.outputs]
    for figure in [data["image/png"] for data in outputs if "image/png" in data]:
        (root / "book" / "headline.png").write_bytes(base64.b64decode(figure))
    if (readme := root / "README.md").is_file():
        readme.write_text(with_verdicts(readme.read_text(encoding="utf-8")), encoding="utf-8")


def with_verdicts(readme: str) -> str:
    """The README with the verdicts of the current records between its two marks."""
    from alibi.reproduction.claim_tables import summary
    from alibi.reproduction.claims import both_scorecards

    before, begin, rest = readme.partition(VERDICTS_BEGIN)
    _, end, after = rest.partition(VERDICTS_END)
    return f"{before}{begin}\n{summary(*both_scorecards())}{end}{after}" if end else readme


def changed(root: Path | None = None) -> list[Path]:
    """The chapters whose code, package, `data/` or torch changed since their last execution."""
    root = root or _root()
    keys = {path: _executed(root, path.stem).with_suffix(".key") for path in _notebooks(root)}
    return [path for path, key in keys.items() if not key.is_file() or key.read_text("utf-8") != _key(path, root)]


def execute_all(notebooks: Sequence[Path], root: Path) -> None:
    """Executes these chapters with their own parameters, two at a time.

    Raises:
        BookError: if a chapter fails; waiting chapters are then dropped.
        alibi.interruption.UnfinishedError: after a signal; executed chapters are not executed again.
    """
    try:
        with progress.bar(total=len(notebooks), unit="chapter", desc="chapters") as bar, Pool(AT_A_TIME) as pool:
            running = {pool.submit(_run, path, _executed(root, path.stem), root, {}): path.stem for path in notebooks}
            for done in as_completed(running):
                done.result()
                bar.set_postfix_str(f"executed {running[done]}", refresh=False)
                bar.update()
    except KeyboardInterrupt as stop:
        executed = len(notebooks) - len(set(notebooks) & set(changed(root)))
        told = f"{executed} of {len(notebooks)} chapters were executed; the same command goes on"
        raise UnfinishedError(f"{stop or 'SIGINT'}: {told}") from None


def render(source: Path, config: Path, output: Path) -> Path:
    """Builds the site from a folder of executed chapters; a warning is an error.

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
    for folder in (".doctrees", "html"):
        shutil.rmtree(output / "_build" / folder, ignore_errors=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    options = ["--config", str(config), "--path-output", str(output), "-W", "--keep-going", "-q"]
    # UTF-8 for its messages and files on any console.
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
    finished = subprocess.run(command + options, capture_output=True, encoding="utf-8", env=environment)
    if finished.returncode:
        raise BookError(f"jupyter-book could not build {source}:\n{COLOUR.sub('', finished.stderr)}")
    return output / "_build" / "html" / "index.html"


def cleaned(source: Path, executed: Path, root: Path) -> str:
    """The source notebook with the outputs of its execution, without the parts that change from run to run.

    Text outputs and figures stay, these in 64 colours. Execution counts, stderr, progress bars, timings, memory
    addresses, the path of the checkout, files for the site, cells that papermill added, and the metadata of papermill
    and the kernel go.

    Args:
        source: the chapter in book/.
        executed: papermill's notebook; may be the source itself.
        root: root of the checkout, which is removed from paths.

    Raises:
        BookError: for an output with an error, another absolute path, a figure above 100 kB, or a notebook above
            1 MB; the message names the cell.
    """
    notebook = nbformat.read(source, as_version=4)
    outputs = {cell.get("id"): cell.get("outputs") for cell in nbformat.read(executed, as_version=4).cells}
    notebook.metadata = {"kernelspec": KERNEL}
    for number, cell in enumerate(notebook.cells, start=1):
        place = f"{source.name}, cell {number} ({cell.get('id')})"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in CELL_METADATA and value}
        if cell.cell_type == "code":
            if cell.get("id") not in outputs:
                raise BookError(f"{place} was not executed: run the chapter again; every cell needs a fixed id")
            cell.execution_count = None
            cell.outputs = _cleaned_outputs(outputs[cell.id], place, root)
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > NOTEBOOK_BYTES:
        largest = max(notebook.cells, key=lambda cell: len(json.dumps(cell)))
        raise BookError(
            f"{source.name} has {len(text.encode())} bytes with its outputs, more than {NOTEBOOK_BYTES}; cell "
            f"{largest.id} is the largest"
        )
    return text


def _cleaned_outputs(outputs: Iterable[NotebookNode], place: str, root: Path) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "error":
            raise BookError(f"{place} holds an error: {output.ename}: {output.evalue}")
        if output.output_type == "stream":
            text = _lasting(output.text)
            if output.name == "stderr" or not text:
                continue
            output = nbformat.v4.new_output("stream", name="stdout", text=_without_paths(text, place, root))
            if kept and kept[-1].output_type == "stream":
                # The clock decides where a stream is cut into two outputs.
                kept[-1].text += output.text
                continue
        elif WIDGET in output.data or SITE_FILES in output.data:
            continue
        else:
            output.data.pop(FIGURE_FILES, None)
            for kind, content in output.data.items():
                if kind == "image/png":
                    content = output.data[kind] = _with_few_colours(content)
                if kind.startswith("image/"):
                    _refuse_large(content, kind, place)
                elif isinstance(content, str):
                    output.data[kind] = _without_paths(content, place, root)
            if output.output_type == "execute_result":
                output.execution_count = None
        kept.append(output)
    return kept


def _lasting(text: str) -> str:
    """The text that a terminal would still show, without progress bars and the lines of %%time."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(x.rpartition("\r")[2] for x in lines if not PROGRESS_BAR.search(x) and not TIMING.match(x))


class _WithoutBars:
    """Stderr without progress bars."""

    def write(self, text: str) -> None:
        sys.stderr.write(_lasting(text))

    def flush(self) -> None:
        sys.stderr.flush()


def _with_few_colours(content: str) -> str:
    """The PNG (base64) with a palette, which takes a third of the bytes; as it is if it has one or would grow."""
    stored = base64.b64decode(content)
    with Image.open(BytesIO(stored)) as image:
        if image.mode == "P":
            return content
        written = BytesIO()
        image.convert("RGB").quantize(FIGURE_COLOURS).save(written, "PNG", optimize=True)
    return content if len(written.getvalue()) >= len(stored) else base64.b64encode(written.getvalue()).decode()


def _refuse_large(content: str, kind: str, place: str) -> None:
    size = len(base64.b64decode(content)) if kind == "image/png" else len(content)
    if size > FIGURE_BYTES:
        raise BookError(
            f"{place} holds a figure of {size} bytes ({kind}), more than {FIGURE_BYTES}: draw it smaller, at a lower "
            "resolution, or with less in it"
        )


def _without_paths(text: str, place: str, root: Path) -> str:
    text = ADDRESS.sub("", text.replace(f"{root}/", "").replace(str(root), "."))
    if found := ABSOLUTE_PATH.search(text):
        raise BookError(f"{place} shows {found[0]}, a path of this machine: print a name, or nothing")
    return text


def _bring_up_to_date(root: Path) -> None:
    waiting = changed(root)
    if not waiting:
        print("no chapter has changed since its last execution")
        return
    execute_all(waiting, root)


def _run(source: Path, executed: Path, root: Path, values: Mapping[str, int | str], **how: Any) -> None:
    import papermill
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync
    from papermill.exceptions import PapermillExecutionError

    key, key_file = _key(source, root), executed.with_suffix(".key")
    executed.parent.mkdir(parents=True, exist_ok=True)
    # An interrupted execution has no key, so that it does not pass for a complete one.
    key_file.unlink(missing_ok=True)
    options = {"progress_bar": False} | how
    # Papermill logs its errors and raises them too.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    # Without kernel folders jupyter starts this interpreter; an installed kernel may belong to another one.
    kernel = AsyncKernelManager(kernel_name=KERNEL["name"], kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    kernel.shutdown_wait_time = SECONDS_TO_STOP
    # Cells write into the notebook; the process itself writes into a log, above all when it dies.
    with TemporaryFile() as log, TemporaryDirectory(dir=SOCKETS) as sockets:
        if SOCKETS:
            # Jupyter picks TCP ports before it binds them, so two kernels that start at once may pick the same.
            kernel.transport, kernel.ip = "ipc", f"{sockets}/kernel"
        setattr(kernel, "start_kernel", partial(kernel.start_kernel, stderr=log))  # noqa: B010
        try:
            papermill.execute_notebook(source, executed, dict(values), kernel_name=KERNEL["name"], km=kernel, **options)
        except PapermillExecutionError as error:
            where = f"{source.name}, in the cell that begins with {error.source.strip().splitlines()[0]!r}"
            raise BookError(f"{where}: {error.ename}: {error.evalue}\nthe traceback is in {executed}") from None
        except (RuntimeError, OSError, NoSuchKernel) as error:
            told = f"{source.name}: its kernel, of {sys.executable}, could not run it: {error}"
            raise BookError(told + _last_words(log)) from error
        finally:
            run_sync(_end)(kernel)
    key_file.write_text(key, encoding="utf-8")


def _last_words(log: IO[bytes]) -> str:
    """The last line of a kernel process's log, in brackets to end a message; empty if the log is."""
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return f" ({bounded(lines[-1].strip())})" if lines else ""


async def _end(kernel: "AsyncKernelManager") -> None:
    """Ends the kernel and the tasks that wait for it: the kernel's own session gets none of this one's signals."""
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    if await kernel.is_alive():
        await kernel.shutdown_kernel()


def _key(source: Path, root: Path) -> str:
    """Hash of everything that decides a chapter's outputs, without its prose."""
    cells = nbformat.read(source, as_version=4).cells
    code = [[cell.get("id"), cell.source, cell.metadata.get("tags")] for cell in cells if cell.cell_type == "code"]
    digest = hashlib.sha256(json.dumps([code, version("torch"), os.environ.get("ALIBI_SMOKE")]).encode())
    data = [file for folder in (root / "data", results_folder()) for file in folder.glob("**/*") if file.is_file()]
    for file in sorted({*root.glob("alibi/**/*.py"), *data}):
        digest.update(f"{os.path.relpath(file, root)} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


def _values(notebook: Path, assignments: Sequence[str]) -> dict[str, int | str]:
    import papermill

    known = papermill.inspect_notebook(notebook)
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ParameterError(f"{assignment!r} sets no parameter: write name=value, such as steps=50")
        if name not in known:
            raise ParameterError(f"chapter {notebook.stem} has no parameter {name!r}; it has {', '.join(known)}")
        values[name] = parse(name, text)
    return values


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
    for source in _notebooks(root):
        described = {cell.get("id"): cell.metadata.get("mystnb", {}) for cell in nbformat.read(source, 4).cells}
        for cell in nbformat.read(_executed(root, source.stem), as_version=4).cells:
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
    return {path: cleaned(path, _executed(root, path.stem), root) for path in _notebooks(root)}


def _notebooks(root: Path) -> list[Path]:
    return [path for path in chapters(root) if path.suffix == ".ipynb"]


def _executed(root: Path, name: str) -> Path:
    return root / "_build" / "executed" / f"{name}.ipynb"


def _root() -> Path:
    root = checkout()
    if root is None:
        raise BookError("the installed package has no chapters: run this in a checkout of the book's repository")
    return root

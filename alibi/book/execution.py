"""Papermill executes the chapters, each in a kernel of its own; papermill never writes into book/."""

import asyncio
import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import nbformat

from alibi import progress
from alibi.book.chapters import KERNEL, BookError, book_root, executed_path, notebooks
from alibi.book.outputs import lasting
from alibi.book.parameters import ParameterError, parse
from alibi.errors import UnknownNameError, bounded
from alibi.interruption import Pool, UnfinishedError
from alibi.paths import results_folder

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager


AT_A_TIME = 2
# An interrupted chapter has this time to finish its training step and save a checkpoint.
SECONDS_TO_STOP = 60.0
# Kernels talk through sockets in this folder, whose paths may have about a hundred characters. Windows has none.
SOCKETS = "/tmp" if os.name == "posix" else None


def execute(chapter: str, assignments: Sequence[str] = (), root: Path | None = None) -> Path:
    """Executes one chapter with the reader's parameters, and prints the path of the result.

    Args:
        chapter: its name, such as alibi.
        assignments: parameters such as train_length=64; the others keep the chapter's values.
        root: root of the checkout.

    Raises:
        InputError: for an unknown chapter; the message lists the known ones.
        ParameterError: before anything runs, for a parameter that the chapter does not have, or a value that no chapter
            can take.
        BookError: if a cell fails, also for a value that does not fit the scale or another value.
    """
    root = root or book_root()
    known = {path.stem: path for path in notebooks(root)}
    if chapter not in known:
        raise UnknownNameError("chapter", chapter, known)
    values = _values(known[chapter], assignments)
    suffix = "".join(f".{name}={value}" for name, value in values.items())
    executed = executed_path(root, chapter + suffix)
    # A terminal shows the progress bars that the chapter writes to stderr; a log leaves them out.
    drawn = progress.drawn()
    shown = {"progress_bar": drawn or progress.in_lines(), "stderr_file": sys.stderr if drawn else _WithoutBars()}
    _run(known[chapter], executed, root, values, **shown)
    print(executed)
    return executed


def changed(root: Path | None = None) -> list[Path]:
    """The chapters whose code, package, `data/` or torch changed since their last execution."""
    root = root or book_root()
    return [path for path in notebooks(root) if not _is_executed(path, executed_path(root, path.stem), root)]


def _is_executed(source: Path, executed: Path, root: Path) -> bool:
    key = executed.with_suffix(".key")
    return executed.is_file() and key.is_file() and key.read_text("utf-8") == _key(source, root)


def execute_all(chosen: Sequence[Path], root: Path) -> None:
    """Executes these chapters with their own parameters, two at a time.

    Raises:
        BookError: if a chapter fails; waiting chapters are then dropped.
        alibi.interruption.UnfinishedError: after a signal; executed chapters are not executed again.
    """
    try:
        with progress.bar(total=len(chosen), unit="chapter", desc="chapters") as bar, Pool(AT_A_TIME) as pool:
            running = {pool.submit(_run, path, executed_path(root, path.stem), root, {}): path.stem for path in chosen}
            for done in as_completed(running):
                done.result()
                bar.set_postfix_str(f"executed {running[done]}", refresh=False)
                bar.update()
    except KeyboardInterrupt as stop:
        executed = len(chosen) - len(set(chosen) & set(changed(root)))
        told = f"{executed} of {len(chosen)} chapters were executed; the same command goes on"
        raise UnfinishedError(f"{stop or 'SIGINT'}: {told}") from None


class _WithoutBars:
    """Stderr without progress bars."""

    def write(self, text: str) -> None:
        sys.stderr.write(lasting(text))

    def flush(self) -> None:
        sys.stderr.flush()


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
    values: dict[str, int | str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ParameterError(f"{assignment!r} sets no parameter: write name=value, such as steps=50")
        if name not in known:
            raise ParameterError(
                f"chapter {notebook.stem} has no parameter {name!r}; it has {', '.join(known) or 'none'}"
            )
        if name in values:
            raise ParameterError(f"{name} is given twice, {name}={values[name]} and {assignment}: give it once")
        values[name] = parse(name, text)
    return values

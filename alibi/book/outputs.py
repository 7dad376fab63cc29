"""The stored outputs of a chapter: the parts of an execution that go into the repository."""

import base64
import json
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from alibi.book.chapters import KERNEL, BookError
from alibi.book.widgets import FIGURE_FILES, SITE_FILES

FIGURE_BYTES = 100_000
# Of a stored figure. Lines, bands and their soft edges need no more.
FIGURE_COLOURS = 64
NOTEBOOK_BYTES = 1_000_000
# The only metadata kept in a chapter, beside its kernel: everything else that tools write changes from run to run.
CELL_METADATA = {"tags", "mystnb"}
WIDGET = "application/vnd.jupyter.widget-view+json"

PROGRESS_BAR = re.compile(r"\d+%\|.*\|.*\[.*\]")
TIMING = re.compile(r"^(CPU times|Wall time): ")
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
# Not the rest of an address, a closing tag or a share such as tokens/s.
ABSOLUTE_PATH = re.compile(r"""(?:(?:(?<=file://)|(?<![\w.<:/~})-]))/[\w.-]+/|\b[A-Z]:\\)[^\s'"<>]*""")


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
    ran = {cell.get("id"): cell for cell in nbformat.read(executed, as_version=4).cells}
    notebook.metadata = {"kernelspec": KERNEL}
    for number, cell in enumerate(notebook.cells, start=1):
        place = f"{source.name}, cell {number} ({cell.get('id')})"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in CELL_METADATA and value}
        if cell.cell_type == "code":
            if cell.get("id") not in ran or ran[cell.id].source != cell.source:
                raise BookError(
                    f"{place} was not executed as it is now: run the chapter again; every cell needs a fixed id"
                )
            cell.execution_count = None
            cell.outputs = _cleaned_outputs(ran[cell.id].outputs, place, root)
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > NOTEBOOK_BYTES:
        largest = max(notebook.cells, key=lambda cell: len(json.dumps(cell)))
        raise BookError(
            f"{source.name} has {len(text.encode())} bytes with its outputs, more than {NOTEBOOK_BYTES}; cell "
            f"{largest.id} is the largest"
        )
    return text


def lasting(text: str) -> str:
    """The text that a terminal would still show, without progress bars and the lines of %%time."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(x.rpartition("\r")[2] for x in lines if not PROGRESS_BAR.search(x) and not TIMING.match(x))


def _cleaned_outputs(outputs: Iterable[NotebookNode], place: str, root: Path) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "error":
            raise BookError(f"{place} holds an error: {output.ename}: {output.evalue}")
        if output.output_type == "stream":
            text = lasting(output.text)
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
    text = re.sub(rf"{re.escape(str(root))}(?![\w.-])", ".", text.replace(f"{root}/", ""))
    text = ADDRESS.sub("", text)
    if found := ABSOLUTE_PATH.search(text):
        raise BookError(f"{place} shows {found[0]}, a path of this machine: print a name, or nothing")
    return text

"""Chapters are executed only when they must be, and what is kept of them does not change from run to run."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from io import BytesIO

import nbformat
import pytest
from conftest import ROOT
from forked import HANGS_AFTER
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from alibi.book.build import build, refresh, render, with_verdicts
from alibi.book.chapters import KERNEL, BookError, chapters
from alibi.book.execution import changed, execute, execute_all
from alibi.book.outputs import cleaned
from alibi.book.parameters import ParameterError
from alibi.files import locked

pytestmark = pytest.mark.slow

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def picture(pixels, width):
    """A PNG in base64 with these bytes of red, green and blue."""
    written = BytesIO()
    Image.frombytes("RGB", (width, len(pixels) // 3 // width), pixels).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def write(path, *cells):
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)


def tagged(source, tag):
    return new_code_cell(source, metadata={"tags": [tag]})


@pytest.fixture
def root(tmp_path):
    """A checkout with two small chapters."""
    root = tmp_path / "checkout"
    for folder in ("book", "alibi", "data"):
        (root / folder).mkdir(parents=True)
    (root / "alibi" / "model.py").write_text("layers = 4\n")
    (root / "data" / "results.csv").write_text("1\n")
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    parts = "parts:\n- caption: One\n  chapters:\n  - file: second\n- caption: Two\n  chapters:\n  - file: third\n"
    (root / "book" / "_toc.yml").write_text(f"format: jb-book\nroot: first\n{parts}")
    write(
        root / "book" / "first.ipynb",
        new_markdown_cell("# First"),
        tagged("steps: int = 3  # optimiser steps\nscale: str = 'quick'  # size", "parameters"),
        new_code_cell("import sys\nprint('steps', steps, file=sys.stderr)\nprint(steps * 2)"),
    )
    write(root / "book" / "second.ipynb", new_markdown_cell("# Second"), new_code_cell("6 * 7"))
    (root / "book" / "third.md").write_text("# Third\n\nSee {cite}`press2022alibi`.\n\n```{bibliography}\n```\n")
    return root


def state(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_chapters_follow_the_table_of_contents(root):
    assert [path.name for path in chapters(root)] == ["first.ipynb", "second.ipynb", "third.md"]
    (root / "book" / "third.md").unlink()
    with pytest.raises(BookError, match="'third'"):
        chapters(root)


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("nonsense=1", "chapter first has no parameter 'nonsense'; it has steps, scale"),
        ("seed=1", "chapter first has no parameter 'seed'"),
        ("steps=many", "steps = 'many'"),
        ("steps=-1", "from 0 to 1000000"),
        ("scale=huge", "one of quick"),
        ("steps", "name=value"),
    ],
)
def test_parameters_are_refused_before_anything_runs(root, assignment, told):
    before = state(root)
    with pytest.raises(ParameterError, match=told):
        execute("first", [assignment], root)
    assert state(root) == before


def test_a_parameter_is_given_once_to_a_chapter_that_has_it(root):
    with pytest.raises(ParameterError, match="steps is given twice, steps=1 and steps=2: give it once"):
        execute("first", ["steps=1", "steps=2"], root)
    with pytest.raises(ParameterError, match="chapter second has no parameter 'seed'; it has none"):
        execute("second", ["seed=1"], root)


@pytest.mark.parametrize("name", ["fourth", "third"])
def test_unknown_chapter_lists_those_that_run(root, name):
    with pytest.raises(ValueError, match=f"'{name}'; choose from first, second"):
        execute(name, [], root)


def test_a_chapter_runs_with_parameters_of_the_reader_s_own(root, capsys):
    before = state(root / "book")
    executed = execute("first", ["steps=5", "scale=gpu"], root)
    assert executed == root / "_build" / "executed" / "first.steps=5.scale=gpu.ipynb"
    cells = nbformat.read(executed, as_version=4).cells
    assert [output.text for output in cells[-1].outputs if output.name == "stdout"] == ["10\n"]
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == str(executed) and "steps 5" in shown.err
    assert state(root / "book") == before
    # The site is made of the chapters' own parameters.
    assert root / "book" / "first.ipynb" in changed(root)


def test_only_what_changed_is_executed_again(root):
    first, second = chapters(root)[:2]
    assert changed(root) == [first, second]
    before = state(root / "book")
    execute_all([first, second], root)
    assert changed(root) == []
    assert state(root / "book") == before
    text = first.read_text()
    first.write_text(text.replace("# First", "# The very first"))
    assert changed(root) == [], "prose needs no execution"
    first.write_text(text.replace("steps * 2", "steps * 3"))
    assert changed(root) == [first]
    first.write_text(text)
    assert changed(root) == []
    for file in (root / "alibi" / "model.py", root / "data" / "results.csv"):
        content = file.read_bytes()
        file.write_bytes(content + b"2\n")
        assert changed(root) == [first, second]
        file.write_bytes(content)
    assert changed(root) == []


def test_a_readers_own_records_are_executed_with(root, tmp_path, monkeypatch):
    second = chapters(root)[1]
    execute_all([second], root)
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "mine"))
    assert second in changed(root)
    execute_all([second], root)
    assert second not in changed(root)
    (tmp_path / "mine").mkdir(exist_ok=True)
    (tmp_path / "mine" / "slopes.csv").write_text("source\n")
    assert second in changed(root)
    monkeypatch.delenv("ALIBI_RESULTS")
    assert second in changed(root)


def test_a_smoke_execution_does_not_pass_for_a_whole_one(root, monkeypatch):
    second = chapters(root)[1]
    monkeypatch.setenv("ALIBI_SMOKE", "2")
    execute_all([second], root)
    assert second not in changed(root)
    monkeypatch.delenv("ALIBI_SMOKE")
    assert second in changed(root)


def test_a_failed_chapter_is_named_and_executed_again(root):
    first, second = chapters(root)[:2]
    execute_all([first, second], root)
    text = second.read_text()
    second.write_text(text.replace("6 * 7", "6 / 0"))
    with pytest.raises(BookError, match=r"second.ipynb, in the cell that begins with '6 / 0': ZeroDivisionError"):
        execute_all([second], root)
    second.write_text(text)
    assert changed(root) == [second]


def test_the_kernel_is_the_interpreter_that_runs_the_command(root, tmp_path, monkeypatch, capsys):
    installed = tmp_path / "jupyter" / "kernels" / "python3"
    installed.mkdir(parents=True)
    spec = {"argv": [str(tmp_path / "another" / "python"), "-m", "ipykernel_launcher"], "display_name": "x"}
    (installed / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    write(root / "book" / "second.ipynb", tagged("", "parameters"), new_code_cell("import sys; print(sys.executable)"))
    cells = nbformat.read(execute("second", [], root), as_version=4).cells
    assert cells[-1].outputs[0].text == f"{sys.executable}\n"


def test_a_kernel_that_ends_or_does_not_start_is_told_in_one_line(root, tmp_path, monkeypatch):
    write(root / "book" / "second.ipynb", tagged("", "parameters"), new_code_cell("import os; os._exit(1)"))
    with pytest.raises(BookError, match=r"^second.ipynb: its kernel, of .*, could not run it: Kernel died$"):
        execute("second", [], root)
    (tmp_path / "ipykernel_launcher.py").write_text("import sys; sys.exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BookError, match=r"^second.ipynb: its kernel, of .*, could not run it: Kernel died before .*$"):
        execute("second", [], root)


INTERRUPTED = """
    import sys
    from pathlib import Path

    from alibi.__main__ import COMMANDS, main
    from alibi.book.chapters import chapters
    from alibi.book.execution import execute, execute_all

    root = Path(sys.argv[1])


    def every() -> None:
        \"\"\"Executes all chapters.\"\"\"
        execute_all(chapters(root)[:2], root)


    def one() -> None:
        \"\"\"Executes one.\"\"\"
        execute("second", [], root)


    if __name__ == "__main__":
        COMMANDS.clear()
        COMMANDS.update(every=every, one=one)
        del sys.argv[1]
        main()
"""


@pytest.mark.parametrize(
    ("command", "number", "status", "told"),
    [
        ("every", signal.SIGINT, 75, "SIGINT: 1 of 2 chapters were executed; the same command goes on"),
        ("one", signal.SIGTERM, 143, "ended by SIGTERM"),
    ],
)
def test_an_interrupted_execution_ends_in_one_line_and_leaves_no_kernel(root, tmp_path, command, number, status, told):
    at_work = tmp_path / "kernel"
    waits = f"import os, pathlib, threading\npathlib.Path({str(at_work)!r}).write_text(str(os.getpid()))\n"
    write(root / "book" / "second.ipynb", tagged("", "parameters"), new_code_cell(f"{waits}threading.Event().wait()"))
    script = tmp_path / "interrupted.py"
    script.write_text(textwrap.dedent(INTERRUPTED))
    process = subprocess.Popen(
        [sys.executable, str(script), str(root), command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    first = root / "_build" / "executed" / "first.key"
    while not (at_work.exists() and at_work.read_text() and (command == "one" or first.exists())):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=HANGS_AFTER)
    assert process.returncode == status, errors
    assert errors.splitlines()[-1] == f"python -m alibi: {told}" and "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int(at_work.read_text()), 0)


def messy(path, root, *outputs):
    write(path, new_markdown_cell("# Messy"), new_code_cell("1", outputs=list(outputs), execution_count=3))
    return path


def stdout(text):
    return new_output("stream", name="stdout", text=text)


def test_what_changes_from_run_to_run_is_left_out(root):
    bar = " 40%|████      | 2/5 [00:01<00:02,  1.2it/s]"
    source = messy(root / "book" / "second.ipynb", root)
    executed = messy(
        root / "executed.ipynb",
        root,
        stdout("loss 2.5\n"),
        new_output("stream", name="stderr", text="a warning\n"),
        stdout(f"\r{bar}\r{bar}\nin {root}/data/results.csv\nWall time: 12 ms\n"),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "0%"}),
        new_output("execute_result", {"text/plain": f"<thing at 0x7f01a2b3c4d5> in {root}"}, execution_count=3),
        new_output("display_data", {"image/png": PIXEL, "text/plain": "<Figure size 640x480 with 1 Axes>"}),
    )
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata["papermill"] = {"duration": 1.5}
    notebook.metadata["language_info"] = {"version": "3.11.7"}
    notebook.cells[1].metadata = {"papermill": {"duration": 0.5}, "execution": {"iopub.busy": "now"}, "tags": ["a"]}
    notebook.cells.insert(1, tagged("steps = 5", "injected-parameters"))
    nbformat.write(notebook, executed)

    text = cleaned(source, executed, root)
    kept = json.loads(text)
    assert kept["metadata"] == {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    assert [cell["id"] for cell in kept["cells"]] == ["cell-0", "cell-1"]
    cell = kept["cells"][1]
    assert cell["metadata"] == {} and cell["execution_count"] is None
    stream, result, figure = cell["outputs"]
    assert "".join(stream["text"]) == "loss 2.5\nin data/results.csv\n"
    assert result["data"]["text/plain"] == ["<thing> in ."] and result["execution_count"] is None
    assert figure["data"]["image/png"].strip() == PIXEL

    executed.write_text(text)
    assert cleaned(executed, executed, root) == text, "cleaning what is clean changes nothing"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (stdout("saved in /home/someone/thesis\n"), "/home/someone/thesis"),
        (new_output("display_data", {"text/html": "<a href='file:///tmp/x.html'>x</a>"}), "/tmp/x.html"),
        (stdout("C:\\Users\\someone\n"), "C:"),
        (stdout("/scratch/anna/runs\n"), "/scratch/anna/runs"),
        (stdout("in '/run/user/1000/bus'\n"), "/run/user/1000/bus"),
        (new_output("error", ename="ValueError", evalue="wrong", traceback=[]), "ValueError: wrong"),
        (new_output("display_data", {"image/png": picture(os.urandom(400 * 400 * 3), 400)}), "bytes (image/png), more"),
    ],
)
def test_what_does_not_belong_in_a_repository_is_refused_with_its_cell(root, output, told):
    path = messy(root / "book" / "second.ipynb", root, output)
    with pytest.raises(BookError) as refused:
        cleaned(path, path, root)
    assert "second.ipynb, cell 2 (cell-1)" in str(refused.value) and told in str(refused.value)


def test_a_folder_whose_name_begins_as_the_root_s_is_another_one(root):
    path = messy(root / "book" / "second.ipynb", root, stdout(f"{root}-fix/data/x.csv\n"))
    with pytest.raises(BookError, match=f"shows {root}-fix/data/x.csv"):
        cleaned(path, path, root)


def test_outputs_of_other_code_are_refused(root):
    """As of a cell that was edited while its chapter ran."""
    executed = messy(root / "executed.ipynb", root, stdout("1\n"))
    source = root / "book" / "second.ipynb"
    write(source, new_markdown_cell("# Messy"), new_code_cell("2"))
    with pytest.raises(BookError, match=r"second.ipynb, cell 2 \(cell-1\) was not executed as it is now"):
        cleaned(source, executed, root)


def test_a_figure_is_stored_with_a_palette_that_keeps_its_colours(root):
    line, white = bytes.fromhex("0072B2"), b"\xff\xff\xff"
    drawn = picture((white * 150 + line * 50) * 200, 200)
    path = messy(root / "book" / "second.ipynb", root, new_output("display_data", {"image/png": drawn}))
    (output,) = json.loads(cleaned(path, path, root))["cells"][1]["outputs"]
    with Image.open(BytesIO(base64.b64decode(output["data"]["image/png"]))) as stored:
        assert stored.size == (200, 200) and len(output["data"]["image/png"]) < len(drawn)
        assert [stored.convert("RGB").getpixel((x, 100)) for x in (10, 190)] == [tuple(white), tuple(line)]


def test_markup_and_addresses_of_the_web_are_no_paths(root):
    text = "<b>x</b> https://example.org/home/page and/or 1/2 data/results.csv tokens/s a</td><br/> //cdn.org/a/b ../a"
    path = messy(root / "book" / "second.ipynb", root, new_output("display_data", {"text/html": text}))
    assert text in cleaned(path, path, root)


def test_a_large_notebook_is_refused(root):
    path = messy(root / "book" / "second.ipynb", root, stdout("x" * 1_000_000))
    with pytest.raises(BookError, match=r"second.ipynb has 1\d{6} bytes .* cell cell-1"):
        cleaned(path, path, root)


def test_refresh_stores_outputs_and_repeats_to_the_byte(root):
    first, second, _ = chapters(root)
    execute_all([first, second], root)
    refresh(root)
    cell = nbformat.read(first, as_version=4).cells[2]
    assert [output.text for output in cell.outputs] == ["6\n"]
    assert changed(root) == [], "outputs are no source"
    stored = {path: content for path, (content, _) in state(root / "book").items()}
    execute_all([first, second], root)
    refresh(root)
    assert {path: content for path, (content, _) in state(root / "book").items()} == stored


def test_a_second_build_executes_nothing_and_shows_new_prose(root, capsys):
    execute_all(chapters(root)[:2], root)
    page = build(root)
    assert page == root / "_build" / "html" / "index.html" and page.is_file()
    assert page.as_uri() in capsys.readouterr().out
    before = state(root / "_build" / "executed")
    second = root / "book" / "second.ipynb"
    second.write_text(second.read_text().replace("# Second", "# Number two"))
    build(root)
    assert state(root / "_build" / "executed") == before
    for name in ("first.html", "second.html"):
        assert "Number two" in (root / "_build" / "html" / name).read_text()
    assert "42" in (root / "_build" / "html" / "second.html").read_text()


def test_files_for_the_site_are_in_it_and_in_no_notebook(root):
    second = root / "book" / "second.ipynb"
    source = 'from alibi.book.widgets import give_to_site\ngive_to_site({"models/tiny.js": "let tiny = 1;"})'
    write(second, new_markdown_cell("# Second"), new_code_cell(source))
    page = build(root)
    assert (page.parent / "_static" / "models" / "tiny.js").read_text() == "let tiny = 1;"
    assert "tiny.js" not in (page.parent / "first.html").read_text(), "a figure loads it, not each page"
    refresh(root)
    assert nbformat.read(second, as_version=4).cells[1].outputs == []


def test_a_figure_of_the_site_offers_its_drawing_and_its_numbers(root):
    second = root / "book" / "second.ipynb"
    lines = ["import matplotlib.pyplot as plt", "from alibi.book import plots", "plots.use_style()"]
    drawing = new_code_cell("\n".join([*lines, "plt.plot([1, 2], [3, 4])", "plt.show()"]))
    described = {"figure": {"name": "fig-second", "caption": "It rises."}, "image": {"alt": "A line that rises."}}
    drawing.metadata = {"mystnb": described}
    sheet = new_code_cell("from alibi.book.drawings.sheet import Sheet\n\nSheet('a', 'A sheet', 'It is empty.', 9)")
    sheet.metadata = {"mystnb": {"figure": {"name": "fig-sheet", "caption": "It is empty."}}}
    write(second, new_markdown_cell("# Second"), drawing, sheet)
    page = build(root)
    html = (page.parent / "second.html").read_text()
    for kind in ("svg", "csv"):
        assert f'href="_static/figures/fig-second.{kind}"' in html
        assert (page.parent / "_static" / "figures" / f"fig-second.{kind}").is_file()
    assert 'href="_static/figures/fig-sheet.svg"' in html and "fig-sheet.csv" not in html
    assert "<title" in (page.parent / "_static" / "figures" / "fig-sheet.svg").read_text()
    assert 'id="fig-second"' in html and 'alt="A line that rises."' in html
    refresh(root)
    cell = nbformat.read(second, as_version=4).cells[1]
    (output,) = cell.outputs
    assert cell.metadata == {"mystnb": described} and set(output.data) == {"image/png", "text/plain"}
    with Image.open(BytesIO(base64.b64decode(output.data["image/png"]))) as stored:
        assert stored.width // 2 == output.metadata["image/png"]["width"]


def test_a_readme_without_its_marks_is_told():
    with pytest.raises(BookError, match="lacks <!-- verdicts"):
        with_verdicts("# A readme\n")


def test_two_builds_of_one_checkout_are_refused(root):
    before = state(root / "book")
    (root / "_build").mkdir()
    with locked(root / "_build" / "book.lock"):
        for command in (build, refresh):
            with pytest.raises(BookError, match="another process builds this book"):
                command(root)
    assert state(root / "book") == before and not (root / "_build" / "executed").exists()


def test_a_chapter_without_its_execution_has_changed(root):
    first, second, _ = chapters(root)
    execute_all([first, second], root)
    assert changed(root) == []
    (root / "_build" / "executed" / "second.ipynb").unlink()
    assert changed(root) == [second]


def test_a_warning_fails_the_build_each_time_and_leaves_the_last_site(root, tmp_path):
    site = tmp_path / "output" / "_build" / "html"
    site.mkdir(parents=True)
    (site / "index.html").write_text("the last good one")
    (root / "book" / "third.md").write_text("# Third\n\nSee {cite}`nobody1999`.\n")
    for _ in range(2):
        with pytest.raises(BookError, match="nobody1999"):
            render(root / "book", root / "_config.yml", tmp_path / "output")
    assert (site / "index.html").read_text() == "the last good one"

"""The chapters as they are stored: how they are written, that their outputs are clean, and that they still hold."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import nbformat
import pytest
from conftest import ROOT
from forked import HANGS_AFTER
from nbformat.v4 import new_code_cell, new_notebook, new_output

from alibi.book.chapters import KERNEL, chapters
from alibi.book.outputs import cleaned
from alibi.book.parameters import PARAMETERS, check

NOTEBOOKS = [path for path in chapters(ROOT) if path.suffix == ".ipynb"]
LINES = 20
COLUMN = tomllib.loads((ROOT / "book" / "ruff.toml").read_text())["line-length"]
each_chapter = pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(chapter):
    return [cell for cell in nbformat.read(chapter, as_version=4).cells if cell.cell_type == "code"]


def has_tag(cell, tag):
    return tag in cell.metadata.get("tags", [])


def test_every_notebook_is_a_chapter():
    assert sorted(NOTEBOOKS) == sorted((ROOT / "book").glob("*.ipynb"))


@each_chapter
def test_a_listing_fits_the_column_of_a_page(chapter):
    outputs = [output.get("data", {}) for cell in code_cells(chapter) for output in cell.outputs]
    listed = [data["text/markdown"] for data in outputs if data.get("text/markdown", "").startswith("```python")]
    assert [line for text in listed for line in text.splitlines() if len(line) > COLUMN] == []


@each_chapter
def test_no_citation_or_term_stands_inside_a_formula(chapter):
    """MathJax shows the role's name and backticks there, and Sphinx gives no warning."""
    markdown = [cell.source for cell in nbformat.read(chapter, as_version=4).cells if cell.cell_type == "markdown"]
    formulas = [found for text in markdown for found in re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, re.DOTALL)]
    assert [formula for formula in formulas if re.search(r"\{\w+\}`", formula)] == []


@each_chapter
def test_what_code_in_prose_imports_is_there(chapter):
    """Of the package: a solution may use another library, which need not be installed."""
    markdown = [cell.source for cell in nbformat.read(chapter, as_version=4).cells if cell.cell_type == "markdown"]
    for block in re.findall(r"```python\n(.*?)```", "\n".join(markdown), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "alibi":
                exec(ast.unparse(node), {})


@each_chapter
def test_parameters_are_typed_commented_known_and_checked(chapter):
    cells = code_cells(chapter)
    (place,) = [number for number, cell in enumerate(cells) if has_tag(cell, "parameters")]
    source = cells[place].source
    values = {}
    for statement in ast.parse(source).body:
        assert isinstance(statement, ast.AnnAssign), f"not of the form name: type = value: {ast.unparse(statement)}"
        name, value = statement.target.id, ast.literal_eval(statement.value)
        assert name in PARAMETERS
        assert statement.annotation.id == type(value).__name__
        line = source.splitlines()[statement.end_lineno - 1]
        assert re.search(r"  # \w", line), f"says not what it is: {line}"
        values[name] = value
    check(**values)
    calls = [node for node in ast.walk(ast.parse(cells[place + 1].source)) if isinstance(node, ast.Call)]
    checks = [call for call in calls if ast.unparse(call.func).split(".")[-1] == "check"]
    checked = {keyword.arg: ast.unparse(keyword.value) for call in checks for keyword in call.keywords}
    assert checked == {name: name for name in values}


@each_chapter
def test_stored_outputs_are_clean(chapter):
    assert chapter.read_text(encoding="utf-8") == cleaned(chapter, chapter, ROOT), "make notebooks cleans them"


@each_chapter
def test_checked_cells_have_something_to_compare(chapter):
    checked = [cell for cell in code_cells(chapter) if has_tag(cell, "nbval-check-output")]
    assert checked, "no cell is tagged nbval-check-output"
    for cell in checked:
        assert cell.outputs, f"cell {cell.id} has no stored output"
        kinds = {kind for output in cell.outputs for kind in output.get("data", {"text/plain": ""})}
        assert not any(kind.startswith("image/") for kind in kinds), f"cell {cell.id}: nbval compares no pictures"
        assert not cell.source.rstrip().endswith(";"), f"cell {cell.id}: nbval compares nothing after a semicolon"


@each_chapter
def test_code_cells_are_plain(chapter):
    """Lines that hold two statements are found by ruff."""
    for cell in code_cells(chapter):
        assert cell.source.count("\n") < LINES, f"cell {cell.id} is longer than {LINES} lines"
        assigned = [node.targets for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assign)]
        thrown_away = [ast.unparse(target) for targets in assigned for target in targets].count("_")
        assert not thrown_away, f"cell {cell.id} assigns to _: end a cell that draws with plt.show()"


@each_chapter
def test_code_that_draws_or_sets_up_is_folded(chapter):
    cells = code_cells(chapter)
    kinds = {"image/png", "image/svg+xml"}
    drawing = [cell for cell in cells if any(kinds & output.get("data", {}).keys() for output in cell.outputs)]
    (place,) = [number for number, cell in enumerate(cells) if has_tag(cell, "parameters")]
    folded = {"hide-input", "remove-input"}
    open_ones = [cell.id for cell in [*cells[place : place + 2], *drawing] if not folded & set(cell.metadata.tags)]
    assert open_ones == [], "tag them hide-input, or remove-input if the code has nothing to tell"


def compare_outputs(folder, notebooks, report):
    """Compares the stored outputs of these notebooks in one process: for each, what became of its cells, in order."""
    options = ["--nbval-lax", "--nbval-current-env", "--junitxml", report]
    options += ["--nbval-kernel-startup-timeout", str(HANGS_AFTER)]
    # The caller's own options, such as a random order, are not for cells; nor are models that other code has trained.
    environment = os.environ | {"ALIBI_SMOKE": "2", "ALIBI_CACHE": str(report.with_name("cache")), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", *options, *notebooks]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = {}
    for cell in ElementTree.parse(report).iter("testcase"):
        wrong = [child.text or child.get("message") for child in cell]
        found.setdefault(cell.get("classname").split(".")[-2], []).append("\n".join(wrong) or "holds")
    return found


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """What became of the cells of the chapters that are asked for, all of them in one process."""
    asked = [item for item in request.session.items if getattr(item, "function", None) is test_stored_outputs_hold]
    chosen = {item.callspec.params["chapter"] for item in asked}
    # Those that come first train what the others find in the cache.
    notebooks = [chapter.relative_to(ROOT) for chapter in NOTEBOOKS if chapter in chosen]
    return compare_outputs(ROOT, notebooks, tmp_path_factory.mktemp("outcomes") / "report.xml")


@pytest.mark.slow
@each_chapter
def test_stored_outputs_hold(chapter, outcomes):
    assert outcomes[chapter.stem] == ["holds"] * len(code_cells(chapter))


@pytest.mark.slow
@pytest.mark.parametrize("valid", ["one line alone", "\n\n", "岸" * 300], ids=["one line", "no words", "no spaces"])
def test_the_chapter_on_text_takes_a_small_one(valid, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    (tmp_path / "small").mkdir()
    for split, text in (("train", " = Title = \n" + "one line of words\n" * 2000), ("valid", f"{valid}\n")):
        (tmp_path / "small" / f"{split}.txt").write_text(text, encoding="utf-8")
    chapter = next(path for path in NOTEBOOKS if path.stem == "corpora")
    variables: dict[str, object] = {}
    with plt.rc_context():
        for cell in code_cells(chapter):
            exec(cell.source, variables)
            if has_tag(cell, "parameters"):
                variables["corpus"] = "small"


@pytest.mark.slow
def test_a_stored_output_that_no_longer_holds_fails(tmp_path):
    shutil.copy(ROOT / "book" / "conftest.py", tmp_path)
    cells = [new_code_cell("print(6 * 7)", metadata={"tags": ["nbval-check-output"]}) for _ in range(3)]
    for cell, stored in zip(cells, ("42\n", "43\n", "42\n"), strict=True):
        cell.outputs = [new_output("stream", name="stdout", text=stored)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), tmp_path / "some.ipynb")
    first, second, third = compare_outputs(tmp_path, ["some.ipynb"], tmp_path / "report.xml")["some"]
    assert (first, third) == ("holds", "holds") and "43" in second and "42" in second


@pytest.mark.slow
def test_papermill_as_typed_refuses_a_bad_value_at_once(tmp_path):
    chapter = next(path for path in NOTEBOOKS if path.stem == "alibi")
    command = [sys.executable, "-m", "papermill", "book/alibi.ipynb", str(tmp_path / "out.ipynb"), "-p", "steps", "-1"]
    command += ["--start-timeout", str(HANGS_AFTER)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "steps = -1 must be a whole number from 0 to 1000000" in done.stderr
    executed = [cell.id for cell in code_cells(tmp_path / "out.ipynb") if cell.get("execution_count")]
    after = code_cells(chapter)[2:]
    assert not set(executed) & {cell.id for cell in after}

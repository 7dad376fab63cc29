"""A figure's badge is true: RECORD stands at the figures that change if the records are taken away, and at no other."""

import ast

import matplotlib.pyplot as plt
import nbformat
import pytest
from conftest import ROOT

from alibi.book.chapters import chapters
from alibi.book.plots.files import numbers

pytestmark = pytest.mark.slow

# What a chapter calls to read records.
READERS = ("results.results(", "measured_results(", "claims.scorecard(")
BOOK = {path.stem: nbformat.read(path, 4) for path in chapters(ROOT) if path.suffix == ".ipynb"}


def figure_of(cell):
    return cell.metadata.get("mystnb", {}).get("figure", {})


def names(source):
    """The names that a cell gives a value, and all that it mentions."""
    nodes = list(ast.walk(ast.parse(source)))
    given = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    given |= {(node.asname or node.name).split(".")[0] for node in nodes if isinstance(node, ast.alias)}
    told = [node for node in nodes if isinstance(node, ast.Name)]
    return given | {node.id for node in told if isinstance(node.ctx, ast.Store)}, {node.id for node in told}


def cells_of_figures(notebook):
    """The cells that draw, and those from which they have their names, in order."""
    found, wanted = [], set()
    for cell in reversed([cell for cell in notebook.cells if cell.cell_type == "code"]):
        given, mentioned = names(cell.source)
        if figure_of(cell) or given & wanted or "parameters" in cell.metadata.get("tags", []):
            found.insert(0, cell)
            wanted |= mentioned
    return found


def drawn(cells):
    """Executes cells: the numbers that each figure shows, by its name."""
    found, variables = {}, {"display": lambda *shown: None}
    with plt.rc_context():
        for cell in cells:
            exec(cell.source, variables)
            if name := figure_of(cell).get("name"):
                found[name] = [numbers(plt.figure(number)).to_csv() for number in plt.get_fignums()]
            plt.close("all")
    return found


def badged(notebook):
    return {figure_of(cell).name for cell in notebook.cells if "{badge}`record`" in figure_of(cell).get("caption", "")}


FIGURES = {name: cells_of_figures(notebook) for name, notebook in BOOK.items()}
READ = [name for name, cells in FIGURES.items() if any(call in cell.source for cell in cells for call in READERS)]


def test_figures_of_chapters_that_read_no_records_claim_none():
    assert len(READ) > 5
    assert [name for name, notebook in BOOK.items() if name not in READ and badged(notebook)] == []


@pytest.mark.parametrize("chapter", READ)
def test_figures_of_records_are_those_that_change_without_them(chapter, tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("ALIBI_SMOKE", "2")
    monkeypatch.setattr(plt, "show", lambda: None)
    monkeypatch.setattr("myst_nb.glue", lambda *given, **how: None)
    monkeypatch.chdir(ROOT)
    with_records = drawn(FIGURES[chapter])
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path))
    without = drawn(FIGURES[chapter])
    assert {name for name, shown in with_records.items() if shown != without[name]} == badged(BOOK[chapter])

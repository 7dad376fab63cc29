"""Each figure of the site offers its drawing and its numbers: those that were drawn, whatever draws them.

Also its type, which a phone shows at 12 pixels or more."""

import io
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.text import Text

from alibi.book import plots
from alibi.book.chapters import chapters
from alibi.book.plots.files import files, numbers, offer
from alibi.book.plots.looks import WIDTH
from alibi.book.widgets import FIGURE_FILES
from alibi.records import paper_results

# CSS pixels that a phone of 390 leaves for a figure, and the least of type on it.
PHONE, LEAST = 358, 12


@pytest.fixture
def axes():
    figure, axes = plt.subplots(1, 2)
    yield axes
    plt.close(figure)


def test_curves_and_bars_are_told_with_their_panel_and_name(axes):
    axes[0].semilogx([64, 128], [20.5, 19], label="ALiBi")
    axes[0].axvline(64)
    axes[0].axhline(20, label="level")
    axes[1].bar([0, 1], [3, 4], label="speed")
    told = numbers(axes[0].figure)
    assert list(told.columns) == ["panel", "series", "x", "y"]
    # A line across the panel has one coordinate in the units of the axes.
    assert told.fillna("").values.tolist() == [
        [1, "ALiBi", 64, 20.5],
        [1, "ALiBi", 128, 19],
        [1, "", 64, ""],
        [1, "level", "", 20],
        [2, "speed", 0, 3],
        [2, "speed", 1, 4],
    ]


def test_bars_that_lie_are_told_by_their_ends(axes):
    axes[0].barh(["a", "b"], [3, 4])
    axes[1].barh([0], [3], left=[2])
    assert numbers(axes[0].figure)[["x", "y"]].values.tolist() == [[3, 0], [4, 1], [2, 0], [5, 0]]


def test_names_on_an_axis_are_told(axes):
    axes[0].plot(["ALiBi", "T5 bias"], [1, 2])
    assert numbers(axes[0].figure)[["x", "y"]].values.tolist() == [["ALiBi", 1], ["T5 bias", 2]]


def test_intervals_are_told_and_what_has_no_end_is_not(axes):
    axes[0].hlines([0, 1], [1, 3], [2, 4], label="95 %")
    axes[0].plot([-np.inf, 7], [0, 1], label="rule")
    told = numbers(axes[0].figure)
    assert told[["series", "x", "y"]].values.tolist() == [
        ["rule", 7, 1],
        ["95 %", 1, 0],
        ["95 %", 2, 0],
        ["95 %", 3, 1],
        ["95 %", 4, 1],
    ]


@pytest.mark.parametrize("draw", ["pcolormesh", "imshow"])
def test_a_table_of_colours_is_told_by_row_and_column(axes, draw):
    table = np.arange(6.0).reshape(2, 3)
    axes[0].figure.colorbar(getattr(axes[0], draw)(table), ax=axes[0])
    told = numbers(axes[0].figure)
    assert [table[int(y), int(x)] for x, y in told[["x", "y"]].values] == told.value.tolist() and len(told) == 6


def test_the_files_are_an_svg_and_a_csv_that_reads_back(axes):
    axes[0].plot([1, 2], [0.1, 1 / 3], label="a, b")
    made = files(axes[0].figure)
    assert ElementTree.fromstring(made["svg"]).tag.endswith("svg")
    back = pd.read_csv(io.StringIO(made["csv"]))
    assert back.series.tolist() == ["a, b", "a, b"] and back.y.tolist() == [0.1, 0.333333]


def test_a_drawing_without_numbers_has_no_csv(axes):
    axes[0].text(0.5, 0.5, "query")
    assert set(files(axes[0].figure)) == {"svg"}


def test_a_kernel_shows_them_beside_the_picture(axes):
    shell = InteractiveShell()
    offer(shell)
    data, _ = shell.display_formatter.format(axes[0].figure)
    assert set(data[FIGURE_FILES]) == {"svg"} and "text/plain" in data


@pytest.mark.parametrize("name", ["figure_1", "figure_2", "figure_4", "figure_7", "figure_8", "figure_11"])
def test_a_phone_shows_type_that_can_be_read(name):
    with plt.rc_context():
        plots.use_style()
        figure = getattr(plots, name)(paper_results())
        figure.canvas.draw()
        inches = figure.get_tightbbox().width + 2 * plt.rcParams["savefig.pad_inches"]
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        plt.close(figure)
    assert min(sizes) * PHONE / (72 * inches) >= LEAST


def test_no_chapter_draws_a_wider_figure_or_smaller_type():
    for path in [path for path in chapters(ROOT) if path.suffix == ".ipynb"]:
        source = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        widths = re.findall(r'(?:figsize"?[=:] *|\bsize = )\(([\d.]+),', source)
        assert [width for width in widths if float(width) > WIDTH] == [], path.name
        assert re.findall(r"fontsize|labelsize|x-small", source) == [], path.name

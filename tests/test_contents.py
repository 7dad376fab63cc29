"""The first page's table of chapters and its paths: every chapter once, under its part, with its own title.

Also the figures: each has a name that links can use, a caption, and a text for those who do not see it."""

import re
from collections import Counter

import nbformat
import pytest
import yaml
from conftest import ROOT, texts

from alibi.book.chapters import chapters

INTRO = "\n".join(cell.source for cell in nbformat.read(ROOT / "book" / "intro.ipynb", 4).cells)
PARTS = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))["parts"]
# Minutes of a path, over those of its chapters.
WITHIN = 1.2


def first_cell(path):
    return nbformat.read(path, 4).cells[0].source if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")


FIRST = {path.stem: first_cell(path) for path in chapters(ROOT)}
TITLES = {name: text.splitlines()[0].removeprefix("# ") for name, text in FIRST.items()}


def test_the_table_of_chapters_follows_the_parts():
    rows = re.findall(r"^\| (.*?) ?\| \[(.+?)\]\(([\w-]+)\.(?:ipynb|md)\) \| .+ \|$", INTRO, re.MULTILINE)
    listed = [
        ("" if place else part["caption"], TITLES[entry["file"]], entry["file"])
        for part in PARTS
        for place, entry in enumerate(part["chapters"])
    ]
    assert rows == listed


def minutes(name):
    (found,) = re.findall(r"\*(\d+)\s+minutes?\*", FIRST[name])
    return int(found)


@pytest.mark.parametrize("path", ["Student", "Researcher", "Engineer"])
def test_a_path_takes_as_long_as_its_chapters(path):
    told, links = re.search(rf"\*\*{path}\*\*, (\d+) minutes: (.+?)(?=\n- |\n\n|$)", INTRO, re.DOTALL).groups()
    names = re.findall(r"\]\(([\w-]+)\.ipynb\)", links)
    needed = sum(map(minutes, names))
    assert needed / WITHIN <= int(told) <= needed * WITHIN, f"{needed} minutes"


def test_links_are_called_as_their_chapters_are():
    """A link may leave out what follows a colon in the title, and the article."""
    called = re.findall(r"\[([A-Z][^\]]+)\]\(([\w-]+)\.ipynb\)", INTRO)
    wrong = [(text, name) for text, name in called if text not in (TITLES[name], TITLES[name].split(":")[0])]
    assert called and wrong == []


def figures(notebook):
    """The cells that hold a picture, each with its outputs that are more than printed text."""
    for cell in notebook.cells:
        shown = [set(output["data"]) for output in cell.get("outputs", []) if "data" in output]
        if any(kind.startswith("image/") for kinds in shown for kind in kinds):
            yield cell, shown


BOOK = {path.stem: nbformat.read(path, 4) for path in chapters(ROOT) if path.suffix == ".ipynb"}


@pytest.mark.parametrize("chapter", BOOK)
def test_each_picture_has_a_name_a_caption_and_a_text_of_what_it_shows(chapter):
    for cell, shown in figures(BOOK[chapter]):
        place = f"{chapter}.ipynb, cell {cell.id}"
        assert len(shown) == 1, f"{place}: the caption is the picture's alone, so tables go into a cell of their own"
        described = cell.metadata.get("mystnb", {})
        figure, alt = described.get("figure", {}), described.get("image", {}).get("alt", "")
        assert re.fullmatch(r"fig-[a-z0-9-]+", figure.get("name", "")), f"{place}: mystnb.figure.name is missing"
        assert len(figure.get("caption", "").split()) > 5, f"{place}: mystnb.figure.caption is missing"
        assert len(alt.split()) > 10 and not re.search(r"[$`{*]", alt), f"{place}: mystnb.image.alt is not a plain text"


def test_no_two_figures_share_a_name_or_a_text():
    described = [cell.metadata.mystnb for notebook in BOOK.values() for cell, _ in figures(notebook)]
    assert len(described) > 80
    for said in ([each.figure.name for each in described], [each.image.alt for each in described]):
        assert [text for text, times in Counter(said).items() if times > 1] == []


def test_a_link_to_a_figure_leads_to_one():
    names = {cell.metadata.mystnb.figure.name for notebook in BOOK.values() for cell, _ in figures(notebook)}
    said = "\n".join(text for notebook in BOOK.values() for text in texts(notebook))
    assert set(re.findall(r"\{numref}`(.+?)`", said)) <= names

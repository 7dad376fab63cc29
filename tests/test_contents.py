"""The first page's table of chapters and its paths: every chapter once, under its part, with its own title."""

import re

import nbformat
import pytest
import yaml
from conftest import ROOT

from alibi.book.build import chapters

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

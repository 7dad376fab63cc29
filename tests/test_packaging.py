"""What others install: the wheel with its data, the environment file, the two commands, the citation."""

import base64
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile

import nbformat
import pytest
import yaml
from conftest import ROOT
from forked import HANGS_AFTER
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from alibi.book.build import with_verdicts

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    run(sys.executable, "-m", "pip", "wheel", ROOT, *options, "--wheel-dir", folder)
    (wheel,) = folder.iterdir()
    return wheel


@pytest.mark.parametrize(
    ("inside", "outside", "one"),
    [("alibi/data", "data", "paper/paper_results.csv"), ("alibi/golden", "tests/golden", "corpus/train.tokens")],
)
def test_the_wheel_carries_numbers_and_vectors_byte_for_byte(wheel, inside, outside, one):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{inside}/")]
        carried = {name.removeprefix(f"{inside}/"): archive.read(name) for name in names}
    files = [path for path in (ROOT / outside).rglob("*") if path.is_file()]
    assert carried == {str(path.relative_to(ROOT / outside)): path.read_bytes() for path in files}
    assert one in carried


def test_a_chapter_runs_after_a_cell_that_installs_the_package(wheel, tmp_path):
    """As in Colab: a bare kernel in a folder without the repository, and a first cell with pip."""
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    chapter = nbformat.read(ROOT / "book" / "alibi.ipynb", as_version=4)
    install = f"%pip install --quiet --no-deps --no-index --target {target} {wheel}"
    chapter.cells.insert(0, new_code_cell(install))
    chapter.cells.append(new_code_cell("import alibi\nprint(alibi.__file__)"))
    nbformat.write(chapter, elsewhere / "chapter.ipynb")
    settings = {"PYTHONPATH": str(target), "ALIBI_SMOKE": "2", "ALIBI_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "papermill", "chapter.ipynb", "executed.ipynb", "--no-progress-bar"]
    command += ["--start-timeout", str(HANGS_AFTER)]
    run(*command, cwd=elsewhere, env=os.environ | settings)
    executed = nbformat.read(elsewhere / "executed.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text.strip() == str(target / "alibi" / "__init__.py")


def test_environment_file_holds_python_pip_and_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, under_pip = environment["dependencies"]
    version = python.removeprefix("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert pip == "pip"
    assert under_pip == {"pip": ["--constraint constraints.txt", "--editable ."]}
    assert environment["name"] == PROJECT["name"]


def test_each_dependency_has_a_pinned_version_that_is_accepted():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = PROJECT["optional-dependencies"]
    for text in PROJECT["dependencies"] + extras["tensorboard"] + extras["pdf"] + extras["test"]:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            continue
        assert requirement.specifier.contains(pins[requirement.name]), text
    assert not [name for name, pin in pins.items() if "+" in pin], "a local version exists on one machine only"


@pytest.mark.parametrize(("target", "command"), [("book", "python -m alibi book"), ("test", "python -m pytest")])
def test_the_two_commands_set_up_what_they_need(target, command):
    told = run("make", "--dry-run", "--always-make", target, cwd=ROOT)
    assert (
        told.index("python3 -m venv .venv")
        < told.index('--editable ".[test]" --constraint constraints.txt')
        < told.index(command)
    )


def test_a_python_that_is_too_old_is_refused(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    old = tmp_path / "python3.9"
    shim = 'import sys; sys.version_info, sys.version = (3, 9, 2), "3.9.2 (old)"; exec(sys.argv.pop(2))'
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{shim}' \"$@\"\n")
    old.chmod(0o755)
    done = subprocess.run(["make", "book", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr and "3.9.2" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["version"] == PROJECT["version"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Press", "Smith", "Lewis"]
    bibliography = (ROOT / "book" / "references.bib").read_text()
    assert re.search(r"press2022alibi.*?{{" + re.escape(paper["title"]), bibliography, re.DOTALL)
    assert paper["identifiers"][0]["value"] == "arXiv:2108.12409" and "{2108.12409}" in bibliography


def test_the_archive_and_the_citation_tell_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    archive = json.loads((ROOT / ".zenodo.json").read_text())
    for name in ("title", "version", "license", "keywords"):
        assert archive[name] == citation[name]
    assert [creator["name"] for creator in archive["creators"]] == [author["name"] for author in citation["authors"]]
    (paper,) = archive["related_identifiers"]
    assert paper["identifier"] == citation["references"][0]["identifiers"][0]["value"]


def test_the_readme_shows_the_headline_figure_of_the_introduction():
    assert "](book/headline.png)" in (ROOT / "README.md").read_text()
    cells = {cell.id: cell for cell in nbformat.read(ROOT / "book" / "intro.ipynb", 4).cells}
    (figure,) = [output.data["image/png"] for output in cells["headline"].outputs]
    assert base64.b64decode(figure) == (ROOT / "book" / "headline.png").read_bytes()


def test_the_readme_lists_every_room():
    tree = (ROOT / "README.md").read_text()
    for path in sorted((ROOT / "alibi").iterdir()):
        if (path / "__init__.py").is_file():
            assert re.search(rf"^  {path.name}/ +\w", tree, re.MULTILINE), path.name


def test_the_readme_shows_the_verdicts_that_the_records_support():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| the paper's claim | verdict |" in readme
    assert with_verdicts(readme) == readme, "make notebooks writes them"

"""The pages of reference: every command's help as it is printed, and every module that the chapters import."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT
from sphinx.ext.napoleon import Config, GoogleDocstring

from alibi.book import reference
from alibi.commands import COMMANDS

PAGE = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
# The book's own and the reproduction's: nothing else imports them.
INNER = ("alibi.book", "alibi.reproduction", "alibi.speed")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_fits_its_page(name):
    told = reference.help_of(name)
    assert told.startswith(f"usage: python -m alibi {name} ") and "show this help message" in told
    # But for commands to be copied, which are set in.
    assert max(len(line) for line in told.splitlines() if not line.startswith("    ")) <= reference.COLUMNS


def test_the_page_has_every_word_of_the_help():
    command = [sys.executable, "-m", "alibi", "reproduce", "--help"]
    printed = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=True).stdout
    _, described = re.sub(r"[─│╭╮╰╯-]{2,}|[│╭╮╰╯]", " ", printed).split("\n\n", 1)
    expected = re.sub(r"\W+", " ", described).split()
    found = re.sub(r"\W+", " ", reference.help_of("reproduce").split("\n\n", 1)[1]).split()
    assert found == expected


def test_every_module_that_chapters_import_is_described():
    texts = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("book/*.ipynb"), ROOT / "README.md")]
    imported = {name for text in texts for name in re.findall(r"from (alibi[\w.]*) import", text)}
    described = re.findall(r"^\.\. automodule:: (\S+)$", PAGE, re.MULTILINE)
    assert {name for name in imported if not name.startswith(INNER)} <= set(described)
    assert described == re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)


def test_a_docstring_as_sphinx_reads_it():
    lines = [
        "The `slope` $m$ of $n$ = `heads`:",
        "",
        "    2 ** -x",
        "",
        "$$m =",
        "2^{-x}$$",
        "",
        "Args:",
        "    n: any.",
    ]
    reference.as_restructured_text(None, "function", "f", None, None, lines)
    text = "\n".join(lines)
    assert text.startswith("The ``slope`` :math:`m` of :math:`n` = ``heads``::\n\n    2 ** -x")
    assert "\n.. math::\n\n   m = 2^{-x}\n" in text and text.endswith("Args:\n    n: any.")


def test_the_first_words_of_an_attribute_are_not_its_type():
    lines = ["Kernel: automatic, or a name; see `KERNELS`: all of them.", "More: none."]
    reference.as_restructured_text(None, "attribute", "kernel", None, None, lines)
    read = str(GoogleDocstring(lines, Config(napoleon_use_ivar=True), what="attribute", name="kernel", obj=None))
    assert "type" not in read
    assert " ".join(read.split()) == "Kernel: automatic, or a name; see ``KERNELS``: all of them. More: none."

"""Reference pages that the site makes from the code: each command's help, and the docstrings of the package."""

import io
import os
import re
from contextlib import redirect_stdout, suppress
from textwrap import wrap
from typing import Any
from unittest.mock import patch

import tyro
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from alibi.commands import COMMANDS

# Letters in a line of a command's help, as many as a page of 1400 pixels shows.
COLUMNS = 84
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
# A formula, or code in single quotes.
MARKED = re.compile(r"\$([^$\n]+)\$|(?<![`:])`([^`\n]+)`(?!`)")
# A line that ends with a colon, then indented lines: they are shown unchanged, in a fixed width.
SET_IN = re.compile(r"^( *)(\S.*):\n\n(?=\1 {4}\S)", re.MULTILINE)
# Napoleon takes the words before a colon in an attribute's first line for its type.
COLON = re.compile(r"^(.*?:) +(?=\S)")


def setup(app: Sphinx) -> None:
    """Registers the directive `commands`, and the reading of docstrings, with Sphinx."""
    app.add_directive("commands", Commands)
    # Runs before napoleon, which takes the sections of docstrings apart.
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)


def help_of(name: str) -> str:
    """The output of `python -m alibi NAME --help`, in lines of at most `COLUMNS` letters.

    Args:
        name: a name of `alibi.commands.COMMANDS`.
    """
    out = io.StringIO()
    plain = {"COLUMNS": str(COLUMNS), "TERM": "dumb", "NO_COLOR": "1"}
    with patch.dict(os.environ, plain), redirect_stdout(out), suppress(SystemExit):
        tyro.cli(COMMANDS[name], prog=f"python -m alibi {name}", args=["--help"])
    lines = []
    for line in (line.rstrip() for line in out.getvalue().splitlines()):
        # tyro folds the text of options, but not the text before them.
        lines += [line] if len(line) <= COLUMNS or line.startswith(" ") else wrap(line, COLUMNS)
    return "\n".join(lines).strip()


class Commands(SphinxDirective):
    """A section for each command: its help."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        sections: list[nodes.Node] = []
        for name in COMMANDS:
            section = nodes.section(ids=[name], names=[name])
            section += nodes.title(text=name)
            section += nodes.literal_block(text=help_of(name), language="text")
            sections.append(section)
        return sections


def as_restructured_text(app: Sphinx | None, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Rewrites in place a docstring's formulas and code, which are marked as in Markdown."""
    if what == "attribute" and lines:
        lines[:1] = COLON.sub(r"\1\n", lines[0]).split("\n")
    text = FORMULA.sub(lambda found: "\n.. math::\n\n   " + " ".join(found[1].split()) + "\n", "\n".join(lines))
    text = MARKED.sub(lambda found: f":math:`{found[1]}`" if found[1] else f"``{found[2]}``", text)
    lines[:] = SET_IN.sub(r"\1\2::\n\n", text).split("\n")

"""Figures that move: the chapter holds their data, and on the site a script of this folder draws them.

A cell draws the still figure and ends with `widget(...)`. The site's page then shows the moving figure in place of the
still one; the still one stays in a notebook, in print and without scripting.
"""

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from IPython.display import HTML, display

from alibi.errors import UnknownNameError

FOLDER = Path(__file__).parent
SHARED = "shared.js"
# Scripts that draw nothing: a figure computes with them.
PARTS = {"try-it": ("bytepairs.js", "decoder.js")}
NAMES = tuple(
    sorted(path.stem for path in FOLDER.glob("*.js") if path.name not in (SHARED, *chain.from_iterable(PARTS.values())))
)
MARK = 'data-widget="{}"'
# A kind of output: texts by their paths below `_static`, which go into the site, not into the notebook.
SITE_FILES = "application/vnd.alibi.site-files+json"
SITE_FOLDER = "site-files"


def widget(name: str, data: Mapping[str, Any]) -> HTML:
    """The container of a moving figure, which holds only its data: `alibi.book.site` gives the page its script.

    Args:
        name: name of its script in this folder.
        data: data of the figure: numbers, texts, lists and mappings.

    Raises:
        ValueError: for an unknown name, and for an infinite number or one that is not a number.
    """
    if name not in NAMES:
        raise UnknownNameError("moving figure", name, NAMES)
    # A text with "</script>" in it would end the element.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("</", "<\\/")
    return HTML(f'<div class="widget" {MARK.format(name)} hidden><script type="application/json">{text}</script></div>')


def give_to_site(files: Mapping[str, str]) -> None:
    """Puts files into the site that is built from this execution: data that are too large for a notebook.

    Args:
        files: texts, by their paths below the site's `_static`.
    """
    display({SITE_FILES: dict(files), "text/plain": f"{len(files)} files for the site"}, raw=True)


def scripts(page: str) -> list[str]:
    """The script files that the HTML of a page needs, in the order in which they run."""
    needed = [script for name in NAMES if MARK.format(name) in page for script in (*PARTS.get(name, ()), f"{name}.js")]
    return [SHARED, *needed] if needed else []

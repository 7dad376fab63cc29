"""Figures that move: the chapter holds their data, and on the site a script of this folder draws them.

A cell draws the still figure, and the next one is `widget(...)`. The site's page then shows the moving figure in the
place of the still one, above its caption; in a notebook, in print and where scripting is off the still one stays.
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
READING_SCRIPTS = ("bytepairs.js", "decoder.js", "reader.js")
PARTS = dict.fromkeys(("try-here", "try-it"), READING_SCRIPTS)
NAMES = tuple(
    sorted(path.stem for path in FOLDER.glob("*.js") if path.name not in (SHARED, *chain.from_iterable(PARTS.values())))
)
MARK = 'data-widget="{}"'
# A kind of output: texts by their paths below `_static`, which go into the site, not into the notebook.
SITE_FILES = "application/vnd.alibi.site-files+json"
SITE_FOLDER = "site-files"
# A kind of output beside a picture: its drawing and numbers by the ends of their names, for the site alone.
FIGURE_FILES = "application/vnd.alibi.figure-files+json"
FIGURE_FOLDER = "figures"


def widget(name: str, data: Mapping[str, Any]) -> HTML:
    """The container of a moving figure, which holds only its data: `alibi.book.site` gives the page its script.

    Args:
        name: name of its script in this folder.
        data: data of the figure: numbers, texts, lists and mappings.

    Raises:
        InputError: for an unknown name, and for an infinite number or one that is not a number.
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

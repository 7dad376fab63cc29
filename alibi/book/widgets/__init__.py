"""Figures that move: the chapter holds their data, and on the site a script of this folder draws them.

A cell draws the still figure and ends with `widget(...)`. The site's page then shows the moving figure in the place of
the still one; in a notebook, in print and where scripting is off the still one stays.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.display import HTML

from alibi.errors import UnknownNameError

FOLDER = Path(__file__).parent
SHARED = "shared.js"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.js") if path.name != SHARED))
MARK = 'data-widget="{}"'


def widget(name: str, data: Mapping[str, Any]) -> HTML:
    """The container of a moving figure, empty but for its data: `alibi.book.site` gives the page its script.

    Args:
        name: of its script in this folder.
        data: what the script draws; numbers, texts, lists and mappings.

    Raises:
        ValueError: for an unknown name, and for an infinite number or one that is not a number.
    """
    if name not in NAMES:
        raise UnknownNameError("moving figure", name, NAMES)
    # A text with "</script>" in it would end the element.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("</", "<\\/")
    return HTML(f'<div class="widget" {MARK.format(name)} hidden><script type="application/json">{text}</script></div>')


def scripts(page: str) -> list[str]:
    """The script files that the HTML of a page needs, in the order in which they run."""
    needed = [f"{name}.js" for name in NAMES if MARK.format(name) in page]
    return [SHARED, *needed] if needed else []

"""Source code of the package in a chapter."""

import inspect
import textwrap
from typing import Any

from IPython.display import Markdown


def listing(thing: Any) -> Markdown:
    """The source of an imported function, class or method as Markdown, which the site highlights."""
    return Markdown(f"```python\n{textwrap.dedent(inspect.getsource(thing)).rstrip()}\n```")

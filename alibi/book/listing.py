"""The code that runs, shown in a chapter."""

import inspect
import textwrap
from typing import Any

from IPython.display import Markdown


def listing(thing: Any) -> Markdown:
    """The source of a function, class or method as it is imported here, highlighted when the site is built."""
    return Markdown(f"```python\n{textwrap.dedent(inspect.getsource(thing)).rstrip()}\n```")

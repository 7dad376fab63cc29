"""What error messages quote of a user's text, on one line and never longer than a few hundred characters."""

import reprlib
from collections.abc import Collection

_BOUNDED = reprlib.Repr()
_BOUNDED.maxlevel, _BOUNDED.maxstring, _BOUNDED.maxother, _BOUNDED.maxlong = 2, 80, 80, 80


def quoted(value: object) -> str:
    """The value as Python writes it; of a long one the beginning, and of a long string the end too."""
    return _one_line(_BOUNDED.repr(value), 500)


def listed(names: Collection[object], most: int = 20) -> str:
    """Names with commas between them; of more than `most`, the number of those that are left out."""
    shown = ", ".join(_one_line(name, 100) for name in list(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def told(error: BaseException) -> str:
    """The kind of an error of a library and what it says."""
    return f"{type(error).__name__}: {_one_line(error, 500)}"


def bounded(text: str, most: int = 2000) -> str:
    """The text without the middle of its long lines: the fault stands at their beginning, the remedy at their end."""
    half = most // 2
    lines = text.split("\n")
    return "\n".join(line if len(line) <= most else f"{line[: half - 3]}...{line[-half:]}" for line in lines)


def _one_line(what: object, most: int) -> str:
    text = " ".join(str(what).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."

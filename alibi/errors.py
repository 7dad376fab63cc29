"""What a user can mend: one base class, told in one line. Whatever else is raised is a fault of ours and shows where.

What a message quotes of a user's text stands on one line and is never longer than a few hundred characters.
"""

import reprlib
from collections.abc import Collection
from typing import ClassVar


class UserError(Exception):
    """What the user can mend; the message says how. The command line prints it in one line, without a traceback."""

    exit_status: ClassVar[int] = 1


class InputError(UserError, ValueError):
    """A name that is not known, or a value that can't be."""

    exit_status = 2


class UnknownNameError(InputError):
    """A name that is not known: "unknown corpus 'x'; choose from a, b"."""

    def __init__(self, what: str, name: object, known: Collection[object]) -> None:
        super().__init__(f"unknown {what} {quoted(name)}; choose from {listed(known)}")


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

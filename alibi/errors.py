"""Errors that a user can mend: one base class, printed in one line. Any other error is a bug and shows its traceback.

Messages quote a user's text on one line, in a few hundred characters at most.
"""

import reprlib
from collections.abc import Collection
from typing import ClassVar


class UserError(Exception):
    """An error that the user can mend; its message says how. The command line prints it without a traceback."""

    exit_status: ClassVar[int] = 1


class InputError(UserError, ValueError):
    """An unknown name or an impossible value."""

    exit_status = 2


class UnknownNameError(InputError):
    """An unknown name: "unknown corpus 'x'; choose from a, b"."""

    def __init__(self, what: str, name: object, known: Collection[object]) -> None:
        super().__init__(f"unknown {what} {quoted(name)}; choose from {listed(known, 40)}")


_BOUNDED = reprlib.Repr()
_BOUNDED.maxlevel, _BOUNDED.maxstring, _BOUNDED.maxother, _BOUNDED.maxlong = 2, 80, 80, 80


def quoted(value: object) -> str:
    """The value as Python writes it; a long value is cut, a long string in its middle."""
    return _one_line(_BOUNDED.repr(value), 500)


def listed(names: Collection[object], most: int = 20) -> str:
    """Names with commas between them: the first `most`, and the number of the others."""
    shown = ", ".join(_one_line(name, 100) for name in list(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def told(error: BaseException) -> str:
    """The type and message of a library's error."""
    return f"{type(error).__name__}: {_one_line(error, 500)}"


def bounded(text: str, most: int = 2000) -> str:
    """The text with long lines cut in the middle: they begin with the fault and end with the remedy."""
    half = most // 2
    lines = text.split("\n")
    return "\n".join(line if len(line) <= most else f"{line[: half - 3]}...{line[-half:]}" for line in lines)


def _one_line(what: object, most: int) -> str:
    text = " ".join(str(what).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."

"""Progress of work: a bar at a terminal and in a notebook, a line a minute in a log.

Work goes on when nobody reads its output any more.
"""

import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from tqdm import tqdm

SECONDS_A_LINE = 60.0


class _Lines:
    """A log: each drawing of a bar becomes a line, without the codes that move the cursor."""

    def __init__(self) -> None:
        self.encoding = getattr(sys.stderr, "encoding", "ascii")

    def write(self, text: str) -> None:
        if drawing := text.replace("\x1b[A", "").strip():
            with suppress(OSError):
                sys.stderr.write(f"{drawing}\n")

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def drawn() -> bool:
    """Whether stderr redraws a bar in place, as a terminal and a notebook do."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")


def in_lines() -> dict[str, Any]:
    """Options of a tqdm that writes a line a minute into a log instead of a bar."""
    return {"file": _Lines(), "mininterval": SECONDS_A_LINE, "maxinterval": SECONDS_A_LINE}


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> "tqdm[Any]":
    """A tqdm with these options, drawn in place or, in a log, a line a minute. Refresh it by `update` alone."""
    return tqdm(iterable, **options | ({} if drawn() else in_lines()))


def say(message: str) -> None:
    """Writes a line to stderr, above the bars."""
    with suppress(OSError):
        tqdm.write(message, sys.stderr)


@cache
def say_once(message: str) -> None:
    """Like `say`, but each message is written only once."""
    say(message)


def duration(seconds: float) -> str:
    """The time in a readable unit: 40 s, 12 min, 3.5 h, 20 days or 480 years."""
    for size, unit in ((365 * 86_400, "years"), (86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{three_digits(seconds / size)} {unit}"
    return f"{seconds:.0f} s"


def three_digits(value: float) -> str:
    """Three significant digits, or all before the point: 0.0114, 16.3 or 1,030."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"

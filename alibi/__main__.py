"""The command line: python -m alibi data | train | evaluate | generate | verify | bench | reproduce | ... | book."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import tyro

from alibi.commands import COMMANDS, SHARED_BY_PROCESSES
from alibi.errors import InputError, UserError, bounded
from alibi.files import NO_ROOM
from alibi.interruption import raised

PROGRAM = "python -m alibi"


def main() -> None:
    """Runs a command. It prints a user's error in one line; any other error is a bug and shows its traceback.

    Exit status 2: a wrong name or value. 1: the command failed. 75: stopped; finished work is kept, and the same
    command goes on. 128 plus the number of a signal: ended by that signal, as in shells.
    """
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the console can't show is replaced, instead of ending the command.
        sys.stdout.reconfigure(errors="replace")
    try:
        with raised():
            try:
                commands = {name: _called(name, command) for name, command in COMMANDS.items()}
                tyro.extras.subcommand_cli_from_dict(commands, prog=PROGRAM, description=__doc__)
            finally:
                sys.stdout.flush()
    except KeyboardInterrupt as stop:
        name = str(stop) or signal.SIGINT.name
        sys.exit(_tell(f"ended by {name}", 128 + signal.Signals[name]))
    except BrokenPipeError:
        if not _unread():
            raise
        sys.exit(128 + 13)  # SIGPIPE, which Windows lacks.
    except OSError as wrong:
        mended = wrong.errno in (errno.EROFS, errno.EACCES, errno.ENAMETOOLONG) and wrong.filename
        full = wrong.errno in NO_ROOM
        if not full and not mended:
            raise
        if full:
            _discard_stdout()
        used = "written" if full or wrong.errno == errno.EROFS else "used"
        status = 2 if wrong.errno == errno.ENAMETOOLONG else 1
        sys.exit(_tell(f"{wrong.filename or 'stdout'} can't be {used}: {wrong.strerror}", status))
    except UserError as wrong:
        sys.exit(_tell(wrong, wrong.exit_status))


def _open_closed_streams() -> None:
    """Opens the null device for stdin, stdout or stderr if the process was started without it.

    Otherwise the next opened file would get the stream's descriptor, and a library's messages with it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            file = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(file.fileno(), True)
            setattr(sys, name, file)


def _called(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """The command with its paths expanded; an error if torchrun starts a command for one process."""
    from alibi.paths import expanded

    @wraps(command)
    def with_expanded(**values: Any) -> None:
        if "TORCHELASTIC_RUN_ID" in os.environ and name not in SHARED_BY_PROCESSES:
            raise InputError(f"{name} takes one process: start it without torchrun")
        for option, value in values.items():
            # As from an unset variable of the shell: the path would be the working directory.
            if value == Path() and {"", f"--{option}="} & {*sys.argv}:
                raise InputError(f"the path {option} is empty: name a folder or a file, or . for this folder")
        command(**{name: expanded(value) if isinstance(value, Path) else value for name, value in values.items()})

    return with_expanded


def _unread() -> bool:
    """Whether nobody reads stdout any more, as after `| head`; if so, the rest of its text is discarded."""
    try:
        print(flush=True)
    except BrokenPipeError:
        _discard_stdout()
        return True
    return False


def _discard_stdout() -> None:
    """Sends stdout to the null device, so that Python's own flush at exit does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(what: object, status: int) -> int:
    print(f"{PROGRAM}: {bounded(str(what))}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()

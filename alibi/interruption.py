"""Ctrl-C and other requests to end: how a command, a training run and a child process answer them.

One interruption may arrive as several signals: a terminal, `make`, Slurm and systemd signal every process of a group,
and a parent also ends its children. So repeated SIGTERMs count once, children leave SIGINT to their parent, and only a
second SIGINT, which a person types, ends a process in the middle of its work.
"""

import _thread
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

from alibi.errors import UserError

# EX_TEMPFAIL of sysexits.h: try again. A batch script can requeue its job at this status.
TRY_AGAIN = 75
# A closing terminal sends SIGHUP on POSIX, SIGBREAK on Windows.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, n)]
# Spawned, because a forked process inherits torch's threads in an unknown state.
CONTEXT = multiprocessing.get_context("spawn")

Handler = Callable[[int, FrameType | None], None]


class UnfinishedError(UserError, RuntimeError):
    """The work stopped early; finished parts are kept, and the same command goes on."""

    exit_status = TRY_AGAIN


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    # Only the main thread may set handlers. Signals that the parent had ignored, as nohup does, stay ignored.
    main = threading.current_thread() is threading.main_thread()
    chosen = [number for number in SIGNALS if main and signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, handler) for number in chosen}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def noted() -> Iterator[list[signal.Signals]]:
    """Notes requests to end in a list, for work that chooses where it ends.

    Raises:
        KeyboardInterrupt: at the second SIGINT.
    """
    received: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in received:
            raise KeyboardInterrupt(signal.SIGINT.name)
        received.append(signal.Signals(number))

    with _handled(note):
        yield received


@contextmanager
def raised() -> Iterator[None]:
    """A signal raises KeyboardInterrupt with its name in the block, so that context managers and finally clauses run.

    After the first signal only SIGINT raises again.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT or len(received) == 1:
            raise KeyboardInterrupt(signal.Signals(number).name)

    with _handled(receive):
        yield


# Child processes ----------------------------------------------------------------------------------------------------


class Lifeline:
    """A pipe to spawned children: they end when it is cut, and when this process ends in any way."""

    def __init__(self) -> None:
        self.end_of_children, self._end_here = CONTEXT.Pipe(duplex=False)

    def cut(self) -> None:
        """Stops the children; a training run finishes its step and saves a checkpoint."""
        self._end_here.close()


def follow(end: Connection) -> None:
    """Ends this process, a child, when its parent cuts the lifeline; a child calls it first.

    It ends by SystemExit with `TRY_AGAIN`; under `noted`, when the work sees the noted SIGTERM.

    Args:
        end: `Lifeline.end_of_children`.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_watch, args=(end,), daemon=True).start()


def _exit(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(TRY_AGAIN)


def _watch(end: Connection) -> None:
    wait([end])
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)


@contextmanager
def starting() -> Iterator[None]:
    """Blocks signals while a child starts: until it calls `follow`, a signal would end it with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # The tracker starts with the first child and unblocks signals then.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _task(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return work(*arguments, **named)
    except SystemExit:
        # The executor would take this for the task's failure and start the next one. And it would read the queue, in
        # which another process may have left half a message: that one was waiting for it when it was ended.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(TRY_AGAIN)


class Pool(ProcessPoolExecutor):
    """Spawned processes that end with this one; Ctrl-C or another request to end stops them at once.

    After an ordinary exception, running tasks finish and waiting tasks are dropped.
    """

    def __init__(self, workers: int, tasks_per_child: int | None = None) -> None:
        self.lifeline = Lifeline()
        super().__init__(
            workers, CONTEXT, follow, (self.lifeline.end_of_children,), max_tasks_per_child=tasks_per_child
        )

    def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
        """Submits a task, as a `ProcessPoolExecutor` does."""
        with starting():
            return super().submit(_task, *arguments, **named)

    def __exit__(self, kind: type[BaseException] | None, *told: Any) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.lifeline.cut()
        self.shutdown(cancel_futures=kind is not None)
        self.lifeline.cut()

"""Runs missing cells of experiments and appends records; it may be stopped at any moment.

A cell is a training run and its evaluations. Cells run side by side, each in its own process. A stopped run goes on
from its checkpoint, a finished evaluation is not repeated, and a cell's records are appended together at its end. Cells
of several experiments that need the same run train it once. A cell that answers `begun` with no, such as a measurement
of speed or a small model of retrieval, begins again.
"""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from alibi.configuration import require_device
from alibi.device import cores
from alibi.errors import InputError, UserError, listed
from alibi.files import locked
from alibi.interruption import CONTEXT, TRY_AGAIN, Lifeline, UnfinishedError, follow, noted, starting
from alibi.paths import cache_folder, check_output, results_folder
from alibi.progress import duration, say
from alibi.records import measured_results
from alibi.reproduction.cells import Cell
from alibi.reproduction.choice import NamedCell
from alibi.reproduction.merging import append_unrecorded
from alibi.run_spec import Bookkeeping
from alibi.scale import scale_named


class ReproduceError(UserError, RuntimeError):
    """Some of the requested cells could not be run."""


def check_minutes(minutes: float) -> None:
    """Checks a limit of time; 0 sets none.

    Raises:
        InputError: if it is below 0 or not finite.
    """
    if not 0 <= minutes < math.inf:
        raise InputError(f"minutes={minutes}: choose a number of at least 0; 0 sets no limit")


def reproduce(chosen: Sequence[NamedCell], minutes: float = 0) -> None:
    """Runs the cells that are not recorded, in their order, until all are done or the time is up.

    Args:
        chosen: cells, each with the experiment that gets its records.
        minutes: after this time the running cells are stopped and can be resumed; 0 sets no limit.

    Raises:
        ReproduceError: if cells failed, after all others were run.
        alibi.interruption.UnfinishedError: if the time was up, or a signal came, before all were run; it names those
            that failed.
        UserError: if `minutes` is out of range, a corpus is missing, or the records can't be written.
        KeyboardInterrupt: at the second SIGINT.
    """
    check_minutes(minutes)
    records = {}
    for name in dict.fromkeys(name for name, _ in chosen):
        check_output(results_folder() / f"{name}.csv", make_folder=True)
        records[name] = measured_results(name)
    _side_by_side([(name, cell) for name, cell in chosen if not cell.recorded(records[name])], minutes)


def fill_cache(chosen: Sequence[Cell]) -> None:
    """Trains and evaluates the parts of these cells that the cache lacks, without records: for the chapters' live runs.

    Raises:
        ReproduceError: if cells failed.
        alibi.interruption.UnfinishedError: if a signal came, so that nothing is built on half a cache.
        KeyboardInterrupt: at the second SIGINT.
    """
    _side_by_side([("", cell) for cell in chosen], 0)


def _named(experiment: str, cell: Cell) -> str:
    return f"{experiment}: {cell.title}" if experiment else cell.title


def _prepared(chosen: Sequence[NamedCell]) -> tuple[list[NamedCell], list[str]]:
    """The cells whose device and texts are here, prepared, and the names of the others, whose reasons are told.

    Raises:
        UserError: if no cell has them.
    """
    faults: dict[tuple[str | None, ...], UserError] = {}
    ready, left = [], []
    for name, cell in chosen:
        needed = cell.device, *cell.texts
        if needed not in faults:
            try:
                require_device(cell.scale, cell.device)
                cell.prepare()
                ready.append((name, cell))
                continue
            except UserError as wrong:
                faults[needed] = wrong
        left.append((needed, _named(name, cell)))
    if left and not ready:
        raise next(iter(faults.values()))
    for needed, fault in faults.items():
        say(f"not run, while the others are: {listed([named for of, named in left if of == needed], 3)}: {fault}")
    return ready, [named for _, named in left]


def _side_by_side(chosen: Sequence[NamedCell], minutes: float) -> None:
    waiting, unprepared = _prepared(chosen)
    failed = [f"{named} (not prepared)" for named in unprepared]
    deadline = time.monotonic() + 60 * minutes if minutes else None
    every, done, why = len(chosen), 0, ""
    running: dict[SpawnProcess, tuple[str, Cell, float]] = {}
    lifeline = Lifeline()
    try:
        with noted() as received:
            while waiting or running:
                over = deadline is not None and time.monotonic() >= deadline
                if received or over:
                    why = f"{received[0].name}: " if received else f"{minutes:g} minutes are over: "
                    waiting.clear()
                    lifeline.cut()
                while (following := _next(waiting, [cell for _, cell, _ in running.values()])) is not None:
                    name, cell = waiting.pop(following)
                    row = min(set(range(len(running) + 1)) - {int(process.name) for process in running})
                    arguments = (name, cell, row, lifeline.end_of_children)
                    process = CONTEXT.Process(target=_work, args=arguments, name=str(row))
                    with starting():
                        process.start()
                    running[process] = name, cell, time.monotonic()
                if running:
                    wait([process.sentinel for process in running], timeout=1)
                for ended in [process for process in running if not process.is_alive()]:
                    name, cell, started = running.pop(ended)
                    if ended.exitcode == TRY_AGAIN:
                        continue
                    told = "recorded" if name else "done"
                    if ended.exitcode == 0:
                        done += 1
                    else:
                        told = f"failed (exit status {ended.exitcode})"
                        failed.append(f"{_named(name, cell)} (exit status {ended.exitcode})")
                    took = duration(time.monotonic() - started)
                    say(f"{done + len(failed)} of {every}: {_named(name, cell)}: {told} after {took}")
    finally:
        for left in running:
            left.kill()
    if done + len(failed) < every:
        of = f" of {names[0]}" if len(names := list({name for name, _ in chosen})) == 1 and names[0] else ""
        among = f", {len(failed)} of them failed: {'; '.join(failed)}" if failed else ""
        raise UnfinishedError(f"{why}{every - done} of {every} cells{of} are left{among}; the same command goes on")
    if failed:
        raise ReproduceError(f"{len(failed)} cells failed: {'; '.join(failed)}; the others were run")


def _next(waiting: Sequence[NamedCell], running: Sequence[Cell]) -> int | None:
    """Index of the waiting cell that may start now: the first whose run no other cell is training, if there is room."""
    trained = {cell.trains for cell in running if cell.trains is not None}
    for number, (_, cell) in enumerate(waiting):
        if cell.trains not in trained:
            return number if len(running) < min(_at_a_time(each) for each in [cell, *running]) else None
    return None


def _at_a_time(cell: Cell) -> int:
    threads, here = scale_named(cell.scale).threads, cores()
    return 1 if cell.alone or cell.device != "cpu" else max(1, here // (threads or here))


@contextmanager
def _measuring() -> Iterator[None]:
    """Refuses a second measurement of the same cache folder: side by side, each would slow the other."""
    from filelock import Timeout

    lock = cache_folder() / "locks" / "measurement.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(lock, timeout=0):
            yield
    except Timeout as held:
        raise ReproduceError(
            f"another process measures speed or memory and holds {lock}: both would be slowed; wait until it ends"
        ) from held


def _work(experiment: str, cell: Cell, row: int, end: Connection) -> None:
    follow(end)
    try:
        if experiment and cell.recorded(measured_results(experiment)):
            return  # By another command meanwhile.
        with _measuring() if cell.alone else nullcontext():
            records = cell.records(Bookkeeping(bar_row=row))
        if experiment:
            append_unrecorded(experiment, records)
    except UserError as wrong:
        say(f"{_named(experiment, cell)}: {wrong}")
        sys.exit(wrong.exit_status)

"""Runs what is missing of an experiment, most valuable first, and appends records; it may be stopped at any moment.

A cell is a training run and its evaluations. Cells run side by side, each in a process of its own; a run that was
stopped goes on from its checkpoint, an evaluation that was made is not made again, and a cell's records are appended
once all of them are there.
"""

import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from alibi.device import compute_dtype, matmul_rate, settle_cpu
from alibi.errors import InputError, UnknownNameError, UserError
from alibi.interruption import CONTEXT, TRY_AGAIN, Lifeline, UnfinishedError, follow, noted, starting
from alibi.paths import check_output, results_folder
from alibi.positions import METHODS
from alibi.progress import duration, say
from alibi.records import append, measured_results
from alibi.reproduction.cells import Cell
from alibi.reproduction.experiments import EXPERIMENTS
from alibi.run_spec import Bookkeeping
from alibi.scale import scale_named

# What runs of these sizes reach of the rate of large matrix products: a guess, for estimates alone.
USUAL_SHARE = 0.4


class ReproduceError(UserError, RuntimeError):
    """Some of the cells that were asked for could not be run."""


@dataclass(frozen=True)
class State:
    """A cell, whether its records are there, and what is left to pay for them."""

    cell: Cell
    recorded: bool
    begun: bool
    seconds: float
    """Estimate on this machine, with all that computes in it at work on it; 0 for a cell that is recorded."""
    absent: str | None
    """The corpus whose published sizes the estimate takes, since it is not here."""


def cells(
    experiment: str,
    scale: str,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    lengths: Sequence[int] = (),
    corpus: str | None = None,
) -> list[Cell]:
    """The cells of an experiment, most valuable first.

    Args:
        experiment: a name of `alibi.reproduction.experiments.EXPERIMENTS`.
        scale: a name of `alibi.scale.SCALES`.
        methods: only these position methods; empty takes all.
        seeds: 0 alone if empty.
        lengths: only these training lengths; empty takes all.
        corpus: what is trained and evaluated on; None takes the experiment's own text.

    Raises:
        ValueError: for an unknown name (the known are listed), or a choice that leaves no cell.
    """
    if experiment not in EXPERIMENTS:
        raise UnknownNameError("experiment", experiment, EXPERIMENTS)
    scale_named(scale)
    if unknown := [method for method in methods if method not in METHODS]:
        raise UnknownNameError("position method", unknown[0], METHODS)
    every = EXPERIMENTS[experiment](scale, tuple(dict.fromkeys(seeds)) or (0,), corpus)
    chosen = [
        cell
        for cell in every
        if set(cell.methods) & set(methods or METHODS) and cell.train_length in (lengths or [cell.train_length])
    ]
    if not chosen:
        has = sorted({(method, cell.train_length) for cell in every for method in cell.methods})
        raise InputError(
            f"{experiment} at scale {scale} has no such cell; it has {', '.join(f'{m} at {n}' for m, n in has)}"
        )
    return chosen


def states(experiment: str, chosen: Sequence[Cell]) -> list[State]:
    """What is recorded of these cells, and what the others will cost.

    The cost is an estimate: floating point operations, over `USUAL_SHARE` of this machine's rate of matrix products,
    measured now; of the scales for a GPU on the CPU where there is none. While something else runs that rate is low,
    and the estimate far too high.
    """
    records = measured_results(experiment)
    settle_cpu(multiprocessing.cpu_count())
    on_gpu = torch.cuda.is_available() and scale_named(chosen[0].scale).device == "cuda"
    device = "cuda" if on_gpu else "cpu"
    rate = matmul_rate(device, compute_dtype(device)) * USUAL_SHARE
    found = []
    for cell in chosen:
        if cell.recorded(records):
            found.append(State(cell, recorded=True, begun=False, seconds=0.0, absent=None))
        else:
            found.append(State(cell, False, cell.begun(), sum(cell.flops()) / rate, cell.absent))
    return found


def listing(found: Sequence[State]) -> str:
    """A line a cell with its state, and what is left in all."""
    lines = []
    for state in found:
        told = "recorded" if state.recorded else "begun" if state.begun else "missing"
        cost = "" if state.recorded else f"about {duration(state.seconds)}"
        steps = f"{state.cell.steps:,} steps" if state.cell.steps else ""
        lines.append(
            f"{told:9} {state.cell.title:36} {state.cell.measurements:3} evaluations  {cost:18} {steps}".rstrip()
        )
    for name in sorted({state.absent for state in found if state.absent}):
        lines.append(f"{name} is not here: the estimate takes its published sizes")
    if scale_named(found[0].cell.scale).device == "cuda" and not torch.cuda.is_available():
        lines.append("the scale is for a GPU, and torch sees none: the estimate is for this machine's CPU")
    left = [state for state in found if not state.recorded]
    total = duration(sum(state.seconds for state in left))
    lines.append(f"{len(found) - len(left)} of {len(found)} cells recorded; left: about {total} on this machine")
    return "\n".join(lines)


def reproduce(experiment: str, chosen: Sequence[Cell], minutes: float = 0) -> None:
    """Runs those of the cells that are not recorded, in their order, until done or the time is up.

    Args:
        experiment: whose records are appended to.
        chosen: from `cells`.
        minutes: after so many the cells at work are stopped, to be gone on with; 0 sets no limit.

    Raises:
        ReproduceError: if cells failed; the others were run all the same.
        alibi.interruption.UnfinishedError: if the time was up, or a signal came, before all were run.
        ValueError: if a corpus is not there, or the records can't be written.
        KeyboardInterrupt: at the second SIGINT.
    """
    check_output(results_folder() / f"{experiment}.csv", make_folder=True)
    records = measured_results(experiment)
    _side_by_side([cell for cell in chosen if not cell.recorded(records)], experiment, minutes)


def fill_cache(chosen: Sequence[Cell]) -> None:
    """Trains and evaluates what the cache lacks of these cells, and records nothing: for the chapters' live runs.

    Raises:
        ReproduceError: if cells failed.
        alibi.interruption.UnfinishedError: if a signal came, so that nothing is built on half a cache.
        KeyboardInterrupt: at the second SIGINT.
    """
    _side_by_side(list(chosen), "", 0)


def _side_by_side(waiting: list[Cell], experiment: str, minutes: float) -> None:
    for cell in waiting:
        cell.prepare()
    deadline = time.monotonic() + 60 * minutes if minutes else None
    every, done, failed, why = len(waiting), 0, [], ""
    running: dict[SpawnProcess, Cell] = {}
    lifeline = Lifeline()
    try:
        with noted() as received:
            while waiting or running:
                over = deadline is not None and time.monotonic() >= deadline
                if received or over:
                    why = f"{received[0].name}: " if received else f"{minutes:g} minutes are over: "
                    waiting.clear()
                    lifeline.cut()
                while waiting and len(running) < min(_at_a_time(cell) for cell in [waiting[0], *running.values()]):
                    row = min(set(range(len(running) + 1)) - {int(process.name) for process in running})
                    arguments = (experiment, waiting[0], row, lifeline.end_of_children)
                    process = CONTEXT.Process(target=_work, args=arguments, name=str(row))
                    with starting():
                        process.start()
                    running[process] = waiting.pop(0)
                if running:
                    wait([process.sentinel for process in running], timeout=1)
                for ended in [process for process in running if not process.is_alive()]:
                    cell = running.pop(ended)
                    if ended.exitcode == 0:
                        done += 1
                    elif ended.exitcode != TRY_AGAIN:
                        failed.append(f"{cell.title} (exit status {ended.exitcode})")
    finally:
        for left in running:
            left.kill()
    told = f" of {experiment}" if experiment else ""
    if failed:
        others = "the others were run" if done + len(failed) == every else f"{done} of {every} were run"
        raise ReproduceError(f"{len(failed)} cells{told} failed: {'; '.join(failed)}; {others}")
    if done < every:
        raise UnfinishedError(f"{why}{every - done} of {every} cells{told} are left; the same command goes on")


def _at_a_time(cell: Cell) -> int:
    scale, cores = scale_named(cell.scale), multiprocessing.cpu_count()
    return 1 if cell.alone or scale.device == "cuda" else max(1, cores // (scale.threads or cores))


def _work(experiment: str, cell: Cell, row: int, end: Connection) -> None:
    follow(end)
    try:
        records = cell.records(Bookkeeping(bar_row=row))
        if experiment:
            append(experiment, records)
    except UserError as wrong:
        say(f"{cell.title}: {wrong}")
        sys.exit(wrong.exit_status)
    say(f"{cell.title}: {'recorded' if experiment else 'done'}")

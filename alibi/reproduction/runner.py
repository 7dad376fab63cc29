"""Runs missing cells of experiments, most valuable first, and appends records; it may be stopped at any moment.

A cell is a training run and its evaluations. Cells run side by side, each in a process of its own; a run that was
stopped goes on from its checkpoint, an evaluation that was made is not made again, and a cell's records are appended
once all of them are there. Cells of several experiments that need the same run train it once.

The order of `cells` and the title of each are the same on every machine and do not depend on its records.
"""

import multiprocessing
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any

from alibi.device import absence, check_device, compute_dtype, is_here, matmul_rate, settle_cpu
from alibi.errors import InputError, UnknownNameError, UserError, listed, quoted
from alibi.interruption import CONTEXT, TRY_AGAIN, Lifeline, UnfinishedError, follow, noted, starting
from alibi.paths import check_output, results_folder
from alibi.planning import USUAL_SHARE
from alibi.positions import METHODS
from alibi.progress import duration, say
from alibi.records import MEASURED_COLUMNS, append, measured_results
from alibi.reproduction.cells import Cell
from alibi.reproduction.evidence import CONTROLS
from alibi.reproduction.experiments import EXPERIMENTS
from alibi.run_spec import Bookkeeping, RunSpec
from alibi.scale import scale_named

if TYPE_CHECKING:
    import pandas as pd

MOST_SEEDS = 1000


class ReproduceError(UserError, RuntimeError):
    """Some of the cells that were asked for could not be run."""


@dataclass(frozen=True)
class State:
    """A cell, whether its records are there, and the cost of those that are missing."""

    cell: Cell
    recorded: bool
    begun: bool
    seconds: float
    """Estimate on this machine, with all that computes in it at work on it; 0 for a cell that is recorded."""
    absent: str | None
    """The corpus whose published sizes the estimate takes, since it is not here."""
    experiment: str = ""
    claims: tuple[int | str, ...] = ()
    """Numbers of the claims, not yet measured, that wait for it."""
    refused: str = ""
    """Why it can't be run here; there is no estimate then."""

    @property
    def told(self) -> str:
        """Its state in a word."""
        return "recorded" if self.recorded else "refused" if self.refused else "begun" if self.begun else "missing"


def seeds_named(given: Sequence[str]) -> tuple[int, ...]:
    """The seeds that numbers and ranges such as 0-4 or 0,2,5-7 name, each once, in their order.

    Raises:
        InputError: for another spelling, which is shown, and for more than 1,000 seeds.
    """
    found: dict[int, None] = {}
    for part in ",".join(given).split(",") if given else ():
        first, dash, last = part.partition("-")
        numbers = [number for number in (first, last if dash else first) if number.isascii() and number.isdecimal()]
        if len(numbers) < 2 or int(numbers[0]) > int(numbers[1]):
            raise InputError(
                f"seeds {quoted(' '.join(given))}: {quoted(part)} is none; choose as in 0 1 2, 0-4 or 0,2,5-7"
            )
        if int(numbers[1]) - int(numbers[0]) >= MOST_SEEDS or int(numbers[1]) >= 2**64:
            raise InputError(f"seeds {quoted(part)}: choose at most {MOST_SEEDS:,} seeds, from 0 to 2**64 - 1")
        found |= dict.fromkeys(range(int(numbers[0]), int(numbers[1]) + 1))
    return tuple(found)


def shard_named(given: str | None) -> tuple[int, int]:
    """Number of a shard and of all shards, of a text such as 3/8; 1 of 1 for None.

    Raises:
        InputError: for another text, which is shown.
    """
    if given is None:
        return 1, 1
    parts = [part for part in given.split("/") if part.isascii() and part.isdecimal()]
    if len(parts) != 2 or given.count("/") != 1 or not 1 <= int(parts[0]) <= int(parts[1]):
        raise InputError(f"shard {quoted(given)}: choose I/N as in 3/8, with I from 1 to N")
    return int(parts[0]), int(parts[1])


def dealt(chosen: Sequence[tuple[str, Cell]], shard: tuple[int, int]) -> list[tuple[str, Cell]]:
    """The cells of this shard: the training runs are dealt out in their order, each with all cells that need it.

    So no two shards of the same choice have a cell, or train the same run; whatever is recorded, each has the same.
    """
    number, shards = shard
    keys = [cell.title if cell.trains is None else cell.trains for _, cell in chosen]
    order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return [named for named, key in zip(chosen, keys, strict=True) if order[key] % shards == number - 1]


def cells(
    experiment: str,
    scale: str,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    lengths: Sequence[int] = (),
    device: str | None = None,
    corpus: str | None = None,
) -> list[Cell]:
    """The cells of an experiment, most valuable first.

    Args:
        experiment: a name of `alibi.reproduction.experiments.EXPERIMENTS`.
        scale: a name of `alibi.scale.SCALES`.
        methods: only these position methods or controls; empty takes all.
        seeds: 0 alone if empty.
        lengths: only these training lengths; empty takes all.
        device: what runs them; the scale's own if left out.
        corpus: text for training and evaluation; None takes the experiment's own.

    Raises:
        ValueError: for an unknown name (the known are listed), or a choice that leaves no cell.
    """
    if experiment not in EXPERIMENTS:
        raise UnknownNameError("experiment", experiment, EXPERIMENTS)
    every = _every(experiment, scale, methods, seeds, device, corpus)
    if not (chosen := _chosen(every, methods, lengths)):
        has = sorted({(method, cell.train_length) for cell in every for method in cell.methods})
        raise InputError(
            f"{experiment} at scale {scale} has no such cell; it has {', '.join(f'{m} at {n}' for m, n in has)}"
        )
    return chosen


def _every(
    experiment: str, scale: str, methods: Sequence[str], seeds: Sequence[int], device: str | None, corpus: str | None
) -> list[Cell]:
    scale_named(scale)
    known = (*METHODS, *CONTROLS)
    if unknown := [method for method in methods if method not in known]:
        raise UnknownNameError("position method", unknown[0], known)
    every = EXPERIMENTS[experiment](scale, tuple(dict.fromkeys(seeds)) or (0,), corpus)
    if device is None:
        return every
    check_device(device)
    return [cell.on(device) for cell in every]


def _chosen(every: Iterable[Cell], methods: Sequence[str], lengths: Sequence[int]) -> list[Cell]:
    return [
        cell
        for cell in every
        if (not methods or set(cell.methods) & set(methods)) and cell.train_length in (lengths or [cell.train_length])
    ]


def plan(
    experiment: str,
    scale: str,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    lengths: Sequence[int] = (),
    device: str | None = None,
    corpus: str | None = None,
    shard: tuple[int, int] = (1, 1),
) -> list[State]:
    """The cells of an experiment or of all, in the order in which they are to be run, with what each will cost.

    The first seed comes before the others, and within a seed first what most claims wait for that are not yet measured
    (`alibi.reproduction.claims.needs`); of equals first what comes first in `cells`.

    Args:
        experiment: a name of `alibi.reproduction.experiments.EXPERIMENTS`, or "all".
        scale: as for `cells`, and so the others; with "all" an experiment that has no such cell is left out.
        methods: as for `cells`.
        seeds: as for `cells`.
        lengths: as for `cells`.
        device: as for `cells`.
        corpus: as for `cells`.
        shard: number of a shard, and of all: its cells alone, as `dealt` deals them.

    Raises:
        ValueError: as `cells` does; if the device that is asked for is not here, or the shard has no cell.
    """
    from alibi.reproduction import claims

    if device is not None and (missing := absence(device)):
        raise InputError(f"device {device} is asked for: {missing}; leave it out, or ask for cpu")
    chosen: list[tuple[str, Cell]] = []
    if experiment == "all":
        for name in EXPERIMENTS:
            found = _chosen(_every(name, scale, methods, seeds, device, corpus), methods, lengths)
            chosen += [(name, cell) for cell in found]
        if not chosen:
            asked = listed([*methods, *(f"L = {length}" for length in lengths)])
            raise InputError(f"no experiment at scale {scale} has a cell of {asked}")
    elif experiment in EXPERIMENTS:
        chosen = [(experiment, cell) for cell in cells(experiment, scale, methods, seeds, lengths, device, corpus)]
    else:
        raise UnknownNameError("experiment", experiment, ["all", *EXPERIMENTS])
    every, chosen = len(chosen), dealt(chosen, shard)
    if not chosen:
        raise InputError(f"shard {shard[0]}/{shard[1]} has none of the {every} cells: choose fewer shards")
    lacking, order = claims.needs(measured_results(), scale), [*dict.fromkeys(seeds)] or [0]
    waited = {(name, cell): claims.waiting(lacking, _supposed(name, cell)) for name, cell in chosen}

    def rank(named: tuple[str, Cell]) -> tuple[int, int]:
        run = named[1].trains
        # A seed that was not asked for is what one of those is compared with.
        place = 0 if run is None else order.index(run.seed) if run.seed in order else len(order)
        return place, -len(waited[named])

    return _states(sorted(chosen, key=rank), waited)


def _supposed(experiment: str, cell: Cell) -> "pd.DataFrame":
    """The records of a cell as they would be, with values that mean nothing."""
    import pandas as pd

    numbers = pd.DataFrame(cell.numbers()).reindex(columns=MEASURED_COLUMNS)
    return numbers.assign(source=experiment, value=1.0, parameters=1)


def states(experiment: str, chosen: Sequence[Cell]) -> list[State]:
    """Which of these cells are recorded, and the cost of the others.

    The cost is an estimate: floating point operations, over `USUAL_SHARE` of this machine's rate of matrix products,
    measured now; of the scales for a GPU on the CPU where there is none. While something else runs that rate is low,
    and the estimate far too high. A run that several cells need is counted with the first.
    """
    return _states([(experiment, cell) for cell in chosen], {})


def _states(chosen: Sequence[tuple[str, Cell]], waited: dict[tuple[str, Cell], tuple[int | str, ...]]) -> list[State]:
    records = {name: measured_results(name) for name in {name for name, _ in chosen}}
    settle_cpu(multiprocessing.cpu_count())
    found: list[State] = []
    runs: set[RunSpec | None] = set()
    why: UserError | None = None
    for name, cell in chosen:
        state = State(cell, cell.recorded(records[name]), False, 0.0, None, name, waited.get((name, cell), ()))
        if not state.recorded:
            try:
                training, evaluations = cell.flops()
                paid = cell.trains is not None and (cell.trains in runs or cell.trained())
                device = cell.device if is_here(cell.device) else "cpu"
                rate = matmul_rate(device, compute_dtype(device)) * USUAL_SHARE
                seconds = (evaluations if paid else training + evaluations) / rate
                state = replace(state, begun=cell.begun(), seconds=seconds, absent=cell.absent)
                runs.add(cell.trains)
            except UserError as wrong:
                why = wrong
                state = replace(state, refused=str(wrong))
        found.append(state)
    if why is not None and all(state.recorded or state.refused for state in found):
        raise why
    return found


def listing(found: Sequence[State]) -> str:
    """A line per cell with its state, and the remaining time in all."""
    several = len({state.experiment for state in found}) > 1
    width, lines = max(len(state.cell.title) for state in found), []
    for state in found:
        cost = "" if state.recorded or state.refused else f"about {duration(state.seconds)}"
        experiment = f"{state.experiment:18}" if several else ""
        claims = f"claims {', '.join(map(str, state.claims))}" if state.claims else ""
        lines.append(
            f"{state.told:9} {experiment}{state.cell.title:{width}} {state.cell.measurements:3} evaluations  {cost:18} "
            f"{claims}".rstrip()
        )
    for why in dict.fromkeys(state.refused for state in found if state.refused):
        lines.append(f"refused: {why}")
    for name in sorted({state.absent for state in found if state.absent}):
        lines.append(f"{name} is not here: the estimate takes its published sizes")
    if not all(is_here(state.cell.device) for state in found):
        lines.append("the scale is for a GPU, and torch sees none: the estimate is for this machine's CPU")
    lines.append(summary(found))
    return "\n".join(lines)


def summary(found: Sequence[State]) -> str:
    """The number of recorded cells, and the remaining time, in a line."""
    recorded, refused = (sum(state.told == kind for state in found) for kind in ("recorded", "refused"))
    total = duration(sum(state.seconds for state in found))
    others = f", without the {refused} refused" if refused else ""
    return f"{recorded} of {len(found)} cells recorded; left: about {total} on this machine{others}"


def as_json(found: Sequence[State]) -> list[dict[str, Any]]:
    """The cells with their states as plain data, in the order in which they are to be run."""
    return [
        {
            "experiment": state.experiment,
            "scale": state.cell.scale,
            "cell": state.cell.title,
            "methods": list(state.cell.methods),
            "train_length": state.cell.train_length,
            "seed": None if state.cell.trains is None else state.cell.trains.seed,
            "device": state.cell.device,
            "state": state.told,
            "evaluations": state.cell.measurements,
            "seconds": None if state.refused else round(state.seconds, 1),
            "claims": list(state.claims),
            "refused": state.refused or None,
        }
        for state in found
    ]


def reproduce(experiment: str, chosen: Sequence[Cell], minutes: float = 0) -> None:
    """Runs those of the cells that are not recorded, in their order, until done or the time is up.

    Args:
        experiment: whose records are appended to.
        chosen: from `cells`.
        minutes: after this time the running cells are stopped and can be resumed; 0 sets no limit.

    Raises:
        ReproduceError: if cells failed; the others were run all the same.
        alibi.interruption.UnfinishedError: if the time was up, or a signal came, before all were run.
        ValueError: if a corpus is not there, or the records can't be written.
        KeyboardInterrupt: at the second SIGINT.
    """
    reproduce_all([(experiment, cell) for cell in chosen], minutes)


def reproduce_all(chosen: Sequence[tuple[str, Cell]], minutes: float = 0) -> None:
    """The same for cells of several experiments, each with the name of its own.

    Raises:
        ReproduceError: as `reproduce`, and so all others.
    """
    records = {}
    for name in dict.fromkeys(name for name, _ in chosen):
        check_output(results_folder() / f"{name}.csv", make_folder=True)
        records[name] = measured_results(name)
    _side_by_side([(name, cell) for name, cell in chosen if not cell.recorded(records[name])], minutes)


def fill_cache(chosen: Sequence[Cell]) -> None:
    """Trains and evaluates what the cache lacks of these cells, and records nothing: for the chapters' live runs.

    Raises:
        ReproduceError: if cells failed.
        alibi.interruption.UnfinishedError: if a signal came, so that nothing is built on half a cache.
        KeyboardInterrupt: at the second SIGINT.
    """
    _side_by_side([("", cell) for cell in chosen], 0)


def _named(experiment: str, cell: Cell) -> str:
    return f"{experiment}: {cell.title}" if experiment else cell.title


def _prepared(chosen: Sequence[tuple[str, Cell]]) -> tuple[list[tuple[str, Cell]], list[str]]:
    """The cells whose texts are there, prepared; and the names of the others, whose reasons are told.

    Raises:
        UserError: if that is none of them.
    """
    faults: dict[tuple[str | None, ...], UserError] = {}
    ready, left = [], []
    for name, cell in chosen:
        if cell.texts not in faults:
            try:
                cell.prepare()
                ready.append((name, cell))
                continue
            except UserError as wrong:
                faults[cell.texts] = wrong
        left.append((cell.texts, _named(name, cell)))
    if left and not ready:
        raise next(iter(faults.values()))
    for texts, fault in faults.items():
        say(f"{listed([named for of, named in left if of == texts], 3)}: {fault}")
    return ready, [named for _, named in left]


def _side_by_side(chosen: Sequence[tuple[str, Cell]], minutes: float) -> None:
    waiting, unprepared = _prepared(chosen)
    failed = [f"{named} (no text)" for named in unprepared]
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
    if failed:
        others = "the others were run" if done + len(failed) == every else f"{done} of {every} were run"
        raise ReproduceError(f"{len(failed)} cells failed: {'; '.join(failed)}; {others}")
    if done < every:
        of = f" of {names[0]}" if len(names := list({name for name, _ in chosen})) == 1 and names[0] else ""
        raise UnfinishedError(f"{why}{every - done} of {every} cells{of} are left; the same command goes on")


def _next(waiting: Sequence[tuple[str, Cell]], running: Sequence[Cell]) -> int | None:
    """Which of the cells that wait may start now: the first whose run no other is training, if there is room."""
    trained = {cell.trains for cell in running if cell.trains is not None}
    for number, (_, cell) in enumerate(waiting):
        if cell.trains not in trained:
            return number if len(running) < min(_at_a_time(each) for each in [cell, *running]) else None
    return None


def _at_a_time(cell: Cell) -> int:
    scale, cores = scale_named(cell.scale), multiprocessing.cpu_count()
    return 1 if cell.alone or cell.device != "cpu" else max(1, cores // (scale.threads or cores))


def _work(experiment: str, cell: Cell, row: int, end: Connection) -> None:
    follow(end)
    try:
        records = cell.records(Bookkeeping(bar_row=row))
        if experiment:
            append(experiment, records)
    except UserError as wrong:
        say(f"{_named(experiment, cell)}: {wrong}")
        sys.exit(wrong.exit_status)

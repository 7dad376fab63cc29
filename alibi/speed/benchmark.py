"""Speed and memory, ours method against method and against other libraries, as ratios within one run.

Steps of all contestants take turns, so that what else the machine does falls on all of them; medians are compared, and
a ratio is the median of the ratios of neighbouring steps. Each method runs on the attention kernel that is its fastest
for the shape, compiled or not, which the table names; so does each peer.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from alibi.device import (
    absence,
    best_device,
    check_device,
    compiles,
    compute_dtype,
    matmul_rate,
    provenance,
    settle_cpu,
)
from alibi.errors import UnknownNameError, UserError
from alibi.positions import METHODS, position_method
from alibi.speed.attention import attention
from alibi.speed.evaluation import evaluation
from alibi.speed.memory import MEMORY_COLUMNS, memory
from alibi.speed.peers import PEERS, AsInstalled, as_installed, peer_steps, require_peers
from alibi.speed.shapes import (
    DECAY_WINDOW,
    DEFAULT_SHAPES,
    SHAPES,
    WINDOWED,
    Shape,
    training,
)
from alibi.speed.timing import Ratios, Rows, Step, paired_ratio, seconds_of, take_turns

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

# Attention kernels that may be a method's fastest, and those that gain by a decay window.
KERNELS: dict[str, tuple[str, ...]] = {
    "cpu": ("baddbmm", "sdpa", "columns"),
    "cuda": ("sdpa", "columns", "flex"),
    "mps": ("baddbmm", "sdpa", "columns"),
}
WINDOW_KERNELS: dict[str, tuple[str, ...]] = {"cpu": ("window", "sdpa"), "cuda": ("flex",), "mps": ("window", "sdpa")}
FIRST_METHODS = ("sinusoidal", "alibi")
PARTS = ("train", "evaluation", "memory", "kernels")
# Seconds in which the timed steps of a shape begin, a contestant.
SECONDS_A_CONTESTANT = 6.0
LOADED = 0.5
# Steps by which a method's fastest kernel is found, and how much slower one may be at first to be tried again.
TRIALS, SLOW = 2, 1.4
# Letters of what a compiler may say at length.
REFUSAL = 200


class BenchError(UserError, RuntimeError):
    """What was asked for can't be measured here."""


@dataclass(frozen=True)
class Row:
    """The time of one contestant's training step."""

    shape: str
    contestant: str
    kernel: str
    """Attention kernel; of peers their own."""
    form: str
    """Whether eager, compiled, or as installed."""
    seconds: float
    """Median."""
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    steps: int
    """That were timed."""
    warm_up: float
    """Seconds of the first steps, compilation included; not part of the others."""
    tokens_per_second: float
    share_of_matmul_rate: float | None
    """Of the rate of matrix products measured in this process; None for peers, whose operations are not counted."""
    tried: dict[str, float]
    """Seconds of a step on each kernel that was tried, of which the fastest was chosen."""
    refused: dict[str, str]
    """What it could not do, and why."""


@dataclass(frozen=True)
class _Contestant:
    name: str
    kernel: str
    form: str
    step: Callable[[], float]
    """Makes a step and returns its seconds."""
    warm_up: float
    flops: float | None = None
    """For each token; None for peers."""
    tried: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class _Trials:
    """The ways in which one contestant can make its steps, of which the fastest competes."""

    def __init__(self, device: str) -> None:
        self.device, self.started = device, time.perf_counter()
        self.steps: dict[str, Step] = {}
        self.tried: dict[str, float] = {}
        self.refused: dict[str, str] = {}

    def attempt(self, name: str, make: Callable[[], Step]) -> None:
        """Builds this way and makes two steps; what it raises is kept as its refusal."""
        try:
            step = make()
            step()
            self.tried[name] = seconds_of(step, self.device)
        except Exception as refusal:  # A compiler may raise anything. That nothing runs at all is an error elsewhere.
            self.refused[name] = f"{type(refusal).__name__}: {' '.join(str(refusal).split())[:REFUSAL]}"
        else:
            self.steps[name] = step

    def fastest(self) -> str:
        """The name of the fastest, after more steps in turns: what else the machine does must not choose it."""
        near = [name for name in self.steps if self.tried[name] < SLOW * min(self.tried.values())]
        for _ in range(TRIALS):
            for name in near:
                self.tried[name] = min(self.tried[name], seconds_of(self.steps[name], self.device))
        best = min(self.steps, key=self.tried.__getitem__)
        self.steps = {best: self.steps[best]}
        return best

    def contestant(self, name: str, kernel: str, form: str, flops: float | None = None) -> _Contestant:
        """The fastest way as a contestant."""
        (step,) = self.steps.values()
        seconds = time.perf_counter() - self.started
        timed = partial(seconds_of, step, self.device)
        return _Contestant(name, kernel, form, timed, seconds, flops, self.tried, self.refused)


def bench(
    shapes: tuple[str, ...] = (),
    peers: bool = False,
    device: str | None = None,
    methods: tuple[str, ...] = (),
    parts: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Measures and returns machine, ceilings, rows and ratios, and what else was asked for.

    Ratios of times, `train_step METHOD/FIRST`, are below 1 where the method is faster; `speed alibi/peer NAME` is the
    inverse, above 1 where ours is.

    Args:
        shapes: names of `SHAPES`; empty takes the device's default, "all", alone or among others, every one that it has
            memory for.
        peers: measure other libraries' models as well, at the shapes that a bar is set for.
        device: cpu, cuda or mps; None takes the fastest that is here.
        methods: position methods, ALiBi's with or without "+window"; the first is what the others are divided by.
            Empty takes sinusoidal and alibi, and with shapes "all" the shape's `rivals` too.
        parts: of `PARTS`; empty takes train, and with shapes "all" every one. Evaluation and memory leave out shapes
            at which 16 L tokens would take minutes.

    Raises:
        ValueError: for an unknown shape, method or part; the known are listed. For a window of a method without a
            linear bias.
        BenchError: if the device is not there.
        alibi.peers.PeerError: if peers are asked for that are not installed.
    """
    device = device or best_device()
    check_device(device)
    whole_table = "all" in shapes
    parts = parts or (PARTS if whole_table else ("train",))
    every = tuple(name for name in SHAPES if device == "cuda" or name.startswith("W"))
    asked = shapes or DEFAULT_SHAPES[device]
    _refuse_unknown("shape", asked, (*SHAPES, "all"))
    _refuse_unknown("position method", tuple(m.removesuffix(WINDOWED) for m in methods), tuple(METHODS))
    _refuse_unknown("part", parts, PARTS)
    if missing := absence(device):
        raise BenchError(f"device {device} is asked for: {missing}")
    # Each once: what is measured twice would pass for a rival of itself.
    chosen = dict.fromkeys(name for given in asked for name in (every if given == "all" else (given,)))
    methods = tuple(dict.fromkeys(methods))
    for method in methods:
        if method.endswith(WINDOWED):
            # Raises where there is no linear bias, before another method is measured.
            position_method(method.removesuffix(WINDOWED), 8, 1, 1).bias().within(DECAY_WINDOW)
    if peers:
        require_peers()
    started = time.perf_counter()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    settle_cpu(torch.get_num_threads())
    dtype = compute_dtype(device)
    machine = provenance(device) | {
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "load_before": round(load, 2),
        "note": "the machine was busy before the start: expect noise" if load > LOADED else "",
    }
    found: dict[str, Any] = {
        "machine": machine,
        "ceilings": {f"matmul {dtype}, FLOP/s": matmul_rate(device, dtype)},
        "rows": [],
        "ratios": {},
    }
    from torch import _dynamo  # A second of imports, which no other command should wait for.

    with ExitStack() as stack:
        # Contestants share code, of which each needs a translation of its own.
        stack.enter_context(_dynamo.config.patch(cache_size_limit=128))
        beside = stack.enter_context(as_installed(device)) if peers and "train" in parts else None
        for name in chosen:
            shape = SHAPES[name]
            contest = methods or (*FIRST_METHODS, *(shape.rivals if whole_table else ()))
            _measure_shape(found, shape, contest, device, parts, beside)
    if "kernels" in parts:
        rows, ratios = attention(device)
        _add(found, "kernels", rows, ratios)
    machine["seconds"] = round(time.perf_counter() - started, 1)
    return found


def _refuse_unknown(kind: str, asked: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in asked:
        if name not in known:
            raise UnknownNameError(kind, name, known)


def _add(found: dict[str, Any], part: str, rows: Rows, ratios: Ratios) -> None:
    found.setdefault(part, []).extend(rows)
    for title, by_shape in ratios.items():
        found["ratios"].setdefault(title, {}).update(by_shape)


def _measure_shape(
    found: dict[str, Any],
    shape: Shape,
    methods: tuple[str, ...],
    device: str,
    parts: tuple[str, ...],
    beside: AsInstalled | None,
) -> None:
    kernels = dict.fromkeys(methods, "automatic")
    if "train" in parts:
        # On a CPU a compiler takes half a minute a method: it is tried where peers are compiled too.
        contestants = [_ours(shape, method, device, beside is not None and shape.peers) for method in methods]
        kernels = {contestant.name: contestant.kernel for contestant in contestants}
        if beside is not None and shape.peers:
            contestants += _peers(shape, device, beside)
        budget = SECONDS_A_CONTESTANT * len(contestants)
        times = take_turns({c.name: c.step for c in contestants}, budget, shape.name)
        # Again, and the higher counts: a machine that was busy at the start would flatter every row.
        matmul_rate.cache_clear()
        (label, ceiling), *_ = found["ceilings"].items()
        found["ceilings"][label] = ceiling = max(ceiling, matmul_rate(device, compute_dtype(device)))
        rows = [asdict(_row(shape, contestant, times[contestant.name], ceiling)) for contestant in contestants]
        _add(found, "rows", rows, {title: {shape.name: ratio} for title, ratio in _ratios(times, methods)})
        del contestants
        torch.compiler.reset()
    if "evaluation" in parts and shape.evaluated:
        _add(found, "evaluation", *evaluation(shape, methods, device))
    if "memory" in parts and shape.evaluated:
        _add(found, "memory", *memory(shape, kernels, device))


def _ours(shape: Shape, method: str, device: str, compiled: bool) -> _Contestant:
    """The method on its fastest kernel: on a GPU compiled, on a CPU eager or, if asked for, compiled if faster."""
    trials = _Trials(device)

    def attempt(kernel: str, form: str) -> None:
        trials.attempt(f"{kernel}, {form}", lambda: training(shape, method, kernel, device, form == "compiled").step)

    for kernel in (WINDOW_KERNELS if method.endswith(WINDOWED) else KERNELS)[device]:
        attempt(kernel, "compiled" if compiles(device) else "eager")
    if not trials.steps:
        raise BenchError(f"no attention kernel runs {method} at shape {shape.name} on {device}: {trials.refused}")
    best = trials.fastest()
    if device == "cpu" and compiled:
        attempt(best.partition(", ")[0], "compiled")
        best = trials.fastest()
    kernel, _, form = best.partition(", ")
    return trials.contestant(method, kernel, form, shape.unmade(method).training_flops(shape.length))


def _peers(shape: Shape, device: str, beside: AsInstalled) -> Iterator[_Contestant]:
    """Each peer in our settings, eager or compiled, whichever is faster, and as installed."""
    started = time.perf_counter()
    beside.build(shape)
    building = (time.perf_counter() - started) / len(PEERS)
    for peer in PEERS:
        trials = _Trials(device)
        steps = peer_steps(peer, shape, device)
        for form in steps:
            trials.attempt(form, partial(steps.__getitem__, form))
        if trials.steps:
            yield trials.contestant(f"peer {peer}", "its own", trials.fastest())
        refused = {} if trials.steps else trials.refused
        step_there = partial(beside.step, peer)
        warm_up = building + step_there() + step_there()
        yield _Contestant(
            f"peer {peer} (as installed)", "its own", "as installed", step_there, warm_up, None, {}, refused
        )


def _row(shape: Shape, contestant: _Contestant, times: list[float], ceiling: float) -> Row:
    low, median, high = statistics.quantiles(times, n=4)
    rate = shape.tokens / median
    return Row(
        shape=shape.name,
        contestant=contestant.name,
        kernel=contestant.kernel,
        form=contestant.form,
        seconds=median,
        low=low,
        high=high,
        steps=len(times),
        warm_up=contestant.warm_up,
        tokens_per_second=rate,
        share_of_matmul_rate=None if contestant.flops is None else rate * contestant.flops / ceiling,
        tried=contestant.tried,
        refused=contestant.refused,
    )


def _ratios(times: dict[str, list[float]], methods: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    first, *others = methods
    for method in others:
        yield f"train_step {method}/{first}", paired_ratio(times[method], times[first])
    ours = "alibi" if "alibi" in methods else first
    peers = [name for name in times if name not in methods]
    for name in peers:
        yield f"speed {ours}/{name}", paired_ratio(times[name], times[ours])
    installed = [name for name in peers if name.endswith("(as installed)")]
    settled = [name for name in peers if name not in installed]
    for title, names in (
        ("best ALiBi peer", [name for name in settled if " ALiBi" in name]),
        ("best peer of any method", settled),
        ("best ALiBi peer as installed", [name for name in installed if " ALiBi" in name]),
        ("best peer of any method as installed", installed),
    ):
        if names:
            best = min(names, key=lambda name: statistics.median(times[name]))
            yield f"speed {ours}/{title}", paired_ratio(times[best], times[ours])


# Text ---------------------------------------------------------------------------------------------------------------


def report(found: dict[str, Any]) -> "Group":
    """The result of `bench` for a terminal: the machine, then a table for each part and one of ratios."""
    from rich.console import Group
    from rich.text import Text

    machine = found["machine"]
    lines = [
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch_version']}, {machine['dtype']}",
        *(f"measured ceiling, {name}: {value:.3g}" for name, value in found["ceilings"].items()),
        *([machine["note"]] if machine["note"] else []),
    ]
    steps = [
        (
            row["shape"],
            row["contestant"].removesuffix(f" ({row['form']})"),
            row["kernel"],
            row["form"],
            f"{1e3 * row['seconds']:.1f}",
            f"{1e3 * row['low']:.0f} to {1e3 * row['high']:.0f}",
            f"{row['tokens_per_second']:,.0f}",
            "" if row["share_of_matmul_rate"] is None else f"{row['share_of_matmul_rate']:.0%}",
            f"{row['warm_up']:.1f}",
        )
        for row in found["rows"]
    ]
    heads = ("shape", "contestant", "kernel", "form", "ms/step", "quartiles", "tokens/s", "of peak", "warm-up s")
    refused = [
        Text(f"refused at {row['shape']}, {row['contestant']}: {what}: {why}")  # Brackets of it are no markup.
        for row in found["rows"]
        for what, why in row["refused"].items()
    ]
    evaluated = [
        (
            row["shape"],
            row["method"],
            row["protocol"],
            f"{row['length']:,}",
            f"{1e3 * row['seconds']:.1f}",
            f"{row['tokens_per_second']:,.0f}",
        )
        for row in found.get("evaluation", [])
    ]
    weighed = [
        (row["shape"], row["method"], *(f"{row[column] / 2**20:,.1f}" for column in MEMORY_COLUMNS))
        for row in found.get("memory", [])
    ]
    alone = [
        (f"{row['length']:,}", row["bias"], row["kernel"], row.get("refused") or f"{1e3 * row['seconds']:.1f}")
        for row in found.get("kernels", [])
    ]
    tables: list[Table | Text | None] = [
        _table("training steps", heads, steps),
        *refused,
        _table("evaluation", ("shape", "method", "protocol", "length", "ms", "tokens/s"), evaluated),
        _table("peak memory, MiB", ("shape", "method", "training step", "evaluation at 8 L", "at 16 L"), weighed),
        _table("attention alone, forward and backward pass", ("length", "bias", "kernel", "ms"), alone),
    ]
    alone_by_length = {name for name in found["ratios"] if name.startswith("attention ")}
    for title, names in (
        ("ratios", found["ratios"].keys() - alone_by_length),
        ("ratios of attention alone, by length", alone_by_length),
    ):
        chosen = {name: by_column for name, by_column in found["ratios"].items() if name in names}
        columns = list(dict.fromkeys(column for by_column in chosen.values() for column in by_column))
        told = [(name, *(f"{at[c]:.3f}" if c in at else "" for c in columns)) for name, at in chosen.items()]
        tables.append(_table(title, ("", *columns), told))
    return Group(*lines, *(shown for shown in tables if shown))


def _table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> "Table | None":
    """A table with numbers to the right; None without rows."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return None
    shown = Table(title=f"\n{title}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for number, head in enumerate(heads):
        digits = all(row[number][:1].isdigit() or not row[number] for row in rows)
        shown.add_column(head, justify="right" if digits else "left")
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown

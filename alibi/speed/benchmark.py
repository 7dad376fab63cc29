"""The benchmark: speed and memory of position methods and of other libraries' models, as ratios within one run."""

import os
import time
from contextlib import ExitStack

import torch

from alibi.attention import KERNELS
from alibi.device import absence, best_device, check_device, compute_dtype, settle_cpu
from alibi.errors import InputError, UnknownNameError
from alibi.evaluate import EVALUATION_DTYPE
from alibi.positions import METHODS, position_method
from alibi.provenance import provenance
from alibi.speed.attention import attention
from alibi.speed.evaluation import LONGER, evaluation
from alibi.speed.memory import memory
from alibi.speed.peers import AsInstalled, as_installed, require_peers
from alibi.speed.result import Ceiling, Result
from alibi.speed.shapes import ALIBI, DEFAULT_SHAPES, SHAPES, Contender, Shape
from alibi.speed.training_steps import training_steps
from alibi.speed.trials import BenchError

FIRST_CONTENDERS = (Contender("sinusoidal"), ALIBI)
PARTS = ("train", "evaluation", "memory", "kernels")
# A machine with a load average above this counts as busy.
LOADED = 0.5


def bench(
    shapes: tuple[str, ...] = (),
    peers: bool = False,
    device: str | None = None,
    methods: tuple[str, ...] = (),
    parts: tuple[str, ...] = (),
    kernel: str | None = None,
) -> Result:
    """Measures speed, and with more parts memory and attention alone.

    Ratios of times, `train_step METHOD/FIRST`, are below 1 where the method is faster; `speed alibi/peer NAME` is the
    inverse, above 1 where ours is faster.

    Args:
        shapes: names of `SHAPES`; empty takes the device's default. "all", alone or among others, takes the whole
            table, without the shapes that are too large for a CPU if it runs there.
        peers: also measure other libraries' models, at the shapes with `peers`.
        device: cpu, cuda or mps; None takes this machine's fastest.
        methods: position methods, ALiBi's with or without "+window"; ratios divide the others by the first. Empty takes
            sinusoidal and alibi, and with shapes "all" the shape's `rivals` too.
        parts: names of `PARTS`; empty takes train, or every part with shapes "all". Evaluation and memory leave out
            shapes at which 16 L tokens would take minutes.
        kernel: also time the training steps of each method on this attention kernel, if another one is its fastest.

    Raises:
        InputError: for an unknown shape, method, part or kernel (the message lists the known ones), peers or a part
            that no chosen shape has, or a decay window with a method that has no linear bias.
        BenchError: if the device is missing.
        alibi.speed.peers.PeerError: if `peers` is set and they are not installed.
    """
    device = device or best_device()
    check_device(device)
    whole_table = "all" in shapes
    parts = parts or (PARTS if whole_table else ("train",))
    every = tuple(name for name, shape in SHAPES.items() if device == "cuda" or shape.on_cpu)
    asked = shapes or DEFAULT_SHAPES[device]
    # Each method once: a second entry would be compared with the first.
    contenders = tuple(Contender.named(name) for name in dict.fromkeys(methods))
    _refuse_unknown("shape", asked, (*SHAPES, "all"))
    _refuse_unknown("position method", tuple(contender.method for contender in contenders), tuple(METHODS))
    _refuse_unknown("part", parts, PARTS)
    _refuse_unknown("attention kernel", () if kernel is None else (kernel,), tuple(KERNELS))
    if missing := absence(device):
        raise BenchError(f"device {device} can't be used: {missing}")
    for contender in contenders:
        if contender.decay_window is not None:
            # Raises for a method without a linear bias, before another method is measured.
            position_method(contender.method, 8, 1, 1).bias().within(contender.decay_window)
    chosen = dict.fromkeys(name for given in asked for name in (every if given == "all" else (given,)))
    if peers:
        if "train" not in parts or not any(SHAPES[name].peers for name in chosen):
            having = [name for name in every if SHAPES[name].peers]
            raise InputError(f"peers are measured in part train at shapes {', '.join(having)}: choose these")
        require_peers()
    for part in ("evaluation", "memory"):
        if part in parts and not any(SHAPES[name].evaluated for name in chosen):
            having = [name for name in every if SHAPES[name].evaluated]
            raise InputError(f"part {part} is measured at shapes {', '.join(having)}: choose one of them")
    if {"evaluation", "memory"} & {*parts}:
        for shape in (SHAPES[name] for name in chosen if SHAPES[name].evaluated):
            for contender in contenders:
                _refuse_short_table(shape, contender)
    started, result = time.perf_counter(), _begin(device)
    from torch import _dynamo  # A second of imports, for which no other command should wait.

    with ExitStack() as stack:
        # Contestants share code, and each needs its own compilation.
        stack.enter_context(_dynamo.config.patch(cache_size_limit=128))
        installed = stack.enter_context(as_installed(device)) if peers and "train" in parts else None
        for name in chosen:
            shape = SHAPES[name]
            contest = contenders or (*FIRST_CONTENDERS, *(shape.rivals if whole_table else ()))
            _measure_shape(result, shape, contest, device, parts, installed, kernel)
    if "kernels" in parts:
        result.attention, ratios = attention(device)
        result.ratios += ratios
    result.machine["seconds"] = round(time.perf_counter() - started, 1)
    return result


def _refuse_unknown(kind: str, asked: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in asked:
        if name not in known:
            raise UnknownNameError(kind, name, known)


def _refuse_short_table(shape: Shape, contender: Contender) -> None:
    try:
        shape.unmade(contender.method).positions.check_length(LONGER * shape.length)
    except InputError as wrong:
        raise InputError(
            f"{contender.name} at shape {shape.name}: parts evaluation and memory read {LONGER} L: {wrong}"
        ) from wrong


def _begin(device: str) -> Result:
    """An empty result: the machine, its load, and the rate of its matrix products."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    settle_cpu(torch.get_num_threads())
    dtype = compute_dtype(device)
    machine = provenance(device) | {
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "evaluation_dtype": EVALUATION_DTYPE,
        "load_before": round(load, 2),
        "note": "the machine was busy before the start: expect noise" if load > LOADED else "",
    }
    ceiling = Ceiling(device, dtype)
    ceiling.measure()
    return Result(machine, ceiling)


def _measure_shape(
    result: Result,
    shape: Shape,
    contenders: tuple[Contender, ...],
    device: str,
    parts: tuple[str, ...],
    installed: AsInstalled | None,
    kernel: str | None,
) -> None:
    kernels = dict.fromkeys(contenders, "automatic")
    if "train" in parts:
        steps, ratios = training_steps(shape, contenders, device, result.ceiling, installed, kernel)
        result.steps += steps
        result.ratios += ratios
        fastest = {row.name: row.way.kernel_label for row in steps if row.fastest}
        kernels = {contender: fastest[contender.name] for contender in contenders}
    if "evaluation" in parts and shape.evaluated:
        evaluated, ratios = evaluation(shape, contenders, device)
        result.evaluation += evaluated
        result.ratios += ratios
    if "memory" in parts and shape.evaluated:
        peaks, ratios = memory(shape, kernels, device)
        result.memory += peaks
        result.ratios += ratios

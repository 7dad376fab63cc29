"""Time of training steps: position methods and other libraries' models take turns.

Each contestant runs in its fastest way (attention kernel, compiled or not), which its row names. Medians are compared;
a ratio is the median of the ratios of steps in the same round.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch

from alibi.device import compiles
from alibi.errors import UserError
from alibi.speed.peers import PEERS, AsInstalled, Peer, peer_steps
from alibi.speed.result import AS_INSTALLED, Ceiling, Ratio, StepRow, Way
from alibi.speed.shapes import ALIBI, Contender, Shape, training
from alibi.speed.timing import Step, paired_ratio, seconds_of, take_turns

# Attention kernels that may be a method's fastest, and those that gain by a decay window.
KERNELS: dict[str, tuple[str, ...]] = {
    "cpu": ("baddbmm", "sdpa", "columns"),
    "cuda": ("sdpa", "columns", "flex"),
    "mps": ("baddbmm", "sdpa", "columns"),
}
DECAY_WINDOW_KERNELS: dict[str, tuple[str, ...]] = {
    "cpu": ("window", "sdpa"),
    "cuda": ("flex",),
    "mps": ("window", "sdpa"),
}
# No round of timed steps begins after this many seconds for each contestant.
SECONDS_A_CONTESTANT = 6.0
# Further steps of each way that is near the fastest, and how much slower than it "near" may be.
TRIALS, NEAR = 2, 1.4
# Letters kept of a compiler's message, which may be long.
REFUSAL_LETTERS = 200


class BenchError(UserError, RuntimeError):
    """This machine cannot measure what was asked for."""


@dataclass(frozen=True, eq=False)
class _Contestant:
    entrant: Contender | Peer
    way: Way
    step: Callable[[], float]
    """Makes a step and returns its seconds."""
    warm_up: float
    flops: float | None = None
    """For each token; None for peers."""
    tried: dict[Way, float] = field(default_factory=dict)
    refused: dict[Way, str] = field(default_factory=dict)

    def row(self, shape: Shape, times: list[float], ceiling: float) -> StepRow:
        low, median, high = statistics.quantiles(times, n=4)
        rate = shape.tokens / median
        return StepRow(
            shape=shape.name,
            name=self.entrant.name if isinstance(self.entrant, Contender) else f"peer {self.entrant.name}",
            way=self.way,
            seconds=median,
            low=low,
            high=high,
            steps=len(times),
            warm_up=self.warm_up,
            tokens_per_second=rate,
            share_of_matmul_rate=None if self.flops is None else rate * self.flops / ceiling,
            tried=self.tried,
            refused=self.refused,
        )


class _Trials:
    """The ways in which one contestant can make its steps, of which the fastest competes."""

    def __init__(self, device: str) -> None:
        self.device, self.started = device, time.perf_counter()
        self.steps: dict[Way, Step] = {}
        self.tried: dict[Way, float] = {}
        self.refused: dict[Way, str] = {}

    def attempt(self, way: Way, make: Callable[[], Step]) -> None:
        """Builds this way and makes two steps; an error is kept as its refusal."""
        try:
            step = make()
            step()
            self.tried[way] = seconds_of(step, self.device)
        except Exception as refusal:  # A compiler may raise anything. That nothing runs at all is an error elsewhere.
            message = " ".join(str(refusal).split())[:REFUSAL_LETTERS]
            self.refused[way] = f"{type(refusal).__name__}: {message}"
        else:
            self.steps[way] = step

    def fastest(self) -> Way:
        """The fastest way, after more interleaved steps, so that background load does not decide."""
        near = [way for way in self.steps if self.tried[way] < NEAR * min(self.tried.values())]
        for _ in range(TRIALS):
            for way in near:
                self.tried[way] = min(self.tried[way], seconds_of(self.steps[way], self.device))
        best = min(self.steps, key=self.tried.__getitem__)
        self.steps = {best: self.steps[best]}
        return best

    def contestant(self, entrant: Contender | Peer, flops: float | None = None) -> _Contestant:
        """The entrant in its fastest way."""
        way = self.fastest()
        seconds = time.perf_counter() - self.started
        timed = partial(seconds_of, self.steps[way], self.device)
        return _Contestant(entrant, way, timed, seconds, flops, self.tried, self.refused)


def training_steps(
    shape: Shape, contenders: tuple[Contender, ...], device: str, ceiling: Ceiling, installed: AsInstalled | None = None
) -> tuple[list[StepRow], list[Ratio]]:
    """Times the training steps of all contestants at a shape.

    Args:
        shape: of the models.
        contenders: position methods; the first is what the others are divided by.
        device: cpu, cuda or mps.
        ceiling: rate of matrix products, which is measured again.
        installed: process of the peers as installed; None leaves other libraries out.

    Raises:
        BenchError: if no kernel runs a contender.
    """
    # On a CPU a compiler takes half a minute for each method: it is tried where peers are compiled too.
    beside_peers = installed is not None and shape.peers
    contestants = [_ours(shape, contender, device, beside_peers) for contender in contenders]
    if installed is not None and shape.peers:
        contestants += _peers(shape, device, installed)
    timed = {contestant: contestant.step for contestant in contestants}
    times = take_turns(timed, SECONDS_A_CONTESTANT * len(contestants), shape.name)
    rate = ceiling.measure()
    rows = {contestant: contestant.row(shape, times[contestant], rate) for contestant in contestants}
    torch.compiler.reset()
    return list(rows.values()), list(_ratios(shape, rows, times))


def _ours(shape: Shape, contender: Contender, device: str, compiled: bool) -> _Contestant:
    """The method on its fastest kernel: on a GPU compiled, on a CPU eager or, if asked for, compiled if faster."""
    trials = _Trials(device)

    def attempt(kernel: str, form: str) -> None:
        def make() -> Step:
            return training(shape, contender, kernel, device, compiled=form == "compiled").step

        trials.attempt(Way(kernel, form), make)

    for kernel in (KERNELS if contender.decay_window is None else DECAY_WINDOW_KERNELS)[device]:
        attempt(kernel, "compiled" if compiles(device) else "eager")
    if not trials.steps:
        reasons = {way.label: reason for way, reason in trials.refused.items()}
        raise BenchError(f"no attention kernel runs {contender.name} at shape {shape.name} on {device}: {reasons}")
    if device == "cpu" and compiled:
        attempt(trials.fastest().kernel_label, "compiled")
    return trials.contestant(contender, shape.unmade(contender.method).training_flops(shape.length))


def _peers(shape: Shape, device: str, installed: AsInstalled) -> Iterator[_Contestant]:
    """Each peer in our settings, eager or compiled, whichever is faster, and as installed."""
    started = time.perf_counter()
    installed.build(shape)
    building = (time.perf_counter() - started) / len(PEERS)
    for peer in PEERS.values():
        trials = _Trials(device)
        steps = peer_steps(peer.name, shape, device)
        for form in steps:
            trials.attempt(Way(None, form), partial(steps.__getitem__, form))
        if trials.steps:
            yield trials.contestant(peer)
        refused = {} if trials.steps else trials.refused
        step_there = partial(installed.step, peer.name)
        warm_up = building + step_there() + step_there()
        yield _Contestant(peer, Way(None, AS_INSTALLED), step_there, warm_up, refused=refused)


def _ratios(shape: Shape, rows: dict[_Contestant, StepRow], times: dict[_Contestant, list[float]]) -> Iterator[Ratio]:
    """Times of our methods over the first one's; speeds of ALiBi, or else the first method, over peers'."""
    ours = [contestant for contestant in rows if isinstance(contestant.entrant, Contender)]
    first = ours[0]

    def ratio(quantity: str, numerator: str, denominator: str, above: _Contestant, below: _Contestant) -> Ratio:
        return Ratio(quantity, numerator, denominator, shape.name, paired_ratio(times[above], times[below]))

    for other in ours[1:]:
        yield ratio("train_step", rows[other].name, rows[first].name, other, first)
    fast = next((contestant for contestant in ours if contestant.entrant == ALIBI), first)
    peers = [contestant for contestant in rows if isinstance(contestant.entrant, Peer)]
    for peer in peers:
        yield ratio("speed", rows[fast].name, rows[peer].contestant, peer, fast)
    for ending, as_installed in (("", False), (f" {AS_INSTALLED}", True)):
        chosen = [peer for peer in peers if (peer.way.form == AS_INSTALLED) == as_installed]
        alibis = [peer for peer in chosen if isinstance(peer.entrant, Peer) and peer.entrant.positions == "ALiBi"]
        for title, group in (("best ALiBi peer", alibis), ("best peer of any method", chosen)):
            if group:
                best = min(group, key=lambda peer: rows[peer].seconds)
                yield ratio("speed", rows[fast].name, title + ending, best, fast)

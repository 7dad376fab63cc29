"""Time of training steps: position methods and other libraries' models take turns.

Each contestant runs in its fastest way (attention kernel, compiled or not), and its row names it. Ways are compared by
their fastest steps; a ratio is the median of the ratios of steps in the same round.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

import torch

from alibi.device import compiles
from alibi.speed.peers import PEERS, AsInstalled, Peer, peer_steps
from alibi.speed.result import AS_INSTALLED, Ceiling, Ratio, StepRow, Way
from alibi.speed.shapes import ALIBI, Contender, Shape, training
from alibi.speed.timing import Step, median_of, paired_ratio, seconds_of, take_turns
from alibi.speed.trials import Trials, kernels_of

# No round of timed steps begins after this many seconds for each contestant.
SECONDS_A_CONTESTANT = 6.0


@dataclass(frozen=True, eq=False)
class _Contestant:
    entrant: Contender | Peer
    way: Way
    step: Callable[[], float]
    """Makes a step and returns its seconds."""
    warm_up: float
    flops: float | None = None
    """Operations for each token; None for peers."""
    tried: dict[Way, float] = field(default_factory=dict)
    refused: dict[Way, str] = field(default_factory=dict)
    fastest: bool = True

    @classmethod
    def of(cls, entrant: Contender | Peer, trials: Trials, flops: float | None) -> list[Self]:
        """The entrant in its fastest way, and on the requested kernel if there is one."""
        ways = trials.chosen()
        seconds = time.perf_counter() - trials.started
        return [
            cls(
                entrant,
                way,
                partial(seconds_of, trials.steps[way], trials.device),
                seconds,
                flops,
                trials.tried,
                trials.refused,
                way == ways[0],
            )
            for way in ways
        ]

    def row(self, shape: Shape, times: list[float]) -> StepRow:
        low, _, high = statistics.quantiles(times, n=4)
        median, standard_error = median_of(times)
        rate = shape.tokens / median
        return StepRow(
            shape=shape.name,
            name=self.entrant.name if isinstance(self.entrant, Contender) else f"peer {self.entrant.name}",
            way=self.way,
            seconds=median,
            standard_error=standard_error,
            low=low,
            high=high,
            steps=len(times),
            warm_up=self.warm_up,
            tokens_per_second=rate,
            flops_per_second=None if self.flops is None else rate * self.flops,
            tried=self.tried,
            refused=self.refused,
            fastest=self.fastest,
        )


def training_steps(
    shape: Shape,
    contenders: tuple[Contender, ...],
    device: str,
    ceiling: Ceiling,
    installed: AsInstalled | None = None,
    kernel: str | None = None,
) -> tuple[list[StepRow], list[Ratio]]:
    """Times the training steps of all contestants at a shape.

    Args:
        shape: shape of the models.
        contenders: position methods; ratios divide the others by the first.
        device: cpu, cuda or mps.
        ceiling: rate of matrix products; it is measured again.
        installed: process of the peers as installed; None leaves other libraries out.
        kernel: also time each contender on this attention kernel, if it runs and another one is the fastest.

    Raises:
        BenchError: if no kernel runs a contender.
    """
    # On a CPU a compiler takes half a minute for each method: it is only tried when peers are compiled too.
    beside_peers = installed is not None and shape.peers
    contestants = [
        contestant for contender in contenders for contestant in _ours(shape, contender, device, beside_peers, kernel)
    ]
    if installed is not None and shape.peers:
        contestants += _peers(shape, device, installed)
    timed = {contestant: contestant.step for contestant in contestants}
    times = take_turns(timed, SECONDS_A_CONTESTANT * len(contestants), shape.name)
    ceiling.measure()
    rows = {contestant: contestant.row(shape, times[contestant]) for contestant in contestants}
    torch.compiler.reset()
    return list(rows.values()), list(_ratios(shape, rows, times, kernel))


def _ours(shape: Shape, contender: Contender, device: str, compiled: bool, kernel: str | None) -> list[_Contestant]:
    """The method on its fastest kernel: compiled on a GPU, eager on a CPU, or with `compiled` the faster form."""
    trials = Trials(device, kernel)

    def attempt(name: str, form: str) -> None:
        def make() -> Step:
            return training(shape, contender, name, device, compiled=form == "compiled").step

        trials.attempt(Way(name, form), make)

    for name in kernels_of(shape, contender, device, kernel):
        attempt(name, "compiled" if compiles(device) else "eager")
    trials.require(contender.name, shape)
    if device == "cpu" and compiled:
        attempt(trials.chosen()[0].kernel_label, "compiled")
    flops = shape.unmade(contender.method).training_flops(shape.length)
    return _Contestant.of(contender, trials, flops)


def _peers(shape: Shape, device: str, installed: AsInstalled) -> Iterator[_Contestant]:
    """Each peer with our settings, eager or compiled, whichever is faster, and as installed."""
    started = time.perf_counter()
    installed.build(shape)
    building = (time.perf_counter() - started) / len(PEERS)
    for peer in PEERS.values():
        trials = Trials(device)
        steps = peer_steps(peer.name, shape, device)
        for form in steps:
            trials.attempt(Way(None, form), partial(steps.__getitem__, form))
        if trials.steps:
            yield from _Contestant.of(peer, trials, None)
        refused = {} if trials.steps else trials.refused
        step_there = partial(installed.step, peer.name)
        warm_up = building + step_there() + step_there()
        yield _Contestant(peer, Way(None, AS_INSTALLED), step_there, warm_up, refused=refused)


def _ratios(
    shape: Shape, rows: dict[_Contestant, StepRow], times: dict[_Contestant, list[float]], kernel: str | None
) -> Iterator[Ratio]:
    """Times of our methods over the first one's; speeds of ALiBi, or else the first method, over peers'."""
    every = [contestant for contestant in rows if isinstance(contestant.entrant, Contender)]
    ours = [contestant for contestant in every if contestant.fastest]
    first = ours[0]

    def ratio(quantity: str, numerator: str, denominator: str, above: _Contestant, below: _Contestant) -> Ratio:
        return Ratio(quantity, numerator, denominator, shape.name, *paired_ratio(times[above], times[below]))

    for other in ours[1:]:
        yield ratio("train_step", rows[other].name, rows[first].name, other, first)
    on_one = {contestant.entrant: contestant for contestant in every if kernel == contestant.way.kernel is not None}
    if first.entrant in on_one:
        for entrant, other in on_one.items():
            if entrant != first.entrant:
                yield replace(
                    ratio("train_step", rows[other].name, rows[first].name, other, on_one[first.entrant]), kernel=kernel
                )
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

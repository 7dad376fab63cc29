"""A stop-watch: contestants take turns, so that what else the machine does falls on all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from alibi.device import synchronise
from alibi.progress import bar

Step = Callable[[], object]
Rows = list[dict[str, Any]]
Ratios = dict[str, dict[str, float]]

SECONDS_A_LENGTH = 10.0
# A median of fewer says little, of more hardly more.
FEWEST_ROUNDS, MOST_ROUNDS = 5, 12


def seconds_of(step: Step, device: str) -> float:
    """How long this takes, on a GPU until it has finished."""
    synchronise(device)
    started = time.perf_counter()
    step()
    synchronise(device)
    return time.perf_counter() - started


def take_turns(steps: Mapping[Any, Callable[[], float]], budget: float, label: str) -> dict[Any, list[float]]:
    """Seconds of each contestant's steps, one after the other in every round, after a warm-up that the caller made.

    Args:
        steps: each makes one step and returns its seconds.
        budget: seconds after which no round begins; but there are 5 at least, and 12 at most.
        label: of the progress bar.
    """
    times: dict[Any, list[float]] = {name: [] for name in steps}
    started = time.perf_counter()
    for done in bar(range(MOST_ROUNDS), desc=label, leave=False, delay=1):
        if done >= FEWEST_ROUNDS and time.perf_counter() - started > budget:
            break
        for name, step in steps.items():
            times[name].append(step())
    return times


def paired_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median of the ratios of paired steps; background load hardly affects it."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))

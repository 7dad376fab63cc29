"""A stop-watch for contestants that take turns, so that background load falls on all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from alibi.device import synchronise
from alibi.progress import bar

Step = Callable[[], object]

SECONDS_A_LENGTH = 10.0
# A median of fewer rounds says little; one of more says hardly more.
FEWEST_ROUNDS, MOST_ROUNDS = 5, 12


def seconds_of(step: Step, device: str) -> float:
    """Seconds of one step; on a GPU until it has finished."""
    synchronise(device)
    started = time.perf_counter()
    step()
    synchronise(device)
    return time.perf_counter() - started


def take_turns(steps: Mapping[Any, Callable[[], float]], budget: float, label: str) -> dict[Any, list[float]]:
    """Seconds of each contestant's steps, one after the other in every round; the caller has warmed them up.

    Args:
        steps: each makes one step and returns its seconds.
        budget: seconds after which no round begins; there are at least 5 rounds, and at most 12.
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

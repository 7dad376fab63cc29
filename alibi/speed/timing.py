"""A stop-watch for contestants that take turns, so that background load falls on all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from alibi.device import synchronise
from alibi.progress import bar

Step = Callable[[], object]

SECONDS_A_LENGTH = 10.0
# With fewer rounds the spread is not known well; more rounds add little.
FEWEST_ROUNDS, MOST_ROUNDS = 10, 20


class Median(NamedTuple):
    """A median of repeats, and its standard error."""

    value: float
    standard_error: float


def median_of(repeats: list[float]) -> Median:
    """The median and its standard error, 0.93 (third quartile - first quartile) / sqrt(number of repeats).

    The standard deviation of normal noise is its interquartile range over 1.349, and the standard error of a median of
    n is 1.253 of it over sqrt(n). It uses quartiles instead of squares, since background load makes outliers.
    """
    first, median, third = statistics.quantiles(repeats, n=4)
    return Median(median, 1.253 / 1.349 * (third - first) / len(repeats) ** 0.5)


def seconds_of(step: Step, device: str) -> float:
    """Seconds of one step, until the device has finished it."""
    synchronise(device)
    started = time.perf_counter()
    step()
    synchronise(device)
    return time.perf_counter() - started


def take_turns(steps: Mapping[Any, Callable[[], float]], budget: float, label: str) -> dict[Any, list[float]]:
    """Seconds of each contestant's steps, which run one after the other in every round; the caller has warmed them up.

    Args:
        steps: each makes one step and returns its seconds.
        budget: seconds after which no round begins; there are at least 10 rounds, and at most 20.
        label: label of the progress bar.
    """
    times: dict[Any, list[float]] = {name: [] for name in steps}
    started = time.perf_counter()
    for done in bar(range(MOST_ROUNDS), desc=label, leave=False, delay=1):
        if done >= FEWEST_ROUNDS and time.perf_counter() - started > budget:
            break
        for name, step in steps.items():
            times[name].append(step())
    return times


def paired_ratio(numerator: list[float], denominator: list[float]) -> Median:
    """Median of the ratios of paired steps; background load hardly affects it."""
    return median_of([a / b for a, b in zip(numerator, denominator, strict=True)])

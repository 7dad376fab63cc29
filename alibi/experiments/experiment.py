"""What an experiment is made of, and how its cells are run side by side."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from alibi.corpus import load
from alibi.runs import trained
from alibi.scale import scale_named

if TYPE_CHECKING:
    import pandas as pd

# Evaluation lengths as multiples of the training length.
EXTRAPOLATION = (0.5, 1, 1.25, 2, 4, 8, 16)


@dataclass(frozen=True)
class Cell:
    """One training run and the lengths at which it is evaluated, nonoverlapping, on the validation split."""

    method: str
    scale: str
    train_length: int
    corpus: str = "wikipedia-sample"
    seed: int = 1
    steps: int = 0
    """Optimiser steps; 0 takes the scale's own number."""
    multiples: tuple[float, ...] = EXTRAPOLATION

    def records(self, bar_row: int = 0) -> "pd.DataFrame":
        """Trains what is not in the cache, evaluates, and returns one number a row (see `alibi.records`)."""
        run = trained(self.method, self.corpus, self.scale, self.train_length, self.seed, self.steps, bar_row)
        return run.records(round(multiple * self.train_length) for multiple in self.multiples)


def records(cells: Sequence[Cell]) -> "pd.DataFrame":
    """The records of these cells, one after the other in this process; what the cache holds takes no time."""
    import pandas as pd

    return pd.concat([cell.records() for cell in cells], ignore_index=True)


def run(cells: Sequence[Cell]) -> None:
    """Fills the cache with these cells, as many at a time as there are cores, a progress bar each."""
    cores = multiprocessing.cpu_count()
    threads = max((scale_named(cell.scale).threads or cores) for cell in cells)
    for corpus in {cell.corpus for cell in cells}:
        load(corpus)  # Built once, here, and not by the first of several waiting processes.
    # Spawned: a forked process inherits torch's threads in an unknown state.
    with ProcessPoolExecutor(
        max(1, cores // threads),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=tqdm.set_lock,
        initargs=(multiprocessing.get_context("spawn").RLock(),),
    ) as pool:
        waiting = [pool.submit(cell.records, row) for row, cell in enumerate(cells)]
        for done in waiting:
            done.result()

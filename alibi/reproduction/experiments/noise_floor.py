"""How far apart are two runs of one method that ought to be equal?

Differences between methods that are no larger say nothing. One run of ALiBi and one of sinusoidal are compared with
runs that differ in one thing: the initial weights (and dropout, where a scale has it), the order of the data, both, or
the dtype of the computation, which changes from machine to machine. The run itself is also read in windows that begin
half a window later.

    python -m alibi reproduce noise_floor --scale laptop
"""

from typing import Any

from alibi.reproduction.evaluations import Measure, nonoverlapping
from alibi.reproduction.experiments.wikitext103 import TEXTS
from alibi.reproduction.texts import text_named
from alibi.reproduction.training_cell import TrainingCell, spec_of
from alibi.scale import scale_named

METHODS = ("alibi", "sinusoidal")
BFLOAT16 = {"dtype": "bfloat16"}
# The other weights and the other order have the seed plus this number, outside the grids.
OTHER = 1000


def changes(seed: int) -> list[dict[str, Any]]:
    """Fields of the five runs: the first, then another order of the data, other weights, both, another dtype."""
    other = seed + OTHER
    return [
        {"seed": seed, **BFLOAT16},
        {"seed": seed, "data_seed": other, **BFLOAT16},
        {"seed": other, "data_seed": seed, **BFLOAT16},
        {"seed": other, **BFLOAT16},
        {"seed": seed, "dtype": "float32"},
    ]


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """Each method at the scale's own length, with each change; the first run also in windows that begin later."""
    length, text = scale_named(scale).train_length, text_named(corpus, TEXTS[scale])
    later = tuple(Measure(window, skip=window // 2) for window in (length, 16 * length))
    return [
        TrainingCell(
            spec_of(method, scale, length, text, **changed),
            "wikitext-103",
            text.evaluate,
            measures=nonoverlapping(scale, length) + (() if number else later),
        )
        for seed in seeds
        for number, changed in enumerate(changes(seed))
        for method in METHODS
    ]

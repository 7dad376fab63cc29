"""Do lengths divided by eight stand for the paper's? The paper's methods, with and without constants divided too.

A run trained at 64 tokens stands for one at 512, but slopes, buckets and bases are the paper's. Here ALiBi has eight
times the slopes, the T5 bias 16 buckets up to a distance of 16, and rotary and sinusoidal an eighth of their base. If
the paper's order past L holds in only one of the two forms, the scaling decides it and not the method.

Expected of the T5 bias (Table 2, over its perplexity at L = 512): 0.96 at 2 L, 1.26 at 8 L.

At scales quick and laptop the runs with the paper's constants are those of `wikitext103` at the same L. At scales gpu
and paper lengths are not divided: 64 and 128 stand for themselves there, and of the runs with the paper's constants at
these lengths `wikitext103` has those of scale paper.

    python -m alibi reproduce scaled_methods --scale laptop
"""

from alibi.positions import SCALED_METHODS
from alibi.reproduction.experiments.wikitext103 import STEPS, TEXTS
from alibi.reproduction.texts import text_named
from alibi.reproduction.training_cell import TrainingCell, extrapolation_cell, spec_of

METHODS = tuple(SCALED_METHODS.values())[::-1]
LENGTHS = {"quick": (128,), "laptop": (64, 128), "gpu": (64, 128), "paper": (64, 128)}


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """Every scaled method at the shortest lengths: those that stand for 512 and 1024 at scale laptop."""
    text, lengths = text_named(corpus, TEXTS[scale]), LENGTHS[scale]
    return [
        extrapolation_cell(spec_of(method, scale, length, text, seed, steps=STEPS.get(scale)), text, lengths)
        for seed in seeds
        for length in lengths
        for method in METHODS
    ]

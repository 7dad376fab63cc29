"""Do small budgets flatter extrapolation? The same methods after a quarter, the whole and four times the tokens.

The paper's models read 205 epochs, those of scale laptop less than two. If the ratio of perplexity past L to perplexity
at L changes with the number of training tokens, a scaled-down verdict holds for its budget and not for the paper's.

    scale    steps                   trained at L
    quick    75, 300, 1,200          128
    laptop   1,450, 5,800, 23,200    64
    gpu      700, 2,800, 11,200    512
    paper    as `wikitext103`: its budget is the paper's

    python -m alibi reproduce token_budget --scale laptop
"""

from alibi.reproduction.experiments.wikitext103 import TEXTS
from alibi.reproduction.texts import text_named
from alibi.reproduction.training_cell import TrainingCell, extrapolation_cell, spec_of
from alibi.scale import scale_named

METHODS = ("alibi", "sinusoidal", "none", "t5")
SHARES = {"quick": (0.25, 1, 4), "laptop": (0.25, 1, 4), "gpu": (0.25, 1, 4), "paper": (1,)}


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """Each method at the scale's own length, the smallest budget first: it is done soonest."""
    size, text = scale_named(scale), text_named(corpus, TEXTS[scale])
    length = size.train_length
    return [
        extrapolation_cell(spec_of(method, scale, length, text, seed, steps=round(share * size.steps)), text, (length,))
        for seed in seeds
        for share in SHARES[scale]
        for method in METHODS
    ]

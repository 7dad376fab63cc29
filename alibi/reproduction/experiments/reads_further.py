"""Does it read further? Truncation, attention distance, repeated words and gradient, in windows of 16 L.

Expected, by the claims of later papers (`alibi.reproduction.later_rules`): ALiBi loses nothing when it is cut to its
last 2 L tokens, and a model without positions that is cut at L equals it; L covers only ALiBi's receptive field; the T5
bias and models without positions attend farther; ALiBi's gain past L is in words that it can copy from there.

    scale    text and model         L            tokens scored
    quick    those of wikitext103   128          2,048
    laptop                          64, 128      8,192
    gpu                             512, 1024    65,536
    paper                           512, 1024    65,536

The scored tokens are the last 2 L of windows of 16 L. For each, only the last w tokens may be seen, with w from L / 8
to all. The runs are shared with `wikitext103` and `after_alibi`, and trained once. At laptop the measures of a run cost
about a twentieth of its training.

    python -m alibi reproduce reads_further --scale laptop
"""

from dataclasses import replace

from alibi.positions import PAPER_METHODS
from alibi.reproduction.evaluations import STRIDES_IN_L
from alibi.reproduction.experiments.wikitext103 import unmeasured
from alibi.reproduction.reading import ReadingMeasure
from alibi.reproduction.training_cell import TrainingCell

METHODS = (*PAPER_METHODS[::-1], "none", "window", "forgetting", "alibi-half")
# In L.
WINDOW, LAST, REPEATED = 16, 2, (2, 4)
SEEN = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
TOKENS = {"quick": 2048, "laptop": 8192, "gpu": 65_536, "paper": 65_536}


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """Each method at the lengths of Figure 1, every measure of a run in one cell."""
    return [
        replace(cell, reading=reading(scale, cell.train_length)) for cell in unmeasured(METHODS, scale, seeds, corpus)
    ]


def reading(scale: str, train_length: int) -> ReadingMeasure:
    """The measures of a run at this scale."""
    return ReadingMeasure(
        length=WINDOW * train_length,
        seen=tuple(round(multiple * train_length) for multiple in SEEN),
        last=LAST * train_length,
        windows=TOKENS[scale] // (LAST * train_length),
        stride=train_length // (STRIDES_IN_L[scale] or 16),
        repeated=tuple(multiple * train_length for multiple in REPEATED),
    )

"""Later methods beside the paper's: perplexity by window, and interpolation.

Expected, by the papers' own claims (`alibi.reproduction.later_rules`): KERPLE and Sandwich are ahead of ALiBi at 16 L,
FIRE at 4 L, the forgetting transformer at L; xPos fails less than rotary; a model without positions fails far past L.

    scale    text and model         L
    quick    those of wikitext103   128
    laptop                          64, 128
    gpu                             512, 1024
    paper                           512, 1024

All runs are as long as in `wikitext103`. The runs of the paper's methods and without positions are shared with it and
trained once. Windowed attention is trained with windows of L / 4 (`alibi.positions.window`).

Interpolation trains nothing: the runs of ALiBi and rotary are evaluated in windows of 2, 4 and 16 L with slopes or
angles rescaled by L_valid / L. The column `interpolation` of their records names the kind.

    python -m alibi reproduce after_alibi --scale laptop
"""

from dataclasses import replace

from alibi.positions import LATER_METHODS, PAPER_METHODS
from alibi.positions.interpolation import INTERPOLATIONS
from alibi.reproduction.evaluations import LONGEST, Measure, nonoverlapping
from alibi.reproduction.experiments.wikitext103 import LENGTHS, unmeasured
from alibi.reproduction.training_cell import TrainingCell

METHODS = (*PAPER_METHODS[::-1], "none", *LATER_METHODS, "alibi-half")
INTERPOLATED = (2, 4, 16)


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """Every method at the lengths of Figure 1."""
    return [
        replace(
            cell,
            measures=nonoverlapping(scale, cell.train_length, LENGTHS[scale])
            + interpolated(scale, cell.spec.method, cell.train_length),
        )
        for cell in unmeasured(METHODS, scale, seeds, corpus)
    ]


def interpolated(scale: str, method: str, train_length: int) -> tuple[Measure, ...]:
    """Windows past L with the slopes or angles of a method rescaled, by each kind of interpolation that it has."""
    lengths = [length for multiple in INTERPOLATED if (length := multiple * train_length) <= LONGEST[scale]]
    return tuple(Measure(length, interpolation=kind) for kind in INTERPOLATIONS.get(method, ()) for length in lengths)

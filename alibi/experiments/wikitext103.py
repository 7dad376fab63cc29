"""Extrapolation on WikiText-103: the paper's Figure 1, Tables 2 to 4.

Expected (Table 2, trained at L = 512): sinusoidal 20.05 at L, 19.91 at L + 50 at best, 406.01 at 15512 tokens;
rotary best at L + 200; T5 bias best at L + 600; ALiBi 19.73 at L, 18.31 at 12512 and no rise after.

Scale quick trains the four methods at L = 128 on the Wikipedia sample that ships with gensim, a stand-in a
thousandth of WikiText-103's size, and asks for the shape of the curves only: about five minutes on two cores.

    python -m alibi book
"""

from alibi.experiments.experiment import Cell
from alibi.positions import PAPER_METHODS
from alibi.scale import scale_named


def cells(scale: str = "quick") -> list[Cell]:
    """The training runs and evaluations of this experiment at a scale: each method at the scale's length."""
    length = scale_named(scale).train_length
    return [Cell(method, scale, length) for method in PAPER_METHODS]

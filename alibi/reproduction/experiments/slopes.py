"""Ablations of ALiBi's slopes: sections 3 and 5 (p. 5 and 9) and the official FAQ; the paper gives no table of them.

Expected: learned slopes extrapolate worse and train 3% slower; slopes drawn at random sometimes work; multiplying the
score by the bias, or a bias that grows faster than the distance, is worse than the linear bias.

    python -m alibi reproduce slopes --scale laptop
"""

from alibi.positions import VARIANTS
from alibi.reproduction.cells import Cell
from alibi.reproduction.evaluations import nonoverlapping
from alibi.reproduction.experiments.efficiency import learned
from alibi.reproduction.experiments.wikitext103 import TEXTS
from alibi.reproduction.texts import text_named
from alibi.reproduction.training_cell import TrainingCell, spec_of
from alibi.scale import scale_named


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[Cell]:
    """Every variant at the scale's own length, then the costs of learning.

    The seed draws the random slopes; where they or training decide the slopes, these are recorded too.
    """
    length = scale_named(scale).train_length
    measures, text = nonoverlapping(scale, length), text_named(corpus, TEXTS[scale])
    decided = ("alibi-learned", "alibi-random")
    trained: list[Cell] = [
        TrainingCell(
            spec_of(method, scale, length, text, seed),
            eval_corpus=text.evaluate,
            measures=measures,
            slopes=method in decided,
        )
        for seed in seeds
        for method in ("alibi", *VARIANTS)
    ]
    return trained + learned(scale)

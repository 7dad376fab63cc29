"""The test split, read once for each model: Table 6, and do the rules of claims 1 to 5 have the same outcomes there?

Rates, factors and bounds were chosen with validation text in view. The runs are those of `wikitext103` at the lengths
of Figure 1, from the same cache. Each is read without overlap on both splits, so that two numbers of one model stand
side by side. No claim takes its verdict from these records: `alibi.reproduction.both_splits` sets the outcomes of the
rules on the two splits beside each other.

Expected (Table 6, perplexity of test over validation text): sinusoidal 1.038, rotary 1.038, T5 bias 1.040, ALiBi 1.037
where trained at 512, 1.040 at 3072.

    python -m alibi reproduce test_split --scale laptop
"""

from dataclasses import replace

from alibi.positions import PAPER_METHODS
from alibi.reproduction.evaluations import nonoverlapping
from alibi.reproduction.experiments.wikitext103 import unmeasured
from alibi.reproduction.training_cell import TrainingCell


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """The paper's methods at the lengths of Figure 1, in the windows of `wikitext103`, on both splits."""
    return [
        replace(
            cell,
            measures=tuple(
                replace(measure, split=split)
                for split in ("valid", "test")
                for measure in nonoverlapping(scale, cell.train_length)
            ),
        )
        for cell in unmeasured(PAPER_METHODS[::-1], scale, seeds, corpus)
    ]

"""The source of the gain past the training length: Appendix B, Tables 13 to 15, Figure 11.

In nonoverlapping evaluation the first tokens of a window have almost no context; longer windows have fewer of them.
Under the sliding window with stride 1 every token has a full window, and ALiBi's perplexity is flat in its length:
expected (Table 15, trained at 512) 17.98 at 512 and 18.30 at 3072; nonoverlapping they are 19.73 and 18.40.

The runs are those of `wikitext103`, from the same cache. Both protocols score the same tokens, in two ways:

- Full windows of L, 2 L and 4 L. The first tokens of the split are only context, so that each scored token has a whole
  window before it, minus at most the stride. The stride is L / 8 at scales quick and laptop, L / 16 at gpu and 1 at
  paper. The scored tokens are spread over the split: some 4,000 at quick, 16,000 at laptop, else all of them.
- Windows that overlap by half, on the first 32,768 tokens of the split (quick: 4,096), where the first windows grow.
  The loss is also recorded by position in the window.

    python -m alibi reproduce early_token_curse --scale laptop
"""

from dataclasses import replace

from alibi.reproduction.evaluations import HALF_STRIDE_TOKENS, Measure, full_windows
from alibi.reproduction.experiments import wikitext103
from alibi.reproduction.training_cell import TrainingCell
from alibi.scale import scale_named

WINDOWS = (1, 2, 4, 8)


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """ALiBi, the T5 bias and sinusoidal at the scale's own length, both protocols over the same tokens."""
    length = scale_named(scale).train_length
    windows = [multiple * length for multiple in WINDOWS]
    measures = (
        *(Measure(window, None, HALF_STRIDE_TOKENS[scale]) for window in windows),
        *(Measure(window, window // 2, HALF_STRIDE_TOKENS[scale]) for window in windows),
        *full_windows(scale, length),
    )
    of_wikitext = {
        cell.spec.method: cell for cell in wikitext103.runs(scale, corpus=corpus) if cell.train_length == length
    }
    return [
        replace(cell, spec=replace(cell.spec, seed=seed), measures=measures, against_itself=None, by_position=True)
        for seed in seeds
        for cell in (of_wikitext[method] for method in ("alibi", "sinusoidal", "t5"))
    ]

"""Extrapolation on WikiText-103: Tables 2 to 7 and 13 to 15, Figures 1, 4, 8 and 11.

Expected (Table 2, trained at L = 512): sinusoidal 20.05 at L, 19.91 at L + 50 at best, 406.01 at 15512 tokens;
rotary best at L + 200; T5 bias best at L + 600; ALiBi 19.73 at L, 18.31 at 12512 and no rise after. Trained at 512 and
evaluated at 3072 ALiBi has 18.40, sinusoidal trained at 3072 has 18.67 (Table 5).

    scale    trained on                     L                  a run takes about
    quick    Wikipedia sample of gensim     128                2 minutes on a core
    laptop   the beginning of WikiText-103  64, 128, 384       36 to 82 minutes on a core
    gpu      WikiText-103                   512, 1024, 3072    minutes on an H100
    paper    WikiText-103                   64 to 3072         days on 8 V100s

The control of the runs is a trigram with a cache of the last W words, on the same tokens: its perplexity against W
shows the worth of longer context (`alibi.reproduction.trigram`). It is not a position method; `--methods trigram-cache`
chooses it alone.

Scale quick shows only the shape of the curves; laptop reads the training words that its budget needs, and is evaluated
on the whole validation set. --corpus chooses another text.

    python -m alibi reproduce wikitext103 --scale laptop
"""

from collections.abc import Sequence

from alibi.positions import PAPER_METHODS
from alibi.reproduction.cells import Cell
from alibi.reproduction.control import ControlCell
from alibi.reproduction.texts import Text, text_named
from alibi.reproduction.training_cell import TrainingCell, extrapolation_cell, spec_of
from alibi.scale import scale_named

TEXTS = {
    "quick": Text("wikipedia-sample"),
    "laptop": Text("wikitext-103"),
    "gpu": Text("wikitext-103"),
    "paper": Text("wikitext-103"),
}
LENGTHS = {
    "quick": (128,),
    "laptop": (64, 128, 384),
    "gpu": (512, 1024, 3072),
    "paper": (512, 1024, 3072, 64, 128, 256, 1536, 2048),
}
# At laptop these runs are longer than the scale's own: 20 million tokens. Runs of 2.4 and 8.9 million suggest that
# a model needs some 16 million to gain 0.05 nats from context (gate a of `alibi.reproduction.rules`).
STEPS = {"laptop": 13_000}


def runs(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """Every method at every training length, the shortest lengths and the first seed first.

    A model without positions, the control of all others, is trained only at the lengths of Figure 1.
    """
    lengths, text = LENGTHS[scale], text_named(corpus, TEXTS[scale])
    return [
        extrapolation_cell(spec_of(method, scale, length, text, seed, steps=STEPS.get(scale)), text, own)
        for seed in seeds
        for methods, own in ((PAPER_METHODS[::-1], lengths), (("none",), lengths[:2]))
        for length in own
        for method in methods
    ]


def unmeasured(
    methods: Sequence[str], scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None
) -> list[TrainingCell]:
    """This experiment's runs of these methods at the lengths of Figure 1, for other experiments to measure."""
    text = text_named(corpus, TEXTS[scale])
    return [
        TrainingCell(spec_of(method, scale, length, text, seed, steps=STEPS.get(scale)), eval_corpus=text.evaluate)
        for seed in seeds
        for length in LENGTHS[scale][:2]
        for method in methods
    ]


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[Cell]:
    """The runs, and for each length and seed the control: a trigram with a cache, on the same tokens, in seconds."""
    trained = runs(scale, seeds, corpus)
    return [*trained, *(ControlCell(cell) for cell in trained if cell.spec.method == PAPER_METHODS[-1])]


def live(scale: str = "quick") -> list[TrainingCell]:
    """The runs that chapters train while they are read: each method at the scale's own length."""
    length = scale_named(scale).train_length
    text = TEXTS[scale]
    return [TrainingCell(spec_of(m, scale, length, text, seed=1), eval_corpus=text.evaluate) for m in PAPER_METHODS]

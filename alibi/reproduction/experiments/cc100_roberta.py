"""The larger model on a larger text: Tables 11 and 12, Figures 5 and 6, 1.3B parameters on CC100 and RoBERTa's corpus.

Expected after equal updates (Table 12): at 2048, ALiBi trained at 1024 has 8.92, sinusoidal trained at 2048 8.83 and
sinusoidal trained at 1024 48.85. In equal time (Table 11), 8.92 against 9.01, with 26.2 GB against
29.3 GB of memory. ALiBi is best near twice its training length: 9.79, 9.30, 9.54 at 512, 1024, 2048.

In equal time the sinusoidal models get the paper's share of updates, 46,700 and 44,200 of 50,000.

    scale    model                    text                               L
    quick    4 layers, width 320      Wikipedia sample of gensim         64, 128
    laptop   4 layers, width 384      the beginning of OpenWebText       64, 128, 256
    gpu      12 layers, width 1024    its first 200 million words        512, 1024, 2048
    paper    25 layers, width 2048    OpenWebText                        512, 1024, 2048

All have 16 heads, like the paper's. Nobody offers its text, 461 GB, as one corpus: OpenWebText, 40 GB and a part of
RoBERTa's text, stands in for it. --corpus chooses another text.

    python -m alibi reproduce cc100_roberta --scale laptop
"""

from alibi.reproduction.cells import Cell
from alibi.reproduction.evaluations import full_windows, nonoverlapping
from alibi.reproduction.experiments.efficiency import large
from alibi.reproduction.texts import Text, text_named
from alibi.reproduction.training_cell import TrainingCell, spec_of
from alibi.scale import scale_named

TEXTS = {
    "quick": Text("wikipedia-sample"),
    "laptop": Text("openwebtext"),
    "gpu": Text("openwebtext, first 200M words"),
    "paper": Text("openwebtext"),
}
LENGTHS = {"quick": (64, 128), "laptop": (64, 128, 256), "gpu": (512, 1024, 2048), "paper": (512, 1024, 2048)}
# Updates of the sinusoidal model of Table 11 out of 50,000, by the training length in the paper.
EQUAL_TIME = {1024: 46_700 / 50_000, 2048: 44_200 / 50_000}


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[Cell]:
    """Both methods at every length for equal updates, then sinusoidal for equal time; costs last.

    Full sliding windows tell how much of a gain past L is the early token curse; the paper has none for these models.
    """
    text = text_named(corpus, TEXTS[scale])
    found: list[Cell] = []
    for seed in seeds:
        for length in LENGTHS[scale]:
            measures = nonoverlapping(scale, length, LENGTHS[scale]) + full_windows(scale, length)
            common = (scale, length, text, seed)
            for method in ("alibi", "sinusoidal"):
                found.append(
                    TrainingCell(spec_of(method, *common, large=True), "cc100+roberta", text.evaluate, measures)
                )
            paper_length = length * scale_named(scale).paper_factor
            if paper_length in EQUAL_TIME:
                steps = round(scale_named(scale).steps * EQUAL_TIME[paper_length])
                spec = spec_of("sinusoidal", *common, large=True, steps=steps)
                cell = TrainingCell(spec, "cc100+roberta", text.evaluate, measures, equal_time=True)
                found.append(cell)
    return found + large(scale)

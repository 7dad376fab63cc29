"""Speed and memory: Table 1, Figures 2 and 7, and the costs of Tables 11 and 12.

Expected (Table 1, L = 512, 1024, 3072, one V100): ALiBi trains at 99 to 101% of sinusoidal's speed with at most 0.1 GB
more; rotary at 68 to 75%, the T5 bias at 28 to 51%. Training at 512 is 1.84 times as fast as at 3072.

    scale    model                                  L                  all of it takes about
    quick    W1: 4 layers, width 256                128                2 minutes on two cores
    laptop   W2: 6 layers, width 512                512, 1024, 3072    an hour on two cores
    gpu      247M: 16 layers, width 1024            512, 1024, 3072    minutes on an H100
    paper    the same

Speed needs no reduced lengths: it uses the paper's. The methods take turns at steps on random tokens, for at least ten
rounds, each on its fastest attention kernel and on a shared one. The shared kernel stores scores and adds a mask for
every method, as the paper's code does. A ratio is the median of the ratios of neighbouring steps. The T5 bias is timed
in three forms, from a look-up for each distance to one for each pair of tokens in each layer. Nothing else should run
at the same time.

    python -m alibi reproduce efficiency --scale laptop
"""

from alibi.positions import PAPER_METHODS
from alibi.reproduction.cells import Cell
from alibi.reproduction.evaluations import HALF_STRIDE_TOKENS, Measure
from alibi.reproduction.experiments.wikitext103 import TEXTS
from alibi.reproduction.speed_cells import AttentionCell, DecayWindowCell, SpeedCell, T5FormsCell
from alibi.reproduction.texts import text_named
from alibi.reproduction.training_cell import spec_of
from alibi.scale import scale_named
from alibi.speed.evaluation import LONGER
from alibi.speed.trials import ONE_KERNEL

KERNEL_LENGTHS = {
    "quick": (128,),
    "laptop": (128, 512, 1024, 3072, 8192, 16_384),
    "gpu": (512, 1024, 3072, 8192, 16_384, 32_768, 65_536),
    "paper": (),
}
PAPER_SHAPES = ("247M-512", "247M-1024", "247M-3072")
MODELS = {"quick": ("W1",), "laptop": ("W2", "W2-1024", "W2-3072"), "gpu": PAPER_SHAPES, "paper": PAPER_SHAPES}
LARGE = {
    "quick": (),
    "laptop": ("large-512", "large-1024", "large-2048"),
    "gpu": ("1.3B-512", "1.3B-1024", "1.3B-2048"),
    "paper": ("1.3B-512", "1.3B-1024", "1.3B-2048"),
}


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[Cell]:
    """All methods of the paper at each length, attention by kernel, and the loss within a decay window.

    Cells of speed do not depend on seed or text.
    """
    length, text = scale_named(scale).train_length, text_named(corpus, TEXTS[scale])
    measured = (Measure(LONGER * length, None, HALF_STRIDE_TOKENS[scale]),)
    return [
        *(SpeedCell(scale, shape, PAPER_METHODS, kernel=ONE_KERNEL) for shape in MODELS[scale]),
        *(T5FormsCell(scale, shape) for shape in MODELS[scale]),
        *(AttentionCell(scale, length) for length in sorted(KERNEL_LENGTHS[scale])),
        DecayWindowCell(spec_of("alibi", scale, length, text, seeds[0]), eval_corpus=text.evaluate, measures=measured),
    ]


def large(scale: str) -> list[Cell]:
    """Costs of the larger model at the lengths of Table 12, for `cc100_roberta`."""
    return [SpeedCell(scale, shape, ("sinusoidal", "alibi"), paper_corpus="cc100+roberta") for shape in LARGE[scale]]


def learned(scale: str) -> list[Cell]:
    """Costs of learning the slopes, for `slopes`."""
    return [SpeedCell(scale, shape, ("alibi", "alibi-learned")) for shape in MODELS[scale][:1]]

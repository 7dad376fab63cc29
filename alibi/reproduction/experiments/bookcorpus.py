"""Another domain with nothing retuned: Tables 8 to 10 and Figure 9, Toronto BookCorpus.

Expected (Table 8, validation): ALiBi trained at 512 and evaluated at 3072 has 13.55, sinusoidal trained at 3072 has
14.46. The slopes and all hyperparameters are those of `wikitext103`; only the text differs. Its small vocabulary needs
one plain matrix for the embedding.

    scale    text                                  L                  a run takes about
    quick    Wikipedia sample of gensim            128                2 minutes on a core
    laptop   the beginning of the BookCorpus       64, 128, 384       20 to 105 minutes on a core
    gpu      Toronto BookCorpus                    512, 1024, 3072    minutes on an H100
    paper    Toronto BookCorpus                    512, 1024, 3072    days on 8 V100s

The text of quick is not from books: it shows that everything runs, and is not evidence. laptop reads byte pairs,
because their vocabulary is small enough for its models. --corpus chooses another text.

    python -m alibi reproduce bookcorpus --scale laptop
"""

from alibi.reproduction.experiments.wikitext103 import LENGTHS
from alibi.reproduction.texts import Text, text_named
from alibi.reproduction.training_cell import TrainingCell, extrapolation_cell, spec_of

TEXTS = {
    "quick": Text("wikipedia-sample"),
    "laptop": Text("bookcorpus", tokenisation="bytes"),
    "gpu": Text("bookcorpus"),
    "paper": Text("bookcorpus"),
}


def cells(scale: str, seeds: tuple[int, ...] = (0,), corpus: str | None = None) -> list[TrainingCell]:
    """ALiBi and sinusoidal at the three training lengths of Table 8."""
    text, lengths = text_named(corpus, TEXTS[scale]), LENGTHS[scale][:3]
    return [
        extrapolation_cell(spec_of(method, scale, length, text, seed), text, lengths, "bookcorpus")
        for seed in seeds
        for length in lengths
        for method in ("alibi", "sinusoidal")
    ]

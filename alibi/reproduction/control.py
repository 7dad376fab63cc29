"""The control of the perplexities: a trigram with a cache of recent words, counted on a run's training tokens."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from alibi.corpora.corpus import Corpus, load
from alibi.protocols import CACHE
from alibi.provenance import provenance
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.cells import Cell
from alibi.reproduction.evaluations import LONGEST
from alibi.reproduction.evidence import CONTROLS, TRIGRAM_WITH_CACHE
from alibi.reproduction.training_cell import TrainingCell
from alibi.reproduction.trigram import Trigram, best_weight, cache_probability, mixed_loss
from alibi.run_spec import BOOKKEEPING, Bookkeeping
from alibi.scale import scale_named
from alibi.windows import TrainingOrder, scored_tokens, shift

if TYPE_CHECKING:
    import pandas as pd

SHORTEST_CACHE = 32
# The trigram alone is recorded as a cache of the two words that it reads.
ALONE = 2
# The cache's weights are chosen on the last tokens of the training split: this number, but at most a tenth.
HELD_OUT_TOKENS = 200_000


@dataclass(frozen=True)
class ControlCell(Cell):
    """A trigram with a unigram cache of the last W words, trained and scored on the tokens of a run.

    A record of `trigram-cache` (protocol `cache`) has W as `eval_length`, a record of `trigram` has `ALONE`. The cache
    holds the text before the token and ignores windows; its weight for each W is chosen on training text.
    """

    run: TrainingCell
    """The run with the same training tokens, vocabulary and scored tokens; its position method makes no difference."""

    methods: ClassVar[tuple[str, ...]] = CONTROLS
    device: ClassVar[str] = "cpu"

    @property
    def scale(self) -> str:
        """Name of the run's scale."""
        return self.run.scale

    @property
    def seed(self) -> int:
        """The seed of the run, whose blocks are counted."""
        return self.run.seed

    @property
    def train_length(self) -> int:
        """L of the run, tokens: the trigrams of its blocks are counted."""
        return self.run.train_length

    @property
    def title(self) -> str:
        """The cell's name, such as "trigram with cache, L = 64, seed 0"."""
        return f"trigram with cache, L = {self.train_length}, seed {self.seed}"

    @property
    def windows(self) -> tuple[int, ...]:
        """Words in the cache, W: doublings of 32 and the run's evaluation lengths, up to the scale's longest."""
        doublings = {SHORTEST_CACHE << power for power in range(LONGEST[self.scale].bit_length())}
        lengths = {length for m in self.run.measures if (length := m.length) >= SHORTEST_CACHE}
        return tuple(sorted(window for window in doublings | lengths if window <= LONGEST[self.scale]))

    @property
    def measurements(self) -> int:
        """One for each cache and one for the trigram alone, on each part of the text that the run is scored on."""
        return (1 + len(self.windows)) * len(self._parts())

    @property
    def absent(self) -> str | None:
        """The corpus of the run, if it must be fetched first."""
        return self.run.absent

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The counted text, its tokenisation, and the scored text."""
        return self.run.texts

    def configured(self) -> dict[str, Any]:
        """Its configuration as plain data."""
        return {"windows": self.windows, "held_out_tokens": HELD_OUT_TOKENS, "run": self.run.configured()}

    def prepare(self) -> None:
        """Builds missing corpora of the run."""
        self.run.prepare()

    def flops(self) -> tuple[float, float]:
        """Zero: it takes only some seconds for each ten million tokens."""
        return 0.0, 0.0

    def identity(self) -> dict[str, Any]:
        """The run and its text; controls of other runs differ in them."""
        return self._common() | {"corpus_used": self.run.corpus_used}

    def numbers(self) -> list[dict[str, Any]]:
        """Its numbers before they are measured: for each record, the columns that are known."""
        return [self._of(window) | self._scored(part) for part in self._parts() for window in (ALONE, *self.windows)]

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Counts, chooses the cache's weights on training text, scores; one number a row (see `alibi.records`)."""
        import pandas as pd

        corpus = load(self.run.spec.corpus, self.run.spec.tokenisation)
        read = self.run.evaluated_on() or corpus
        stream, targets = shift(corpus.split("train").tokens, corpus.end_of_line), self.targets(corpus)
        weights = self._weights(corpus, stream, targets)
        trigram = Trigram(stream, corpus.vocabulary_size, targets)
        common = provenance("cpu") | {
            "model": "trigram", "provenance": "measured", "dtype": "float64", "smoke": False,
            "corpus_used": self.run.corpus_used,
        }  # fmt: skip
        rows = []
        for split in sorted({split for split, *_ in self._parts()}):
            tokens = np.asarray(read.encoded_by(corpus, split).tokens)
            alone = trigram.of_stream(shift(tokens, corpus.end_of_line))
            losses = {ALONE: -np.log(alone)}
            for window, cache in zip(self.windows, cache_probability(tokens, self.windows), strict=True):
                losses[window] = mixed_loss(alone, cache, weights[window])
            for part in self._parts():
                of_split, prefix, skip, sample = part
                if of_split != split:
                    continue
                scored = scored_tokens(len(tokens[:prefix]), skip, sample)
                for window, nats in losses.items():
                    chosen = nats[:prefix][scored]
                    found: dict[str, Any] = {"value": float(np.exp(chosen.mean())), "tokens_scored": len(chosen)}
                    if window != ALONE:
                        found["note"] = f"weight of the cache {weights[window]:.3f}, chosen on training text"
                    rows.append(common | self._of(window) | self._scored(part) | found)
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

    def targets(self, corpus: Corpus) -> np.ndarray:
        """Places of the run's training tokens in the shifted training stream, each once, ascending."""
        config = self.run.config()
        batch = config.batch_tokens // config.train_length
        order = TrainingOrder(
            corpus.splits["train"].tokens, corpus.end_of_line, config.train_length, batch, config.seed
        )
        # After an epoch every block has been seen, except those that do not fill a batch.
        steps = min(config.steps, 2 * order.steps_an_epoch)
        starts = np.unique(np.concatenate([order.where(step)[2] for step in range(steps)]))
        return (starts[:, None] + np.arange(1, config.train_length + 1)).ravel()

    def _weights(self, corpus: Corpus, stream: np.ndarray, targets: np.ndarray) -> dict[int, float]:
        """The best weight of each cache on the end of the training split, with a trigram not trained on that end."""
        kept = max(len(stream) - HELD_OUT_TOKENS, len(stream) * 9 // 10)
        held_out = stream[kept - 1 :]
        alone = Trigram(stream, corpus.vocabulary_size, targets[targets < kept]).of_stream(held_out)
        caches = cache_probability(held_out[1:], self.windows)
        return {window: best_weight(alone, cache) for window, cache in zip(self.windows, caches, strict=True)}

    def _parts(self) -> list[tuple[str, int | None, int, int | None]]:
        """Split, prefix, skipped tokens and sample of the texts of the run's perplexities."""
        return list(dict.fromkeys((m.split, m.prefix, m.skip, m.sample) for m in self.run.measures))

    def _of(self, window: int) -> dict[str, Any]:
        """Columns of the records of a cache of `window` words, or of the trigram for `ALONE`."""
        method, protocol = (CONTROLS[0], CONTROLS[0]) if window == ALONE else (TRIGRAM_WITH_CACHE, CACHE)
        return self._common() | {
            "corpus": self.run.paper_corpus, "method": method, "protocol": protocol, "eval_length": window,
            "metric": "perplexity", "unit": "",
            "paper_length": self.train_length * scale_named(self.scale).paper_factor,
        }  # fmt: skip

    @staticmethod
    def _scored(part: tuple[str, int | None, int, int | None]) -> dict[str, Any]:
        split, prefix, skip, sample = part
        return {"split": split, "prefix": prefix, "skipped": skip or None, "sample": sample}

    def _common(self) -> dict[str, Any]:
        return {
            "scale": self.scale, "train_length": self.train_length, "seed": self.seed,
            "tokens_trained": self.run.tokens,
        }  # fmt: skip

"""The control of the perplexities: a trigram with a cache of recent words, on the tokens that a run is trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from alibi.corpora.corpus import Corpus, load
from alibi.device import provenance
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.cells import LONGEST, TrainingCell
from alibi.reproduction.evidence import CACHE, CONTROLS, TRIGRAM_WITH_CACHE
from alibi.reproduction.trigram import Trigram, best_weight, cache_probability, mixed_loss
from alibi.run_spec import BOOKKEEPING, Bookkeeping
from alibi.scale import scale_named
from alibi.windows import TrainingOrder, shift

if TYPE_CHECKING:
    import pandas as pd

SHORTEST_CACHE = 32
# The cache's weights are chosen on the last tokens of the training split: so many, and no more than a tenth.
HELD_OUT_TOKENS = 200_000


@dataclass(frozen=True)
class ControlCell:
    """A trigram with a unigram cache of the last W words, trained and scored on the tokens of a run.

    A record of `trigram-cache` (protocol `cache`) has W as `eval_length`, one of `trigram` the two words that it reads.
    The cache is that of the text before the token, whatever the window; its weight for each W is chosen on training
    text.
    """

    run: TrainingCell
    """Whose training tokens, vocabulary and scored tokens it shares; the position method makes no difference."""

    methods: ClassVar[tuple[str, ...]] = CONTROLS
    alone: ClassVar[bool] = False
    steps: ClassVar[int | None] = None

    @property
    def scale(self) -> str:
        """Name of the run's scale."""
        return self.run.scale

    @property
    def train_length(self) -> int:
        """L of the run, tokens: its blocks are what is counted."""
        return self.run.train_length

    @property
    def title(self) -> str:
        """Such as "trigram with cache, L = 64, seed 0"."""
        return f"trigram with cache, L = {self.train_length}, seed {self.run.spec.seed}"

    @property
    def windows(self) -> tuple[int, ...]:
        """Words in the cache, W: doublings of 32 and the run's evaluation lengths, up to the scale's longest."""
        doublings = {SHORTEST_CACHE << power for power in range(LONGEST[self.scale].bit_length())}
        lengths = {length for m in self.run.measures if (length := m.length) >= SHORTEST_CACHE}
        return tuple(sorted(window for window in doublings | lengths if window <= LONGEST[self.scale]))

    @property
    def measurements(self) -> int:
        """One for each cache and the trigram alone, on each part of the text that the run is scored on."""
        return (1 + len(self.windows)) * len(self._parts())

    @property
    def absent(self) -> str | None:
        """The corpus of the run, if it would have to be fetched."""
        return self.run.absent

    def configured(self) -> dict[str, Any]:
        """What is counted and read, as plain data."""
        return {"windows": self.windows, "held_out_tokens": HELD_OUT_TOKENS, "run": self.run.configured()}

    def prepare(self) -> None:
        """Builds the corpora of the run where they are missing."""
        self.run.prepare()

    def begun(self) -> bool:
        """Never: it takes seconds."""
        return False

    def flops(self) -> tuple[float, float]:
        """Nothing to speak of: some seconds for each ten million tokens."""
        return 0.0, 0.0

    def recorded(self, records: "pd.DataFrame") -> bool:
        """Whether every cache of this control is among these records."""
        own = records[records.method.isin(CONTROLS)]
        for column, value in self._identity().items():
            own = own[own[column] == value]
        found = set(zip(own.eval_length, own.split, own.prefix.fillna(0), strict=True))
        return all((n, split, prefix or 0) in found for n in (2, *self.windows) for split, prefix in self._parts())

    def records(self, bookkeeping: Bookkeeping = BOOKKEEPING) -> "pd.DataFrame":
        """Counts, chooses the cache's weights on training text, scores; one number a row (see `alibi.records`)."""
        import pandas as pd

        corpus = load(self.run.spec.corpus, self.run.spec.tokenisation)
        read = self.run.evaluated_on() or corpus
        stream, targets = shift(corpus.split("train").tokens, corpus.end_of_line), self.targets(corpus)
        weights = self._weights(corpus, stream, targets)
        trigram = Trigram(stream, corpus.vocabulary_size, targets)
        stands_for = self.train_length * scale_named(self.scale).paper_factor
        common = self._identity() | provenance("cpu") | {
            "corpus": self.run.paper_corpus, "model": "trigram", "metric": "perplexity", "provenance": "measured",
            "paper_length": stands_for, "dtype": "float64", "smoke": False,
        }  # fmt: skip
        rows = []
        for split in sorted({split for split, _ in self._parts()}):
            tokens = np.asarray(read.encoded_by(corpus, split).tokens)
            alone = trigram.of_stream(shift(tokens, corpus.end_of_line))
            losses = {(CONTROLS[0], 2, ""): -np.log(alone)}
            for window, cache in zip(self.windows, cache_probability(tokens, self.windows), strict=True):
                note = f"weight of the cache {weights[window]:.3f}, chosen on training text"
                losses[TRIGRAM_WITH_CACHE, window, note] = mixed_loss(alone, cache, weights[window])
            for of_split, prefix in self._parts():
                if of_split == split:
                    rows += [
                        common | {
                            "method": method, "eval_length": window, "note": note, "split": split, "prefix": prefix,
                            "protocol": CACHE if method == TRIGRAM_WITH_CACHE else method,
                            "value": float(np.exp(nats[:prefix].mean())), "tokens_scored": len(nats[:prefix]),
                        }
                        for (method, window, note), nats in losses.items()
                    ]  # fmt: skip
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

    def targets(self, corpus: Corpus) -> np.ndarray:
        """Places, in the shifted training stream, of the tokens that the run is trained on, each once, ascending."""
        config = self.run.config()
        batch = config.batch_tokens // config.train_length
        order = TrainingOrder(
            corpus.splits["train"].tokens, corpus.end_of_line, config.train_length, batch, config.seed
        )
        # From one epoch on every block has been seen, but for those that fill no batch.
        steps = min(config.steps, 2 * order.steps_an_epoch)
        starts = np.unique(np.concatenate([order.where(step)[2] for step in range(steps)]))
        return (starts[:, None] + np.arange(1, config.train_length + 1)).ravel()

    def _weights(self, corpus: Corpus, stream: np.ndarray, targets: np.ndarray) -> dict[int, float]:
        """The best weight of each cache on the end of the training split, of a trigram that was not trained on it."""
        kept = max(len(stream) - HELD_OUT_TOKENS, len(stream) * 9 // 10)
        held_out = stream[kept - 1 :]
        alone = Trigram(stream, corpus.vocabulary_size, targets[targets < kept]).of_stream(held_out)
        caches = cache_probability(held_out[1:], self.windows)
        return {window: best_weight(alone, cache) for window, cache in zip(self.windows, caches, strict=True)}

    def _parts(self) -> list[tuple[str, int | None]]:
        """Split and prefix of the text that the run's perplexities are over."""
        return list(dict.fromkeys((m.split, m.prefix) for m in self.run.measures))

    def _identity(self) -> dict[str, Any]:
        """What tells the control of this run from others in records."""
        trained_on, read = self.run.spec.corpus, self.run.eval_corpus
        return {
            "scale": self.scale, "train_length": self.train_length, "seed": self.run.spec.seed,
            "corpus_used": f"{trained_on} -> {read}" if read else trained_on, "tokens_trained": self.run.tokens,
        }  # fmt: skip

"""Records of the measures of reading: truncation, attention distance, repeated tokens and receptive field."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alibi.corpora.corpus import Corpus
from alibi.measures.repeats import distance_bands
from alibi.measures.truncation import FORMS
from alibi.model import Decoder
from alibi.protocols import ATTENTION, GRADIENT, REPEATS, TRUNCATED
from alibi.records import MEASURED_COLUMNS
from alibi.runs import Run

if TYPE_CHECKING:
    import pandas as pd

# Metrics of each head, with their units.
OF_HEADS = {
    "attention_distance_mean": "tokens",
    "attention_distance_mean_standard_error": "tokens",
    "attention_distance_median": "tokens",
    "attention_past_length": "",
    "attention_on_first": "",
}


@dataclass(frozen=True)
class ReadingMeasure:
    """Settings of the measures of how far a run reads, in full windows spread evenly over a split."""

    length: int
    """Tokens in a window, a multiple of the training length."""
    seen: tuple[int, ...]
    """Each number w of tokens that may be seen; the training length and the whole window are always measured."""
    last: int
    """Tokens at the end of each window to score or to measure the attention of."""
    windows: int
    """Least number of windows."""
    stride: int = 1
    """New tokens in each window that is shortened to w."""
    repeated: tuple[int, ...] = ()
    """Lengths of shortened windows for repeated tokens; the training length and the whole are always measured."""
    split: str = "valid"

    def every(self, train_length: int, longest: int | None = None) -> list[int]:
        """Each w of the truncation, in rising order, in windows of at most `longest` tokens."""
        return sorted({min(w, longest or w) for w in (*self.seen, train_length, self.length)})

    def every_repeated(self, train_length: int, longest: int | None = None) -> list[int]:
        """Each window in which repeated tokens are scored, in rising order and of at most `longest` tokens."""
        return sorted({min(w, longest or w) for w in (*self.repeated, train_length, self.length)})

    def attention(self, train_length: int) -> list[tuple[int, int, int]]:
        """Tokens, last queries and number of the windows for attention: windows of L, then whole ones.

        Both have about the same number of queries, and the same share of each window.
        """
        parts = self.length // train_length
        within = train_length, max(1, self.last // parts), self.windows * parts
        return [*([within] if parts > 1 else []), (self.length, self.last, self.windows)]

    def flops(self, model: Decoder, tokens: int, train_length: int) -> float:
        """Floating point operations on a split of `tokens` tokens: a forward pass is a third of a training step.

        The output layer only has the scored tokens.
        """
        output = 2.0 * model.embedding.weights_of_a_token()
        windows = min(self.windows, tokens // self.length)

        def read(length: int) -> float:
            return (model.training_flops(length) / 3 - output) * length

        every = self.every(train_length), self.every_repeated(train_length)
        shortened = [w for chosen in every for w in chosen if w < self.length]
        whole = len(every[0]) + 2  # Each w of the attention, and two for the whole window.
        attention = sum(number * read(length) for length, _, number in self.attention(train_length))
        last = self.last * (sum(read(w) / self.stride for w in shortened) + (whole + len(shortened)) * output)
        return windows * (last + (whole + 3) * read(self.length)) + attention


def records_of_reading(
    run: Run, reading: ReadingMeasure, text: Corpus | None = None, corpus: str = "wikitext-103"
) -> "pd.DataFrame":
    """One number a row, in the columns of `alibi.records.MEASURED_COLUMNS`; data/README.md lists the metrics.

    Args:
        run: a trained run.
        reading: settings of the measures.
        text: the text to read, in the vocabulary of the run; the corpus of the run if left out.
        corpus: the paper's set, which joins our records with its numbers, whatever text was read.

    Raises:
        InputError: for an unknown split, a split shorter than a window, or a number out of range.
    """
    import pandas as pd

    within, windows, last, split = run.config.train_length, reading.windows, reading.last, reading.split
    # Value and scored tokens of each of `numbers_of_reading`, in its order.
    values: list[tuple[float, int]] = []
    for form in FORMS:
        stride = reading.stride if form == "window" else 1
        cut = run.truncation(reading.length, reading.every(within), last, form, windows, stride, split, text)
        for w, loss in zip(cut.seen.tolist(), cut.losses, strict=True):
            change = cut.change(w) if w < cut.length else ()
            values += [(value, int(cut.tokens.sum())) for value in (loss, *change)]

    found = run.repeats(reading.every_repeated(within), last, windows, reading.stride, split, text)
    for row, tokens in enumerate(found.tokens.sum(axis=1).tolist()):
        for w, loss in zip(found.lengths.tolist(), found.losses[:, row], strict=True):
            change = () if w <= within else found.change(w, within, row) if tokens else (math.nan, math.nan)
            values += [(value, tokens) for value in (loss, *change)]

    for of_window in reading.attention(within):
        distance = run.attention_distance(*of_window, split, text)
        for values_LH in (  # In the order of `OF_HEADS`.
            distance.mean, distance.mean_standard_error, distance.median, distance.share_past(within), distance.first,
        ):  # fmt: skip
            values += [(value, distance.queries) for value in values_LH.ravel()]

    field = run.receptive_field(reading.length, windows, split, text)
    longest, model = len(field.shares), run.config.model
    values.append((field.tokens(), field.windows))
    for w in reading.every(within, longest):
        shares = field.cumulative[w - 1], field.cumulative_standard_error[w - 1]
        values += [(share, field.windows) for share in shares]

    common = run.provenance(text, corpus)
    rows = [
        common | number | {"value": float(value), "tokens_scored": tokens}
        for number, (value, tokens) in zip(
            numbers_of_reading(reading, within, model.layers, model.heads, longest), values, strict=True
        )
        if not math.isnan(value)
    ]
    return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


def numbers_of_reading(
    reading: ReadingMeasure, train_length: int, layers: int, heads: int, longest: int | None = None
) -> list[dict[str, Any]]:
    """The numbers of `records_of_reading` before they are measured: for each record, the columns that are known.

    Records leave out rows without repeated tokens, and errors over a single article. The windows of a smoke run have
    at most `longest` tokens.
    """
    longest = longest or reading.length
    every, every_repeated = reading.every(train_length, longest), reading.every_repeated(train_length, longest)
    found: list[dict[str, Any]] = []
    nothing = dict.fromkeys(("stride", "seen", "first_distance", "last_distance", "layer", "head"))

    def add(
        protocol: str, metrics: tuple[str, ...], unit: str = "nats", length: int = reading.length,
        sample: int = reading.windows * reading.last, **columns: Any,
    ) -> None:  # fmt: skip
        own = {"split": reading.split, "protocol": protocol, "unit": unit, "eval_length": length, "sample": sample}
        found.extend(nothing | own | columns | {"metric": metric} for metric in metrics)

    def changed(metric: str, whether: bool) -> tuple[str, ...]:
        return (metric, *((f"{metric}_change", f"{metric}_change_standard_error") if whether else ()))

    for form in FORMS:
        for w in every:
            stride = reading.stride if form == "window" else None
            add(f"{TRUNCATED}{form}", changed("loss_truncated", w < longest), seen=w, stride=stride)
    for nearest, farthest in distance_bands(longest):
        distances: dict[str, Any] = {"first_distance": nearest, "last_distance": farthest}
        for w in every_repeated:
            add(REPEATS, changed("loss_repeated", w > train_length), seen=w, stride=reading.stride, **distances)
    for length, last, number in reading.attention(train_length):
        for metric, unit in OF_HEADS.items():
            for layer in range(1, layers + 1):
                for head in range(1, heads + 1):
                    add(ATTENTION, (metric,), unit, length, last * number, layer=layer, head=head)
    add(GRADIENT, ("receptive_field",), "tokens")
    for w in every:
        add(GRADIENT, ("gradient_share", "gradient_share_standard_error"), "", seen=w)
    return found

"""Records of the measures of reading: truncation, attention distance, repeated tokens and receptive field."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alibi.corpora.corpus import Corpus
from alibi.measures.repeats import distance_bands
from alibi.measures.truncation import FORMS
from alibi.model import Decoder
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.protocols import ATTENTION, GRADIENT, REPEATS, TRUNCATED
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

    def every(self, train_length: int) -> list[int]:
        """Each w of the truncation, in rising order."""
        return sorted({*self.seen, train_length, self.length})

    def every_repeated(self, train_length: int) -> list[int]:
        """Each window in which repeated tokens are scored, in rising order."""
        return sorted({*self.repeated, train_length, self.length})

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
        output = 2.0 * model.embedding.weights_of_every_token()
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
        ValueError: for an unknown split, a split shorter than a window, or a number out of range.
    """
    import pandas as pd

    within, windows, split = run.config.train_length, reading.windows, reading.split
    common = run.provenance(text, corpus) | {"split": split}
    rows: list[dict[str, Any]] = []

    def add(
        protocol: str, values: dict[str, float], unit: str = "nats", length: int = reading.length,
        sample: int = windows * reading.last, **columns: Any,
    ) -> None:  # fmt: skip
        """Adds a row for each value; a single article or window has no standard error."""
        own = common | {"protocol": protocol, "unit": unit, "eval_length": length, "sample": sample} | columns
        rows.extend(own | {"metric": m, "value": float(v)} for m, v in values.items() if not math.isnan(v))

    for form in FORMS:
        stride = reading.stride if form == "window" else None
        every = reading.every(within)
        cut = run.truncation(reading.length, every, reading.last, form, windows, stride or 1, split, text)
        for w, loss in zip(cut.seen.tolist(), cut.losses, strict=True):
            change, error = cut.change(w)
            values = {"loss_truncated": loss}
            if w < cut.length:
                values |= {"loss_truncated_change": change, "loss_truncated_change_standard_error": error}
            add(f"{TRUNCATED}{form}", values, seen=w, stride=stride, tokens_scored=int(cut.tokens.sum()))

    found = run.repeats(reading.every_repeated(within), reading.last, windows, reading.stride, split, text)
    for row, (nearest, farthest) in enumerate(found.distances):
        tokens = int(found.tokens[row].sum())
        for w, loss in zip(found.lengths.tolist(), found.losses[:, row], strict=True):
            values = {"loss_repeated": loss}
            if tokens and w > within:
                change, error = found.change(w, within, row)
                values |= {"loss_repeated_change": change, "loss_repeated_change_standard_error": error}
            distances: dict[str, Any] = {"first_distance": nearest, "last_distance": farthest}
            add(REPEATS, values, seen=w, stride=reading.stride, tokens_scored=tokens, **distances)

    for length, last, number in reading.attention(within):
        distance = run.attention_distance(length, last, number, split, text)
        of_heads = (
            distance.mean, distance.mean_standard_error, distance.median, distance.share_past(within), distance.first,
        )  # fmt: skip
        for (metric, unit), values_LH in zip(OF_HEADS.items(), of_heads, strict=True):
            for layer, values_H in enumerate(values_LH, start=1):
                for head, value in enumerate(values_H, start=1):
                    where: dict[str, Any] = {"layer": layer, "head": head, "tokens_scored": distance.queries}
                    add(ATTENTION, {metric: value}, unit, length, last * number, **where)

    field = run.receptive_field(reading.length, windows, split, text)
    add(GRADIENT, {"receptive_field": field.tokens()}, "tokens", tokens_scored=field.windows)
    for w in reading.every(within):
        if w <= len(field.shares):  # A smoke run has a shorter window.
            shares = field.cumulative[w - 1], field.cumulative_standard_error[w - 1]
            values = dict(zip(("gradient_share", "gradient_share_standard_error"), shares, strict=True))
            add(GRADIENT, values, "", seen=w, tokens_scored=field.windows)
    return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


def numbers_of_reading(reading: ReadingMeasure, train_length: int, layers: int, heads: int) -> list[dict[str, Any]]:
    """The numbers of `records_of_reading` before they are measured: for each record, the columns that are known.

    Records leave out rows without repeated tokens, and errors over a single article.
    """
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
        for w in reading.every(train_length):
            stride = reading.stride if form == "window" else None
            add(f"{TRUNCATED}{form}", changed("loss_truncated", w < reading.length), seen=w, stride=stride)
    for nearest, farthest in distance_bands(reading.length):
        distances: dict[str, Any] = {"first_distance": nearest, "last_distance": farthest}
        for w in reading.every_repeated(train_length):
            add(REPEATS, changed("loss_repeated", w > train_length), seen=w, stride=reading.stride, **distances)
    for length, last, number in reading.attention(train_length):
        for layer in range(1, layers + 1):
            for head in range(1, heads + 1):
                for metric, unit in OF_HEADS.items():
                    add(ATTENTION, (metric,), unit, length, last * number, layer=layer, head=head)
    add(GRADIENT, ("receptive_field",), "tokens")
    for w in reading.every(train_length):
        add(GRADIENT, ("gradient_share", "gradient_share_standard_error"), "", seen=w)
    return found

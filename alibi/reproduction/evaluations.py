"""The evaluations of a trained run in an experiment: windows, strides and scored tokens at each scale."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alibi.corpora.corpus import Corpus
from alibi.evaluate import Evaluation
from alibi.model import Decoder
from alibi.protocols import SLOPES
from alibi.records import MEASURED_COLUMNS
from alibi.runs import Run
from alibi.scale import scale_named
from alibi.windows import PIECE

if TYPE_CHECKING:
    import pandas as pd

# Evaluation lengths as multiples of the training length, in the chapters' live runs.
EXTRAPOLATION = (0.5, 1, 1.25, 2, 4, 8, 16)
# The multiples in the experiments, up to the scale's longest: just past the training length, and doublings.
MULTIPLES = (1, 1.125, 1.25, 2, 4, 8, 16, 32)
LONGEST = {"quick": 2048, "laptop": 2048, "gpu": 16_384, "paper": 16_384}
# Tokens at the start of the split that are scored in windows that overlap by half.
HALF_STRIDE_TOKENS = {"quick": 4096, "laptop": 32_768, "gpu": 32_768, "paper": 32_768}
# Full windows: this number of first tokens is only context, and no window is longer. So all training lengths, window
# lengths, methods and both protocols score the same tokens at a scale.
SKIPPED = {"quick": 1024, "laptop": 512, "gpu": 4096, "paper": 4096}
# Strides of full sliding windows are the training length divided by this: 8 of 64 and 16 of 128 tokens at laptop, 32 of
# 512 at gpu. None is the paper's stride of 1. Each token has a whole window before it, minus at most the stride.
STRIDES_IN_L = {"quick": 8, "laptop": 8, "gpu": 16, "paper": None}
# Least numbers of tokens to score in full windows and to compare a model with itself, spread evenly over the split;
# None takes all. At laptop all evaluations of a run together cost about half of its training.
FULL_WINDOW_TOKENS = {"quick": 4096, "laptop": 16_384, "gpu": None, "paper": None}
AGAINST_ITSELF_TOKENS = {"quick": 16_384, "laptop": 32_768, "gpu": None, "paper": None}


@dataclass(frozen=True)
class Measure:
    """One evaluation of a trained run."""

    length: int
    """Tokens in a window, L_valid."""
    stride: int | None = None
    """New tokens a window; None for nonoverlapping windows."""
    prefix: int | None = None
    """Tokens to read from the start of the split; None reads all."""
    split: str = "valid"
    skip: int = 0
    """Tokens at the start that are only context and not scored."""
    sample: int | None = None
    """Least number of tokens to score, spread evenly over the text; None scores all."""
    interpolation: str | None = None
    """Kind of `alibi.positions.interpolation` that rescales slopes or angles; None leaves them."""

    def flops(self, model: Decoder, tokens: int) -> float:
        """Its floating point operations on a split of this size, including the context of windows."""
        scored = float(min(self.prefix or tokens, tokens) - self.skip)
        new = self.stride or self.length
        if self.sample is not None:
            # A window longer than a piece of the sample also computes tokens around it, which are not scored.
            scored = min(scored, self.sample * max(1.0, new / PIECE))
        return scored * _forward_flops(model, self.length, new)


def _forward_flops(model: Decoder, length: int, new: int) -> float:
    """Floating point operations per scored token, for windows of this length with `new` new tokens each.

    A forward pass is a third of a training step; the output layer only has the scored tokens.
    """
    output = 2.0 * model.embedding.weights_of_a_token()
    return (model.training_flops(length) / 3 - output) * length / new + output


@dataclass(frozen=True)
class SelfMeasure:
    """A comparison of a trained run with itself, in windows of L tokens and in longer ones."""

    window: int
    """Tokens in a longer window, a multiple of L."""
    stride: int
    """New tokens in each window of L."""
    sample: int | None = None
    """Least number of tokens to compare, spread evenly over the text; None compares all."""
    split: str = "valid"

    def flops(self, model: Decoder, tokens: int, train_length: int) -> float:
        """Its floating point operations on a split of this size."""
        longer, shorter = (self.window, self.window), (train_length, self.stride)
        compared = min(self.sample or tokens, tokens)
        return compared * (_forward_flops(model, *longer) + _forward_flops(model, *shorter))


def live(train_length: int) -> list[Measure]:
    """Evaluations of a chapter's live run: the whole split, at the multiples `EXTRAPOLATION` of the training length."""
    return [Measure(round(multiple * train_length)) for multiple in EXTRAPOLATION]


def nonoverlapping(scale: str, train_length: int, others: Iterable[int] = ()) -> tuple[Measure, ...]:
    """Evaluations of the whole validation split at `MULTIPLES` of the training length, and at other lengths."""
    lengths = {round(multiple * train_length) for multiple in MULTIPLES} | set(others)
    return tuple(Measure(length) for length in sorted(lengths) if length <= LONGEST[scale])


def full_windows(scale: str, train_length: int) -> tuple[Measure, ...]:
    """Nonoverlapping windows and full sliding windows on the same tokens, in multiples of L up to `SKIPPED`.

    The stride comes from `STRIDES_IN_L`. A model trained at a longer L than the scale's own is also evaluated in
    sliding windows of the scale's L, with a stride in proportion: its gain from there to its own L comes from context.
    """
    skip, sample = SKIPPED[scale], FULL_WINDOW_TOKENS[scale]
    slide = STRIDES_IN_L[scale] or train_length
    lengths = [multiple * train_length for multiple in (1, 2, 4) if multiple * train_length <= skip]
    found = [
        Measure(length, stride, skip=skip, sample=sample)
        for stride in (None, train_length // slide)
        for length in lengths
    ]
    shortest = scale_named(scale).train_length
    if shortest < train_length:
        found.append(Measure(shortest, max(1, shortest // slide), skip=skip, sample=sample))
    return tuple(found)


def against_itself(scale: str, train_length: int) -> SelfMeasure:
    """Windows of 8 L, or as many L as the scale's longest window, against windows of L that slide by L / 8."""
    window = min(8, LONGEST[scale] // train_length) * train_length
    return SelfMeasure(window, train_length // 8, AGAINST_ITSELF_TOKENS[scale])


def position_bands(length: int) -> list[tuple[int, int]]:
    """Bands of positions in a window: 0 to 1, 1 to 2, 2 to 4, 4 to 8 and so on, each without its first."""
    edges = [0, *(2**power for power in range((length - 1).bit_length()))]
    return list(zip(edges, [*edges[1:], length], strict=True))


def records_by_position(records: "pd.DataFrame", found: Evaluation) -> "pd.DataFrame":
    """The mean loss (nats) of the tokens at positions 1, 2, 3 to 4, 5 to 8 and so on of the window."""
    import pandas as pd

    rows = []
    for low, high in position_bands(found.length):
        tokens = int(found.tokens_by_position[low:high].sum())
        if tokens:
            nats = float(found.nats_by_position[low:high].sum()) / tokens
            own = {"metric": "loss", "value": nats, "unit": "nats", "tokens_scored": tokens}
            rows.append(records.iloc[0].to_dict() | own | {"first_position": low + 1, "last_position": high})
    return pd.DataFrame(rows).reindex(columns=records.columns)


def records_of_slopes(run: Run, text: Corpus | None = None, corpus: str = "wikitext-103") -> "pd.DataFrame":
    """The metric slope (nats a token), one row for each head: m as training left it, with provenance.

    Args:
        run: a trained run.
        text: the text of the run's evaluations, which its records name; the corpus of the run if left out.
        corpus: the paper's set, which joins our records with its numbers.

    Raises:
        KeyError: if neither training nor the seed decides the slopes of the method, so that its weights have none.
    """
    import pandas as pd

    common = run.provenance(text, corpus) | {"protocol": SLOPES, "unit": "nats/token"}
    slopes = run.model.state_dict()["positions.slopes_H"].tolist()
    rows = [common | {"metric": "slope", "head": head, "value": slope} for head, slope in enumerate(slopes, 1)]
    return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

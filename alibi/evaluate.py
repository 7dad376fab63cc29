"""Evaluation: nonoverlapping and sliding window, perplexity per token and per word, loss by position."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from alibi.corpora.corpus import Split
from alibi.device import float64_device
from alibi.errors import InputError
from alibi.model import Decoder
from alibi.progress import bar as progress_bar
from alibi.windows import Window, evaluation_windows, shift

# To be counted up when a change of the code moves what is measured by more than rounding: the cache's evaluations are
# then made anew.
PROTOCOL = 1
# Tokens run at once.
BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Evaluation:
    """The loss of a model over a split, every token scored once."""

    length: int
    """Tokens in a window, L_valid."""
    stride: int | None
    """New tokens a window of the sliding-window evaluation; None for nonoverlapping."""
    nats: float
    """Sum of -ln p over the tokens."""
    tokens: int
    words: float
    bytes: float
    nats_by_position: np.ndarray
    """Sum of -ln p of the tokens scored at each position of the window, [length]."""
    tokens_by_position: np.ndarray
    """Tokens scored at each position, [length]."""

    @property
    def perplexity(self) -> float:
        """exp of the mean loss of a token, which depends on the vocabulary."""
        return _exp(self.nats / self.tokens)

    @property
    def word_perplexity(self) -> float:
        """exp of the loss for each white-space separated word, which compares across vocabularies.

        Infinite where that is more than a float holds, as in a script without spaces, whose words are whole lines; not
        a number for a text without words.
        """
        return _exp(self.nats / self.words) if self.words else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Loss in bits for each byte of UTF-8 text."""
        return self.nats / math.log(2) / self.bytes

    @property
    def remark(self) -> str:
        """Why there is no perplexity per word, or no finite one; empty where there is."""
        if not self.words:
            return "there is no perplexity per word, for want of words"
        if math.isinf(self.word_perplexity):
            return f"perplexity per word is more than a float holds, at {self.bytes / self.words:,.0f} bytes a word"
        return ""


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def _batches(windows: Iterable[Window], batch_tokens: int) -> Iterator[list[Window]]:
    for (length, _), same in groupby(windows, key=lambda w: (w.end - w.start, w.scored - w.start)):
        together = list(same)
        size = max(1, batch_tokens // length)
        yield from (together[i : i + size] for i in range(0, len(together), size))


@torch.no_grad()
def evaluate(
    model: Decoder,
    split: Split,
    end_of_line: int,
    length: int,
    stride: int | None = None,
    prefix: int | None = None,
    batch_tokens: int | None = None,
) -> Evaluation:
    """Scores every token of a split once, in float32 or the model's wider dtype, losses summed in float64.

    Where the device has no float64 the CPU sums.

    Args:
        model: a trained decoder; it is put into evaluation mode.
        split: the text.
        end_of_line: id of the end-of-line token, the source of the first target.
        length: tokens in a window at most, which need not be the training length.
        stride: new tokens a window; None for nonoverlapping windows.
        prefix: score only so many tokens from the split's start; None scores all. Words and bytes are then the
            same share of the split's.
        batch_tokens: run at once, but one window at least; None takes `BATCH_TOKENS`. It changes the speed alone.

    Raises:
        ValueError: if the split is empty, or length or stride is out of range.
    """
    tokens = np.asarray(split.tokens[:prefix])
    if not len(tokens):
        raise InputError(f"the split {split.name} has no tokens to evaluate")
    windows = list(evaluation_windows(len(tokens), length, stride))
    share = len(tokens) / len(split.tokens)
    device = model.device
    stream = torch.from_numpy(shift(tokens, end_of_line)).to(device)
    sums = float64_device(device)
    nats = torch.zeros(length, dtype=torch.float64, device=sums)
    scored = torch.zeros(length, dtype=torch.int64, device=sums)
    model.eval()
    bar = progress_bar(
        total=len(tokens), unit=" tokens", unit_scale=True, desc=f"length {length}", leave=False, delay=1
    )
    with bar:
        for batch in _batches(windows, batch_tokens or BATCH_TOKENS):
            context, end = batch[0].scored - batch[0].start, batch[0].end - batch[0].start
            taken = torch.stack([stream[window.start : window.end + 1] for window in batch])
            losses_BT = model.negative_log_likelihood(taken[:, :-1], taken[:, 1:], context)
            nats[context:end] += losses_BT.to(sums).double().sum(dim=0)
            scored[context:end] += len(batch)
            bar.update(losses_BT.numel())
    return Evaluation(
        length=length,
        stride=stride,
        nats=float(nats.sum()),
        tokens=int(scored.sum()),
        words=split.words * share,
        bytes=split.bytes * share,
        nats_by_position=nats.cpu().numpy(),
        tokens_by_position=scored.cpu().numpy(),
    )

"""A token stream cut into blocks: the training order, and the windows of the two ways of evaluating.

Target i of a stream is token i; its source is token i - 1, and the source of target 0 is the end-of-line token, as
in fairseq. So the first source of a block is the last target of the block before.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alibi.errors import InputError

# Tokens in a piece of a sample: long enough for several sliding windows, and much shorter than an article.
PIECE = 64


def shift(tokens: np.ndarray, end_of_line: int) -> np.ndarray:
    """The stream with the end-of-line token in front: sources are [0, N), targets [1, N + 1), int64."""
    return np.concatenate([[end_of_line], tokens]).astype(np.int64)


class TrainingOrder:
    """Nonoverlapping blocks of the training length, shuffled anew each epoch; step -> batch, without state.

    The order depends on the stream, the length, the batch size and the seed alone, so every method sees the same
    data, and any step can be computed directly. Tokens at the end that do not fill a block are left out, and
    in each epoch the blocks that do not fill a batch.

    Args:
        tokens: the stream.
        end_of_line: id of the end-of-line token.
        length: tokens in a block.
        batch: blocks in a step.
        seed: seed of the shuffling.
        process: number of this process, from 0; each process gets an equal part of a step's blocks.
        processes: number of processes, a divisor of the batch.

    Raises:
        InputError: if the stream does not fill one batch.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        end_of_line: int,
        length: int,
        batch: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.blocks = len(tokens) // length
        if self.blocks < batch:
            raise InputError(
                f"the training stream holds {len(tokens)} tokens, {self.blocks} blocks of length {length}: "
                f"a batch of {batch} needs at least {batch * length} tokens"
            )
        self.tokens, self.end_of_line = tokens, end_of_line
        self.length, self.batch, self.seed = length, batch, seed
        self.steps_an_epoch = self.blocks // batch
        self._own = slice(process * batch // processes, (process + 1) * batch // processes)
        self._orders: dict[int, np.ndarray] = {}  # of the current epoch: drawn once, not at each step

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Sources and targets of this step (from 0) for this process, int64 [its blocks, length] each."""
        taken = torch.from_numpy(np.stack([self._block(start) for start in self.where(step)[2][self._own]]))
        return taken[:, :-1], taken[:, 1:]

    def _block(self, start: int) -> np.ndarray:
        # A stream on disk may be larger than memory, so only the block is read.
        if start == 0:
            return shift(self.tokens[: self.length], self.end_of_line)
        return self.tokens[start - 1 : start + self.length].astype(np.int64)

    def where(self, step: int) -> tuple[int, int, list[int]]:
        """Epoch, batch in the epoch, and the first target of each block in the stream, for this step (all from 0)."""
        epoch, place = divmod(step, self.steps_an_epoch)
        if epoch not in self._orders:
            self._orders = {epoch: np.random.default_rng([self.seed, epoch]).permutation(self.blocks)}
        blocks = self._orders[epoch][place * self.batch : (place + 1) * self.batch]
        return epoch, place, (blocks * self.length).tolist()

    def described(self, step: int) -> str:
        """The place of this step's text, for a message."""
        epoch, place, starts = self.where(step)
        return (
            f"batch {place} of epoch {epoch}, blocks of {self.length} tokens from {', '.join(map(str, starts))} of the "
            "training stream"
        )

    def position(self, step: int) -> dict[str, Any]:
        """The place where this step begins, only for people who read a checkpoint: `resume` does not need it."""
        epoch, place, _ = self.where(step)
        return {"epoch": epoch, "batch_of_epoch": place}

    def resume(self, positions: Sequence[Mapping[str, Any]]) -> None:
        """Does nothing, because any step can be computed directly."""


@dataclass(frozen=True)
class Window:
    """The model reads targets [start, end) of the stream; those from `scored` on count."""

    start: int
    scored: int
    end: int


def check_whole(**numbers: object) -> None:
    """Refuses numbers of tokens or windows that are not whole; None is none.

    Raises:
        InputError: names the first.
    """
    for name, number in numbers.items():
        if number is not None and not isinstance(number, Integral):
            raise InputError(f"{name}={number!r}: windows have a whole number of tokens")


def check_window(length: int, stride: int | None) -> None:
    """Refuses an impossible window length or stride.

    Args:
        length: tokens in a window at most, L_valid.
        stride: new tokens a window; None for nonoverlapping windows.

    Raises:
        InputError: if length or stride is out of range or not a whole number.
    """
    check_whole(length=length, stride=stride)
    if length < 1:
        raise InputError(f"length={length}: a window needs at least 1 token")
    if stride is not None and not 1 <= stride <= length:
        raise InputError(f"length={length}, stride={stride}: the stride must lie between 1 and the length")


def evaluation_windows(
    tokens: int,
    length: int,
    stride: int | None = None,
    skip: int = 0,
) -> Iterator[Window]:
    """The official window grid: every token of the stream is scored exactly once.

    As in section 2 and Appendix B of the paper. Nonoverlapping (stride None or equal to
    the length): consecutive blocks. Sliding with stride t and context c = length - t:
    window k scores targets [kt, (k + 1)t) given the min(kt, c) before them, so the
    first windows grow and the last one, with fewer new tokens, keeps its full context.

    Args:
        tokens: length of the stream.
        length: tokens in a window at most, L_valid.
        stride: new tokens a window, 1 to length.
        skip: tokens at the start that are not scored. The grid begins after them, and
            sliding windows have them as context: with skip >= length - stride none
            grows.

    Raises:
        InputError: if no token is left to score, or length or stride is out of range.
    """
    if tokens < 1:
        raise InputError("an empty stream of tokens can't be evaluated")
    if not 0 <= skip < tokens:
        raise InputError(f"skip={skip} of {tokens} tokens: choose 0 to {tokens - 1}")
    check_window(length, stride)
    stride = length if stride is None else stride
    context = length - stride
    for scored in range(skip, tokens, stride):
        yield Window(max(0, scored - context), scored, min(scored + stride, tokens))


def scored_tokens(tokens: int, skip: int = 0, sample: int | None = None) -> np.ndarray:
    """Marks the tokens of a stream that count, bool [tokens]: a sample spread evenly over the tokens after `skip`.

    The stream after `skip` is cut into pieces of `PIECE` tokens, and every k-th piece counts, from the first on. k is
    the largest number not divisible by 2 or 3 that is at most whole pieces / pieces that `sample` needs: pieces then
    fall evenly on all places of a window whose length is a power of two, or three times one. Windows of every length
    and stride can score the same tokens, and the text between them is context.

    Args:
        tokens: length of the stream.
        skip: tokens at the start that don't count.
        sample: least number of tokens that count; None, or more than the stream has, takes all.

    Raises:
        InputError: if `sample` is below 1.
    """
    if sample is not None and sample < 1:
        raise InputError(f"sample={sample}: choose at least one token, or None for all")
    counted = np.arange(tokens) >= skip
    if sample is not None:
        most = (tokens - skip) // PIECE // math.ceil(sample / PIECE)
        every = max((k for k in range(1, most + 1) if math.gcd(k, 6) == 1), default=1)
        counted &= (np.arange(tokens) - skip) // PIECE % every == 0
    return counted


def spread_windows(tokens: int, length: int, windows: int | None = None) -> range:
    """The starts of full windows in a stream, cut into consecutive blocks: all of them, or a sample.

    Args:
        tokens: length of the stream.
        length: tokens in a window.
        windows: least number of windows, every k-th from the first on; None, or more than there are, takes all.

    Raises:
        InputError: if the stream does not fill one window, or `length` or `windows` is below 1.
    """
    check_window(length, None)
    check_whole(windows=windows)
    if windows is not None and windows < 1:
        raise InputError(f"windows={windows}: take at least one, or None for all")
    blocks = tokens // length
    if not blocks:
        raise InputError(f"the text has {tokens} tokens, fewer than one window of {length}")
    every = 1 if windows is None else max(1, blocks // windows)
    return range(0, blocks * length, every * length)


def windows_of_last_tokens(start: int, length: int, last: int, seen: int, stride: int = 1) -> Iterator[Window]:
    """Windows of at most `seen` tokens that score the last tokens of a longer window, and read nothing before it.

    The longer window is [start, start + length). Each shorter window scores `stride` of its `last` tokens, at most
    `seen`; the last token that it scores sees `seen` tokens, or all from the start if these are fewer, and at stride 1
    every token does. If `seen` is at least the length, the longer window itself scores them.
    """
    end = start + length
    if seen >= length:
        yield Window(start, end - last, end)
        return
    stride = min(stride, seen)
    for scored in range(end - last, end, stride):
        stop = min(scored + stride, end)
        yield Window(max(start, stop - seen), scored, stop)


def windows_in_windows(start: int, length: int, window: int, stride: int) -> Iterator[Window]:
    """Windows of at most `length` tokens that score a longer window [start, start + window), and read nothing else.

    The first scores its `length` tokens as the longer window does. Each of the others scores `stride` new tokens given
    the length - stride before them, which all lie in the longer window.
    """
    yield Window(start, start, start + length)
    for scored in range(start + length, start + window, stride):
        yield Window(scored - (length - stride), scored, scored + stride)

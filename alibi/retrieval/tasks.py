"""Generated windows that ask for tokens which they contain: a passkey in noise, associative recall, and copying.

In each task the token that asks stood once before in the window, and the answer is the token that followed it there.
The tasks differ in the other tokens:

- `passkey` (Mohtashami and Jaggi 2023, arXiv:2305.16300): a mark and a key of five symbols, anywhere in noise. The
  window ends with the mark and asks for the key.
- `recall`, multi-query associative recall (Arora et al. 2023, arXiv:2312.04927): pairs of a key and a value among
  noise in the first half of the window. The second half asks for each of them, in another order, among noise.
- `copying` (Jelassi et al. 2024, arXiv:2402.01032): a mark and a string that fills half of the window, then the mark
  again, and the window asks for the string. Here no symbol comes twice in a string, so each token determines the next.

Letters in array names: B windows, T targets of a window, N = T + 1 tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alibi.errors import InputError, UnknownNameError

# Token ids: the symbols of keys, values and strings, then noise, then the mark.
SYMBOLS, NOISE = 512, 16
MARK = SYMBOLS + NOISE
VOCABULARY_SIZE = MARK + 1
KEY_SYMBOLS = 5
SHORTEST, LONGEST = 16, 1024


@dataclass(frozen=True)
class Windows:
    """Windows of a task: their tokens, and the targets that they ask for."""

    tokens_BN: np.ndarray
    """Token ids; the first T are sources, the last T targets."""
    found_BT: np.ndarray
    """For a target that is asked for, the position in the window (from 1) of the source with the answer; else 0."""

    @property
    def sources(self) -> np.ndarray:
        """The tokens that a model reads."""
        return self.tokens_BN[:, :-1]

    @property
    def targets(self) -> np.ndarray:
        """The token that follows each source."""
        return self.tokens_BN[:, 1:]

    @property
    def asked(self) -> np.ndarray:
        """Whether each target's prediction counts. Neighbouring targets that count make one answer."""
        return self.found_BT > 0


def _noise(random: np.random.Generator, windows: int, length: int) -> np.ndarray:
    return random.integers(SYMBOLS, SYMBOLS + NOISE, (windows, length + 1))


def _distinct(random: np.random.Generator, windows: int, among: int, chosen: int) -> np.ndarray:
    """Different whole numbers below `among` in random order, [windows, chosen]."""
    return random.random((windows, among)).argsort(axis=1)[:, :chosen]


def _placed(tokens_BN: np.ndarray, at_BA: np.ndarray, asked_at_BA: np.ndarray, answers_BA: np.ndarray) -> Windows:
    """Writes answers at two places, given as indices of tokens; the window asks for the second."""
    np.put_along_axis(tokens_BN, at_BA, answers_BA, axis=1)
    np.put_along_axis(tokens_BN, asked_at_BA, answers_BA, axis=1)
    found_BT = np.zeros((len(tokens_BN), tokens_BN.shape[1] - 1), np.int64)
    np.put_along_axis(found_BT, asked_at_BA - 1, at_BA + 1, axis=1)
    return Windows(tokens_BN, found_BT)


def _string(random: np.random.Generator, tokens_BN: np.ndarray, first_B: np.ndarray, size: int) -> Windows:
    """Writes the mark and a string, with its first symbol at these indices, and both again at the end of the window."""
    windows, end = tokens_BN.shape
    steps = np.arange(size)
    np.put_along_axis(tokens_BN, first_B[:, None] - 1, MARK, axis=1)
    tokens_BN[:, end - size - 1] = MARK
    asked_at_BA = np.broadcast_to(end - size + steps, (windows, size))
    return _placed(tokens_BN, first_B[:, None] + steps, asked_at_BA, _distinct(random, windows, SYMBOLS, size))


def _passkey(random: np.random.Generator, windows: int, length: int, pairs: int | None) -> Windows:
    last = length - 2 * KEY_SYMBOLS  # The second mark follows the key at once.
    return _string(random, _noise(random, windows, length), random.integers(1, last + 1, windows), KEY_SYMBOLS)


def _copying(random: np.random.Generator, windows: int, length: int, pairs: int | None) -> Windows:
    return _string(random, _noise(random, windows, length), np.ones(windows, np.int64), length // 2 - 1)


def _recall(random: np.random.Generator, windows: int, length: int, pairs: int | None) -> Windows:
    # Slots of two tokens, the same number in each half of the window.
    slots, chosen = length // 4, length // 4 if pairs is None else pairs
    tokens_BN = _noise(random, windows, length)
    at_BA = 1 + 2 * _distinct(random, windows, slots, chosen)
    asked_at_BA = 2 + 2 * (slots + _distinct(random, windows, slots, chosen))
    symbols_BS = _distinct(random, windows, SYMBOLS, 2 * chosen)
    for places_BA in (at_BA, asked_at_BA):
        np.put_along_axis(tokens_BN, places_BA - 1, symbols_BS[:, :chosen], axis=1)
    return _placed(tokens_BN, at_BA, asked_at_BA, symbols_BS[:, chosen:])


PASSKEY, RECALL, COPYING = "passkey", "recall", "copying"
TASKS: dict[str, Callable[[np.random.Generator, int, int, int | None], Windows]] = {
    PASSKEY: _passkey,
    RECALL: _recall,
    COPYING: _copying,
}


def check_windows(windows: int, length: int) -> None:
    """Refuses a number or a length of windows that no task can have.

    Raises:
        InputError: if a number is out of range.
    """
    if length % 4 or not SHORTEST <= length <= LONGEST or windows < 1:
        raise InputError(
            f"windows={windows}, length={length}: choose one window or more, and a multiple of 4 from {SHORTEST} to "
            f"{LONGEST}"
        )


def draw(
    task: str,
    random: np.random.Generator,
    windows: int,
    length: int,
    pairs: int | None = None,
    held_out: bool = False,
) -> Windows:
    """Windows of a task, which depend only on the arguments and the generator's state.

    The ids of all answers of a window have an even sum in training and an odd sum in held-out windows, so that no
    window is in both.

    Args:
        task: a name of `TASKS`.
        random: the generator.
        windows: number of windows.
        length: number of sources in a window, T: a multiple of 4 from `SHORTEST` to `LONGEST`.
        pairs: number of key-value pairs in a window of `recall`, which asks for one at a time while the others
            distract; None fills the window. The other tasks have none.
        held_out: draw windows for a test, not for training.

    Raises:
        InputError: for an unknown task (the message lists the known ones), or a number out of range.
    """
    if task not in TASKS:
        raise UnknownNameError("retrieval task", task, TASKS)
    check_windows(windows, length)
    if pairs is not None and (task != RECALL or not 1 <= pairs <= length // 4):
        raise InputError(f"pairs={pairs}: task {RECALL} has 1 to {length // 4} in {length} tokens, the others none")
    found = TASKS[task](random, windows, length, pairs)
    while len(wrong := np.flatnonzero((found.targets * found.asked).sum(axis=1) % 2 != held_out)):
        again = TASKS[task](random, len(wrong), length, pairs)
        found.tokens_BN[wrong], found.found_BT[wrong] = again.tokens_BN, again.found_BT
    return found

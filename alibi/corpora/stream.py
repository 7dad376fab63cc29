"""Training batches from a mixture that is too large to store: read, tokenised, shuffled and cut on the fly.

The text is divided into lanes, each a share of the files with its own order. Several processes read it together: each
has some of the lanes, and together they give the batches of a single process. A lane reads a buffer of text, cuts its
tokens into blocks, gives them in a shuffled order, and reads the next buffer. Its position is the buffer's beginning
and the number of blocks given: loading a position reads that buffer again and goes on with the same next batch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from alibi.corpora import mixture as mixtures
from alibi.corpora.mixture import MIXTURES, files_digest, interleaved, part_files
from alibi.corpora.source import CorpusError
from alibi.corpora.vocabulary import Vocabulary
from alibi.errors import InputError, UnknownNameError, listed

if TYPE_CHECKING:
    from datasets import IterableDataset

LANES = 2  # each takes 0.15 GB of memory: open files of every part, and a buffer


def lanes_for(batch: int, processes: int, asked: int | None = None) -> int:
    """The number of lanes of a stream: a multiple of the processes, and a divisor of a batch's blocks.

    Args:
        batch: blocks in a step, of all processes together.
        processes: number of processes that share each batch.
        asked: a number of lanes; None takes the largest common divisor of the batch and `LANES`.

    Raises:
        InputError: if the lanes don't divide the batch, or the processes don't divide the lanes.
    """
    lanes = math.gcd(batch, LANES) if asked is None else asked
    if lanes < 1 or batch % lanes or lanes % processes:
        fitting = [number for number in range(processes, batch + 1, processes) if not batch % number]
        remedy = f"choose from {listed(fitting, 40)}" if fitting else "choose another number of processes"
        raise InputError(
            f"lanes={lanes} must divide the {batch} blocks of a step and be a multiple of the {processes} processes; "
            + remedy
        )
    return lanes


class TokenStream:
    """Blocks of a mixture's tokens for training: step -> batch, in order, from a position that can be saved.

    As in fairseq, each line of a document ends with the end-of-line token, and an empty line ends the document. The
    lanes' order depends only on files, seed and number of lanes, not on the number of processes.

    Args:
        mixture: a name of `alibi.corpora.mixture.MIXTURES`.
        vocabulary: vocabulary of the tokens; we assume GPT-2's for the paper's models.
        length: tokens in a block.
        batch: blocks in a step, of all processes together.
        seed: seed of the shuffling.
        process: number of this process, from 0; each process has an equal part of the batch's blocks.
        processes: number of processes.
        lanes: number of shares of the text, each with its own open files and buffer; see `lanes_for`.

    Raises:
        ValueError: for an unknown mixture, or if the lanes don't divide the batch, or the processes don't divide the
            lanes.
        CorpusError: if a part's files can't be found.
    """

    def __init__(
        self,
        mixture: str,
        vocabulary: Vocabulary,
        length: int,
        batch: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
        lanes: int | None = None,
    ) -> None:
        if mixture not in MIXTURES:
            raise UnknownNameError("mixture", mixture, MIXTURES)
        lanes = lanes_for(batch, processes, lanes)
        files = part_files(mixture)
        self.step = 0
        self._blocks_a_lane = batch // lanes
        self._reading = {
            "mixture": mixture,
            "files": files_digest(files),
            "vocabulary_size": vocabulary.size,
            "length": length,
            "batch": batch,
            "seed": seed,
            "lanes": lanes,
        }
        own = range(process * lanes // processes, (process + 1) * lanes // processes)
        self._lanes = {
            lane: _Lane(
                interleaved(mixture, files, seed, lane, lanes),
                vocabulary,
                length,
                (seed, lane),
                max(1, mixtures.PIECES_AT_ONCE // lanes),
            )
            for lane in own
        }

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Sources and targets of the next step (from 0) that this process trains on, int64 [its blocks, length] each.

        Raises:
            ValueError: if the step is not the next one.
            CorpusError: if a file can't be read, or the text is used up.
        """
        self._require(step)
        blocks = [next(lane) for lane in self._lanes.values() for _ in range(self._blocks_a_lane)]
        self.step += 1
        taken = torch.from_numpy(np.stack(blocks).astype(np.int64))
        return taken[:, :-1], taken[:, 1:]

    def _require(self, step: int) -> None:
        if step != self.step:
            raise ValueError(f"step {step}: a stream gives its steps in order, and the next one is {self.step}")

    def described(self, step: int) -> str:
        """The place of this step's text, for a message."""
        reading = self._reading
        return f"step {step} of the stream {reading['mixture']} with seed {reading['seed']} in {reading['lanes']} lanes"

    def position(self, step: int) -> dict[str, Any]:
        """The place where the next step begins in this process's lanes, for JSON.

        Raises:
            ValueError: if the step is not the next one.
        """
        self._require(step)
        lanes = {str(number): lane.position() for number, lane in self._lanes.items()}
        return {"step": step, "reading": self._reading, "lanes": lanes}

    def resume(self, positions: Sequence[Mapping[str, Any]]) -> None:
        """Goes on from the positions that all processes saved at one step; their number may have been another one.

        Raises:
            CorpusError: if they belong to other files or another setting; the message names the difference.
        """
        for what, value in self._reading.items():
            if (saved := positions[0]["reading"].get(what)) != value:
                raise CorpusError(f"the saved position is one of {what} {saved}, and the stream's is {value}")
        lanes = {number: lane for position in positions for number, lane in position["lanes"].items()}
        if missing := [str(number) for number in self._lanes if str(number) not in lanes]:
            raise CorpusError(f"the saved position lacks the lanes {', '.join(missing)}: give all processes' positions")
        for number, lane in self._lanes.items():
            lane.resume(lanes[str(number)])
        self.step = positions[0]["step"]


class _Lane:
    """Blocks of length + 1 tokens, sources and targets, of one lane."""

    def __init__(
        self, rows: "IterableDataset", vocabulary: Vocabulary, length: int, seed: tuple[int, int], pieces: int
    ) -> None:
        self._rows, self._vocabulary, self._length, self._seed = rows, vocabulary, length, seed
        self._pieces_a_buffer = pieces
        self._pieces: Iterator[dict[str, str]] | None = None
        # The current buffer: the place where its text began, tokens kept from the last buffer, its number, blocks
        # given.
        self._start: dict[str, Any] = rows.state_dict()
        self._rest = np.array([vocabulary.end_of_line], vocabulary.dtype)
        self._buffer = self._given = 0
        self._tokens, self._order = self._rest, np.empty(0, np.int64)

    def __next__(self) -> np.ndarray:
        if self._pieces is None:
            self._pieces = iter(self._rows)
            self._fill()
        while self._given == len(self._order):
            self._start, self._buffer, self._given = self._rows.state_dict(), self._buffer + 1, 0
            self._rest = self._tokens[len(self._order) * self._length :]
            self._fill()
        start = self._order[self._given] * self._length
        self._given += 1
        return self._tokens[start : start + self._length + 1]

    def _fill(self) -> None:
        assert self._pieces is not None
        texts = [piece["text"] for piece in islice(self._pieces, self._pieces_a_buffer)]
        if not texts:
            raise CorpusError(f"all text of lane {self._seed[1]} has been read: the mixture has no more")
        encoded = [self._vocabulary.encode_lines(text.split("\n")) for text in texts]
        # The last token of a block is the source of the next block's first target, so it is kept.
        self._tokens = np.concatenate([self._rest, *encoded])
        blocks = (len(self._tokens) - 1) // self._length
        self._order = np.random.default_rng([*self._seed, self._buffer]).permutation(blocks)

    def position(self) -> dict[str, Any]:
        return {"text": self._start, "rest": self._rest.tolist(), "buffer": self._buffer, "given": self._given}

    def resume(self, position: Mapping[str, Any]) -> None:
        self._start, self._buffer, self._given = position["text"], position["buffer"], position["given"]
        self._rest = np.array(position["rest"], self._vocabulary.dtype)
        self._rows.load_state_dict(self._start)
        self._pieces = None

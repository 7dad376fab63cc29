"""Text to tokens: a vocabulary turns lines of text into one stream of ids and back.

A stream follows fairseq: the lines of the text, each followed by the end-of-line token `</s>`. No newline is encoded
otherwise, and the same token is the source of the very first target.
"""

import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from alibi.errors import InputError, quoted

END_OF_LINE = "</s>"
LINES_A_BATCH = 10_000  # bounds the memory of encoding; a batch is encoded in parallel
# Learning byte pairs takes the square of a word's length, and a line of DNA is one word. Only for learning, what is
# longer than this without white space is cut.
LONGEST_WORD = re.compile(r"(\S{10000})(?=\S)")


class Vocabulary(ABC):
    """Lines of text to one stream of ids and back.

    Attributes:
        FILE: name of the file that `save` writes in the folder of a corpus.
        size: number of entries; ids are [0, size).
        end_of_line: id of the end-of-line token.
        unknown: id of the entry for words outside the vocabulary; None if every text can be encoded.
        dtype: the smallest unsigned integers that hold every id.
    """

    FILE: ClassVar[str]
    size: int
    end_of_line: int
    unknown: int | None
    dtype: np.dtype

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """The vocabulary saved at `path`."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""

    @abstractmethod
    def encode_lines(self, lines: Sequence[str]) -> np.ndarray:
        """The stream of these lines, ids [tokens] of `dtype`: each line followed by the end-of-line token.

        Raises:
            InputError: if a line holds a newline.
        """

    @abstractmethod
    def _texts(self, lines: list[list[int]]) -> list[str]:
        """The text of each line of ids."""

    def encode(self, text: str) -> list[int]:
        """Ids of a prompt: newlines become the end-of-line token, and none is added at the end.

        Raises:
            InputError: if UTF-8 can't write it, such as bytes of a command line that are not UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError as wrong:
            raise InputError(f"the text {quoted(text)} is not UTF-8: leave out its escaped bytes") from wrong
        return self.encode_lines(text.split("\n"))[:-1].tolist()

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of these ids, with a newline for the end-of-line token, and U+FFFD for bytes that are not UTF-8.

        Raises:
            InputError: if an id is outside [0, size).
        """
        stream = np.asarray(ids, np.int64)
        if stream.size and not 0 <= stream.min() <= stream.max() < self.size:
            raise InputError(f"ids {stream.min()} to {stream.max()}: they must lie in [0, {self.size})")
        lines = np.split(stream, np.flatnonzero(stream == self.end_of_line))
        # Every piece except the first begins with the end-of-line token of its split.
        return "\n".join(self._texts([lines[0].tolist(), *(line[1:].tolist() for line in lines[1:])]))


class SubwordVocabulary(Vocabulary):
    """Pieces of words, described by a `tokenizer.json` of the `tokenizers` library.

    Args:
        tokenizer_json: contents of that file.

    Attributes:
        size: number of entries; ids are [0, size).
        end_of_line: id of the end-of-line token.
        unknown: id of the entry for words that can't be written in pieces; None if all can.
        dtype: the smallest unsigned integers that hold every id.

    Raises:
        InputError: if the tokenizer has no end-of-line entry.
    """

    FILE = "tokenizer.json"
    END = END_OF_LINE

    def __init__(self, tokenizer_json: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        # "</s>" written in a text is four characters of that text, never the end of a line.
        self._tokenizer.encode_special_tokens = True
        self.size = self._tokenizer.get_vocab_size()
        end_of_line = self._tokenizer.token_to_id(self.END)
        if end_of_line is None:
            raise InputError(f"the tokenizer has no entry {self.END!r} for the end of a line")
        self.end_of_line = end_of_line
        self.unknown = self._tokenizer.token_to_id("[UNK]")
        self.dtype = np.min_scalar_type(self.size - 1)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The vocabulary saved at `path`, a `tokenizer.json`."""
        return cls(path.read_text(encoding="utf-8"))

    def save(self, path: Path) -> None:
        """Write the `tokenizer.json` that `load` reads."""
        path.write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")

    def encode_lines(self, lines: Sequence[str]) -> np.ndarray:
        """The stream of these lines, ids [tokens] of `dtype`: each line followed by the end-of-line token.

        Raises:
            InputError: if a line holds a newline.
        """
        ids: list[np.ndarray] = [np.empty(0, self.dtype)]
        for start in range(0, len(lines), LINES_A_BATCH):
            batch = lines[start : start + LINES_A_BATCH]
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            for line, encoding in zip(batch, encodings, strict=True):
                if "\n" in line:
                    raise InputError(f"line {quoted(line)} holds a newline: split it into lines first")
                ids.append(np.array([*encoding.ids, self.end_of_line], self.dtype))
        return np.concatenate(ids)

    def _texts(self, lines: list[list[int]]) -> list[str]:
        found: list[str] = self._tokenizer.decode_batch(lines, skip_special_tokens=False)
        return found


class BytePairVocabulary(SubwordVocabulary):
    """Byte-level byte pair encoding (Sennrich et al. 2016; on bytes, Radford et al. 2019), lossless on any text."""

    @classmethod
    def train(cls, lines: Iterable[str], size: int = 4096) -> Self:
        """The vocabulary learned from these lines: the end of a line, the 256 bytes, then merges, most frequent first.

        The same lines give the same vocabulary. Lines with too few distinct pairs give fewer entries. Pairs are not
        counted across every 10,000 characters without white space.

        Args:
            lines: training text, without newlines.
            size: number of entries, with the end-of-line token and the 256 bytes.

        Raises:
            InputError: if size is below 257.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if size < 257:
            raise InputError(f"size={size}: 257 entries are needed for the end of a line and the 256 bytes")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[END_OF_LINE],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        pieces = (piece for line in lines for piece in LONGEST_WORD.split(line))
        tokenizer.train_from_iterator(pieces, trainer)
        return cls(tokenizer.to_str(pretty=True))


class WordPieceVocabulary(SubwordVocabulary):
    """Word pieces (Devlin et al. 2019); the paper's BookCorpus models read the cased BERT's 28,996 (p. 20).

    The end of a line is BERT's own separator. A word that can't be written in pieces is `[UNK]`, and white space is
    lost: decoding does not restore the text.
    """

    END = "[SEP]"

    @property
    def lower_cases(self) -> bool:
        """Whether it reads capital letters as small ones."""
        normalizer = self._tokenizer.normalizer
        return normalizer is not None and normalizer.normalize_str("A") != "A"


class GPT2Vocabulary(SubwordVocabulary):
    """The byte pairs of GPT-2 (Radford et al. 2019), lossless; its own separator is the end of a line."""

    END = "<|endoftext|>"


class WordVocabulary(Vocabulary):
    """Words by fairseq's rules, which the paper's WikiText-103 models read.

    The entries are `<s>`, `<pad>`, `</s>`, `<unk>`, then the words by falling count, ties by code point, then
    `madeupword0000` and so on until their number is a multiple of 8. A line is split on white space. A word without an
    entry and a literal `<unk>` are id 3.

    Args:
        words: entries after the four special ones, in order.
        counts: number of occurrences of each in the training text; 0 for the made-up ones.

    Attributes:
        size: number of entries; ids are [0, size).
        end_of_line: id of the end-of-line token.
        unknown: id of the entry for every other word.
        symbols: the entries; a word's id is its place.
        counts: number of occurrences of the entries after the special ones.
        dtype: the smallest unsigned integers that hold every id.

    Raises:
        InputError: if a word is given twice.
    """

    FILE = "dict.txt"
    SPECIAL = ("<s>", "<pad>", END_OF_LINE, "<unk>")
    MULTIPLE = 8

    def __init__(self, words: Sequence[str], counts: Sequence[int]) -> None:
        self.symbols = [*self.SPECIAL, *words]
        self.counts = list(counts)
        self.size = len(self.symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self.symbols)}
        if len(self._ids) != self.size:
            twice = next(symbol for number, symbol in enumerate(self.symbols) if self._ids[symbol] != number)
            raise InputError(f"the entry {quoted(twice)} is there twice")
        self.end_of_line, self.unknown = self._ids[END_OF_LINE], self._ids["<unk>"]
        self.dtype = np.min_scalar_type(self.size - 1)

    @classmethod
    def train(cls, lines: Iterable[str], seen: int = 1, size: int | None = None) -> Self:
        """The vocabulary of these lines.

        Args:
            lines: training text, without newlines.
            seen: least number of occurrences of a word that enters; the paper takes every word.
            size: most entries, with the special ones and without the made-up ones; None keeps every word.
        """
        found: Counter[str] = Counter()
        for line in lines:
            found.update(line.split())
        kept = [(word, count) for word, count in found.items() if count >= seen and word not in cls.SPECIAL]
        kept.sort(key=lambda pair: (-pair[1], pair[0]))
        if size is not None:
            del kept[max(0, size - len(cls.SPECIAL)) :]
        names = (f"madeupword{number:04}" for number in itertools.count())
        unused = (name for name in names if name not in found)  # A text may hold the first of these names.
        kept += [(name, 0) for name in itertools.islice(unused, -(len(cls.SPECIAL) + len(kept)) % cls.MULTIPLE)]
        return cls([word for word, _ in kept], [count for _, count in kept])

    @classmethod
    def load(cls, path: Path) -> Self:
        """The vocabulary saved at `path`, fairseq's `dict.txt`: each line has a word and its count.

        Raises:
            InputError: if a line is not a word and a count.
        """
        pairs = []
        for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
            word, _, count = line.rpartition(" ")
            if not word or not count.isdecimal():
                raise InputError(f"{path}, line {number}: {quoted(line)} is not a word, a space and a count")
            pairs.append((word, int(count)))
        return cls([word for word, _ in pairs], [count for _, count in pairs])

    def save(self, path: Path) -> None:
        """Write the `dict.txt` that `load` and fairseq read."""
        pairs = zip(self.symbols[len(self.SPECIAL) :], self.counts, strict=True)
        path.write_text("".join(f"{word} {count}\n" for word, count in pairs), encoding="utf-8")

    def encode_lines(self, lines: Iterable[str]) -> np.ndarray:
        """The stream of these lines, ids [tokens] of `dtype`: each line followed by the end-of-line token.

        Raises:
            InputError: if a line holds a newline.
        """
        ids: list[int] = []
        unknown = self._ids["<unk>"]
        for line in lines:
            if "\n" in line:
                raise InputError(f"line {quoted(line)} holds a newline: split it into lines first")
            ids += [self._ids.get(word, unknown) for word in line.split()]
            ids.append(self.end_of_line)
        return np.array(ids, self.dtype)

    def _texts(self, lines: list[list[int]]) -> list[str]:
        return [" ".join(self.symbols[number] for number in line) for line in lines]


VOCABULARIES: dict[str, type[Vocabulary]] = {
    "words": WordVocabulary,
    "bytes": BytePairVocabulary,
    "bert": WordPieceVocabulary,
    "gpt2": GPT2Vocabulary,
}

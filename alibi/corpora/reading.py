"""The part of a corpus that is read: all, or the beginning of its training text in a vocabulary of a given size.

The corpus's name holds it everywhere: on the command line, in the cache, in a run's configuration, in records.
"""

import re
from dataclasses import dataclass
from typing import Self

from alibi.errors import InputError, quoted

_NAME = re.compile(
    r"(?P<corpus>.*?)(?:, first (?P<words>\d+)(?P<million>M?) words)?(?:, vocabulary (?P<size>\d+))?", re.DOTALL
)
_SPECIAL_ENTRIES = 4
MOST_DIGITS = 20  # of a number that is read: 2**64 has as many, and Python refuses thousands


@dataclass(frozen=True)
class Reading:
    """A corpus and the part that is read: "wikitext-103, first 20M words, vocabulary 32768".

    Raises:
        InputError: for no words, or a vocabulary without room for a word.
    """

    corpus: str
    train_words: int | None = None
    """Words to read: whole lines from the beginning of the training split until they hold this number; None reads
    all."""
    vocabulary_size: int | None = None
    """Entries of a vocabulary of words, the most frequent that are read; None takes every word."""

    def __post_init__(self) -> None:
        """Refuses numbers that leave no text or no word."""
        if self.train_words == 0 or (self.vocabulary_size is not None and self.vocabulary_size <= _SPECIAL_ENTRIES):
            raise InputError(
                f"{self}: choose at least one word, and a vocabulary above its {_SPECIAL_ENTRIES} special entries"
            )

    @classmethod
    def named(cls, name: str) -> Self:
        """The reading that a name stands for; a plain name stands for the whole corpus.

        Raises:
            InputError: as `Reading`, and for a number of more than 20 digits.
        """
        match = _NAME.fullmatch(name)
        assert match, "the first group takes anything"
        words, size = match["words"], match["size"]
        if max(len(words or ""), len(size or "")) > MOST_DIGITS:
            raise InputError(f"corpus {quoted(name)}: choose numbers of at most {MOST_DIGITS} digits")
        return cls(
            match["corpus"],
            int(words) * (1_000_000 if match["million"] else 1) if words else None,
            int(size) if size else None,
        )

    def __str__(self) -> str:
        """The name, with exact numbers."""
        name = self.corpus
        if self.train_words is not None:
            millions, rest = divmod(self.train_words, 1_000_000)
            name += f", first {self.train_words if rest or not millions else f'{millions}M'} words"
        return name if self.vocabulary_size is None else f"{name}, vocabulary {self.vocabulary_size}"

    @property
    def whole(self) -> bool:
        """Whether the whole corpus is read."""
        return self.train_words is None and self.vocabulary_size is None

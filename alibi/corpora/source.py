"""What a corpus is built from: the lines of its splits, and what is to say about them."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from alibi.corpora.reading import Reading
from alibi.errors import UserError, quoted

SPLITS = ("train", "valid", "test")
CC_BY_SA = "CC BY-SA 3.0; the authors are in the history of each article, https://en.wikipedia.org/wiki/TITLE"
# One reading of files: each line, without its end, and the split that it belongs to.
Pass = Callable[[], Generator[tuple[str, str], None, None]]


class CorpusError(UserError, RuntimeError):
    """A corpus can't be read, or not be kept in the cache; the message says what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The lines of a corpus, and what is to say about it."""

    reading: Reading
    description: str
    licence: str
    citation: str
    where: str
    """Folder, or repository, configuration and revision, or file of a package."""
    identity: str
    """Changes when the text may have."""
    tokenisation: str
    """Words, bytes, bert or gpt2: see `alibi.corpora.vocabulary.VOCABULARIES`."""
    splits: tuple[str, ...]
    passes: Sequence[Pass]
    """Read one after the other; one that has given all training words that are asked for is not read further."""
    seen: int = 1
    """How often a word must be seen to be an entry of a vocabulary of words."""
    published: Mapping[str, int] = field(default_factory=dict)
    """White-space tokens of a split with its ends of lines, as published; other counts are refused."""
    published_size: int = 0
    """Entries of the vocabulary of words, as published; 0 where there is no such number."""
    remark: str = ""
    """What whoever loads it has to be told: files that look like a split and are none."""
    fetched: str = ""
    """What has to be fetched, which is said before; empty where nothing has to."""

    @property
    def name(self) -> str:
        """What the corpus is called, with how much of it is read."""
        return str(self.reading)


def lines_of(text: object, where: str) -> list[str]:
    """The lines of a row of the column text.

    Raises:
        CorpusError: if it is no string.
    """
    if not isinstance(text, str):
        kind = type(text).__name__
        raise CorpusError(f"{where} has a row of the column text of type {kind}, {quoted(text)}; expected a string")
    # WikiText keeps the end of a line in its rows; an empty line is an empty row.
    return text.removesuffix("\n").split("\n")


def is_title(line: str) -> bool:
    """Whether a line is the title of an article, such as " = Title = "; headings below it have more signs."""
    return line.startswith(" = ") and bool(re.fullmatch(r" = (?!= ).*(?<! =) = ", line))

"""The source of a corpus: the lines of its splits, with description, licence and published sizes."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from alibi.corpora.reading import Reading
from alibi.errors import UserError, quoted

SPLITS = ("train", "valid", "test")
CC_BY_SA = "CC BY-SA 3.0; the authors are in the history of each article, https://en.wikipedia.org/wiki/TITLE"
# One reading of files: each line, without its end, and its split.
Pass = Callable[[], Generator[tuple[str, str], None, None]]


class CorpusError(UserError, RuntimeError):
    """A corpus can't be read or stored in the cache; the message names the fault and a remedy."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The lines of a corpus, with its description, licence and published sizes."""

    reading: Reading
    description: str
    licence: str
    citation: str
    where: str
    """Folder, or repository, configuration and revision, or file of a package."""
    identity: str
    """Changes when the text may have changed."""
    tokenisation: str
    """Words, bytes, bert or gpt2: see `alibi.corpora.vocabulary.VOCABULARIES`."""
    splits: tuple[str, ...]
    passes: Sequence[Pass]
    """Read one after the other; a pass that has given all requested training words is not read further."""
    seen: int = 1
    """Least number of occurrences of a word that enters a vocabulary of words."""
    published: Mapping[str, int] = field(default_factory=dict)
    """Published number of white-space tokens of a split, with the ends of lines; other counts are refused."""
    published_size: int = 0
    """Published number of entries of the vocabulary of words; 0 if none was published."""
    remark: str = ""
    """A warning for the user: files that only look like a split."""
    fetched: str = ""
    """The files that have to be fetched, printed before the download; empty if there are none."""

    @property
    def name(self) -> str:
        """The corpus's name, with the part that is read."""
        return str(self.reading)


def lines_of(text: object, where: str) -> list[str]:
    """The lines of a row of the column text.

    Raises:
        CorpusError: if it is not a string.
    """
    if not isinstance(text, str):
        kind = type(text).__name__
        raise CorpusError(f"{where} has a row of the column text of type {kind}, {quoted(text)}; expected a string")
    # WikiText's rows include the end of the line; an empty line is an empty row.
    return text.removesuffix("\n").split("\n")


def is_title(line: str) -> bool:
    """Whether a line is the title of an article, such as " = Title = "; lower headings have more signs."""
    return line.startswith(" = ") and bool(re.fullmatch(r" = (?!= ).*(?<! =) = ", line))

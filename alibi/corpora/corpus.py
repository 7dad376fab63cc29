"""Names to token streams: a corpus is read, cut into splits and encoded once, and memory-mapped from then on.

`load` is the one entrance. It builds `corpora/NAME` in the cache folder (`alibi.corpora.cache`): each split as `.bin`
(raw token ids) and `.txt` (the text they encode), the vocabulary, and `manifest.json` with the SHA-256 of each. Every
process checks them at its first load and after each change; a file above 1 GiB is checked by the first process alone.
Numpy alone opens the cache, and a copy of it feeds a machine without network.
"""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alibi.corpora import wikipedia_sample
from alibi.corpora.cache import build, count_unknown, encoded_pieces, fault_of
from alibi.corpora.folders import STAND_INS, from_folder, refuse_link_to_nothing
from alibi.corpora.gpt2 import GPT2_SIZE
from alibi.corpora.hub import HUB, from_hub
from alibi.corpora.mixture import MIXTURES, VALIDATION_TOKENS, from_mixture, training_digest
from alibi.corpora.reading import Reading
from alibi.corpora.source import CorpusError, Source
from alibi.corpora.vocabulary import VOCABULARIES, Vocabulary
from alibi.errors import InputError, UnknownNameError, listed, told
from alibi.paths import cache_folder, texts_folder

if TYPE_CHECKING:
    from alibi.scale import Scale

logger = logging.getLogger(__name__)

KNOWN = ("wikipedia-sample", *HUB, *MIXTURES)


@dataclass(frozen=True, eq=False)
class Split:
    """One token stream, and the size of the text it encodes.

    Attributes:
        name: train, valid or test.
        tokens: ids [tokens], read-only; every line of the text ends with the end-of-line token.
        lines: of the text. WikiText's published number of tokens counts words and lines together.
        words: whitespace-separated words of the text, which perplexity per word is normalised by.
        bytes: UTF-8 bytes of the text with the newline of each line, which bits per byte are normalised by.
        articles: number of articles, lines such as " = Title = "; none is in two splits.
        sha256: of the bytes of the stream.
        unknown: tokens that stand for words that the vocabulary lacks.
    """

    name: str
    tokens: np.ndarray
    words: int
    bytes: int
    articles: int
    sha256: str
    unknown: int = 0
    lines: int = 0


@dataclass(frozen=True, eq=False)
class Corpus:
    """The token streams of a corpus, and where they are from.

    Attributes:
        name: as `load` takes it.
        description: of the text, in a few words.
        licence: of the text.
        citation: of the text.
        source: the file, folder or repository it was read from.
        tokenisation: words, bytes, bert or gpt2.
        vocabulary_size: number of entries; token ids are [0, vocabulary_size). 0 without a vocabulary of its own.
        end_of_line: id of the end-of-line token.
        splits: those that it has of train, valid and test. A corpus without a training split has no vocabulary of its
            own and no tokens: `encoded_by` encodes it in another's.
        folder: where it is cached.
    """

    name: str
    description: str
    licence: str
    citation: str
    source: str
    tokenisation: str
    vocabulary_size: int
    end_of_line: int
    splits: dict[str, Split]
    folder: Path

    @property
    def streamed(self) -> bool:
        """Whether its training text is never at hand at once: `alibi.corpora.stream` gives it."""
        return self.name in MIXTURES

    @cached_property
    def training_sha256(self) -> str:
        """SHA-256 of the training split's tokens, or of a streamed text's files.

        Raises:
            ValueError: if there is no training split; those there are are listed.
            CorpusError: if a streamed text's files can't be found, or the corpus has no vocabulary of its own.
        """
        if self.streamed:
            return training_digest(self.name) if self.source else ""
        return self.split("train").sha256

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that encoded it; reading that of subwords needs the `tokenizers` package.

        Raises:
            CorpusError: if it has none of its own.
        """
        self._needs_vocabulary()
        kind = VOCABULARIES[self.tokenisation]
        return kind.load(self.folder / kind.FILE)

    def split(self, split: str) -> Split:
        """A split in the corpus's own vocabulary.

        Raises:
            ValueError: if there is no such split; those there are are listed.
            CorpusError: if the corpus has no vocabulary of its own.
        """
        self.require(split)
        self._needs_vocabulary()
        return self.splits[split]

    def encoded_by(self, other: "Corpus", split: str) -> Split:
        """A split of this corpus in the vocabulary of another, so that a model of that one can be evaluated on it.

        Raises:
            ValueError: if there is no such split; those there are are listed.
        """
        if other.name == self.name and other.tokenisation == self.tokenisation:
            return self.split(split)
        self.require(split)
        vocabulary = other.vocabulary
        pieces = encoded_pieces(self.folder / f"{split}.txt", vocabulary)
        tokens = np.concatenate([np.empty(0, vocabulary.dtype), *pieces])
        digest = hashlib.sha256(tokens.tobytes()).hexdigest()
        return replace(self.splits[split], tokens=tokens, sha256=digest, unknown=count_unknown(tokens, vocabulary))

    def text(self, split: str) -> str:
        """The text of a split, a heading or a paragraph a line.

        Raises:
            ValueError: if there is no such split; the message lists them.
        """
        self.require(split)
        return (self.folder / f"{split}.txt").read_bytes().decode()

    def require(self, *splits: str) -> None:
        """Nothing, if all of these splits are there.

        Raises:
            ValueError: if one is not; those there are are listed.
        """
        for split in splits:
            if split not in self.splits:
                advice = ": add its file, or train on another text (--corpus)" if split == "train" else ""
                raise InputError(
                    f"{self.name} (from {self.source}) has no split {split!r}; it has {self._names()}{advice}"
                )

    def _names(self) -> str:
        return ", ".join(self.splits)

    def _needs_vocabulary(self) -> None:
        if not self.vocabulary_size:
            raise CorpusError(
                f"{self.name} (from {self.source}) has the splits {self._names()} and no training split to take a "
                "vocabulary from: train on another corpus, and evaluate on this one with --eval-corpus"
            )


def load(name: str, tokenisation: str | None = None, *, streaming: bool = False) -> Corpus:
    """The corpus of this name, from the cache, where it is built first if it is missing or not what was written.

    A folder `$ALIBI_DATA/NAME` comes first, then a copy in the cache, made from any folder, then the hub or a package.

    Args:
        name: a folder of `$ALIBI_DATA`, or a name of `KNOWN`; "NAME, first 20M words, vocabulary 32768" reads the
            first 20 million words of its training split, and keeps 32,768 entries (see `alibi.corpora.reading`).
        tokenisation: words (by fairseq's rules), bytes (byte pairs learned from the training split), bert (cased word
            pieces) or gpt2 (its byte pairs); None takes the corpus's own.
        streaming: read the hub's files without keeping a copy of them besides the cache's.

    Raises:
        ValueError: if no corpus has this name; the message lists those that there are.
        CorpusError: if it has to be built and its source is missing, altered or unreadable, or the cache can't be
            written.
    """
    if tokenisation and tokenisation not in VOCABULARIES:
        raise UnknownNameError("tokenisation", tokenisation, VOCABULARIES)
    reading = _reading(name)
    folder, source = _folder(reading, tokenisation), _source(reading, tokenisation, streaming)
    if (data := texts_folder()) is not None and not data.is_dir():
        _tell_once(f"ALIBI_DATA is {data}, where no folder is: no text is read from there")
    if source and source.remark:
        _tell_once(source.remark)
    if fault := fault_of(folder, source):
        if source is None and (folder / "manifest.json").is_file():
            raise CorpusError(f"{folder} is {fault}, and what it was built from is not here: restore it, or remove it")
        build(folder, source or find(name, tokenisation, streaming))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    splits = {}
    for split, sizes in manifest["splits"].items():
        tokens = np.empty(0, np.uint8)
        if manifest["vocabulary_size"]:
            tokens = np.memmap(folder / f"{split}.bin", manifest["dtype"], mode="r")
        splits[split] = Split(split, tokens, sha256=manifest["sha256"].get(f"{split}.bin", ""), **sizes)
    told = ("name", "description", "licence", "citation", "source", "tokenisation", "vocabulary_size", "end_of_line")
    return Corpus(**{field: manifest[field] for field in told}, splits=splits, folder=folder)


def outline(name: str, tokenisation: str | None = None) -> Corpus:
    """The corpus as `load` gives it if that takes no download, else its published sizes: what an estimate needs.

    A corpus of sizes alone has no source, tokens, digests or cached text.

    Raises:
        ValueError: as `load`.
        CorpusError: as `load`.
    """
    reading = _reading(name)
    known, given = HUB.get(reading.corpus), _given(reading.corpus) is not None
    here = not fault_of(_folder(reading, tokenisation), _source(reading, tokenisation))
    if reading.corpus in MIXTURES and not here:
        valid = Split("valid", np.empty(0, np.uint16), VALIDATION_TOKENS, 0, 0, "")
        return Corpus(name, "", "", "", "", "gpt2", GPT2_SIZE, 0, {"valid": valid}, Path())
    if known is None or given or here:
        found = load(name, tokenisation)
        if known is None or "train" in found.splits:
            return found
    sizes = dict(known.sizes)
    sizes["train"] = min(sizes["train"], reading.train_words or sizes["train"])
    entries = min(known.entries(tokenisation), reading.vocabulary_size or known.entries(tokenisation))
    splits = {split: Split(split, np.empty(0, np.uint16), count, 0, 0, "") for split, count in sizes.items()}
    return Corpus(str(reading), "", "", "", "", tokenisation or "", entries, 0, splits, Path())


def name_at(scale: "Scale", name: str, tokenisation: str | None = None) -> str:
    """What a run at this scale reads of a corpus: of the hub's no more than the scale says, of a reader's own all.

    A stand-in that is read by words has a vocabulary as large as that of the corpus that it stands for.

    Args:
        scale: with `train_words` and `vocabulary_size`.
        name: as for `load`; one that says how much is read stays as it is.
        tokenisation: as for `load`.
    """
    known, words, size = HUB.get(name), scale.train_words, scale.vocabulary_size
    if name in STAND_INS and (tokenisation or STAND_INS[name].tokenisation) == "words":
        return str(Reading(name, vocabulary_size=size))
    if known is None:
        return name
    by_words = (tokenisation or known.tokenisation) == "words"
    return str(
        Reading(
            name,
            words if words is not None and words < known.sizes["train"] else None,
            size if size is not None and by_words and size < known.vocabulary_size else None,
        )
    )


def _folder(reading: Reading, tokenisation: str | None) -> Path:
    return cache_folder() / "corpora" / (f"{reading}-{tokenisation}" if tokenisation else str(reading))


def _reading(name: str) -> Reading:
    reading = Reading.named(name)
    corpus = reading.corpus
    # A path leads out of the folders in which names are looked up, and files there would be replaced.
    if not corpus or corpus.startswith(".") or Path(corpus).name != corpus or "/" in corpus or "\\" in corpus:
        raise InputError(f"unknown corpus {name!r}: put text into a folder of ALIBI_DATA and give the folder's name")
    return reading


def find(name: str, tokenisation: str | None = None, streaming: bool = False) -> Source:
    """Where the corpus of this name is read from; nothing is read yet.

    Raises:
        ValueError: if there is no such corpus; those there are are listed.
        CorpusError: if its folder in `$ALIBI_DATA` holds no split, one twice or in part, or a link to nothing.
    """
    if (source := _source(_reading(name), tokenisation, streaming)) is not None:
        return source
    data = texts_folder()
    others = f"ALIBI_DATA is {data}" if data else "folders of text in ALIBI_DATA are others; it is not set"
    raise InputError(f"unknown corpus {name!r}; choose from {listed(names())} ({others})")


def names(*holding: str) -> list[str]:
    """What `load` knows: the corpora of the package, folders in `$ALIBI_DATA`, and what is in the cache.

    Args:
        holding: splits that a corpus must have to be among them; whether its files can be read is not looked at.
    """
    data, cached = texts_folder(), cache_folder() / "corpora"
    given = {path.name for path in data.iterdir() if path.is_dir()} if data is not None and data.is_dir() else set()
    # A folder that another tokenisation is cached in bears that in its name.
    manifests = cached.glob("*/manifest.json")
    whole = {path.parent.name for path in manifests if f'"{path.parent.name}"' in path.read_text("utf-8")}
    every = sorted(name for name in {*KNOWN, *given, *whole} if not name.startswith("."))
    return [name for name in every if not holding or set(holding) <= _splits(name)]


def split_names(name: str) -> tuple[str, ...]:
    """The splits that a corpus has; whether its files can be read is not looked at.

    Raises:
        ValueError: as `find`.
        CorpusError: as `find`.
    """
    reading = _reading(name)
    if _given(reading.corpus) is None and (manifest := _folder(reading, None) / "manifest.json").is_file():
        return tuple(json.loads(manifest.read_bytes())["splits"])
    return find(name).splits


def _splits(name: str) -> set[str]:
    try:
        return set(split_names(name))
    except (CorpusError, OSError, ValueError, LookupError):
        return set()


def _given(name: str) -> Path | None:
    data = texts_folder()
    # The sample is the package's own: a folder of its name would pass for it. A mixture's holds a folder for each part.
    if data is None or name == "wikipedia-sample" or name in MIXTURES:
        return None
    try:
        refuse_link_to_nothing(data / name)
        return data / name if (data / name).is_dir() else None
    except OSError as wrong:
        raise CorpusError(f"{data} can't be read ({told(wrong)})") from wrong


def _source(reading: Reading, tokenisation: str | None, streaming: bool = False) -> Source | None:
    """What a cache must have been built from; None where any will do."""
    if (given := _given(reading.corpus)) is not None:
        return from_folder(reading, given, tokenisation)
    if reading.corpus == "wikipedia-sample":
        return wikipedia_sample.source(reading, tokenisation)
    if reading.corpus in MIXTURES:
        return from_mixture(reading, tokenisation)
    return from_hub(reading, tokenisation, streaming) if reading.corpus in HUB else None


@cache
def _tell_once(remark: str) -> None:
    logger.warning("%s", remark)

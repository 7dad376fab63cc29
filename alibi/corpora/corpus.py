"""Corpora by name: each is read, cut into splits and encoded once, and then memory-mapped.

Start with `load`. It builds `corpora/NAME` in the cache folder (`alibi.corpora.cache`): each split as `.bin` (raw token
ids) and `.txt` (the text they encode), the vocabulary, and `manifest.json` with the SHA-256 of each. Every process
checks them at its first load and after each change; only the first process checks a file above 1 GiB. Numpy is enough
to open the cache, and a machine without network can use a copy of it.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alibi.corpora import wikipedia_sample
from alibi.corpora.cache import build, count_unknown, encoded_pieces, fault_of
from alibi.corpora.folders import STAND_INS, from_folder, refuse_link_to_nothing
from alibi.corpora.gpt2 import GPT2_SIZE
from alibi.corpora.hub import HUB, from_hub
from alibi.corpora.mixture import MIXTURES, VALIDATION_TOKENS, files_digest, from_mixture, part_files
from alibi.corpora.reading import Reading
from alibi.corpora.source import CorpusError, Source
from alibi.corpora.vocabulary import VOCABULARIES, Vocabulary
from alibi.errors import InputError, UnknownNameError, listed, quoted, told
from alibi.files import sha256
from alibi.paths import cache_folder, texts_folder
from alibi.progress import say_once

if TYPE_CHECKING:
    from alibi.scale import Scale


# Bytes of a name: with a tokenisation and an ending it has to be a file's name.
LONGEST_NAME = 200
KNOWN = ("wikipedia-sample", *HUB, *MIXTURES)


@dataclass(frozen=True, eq=False)
class Split:
    """One token stream, and the size of the text it encodes.

    Attributes:
        name: train, valid or test.
        tokens: ids [tokens], read-only; every line of the text ends with the end-of-line token.
        lines: lines of the text. WikiText's published number of tokens counts words and lines together.
        words: whitespace-separated words of the text, the unit of perplexity per word.
        bytes: UTF-8 bytes of the text with the newline of each line, the unit of bits per byte.
        articles: number of articles, by lines such as " = Title = "; no article is in two splits.
        sha256: SHA-256 of the bytes of the stream.
        unknown: number of tokens that stand for words outside the vocabulary.
        text_sha256: SHA-256 of the text; empty for a stream without one.
    """

    name: str
    tokens: np.ndarray
    words: int
    bytes: int
    articles: int
    sha256: str
    unknown: int = 0
    lines: int = 0
    text_sha256: str = ""


@dataclass(frozen=True, eq=False)
class Corpus:
    """The token streams of a corpus, and their source.

    Attributes:
        name: the name that `load` takes.
        description: a few words about the text.
        licence: of the text.
        citation: of the text.
        source: the file, folder or repository of the text.
        tokenisation: words, bytes, bert or gpt2.
        vocabulary_size: number of entries; token ids are [0, vocabulary_size). 0 without a vocabulary of its own.
        end_of_line: id of the end-of-line token.
        splits: whichever of train, valid and test the corpus has. A corpus without a training split has no vocabulary
            and no tokens of its own: `encoded_by` encodes it with another corpus's vocabulary.
        folder: its folder in the cache.
        vocabulary_sha256: SHA-256 of the vocabulary's file; empty for a corpus without one there.
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
    vocabulary_sha256: str = ""

    @property
    def streamed(self) -> bool:
        """Whether `alibi.corpora.stream` reads the training text piece by piece, so that it is never stored whole."""
        return self.name in MIXTURES

    @cached_property
    def training_sha256(self) -> str:
        """SHA-256 of the training split's tokens, or of the names and sizes of a streamed text's files.

        Raises:
            InputError: if there is no training split; the message lists the splits.
            CorpusError: if a streamed text's files can't be found, or the corpus has no vocabulary of its own.
        """
        if self.streamed:
            return files_digest(part_files(self.name)) if self.source else ""
        return self.split("train").sha256

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of its tokens; a vocabulary of subwords needs the `tokenizers` package.

        Raises:
            CorpusError: if the corpus has no vocabulary of its own, or its text changed after it was loaded.
        """
        self._needs_vocabulary()
        kind = VOCABULARIES[self.tokenisation]
        file = self.folder / kind.FILE
        if self.vocabulary_sha256 and sha256(file) != self.vocabulary_sha256:
            raise CorpusError(f"{file} has changed since {self.name} was loaded: load it again")
        return kind.load(file)

    def split(self, split: str) -> Split:
        """A split in the corpus's own vocabulary.

        Raises:
            InputError: for an unknown split; the message lists the known ones.
            CorpusError: if the corpus has no vocabulary of its own.
        """
        self.require(split)
        self._needs_vocabulary()
        return self.splits[split]

    def encoded_by(self, other: "Corpus", split: str) -> Split:
        """A split of this corpus in the vocabulary of another, for models that were trained on the other.

        Raises:
            InputError: for an unknown split; the message lists the known ones.
            CorpusError: if the text changed after it was loaded.
        """
        same = other.name == self.name and other.tokenisation == self.tokenisation
        if same and other.vocabulary_sha256 == self.vocabulary_sha256:
            return self.split(split)
        self.require(split)
        vocabulary = other.vocabulary
        pieces = encoded_pieces(self._text_file(split), vocabulary)
        tokens = np.concatenate([np.empty(0, vocabulary.dtype), *pieces])
        digest = hashlib.sha256(tokens.tobytes()).hexdigest()
        return replace(self.splits[split], tokens=tokens, sha256=digest, unknown=count_unknown(tokens, vocabulary))

    def text(self, split: str) -> str:
        """The text of a split, one heading or paragraph a line.

        Raises:
            InputError: for an unknown split; the message lists the known ones.
            CorpusError: if the text changed after it was loaded.
        """
        self.require(split)
        return self._text_file(split).read_bytes().decode()

    def _text_file(self, split: str) -> Path:
        file = self.folder / f"{split}.txt"
        if (digest := self.splits[split].text_sha256) and sha256(file) != digest:
            raise CorpusError(f"{file} has changed since {self.name} was loaded: load it again")
        return file

    def require(self, *splits: str) -> None:
        """Checks that the corpus has all of these splits.

        Raises:
            InputError: if one is missing; the message lists the splits of the corpus.
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


def load(name: str, tokenisation: str | None = None, *, streaming: bool = False, training_sha256: str = "") -> Corpus:
    """The corpus of this name, from the cache; it is built there first if it is missing or damaged.

    A folder `$ALIBI_DATA/NAME` comes first, then a cached copy that was made from any folder, then the hub or a
    package.

    Args:
        name: a folder of `$ALIBI_DATA`, or a name of `KNOWN`; "NAME, first 20M words, vocabulary 32768" reads the
            first 20 million words of its training split, and keeps 32,768 entries (see `alibi.corpora.reading`).
        tokenisation: words (by fairseq's rules), bytes (byte pairs learned from the training split), bert (cased word
            pieces) or gpt2 (its byte pairs); None takes the corpus's own.
        streaming: read the hub's files without storing them; only the cache is kept.
        training_sha256: digest of a run's training stream; a cache that has it is not replaced by another text.

    Raises:
        InputError: for an unknown name; the message lists the known ones.
        CorpusError: if it has to be built and its source is missing, altered or unreadable, or the cache can't be
            written.
    """
    if tokenisation is not None and tokenisation not in VOCABULARIES:
        raise UnknownNameError("tokenisation", tokenisation, VOCABULARIES)
    reading = _reading(name)
    folder, source = _folder(reading, tokenisation), _source(reading, tokenisation, streaming)
    if (data := texts_folder()) is not None and not data.is_dir():
        say_once(f"warning: ALIBI_DATA is {data}, which is not a folder: no text is read from it")
    if source and source.remark:
        say_once(f"warning: {source.remark}")
    if fault := fault_of(folder, source, str(reading)):
        if source is None and (folder / "manifest.json").is_file():
            raise CorpusError(f"{folder} is {fault}, and its source is not here: restore it, or remove it")
        build(folder, source or find(name, tokenisation, streaming), training_sha256)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    splits = {}
    for split, sizes in manifest["splits"].items():
        tokens = np.empty(0, np.uint8)
        if manifest["vocabulary_size"]:
            tokens = np.memmap(folder / f"{split}.bin", manifest["dtype"], mode="r")
        stream, text = (manifest["sha256"].get(f"{split}.{kind}", "") for kind in ("bin", "txt"))
        splits[split] = Split(split, tokens, sha256=stream, text_sha256=text, **sizes)
    told = ("name", "description", "licence", "citation", "source", "tokenisation", "vocabulary_size", "end_of_line")
    described = {field: manifest[field] for field in told}
    vocabulary = manifest["sha256"].get(VOCABULARIES[manifest["tokenisation"]].FILE, "")
    return Corpus(**described, splits=splits, folder=folder, vocabulary_sha256=vocabulary)


def load_in(name: str, tokenisation: str, training_sha256: str) -> Corpus:
    """The corpus of this name as a run with this tokenisation read it, whether it was chosen or is the corpus's own.

    Args:
        name: as for `load`.
        tokenisation: of the run.
        training_sha256: digest of the run's training stream, as for `load`.

    Raises:
        InputError: as `load`.
        CorpusError: as `load`, and if the text has changed since the cache was made.
    """
    reading = _reading(name)
    chosen = _folder(reading, tokenisation).is_dir() or _own_tokenisation(reading) != tokenisation
    return load(name, tokenisation if chosen else None, training_sha256=training_sha256)


def _own_tokenisation(reading: Reading) -> str | None:
    """The tokenisation that `load` takes if none is chosen; None if the corpus is nowhere."""
    if (source := _source(reading, None)) is not None:
        return source.tokenisation
    return _manifest(_folder(reading, None)).get("tokenisation")


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest in a folder of the cache; empty if there is none that can be read, and the corpus is rebuilt."""
    try:
        found = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def outline(name: str, tokenisation: str | None = None) -> Corpus:
    """The corpus that `load` returns if that takes no download, else only its published sizes, for an estimate.

    A corpus with only sizes has no source, tokens, digests or cached text.

    Raises:
        InputError: as `load`.
        CorpusError: as `load`.
    """
    reading = _reading(name)
    known, given = HUB.get(reading.corpus), _given(reading.corpus) is not None
    here = not fault_of(_folder(reading, tokenisation), _source(reading, tokenisation), str(reading))
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
    """The corpus name that a run at this scale reads: a hub corpus is cut to the scale's words, a reader's own is not.

    A stand-in that is read by words gets a vocabulary as large as the one of the corpus that it stands for.

    Args:
        scale: its `train_words` and `vocabulary_size` are used.
        name: as for `load`; a name that already says how much is read keeps its numbers, written as records have them.
        tokenisation: as for `load`.
    """
    known, words, size = HUB.get(name), scale.train_words, scale.vocabulary_size
    if name in STAND_INS and (tokenisation or STAND_INS[name].tokenisation) == "words":
        return str(Reading(name, vocabulary_size=size))
    if known is None:
        return str(Reading.named(name))
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
    # A path would leave the folders of corpora, and files there would be replaced.
    if len(str(reading).encode(errors="surrogatepass")) > LONGEST_NAME:
        raise InputError(f"corpus {quoted(name)}: choose a name of at most {LONGEST_NAME} bytes")
    if not corpus or corpus.startswith(".") or Path(corpus).name != corpus or "/" in corpus or "\\" in corpus:
        raise InputError(f"unknown corpus {name!r}: put text into a folder of ALIBI_DATA and give the folder's name")
    if ending := next((f"-{kind}" for kind in VOCABULARIES if str(reading).endswith(f"-{kind}")), ""):
        # Both would have one folder in the cache.
        raise InputError(
            f"corpus {quoted(name)}: choose a name without {ending} at its end, which stands for "
            f"{quoted(str(reading).removesuffix(ending))} with the tokenisation {ending[1:]}"
        )
    return reading


def find(name: str, tokenisation: str | None = None, streaming: bool = False) -> Source:
    """The source of the corpus of this name; nothing is read yet.

    Raises:
        InputError: for an unknown name; the message lists the known ones.
        CorpusError: if its folder in `$ALIBI_DATA` holds no split, a split twice or in part, or a broken link.
    """
    if (source := _source(_reading(name), tokenisation, streaming)) is not None:
        return source
    data = texts_folder()
    others = f"ALIBI_DATA is {data}" if data else "or a folder of text in ALIBI_DATA, which is not set"
    raise InputError(f"unknown corpus {name!r}; choose from {listed(names())} ({others})")


def names(*holding: str) -> list[str]:
    """The names that `load` knows: corpora of the package, folders in `$ALIBI_DATA`, and cached corpora.

    Args:
        holding: list only corpora with these splits; their files are not opened.
    """
    data, cached = texts_folder(), cache_folder() / "corpora"
    given = {path.name for path in data.iterdir() if path.is_dir()} if data is not None and data.is_dir() else set()
    # The folder's name also has the tokenisation, if that is not the corpus's own.
    whole = {folder.name for folder in cached.glob("[!.]*") if _manifest(folder).get("name") == folder.name}
    every = sorted({*KNOWN, *filter(_names_folder, given), *whole})
    return [name for name in every if not holding or set(holding) <= _splits(name)]


def _names_folder(name: str) -> bool:
    """Whether this folder of `$ALIBI_DATA` is read by its name; "a, first 3 words" is the beginning of a."""
    try:
        return _reading(name).corpus == name
    except InputError:
        return False


def split_names(name: str) -> tuple[str, ...]:
    """The splits that a corpus has; its files are not opened.

    Raises:
        InputError: as `find`.
        CorpusError: as `find`.
    """
    reading = _reading(name)
    if _given(reading.corpus) is None and (splits := _manifest(_folder(reading, None)).get("splits")):
        return tuple(splits)
    return find(name).splits


def _splits(name: str) -> set[str]:
    try:
        return set(split_names(name))
    except (CorpusError, OSError, ValueError, LookupError):
        return set()


def _given(name: str) -> Path | None:
    data = texts_folder()
    # A folder must not pass for the package's own sample. A mixture's folder holds a folder for each part.
    if data is None or name == "wikipedia-sample" or name in MIXTURES:
        return None
    try:
        refuse_link_to_nothing(data / name)
        return data / name if (data / name).is_dir() else None
    except OSError as wrong:
        raise CorpusError(f"{data} can't be read ({told(wrong)})") from wrong


def _source(reading: Reading, tokenisation: str | None, streaming: bool = False) -> Source | None:
    """The source that a cache must have been built from; None if any will do."""
    if (given := _given(reading.corpus)) is not None:
        return from_folder(reading, given, tokenisation)
    if reading.corpus == "wikipedia-sample":
        return wikipedia_sample.source(reading, tokenisation)
    if reading.corpus in MIXTURES:
        return from_mixture(reading, tokenisation)
    return from_hub(reading, tokenisation, streaming) if reading.corpus in HUB else None

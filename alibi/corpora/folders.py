"""Corpora in the reader's own folders: the files of each split, and their lines.

This module opens the files itself: `datasets` takes a file's name for a pattern, and tells a server of every file that
it opens.
"""

import gzip
import hashlib
import lzma
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from alibi.corpora.hub import HUB
from alibi.corpora.reading import Reading
from alibi.corpora.source import CC_BY_SA, SPLITS, CorpusError, Pass, Source, lines_of
from alibi.errors import UnknownNameError, listed, told

# Names of the splits in files and in use: the hub says validation where we say valid.
SPELLINGS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}
KINDS, COMPRESSIONS = ("tokens", "txt", "raw"), ("", ".xz", ".gz", ".zst")
ROWS_AT_ONCE = 1000  # bounds the memory of reading: a row may be a document
FILES = [".parquet", *(f".{kind}{compression}" for kind in KINDS for compression in COMPRESSIONS)]


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """The text that a folder of this name holds."""

    description: str
    licence: str
    citation: str
    tokenisation: str
    seen: int = 1
    """Least number of occurrences of a word that enters a vocabulary of words."""
    evaluated_on: str | None = None
    """The corpus whose validation text its models are evaluated on if the folder has none."""


STAND_INS = {
    "wikipedia": StandIn(
        description="articles of English Wikipedia in WikiText's format: a stand-in for WikiText-103's training set, "
        "and not it",
        licence=CC_BY_SA,
        citation="Wikipedia contributors. English Wikipedia.",
        tokenisation="words",
        seen=3,
        evaluated_on="wikitext-103",
    ),
    "books": StandIn(
        description="fiction of Project Gutenberg: a stand-in for the Toronto BookCorpus, and not it",
        licence="public domain in the USA",
        citation="Project Gutenberg, https://www.gutenberg.org",
        tokenisation="bytes",
    ),
    "web": StandIn(
        description="pages of public and open projects: a stand-in for the CC100 + RoBERTa corpus, and not it",
        licence="public domain, MIT, Apache 2.0 and CC BY; see the folder",
        citation="see the folder",
        tokenisation="bytes",
    ),
}

# A split's file: train.txt, the hub's shard train-00000-of-00002.parquet, or with a prefix, wiki.train.tokens.
_SPLIT = "|".join(SPELLINGS)
_SPLIT_FILE = re.compile(
    rf"(?P<before>.+\.)?(?P<split>{_SPLIT})(?:-(?P<shard>\d+)-of-(?P<shards>\d+))?"
    rf"(?P<ending>{'|'.join(map(re.escape, FILES))})",
    re.IGNORECASE,
)
# A file that may be meant as a split: with a split's name as a part of its own, or with the ending of a text.
_SIMILAR = re.compile(rf"(?<![^\W_])(?:{_SPLIT})(?![^\W_])|\.(?:parquet|{'|'.join(KINDS)})(?:\.|$)", re.IGNORECASE)
EXPECTED = (
    "files such as train.txt, validation-00000-of-00001.parquet or wiki.test.tokens.xz, by the names "
    f"{', '.join(SPELLINGS)} with .parquet, or with .{', .'.join(KINDS)} plain or{', '.join(COMPRESSIONS)[1:]}"
)


def split_named(name: str) -> str:
    """Train, valid or test, from any spelling of `SPELLINGS`.

    Raises:
        InputError: for any other name.
    """
    if name.lower() not in SPELLINGS:
        raise UnknownNameError("split", name, SPLITS)
    return SPELLINGS[name.lower()]


def refuse_link_to_nothing(path: Path) -> None:
    """Refuses a broken link, which would look like a missing file or folder.

    Raises:
        CorpusError: if the link is broken; the message names both ends.
    """
    if path.is_symlink() and not path.exists():
        raise CorpusError(f"{path} is a broken link to {os.readlink(path)}: restore its target, or remove the link")


def split_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each split in a folder, shards in order, and names there that only look like a split.

    Raises:
        CorpusError: if a split is there in two forms, lacks a shard, or has a broken link.
    """
    matches: dict[str, list[tuple[re.Match[str], Path]]] = {split: [] for split in SPLITS}
    similar = []
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        match = _SPLIT_FILE.fullmatch(path.name)
        if match:
            refuse_link_to_nothing(path)
        if match and path.is_file():
            matches[split_named(match["split"])].append((match, path))
        elif _SIMILAR.search(path.name):
            similar.append(path.name)
    return {split: _whole(folder, split, there) for split, there in matches.items() if there}, similar


def _whole(folder: Path, split: str, there: Sequence[tuple[re.Match[str], Path]]) -> list[Path]:
    forms = {match.group("before", "split", "shards", "ending") for match, _ in there}
    shards = {int(match["shard"] or 0): path for match, path in there}
    whole = int(there[0][0]["shards"] or 1)
    if len(forms) > 1 or len(shards) < len(there) or max(shards) >= whole:
        names = listed([path.name for _, path in there])
        raise CorpusError(f"{folder} holds the split {split} twice: {names}; keep one")
    if len(shards) < whole:
        first = next(number for number in range(whole) if number not in shards)
        raise CorpusError(f"{folder} holds {len(shards)} of {whole} shards of the split {split}: {first:05} is missing")
    return [shards[number] for number in sorted(shards)]


def from_folder(reading: Reading, folder: Path, tokenisation: str | None) -> Source:
    """The splits that a folder holds: {train,valid,test}.parquet, or .tokens, .txt, .raw, plain or with .xz, .gz, .zst.

    Any of the three may be absent. The validation split may also be called validation, val or dev, a split may be in
    the hub's shards, and names may have a prefix, as in `wiki.train.tokens`. Files named .tokens are read as words,
    others as bytes, unless the corpus's name is known.

    Raises:
        CorpusError: if the folder holds no split, a split in two forms or in part, or can't be read.
    """
    name = reading.corpus
    try:
        found, similar = split_files(folder)
        if not found:
            has = listed(sorted(path.name for path in folder.iterdir()), 5) or "nothing"
            raise CorpusError(f"{folder} holds no split: expected {EXPECTED}; it holds {has}")
        states = {split: tuple(chain.from_iterable(map(_state, paths))) for split, paths in found.items()}
    except OSError as wrong:
        raise CorpusError(f"{folder} can't be read ({told(wrong)})") from wrong
    names = [path.name for paths in found.values() for path in paths]
    words = all(re.search(r"\.tokens(\.\w+)?$", file, re.IGNORECASE) for file in names)
    known = STAND_INS.get(name) or HUB.get(name)
    published = HUB[name] if name in HUB and HUB[name].exact else None
    description = f"{name}, from a folder" if name in HUB else f"text of {folder}"
    # Earlier versions left carriage returns in the rows of parquet files.
    read = "universal newlines" if any(file.lower().endswith(".parquet") for file in names) else ""
    seen = (str(folder.resolve()), states, *([read] if read else []))
    identity = hashlib.sha256(repr(seen).encode()).hexdigest()[:16]
    return Source(
        reading=reading,
        description=STAND_INS[name].description if name in STAND_INS else description,
        licence=known.licence if known else "not stated: see the folder",
        citation=known.citation if known else "see the folder",
        where=str(folder),
        identity=f"folder {identity}",
        tokenisation=tokenisation or (known.tokenisation if known else "words" if words else "bytes"),
        splits=tuple(found),
        passes=[_pass(split, paths) for split, paths in found.items()],
        seen=STAND_INS[name].seen if name in STAND_INS else 1,
        published=published.sizes if published else {},
        published_size=published.vocabulary_size if published else 0,
        remark=f"{folder}: {listed(similar, 5)} not read: expected {EXPECTED}" if similar else "",
    )


def _state(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return path.name, found.st_size, found.st_mtime_ns


def _pass(split: str, paths: Sequence[Path]) -> Pass:
    return lambda: ((split, line) for path in paths for line in _file_lines(path))


def _file_lines(path: Path) -> Iterator[str]:
    empty = True
    try:
        for line in _parquet_lines(path) if path.suffix.lower() == ".parquet" else _text_lines(path):
            empty = False
            yield line
    except CorpusError:
        raise
    except UnicodeDecodeError as wrong:
        raise CorpusError(f"{path} is not UTF-8: {wrong}; convert it first") from wrong
    except Exception as wrong:  # Five libraries raise it, one for each kind of file.
        raise CorpusError(f"{path} can't be read ({told(wrong)}); is it whole?") from wrong
    if empty:
        raise CorpusError(f"{path} is empty")


def _text_lines(path: Path) -> Iterator[str]:
    # Unlike others, this library notices a truncated file; Python has it from 3.14 on.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    openers: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open, ".zst": zstd.open}
    with openers.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8-sig") as file:
        for line in file:
            yield line.removesuffix("\n")


def _parquet_lines(path: Path) -> Iterator[str]:
    import pyarrow.parquet

    if not path.stat().st_size:
        return
    with pyarrow.parquet.ParquetFile(path) as file:
        if "text" not in file.schema_arrow.names:
            raise CorpusError(f"{path} has the columns {listed(file.schema_arrow.names)}; expected one named text")
        first = True
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["text"]):
            for text in batch.column("text").to_pylist():
                if isinstance(text, str):  # As Python opens text.
                    text = text.replace("\r\n", "\n").replace("\r", "\n")
                    text = text.removeprefix("\ufeff") if first else text
                first = False
                yield from lines_of(text, str(path))

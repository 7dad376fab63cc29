"""Where text comes from: the lines of each split, from a folder of files or from the Hugging Face hub.

The hub is read by `datasets`, which runs no loading scripts. Files are opened here, one by one: what `datasets` takes
for the name of a file is a pattern, and it tells a server of every file that it opens.
"""

import gzip
import hashlib
import lzma
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alibi.errors import UnknownNameError, UserError, listed, quoted, told

if TYPE_CHECKING:
    from alibi.corpora.vocabulary import WordPieceVocabulary

SPLITS = ("train", "valid", "test")
# What files and people call the splits: the hub's name for ours is validation.
SPELLINGS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}
KINDS, COMPRESSIONS = ("tokens", "txt", "raw"), ("", ".xz", ".gz", ".zst")
FILES = [".parquet", *(f".{kind}{compression}" for kind in KINDS for compression in COMPRESSIONS)]
Lines = Callable[[], Iterator[str]]

WIKITEXT = "Salesforce/wikitext"
WIKITEXT_REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
BOOKCORPUS, BERT_CASED = "bookcorpus/bookcorpus", "google-bert/bert-base-cased"
BERT_CASED_SIZE = 28_996
# The branch on which the hub keeps parquet files of what was once read by a script.
PARQUET = "refs/convert/parquet"
SENTENCES_A_BLOCK = 4096


class CorpusError(UserError, RuntimeError):
    """A corpus can't be read, or not be kept in the cache; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Source:
    """The lines of a corpus, and what is to say about it."""

    name: str
    description: str
    licence: str
    citation: str
    where: str
    """Folder, or repository, configuration and revision, or file of a package."""
    identity: str
    """Changes when the text may have."""
    tokenisation: str
    """Words, bytes or bert: see `alibi.corpora.vocabulary.VOCABULARIES`."""
    splits: dict[str, Lines]
    seen: int = 1
    """How often a word must be seen to be an entry of a vocabulary of words."""
    published: dict[str, int] = field(default_factory=dict)
    """White-space tokens of a split with its ends of lines, as published; other counts are refused."""
    published_size: int = 0
    """Entries of the vocabulary of words, as published; 0 where there is no such number."""
    remark: str = ""
    """What whoever loads it has to be told: files that look like a split and are none."""


# Folders --------------------------------------------------------------------------------------------------------------

CC_BY_SA = "CC BY-SA 3.0; the authors are in the history of each article, https://en.wikipedia.org/wiki/TITLE"
MERITY = "Merity, Xiong, Bradbury and Socher (2017). Pointer Sentinel Mixture Models. ICLR."
ZHU = "Zhu, Kiros, Zemel, Salakhutdinov, Urtasun, Torralba and Fidler (2015). Aligning Books and Movies. ICCV."
# Of the folders with these names: what they hold, licence, citation, tokenisation, how often a word must be seen.
STAND_INS = {
    "wikipedia": (
        "articles of English Wikipedia in WikiText's format: a stand-in for WikiText-103's training set, and not it",
        CC_BY_SA,
        "Wikipedia contributors. English Wikipedia.",
        "words",
        3,
    ),
    "books": (
        "fiction of Project Gutenberg: a stand-in for the Toronto BookCorpus, and not it",
        "public domain in the USA",
        "Project Gutenberg, https://www.gutenberg.org",
        "bytes",
        1,
    ),
    "web": (
        "pages of public and open projects: a stand-in for the CC100 + RoBERTa corpus, and not it",
        "public domain, MIT, Apache 2.0 and CC BY; see the folder",
        "see the folder",
        "bytes",
        1,
    ),
}


# A split's file: train.txt, the hub's shard train-00000-of-00002.parquet, or with a name before, wiki.train.tokens.
_SPLIT = "|".join(SPELLINGS)
_SPLIT_FILE = re.compile(
    rf"(?P<before>.+\.)?(?P<split>{_SPLIT})(?:-(?P<shard>\d+)-of-(?P<shards>\d+))?"
    rf"(?P<ending>{'|'.join(map(re.escape, FILES))})",
    re.IGNORECASE,
)
# What may have been meant as one: the name of a split between signs, or the ending of a text.
_SIMILAR = re.compile(rf"(?<![^\W_])(?:{_SPLIT})(?![^\W_])|\.(?:parquet|{'|'.join(KINDS)})(?:\.|$)", re.IGNORECASE)
EXPECTED = (
    "files such as train.txt, validation-00000-of-00001.parquet or wiki.test.tokens.xz, by the names "
    f"{', '.join(SPELLINGS)} with .parquet, or with .{', .'.join(KINDS)} plain or{', '.join(COMPRESSIONS)[1:]}"
)


def split_named(name: str) -> str:
    """Train, valid or test, from any spelling of `SPELLINGS`.

    Raises:
        ValueError: if it is none.
    """
    if name.lower() not in SPELLINGS:
        raise UnknownNameError("split", name, SPLITS)
    return SPELLINGS[name.lower()]


def refuse_link_to_nothing(path: Path) -> None:
    """Refuses a link that would pass for a file or folder that is not there.

    Raises:
        CorpusError: which names both ends.
    """
    if path.is_symlink() and not path.exists():
        raise CorpusError(
            f"{path} is a link to {os.readlink(path)}, where nothing is: restore that, or remove the link"
        )


def split_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each split in a folder, shards in order, and the names there that look like a split and are none.

    Raises:
        CorpusError: if a split is there in two forms or a shard of it is not, or one of its names is a link to nothing.
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
        raise CorpusError(
            f"{folder} holds {len(shards)} of {whole} shards of the split {split}: {first:05} is not there"
        )
    return [shards[number] for number in sorted(shards)]


def from_folder(name: str, folder: Path, tokenisation: str | None) -> Source:
    """The splits that a folder holds: {train,valid,test}.{tokens,txt,raw,parquet}, plain or with .xz, .gz or .zst.

    Any of the three may be absent. The validation split may be called validation, val or dev as well, a split may lie
    in the hub's shards, and a name may stand before, as in `wiki.train.tokens`. Files named .tokens are taken as words,
    others as bytes, unless the corpus's name is known.

    Raises:
        CorpusError: if the folder holds no split, one in two forms or in part, or can't be read.
    """
    try:
        found, similar = split_files(folder)
        if not found:
            has = listed(sorted(path.name for path in folder.iterdir()), 5) or "nothing"
            raise CorpusError(f"{folder} holds no split: expected {EXPECTED}; it holds {has}")
        states = {split: tuple(chain.from_iterable(map(_state, paths))) for split, paths in found.items()}
    except OSError as wrong:
        raise CorpusError(f"{folder} can't be read ({told(wrong)})") from wrong
    remark = f"{folder}: {listed(similar, 5)} not read: expected {EXPECTED}" if similar else ""
    names = [path.name for paths in found.values() for path in paths]
    own = "words" if all(re.search(r"\.tokens(\.\w+)?$", name, re.IGNORECASE) for name in names) else "bytes"
    description, licence, citation, seen = f"text of {folder}", "not stated: see the folder", "see the folder", 1
    if name in STAND_INS:
        description, licence, citation, own, seen = STAND_INS[name]
    if name in PUBLISHED:
        description, licence, citation, own = f"{name}, from a folder", CC_BY_SA, MERITY, "words"
    identity = hashlib.sha256(repr((str(folder.resolve()), states)).encode()).hexdigest()[:16]
    return Source(
        name=name,
        description=description,
        licence=licence,
        citation=citation,
        where=str(folder),
        identity=f"folder {identity}",
        tokenisation=tokenisation or own,
        splits={split: _files_lines(paths) for split, paths in found.items()},
        seen=seen,
        published=PUBLISHED.get(name, {}),
        published_size=PUBLISHED_SIZE.get(name, 0),
        remark=remark,
    )


def _state(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return path.name, found.st_size, found.st_mtime_ns


def _files_lines(paths: Sequence[Path]) -> Lines:
    return lambda: chain.from_iterable(map(_file_lines, paths))


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
    except Exception as wrong:  # Of five libraries, one for each kind of file.
        raise CorpusError(f"{path} can't be read ({told(wrong)}); is it whole?") from wrong
    if empty:
        raise CorpusError(f"{path} is empty")


def _text_lines(path: Path) -> Iterator[str]:
    # Unlike other libraries this one notices a file that is cut short; Python has it from 3.14 on.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    openers: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open, ".zst": zstd.open}
    with openers.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield line.removesuffix("\n")


def _parquet_lines(path: Path) -> Iterator[str]:
    import pyarrow.parquet

    if not path.stat().st_size:
        return
    with pyarrow.parquet.ParquetFile(path) as file:
        if "text" not in file.schema_arrow.names:
            raise CorpusError(f"{path} has the columns {listed(file.schema_arrow.names)}; expected one named text")
        for batch in file.iter_batches(columns=["text"]):
            yield from _rows(batch.column("text").to_pylist(), str(path))


def _rows(texts: list[Any], where: str) -> Iterator[str]:
    for text in texts:
        if not isinstance(text, str):
            kind = type(text).__name__
            raise CorpusError(f"{where} has a row of the column text of type {kind}, {quoted(text)}; expected a string")
        # WikiText keeps the end of a line in its rows; an empty line is an empty row.
        yield from text.removesuffix("\n").split("\n")


# The hub --------------------------------------------------------------------------------------------------------------


def _hub_lines(
    name: str, repository: str, configuration: str | None, revision: str, split: str, streaming: bool
) -> Lines:
    def lines() -> Iterator[str]:
        try:
            import datasets
        except ImportError as missing:
            raise CorpusError("reading from the hub needs the datasets package: pip install datasets") from missing
        datasets.disable_progress_bars()
        where = f"{repository} at {revision}"
        try:
            rows = datasets.load_dataset(repository, configuration, revision=revision, split=split, streaming=streaming)
            _check_revision(rows, revision)
            for batch in rows.iter(batch_size=10_000):
                if "text" not in batch:
                    raise CorpusError(f"the columns are {listed(batch)}; expected one named text")
                yield from _rows(batch["text"], where)
        except Exception as wrong:  # Of four libraries: their words are passed on with what to do.
            raise CorpusError(
                f"{name} can't be read from {where} ({told(wrong)}). It needs the network, or a copy "
                f"that datasets made before (HF_HOME), or its splits as files in $ALIBI_DATA/{name}"
            ) from wrong

    return lines


def _check_revision(rows: Any, revision: str) -> None:
    # Out of reach of the hub, datasets takes a copy of any revision, whose files lie in a folder of that name.
    copies = [str(file["filename"]) for file in getattr(rows, "cache_files", [])]
    if re.fullmatch(r"[0-9a-f]{40}", revision) and not all(revision in copy for copy in copies):
        raise CorpusError(f"the copy at hand is of another revision: {copies[0]}")


# Tokens with their ends of lines.
PUBLISHED = {
    "wikitext-103": {"train": 103_227_021, "valid": 217_646, "test": 245_569},
    "wikitext-2": {"train": 2_088_628, "valid": 217_646, "test": 245_569},
}
# Entries by fairseq's rules, with the special ones and the padding.
PUBLISHED_SIZE = {"wikitext-103": 267_744, "wikitext-2": 33_280}
# Entries of the vocabulary and words of each split of what the hub has, to estimate with what was not fetched. Of the
# BookCorpus Zhu et al. (2015) count 984,846,357 words.
SIZES = {name: (PUBLISHED_SIZE[name], words) for name, words in PUBLISHED.items()} | {
    "bookcorpus": (BERT_CASED_SIZE, {"train": 982_876_665, "valid": 984_846, "test": 984_846})
}


def _wikitext(name: str) -> Callable[[str | None, bool], Source]:
    def source(tokenisation: str | None, streaming: bool) -> Source:
        configuration = f"{name}-v1"
        names = {"train": "train", "valid": "validation", "test": "test"}
        return Source(
            name=name,
            description=f"{name}, good and featured articles of Wikipedia, rare words as <unk>",
            licence=CC_BY_SA,
            citation=MERITY,
            where=f"{WIKITEXT}, {configuration}, at {WIKITEXT_REVISION}",
            identity=f"{WIKITEXT} {configuration} {WIKITEXT_REVISION}",
            tokenisation=tokenisation or "words",
            splits={
                split: _hub_lines(name, WIKITEXT, configuration, WIKITEXT_REVISION, theirs, streaming)
                for split, theirs in names.items()
            },
            published=PUBLISHED[name],
            published_size=PUBLISHED_SIZE[name],
        )

    return source


def bookcorpus_split(block: int) -> str:
    """The split of a block of 4096 sentences: one in a thousand each for validation and test, by SHA-256.

    The paper takes the split of Khandelwal et al. (2020), whose counts it does not give.
    """
    number = int(hashlib.sha256(f"bookcorpus {block}".encode()).hexdigest(), 16) % 1000
    return {0: "valid", 1: "test"}.get(number, "train")


def _bookcorpus(tokenisation: str | None, streaming: bool) -> Source:
    every = _hub_lines("bookcorpus", BOOKCORPUS, None, PARQUET, "train", streaming)

    def lines(split: str) -> Lines:
        return lambda: (
            line for number, line in enumerate(every()) if bookcorpus_split(number // SENTENCES_A_BLOCK) == split
        )

    return Source(
        name="bookcorpus",
        description=(
            "the Toronto BookCorpus as the hub has it: a sentence a line, lower-cased, which the paper's cased "
            "vocabulary does not expect; split by hash of blocks of 4096 sentences"
        ),
        licence="not stated by its makers; the books' authors hold the rights",
        citation=ZHU,
        where=f"{BOOKCORPUS} at {PARQUET}",
        identity=f"{BOOKCORPUS} {PARQUET} {SENTENCES_A_BLOCK}",
        tokenisation=tokenisation or "bert",
        splits={split: lines(split) for split in SPLITS},
    )


def bert_tokenizer() -> "WordPieceVocabulary":
    """The vocabulary of the cased BERT, whose 28,996 word pieces are the paper's "29K" (p. 20).

    Raises:
        CorpusError: if it can't be had, or is another one.
    """
    from huggingface_hub import hf_hub_download

    from alibi.corpora.vocabulary import WordPieceVocabulary

    try:
        text = Path(hf_hub_download(BERT_CASED, "tokenizer.json")).read_text(encoding="utf-8")
        vocabulary = WordPieceVocabulary(text)
    except Exception as wrong:
        raise CorpusError(
            f"the vocabulary can't be read from {BERT_CASED} ({told(wrong)}). It needs the network, "
            "or a copy made before (HF_HOME); another vocabulary is asked for by name, with --tokenisation bytes"
        ) from wrong
    if re.search(r'"lowercase"\s*:\s*true|"type"\s*:\s*"Lowercase"', text):
        raise CorpusError(f"the vocabulary of {BERT_CASED} is lower-cased; the paper's is the cased one")
    if vocabulary.size != BERT_CASED_SIZE:
        raise CorpusError(f"the vocabulary of {BERT_CASED} has {vocabulary.size:,} entries, not {BERT_CASED_SIZE:,}")
    return vocabulary


HUB: dict[str, Callable[[str | None, bool], Source]] = {
    "wikitext-103": _wikitext("wikitext-103"),
    "wikitext-2": _wikitext("wikitext-2"),
    "bookcorpus": _bookcorpus,
}

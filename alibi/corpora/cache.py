"""The cache of a corpus: text, token streams, vocabulary and a manifest with the SHA-256 of each, built once.

Text of any size is read, counted and encoded in pieces: memory holds only a piece and the vocabulary.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alibi.corpora.bert import bert_vocabulary
from alibi.corpora.gpt2 import gpt2_vocabulary
from alibi.corpora.source import SPLITS, CorpusError, Source, is_title
from alibi.errors import InputError, quoted, told
from alibi.files import content_sha256, locked, sha256, write_whole
from alibi.progress import bar as progress_bar
from alibi.progress import say

if TYPE_CHECKING:
    from alibi.corpora.vocabulary import Vocabulary


# Count this up when the text, the splits or the encoding of a corpus change, so that older caches are rebuilt.
FORMAT = 3
# Text that is encoded at once; it bounds the memory of encoding.
BYTES_A_BATCH = 1 << 20
LINES_A_REFRESH = 10_000
# A process checks a file once, and again when its size or time has changed. Above this size, `CHECKED` tells later
# processes that a file was checked.
CHECKED_ONCE = 1 << 30
CHECKED = "checked.json"
# SHA-256 of the manifest itself, in it; older manifests lack it.
OWN_DIGEST = "manifest_sha256"
# Fetched vocabularies; the others are learned from the training split.
FETCHED = {"bert": bert_vocabulary, "gpt2": gpt2_vocabulary}


def fault_of(folder: Path, source: Source | None, name: str) -> str | None:
    """The reason why the cache in `folder` can't be used for the corpus of this name, or None if it can."""
    identity = source.identity if source else None
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        # A copy made from a folder that is missing now replaces the hub's text: the manifest records its source.
        other = identity is not None and manifest["identity"] != identity
        copied = manifest["identity"].startswith("folder ") and not (identity or "").startswith("folder ")
        if manifest["format"] != FORMAT or (other and not copied):
            return "of another version or another source"
        if manifest["name"] != name:  # "c-words" read by its own tokenisation, in the folder of "c" read by words.
            return f"of the corpus {quoted(manifest['name'])}"
        if OWN_DIGEST in manifest and manifest[OWN_DIGEST] != content_sha256(manifest, OWN_DIGEST):
            return "manifest.json not as written"
        changed = _changed(folder, manifest["sha256"])
        return f"{', '.join(changed)} not as written" if changed else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"incomplete ({type(error).__name__}: {error})"


def _changed(folder: Path, digests: Mapping[str, str]) -> list[str]:
    """The files that changed since they were written."""
    states = {file: _state(folder / file) for file in digests}
    try:
        checked = json.loads((folder / CHECKED).read_bytes())
    except (OSError, ValueError):
        checked = {}
    known = {file for file, state in states.items() if state[0] > CHECKED_ONCE and checked.get(file) == state}
    changed = [
        file
        for file, digest in digests.items()
        if file not in known and _sha256(folder / file, *states[file]) != digest
    ]
    large = {file: state for file, state in states.items() if state[0] > CHECKED_ONCE and file not in changed}
    if large.keys() - known:
        text = json.dumps(large)
        with suppress(OSError):  # If it can't be written, every load checks again.
            write_whole(folder / CHECKED, lambda path: path.write_text(text, encoding="utf-8"))
    return changed


@cache
def _sha256(path: Path, size: int, time_ns: int) -> str:
    """SHA-256 of a file. A process computes it once, and again when size or time has changed."""
    return sha256(path)


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def build(folder: Path, source: Source, training_sha256: str = "") -> None:
    """Build the cache in `folder`; only one of several processes builds it, and none sees it half written.

    Raises:
        CorpusError: if it can't be written, or would replace a whole cache whose training stream has this digest by
            another text: it may be the only copy of a run's vocabulary.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{folder.name}.lock", waiting=f"{folder} is built by another process: waiting"):
            fault = fault_of(folder, source, source.name)
            if not fault:
                return  # another process built it while this one waited
            if folder.exists():
                say(f"warning: {folder} is rebuilt: {fault}")
            scratch = folder.parent / f".{folder.name}.building"
            if scratch.exists():
                shutil.rmtree(scratch)  # left by a killed build
            scratch.mkdir()
            try:
                _write(scratch, source)
                if training_sha256 and not fault_of(folder, None, source.name):
                    was, now = (
                        json.loads((of / "manifest.json").read_bytes())["sha256"].get("train.bin")
                        for of in (folder, scratch)
                    )
                    if was == training_sha256 != now:
                        raise CorpusError(
                            f"the text in {source.where} is not the one that the run was trained on: restore it, or "
                            f"take it out of ALIBI_DATA. {folder} keeps the run's text and vocabulary"
                        )
                if folder.exists():
                    shutil.rmtree(folder)
                scratch.rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as wrong:  # Only of the cache: faults of the source are CorpusErrors.
        raise CorpusError(
            f"{source.name} can't be kept in {folder} ({told(wrong)}): make room there, or set ALIBI_CACHE to a folder "
            "that can be written to"
        ) from wrong


def _write(folder: Path, source: Source) -> None:
    """Write text, token streams, vocabulary and manifest into an empty folder."""
    reading = source.reading
    if reading.vocabulary_size is not None and source.tokenisation != "words":
        raise InputError(f"{reading}: a vocabulary of {source.tokenisation} has a size of its own; leave it out")
    if source.fetched:
        say(source.fetched)
    # Fetched first, so that a download fails before the long work.
    given = FETCHED[source.tokenisation]() if source.tokenisation in FETCHED else None
    sizes = _write_texts(folder, source)
    vocabulary = given or _learned(folder, source)
    if vocabulary is not None:
        vocabulary.save(folder / vocabulary.FILE)
        for split, size in sizes.items():
            size["unknown"] = _encode(folder, split, vocabulary)
    manifest = {
        "format": FORMAT,
        "name": source.name,
        "description": source.description,
        "licence": source.licence,
        "citation": source.citation,
        "source": source.where,
        "identity": source.identity,
        "tokenisation": source.tokenisation,
        "vocabulary_size": vocabulary.size if vocabulary else 0,
        "end_of_line": vocabulary.end_of_line if vocabulary else 0,
        "dtype": vocabulary.dtype.name if vocabulary else "",
        "splits": sizes,
        "sha256": {path.name: sha256(path) for path in sorted(folder.iterdir())},
    }
    manifest[OWN_DIGEST] = content_sha256(manifest, OWN_DIGEST)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


class _Text:
    """The text of a split while it is written, and its size."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.articles = self.lines = self.words = self.bytes = 0

    def add(self, line: str) -> None:
        encoded = line.encode() + b"\n"
        self.file.write(encoded)
        self.lines, self.bytes = self.lines + 1, self.bytes + len(encoded)
        self.words, self.articles = self.words + len(line.split()), self.articles + is_title(line)

    def sizes(self) -> dict[str, int]:
        return {"articles": self.articles, "lines": self.lines, "words": self.words, "bytes": self.bytes}


def _write_texts(folder: Path, source: Source) -> dict[str, dict[str, int]]:
    """Writes the text of every split, and returns its sizes.

    Raises:
        CorpusError: if a split is empty or its size is not the published one.
    """
    enough = source.reading.train_words
    bar = progress_bar(total=enough, unit=" words", unit_scale=True, desc="reading train", delay=1, leave=False)
    with ExitStack() as open_files:
        open_files.enter_context(bar)
        texts = {split: _Text(folder / f"{split}.txt") for split in SPLITS if split in source.splits}
        for text in texts.values():
            open_files.enter_context(text.file)
        for read in source.passes:
            with closing(read()) as lines:
                for split, line in lines:
                    text = texts[split]
                    text.add(line)
                    if split == "train":
                        if text.lines % LINES_A_REFRESH == 0:
                            bar.update(text.words - bar.n)
                        if enough is not None and text.words >= enough:
                            break
    for split, text in list(texts.items()):
        if not text.bytes and enough is not None and split != "train":
            del texts[split]
            (folder / f"{split}.txt").unlink()
            say(f"warning: {source.name} holds none of the split {split}: read more words for one")
        else:
            _check_size(source, split, text)
    return {split: text.sizes() for split, text in texts.items()}


def _check_size(source: Source, split: str, text: _Text) -> None:
    if not text.bytes:
        raise CorpusError(f"{source.name}: the split {split} is empty, nothing was read for it")
    expected, tokens, asked = source.published.get(split), text.words + text.lines, source.reading.train_words
    if split == "train" and asked is not None:
        if text.words < asked:
            raise CorpusError(
                f"{source.where} has {text.words:,} words of training text, not the {asked:,} that are asked for: "
                + (f"this is not all of {source.reading.corpus}" if expected else "ask for at most so many")
            )
    elif expected and tokens != expected:
        raise CorpusError(
            f"{source.name} {split} from {source.where} has {tokens:,} tokens with its ends of lines; published "
            f"are {expected:,}: this is another text, or not all of it"
        )


def _batches(path: Path, what: str) -> Iterator[list[str]]:
    """The lines of a text, `BYTES_A_BATCH` at a time, with a progress bar named `what`."""
    bar = progress_bar(
        total=path.stat().st_size, unit="B", unit_scale=True, desc=f"{what} {path.stem}", delay=1, leave=False
    )
    with bar, path.open("rb") as file:
        while encoded := file.readlines(BYTES_A_BATCH):
            yield [line.removesuffix(b"\n").decode() for line in encoded]
            bar.update(sum(map(len, encoded)))


def _learned(folder: Path, source: Source) -> "Vocabulary | None":
    from alibi.corpora.vocabulary import BytePairVocabulary, WordVocabulary

    if "train" not in source.splits:
        return None
    lines = chain.from_iterable(_batches(folder / "train.txt", "counting"))
    if source.tokenisation == "bytes":
        return BytePairVocabulary.train(lines)
    found = WordVocabulary.train(lines, source.seen, source.reading.vocabulary_size)
    if source.reading.whole and source.published_size and found.size != source.published_size:
        raise CorpusError(f"{source.name} has {found.size:,} entries; published are {source.published_size:,}")
    return found


def encoded_pieces(path: Path, vocabulary: "Vocabulary") -> Iterator[np.ndarray]:
    """The token ids of a text, piece by piece."""
    return (vocabulary.encode_lines(lines) for lines in _batches(path, "encoding"))


def _encode(folder: Path, split: str, vocabulary: "Vocabulary") -> int:
    """Writes the stream of a split; returns the number of its tokens that stand for unknown words."""
    unknown = 0
    with (folder / f"{split}.bin").open("wb") as file:
        for ids in encoded_pieces(folder / f"{split}.txt", vocabulary):
            unknown += count_unknown(ids, vocabulary)
            file.write(ids.tobytes())  # numpy's tofile is silent if the disk is full
    return unknown


def count_unknown(ids: np.ndarray, vocabulary: "Vocabulary") -> int:
    """The number of these tokens that stand for words outside the vocabulary."""
    return 0 if vocabulary.unknown is None else int((ids == vocabulary.unknown).sum())

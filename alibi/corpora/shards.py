"""The documents of one file of a large corpus, and the pieces of text that a mixture is made of.

A file that fails is opened again and read on from the next document; if it keeps failing, an error names it. No text is
left out silently.
"""

import hashlib
import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO

from alibi.corpora.hub_errors import reason
from alibi.corpora.source import CorpusError, lines_of
from alibi.errors import listed, quoted, told
from alibi.progress import say

# One document in this number is held out: the first 3 GB or so then contain 649 thousand held-out tokens.
HELD_OUT_OF = 1000
TRIES = 4
# A name's ending tells the format, and another one the compression.
FILES = re.compile(r".+\.(parquet|jsonl?|txt)(\.(gz|xz|zst|bz2))?")
ROWS_AT_ONCE, BYTES_AT_ONCE = 32, 1 << 20  # bound the memory of reading


@dataclass(frozen=True)
class Shard:
    """A file, and the pieces of it that are read."""

    part: str
    file: str
    """A path, or an address that fsspec opens, such as hf://datasets/NAME@COMMIT/PATH."""
    rows_a_document: int = 1
    """Rows of a Parquet or JSON file in a document; a plain text has an empty line after each document."""
    held_out: bool = False
    """Whether to read the held-out documents or all others, where pieces are read."""
    piece: int = 0
    """Bytes of a piece; a reader of `documents` needs none."""
    first: int = 0
    """Number of the piece to read out of each `every` pieces."""
    every: int = 1


def held_out(document: list[str]) -> bool:
    """Whether a document is held out: one in a thousand, by SHA-256 of its text, so that equal ones stay together."""
    digest = hashlib.sha256("\n".join(document).encode()).digest()
    return int.from_bytes(digest[:8]) % HELD_OUT_OF == 0


def pieces(shards: list[Shard]) -> Iterator[dict[str, str]]:
    """The text of these files in pieces of about equal size, in the column text: a generator for `datasets`.

    A piece is whole lines; piece k ends with the line that fills k times the size of a piece, so that a long line makes
    the next piece shorter and the mean is right. An empty line ends each document. The last piece of a file has the
    remaining lines.

    Raises:
        CorpusError: if a file can't be read after several tries; the message names it.
    """
    for shard in shards:
        lines: list[str] = []
        number, total, end = 0, 0, shard.piece
        kept = (document for document in documents(shard) if held_out(document) == shard.held_out)
        for line in chain.from_iterable([*document, ""] for document in kept):
            lines.append(line)
            total += len(line.encode()) + 1
            if total >= end:
                if number % shard.every == shard.first:
                    yield {"text": "\n".join(lines)}
                lines, number, end = [], number + 1, (total // shard.piece + 1) * shard.piece
        if lines and number % shard.every == shard.first:
            yield {"text": "\n".join(lines)}


def documents(shard: Shard) -> Iterator[list[str]]:
    """The documents of a file, each a list of lines; after a failure reading goes on behind the last document given.

    Raises:
        CorpusError: if it is absent, empty, of another format, or fails several times without giving a document.
    """
    given = failures = 0
    while True:
        try:
            for document in islice(_documents(shard), given, None):
                given, failures = given + 1, 0
                yield document
            if not given:
                raise CorpusError("it is empty")
            return
        except (CorpusError, FileNotFoundError, UnicodeDecodeError) as wrong:
            # Another format, or absent: opening it again does not help.
            raise CorpusError(f"{shard.part}: {shard.file} can't be read: {reason(wrong)}") from wrong
        except Exception as wrong:  # Several libraries and the network raise it.
            failures += 1
            place = f"{shard.part}: {shard.file} failed after {given:,} documents"
            if failures == TRIES:
                raise CorpusError(f"{place}, {TRIES} times in a row: {reason(wrong)}") from wrong
            say(f"warning: {place}, and is opened again: {reason(wrong)}")
            time.sleep(2**failures)


def _documents(shard: Shard) -> Iterator[list[str]]:
    import fsspec

    kind = FILES.fullmatch(Path(shard.file).name)
    with fsspec.open(shard.file, "rb", compression="infer") as file:
        if kind is None or kind[1] == "txt":
            yield from _separated(io.TextIOWrapper(file, encoding="utf-8-sig", newline="\n"))
            return
        texts = _parquet(file) if kind[1] == "parquet" else _json(file)
        rows = (lines_of(text, shard.file) for text in texts)
        if shard.rows_a_document == 1:
            yield from rows
        else:
            while group := list(islice(rows, shard.rows_a_document)):
                yield list(chain.from_iterable(group))


def _parquet(file: IO[bytes]) -> Iterator[object]:
    from pyarrow.parquet import ParquetFile

    # A column's bytes are read when they are needed: pre-buffering would hold a whole group of rows.
    rows = ParquetFile(file, buffer_size=BYTES_AT_ONCE, pre_buffer=False)
    if "text" not in rows.schema_arrow.names:
        raise CorpusError(f"the columns are {listed(rows.schema_arrow.names)}; expected one named text")
    for batch in rows.iter_batches(ROWS_AT_ONCE, columns=["text"], use_threads=False):
        yield from batch.column(0).to_pylist()


def _json(lines: IO[bytes]) -> Iterator[object]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, TypeError, KeyError) as wrong:
            raise CorpusError(f"line {number} is not a JSON object with the member text: {told(wrong)}") from wrong
        try:
            str(text).encode()
        except UnicodeEncodeError as wrong:
            # JSON can write it, as \ud800 alone, and UTF-8 can't.
            raise CorpusError(
                f"the text of line {number}, {quoted(text)}, holds half of a surrogate pair: correct the line"
            ) from wrong
        yield text


def _separated(lines: IO[str]) -> Iterator[list[str]]:
    """Documents of a text that has empty lines between them, as in CC-100."""
    document: list[str] = []
    for line in lines:
        if line.strip():
            document.append(line.removesuffix("\n").removesuffix("\r"))
        elif document:
            yield document
            document = []
    if document:
        yield document

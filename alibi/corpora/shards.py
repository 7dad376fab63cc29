"""The documents of one file of a large corpus, and the pieces of text that a mixture deals in.

A file that fails is opened again and read on from the next document; one that goes on failing is named in an error.
Nothing of it is left out silently.
"""

import hashlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO

from alibi.corpora.hub_errors import reason
from alibi.corpora.source import CorpusError, lines_of
from alibi.errors import listed
from alibi.progress import say

# Documents out of so many that are held out: their first 649 thousand tokens are met in the first 3 GB or so.
HELD_OUT_OF = 1000
TRIES = 4
ROWS_AT_ONCE, BYTES_AT_ONCE = 32, 1 << 20  # bound the memory of reading


@dataclass(frozen=True)
class Shard:
    """A file, and which pieces of it are read."""

    part: str
    file: str
    """A path, or an address that fsspec opens, such as hf://datasets/NAME@COMMIT/PATH."""
    rows_a_document: int
    held_out: bool
    """Whether the held-out documents are read, or all others."""
    piece: int
    """Bytes of a piece."""
    first: int = 0
    """Of `every` pieces the one with this number is read."""
    every: int = 1


def held_out(document: list[str]) -> bool:
    """Whether a document is held out: one in a thousand, by the SHA-256 of its text, so equal ones are together."""
    digest = hashlib.sha256("\n".join(document).encode()).digest()
    return int.from_bytes(digest[:8]) % HELD_OUT_OF == 0


def pieces(shards: list[Shard]) -> Iterator[dict[str, str]]:
    """The text of these files in pieces of about equal size, in the column text: a generator for `datasets`.

    A piece is whole lines; piece k ends with the line that fills k times its size, so that a long line makes the next
    one shorter and the mean is right. An empty line ends each document. The last piece of a file is what remains.

    Raises:
        CorpusError: if a file can't be read, again and again; it is named.
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
    """The documents of a file, each its lines; a reading that fails is taken up again after the last one given.

    Raises:
        CorpusError: if it fails several times without giving a document, or the file holds no text.
    """
    given = failures = 0
    while True:
        try:
            for document in islice(_documents(shard), given, None):
                given, failures = given + 1, 0
                yield document
            return
        except (CorpusError, FileNotFoundError) as wrong:  # Of another shape, or absent: it stays so.
            raise CorpusError(f"{shard.part}: {shard.file} can't be read: {reason(wrong)}") from wrong
        except Exception as wrong:  # Of several libraries and the network.
            failures += 1
            place = f"{shard.part}: {shard.file} failed after {given:,} documents"
            if failures == TRIES:
                raise CorpusError(f"{place}, {TRIES} times in a row: {reason(wrong)}") from wrong
            say(f"warning: {place}, and is opened again: {reason(wrong)}")
            time.sleep(2**failures)


def _documents(shard: Shard) -> Iterator[list[str]]:
    import fsspec

    with fsspec.open(shard.file, "rb", compression="infer") as file:
        if ".parquet" in shard.file:
            rows: Iterator[list[str]] = (lines_of(text, shard.file) for text in _parquet(file))
        elif ".json" in shard.file:
            rows = (lines_of(json.loads(line).get("text"), shard.file) for line in file)
        else:
            rows = _separated(io.TextIOWrapper(file, encoding="utf-8", newline="\n"))
        if shard.rows_a_document == 1:
            yield from rows
        else:
            while group := list(islice(rows, shard.rows_a_document)):
                yield list(chain.from_iterable(group))


def _parquet(file: IO[bytes]) -> Iterator[object]:
    from pyarrow.parquet import ParquetFile

    # A column's bytes are read as they are needed: pre-buffering would hold a whole group of rows.
    rows = ParquetFile(file, buffer_size=BYTES_AT_ONCE, pre_buffer=False)
    if "text" not in rows.schema_arrow.names:
        raise CorpusError(f"the columns are {listed(rows.schema_arrow.names)}; expected one named text")
    for batch in rows.iter_batches(ROWS_AT_ONCE, columns=["text"], use_threads=False):
        yield from batch.column(0).to_pylist()


def _separated(lines: IO[str]) -> Iterator[list[str]]:
    """Documents of a text in which empty lines stand between them, as in CC-100."""
    document: list[str] = []
    for line in lines:
        if line.strip():
            document.append(line.removesuffix("\n"))
        elif document:
            yield document
            document = []
    if document:
        yield document

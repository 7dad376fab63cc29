"""The text of the paper's models of 1.3B parameters as a mixture of its parts, streamed in the paper's proportion.

The paper reads 461 GB: RoBERTa's corpus, 161 GB, and the English part of CC-100, 300 GB (section 4.3). Nobody offers it
as one corpus. Here each part is a repository of the Hugging Face hub, or a folder of the reader's own,
`$ALIBI_DATA/NAME/PART`, with files .parquet or .json (column text) or .txt (an empty line after each document), plain
or compressed; a folder comes first. Rows of .parquet and .json are documents, in bookcorpus sentences. `datasets`
interleaves the parts; a part that ends before the largest one begins again.

Two gaps of `datasets` 5.2 are filled here: it loses its shuffle buffer when a position is loaded, so
`alibi.corpora.stream` shuffles; and interleaving forgets a split by node (huggingface/datasets issue 7868), so files
are dealt out before it.
"""

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alibi.corpora.gpt2 import gpt2_vocabulary
from alibi.corpora.hub import GOKASLAN, HUB, PARQUET, SENTENCES_A_BLOCK, ZHU
from alibi.corpora.hub_errors import reason
from alibi.corpora.reading import Reading
from alibi.corpora.shards import FILES, HELD_OUT_OF, Shard, pieces
from alibi.corpora.source import CC_BY_SA, CorpusError, Source
from alibi.errors import InputError, listed
from alibi.paths import texts_folder
from alibi.progress import say_once

if TYPE_CHECKING:
    from datasets import IterableDataset

PIECE, HELD_OUT_PIECE = 1 << 16, 1 << 12  # bytes
PIECES_AT_ONCE = 512  # in a stream's buffers: 32 MB of text, about 8 million tokens
VALIDATION_TOKENS = 649_000  # "649K tokens" (section 4.3)
CRAWLED = "the pages' authors hold the rights of their texts; Common Crawl's terms of use"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a mixture: its description, the paper's amount of it, and its place."""

    description: str
    licence: str
    citation: str
    gigabytes: float
    """Size in the paper's text, which sets the part's proportion."""
    repository: str | None = None
    """Repository of the hub; None if none holds the part, so that a folder must."""
    revision: str = ""
    files: str = ""
    """A pattern of the paths in the repository."""
    rows_a_document: int = 1
    remedy: str = ""
    """Advice on filling the folder if no repository holds the part."""


# RoBERTa's makers give 16 GB for the BookCorpus and Wikipedia together: divided as BERT's 0.8 and 2.5 billion words.
BOOKS_AND_WIKIPEDIA, BOOKS_SHARE = 16.0, 0.8 / 3.3
ROBERTA = {
    "bookcorpus": Part(
        description=HUB["bookcorpus"].description.split(":")[0] + ", lower-cased, in documents of 4096 sentences",
        licence=HUB["bookcorpus"].licence,
        citation=ZHU,
        gigabytes=BOOKS_AND_WIKIPEDIA * BOOKS_SHARE,
        repository="bookcorpus/bookcorpus",
        revision=PARQUET,
        files="plain_text/train/*.parquet",
        rows_a_document=SENTENCES_A_BLOCK,
    ),
    "wikipedia": Part(
        description="English Wikipedia of November 2023, where RoBERTa's is of 2018 or 2019",
        licence=CC_BY_SA,
        citation="Wikipedia contributors (2023). English Wikipedia.",
        gigabytes=BOOKS_AND_WIKIPEDIA * (1 - BOOKS_SHARE),
        repository="wikimedia/wikipedia",
        revision="b04c8d1ceb2f5cd4588862100d08de323dccfbaa",
        files="20231101.en/train-*.parquet",
    ),
    "cc-news": Part(
        description="English CC-News of 2016 to 2021, cleaned; a replacement for RoBERTa's own extraction to 2019",
        licence=f"Apache 2.0 for the collection; {CRAWLED}",
        citation="Liu et al. (2019). RoBERTa. After Nagel (2016). CC-News.",
        gigabytes=76.0,
        repository="Geralt-Targaryen/CC-News",
        revision="main",
        files="ccnews-*.parquet",
    ),
    "openwebtext": Part(
        description="OpenWebText, pages that Reddit's users linked to",
        licence=HUB["openwebtext"].licence,
        citation=GOKASLAN,
        gigabytes=38.0,
        repository=HUB["openwebtext"].repository,
        revision=HUB["openwebtext"].revision,
        files="plain_text/train-*.parquet",
    ),
    "stories": Part(
        description="STORIES, a copy by another hand: the makers of CC-Stories have withdrawn theirs",
        licence=f"Creative Commons by its card, which names no version; {CRAWLED}",
        citation="Trinh and Le (2018). A Simple Method for Commonsense Reasoning.",
        gigabytes=31.0,
        repository="lucadiliello/STORIES",
        revision="ec569fadd394efca588c517c06bb78b36a27e59b",
        files="data/train-*.parquet",
    ),
}
CC100_GIGABYTES = 300.0
MIXTURES: dict[str, dict[str, Part]] = {
    "cc100+roberta": ROBERTA
    | {
        "cc100": Part(
            description="the English part of CC-100",
            licence=CRAWLED,
            citation="Conneau et al. (2020). Unsupervised Cross-lingual Representation Learning at Scale. ACL.",
            gigabytes=CC100_GIGABYTES,
            remedy=(
                "its makers offer one file of 82 GB, which is cut once, after each 500,000 documents: "
                "curl https://data.statmt.org/cc-100/en.txt.xz | xz -dc | "
                """awk -v RS= -v ORS='\\n\\n' 'NR % 500000 == 1 {close(to); to = sprintf("xz > %05d.txt.xz", n++)} """
                "{print | to}'. c4+roberta has C4 in its place, which the hub holds"
            ),
        )
    },
    "c4+roberta": ROBERTA
    | {
        "c4": Part(
            description="the English part of C4, 305 GB of Common Crawl: a replacement for CC-100's, and not it",
            licence=f"ODC-BY 1.0 for the collection; {CRAWLED}",
            citation="Raffel et al. (2020). Exploring the Limits of Transfer Learning. JMLR.",
            gigabytes=CC100_GIGABYTES,
            repository="allenai/c4",
            revision="1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
            files="en/c4-train.*.json.gz",
        )
    },
}


def part_files(mixture: str) -> dict[str, list[str]]:
    """The files of each part, sorted: from the reader's own folder, else from the hub at a commit.

    Raises:
        CorpusError: if a part has no files, or the hub does not give them.
    """
    return {name: _files(mixture, name, part) for name, part in MIXTURES[mixture].items()}


def files_digest(files: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 of the names and sizes of a mixture's files, by part, and of the settings of reading them.

    A file on the hub has its address with the commit in place of its size. No file is opened.
    """
    named = {part: [_identity(file) for file in paths] for part, paths in files.items()}
    return hashlib.sha256(json.dumps([named, PIECE, PIECES_AT_ONCE, HELD_OUT_OF]).encode()).hexdigest()


def _identity(file: str) -> str:
    """A file's address on the hub with its commit, or its name and size, which stay when its folder is moved."""
    return file if "://" in file else f"{Path(file).name} {Path(file).stat().st_size}"


def _files(mixture: str, name: str, part: Part) -> list[str]:
    data = texts_folder()
    folder = (data or Path("ALIBI_DATA")) / mixture / name
    if data is not None and folder.is_dir():
        visible = sorted(path for path in folder.iterdir() if path.name[0] != ".")
        readable = {path: path.is_file() and FILES.fullmatch(path.name) for path in visible}
        found = [str(path) for path in visible if readable[path]]
        others = listed([path.name for path in visible if not readable[path]], 3)
        if not found:
            raise CorpusError(
                f"{folder} holds no file of {mixture}'s part {name}: expected .parquet, .json or .txt, plain or "
                f"compressed, and not in another folder; it holds {others or 'nothing'}"
            )
        if others:
            say_once(f"warning: {folder}: {others} not read: only .parquet, .json and .txt are, plain or compressed")
        return found
    if part.repository is None:
        raise CorpusError(f"{mixture} has no {name} on the hub: {folder} must hold it; {part.remedy}")
    try:
        from huggingface_hub import HfApi, HfFileSystem

        commit = HfApi().dataset_info(part.repository, revision=part.revision).sha
        found = sorted(map(str, HfFileSystem().glob(f"datasets/{part.repository}@{commit}/{part.files}")))
    except Exception as wrong:
        raise CorpusError(
            f"{mixture}: the part {name} can't be found in {part.repository} at {part.revision}: {reason(wrong)}. "
            f"A folder {folder} comes before the hub"
        ) from wrong
    if not found:
        raise CorpusError(f"{mixture}: {part.repository} at {commit} has no file {part.files} of the part {name}")
    return [f"hf://{path}" for path in found]


def interleaved(
    mixture: str,
    files: Mapping[str, list[str]],
    seed: int,
    lane: int = 0,
    lanes: int = 1,
    held_out: bool = False,
) -> "IterableDataset":
    """Pieces of the parts' text in the paper's proportion, from all files or from those of one lane.

    Every piece of every file is in exactly one lane. If a part has fewer files than lanes, several lanes share a file:
    each reads the whole file, and they take its pieces in turn.

    Args:
        mixture: a name of `MIXTURES`.
        files: files of its parts, from `part_files`.
        seed: seed of the order of files, and of the choice of the next part.
        lane: number of the lane, from 0.
        lanes: number of lanes.
        held_out: take only the held-out documents, or only the others.
    """
    from datasets import Features, IterableDataset, Value, interleave_datasets

    parts, rows = MIXTURES[mixture], []
    for number, (name, part) in enumerate(parts.items()):
        order = np.random.default_rng([seed, number]).permutation(len(files[name]))
        shuffled = [files[name][place] for place in order]
        sharing = -(-(lanes - lane % len(shuffled)) // len(shuffled))  # lanes that share each of this lane's files
        size = HELD_OUT_PIECE if held_out else PIECE
        shards = [
            Shard(name, file, part.rows_a_document, held_out, size, lane // len(shuffled), sharing)
            for file in shuffled[lane % len(shuffled) :: lanes]
        ]
        given = {"shards": shards}
        rows.append(IterableDataset.from_generator(pieces, Features({"text": Value("string")}), gen_kwargs=given))
    total = sum(part.gigabytes for part in parts.values())
    # With one seed all lanes would draw the same parts at the same time.
    own = int(np.random.SeedSequence([seed, lane]).generate_state(1)[0])
    shares = [part.gigabytes / total for part in parts.values()]
    return interleave_datasets(rows, shares, seed=own, stopping_strategy="all_exhausted")


def from_mixture(reading: Reading, tokenisation: str | None) -> Source:
    """The validation text of a mixture, 649 thousand tokens of its held-out documents; nothing is read yet.

    The training text is streamed, by `alibi.corpora.stream.TokenStream`, and never kept.

    Raises:
        InputError: for a request of the beginning of the training text, or of another tokenisation.
    """
    name = reading.corpus
    if not reading.whole:
        raise InputError(f"{reading}: the training text of {name} is streamed; leave out its number of words")
    if tokenisation not in (None, "gpt2"):
        raise InputError(f"{name} is read in GPT-2's byte pairs, as no training text is here; not {tokenisation!r}")
    parts = MIXTURES[name].items()
    # A folder of a part makes another text: its files are looked up, and the hub's are not.
    data = texts_folder()
    own = [part for part, _ in parts if data is not None and (data / name / part).is_dir()]
    where = [
        f"{part} from {data}" if part in own else f"{part} from {told.repository} at {told.revision}"
        for part, told in parts
    ]
    return Source(
        reading=reading,
        description=(
            "held-out documents, one in a thousand by hash, of the mixture that stands for the text of the paper's "
            f"1.3B models: {'; '.join(f'{part} ({told.gigabytes:.3g} GB), {told.description}' for part, told in parts)}"
            ". GPT-2's byte pairs are our assumption: the paper names none"
        ),
        licence="; ".join(f"{part}: {told.licence}" for part, told in parts),
        citation=" ".join(told.citation for _, told in parts),
        where="; ".join(where),
        identity=f"{'; '.join(where)} {PIECE} {HELD_OUT_PIECE} {HELD_OUT_OF} {VALIDATION_TOKENS}",
        tokenisation="gpt2",
        splits=("valid",),
        passes=[lambda: _validation(name)],
        fetched=f"{name}: looking for {VALIDATION_TOKENS:,} held-out tokens, in about 3 GB of its text",
    )


def _validation(mixture: str) -> Generator[tuple[str, str], None, None]:
    """Lines of the held-out documents, until they hold as many tokens as the paper's validation text."""
    vocabulary, tokens = gpt2_vocabulary(), 0
    rows: Any = iter(interleaved(mixture, part_files(mixture), seed=0, held_out=True))
    with closing(rows):
        for row in rows:
            for line in row["text"].split("\n"):
                tokens += len(vocabulary.encode_lines([line]))
                if tokens > VALIDATION_TOKENS:
                    return
                yield "valid", line
    raise CorpusError(
        f"{mixture} has {tokens:,} held-out tokens, not {VALIDATION_TOKENS:,}: this is not all of its text"
    )

"""The corpora of the Hugging Face hub, in one table; `datasets` reads them and runs none of their scripts."""

import hashlib
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from alibi.corpora.bert import BERT_CASED_SIZE
from alibi.corpora.gpt2 import GPT2_SIZE
from alibi.corpora.hub_errors import UNKNOWN, reason
from alibi.corpora.reading import Reading
from alibi.corpora.shards import Shard, documents
from alibi.corpora.source import CC_BY_SA, SPLITS, CorpusError, Pass, Source, lines_of
from alibi.errors import listed

SENTENCES_A_BLOCK = 4096
HELD_OUT_DOCUMENTS = 500
# Entries of a vocabulary of byte pairs, the same for every corpus.
BYTE_PAIRS = 4096
# The hub's branch of parquet files for data sets that a script once read.
PARQUET = "refs/convert/parquet"
WIKITEXT_REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
MERITY = "Merity, Xiong, Bradbury and Socher (2017). Pointer Sentinel Mixture Models. ICLR."
ZHU = "Zhu, Kiros, Zemel, Salakhutdinov, Urtasun, Torralba and Fidler (2015). Aligning Books and Movies. ICCV."
GOKASLAN = "Gokaslan and Cohen (2019). OpenWebText Corpus. http://Skylion007.github.io/OpenWebTextCorpus"
OWN_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class HubCorpus:
    """A corpus of the hub: its description, place, splits and sizes."""

    description: str
    licence: str
    citation: str
    repository: str
    configuration: str | None
    """One of the repository's sets of parquet files; None if it has only one."""
    revision: str
    """A commit, or the branch of files that only the hub made."""
    splits: Mapping[str, str]
    """Our splits and the hub's names for them; only train if `deal` cuts the splits."""
    deal: Callable[[int], str] | None = None
    """Our split of a row, by the row's number, if the hub has no held-out text."""
    deal_version: str = ""
    """Changes when `deal`'s rule does."""
    tokenisation: str
    vocabulary_size: int
    sizes: Mapping[str, int]
    """White-space tokens of our splits, with the ends of lines."""
    exact: bool
    """Whether `sizes` were published for this very text, so that other sizes are refused; else they are estimates."""
    megabytes: int
    """Size of the training split's files."""

    @property
    def where(self) -> str:
        """Repository, configuration and revision."""
        files = f"{self.repository}, {self.configuration}," if self.configuration else self.repository
        return f"{files} at {self.revision}"

    def entries(self, tokenisation: str | None) -> int:
        """Size of the vocabulary of a tokenisation; None takes the corpus's own."""
        fixed = {"bytes": BYTE_PAIRS, "bert": BERT_CASED_SIZE, "gpt2": GPT2_SIZE}
        return fixed.get(tokenisation or self.tokenisation, self.vocabulary_size)


def bookcorpus_split(sentence: int) -> str:
    """The split of a sentence: by SHA-256, one block of 4096 in a thousand goes to validation, one to test.

    The paper takes the split of Khandelwal et al. (2020), and does not give its counts.
    """
    block = sentence // SENTENCES_A_BLOCK
    number = int(hashlib.sha256(f"bookcorpus {block}".encode()).hexdigest(), 16) % 1000
    return {0: "valid", 1: "test"}.get(number, "train")


def openwebtext_split(document: int) -> str:
    """The split of a document: the first 500 are validation text, the next 500 test text.

    So a reader of only the beginning has the same held-out text as a reader of the whole.
    """
    return ("valid", "test", "train")[min(document // HELD_OUT_DOCUMENTS, 2)]


def _wikitext(name: str, vocabulary_size: int, train_tokens: int, megabytes: int) -> HubCorpus:
    return HubCorpus(
        description=f"{name}, good and featured articles of Wikipedia, rare words as <unk>",
        licence=CC_BY_SA,
        citation=MERITY,
        repository="Salesforce/wikitext",
        configuration=f"{name}-v1",
        revision=WIKITEXT_REVISION,
        splits=OWN_SPLITS,
        tokenisation="words",
        # By fairseq's rules, with the special entries and the padding.
        vocabulary_size=vocabulary_size,
        sizes={"train": train_tokens, "valid": 217_646, "test": 245_569},
        exact=True,
        megabytes=megabytes,
    )


HUB: dict[str, HubCorpus] = {
    "wikitext-103": _wikitext("wikitext-103", 267_744, 103_227_021, 312),
    "wikitext-2": _wikitext("wikitext-2", 33_280, 2_088_628, 6),
    "bookcorpus": HubCorpus(
        description=(
            "the Toronto BookCorpus as the hub has it: a sentence a line, lower-cased, which the paper's cased "
            "vocabulary does not expect; split by hash of blocks of 4096 sentences"
        ),
        licence="not stated by its makers; the books' authors hold the rights",
        citation=ZHU,
        repository="bookcorpus/bookcorpus",
        configuration=None,
        revision=PARQUET,
        splits={"train": "train"},
        deal=bookcorpus_split,
        deal_version=str(SENTENCES_A_BLOCK),
        tokenisation="bert",
        vocabulary_size=BERT_CASED_SIZE,
        # Zhu et al. (2015) count 984,846,357 words.
        sizes={"train": 982_876_665, "valid": 984_846, "test": 984_846},
        exact=False,
        megabytes=3100,
    ),
    "openwebtext": HubCorpus(
        description=(
            "OpenWebText, pages that Reddit's users linked to: a part of RoBERTa's corpus, not the whole of CC100 + "
            "RoBERTa; the first 500 documents are validation text, the next 500 test text"
        ),
        licence="CC0 1.0 for the collection; the pages' authors hold the rights of their texts",
        citation=GOKASLAN,
        repository="Skylion007/openwebtext",
        configuration="plain_text",
        revision="79d93d786212f7344586290adb811d4ae6a1762c",
        splits={"train": "train"},
        deal=openwebtext_split,
        deal_version=str(HELD_OUT_DOCUMENTS),
        tokenisation="bytes",
        vocabulary_size=BYTE_PAIRS,
        # From 8,013,769 documents with 39.8 GB of text, at 6.1 bytes a word.
        sizes={"train": 6_500_000_000, "valid": 405_000, "test": 405_000},
        exact=False,
        megabytes=24_200,
    ),
}


def from_hub(reading: Reading, tokenisation: str | None, streaming: bool) -> Source:
    """A corpus of `HUB`; nothing is read yet. If a beginning is asked for, only that is fetched."""
    corpus = HUB[reading.corpus]
    streaming = streaming or reading.train_words is not None
    ways = _ways_out(reading, tokenisation, "tokens" if corpus.tokenisation == "words" else "txt")
    share = min(1.0, (reading.train_words or corpus.sizes["train"]) / corpus.sizes["train"])
    read = "all of it" if reading.train_words is None else f"the first {reading.train_words:,} training words"
    return Source(
        reading=reading,
        description=corpus.description,
        licence=corpus.licence,
        citation=corpus.citation,
        where=corpus.where,
        identity=" ".join(
            filter(None, (corpus.repository, corpus.configuration, corpus.revision, corpus.deal_version))
        ),
        tokenisation=tokenisation or corpus.tokenisation,
        splits=tuple(corpus.splits) if corpus.deal is None else SPLITS,
        passes=[_pass(reading, corpus, split, streaming, ways) for split in corpus.splits],
        published=corpus.sizes if corpus.exact else {},
        published_size=corpus.vocabulary_size if corpus.exact else 0,
        fetched=f"{reading.corpus}: fetching {read} from {corpus.where}, about {share * corpus.megabytes:,.0f} MB",
    )


def _ways_out(reading: Reading, tokenisation: str | None, ending: str) -> str:
    """The ways out for a user who can't reach the hub."""
    chosen = f" --tokenisation {tokenisation}" if tokenisation else ""
    copy = " (a copy in HF_HOME serves too)" if reading.train_words is None else ""
    files = ", ".join(f"{split}.{ending}" for split in SPLITS)
    return (
        f'  with a network, once: python -m alibi data "{reading}"{chosen}{copy}\n'
        f"  from a folder: export ALIBI_DATA=FOLDER, where FOLDER/{reading.corpus} holds {files}\n"
        "  another text, always there: the same command with --corpus wikipedia-sample (of a chapter "
        "-p corpus=wikipedia-sample, of data its name)"
    )


def _pass(reading: Reading, corpus: HubCorpus, split: str, streaming: bool, ways: str) -> Pass:
    def pairs() -> Generator[tuple[str, str], None, None]:
        try:
            found = (_streamed if streaming else _copied)(corpus, corpus.splits[split])
            with closing(found):
                for number, document in enumerate(found):
                    ours = corpus.deal(number) if corpus.deal else split
                    for line in document:
                        yield ours, line
        except Exception as wrong:  # Four libraries raise it: their words are passed on, with remedies.
            raise CorpusError(
                f"{reading} can't be read from {corpus.where}: {reason(wrong)}. Three ways out:\n{ways}"
            ) from wrong

    return pairs


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as missing:
        raise CorpusError("the datasets package is missing: pip install datasets") from missing
    datasets.disable_progress_bars()
    return datasets


def _copied(corpus: HubCorpus, split: str) -> Generator[list[str], None, None]:
    """The rows of a split, each as its lines, after a copy of all its files was made."""
    rows = _datasets().load_dataset(corpus.repository, corpus.configuration, revision=corpus.revision, split=split)
    _check_revision(rows, corpus.revision)
    for batch in rows.iter(batch_size=1000):
        if "text" not in batch:
            raise CorpusError(f"the columns are {listed(batch)}; expected one named text")
        for text in batch["text"]:
            yield lines_of(text, corpus.where)


def _streamed(corpus: HubCorpus, split: str) -> Generator[list[str], None, None]:
    """The rows of a split, each as its lines; of a file little more is fetched than is asked for.

    The stream of `datasets` would not do: pyarrow's scanner reads a file to its end in the background. Closing it
    before returns, but the process may then hang or abort as it exits, as in apache/arrow issue 45214.
    """
    builder = _datasets().load_dataset_builder(corpus.repository, corpus.configuration, revision=corpus.revision)
    files = builder.config.data_files
    if split not in files:
        raise CorpusError(f"{UNKNOWN} ({split}; it has {listed(files)})")
    for file in files[split]:
        yield from documents(Shard(corpus.repository, file))


def _check_revision(rows: Any, revision: str) -> None:
    # Without the hub, datasets takes a copy of any revision; its files lie in a folder named by the revision.
    copies = [str(file["filename"]) for file in getattr(rows, "cache_files", [])]
    if re.fullmatch(r"[0-9a-f]{40}", revision) and not all(revision in copy for copy in copies):
        raise CorpusError(f"the copy at hand is of another revision: {copies[0]}")

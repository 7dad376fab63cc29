"""Names to token streams: a corpus is read, cut into splits and encoded once, and memory-mapped from then on.

`load` is the one entrance. What it builds lies in `corpora/NAME` of the cache folder: each split as `.bin` (raw token
ids) and `.txt` (the text they encode), `tokenizer.json`, and `manifest.json` with the SHA-256 of each, which every load
checks. To open what is built, only numpy is needed.
"""

import bz2
import hashlib
import importlib.util
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alibi.paths import cache_folder

if TYPE_CHECKING:
    from alibi.vocabulary import BytePairVocabulary

logger = logging.getLogger(__name__)

# Counted up whenever the text, the splits or the encoding of a corpus change, so that older caches are rebuilt.
FORMAT = 1


class CorpusError(RuntimeError):
    """A corpus can't be read as it should be; the message says what to install."""


@dataclass(frozen=True, eq=False)
class Split:
    """One token stream, and the size of the text it encodes.

    Attributes:
        name: train, valid or test.
        tokens: ids [tokens], read-only; every line of the text ends with the end-of-line token.
        words: whitespace-separated words of the text, which perplexity per word is normalised by.
        bytes: UTF-8 bytes of the text with the newline of each line, which bits per byte are normalised by.
        articles: number of articles; none is in two splits.
        sha256: of the bytes of the stream.
    """

    name: str
    tokens: np.ndarray
    words: int
    bytes: int
    articles: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Corpus:
    """The token streams of a corpus, and where they are from.

    Attributes:
        name: what `load` knows it by.
        description: what text it is.
        licence: of the text.
        citation: of the text.
        source: the file it is read from.
        vocabulary_size: number of entries; token ids are [0, vocabulary_size).
        end_of_line: id of the end-of-line token.
        splits: train, valid and test.
        folder: where it is cached.
    """

    name: str
    description: str
    licence: str
    citation: str
    source: str
    vocabulary_size: int
    end_of_line: int
    splits: dict[str, Split]
    folder: Path

    @cached_property
    def vocabulary(self) -> "BytePairVocabulary":
        """The vocabulary that encoded it; reading it needs the `tokenizers` package."""
        from alibi.vocabulary import BytePairVocabulary

        return BytePairVocabulary.load(self.folder / "tokenizer.json")

    def encoded_by(self, other: "Corpus", split: str) -> Split:
        """A split of this corpus in the vocabulary of another, so that a model of that one can be evaluated on it.

        Raises:
            ValueError: if there is no such split; those there are are listed.
        """
        if split not in self.splits:
            raise ValueError(f"corpus {self.name} has no split {split!r}; there are {', '.join(self.splits)}")
        if other.name == self.name:
            return self.splits[split]
        tokens = other.vocabulary.encode_lines(self.text(split).removesuffix("\n").split("\n"))
        return replace(self.splits[split], tokens=tokens, sha256=hashlib.sha256(tokens.tobytes()).hexdigest())

    def text(self, split: str) -> str:
        """The text of a split, a heading or a paragraph a line.

        Raises:
            ValueError: if there is no such split; the message lists them.
        """
        if split not in self.splits:
            raise ValueError(f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        return (self.folder / f"{split}.txt").read_bytes().decode()


@dataclass(frozen=True)
class Recipe:
    """How a corpus is made: what is to say about it, the SHA-256 of the file it is read from, and how that is read.

    `read` returns the articles of each split, an article being its lines.
    """

    description: str
    licence: str
    citation: str
    source: str
    source_sha256: str
    read: Callable[[], dict[str, list[list[str]]]]


def load(name: str) -> Corpus:
    """The corpus of this name, from the cache, where it is built first if it is missing or not what was written.

    Raises:
        ValueError: if no corpus has this name; the message lists those that there are.
        CorpusError: if it has to be built and what it is read from is missing or altered.
    """
    if name not in RECIPES:
        raise ValueError(f"no corpus is named {name!r}; there are {', '.join(RECIPES)}")
    recipe, folder = RECIPES[name], cache_folder() / "corpora" / name
    if _fault(folder, recipe):
        _build(folder, recipe)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    splits = {}
    for split, sizes in manifest["splits"].items():
        tokens = np.memmap(folder / f"{split}.bin", manifest["dtype"], mode="r")
        splits[split] = Split(split, tokens, sha256=manifest["sha256"][f"{split}.bin"], **sizes)
    return Corpus(
        name=name,
        description=recipe.description,
        licence=recipe.licence,
        citation=recipe.citation,
        source=recipe.source,
        vocabulary_size=manifest["vocabulary_size"],
        end_of_line=manifest["end_of_line"],
        splits=splits,
        folder=folder,
    )


def describe(corpus: Corpus) -> str:
    """What `python -m alibi data NAME` prints: the sizes of the splits, provenance, cache, and lines of validation."""
    rows = [(s.name, s.articles, s.words, len(s.tokens), s.bytes) for s in corpus.splits.values()]
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    table = [f"{'split':<8}{'articles':>9}{'words':>12}{'tokens':>12}{'tokens/word':>12}{'bytes':>12}"]
    for split, articles, words, tokens, size in rows:
        table.append(f"{split:<8}{articles:>9,}{words:>12,}{tokens:>12,}{tokens / words:>12.3f}{size:>12,}")
    cached = sum(path.stat().st_size for path in corpus.folder.iterdir())
    facts = {
        "vocabulary": f"{corpus.vocabulary_size:,} entries, learned from the training split",
        "licence": corpus.licence,
        "citation": corpus.citation,
        "source": corpus.source,
        "cache": f"{corpus.folder} ({cached / 1e6:.1f} MB)",
    }
    sample = corpus.vocabulary.decode(corpus.splits["valid"].tokens[:1000]).split("\n")[:5]
    return "\n".join(
        [f"{corpus.name}: {corpus.description}", "", *table, ""]
        + [f"{fact:<12}{value}" for fact, value in facts.items()]
        + ["", "The validation split begins, decoded:"]
        + [f"  {line.strip() if len(line) <= 100 else line[:97] + '...'}" for line in sample]
    )


# The cache ------------------------------------------------------------------------------------------------------------


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fault(folder: Path, recipe: Recipe) -> str | None:
    """Why the cache in `folder` can't be used, or None if it can."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if (manifest["format"], manifest["source_sha256"]) != (FORMAT, recipe.source_sha256):
            return "of another version or another source"
        changed = [file for file, digest in manifest["sha256"].items() if _sha256(folder / file) != digest]
        return f"{', '.join(changed)} not as written" if changed else None
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"incomplete ({type(error).__name__}: {error})"


def _build(folder: Path, recipe: Recipe) -> None:
    """Build the cache in `folder`, once however many processes ask, and never seen half written."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        fault = _fault(folder, recipe)
        if not fault:
            return  # another process built it while this one waited
        if folder.exists():
            logger.warning("%s is rebuilt: %s", folder, fault)
        scratch = folder.parent / f".{folder.name}.building"
        if scratch.exists():
            shutil.rmtree(scratch)  # what a killed build left
        scratch.mkdir()
        _write(scratch, recipe)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)


def _write(folder: Path, recipe: Recipe) -> None:
    """Write text, token streams, vocabulary and manifest into an empty folder."""
    from alibi.vocabulary import BytePairVocabulary

    splits = recipe.read()
    lines = {split: [line for article in articles for line in article] for split, articles in splits.items()}
    vocabulary = BytePairVocabulary.train(lines["train"])
    vocabulary.save(folder / "tokenizer.json")
    sizes = {}
    for split, articles in splits.items():
        text = "".join(f"{line}\n" for line in lines[split])
        (folder / f"{split}.txt").write_bytes(text.encode())
        vocabulary.encode_lines(lines[split]).tofile(folder / f"{split}.bin")
        sizes[split] = {"articles": len(articles), "words": len(text.split()), "bytes": len(text.encode())}
    manifest = {
        "format": FORMAT,
        "source": recipe.source,
        "source_sha256": recipe.source_sha256,
        "vocabulary_size": vocabulary.size,
        "end_of_line": vocabulary.end_of_line,
        "dtype": vocabulary.dtype.name,
        "splits": sizes,
        "sha256": {path.name: _sha256(path) for path in sorted(folder.iterdir())},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


# wikipedia-sample -----------------------------------------------------------------------------------------------------

DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
DUMP_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"
HELD_OUT = 0.05  # of the words, in validation and in test each

# Templates whose first argument is part of the sentence; all others are removed with what they hold.
SPOKEN = r"[Nn]owrap|[Nn]ihongo|[Aa]ngbr|[Vv]r|[Kk]eypress|[Vv]al|[Qq]uote|[Qq]uotation|IPA|[Aa]s of|RailGauge|US\$"
FORMULA = "\N{REPLACEMENT CHARACTER}"

# Wikitext that gensim's filter would leave in pieces, replaced beforehand and in this order.
BEFORE_FILTER: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"<!--.*?-->", ""),  # first, as comments hide the starts of lines
    (r"<ref\b[^<>]*/>|<ref\b.*?</ref>", ""),  # gensim ends a footnote at the first /> in it
    (r"<math\b.*?</math>", FORMULA),  # marks its paragraph, which doesn't read without it
    (r"<(gallery|source|timeline)\b.*?</\1>", ""),  # no prose inside
    # Images go with their captions, which hold links: gensim cuts a caption at the first.
    (r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\]|\[[^\[\]]*\])*\]\] *", ""),
    (r"(?m)^\[\[[a-z-]{2,10}:[^\[\]|]*\]\]$", ""),  # the article in other languages
    # Links, before the bars in them are taken for those between the arguments of a template.
    (r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1"),
    (r"\{\{[Cc]onvert *\|([^|{}]+)(?:\|([-–x]|to|and|or)\|([^|{}]+))?\|([^|{}]+)[^{}]*\}\}", r"\1 \2 \3 \4"),
    (r"\{\{(?:[Ll]ang|[Tt]ransl)(?:-\w+)*\|(?:[^{}|]*\|)*([^{}|=]+)\}\}", r"\1"),  # foreign words
    (r"\{\{[Cc]hem\|([^{}]*)\}\}", lambda match: match[1].replace("|", "")),
    (r"\{\{('s?)\}\}", r"\1"),  # an apostrophe after italics
    (rf"\{{\{{(?:{SPOKEN})\|(?:\w+=)?([^{{}}|]+)[^{{}}]*\}}\}}", r"\1"),
]
TABLE = r"(?m)^[ :*]*\{\|(?:(?!^[ :*]*\{\|).)*?^\s*\|\}"  # the innermost, as tables hold tables
AFTER_FILTER = [
    (r"(?m)^(?:[*#:;|!{}]|  ).*$", "\n"),  # list items, remnants of tables, listings of programs
    (r"(?m)^(==+.*?==+)\s*$", r"\n\n\1\n\n"),  # a heading stands alone
    (r"(?<=\S)[^\S\n]*\n[^\S\n]*(?=\S)", " "),  # a paragraph runs over lines, until an empty one
    (r"[^\S\n]+", " "),
    (r"''+(?='s\b)|''+", ""),  # bold and italic; the ''Times'''s keeps its apostrophe
    (r"\([ ,;:]*(?:or|and)?[ ,;:]*\)", ""),  # parentheses that held templates alone
    (r"\([ ,;:]+", "("),
    (r"[ ,;:]+\)", ")"),
    (r"(?<![.,;]) +([,;.])(?=\s)(?! \.)", r"\1"),  # space before punctuation, where a template stood
    (r"  +", " "),
]
DROPPED_SECTION = re.compile(
    r"references|see also|external links|further reading|(foot)?notes( and references)?|bibliography|sources"
    r"|citations|works cited",
    re.IGNORECASE,
)
PARAGRAPH = re.compile(rf"[^{FORMULA}]*[.!?:…][\"'”’)]*")  # what is left of captions and cells ends otherwise


def _clean(title: str, wikitext: str) -> list[str]:
    """The prose of a page: paragraphs, and the title and headings above them; no line if the page has no prose."""
    from gensim.corpora.wikicorpus import filter_wiki

    for pattern, replacement in BEFORE_FILTER:
        wikitext = re.sub(pattern, replacement, wikitext, flags=re.DOTALL)
    while (without := re.sub(TABLE, "", wikitext, flags=re.DOTALL)) != wikitext:
        wikitext = without
    text = filter_wiki(wikitext)
    for pattern, replacement in AFTER_FILTER:
        text = re.sub(pattern, replacement, text)

    lines: list[str] = []
    waiting = {1: title}  # headings by depth, until a paragraph follows them
    dropped = 0  # depth of the section being dropped, 0 for none
    for line in map(str.strip, text.split("\n")):
        if heading := re.fullmatch(r"(==+) ?(.+?) ?==+", line):
            depth, name = len(heading[1]), heading[2]
            if not dropped or depth <= dropped:
                dropped = depth if DROPPED_SECTION.fullmatch(name) else 0
            waiting = {above: kept for above, kept in waiting.items() if above < depth} | {depth: name}
        elif not dropped and PARAGRAPH.fullmatch(line):
            # As in WikiText: " = Title = ", " = = Section = = ".
            lines += [f" {'= ' * depth}{name}{' =' * depth} " for depth, name in waiting.items()]
            lines.append(line)
            waiting = {}
    return lines


def _find_dump() -> Path:
    """The file in the gensim package; finding it imports nothing."""
    advice = 'install it with: pip install "gensim>=4.3.3"'
    package = importlib.util.find_spec("gensim")
    if package is None or package.origin is None:
        raise CorpusError(f"wikipedia-sample is read from the gensim package, which is missing: {advice}")
    path = Path(package.origin).parent / "test" / "test_data" / DUMP
    if not path.is_file():
        raise CorpusError(f"wikipedia-sample is read from {path}, which this gensim lacks: {advice}")
    if (found := _sha256(path)) != DUMP_SHA256:
        raise CorpusError(f"{path} has SHA-256 {found}, not {DUMP_SHA256}, as it should: {advice}")
    return path


def _read_wikipedia_sample() -> dict[str, list[list[str]]]:
    dump = _find_dump()
    from gensim.corpora.wikicorpus import extract_pages

    with bz2.open(dump) as file:
        pages = extract_pages(file, filter_namespaces=("0",))  # articles, not pages about Wikipedia
        articles = {title: _clean(title, wikitext) for title, wikitext, _ in pages}
    # Nothing is left of a redirect, which reads as a list item, nor of a page that is all lists.
    return deal({title: lines for title, lines in articles.items() if lines})


def deal(articles: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    """Articles, title to lines, dealt whole to the splits.

    In the order of the SHA-256 of their titles: to validation until it holds 5 % of the words, then to test until it
    does, and the rest to training.
    """
    words = {title: sum(len(line.split()) for line in lines) for title, lines in articles.items()}
    held = {"train": 0, "valid": 0, "test": 0}
    splits: dict[str, list[list[str]]] = {split: [] for split in held}
    for title in sorted(articles, key=lambda title: hashlib.sha256(title.encode()).hexdigest()):
        unfilled = (split for split in ("valid", "test") if held[split] < HELD_OUT * sum(words.values()))
        split = next(unfilled, "train")
        held[split] += words[title]
        splits[split].append(articles[title])
    return splits


RECIPES = {
    "wikipedia-sample": Recipe(
        description=(
            "articles of English Wikipedia of May 2016, the first of its dump: all early in the alphabet, "
            "nearly every title beginning with A. Prose, without lists, tables and formulae."
        ),
        licence="CC BY-SA 3.0; the authors are in the history of each article, https://en.wikipedia.org/wiki/TITLE",
        citation="Wikipedia contributors (2016). English Wikipedia. As carried by gensim (Řehůřek and Sojka, 2010).",
        source=f"gensim/test/test_data/{DUMP}",
        source_sha256=DUMP_SHA256,
        read=_read_wikipedia_sample,
    ),
}

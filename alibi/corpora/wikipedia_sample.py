"""The corpus that needs no network: cleaned Wikipedia articles that come with the gensim package."""

import bz2
import hashlib
import importlib.util
import re
from collections.abc import Callable, Generator
from pathlib import Path

from alibi.corpora.reading import Reading
from alibi.corpora.source import CC_BY_SA, SPLITS, CorpusError, Source
from alibi.files import sha256

DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
DUMP_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"
HELD_OUT = 0.05  # share of the words in validation, and the same in test

# Templates whose first argument is part of the sentence; all others are removed with their contents.
SPOKEN = r"[Nn]owrap|[Nn]ihongo|[Aa]ngbr|[Vv]r|[Kk]eypress|[Vv]al|[Qq]uote|[Qq]uotation|IPA|[Aa]s of|RailGauge|US\$"
FORMULA = "\N{REPLACEMENT CHARACTER}"

# Wikitext that gensim's filter would leave in pieces; it is replaced first, in this order.
BEFORE_FILTER: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"<!--.*?-->", ""),  # first, as comments hide the starts of lines
    (r"<ref\b[^<>]*/>|<ref\b.*?</ref>", ""),  # gensim ends a footnote at the first /> in it
    (r"<math\b.*?</math>", FORMULA),  # marks its paragraph, which makes no sense without it
    (r"<(gallery|source|timeline)\b.*?</\1>", ""),  # no prose inside
    # Images are removed with their captions, which hold links: gensim cuts a caption at its first link.
    (r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\]|\[[^\[\]]*\])*\]\] *", ""),
    (r"(?m)^\[\[[a-z-]{2,10}:[^\[\]|]*\]\]$", ""),  # the article in other languages
    # Links, before their bars are taken for bars between the arguments of a template.
    (r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1"),
    (r"\{\{[Cc]onvert *\|([^|{}]+)(?:\|([-–x]|to|and|or)\|([^|{}]+))?\|([^|{}]+)[^{}]*\}\}", r"\1 \2 \3 \4"),
    (r"\{\{(?:[Ll]ang|[Tt]ransl)(?:-\w+)*\|(?:[^{}|]*\|)*([^{}|=]+)\}\}", r"\1"),  # foreign words
    (r"\{\{[Cc]hem\|([^{}]*)\}\}", lambda match: match[1].replace("|", "")),
    (r"\{\{('s?)\}\}", r"\1"),  # an apostrophe after italics
    (rf"\{{\{{(?:{SPOKEN})\|(?:\w+=)?([^{{}}|]+)[^{{}}]*\}}\}}", r"\1"),
]
TABLE = r"(?m)^[ :*]*\{\|(?:(?!^[ :*]*\{\|).)*?^\s*\|\}"  # the innermost table first, since tables hold tables
AFTER_FILTER = [
    (r"(?m)^(?:[*#:;|!{}]|  ).*$", "\n"),  # list items, remnants of tables, listings of programs
    (r"(?m)^(==+.*?==+)\s*$", r"\n\n\1\n\n"),  # a heading stands alone
    (r"(?<=\S)[^\S\n]*\n[^\S\n]*(?=\S)", " "),  # a paragraph goes on until an empty line
    (r"[^\S\n]+", " "),
    (r"''+(?='s\b)|''+", ""),  # bold and italic; the ''Times'''s keeps its apostrophe
    (r"\([ ,;:]*(?:or|and)?[ ,;:]*\)", ""),  # parentheses that held only templates
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
PARAGRAPH = re.compile(rf"[^{FORMULA}]*[.!?:…][\"'”’)]*")  # remains of captions and cells end otherwise


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
    if (found := sha256(path)) != DUMP_SHA256:
        raise CorpusError(f"{path} has SHA-256 {found}, not {DUMP_SHA256}, as it should: {advice}")
    return path


def read() -> dict[str, list[list[str]]]:
    """The articles of each split, each a list of lines.

    Raises:
        CorpusError: if gensim is missing, or comes with another file.
    """
    dump = _find_dump()
    from gensim.corpora.wikicorpus import extract_pages

    with bz2.open(dump) as file:
        pages = extract_pages(file, filter_namespaces=("0",))  # articles, not pages about Wikipedia
        articles = {title: _clean(title, wikitext) for title, wikitext, _ in pages}
    # Nothing is left of a redirect, which looks like a list item, or of a page that is only lists.
    return deal({title: lines for title, lines in articles.items() if lines})


def deal(articles: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    """Articles, title to lines, dealt whole to the splits.

    In the order of the SHA-256 of their titles: to validation until it has 5 % of the words, then to test until it has
    5 %, and the rest to training.
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


def source(reading: Reading, tokenisation: str | None) -> Source:
    """The sample's lines; nothing is read before they are asked for."""
    return Source(
        reading=reading,
        description=(
            "articles of English Wikipedia of May 2016, the first of its dump: all early in the alphabet, "
            "nearly every title beginning with A. Prose, without lists, tables and formulae."
        ),
        licence=CC_BY_SA,
        citation="Wikipedia contributors (2016). English Wikipedia. As carried by gensim (Řehůřek and Sojka, 2010).",
        where=f"gensim/test/test_data/{DUMP}",
        identity=DUMP_SHA256,
        tokenisation=tokenisation or "bytes",
        splits=SPLITS,
        passes=[_lines],
    )


def _lines() -> Generator[tuple[str, str], None, None]:
    # Training text comes last, so that a reader of only its beginning has the held-out text too.
    dealt = read()
    return ((split, line) for split in reversed(SPLITS) for article in dealt[split] for line in article)

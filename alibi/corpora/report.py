"""The report on a corpus: sizes of its splits, its source, and its first lines."""

from itertools import islice

from alibi.corpora.cache import FETCHED
from alibi.corpora.corpus import Corpus


def describe(corpus: Corpus) -> str:
    """The output of `python -m alibi data NAME`: sizes of the splits, provenance, cache folder, and lines of text."""
    splits = corpus.splits.values()
    rows = [(s.name, s.articles, s.lines, s.words, len(s.tokens), s.bytes, s.unknown) for s in splits]
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    titles = ("articles", "lines", "words", "words+lines", "tokens", "tokens/word", "bytes", "unknown")
    table = [f"{'split':<8}" + "".join(f"{title:>13}" for title in titles)]
    for split, articles, lines, words, tokens, size, unknown in rows:
        ids, missing = (f"{tokens:,}", f"{unknown / tokens:.2%}") if tokens else ("-", "-")
        share = f"{tokens / words:.3f}" if tokens and words else "-"
        cells = (f"{articles:,}", f"{lines:,}", f"{words:,}", f"{words + lines:,}", ids, share, f"{size:,}", missing)
        table.append(f"{split:<8}" + "".join(f"{cell:>13}" for cell in cells))
    cached = sum(path.stat().st_size for path in corpus.folder.iterdir())
    kinds = {
        "words": "words by fairseq's rules",
        "bytes": "byte pairs",
        "bert": "BERT's cased word pieces",
        "gpt2": "GPT-2's byte pairs",
    }
    learned = "" if corpus.tokenisation in FETCHED else ", learned from the training split"
    vocabulary = f"{corpus.vocabulary_size:,} entries, {kinds[corpus.tokenisation]}{learned}"
    facts = {
        "vocabulary": vocabulary if corpus.vocabulary_size else "none of its own, as it has no training split",
        "licence": corpus.licence,
        "citation": corpus.citation,
        "source": corpus.source,
        "cache": f"{corpus.folder} ({cached / 1e6:.1f} MB)",
    }
    last = list(corpus.splits)[min(1, len(corpus.splits) - 1)]
    with (corpus.folder / f"{last}.txt").open(encoding="utf-8", newline="\n") as file:
        sample = [line.strip() for line in islice((line for line in file if line.strip()), 5)]
    return "\n".join(
        [f"{corpus.name}: {corpus.description}", "", *table, ""]
        + [f"{fact:<12}{value}" for fact, value in facts.items()]
        + ["", f"The split {last} begins:"]
        + [f"  {line if len(line) <= 100 else line[:97] + '...'}" for line in sample]
    )

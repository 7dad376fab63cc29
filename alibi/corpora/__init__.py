"""Names to token streams: where text comes from, the sample that needs no network, vocabularies, the cached corpus."""

from alibi.corpora.corpus import Corpus, Split, load

__all__ = ["Corpus", "Split", "load"]

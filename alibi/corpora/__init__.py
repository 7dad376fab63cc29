"""Corpora from names to token streams: sources of text, a sample that needs no network, vocabularies, the cache."""

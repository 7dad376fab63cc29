"""Names to token streams: where text comes from, the sample that needs no network, vocabularies, the cached corpus."""

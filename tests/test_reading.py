"""How much of a corpus is read: its name, what a scale reads, and what is built of it."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from folder_texts import write

from alibi.corpora import cache, corpus
from alibi.corpora.hub import HUB, openwebtext_split
from alibi.corpora.reading import Reading
from alibi.corpora.source import CorpusError
from alibi.corpora.vocabulary import WordVocabulary
from alibi.scale import SCALES


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        ("wikitext-103", Reading("wikitext-103")),
        ("wikitext-103, first 20M words", Reading("wikitext-103", 20_000_000)),
        ("wikitext-103, first 1500000 words", Reading("wikitext-103", 1_500_000)),
        ("my, first text", Reading("my, first text")),
        ("toy, first 7 words, vocabulary 16", Reading("toy", 7, 16)),
        ("toy, vocabulary 16", Reading("toy", None, 16)),
    ],
)
def test_a_name_says_what_is_read(name, reading):
    assert Reading.named(name) == reading
    assert str(reading) == name


def test_what_leaves_nothing_is_refused():
    for name in ("toy, first 0 words", "toy, vocabulary 4", "toy, vocabulary 0"):
        with pytest.raises(ValueError, match=f"{name}: choose at least one word"):
            Reading.named(name)


def test_numbers_with_too_many_digits_are_refused():
    for name in (f"toy, first {'9' * 5000}M words", f"toy, vocabulary {'9' * 5000}"):
        with pytest.raises(ValueError, match=r"corpus 'toy, .*': choose numbers of at most 20 digits"):
            Reading.named(name)


def test_a_scale_reads_the_beginning_of_the_hubs_corpora_alone():
    small = replace(SCALES["quick"], train_words=3_000_000, vocabulary_size=1000)
    for name, tokenisation, read in [
        ("wikitext-103", None, "wikitext-103, first 3M words, vocabulary 1000"),
        ("wikitext-103", "bytes", "wikitext-103, first 3M words"),
        ("wikitext-2", None, "wikitext-2, vocabulary 1000"),
        ("bookcorpus", None, "bookcorpus, first 3M words"),
        ("openwebtext, first 5 words", None, "openwebtext, first 5 words"),
        ("mine, first 2000000 words", None, "mine, first 2M words"),
        ("wikipedia-sample", None, "wikipedia-sample"),
        ("wikipedia", None, "wikipedia, vocabulary 1000"),
        ("books", None, "books"),
        ("books", "words", "books, vocabulary 1000"),
    ]:
        assert corpus.name_at(small, name, tokenisation) == read
    for scale in ("quick", "gpu", "paper"):
        assert {corpus.name_at(SCALES[scale], name) for name in HUB} == set(HUB), "these scales read all"


def test_the_beginning_of_the_training_text_is_read_in_whole_lines(data):
    write(data / "toy", train="a b\nc a\n\nd e f a\ng\n", valid="a z\n" * 9, test="c\n")
    whole, part = corpus.load("toy"), corpus.load("toy, first 5 words")
    assert part.name == "toy, first 5 words" and part.folder.name == part.name
    assert part.text("train") == "a b\nc a\n\nd e f a\n", "until there are five words, to the end of the line"
    assert corpus.load("toy, first 4 words").text("train") == "a b\nc a\n"
    # Records would name an amount that nobody read.
    with pytest.raises(CorpusError, match="not the 99 that are asked for: ask for at most so many"):
        corpus.load("toy, first 99 words")
    for split in ("valid", "test"):
        assert part.text(split) == whole.text(split)
    # Its vocabulary is that of what was read: g is none.
    assert part.vocabulary.symbols[4:10] == ["a", "b", "c", "d", "e", "f"]
    assert part.split("train").sha256 != whole.split("train").sha256
    assert {"toy", "toy, first 5 words"} <= set(corpus.names("train", "valid"))


def test_the_most_frequent_words_are_kept(data):
    write(data / "toy", train="c c c b b b a a d <unk>\n", valid="a b c d\n")
    toy = corpus.load("toy, vocabulary 8")
    assert toy.vocabulary.symbols == ["<s>", "<pad>", "</s>", "<unk>", "b", "c", "a", "d"]
    toy = corpus.load("toy, first 9 words, vocabulary 6")
    assert toy.vocabulary.symbols[4:] == ["b", "c", "madeupword0000", "madeupword0001"]
    assert toy.split("valid").tokens.tolist() == [3, 4, 5, 3, 2]
    assert (toy.splits["train"].unknown, toy.splits["valid"].unknown) == (4, 2)
    with pytest.raises(ValueError, match="a vocabulary of bytes has a size of its own"):
        corpus.load("toy, vocabulary 8", "bytes")


def test_a_vocabulary_is_cut_by_count_then_code_point():
    lines = ["z z y y x x w", "w v"]
    every = WordVocabulary.train(lines)
    for size in range(5, 10):
        cut = WordVocabulary.train(lines, size=size)
        assert cut.symbols[4:size] == every.symbols[4:size]
        assert all(symbol.startswith("madeupword") for symbol in cut.symbols[size:])


def test_the_beginning_of_a_published_text_is_checked_too(data, monkeypatch):
    sizes = {"train": 9, "valid": 2, "test": 2}
    monkeypatch.setitem(HUB, "wikitext-103", replace(HUB["wikitext-103"], sizes=sizes, vocabulary_size=8))
    write(data / "wikitext-103", train="a b c\nd\n", valid="a\n", test="b\n")
    assert corpus.load("wikitext-103, first 3 words").text("train") == "a b c\n"
    with pytest.raises(CorpusError, match="has 4 words of training text, not the 5 that are asked for"):
        corpus.load("wikitext-103, first 5 words")
    write(data / "wikitext-103", valid="a a a\n")
    with pytest.raises(CorpusError, match=r"valid from .* has 4 tokens .* published are 2"):
        corpus.load("wikitext-103, first 3 words")


def test_an_estimate_takes_the_beginning(data):
    sizes = corpus.outline("wikitext-103, first 20M words, vocabulary 32768")
    assert (sizes.split("train").words, sizes.vocabulary_size) == (20_000_000, 32_768)
    assert sizes.splits["valid"].words == 217_646
    assert corpus.outline("bookcorpus", "bytes").vocabulary_size == 4096
    assert not (data.parent / "cache").exists(), "nothing was fetched"


def test_the_documents_that_are_held_out_come_first():
    splits = [openwebtext_split(document) for document in range(1500)]
    assert splits == ["valid"] * 500 + ["test"] * 500 + ["train"] * 500


def test_text_of_any_size_is_encoded_in_bounded_memory(data, monkeypatch):
    monkeypatch.setattr(cache, "BYTES_A_BATCH", 1 << 14)
    line = " ".join(f"word{number}" for number in range(40)) + "\n"
    write(data / "long", train=line * 6_000, valid=line)
    write(data / "other", train="word1 word2\n" * 9, valid="word1\n")
    other, size = corpus.load("other"), 6_000 * len(line)
    tracemalloc.start()
    try:
        long = corpus.load("long")
        built = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        split = long.encoded_by(other, "train")
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert long.splits["train"].bytes == size and len(long.split("train").tokens) == 6_000 * 41
    assert np.array_equal(split.tokens[:41], [3, 4, 5, *[3] * 37, 2])
    # Batches of 16 kB, and what it takes to split them into words.
    assert built < size / 3
    # What is kept is the stream, of one byte a token, twice while its pieces are put together.
    assert read < 2 * len(split.tokens) + size / 3 < size


def test_a_copied_beginning_needs_no_source(data, monkeypatch):
    write(data / "toy", train="a b\nc d\n", valid="a\n")
    built = corpus.load("toy, first 2 words")
    monkeypatch.delenv("ALIBI_DATA")
    again = corpus.load("toy, first 2 words")
    assert again.text("train") == "a b\n" and again.split("train").sha256 == built.split("train").sha256
    assert json.loads((again.folder / "manifest.json").read_text())["name"] == again.name
    with pytest.raises(ValueError, match="unknown corpus 'toy, first 3 words'"):
        corpus.load("toy, first 3 words")

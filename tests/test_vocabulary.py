import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alibi.corpora.vocabulary import END_OF_LINE, LONGEST_WORD, BytePairVocabulary, WordVocabulary

LINES = [" = Ships = ", "The ship sails, the ship's crew sleeps.", "", "Ça n'est pas un navire: 船 ⛵."]


@pytest.fixture(scope="module")
def vocabulary():
    return BytePairVocabulary.train(LINES * 3, size=300)


def test_every_line_is_followed_by_the_end_of_line(vocabulary):
    stream = vocabulary.encode_lines(LINES)
    assert stream.dtype == np.uint16 == vocabulary.dtype
    assert (stream == vocabulary.end_of_line).sum() == len(LINES)
    assert stream[-1] == vocabulary.end_of_line
    assert stream.max() < vocabulary.size == 300


def test_no_lines_are_an_empty_stream(vocabulary):
    assert vocabulary.encode_lines([]).shape == (0,)
    assert vocabulary.decode([]) == ""


def test_many_lines_are_encoded_as_one_by_one(vocabulary):
    lines = [f"ship {number}" for number in range(25_000)]
    one_by_one = np.concatenate([vocabulary.encode_lines([line]) for line in lines[:100] + lines[-100:]])
    stream = vocabulary.encode_lines(lines)
    assert (stream == vocabulary.end_of_line).sum() == len(lines)
    assert vocabulary.decode(stream) == "\n".join(lines) + "\n"
    assert np.array_equal(vocabulary.encode_lines(lines[:100] + lines[-100:]), one_by_one)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))))
def test_any_lines_come_back(vocabulary, lines):
    assert vocabulary.decode(vocabulary.encode_lines(lines)) == "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("line", [END_OF_LINE, f"a{END_OF_LINE}b ", "  two  spaces ", "\r\t\x00\x85\u2028\ufeff", "🙂"])
def test_awkward_lines_come_back(vocabulary, line):
    stream = vocabulary.encode_lines([line])
    assert vocabulary.decode(stream) == f"{line}\n"
    assert (stream == vocabulary.end_of_line).sum() == 1


def test_a_line_with_a_newline_is_refused(vocabulary):
    with pytest.raises(ValueError, match=r"'two\\nlines' holds a newline"):
        vocabulary.encode_lines(["one", "two\nlines"])


@pytest.mark.parametrize("kind", [WordVocabulary, BytePairVocabulary])
def test_a_long_line_is_quoted_in_part(kind):
    encode = kind.train(LINES).encode_lines
    with pytest.raises(ValueError, match=r"'ship ship .* holds a newline") as refused:
        encode(["ship " * 100_000 + "\n"])
    assert len(str(refused.value)) < 200


def test_a_prompt_comes_back(vocabulary):
    for prompt in ("", "The ship", " = Ships = \nThe ship", "The ship\n"):
        ids = vocabulary.encode(prompt)
        assert vocabulary.decode(ids) == prompt
        assert ids.count(vocabulary.end_of_line) == prompt.count("\n")


def test_a_prompt_that_is_not_utf_8_is_refused(vocabulary):
    # So Python reads the byte 255 of a command line.
    with pytest.raises(ValueError, match=r"the text 'ship \\udcff' is not UTF-8"):
        vocabulary.encode("ship \udcff")


def test_ids_beyond_the_vocabulary_are_refused(vocabulary):
    for ids in ([5, 300], [-1]):
        with pytest.raises(ValueError, match=r"must lie in \[0, 300\)"):
            vocabulary.decode(ids)


def test_half_a_character_decodes_without_failing(vocabulary):
    ids = vocabulary.encode("é")
    assert len(ids) == 2
    assert vocabulary.decode(ids[:1]) == "\ufffd"


def test_saved_and_loaded_it_is_the_same(vocabulary, tmp_path):
    vocabulary.save(tmp_path / "tokenizer.json")
    loaded = BytePairVocabulary.load(tmp_path / "tokenizer.json")
    assert (loaded.size, loaded.end_of_line) == (vocabulary.size, vocabulary.end_of_line)
    lines = [*LINES, END_OF_LINE]
    assert np.array_equal(loaded.encode_lines(lines), vocabulary.encode_lines(lines))
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_a_tokenizer_without_end_of_line_is_refused(vocabulary, tmp_path):
    vocabulary.save(tmp_path / "tokenizer.json")
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = []
    del tokenizer["model"]["vocab"][END_OF_LINE]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="no entry '</s>'"):
        BytePairVocabulary.load(tmp_path / "tokenizer.json")


def test_the_smallest_vocabulary_holds_all_bytes():
    vocabulary = BytePairVocabulary.train(["aa"], size=257)
    assert vocabulary.size == 257
    assert vocabulary.decode(vocabulary.encode_lines(LINES)) == "".join(f"{line}\n" for line in LINES)
    with pytest.raises(ValueError, match="size=256: 257 entries"):
        BytePairVocabulary.train(LINES, size=256)


def test_a_line_without_spaces_is_learned_in_pieces():
    letters = "".join(random.Random(0).choices("ACGT", k=25_000))
    pieces = [letters[start : start + 10_000] for start in range(0, 25_000, 10_000)]
    whole = BytePairVocabulary.train([letters], 300)
    assert (
        whole.encode_lines([letters]).tolist() == BytePairVocabulary.train(pieces, 300).encode_lines([letters]).tolist()
    )
    assert whole.decode(whole.encode_lines([letters])) == letters + "\n"
    spaced = " ".join(pieces)
    assert LONGEST_WORD.split(spaced) == [spaced]


PETS = ["the cat sat", "", " the  dog\tsat ", "the <unk> sat <unk>", "zebra Apple apple"]


def test_words_by_fairseqs_rules():
    words = WordVocabulary.train(PETS)
    assert words.symbols[:7] == ["<s>", "<pad>", "</s>", "<unk>", "sat", "the", "Apple"]
    assert words.symbols[7:] == ["apple", "cat", "dog", "zebra", *(f"madeupword000{n}" for n in range(5))]
    assert words.size == 16 and words.counts == [3, 3, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert words.end_of_line == 2 and words.unknown == 3 and words.dtype == np.uint8
    assert words.encode_lines(["the cow sat", "", "<unk>"]).tolist() == [5, 3, 4, 2, 2, 3, 2]
    assert words.encode("the cat\nsat") == [5, 8, 2, 4]
    assert words.decode([5, 3, 4, 2, 2, 8]) == "the <unk> sat\n\ncat"


def test_rare_words_are_left_out_where_asked():
    words = WordVocabulary.train(PETS, seen=2)
    assert words.symbols[4:] == ["sat", "the", "madeupword0000", "madeupword0001"]
    assert words.encode("the cat") == [5, 3]


def test_words_of_the_text_are_not_made_up_again():
    words = WordVocabulary.train(["madeupword0001 a a"])
    assert words.symbols[4:] == ["a", "madeupword0001", "madeupword0000", "madeupword0002"]
    assert WordVocabulary.train(["madeupword0000 a a"], seen=2).symbols[5:] == [f"madeupword000{n}" for n in (1, 2, 3)]


def test_special_entries_in_the_text_are_those_entries():
    words = WordVocabulary.train(["a </s> <pad> a"])
    assert words.symbols[4:] == ["a", "madeupword0000", "madeupword0001", "madeupword0002"]
    assert words.encode("a </s> <pad>") == [4, 2, 1]


def test_words_come_back_as_saved(tmp_path):
    words = WordVocabulary.train([*PETS, "naïve 東京 a=b"])
    words.save(tmp_path / "dict.txt")
    again = WordVocabulary.load(tmp_path / "dict.txt")
    assert (again.symbols, again.counts) == (words.symbols, words.counts)
    assert (tmp_path / "dict.txt").read_text(encoding="utf-8").startswith("sat 3\nthe 3\nApple 1\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cat 1\ndog\n", "line 2: 'dog' is not a word"),
        ("cat x\n", "line 1: 'cat x'"),
        ("a 1\na 1\n", "'a' is there twice"),
    ],
)
def test_a_broken_dictionary_is_refused(tmp_path, text, told):
    (tmp_path / "dict.txt").write_text(text)
    with pytest.raises(ValueError, match=told):
        WordVocabulary.load(tmp_path / "dict.txt")


def test_words_refuse_newlines_and_ids_outside():
    words = WordVocabulary.train(PETS)
    with pytest.raises(ValueError, match="holds a newline"):
        words.encode_lines(["a\nb"])
    with pytest.raises(ValueError, match=r"must lie in \[0, 16\)"):
        words.decode([3, 16])

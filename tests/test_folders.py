"""Corpora in folders: which file is which split, what its lines are, what is refused."""

import gzip
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from conftest import CALLERS_DATA, warnings
from folder_texts import COMPRESS, write
from forked import HANGS_AFTER
from hub_process import ROOT, ROWS, SPECIAL, TEXT, ask, environment, unbuilt
from loopback_hub import parquet

from alibi.corpora import cache as corpus_cache
from alibi.corpora import corpus
from alibi.corpora.hub import HUB
from alibi.corpora.mixture import MIXTURES
from alibi.corpora.report import describe
from alibi.corpora.source import CorpusError

LINES = ["", " = Ships = ", "", " The ship — ça va ? ", "\ta  b", "x\u2028y\x85z\x0b \x0c\x1c", "船 ⛵", "", ""]


ENDINGS = [f".{kind}{end}" for kind in ("tokens", "txt", "parquet") for end in COMPRESS if kind != "parquet" or not end]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file_gives_the_same_text(data, ending):
    text = "".join(f"{line}\n" for line in LINES)
    write(data / "toy", ending, train=text, valid="a\n\n", test="b\n")
    toy = corpus.load("toy")
    assert {split: toy.text(split) for split in toy.splits} == {"train": text, "valid": "a\n\n", "test": "b\n"}
    assert list(toy.splits) == ["train", "valid", "test"]
    assert toy.tokenisation == ("words" if "tokens" in ending else "bytes")
    assert toy.source == str(data / "toy")
    assert (toy.split("train").tokens == toy.end_of_line).sum() == len(LINES)


@pytest.mark.parametrize("compression", [".xz", ".gz", ".zst"])
def test_compressed_parquet_is_no_split(data, compression):
    write(data / "toy", f".parquet{compression}", train="a\n")
    with pytest.raises(CorpusError, match="holds no split"):
        corpus.load("toy")


def test_splits_may_be_of_different_kinds(data):
    write(data / "toy", ".txt.gz", train="a b\n")
    write(data / "toy", ".tokens", valid="b\n")
    toy = corpus.load("toy")
    assert (toy.text("train"), toy.text("valid"), toy.tokenisation) == ("a b\n", "b\n", "bytes")


# What becomes of ends of lines: any of the three is one, as Python opens text. A last line needs no end; a byte-order
# mark in front goes. The rows of a parquet file are the lines of what is written here.
@pytest.mark.parametrize(
    ("ending", "content", "text"),
    [
        (".txt", "a\r\n\r\nb\r\n", "a\n\nb\n"),
        (".txt", "a\rb\r", "a\nb\n"),
        (".txt", "\ufeffa\n", "a\n"),
        (".tokens.gz", "\ufeff = One = \n", " = One = \n"),
        (".txt.xz", "a\r\nb\rc\n", "a\nb\nc\n"),
        (".txt", "a\nb", "a\nb\n"),
        (".txt", "\n", "\n"),
        (".parquet", "a\r\n\r\nb\r\n", "a\n\nb\n"),
        (".parquet", "a\rb\n", "a\nb\n"),
        (".parquet", "\ufeffa\nb\n", "a\nb\n"),
    ],
)
def test_ends_of_lines(data, ending, content, text):
    write(data / "toy", ending, train=content)
    assert corpus.load("toy").text("train") == text


def test_rows_with_newlines_are_several_lines(data):
    write(data / "toy", valid="b\n")
    pq.write_table(
        pa.table({"id": [1, 2, 3], "text": pa.array(["a\n\nb\n\n", "", "\n"], pa.large_string())}),
        data / "toy" / "train.parquet",
    )
    assert corpus.load("toy").text("train") == "a\n\nb\n\n\n\n"


def test_a_missing_split_is_an_error_when_used(data):
    write(data / "toy", train="a b\n")
    toy = corpus.load("toy")
    assert toy.split("train").tokens.tolist() == [4, 5, 2]
    for use in (toy.split, toy.text, lambda split: toy.encoded_by(toy, split)):
        with pytest.raises(ValueError, match=r"no split 'valid'; it has train$"):
            use("valid")
    with pytest.raises(ValueError, match=str(data / "toy")):
        toy.split("valid")


def test_without_a_training_split_another_vocabulary_is_needed(data):
    write(data / "toy", train="a b b c\n", valid="b\n")
    write(data / "held", valid="a new b\n\n new\n", test="c\n")
    toy, held = corpus.load("toy"), corpus.load("held")
    assert held.vocabulary_size == 0
    assert list(held.splits) == ["valid", "test"]
    for use in (lambda: held.vocabulary, lambda: held.split("valid"), lambda: held.encoded_by(held, "valid")):
        with pytest.raises(CorpusError, match=r"held .*valid, test.*--eval-corpus"):
            use()
    with pytest.raises(CorpusError, match="--eval-corpus"):
        toy.encoded_by(held, "valid")
    split = held.encoded_by(toy, "valid")
    assert split.tokens.tolist() == [5, 3, 4, 2, 2, 3, 2]  # b first, as it is there twice
    assert (split.unknown, split.words, split.bytes) == (2, 4, 14)
    assert split.sha256 == hashlib.sha256(split.tokens.tobytes()).hexdigest()
    assert toy.vocabulary.decode(split.tokens) == "a <unk> b\n\n<unk>\n"
    assert "none of its own" in describe(held)


def test_a_split_in_two_files_is_refused(data):
    write(data / "toy", train="a\n")
    write(data / "toy", ".txt.xz", train="b\n")
    with pytest.raises(CorpusError, match=r"toy holds the split train twice: train\.tokens, train\.txt\.xz"):
        corpus.load("toy")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("validation.txt", "valid"),
        ("val.txt", "valid"),
        ("dev.txt", "valid"),
        ("Valid.TXT", "valid"),
        ("wiki.valid.txt", "valid"),
        ("wiki.test.raw", "test"),
        ("test-0-of-1.txt", "test"),
    ],
)
def test_a_split_goes_by_any_of_its_names(data, capsys, name, split):
    write(data / "toy", ".txt", train="a\n")
    (data / "toy" / name).write_text("b\n")
    toy = corpus.load("toy")
    assert {split: toy.text(split) for split in toy.splits} == {"train": "a\n", split: "b\n"}
    assert warnings(capsys) == []


def test_the_files_of_the_hub_and_of_the_archive_give_the_same_text(data):
    write(data / "archive", ".tokens", **{f"wiki.{split}": text for split, text in TEXT.items()})
    folder = data / "hub"
    folder.mkdir()
    for split, rows in ROWS.items():
        parts = (rows[:2], rows[2:]) if split == "train" else (rows,)
        for number, part in enumerate(parts):
            (folder / f"{split}-{number:05}-of-{len(parts):05}.parquet").write_bytes(parquet(part))
    archive, hub = corpus.load("archive"), corpus.load("hub")
    assert {split: archive.text(split) for split in archive.splits} == TEXT
    assert {split: hub.text(split) for split in hub.splits} == TEXT
    assert archive.tokenisation == "words"
    path = folder / "train-00001-of-00002.parquet"
    path.write_bytes(parquet(["another end \n"]))
    assert corpus.load("hub").text("train").endswith(" = Ships = \nanother end \n"), "each shard counts"
    path.unlink()
    with pytest.raises(CorpusError, match="hub holds 1 of 2 shards of the split train: 00001 is missing"):
        corpus.load("hub")


@pytest.mark.parametrize(
    "names",
    [
        ("dev.txt", "validation.txt"),
        ("Valid.txt", "valid.txt"),
        ("valid.txt", "wiki.valid.txt"),
        ("valid-0-of-2.txt", "valid-00-of-2.txt"),
        ("valid-0-of-2.txt", "valid-2-of-2.txt"),
        ("valid-0-of-2.txt", "valid-1-of-3.txt"),
        ("valid-0-of-1.txt", "validation-0-of-1.txt"),
    ],
)
def test_a_split_under_two_names_is_refused(data, names):
    (data / "toy").mkdir()
    for name in names:
        (data / "toy" / name).write_text("a\n")
    if len(list((data / "toy").iterdir())) < 2:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(CorpusError, match=f"toy holds the split valid twice: {', '.join(names)}; keep one"):
        corpus.load("toy")


@pytest.mark.parametrize("name", ["validation.json", "valid.txt.bz2", "valid", "wiki_valid.txt", "notes.txt"])
def test_a_file_that_may_have_been_meant_as_a_split_is_named(data, capsys, name):
    write(data / "toy", ".txt", train="a\n")
    for other in (name, "README.md", "LICENSE", ".valid.txt.swp", "._wiki.valid.txt"):
        (data / "toy" / other).write_text("b\n")
    for _ in range(2):
        assert list(corpus.load("toy").splits) == ["train"]
    (message,) = warnings(capsys)
    assert message.startswith(f"{data / 'toy'}: {name} not read: expected files such as train.txt, validation-")


def test_a_link_to_nothing_is_named(data):
    write(data / "toy", ".txt", train="a\n")
    (data / "toy" / "valid.txt").symlink_to(data / "gone.txt")
    with pytest.raises(CorpusError, match=r"toy/valid\.txt is a broken link to .*gone\.txt"):
        corpus.load("toy")
    write(data, ".txt", gone="b\n")
    assert corpus.load("toy").text("valid") == "b\n"


def test_a_folder_that_is_a_link_to_nothing_is_not_replaced_by_the_hub(data):
    (data / "wikitext-103").symlink_to(data / "gone")
    with pytest.raises(CorpusError, match=r"data/wikitext-103 is a broken link to .*gone"):
        corpus.load("wikitext-103")


def test_texts_that_are_nowhere_are_told(data, monkeypatch, capsys):
    write(data / "toy", train="a\n")
    corpus.load("toy")
    monkeypatch.setenv("ALIBI_DATA", str(data / "elsewhere"))
    assert corpus.load("toy").text("train") == "a\n", "the copy in the cache"
    assert warnings(capsys) == [f"ALIBI_DATA is {data / 'elsewhere'}, which is not a folder: no text is read from it"]


def test_a_folder_without_splits_is_refused(data):
    (data / "toy" / "train.tokens").mkdir(parents=True)
    (data / "toy" / "training.txt").write_text("a\n")
    expected = r"toy holds no split: expected .*train.*parquet.*\.zst; it holds train\.tokens, training\.txt$"
    with pytest.raises(CorpusError, match=expected):
        corpus.load("toy")


def test_names_can_be_those_with_certain_splits(data):
    write(data / "whole", train="a\n", valid="a\n")
    write(data / "trained", train="a\n")
    (data / "empty").mkdir()
    assert {"whole", "trained", "empty", "wikitext-2"} <= set(corpus.names())
    assert set(corpus.names("train", "valid")) == {"whole", *corpus.KNOWN} - MIXTURES.keys()
    corpus.load("trained")
    shutil.rmtree(data)
    assert {"trained", "whole"} & set(corpus.names("train")) == {"trained"}, "the copy in the cache"


@pytest.mark.parametrize("damaged", [b"\xff\xfe", b"{", b"[]", b"{}"])
def test_a_damaged_manifest_hinders_no_other_corpus(data, damaged):
    for name in ("broken", "wikipedia-sample"):
        folder = data.parent / "cache" / "corpora" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_bytes(damaged)
    assert "broken" not in corpus.names() and "wikipedia-sample" in corpus.names("train")
    assert corpus.split_names("wikipedia-sample") == ("train", "valid", "test")
    with pytest.raises(ValueError, match="unknown corpus 'nope'"):
        corpus.load("nope")


def test_a_name_that_no_folder_can_have_is_refused(data):
    with pytest.raises(ValueError, match=r"corpus 'x+\.\.\.x+': choose a name of at most 200 bytes"):
        corpus.load("x" * 300)


def columns(**found):
    def write_table(path):
        pq.write_table(pa.table(found), path)

    return write_table


def content(found):
    return lambda path: path.write_bytes(found)


LATIN = "café\n".encode("latin-1")
# Not to be compressed to less than a few blocks.
NOISE = "".join(f"{hashlib.sha256(str(number).encode()).hexdigest()}\n" for number in range(20_000)).encode()


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        pytest.param("train.tokens", content(b""), "is empty", id="empty"),
        pytest.param("train.parquet", content(b""), "is empty", id="empty parquet"),
        pytest.param("train.txt.xz", content(lzma.compress(b"")), "is empty", id="compressed empty"),
        pytest.param("train.tokens", content(LATIN), "not UTF-8.*convert", id="latin"),
        pytest.param("train.txt.xz", content(lzma.compress(LATIN)), "not UTF-8.*convert", id="compressed latin"),
        pytest.param("train.txt", content(NOISE + LATIN), "not UTF-8.*convert", id="latin at the end"),
        pytest.param("train.txt.xz", content(lzma.compress(NOISE)[:-99]), None, id="cut xz"),
        pytest.param("train.txt.gz", content(gzip.compress(NOISE)[:-99]), None, id="cut gz"),
        pytest.param("train.txt.zst", content(zstd.compress(NOISE)[:-99]), None, id="cut zst"),
        pytest.param("train.txt.xz", content(b"a b\n"), None, id="no xz"),
        pytest.param("train.parquet", content(b"a b\n"), None, id="no parquet"),
        pytest.param("train.parquet", columns(sentence=["a"]), "column.* sentence.* text", id="other column"),
        pytest.param("train.parquet", columns(text=["a", None]), None, id="null"),
        pytest.param("train.parquet", columns(text=[1, 2]), None, id="numbers"),
        pytest.param("train.parquet", columns(text=pa.array([], pa.string())), "empty", id="no rows"),
        pytest.param("train.parquet", columns(text=[["a b"] * 100_000]), r"type list, \['a b', 'a b'", id="lists"),
        pytest.param("train.parquet", columns(text=[[["a" * 999] * 99] * 99]), "type list", id="lists of lists"),
        pytest.param("train.parquet", columns(text=[b"a" * 100_000]), "type bytes, b'aaa", id="bytes"),
        pytest.param("train.parquet", columns(text=[{"a": "b" * 100_000}]), "type dict, {'a': 'bbb", id="dictionaries"),
        pytest.param(
            "train.parquet",
            columns(**{f"column{n}": [1] for n in range(5000)}),
            "column19 and 4,980 more",
            id="columns",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(data, name, make, message):
    (data / "toy").mkdir()
    make(data / "toy" / name)
    with pytest.raises(CorpusError, match=message) as raised:
        corpus.load("toy")
    assert str(data / "toy" / name) in str(raised.value)
    assert len(str(raised.value)) < 1000 and "\n" not in str(raised.value)
    assert unbuilt(data.parent / "cache")


@pytest.mark.parametrize(
    ("odd", "other"),
    [
        ("a b#c%20&é", None),
        pytest.param("data[1]", "data1"),
        pytest.param("dat*", "data"),
        pytest.param("a::b", None),
    ],
)
def test_a_folder_of_any_name_is_read_and_no_other(data, monkeypatch, odd, other):
    folder = data.parent / "odd" / odd
    write(folder / "toy", train="this\n")
    if other:
        write(folder.with_name(other) / "toy", train="other\n")
    monkeypatch.setenv("ALIBI_DATA", str(folder))
    assert corpus.load("toy").text("train") == "this\n"


@pytest.mark.parametrize("name", [".", "..", "../runs", "toy/..", "absolute"])
def test_a_name_is_no_path(data, name):
    name = str(data.parent / "mine") if name == "absolute" else name
    (data / "toy").mkdir()
    write(data / name, train="a\n")
    cache = data.parent / "cache"
    kept = [data / name / "train.tokens", cache / "runs" / "results.json", cache / "corpora" / "another" / "train.txt"]
    for path in kept[1:]:
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    try:
        corpus.load(name)
    except ValueError as refusal:
        assert "unknown corpus" in str(refusal)
    assert [path for path in kept if not path.exists()] == []
    assert list((cache / "corpora").glob("*/manifest.json")) == []


def test_a_changed_file_rebuilds_the_cache(data, capsys, monkeypatch):
    write(data / "toy", train="a b\n", valid="a\n")
    first = corpus.load("toy")
    written = []
    monkeypatch.setattr(
        corpus_cache, "_write", lambda *args, write=corpus_cache._write: (written.append(1), write(*args))[1]
    )
    assert corpus.load("toy").text("train") == "a b\n"
    assert (written, warnings(capsys)) == ([], [])
    path = data / "toy" / "train.tokens"
    before = path.stat()
    path.write_text("c d\n")  # as long as it was, and in the same second
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert corpus.load("toy").text("train") == "c d\n"
    assert warnings(capsys) == [f"{first.folder} is rebuilt: of another version or another source"]
    (data / "toy" / "valid.tokens").unlink()
    assert list(corpus.load("toy").splits) == ["train"]
    assert len(written) == 2


def test_an_unreadable_change_leaves_the_cache(data):
    write(data / "toy", train="a b\n")
    folder = corpus.load("toy").folder
    (data / "toy" / "train.tokens").write_bytes(LATIN)
    with pytest.raises(CorpusError, match="not UTF-8"):
        corpus.load("toy")
    assert (folder / "train.txt").read_text() == "a b\n"
    write(data / "toy", train="c\n")
    assert corpus.load("toy").text("train") == "c\n"


def test_an_unknown_name_lists_the_known_and_the_folders(data, monkeypatch):
    write(data / "ships", train="a\n")
    known = "bookcorpus, c4+roberta, cc100+roberta, openwebtext, ships, wikipedia-sample, wikitext-103, wikitext-2"
    with pytest.raises(ValueError, match=re.escape(f"unknown corpus 'ship'; choose from {known} ")):
        corpus.load("ship")
    with pytest.raises(ValueError, match=f"ALIBI_DATA is {data}"):
        corpus.load("ship")
    monkeypatch.delenv("ALIBI_DATA")
    with pytest.raises(ValueError, match=r"or a folder of text in ALIBI_DATA, which is not set"):
        corpus.load("ships")


def test_a_folder_that_can_not_be_asked_for_is_not_listed(data):
    for name in ("ships", "ships, first 3 words", "ships-bytes", ".ships"):
        write(data / name, train="a\n")
    assert set(corpus.names()) == {"ships", *corpus.KNOWN}
    with pytest.raises(ValueError, match=r"choose from .*, openwebtext, ships, wikipedia-sample"):
        corpus.load("boats, first 3 words")


def test_published_counts_hold_for_folders_too(data):
    write(data / "wikitext-103", valid=TEXT["valid"])
    with pytest.raises(CorpusError, match=r"wikitext-103 valid from .*data/wikitext-103 has 9 tokens .* 217,646"):
        corpus.load("wikitext-103")
    assert unbuilt(data.parent / "cache")


def test_an_outline_is_the_corpus_or_its_published_sizes(data, monkeypatch):
    sizes = corpus.outline("wikitext-103")
    assert (sizes.source, sizes.vocabulary_size, sizes.split("train").words) == ("", 267_744, 103_227_021)
    assert corpus.outline("bookcorpus").vocabulary_size == 28_996
    mixture = corpus.outline("c4+roberta")
    assert (mixture.vocabulary_size, mixture.split("valid").words, mixture.training_sha256) == (50_257, 649_000, "")
    assert unbuilt(data.parent / "cache"), "nothing was fetched"
    with pytest.raises(ValueError, match="unknown corpus 'nothing'"):
        corpus.outline("nothing")
    # Validation text alone has no vocabulary to estimate a model with; a whole corpus is taken as it is.
    monkeypatch.setitem(HUB, "wikitext-103", replace(HUB["wikitext-103"], exact=False))
    write(data / "wikitext-103", valid=TEXT["valid"])
    assert corpus.outline("wikitext-103").vocabulary_size == 267_744
    write(data / "wikitext-103", train=TEXT["train"])
    assert corpus.outline("wikitext-103").split("train").tokens.size
    monkeypatch.delenv("ALIBI_DATA")
    assert corpus.outline("wikitext-103").source, "a copy in the cache is enough"


@pytest.mark.slow
def test_a_folder_is_read_without_network(tmp_path):
    write(tmp_path / "data" / "toy", train="a\n")
    more = {"ALIBI_DATA": str(tmp_path / "data"), "HF_UPDATE_DOWNLOAD_COUNTS": "AUTO"}
    (told,) = ask("http://127.0.0.1:9", tmp_path, {"name": "toy"}, **more)
    assert told["text"] == {"train": "a\n"}


@pytest.mark.parametrize("name", ["toy", "wikitext-103"])
@pytest.mark.parametrize("ending", [".tokens", ".txt"])
def test_a_copied_cache_is_enough(data, tmp_path, monkeypatch, name, ending):
    monkeypatch.setitem(HUB, "wikitext-103", replace(HUB["wikitext-103"], exact=False))
    write(data / name, ending, **TEXT)
    built = corpus.load(name)
    shutil.copytree(tmp_path / "cache" / "corpora" / name, tmp_path / "copy" / "corpora" / name)
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(data)
    monkeypatch.delenv("ALIBI_DATA")
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "copy"))
    for package in ("datasets", "gensim", "huggingface_hub", "tokenizers", "filelock"):
        monkeypatch.setitem(sys.modules, package, None)
    copied = corpus.load(name)
    assert copied.source == str(data / name) == built.source
    assert {split: copied.text(split) for split in copied.splits} == TEXT
    for split in TEXT:
        assert np.array_equal(copied.split(split).tokens, built.splits[split].tokens)
    if copied.tokenisation == "words":
        assert copied.vocabulary.decode(copied.split("test").tokens) == "the <unk> sea\n\n"
    assert name in corpus.names()


# Both have found the cache missing before either may build it.
RACE = r"""
import os, sys
from alibi.corpora import cache, corpus

looked, built, fault, write = [], [], corpus.fault_of, cache._write

def look(*args):
    found = fault(*args)
    if not looked:
        looked.append(found)
        print("looked", flush=True)
        sys.stdin.readline()
    return found

corpus.fault_of = look
cache._write = lambda *args: (built.append(1), write(*args))
toy = corpus.load("toy")
print(len(built), toy.splits["train"].sha256, toy.text("train").split())
"""


@pytest.mark.slow
def test_two_processes_build_one_corpus(tmp_path):
    write(tmp_path / "data" / "toy", train="a b\n")
    more = environment("http://127.0.0.1:9", tmp_path, ALIBI_DATA=str(tmp_path / "data"), HF_HUB_OFFLINE="1")
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen([sys.executable, "-c", RACE], env=more, **pipe) for _ in range(2)]
    assert [child.stdout.readline() for child in children] == ["looked\n"] * 2
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    told = [child.communicate(timeout=HANGS_AFTER) for child in children]
    digest = hashlib.sha256(np.array([4, 5, 2], np.uint8).tobytes()).hexdigest()
    assert sorted(out for out, _ in told) == [f"{built} {digest} ['a', 'b']\n" for built in (0, 1)], told
    assert sorted(path.name for path in (tmp_path / "cache" / "corpora").iterdir()) == [".toy.lock", "toy"]


def test_words_of_the_stand_in_are_seen_three_times(data):
    text = "the the the ship ship ship sea sea <unk> <unk> <unk> <unk>\n"
    for name in ("wikipedia", "toy"):
        write(data / name, train=text, valid="the sea ship\n")
    wikipedia, toy = corpus.load("wikipedia"), corpus.load("toy")
    made_up = [f"madeupword{number:04}" for number in range(2)]
    assert wikipedia.vocabulary.symbols == [*SPECIAL, "ship", "the", *made_up]
    assert wikipedia.split("valid").tokens.tolist() == [5, 3, 4, 2]
    assert (wikipedia.splits["train"].unknown, wikipedia.splits["valid"].unknown) == (6, 1)
    assert "not" in wikipedia.description
    assert "WikiText-103" in wikipedia.description
    assert toy.vocabulary.symbols == [*SPECIAL, "ship", "the", "sea", "madeupword0000"]


# The real text, where it is

SHARED = Path(CALLERS_DATA or ROOT.parent / "shared" / "data")


@pytest.fixture
def shared(data, monkeypatch):
    missing = [name for name in ("wikitext-103", "wikitext-2") if not (SHARED / name).is_dir()]
    if missing:
        pytest.skip(f"{SHARED} lacks {' and '.join(missing)}: point ALIBI_DATA at a folder that holds them")
    monkeypatch.setenv("ALIBI_DATA", str(SHARED))


def test_the_real_wikitext(shared):
    held, trained = corpus.load("wikitext-103"), corpus.load("wikitext-2")
    lines = {split: held.text(split).count("\n") for split in ("valid", "test")}
    assert {split: held.splits[split].words + lines[split] for split in lines} == {"valid": 217_646, "test": 245_569}
    assert (len(trained.split("train").tokens), trained.vocabulary_size) == (2_088_628, 33_280)
    assert sum(symbol.startswith("madeupword") for symbol in trained.vocabulary.symbols) == 33_280 - 33_278 - 3 + 1
    split = held.encoded_by(trained, "valid")
    assert len(split.tokens) == 217_646
    assert 0 < split.unknown < 0.2 * len(split.tokens)

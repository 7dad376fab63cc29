import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import warnings
from forked import HANGS_AFTER

import alibi
from alibi.corpora import cache as corpus_cache
from alibi.corpora import corpus, wikipedia_sample
from alibi.corpora.report import describe
from alibi.corpora.source import CorpusError
from alibi.corpora.vocabulary import BytePairVocabulary
from alibi.errors import InputError
from alibi.files import content_sha256, sha256
from alibi.windows import TrainingOrder

ROOT = Path(alibi.__file__).parents[1]

# articles, words, bytes and SHA-256 of the text. If these change on purpose, count up cache.FORMAT.
EXPECTED = {
    "train": (96, 353_922, 2_212_357, "be30c3b0133ff116e4a42d772658cd52d6e296a5af8209eb5889a6907399d91c"),
    "valid": (6, 24_888, 156_790, "63ec7ce72d979a35e67aa5adea347641a4aedba5efde0755515266d6c77d406b"),
    "test": (3, 30_727, 194_971, "ee7f9e9f0f9edf0f7d150cfe2859f5e968ad0232fd750b44eac5302e456e9fd3"),
}


@pytest.fixture(scope="session")
def sample():
    return corpus.load("wikipedia-sample")


@pytest.fixture
def cache(sample, tmp_path, monkeypatch):
    """A copy of the cached corpus that a test may damage; the folder of the corpus in it."""
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path))
    return Path(shutil.copytree(sample.folder, tmp_path / "corpora" / sample.name))


def titles(text):
    return re.findall(r"^ = (?!= )(.+) = $", text, re.MULTILINE)


def start(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(process):
    """What it printed on stdout; on stderr there may be a progress bar, as slow as the machine is."""
    out, errors = process.communicate(timeout=HANGS_AFTER)
    assert process.returncode == 0, errors
    return out.split()


# The text


def test_articles_words_and_bytes(sample):
    for name, expected in EXPECTED.items():
        split, text = sample.splits[name], sample.text(name)
        assert (split.articles, split.words, split.bytes) == expected[:3]
        assert (len(titles(text)), len(text.split()), len(text.encode())) == expected[:3]
        assert hashlib.sha256(text.encode()).hexdigest() == expected[3]
    assert list(sample.splits) == list(EXPECTED)
    assert sum(split.articles for split in sample.splits.values()) == 105
    assert sum(split.words for split in sample.splits.values()) == 409_537


@pytest.mark.parametrize("split", EXPECTED)
def test_no_markup_is_left(sample, split):
    text = sample.text(split)
    for markup in (
        "''",
        "==",
        "{{",
        "}}",
        "[[",
        "]]",
        "<ref",
        "<!--",
        "&nbsp;",
        "&amp;",
        "()",
        "\ufffd",
        "http://",
    ):
        assert markup not in text
    for line in text.removesuffix("\n").split("\n"):
        assert line.strip(), "an empty line"
        assert line[0] not in "*|#:;!{", line
        assert not re.match(r"(File|Image|Category|Wikipedia):", line), line


@pytest.mark.parametrize("split", EXPECTED)
def test_sections_have_text_and_none_lists_references(sample, split):
    lines = sample.text(split).removesuffix("\n").split("\n")
    depths = [len(match[1].split()) if (match := re.match(r" ((?:= )+)", line)) else 0 for line in lines]
    for line, depth, following in zip(lines, depths, [*depths[1:], 1], strict=True):
        if depth:
            assert following == 0 or following > depth, f"{line} has nothing beneath it"
            assert line.strip("= ").lower() not in ("references", "see also", "external links", "notes")


def test_articles_are_dealt_whole_in_the_order_of_their_titles_hash(sample):
    texts = {split: sample.text(split) for split in EXPECTED}
    sizes = {}
    for text in texts.values():
        for article in re.split(r"^(?= = (?!= ))", text, flags=re.MULTILINE)[1:]:
            (title,) = titles(article)
            assert title not in sizes
            sizes[title] = len(article.split())
    total = sum(sizes.values())
    assert len(sizes) == 105
    order = sorted(sizes, key=lambda title: hashlib.sha256(title.encode("utf-8")).hexdigest())
    dealt = {}
    for split in ("valid", "test"):
        dealt[split], words = [], 0
        while words < total / 20:
            dealt[split].append(order.pop(0))
            words += sizes[dealt[split][-1]]
    dealt["train"] = order
    assert {split: titles(text) for split, text in texts.items()} == dealt


def test_a_split_that_is_not_there_is_refused(sample):
    with pytest.raises(ValueError, match="no split 'validation'; it has train, valid, test"):
        sample.text("validation")


# The tokens


@pytest.mark.parametrize("split", EXPECTED)
def test_tokens_decode_to_the_text(sample, split):
    tokens = sample.splits[split].tokens
    assert sample.vocabulary.decode(tokens) == sample.text(split)
    assert tokens.dtype == np.uint16
    assert tokens.max() < sample.vocabulary_size == sample.vocabulary.size == 4096
    assert (tokens == sample.end_of_line).sum() == sample.text(split).count("\n")
    assert hashlib.sha256(tokens.tobytes()).hexdigest() == sample.splits[split].sha256


def test_streams_are_read_only_and_on_disk(sample):
    for split in sample.splits.values():
        assert isinstance(split.tokens, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            split.tokens[0] = 1


def test_the_vocabulary_is_learned_from_the_training_split_alone(sample, tmp_path):
    lines = sample.text("train").removesuffix("\n").split("\n")
    BytePairVocabulary.train(lines).save(tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_bytes() == (sample.folder / "tokenizer.json").read_bytes()


def test_describe_tells_sizes_and_provenance(sample):
    described = describe(sample)
    for fact in (
        "353,922",
        "409,537",
        "4,096",
        "CC BY-SA",
        "early in the alphabet",
        "gensim",
        str(sample.folder),
    ):
        assert fact in described
    assert sample.text("valid").split("\n")[0].strip() in described


def test_a_split_without_words_is_described(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    (tmp_path / "blank").mkdir()
    for split, text in (("train", "a b\n"), ("valid", "\n\n")):
        (tmp_path / "blank" / f"{split}.txt").write_text(text)
    rows = {row[0]: row[1:] for line in describe(corpus.load("blank")).split("\n") if (row := line.split())}
    assert rows["valid"] == ["0", "2", "0", "2", "2", "-", "2", "0.00%"]
    assert rows["train"][5] == "1.500"


def test_a_split_is_encoded_by_the_vocabulary_of_another_corpus(sample, tmp_path):
    BytePairVocabulary.train(["another corpus"], size=260).save(tmp_path / "tokenizer.json")
    other = replace(sample, name="other", folder=tmp_path, vocabulary_sha256="")
    split, own = sample.encoded_by(other, "valid"), sample.splits["valid"]
    assert other.vocabulary.decode(split.tokens) == sample.text("valid")
    assert (split.words, split.bytes, split.articles) == (own.words, own.bytes, own.articles)
    assert split.sha256 == hashlib.sha256(split.tokens.tobytes()).hexdigest() != own.sha256
    assert sample.encoded_by(sample, "valid") is own
    with pytest.raises(ValueError, match="no split 'dev'; it has train, valid, test"):
        sample.encoded_by(other, "dev")


def test_a_text_that_changed_after_it_was_loaded_is_not_read_by_a_wrong_vocabulary(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    folder = tmp_path / "edited"
    folder.mkdir()
    (folder / "train.tokens").write_text("a b b\n")
    (folder / "valid.tokens").write_text("a b\n")
    known, unread = corpus.load("edited"), corpus.load("edited")
    assert known.vocabulary.encode("a b") == known.encoded_by(known, "valid").tokens[:2].tolist()
    (folder / "train.tokens").write_text("c a a a b\n")
    changed = corpus.load("edited")
    # A run that was trained before keeps its vocabulary, also for the text of the same name.
    assert known.vocabulary.decode(changed.encoded_by(known, "valid").tokens) == "a b\n"
    assert changed.encoded_by(known, "valid").tokens.tolist() != changed.split("valid").tokens.tolist()
    with pytest.raises(CorpusError, match=r"dict\.txt has changed since edited was loaded: load it again"):
        _ = unread.vocabulary
    # Nor is another text read under the digest of the one that was loaded.
    (folder / "valid.tokens").write_text("b\n")
    corpus.load("edited")
    for read in (lambda: changed.text("valid"), lambda: changed.encoded_by(known, "valid")):
        with pytest.raises(CorpusError, match=r"valid\.txt has changed since edited was loaded: load it again"):
            read()


def test_a_corpus_is_never_read_from_the_cache_of_another(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    for name in ("c", "c-words"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text(f"{name}\n")
    by_words = corpus.load("c", "words")
    with pytest.raises(InputError, match=r"corpus 'c-words': choose a name without -words at its end, .*'c' with the"):
        corpus.load("c-words")
    assert by_words.folder.name == "c-words" and by_words.text("train") == corpus.load("c").text("train") == "c\n"
    # As an earlier version left it: the cache of a corpus named c-words.
    manifest = json.loads((by_words.folder / "manifest.json").read_bytes()) | {"name": "c-words"}
    manifest["manifest_sha256"] = content_sha256(manifest, "manifest_sha256")
    (by_words.folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.delenv("ALIBI_DATA")
    with pytest.raises(CorpusError, match="c-words is of the corpus 'c-words', and its source is not here"):
        corpus.load("c", "words")
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    assert corpus.load("c", "words").name == "c"


def test_reading_a_run_does_not_replace_the_only_copy_of_its_vocabulary(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    train = tmp_path / "edited" / "train.tokens"
    train.parent.mkdir()
    train.write_text("a b b\n")
    of_run = corpus.load("edited").training_sha256
    # The same text, written again.
    os.utime(train, (0, 0))
    assert corpus.load_in("edited", "words", of_run).training_sha256 == of_run
    train.write_text("c a a a b\n")
    with pytest.raises(CorpusError, match="is not the one that the run was trained on: restore it, or take it out of"):
        corpus.load_in("edited", "words", of_run)
    monkeypatch.delenv("ALIBI_DATA")
    kept = corpus.load_in("edited", "words", of_run)
    assert kept.training_sha256 == of_run and kept.vocabulary.decode(kept.split("train").tokens) == "a b b\n"


def test_a_cached_corpus_with_any_letters_in_its_name_is_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    (tmp_path / "ça va é").mkdir()
    (tmp_path / "ça va é" / "train.tokens").write_text("a\n")
    corpus.load("ça va é")
    monkeypatch.delenv("ALIBI_DATA")
    assert "ça va é" in corpus.names()


# The cache


def test_a_complete_cache_needs_neither_gensim_nor_tokenizers(cache):
    code = """
import sys
from alibi.corpora.corpus import load
sample = load("wikipedia-sample")
assert sample.splits["valid"].tokens[-1] == sample.end_of_line and sample.text("valid")
print(*({"gensim", "tokenizers", "filelock", "torch"} & set(sys.modules)), "loaded")
"""
    assert printed(start(code)) == ["loaded"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def older(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))


def other_source(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": "0" * 64}))


def test_a_damaged_cache_is_rebuilt(sample, cache, capsys):
    truncate(cache / "train.bin")
    flip(cache / "valid.bin")
    rebuilt = corpus.load("wikipedia-sample")
    assert warnings(capsys) == [f"{cache} is rebuilt: train.bin, valid.bin not as written"]
    assert rebuilt.folder == cache
    for path in sample.folder.iterdir():
        assert (cache / path.name).read_bytes() == path.read_bytes()
    corpus.load("wikipedia-sample")
    assert warnings(capsys) == []


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("tokenizer.json", flip, "tokenizer.json not as written"),
        ("test.txt", Path.unlink, "incomplete"),
        ("manifest.json", Path.unlink, "incomplete"),
        ("manifest.json", truncate, "incomplete"),
        ("manifest.json", older, "another version"),
        ("manifest.json", other_source, "another source"),
    ],
)
def test_a_damaged_cache_is_never_used(cache, monkeypatch, capsys, file, damage, reason):
    damage(cache / file)
    # Without gensim the rebuilding stops where it begins.
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(corpus.CorpusError):
        corpus.load("wikipedia-sample")
    (message,) = warnings(capsys)
    assert message.startswith(f"{cache} is rebuilt: ")
    assert reason in message


def test_a_file_is_hashed_once_and_after_each_change(cache, monkeypatch, capsys):
    hashed = []
    monkeypatch.setattr(corpus_cache, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    monkeypatch.setattr(corpus_cache, "CHECKED_ONCE", 100_000)
    for _ in range(2):
        corpus.load("wikipedia-sample")
    assert sorted(hashed) == sorted(json.loads((cache / "manifest.json").read_bytes())["sha256"])
    sizes = {path.name: path.stat().st_size for path in cache.iterdir()}
    kept = json.loads((cache / corpus_cache.CHECKED).read_bytes())
    assert set(kept) == {name for name, size in sizes.items() if size > 100_000} > {"train.bin"}
    flip(cache / "train.bin")
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(corpus.CorpusError):
        corpus.load("wikipedia-sample")
    assert warnings(capsys) == [f"{cache} is rebuilt: train.bin not as written"]


def test_a_cache_larger_than_memory_is_opened_and_cut_into_batches(cache):
    """100 GB of tokens, all zero and so on no disk, with the last one another: none but those asked for is read."""
    size, path = 100 * 10**9, cache / "train.bin"
    with path.open("r+b") as file:
        file.truncate(size)
        file.seek(size - 2)
        file.write(b"\x07\x00")
    state = path.stat()
    (cache / corpus_cache.CHECKED).write_text(json.dumps({"train.bin": [state.st_size, state.st_mtime_ns]}))
    tokens = corpus.load("wikipedia-sample").split("train").tokens
    assert len(tokens) == size // 2 and tokens[-1] == 7
    order = TrainingOrder(tokens, 0, length=50_000, batch=2, seed=0)
    last = order.blocks - 1
    step = next(step for step in range(order.steps_an_epoch) if last * order.length in order.where(step)[2])
    assert order(step)[1][order.where(step)[2].index(last * order.length), -1] == 7


def test_what_a_killed_build_left_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path))
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "train.txt").write_text("a b\n")
    folder = corpus.load("toy").folder
    written, left = sorted(path.name for path in folder.iterdir()), tmp_path / "corpora" / ".toy.building"
    folder.rename(left)
    (left / "another").touch()
    corpus.load("toy")
    assert sorted(path.name for path in folder.iterdir()) == written and not left.exists()


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """The cache on a disk of its own, and a function that mounts it anew with other options; a folder of text."""

    def mounted(*arguments):
        return subprocess.run(["mount", *arguments, tmp_path / "disk"], capture_output=True, text=True)

    (tmp_path / "disk").mkdir()
    if (done := mounted("-t", "tmpfs", "tmpfs")).returncode:
        pytest.skip(f"a disk can't be mounted here: {done.stderr.strip()}")
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "disk"))
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "toy").mkdir(parents=True)
    for split, words in (("train", 4024), ("valid", 901)):
        text = "".join(f"{number % 500}{' ' if number % 9 else chr(10)}" for number in range(words))
        (tmp_path / "data" / "toy" / f"{split}.tokens").write_text(text)
    yield lambda options: mounted("-o", f"remount,{options}")
    subprocess.run(["umount", "--lazy", tmp_path / "disk"], check=True)  # its streams may still be mapped


def test_a_disk_that_is_full_at_any_moment_is_told(disk, tmp_path):
    failed = 0
    for kilobytes in range(4, 100, 4):
        assert disk(f"size={kilobytes}k").returncode == 0
        try:
            toy = corpus.load("toy")
        except corpus.CorpusError as full:
            message = r"toy can't be kept in \S+ \(OSError: .*No space left.*\): make room there, .*"
            assert re.fullmatch(message, str(full))
            assert not list((tmp_path / "disk").rglob("toy")) and not list((tmp_path / "disk").rglob("*.building"))
            failed += 1
        else:
            break
    assert failed > 5, "it never failed"
    for split, tokens in toy.splits.items():
        assert toy.vocabulary.decode(tokens.tokens) == toy.text(split), "what was built is whole"


def test_a_cache_that_can_not_be_written_to_is_read(disk, tmp_path):
    text = corpus.load("toy").text("valid")
    (tmp_path / "disk" / "corpora" / ".toy.lock").unlink(missing_ok=True)
    assert disk("ro").returncode == 0
    assert corpus.load("toy").text("valid") == text
    with pytest.raises(corpus.CorpusError, match=r"toy can't be kept in \S+ \(.*Read-only.*set ALIBI_CACHE"):
        corpus.load("toy", "bytes")
    (tmp_path / "data" / "toy" / "valid.tokens").write_text("another text\n")
    with pytest.raises(corpus.CorpusError, match="Read-only"):
        corpus.load("toy")


def test_a_cache_below_a_file_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(corpus.CorpusError, match=r"wikipedia-sample can't be kept in \S*file/cache.*ALIBI_CACHE"):
        corpus.load("wikipedia-sample")
    assert "wikipedia-sample" in corpus.names()


# What it is read from


def test_without_gensim_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(corpus.CorpusError, match=r'missing: install it with: pip install "gensim>='):
        corpus.load("wikipedia-sample")
    assert not (tmp_path / "corpora" / "wikipedia-sample").exists()


@pytest.mark.parametrize(("altered", "message"), [(False, "this gensim lacks"), (True, "has SHA-256 .*, not")])
def test_a_gensim_with_another_dump_is_refused(tmp_path, monkeypatch, altered, message):
    dump = Path(importlib.util.find_spec("gensim").origin).parent / "test" / "test_data" / wikipedia_sample.DUMP
    other = tmp_path / "gensim" / "test" / "test_data" / wikipedia_sample.DUMP
    other.parent.mkdir(parents=True)
    (tmp_path / "gensim" / "__init__.py").touch()
    if altered:
        shutil.copy(dump, other)
        flip(other)
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    for module in [module for module in sys.modules if module.split(".")[0] == "gensim"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(corpus.CorpusError, match=message) as raised:
        corpus.load("wikipedia-sample")
    assert str(other) in str(raised.value)
    assert "pip install" in str(raised.value)


def test_dealing_keeps_the_lines_of_an_article_together():
    articles = {f"Article {number}": [f" = Article {number} = ", "word " * number] for number in range(1, 40)}
    splits = wikipedia_sample.deal(articles)
    assert sorted(lines for dealt in splits.values() for lines in dealt) == sorted(articles.values())
    words = {split: sum(len(line.split()) for lines in dealt for line in lines) for split, dealt in splits.items()}
    for split in ("valid", "test"):
        last = sum(len(line.split()) for line in splits[split][-1])
        assert words[split] - last < 0.05 * sum(words.values()) <= words[split]

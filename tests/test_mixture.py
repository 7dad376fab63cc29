"""A mixture of parts in folders: proportions, held-out documents, shuffling, positions, shares of several processes."""

import hashlib
import json
import lzma
import random
import re
import shutil
from collections import Counter
from dataclasses import replace
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forked import together
from small_run import DROPOUTS, config_for, period_corpus, steps_done

from alibi import checkpoint, processes
from alibi.configuration import TrainingError, configure
from alibi.corpora import corpus, mixture, shards
from alibi.corpora.mixture import MIXTURES, interleaved, part_files
from alibi.corpora.source import CorpusError
from alibi.corpora.stream import TokenStream
from alibi.corpora.vocabulary import BytePairVocabulary
from alibi.device import settle_cpu
from alibi.errors import InputError
from alibi.run_spec import RunSpec
from alibi.train import Training, train

NAME = "cc100+roberta"
PARTS = MIXTURES[NAME]
FILES = 5
# Words of a document, and documents of a file: of very different length, as those of the real parts.
SHAPES = {"bookcorpus": (8, 2000), "wikipedia": (150, 60), "cc-news": (30, 300), "stories": (400, 25)}


def text(part, file, number, words):
    noise = random.Random(f"{part} {file} {number}")
    return " ".join(f"{part}-{noise.randrange(100)}" for _ in range(1 + noise.randrange(2 * words)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every part in a folder, CC-100 as its makers have it: text, with empty lines between documents."""
    data = tmp_path_factory.mktemp("data")
    for part in PARTS:
        words, documents = SHAPES.get(part, (50, 200))
        (data / NAME / part).mkdir(parents=True)
        for file in range(FILES):
            rows = [text(part, file, number, words) for number in range(documents)]
            path = data / NAME / part / f"{file}.parquet"
            if part == "cc100":
                path.with_suffix(".txt.xz").write_bytes(lzma.compress("\n\n".join([*rows, ""]).encode(), preset=0))
            else:
                pq.write_table(pa.table({"text": rows}), path, row_group_size=50)
    return data


@pytest.fixture
def data(folder, monkeypatch):
    monkeypatch.setenv("ALIBI_DATA", str(folder))
    small_pieces(monkeypatch.setattr)
    return folder


def small_pieces(setting):
    setting(mixture, "PIECE", 512)
    setting(mixture, "HELD_OUT_PIECE", 512)
    setting(shards, "HELD_OUT_OF", 20)
    setting(mixture, "PIECES_AT_ONCE", 32)
    setting(shards.time, "sleep", lambda _: None)


@pytest.fixture(scope="module")
def vocabulary():
    return BytePairVocabulary.train([f"{part}-{number}" for part in PARTS for number in range(100)], 600)


def lines(rows):
    return [line for row in rows for line in row["text"].split("\n") if line]


def every_line(part):
    words, documents = SHAPES.get(part, (50, 200))
    return [text(part, file, number, words) for file in range(FILES) for number in range(documents)]


def is_held_out(line):
    return int(hashlib.sha256(line.encode()).hexdigest()[:16], 16) % 20 == 0


def test_the_proportions_are_the_papers():
    gigabytes = {name: part.gigabytes for name, part in PARTS.items()}
    assert sum(gigabytes.values()) == pytest.approx(461)
    assert sum(gigabytes.values()) - gigabytes["cc100"] == pytest.approx(161)
    assert gigabytes["bookcorpus"] + gigabytes["wikipedia"] == pytest.approx(16)
    assert {**MIXTURES["c4+roberta"], "c4": None}.keys() - PARTS.keys() == {"c4"}


def test_every_part_says_what_it_is_and_where_it_lies():
    for parts in MIXTURES.values():
        for name, part in parts.items():
            assert part.description and part.licence and part.citation, name
            assert (part.repository and part.revision and part.files) or part.remedy, name


def test_bytes_come_in_the_parts_proportion(data, monkeypatch):
    monkeypatch.setattr(mixture, "PIECE", 4096)  # lines of the longest documents are as long, and none longer
    found, draws = Counter(), 1500
    for number, row in enumerate(interleaved(NAME, part_files(NAME), seed=3)):
        if number == draws:
            break
        found[row["text"].strip().split("-")[0]] += len(row["text"]) + 1
    total = sum(found.values())
    for name, part in PARTS.items():
        share = part.gigabytes / 461
        # The mean piece of a file is shorter by its last one: by a few hundredths here, where files are small.
        expected = pytest.approx(share, abs=4 * (share * (1 - share) / draws) ** 0.5 + 0.03 * share)
        assert found[name.split("-")[0]] / total == expected, name


def test_documents_are_held_out_by_their_hash_and_none_is_lost(data, monkeypatch):
    for part in PARTS:
        monkeypatch.setitem(MIXTURES, NAME, {part: PARTS[part]})
        files = part_files(NAME)
        split = {held: lines(interleaved(NAME, files, seed=0, held_out=held)) for held in (False, True)}
        assert sorted(split[False] + split[True]) == sorted(every_line(part))
        if part != "bookcorpus":  # there a document is many rows
            assert split[True] and all(map(is_held_out, split[True])) and not any(map(is_held_out, split[False]))
    assert split[True]


@pytest.mark.parametrize("lanes", [2, 3, 8])
def test_lanes_have_every_piece_once(data, monkeypatch, lanes):
    """Also where a part has fewer files than there are lanes, and they share them."""
    monkeypatch.setitem(MIXTURES, NAME, {"cc-news": PARTS["cc-news"]})
    files = part_files(NAME)
    whole = Counter(row["text"] for row in interleaved(NAME, files, seed=1))
    dealt = [Counter(row["text"] for row in interleaved(NAME, files, 1, lane, lanes)) for lane in range(lanes)]
    assert sum(dealt, Counter()) == whole
    assert all(dealt)


def streamed(vocabulary, process=0, processes=1, seed=0, batch=8, lanes=4):
    return TokenStream(NAME, vocabulary, 16, batch, seed, process, processes, lanes)


@pytest.fixture
def batches(data, vocabulary):
    whole = streamed(vocabulary)
    return [whole(step) for step in range(60)]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_blocks_are_the_tokens_of_the_text_one_after_another(data, vocabulary):
    """Of one lane, in the order of its text: blocks put back in place are the text, and sources precede targets."""
    whole = streamed(vocabulary, batch=1, lanes=1)
    rows = [row["text"] for row in islice(interleaved(NAME, part_files(NAME), 0), mixture.PIECES_AT_ONCE)]
    expected = vocabulary.encode_lines([line for row in rows for line in row.split("\n")])
    blocks = len(expected) // 16
    taken = [whole(step) for step in range(blocks)]
    order = torch.tensor(whole._lanes[0]._order.tolist())
    assert order.tolist() != sorted(order.tolist()), "they are shuffled"
    targets = torch.cat([targets for _, targets in taken])[order.argsort()].flatten()
    sources = torch.cat([sources for sources, _ in taken])[order.argsort()].flatten()
    assert targets.tolist() == expected[: blocks * 16].tolist()
    assert sources.tolist() == [vocabulary.end_of_line, *expected[: blocks * 16 - 1].tolist()]


def test_a_position_goes_on_as_if_nothing_had_happened(data, vocabulary, batches):
    """Saved after any step, as JSON, and again after the stream has gone on from it."""
    for stops in [(0, 1), (7, 8, 59)]:
        found, position = [], None
        for stop in stops:
            resumed = streamed(vocabulary)
            if position:
                resumed.resume([json.loads(position)])
            found += [resumed(step) for step in range(resumed.step, stop)]
            position = json.dumps(resumed.position(resumed.step))
        assert all(map(equal, found, batches)), stops
        assert len(found) == stops[-1]
    assert len(position) < 10_000


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_have_the_batches_of_one(data, vocabulary, batches, processes):
    each = [streamed(vocabulary, number, processes) for number in range(processes)]
    for step in range(20):
        parts = [one(step) for one in each]
        assert equal([torch.cat(column) for column in zip(*parts, strict=True)], batches[step])
    # Their positions are those of any number of processes.
    positions = json.loads(json.dumps([one.position(20) for one in each]))
    for others in (1, 2):
        each = [streamed(vocabulary, number, others) for number in range(others)]
        for one in each:
            one.resume(positions)
        for step in range(20, 40):
            parts = [one(step) for one in each]
            assert equal([torch.cat(column) for column in zip(*parts, strict=True)], batches[step])


def test_the_seed_changes_the_order(data, vocabulary, batches):
    other = streamed(vocabulary, seed=1)
    assert not equal(other(0), batches[0])


def test_a_position_of_another_stream_is_refused(data, vocabulary, tmp_path, monkeypatch):
    position = streamed(vocabulary).position(0)
    with pytest.raises(CorpusError, match="one of seed 0, and the stream's is 1"):
        streamed(vocabulary, seed=1).resume([position])
    with pytest.raises(CorpusError, match="lacks the lanes 0, 1"):
        streamed(vocabulary).resume([streamed(vocabulary, 1, 2).position(0)])
    for part in PARTS:
        shutil.copytree(data / NAME / part, tmp_path / NAME / part)
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    streamed(vocabulary).resume([position])  # The same files elsewhere.
    next((tmp_path / NAME / "stories").iterdir()).unlink()
    with pytest.raises(CorpusError, match="one of files "):
        streamed(vocabulary).resume([position])


def test_wrong_requests_are_refused(data, vocabulary):
    with pytest.raises(InputError, match="unknown mixture 'cc100'; choose from c"):
        TokenStream("cc100", vocabulary, 16, 8, 0)
    with pytest.raises(InputError, match=r"lanes=4 must divide the 6 .* 1 processes; choose from 1, 2, 3, 6"):
        streamed(vocabulary, batch=6)
    with pytest.raises(InputError, match=r"lanes=2 must divide the 12 .* 3 processes; choose from 3, 6, 12"):
        streamed(vocabulary, batch=12, processes=3, lanes=None)
    whole = streamed(vocabulary)
    with pytest.raises(ValueError, match="step 1: a stream gives its steps in order, and the next one is 0"):
        whole(1)
    with pytest.raises(InputError, match="the 3 processes; choose another number"):
        streamed(vocabulary, processes=3)
    with pytest.raises(ValueError, match="step 1: a stream gives its steps in order, and the next one is 0"):
        streamed(vocabulary)(1)


def test_the_end_of_the_text_is_told(data, vocabulary, monkeypatch):
    monkeypatch.setitem(MIXTURES, NAME, {"wikipedia": PARTS["wikipedia"]})
    whole = streamed(vocabulary, batch=1, lanes=1)
    with pytest.raises(CorpusError, match="all text of lane 0 has been read"):
        for step in range(100_000):
            whole(step)
    # Not a token but the last part of a block is missing.
    tokens = len(vocabulary.encode_lines(lines(interleaved(NAME, part_files(NAME), 0))))
    assert whole.step >= tokens // 16


def test_a_part_that_ends_begins_again(data, monkeypatch):
    equal_parts = {name: replace(PARTS[name], gigabytes=1.0) for name in ("wikipedia", "cc100")}
    monkeypatch.setitem(MIXTURES, NAME, equal_parts)
    files = part_files(NAME)
    files["wikipedia"] = files["wikipedia"][:1]
    found = Counter(lines(interleaved(NAME, files, seed=0)))
    assert {found[line] for line in every_line("cc100") if not is_held_out(line)} == {1}
    again = [found[line] for line in every_line("wikipedia")[:60] if not is_held_out(line)]
    assert min(again) >= 2 and max(again) - min(again) <= 1


def test_a_damaged_file_is_named_and_nothing_left_out(data, vocabulary, tmp_path, monkeypatch, capsys):
    content = (data / NAME / "cc-news" / "0.parquet").read_bytes()
    broken = tmp_path / "0.parquet"
    for part in (content[:-5], content[: len(content) // 2], b"", b"<html>" * 100):
        broken.write_bytes(part)
        with pytest.raises(CorpusError) as told:
            list(shards.documents(shards.Shard("cc-news", str(broken), 1, False, 512)))
        assert f"cc-news: {broken} failed after 0 documents, 4 times in a row" in str(told.value)
    empty = tmp_path / "1.txt"
    empty.touch()
    with pytest.raises(CorpusError, match=r"cc100: .*1.txt can't be read: it is empty"):
        list(shards.documents(shards.Shard("cc100", str(empty), 1, False, 512)))
    compressed = (data / NAME / "cc100" / "0.txt.xz").read_bytes()
    broken = tmp_path / "0.txt.xz"
    broken.write_bytes(compressed[:-40])
    given = []
    with pytest.raises(CorpusError, match=r"0\.txt\.xz failed after [1-9]\d* documents, 4 times in a row"):
        given.extend(shards.documents(shards.Shard("cc100", str(broken), 1, False, 512)))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"sentence": ["a"]}, r"the columns are sentence; expected one named text"),
        ({"text": ["a", None]}, r"has a row of the column text of type NoneType"),
    ],
)
def test_rows_that_are_no_text_are_refused(tmp_path, columns, told):
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(CorpusError, match=f"part: .*0.parquet can't be read: .*{told}"):
        list(shards.documents(shards.Shard("part", str(path), 1, False, 512)))


def test_half_a_character_in_json_is_refused(tmp_path):
    path = tmp_path / "0.json"
    path.write_text('{"text": "good"}\n{"text": "bad \\ud800 x"}\n')
    told = r"part: .*0\.json can't be read: the text of line 2, 'bad \\ud800 x', holds half of a surrogate pair"
    with pytest.raises(CorpusError, match=told):
        list(shards.pieces([shards.Shard("part", str(path), 1, False, 512)]))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"text": "a"}\n\n{"text": "b"\n', "line 3 is not a JSON object with the member text: JSONDecodeError"),
        (b'{"text": "a"}\n1\n', "line 2 is not a JSON object with the member text: TypeError"),
        (b"[\n" + b'{"text": "a"},\n', "line 1 is not a JSON object"),
        (b'{"text": "' + b"x" * 393 + b"\n", r"line 1 is not .*column 404 "),
    ],
)
def test_a_fault_of_json_is_told_at_once_with_its_line(tmp_path, content, told):
    (tmp_path / "0.jsonl").write_bytes(content)
    with pytest.raises(CorpusError, match=f"part: .*0.jsonl can't be read: {told}"):
        list(shards.documents(shards.Shard("part", str(tmp_path / "0.jsonl"))))


def test_an_empty_line_of_json_is_no_row(tmp_path):
    (tmp_path / "0.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n\n')
    assert list(shards.documents(shards.Shard("part", str(tmp_path / "0.jsonl")))) == [["a"], ["b"]]


def test_a_number_in_a_fault_of_a_file_is_no_answer_of_the_hub(tmp_path):
    (tmp_path / "0.txt").write_bytes(b"x" * 512 + b"\xff\n")
    with pytest.raises(CorpusError, match=r"0\.txt can't be read: it can't be used \(UnicodeDecodeError: .*512"):
        list(shards.documents(shards.Shard("part", str(tmp_path / "0.txt"))))


def test_plain_text_keeps_its_documents_where_rows_are_gathered(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n')
    files = [shards.Shard("part", str(tmp_path / name), rows_a_document=2) for name in ("a.txt", "a.jsonl")]
    assert [list(shards.documents(file)) for file in files] == [[["one", "two"], ["three"]]] * 2


@pytest.mark.parametrize("name", ["x.json.txt", "x.parquet.txt"])
def test_the_last_ending_of_a_name_tells_the_kind(tmp_path, name):
    (tmp_path / name).write_text("one\n\ntwo\n")
    assert list(shards.documents(shards.Shard("part", str(tmp_path / name)))) == [["one"], ["two"]]


def test_the_kind_of_a_file_is_in_its_own_name(tmp_path):
    folder = tmp_path / "x.json.d" / "y.parquet"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("one\n\ntwo\n")
    assert list(shards.documents(shards.Shard("part", str(folder / "a.txt")))) == [["one"], ["two"]]


def test_cc100_without_its_folder_is_refused_with_the_way_out(tmp_path, monkeypatch, vocabulary):
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    monkeypatch.setitem(MIXTURES, NAME, {"cc100": PARTS["cc100"]})
    with pytest.raises(CorpusError, match=r"no cc100 on the hub: .*cc100 must hold it; .*en.txt.xz .*c4\+roberta"):
        streamed(vocabulary)
    (tmp_path / NAME / "cc100").mkdir(parents=True)
    with pytest.raises(CorpusError, match=r"holds no file of cc100.*; it holds nothing"):
        streamed(vocabulary)


def test_only_files_of_text_are_read_and_the_others_named(tmp_path, monkeypatch, vocabulary, capfd):
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    monkeypatch.setitem(MIXTURES, NAME, {"cc100": PARTS["cc100"]})
    folder = tmp_path / NAME / "cc100"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("About this text.\n")
    (folder / "data" / "0.txt").write_text("one\n")
    (folder / "1.PARQUET").write_bytes(b"")  # Another ending to the reader of shards, which would take it for text.
    with pytest.raises(CorpusError, match=r"not in another folder; it holds 1\.PARQUET, README\.md, data$"):
        streamed(vocabulary)
    (folder / "0.txt").write_bytes("\ufeffone\r\ntwo\r\n\r\nthree\r\n".encode())
    assert part_files(NAME) == {"cc100": [str(folder / "0.txt")]}
    assert "cc100: 1.PARQUET, README.md, data not read" in capfd.readouterr().err
    shard = shards.Shard("cc100", str(folder / "0.txt"))
    assert list(shards.documents(shard)) == [["one", "two"], ["three"]]


def test_the_beginning_of_a_mixture_is_no_corpus():
    with pytest.raises(InputError, match="is streamed; leave out"):
        corpus.load(f"{NAME}, first 5 words")
    with pytest.raises(InputError, match="read in GPT-2's byte pairs"):
        corpus.load(NAME, "words")


def streamed_corpus(folder, vocabulary):
    """The mixture as `load` gives it, with a smaller vocabulary: validation text of its own, training text streamed."""
    vocabulary.save(folder / vocabulary.FILE)
    lines = [text("c4", 0, number, 50) for number in range(40)]
    tokens = vocabulary.encode_lines(lines)
    valid = corpus.Split("valid", tokens, 2000, 4000, 1, "")
    told = ("none", "none", "none", "none", "bytes", vocabulary.size, vocabulary.end_of_line)
    return corpus.Corpus(NAME, *told, {"valid": valid}, folder)


def streamed_training(folder):
    """A small run on the stream, with a recipe and a model without dropout, which several processes draw apart."""
    settle_cpu(1)
    read = streamed_corpus(folder, BytePairVocabulary.load(folder / BytePairVocabulary.FILE))
    config = config_for(read, processes=processes.count(), dtype="float32")
    return Training(replace(config, model=replace(config.model, **dict.fromkeys(DROPOUTS, 0.0))), read)


def train_streamed(folder, size):
    """What one of several processes does: steps of the stream, and a checkpoint in the middle."""
    small_pieces(setattr)
    with processes.group():
        training = streamed_training(folder)
        rows = [training.step() for _ in range(3)]
        saved = training.checkpoint()
        if not processes.rank():
            checkpoint.save(folder / f"{size}", saved, keep=1)
        rows += [training.step() for _ in range(3)]
        if not processes.rank():
            (folder / f"{size}.json").write_text(json.dumps(rows))


def test_a_run_on_the_stream_goes_on_with_another_number_of_processes(data, vocabulary, tmp_path):
    vocabulary.save(tmp_path / vocabulary.FILE)
    assert together(2, train_streamed, tmp_path, 2) == [0, 0]
    training = streamed_training(tmp_path)
    expected = [training.step() for _ in range(6)]
    assert json.loads((tmp_path / "2.json").read_text()) == [pytest.approx(row, rel=1e-5) for row in expected]
    resumed = streamed_training(tmp_path)
    resumed.restore(checkpoint.newest(tmp_path / "2"))
    assert [resumed.step() for _ in range(3)] == [pytest.approx(row, rel=1e-5) for row in expected[3:]]


def test_a_run_on_the_stream_that_is_stopped_ends_in_the_same_bits(data, vocabulary, tmp_path):
    read = streamed_corpus(tmp_path, vocabulary)
    config = config_for(read)
    assert config.lanes == 2 and config.stream_sha256 == read.training_sha256
    train(config, read, tmp_path / "whole")
    steps_done(half := Training(config, read), 5)
    checkpoint.save(tmp_path / "stopped" / "checkpoints", half.checkpoint(), keep=1)
    train(config, read, tmp_path / "stopped")
    whole, stopped = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped


def test_a_run_on_another_text_is_refused(data, vocabulary, tmp_path, monkeypatch):
    config = config_for(streamed_corpus(tmp_path, vocabulary))
    shutil.copytree(data / NAME, tmp_path / NAME)
    next((tmp_path / NAME / "stories").iterdir()).unlink()
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    with pytest.raises(TrainingError, match=f"corpus {re.escape(NAME)} has training stream "):
        train(config, streamed_corpus(tmp_path, vocabulary), tmp_path / "run")


def test_lanes_are_for_streamed_text():
    with pytest.raises(InputError, match="lanes=2: period is not streamed"):
        configure(RunSpec(method="alibi", train_length=32, lanes=2), period_corpus())

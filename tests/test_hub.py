"""Corpora of the hub, as `datasets` and `huggingface_hub` really ask a server on loopback."""

import hashlib
import random
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from folder_texts import write
from forked import HANGS_AFTER
from hub_process import (
    AT_ONCE,
    COUNTS,
    IDS,
    ROWS,
    SYMBOLS,
    TEXT,
    TOY,
    WIKITEXT,
    add_wikitext,
    ask,
    card,
    environment,
    refused,
    sized,
    unbuilt,
)
from loopback_hub import Hub, parquet

from alibi.corpora.bert import BERT_CASED
from alibi.corpora.hub import HUB, bookcorpus_split

pytestmark = pytest.mark.slow

BOOKCORPUS = HUB["bookcorpus"]


@pytest.fixture
def hub():
    with Hub() as opened:
        yield opened


def test_wikitext_from_the_hub(hub, tmp_path):
    add_wikitext(hub)
    add_wikitext(hub, rows={split: ["another text \n"] for split in ROWS}, revision="main")
    copied, streamed = (
        ask(hub.address, tmp_path / way, {"name": "wikitext-103", "streaming": way == "streamed"}, before=TOY)[0]
        for way in ("copied", "streamed")
        if not (tmp_path / way).mkdir()
    )
    assert copied == streamed
    assert copied["text"] == TEXT
    assert list(copied["text"]) == ["train", "valid", "test"]
    assert copied["ids"] == IDS
    assert copied["symbols"] == SYMBOLS
    assert copied["words"] == {"train": 14, "valid": 6, "test": 3}
    assert copied["unknown"] == {"train": 1, "valid": 2, "test": 1}
    assert copied["source"] == f"{WIKITEXT.repository}, wikitext-103-v1, at {WIKITEXT.revision}"
    # What was asked for: that repository, that revision, and the large files that it led to.
    asked = [path for _, path in hub.requests if not path.startswith("/store/")]
    assert asked
    assert all(f"datasets/{WIKITEXT.repository}/" in path and WIKITEXT.revision in path for path in asked)
    # A copy of the parquet files is kept only when not streaming.
    kept = {way: len(list((tmp_path / way / "hf").rglob("*.arrow"))) for way in ("copied", "streamed")}
    assert kept == {"copied": 3, "streamed": 0}


def test_wikitext_without_network(hub, tmp_path):
    add_wikitext(hub)
    load = {"name": "wikitext-103"}
    ask(hub.address, tmp_path, load, before=TOY)
    hub.close()
    shutil.rmtree(tmp_path / "cache" / "corpora" / "wikitext-103")
    for number, offline in enumerate(("1", "0")):
        more = {"HF_HUB_OFFLINE": offline, "ALIBI_CACHE": str(tmp_path / f"cache {number}")}
        assert ask(hub.address, tmp_path, load, before=f"{TOY}; {AT_ONCE}", **more)[0]["text"] == TEXT


def test_without_network_and_copy_the_ways_out_are_told(hub, tmp_path):
    hub.close()
    loads = [{"name": "wikitext-103"}, {"name": "wikitext-103, first 5 words, vocabulary 16"}, {"name": "bookcorpus"}]
    loads[2]["tokenisation"] = "bytes"
    for load, told in zip(loads, ask(hub.address, tmp_path, *loads, before=AT_ONCE), strict=True):
        corpus = load["name"].split(",")[0]
        first, *ways = refused(told).split("\n")
        assert f"{load['name']} can't be read from {HUB[corpus].where}: the hub can't be reached" in first
        bytes_ = " --tokenisation bytes" if "tokenisation" in load else ""
        assert f'python -m alibi data "{load["name"]}"{bytes_}' in ways[0]
        assert ("HF_HOME" in ways[0]) == ("first" not in load["name"]), "a beginning is streamed: a copy is no help"
        ending = "txt" if corpus == "bookcorpus" else "tokens"
        assert f"export ALIBI_DATA=FOLDER, where FOLDER/{corpus} holds train.{ending}, valid.{ending}" in ways[1]
        assert "--corpus wikipedia-sample" in ways[2] and "-p corpus=wikipedia-sample" in ways[2]
    assert unbuilt(tmp_path / "cache")


GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this dataset is restricted"}


@pytest.mark.parametrize(
    ("status", "headers", "meaning"),
    [
        (403, GATED, "the hub gives it only to accounts with access"),
        (401, {}, "the hub gives it only to accounts with access"),
        (429, {}, "the hub was asked too often"),
        (503, {}, "the hub has a fault of its own"),
        (0, {}, "the hub has no such repository, revision, split or file"),
    ],
)
def test_a_refusal_is_told_for_what_it_is(hub, tmp_path, status, headers, meaning):
    hub.status, hub.refusal = status, headers
    (told,) = ask(hub.address, tmp_path, {"name": "wikitext-103, first 5 words"}, before=AT_ONCE)
    assert f"{WIKITEXT.where}: {meaning}" in refused(told)


def test_an_offline_setting_is_told_for_what_it_is(hub, tmp_path):
    add_wikitext(hub)
    (told,) = ask(hub.address, tmp_path, {"name": "wikitext-103"}, before=AT_ONCE, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE forbids access to the hub, and there is no copy here" in refused(told)


def test_of_a_beginning_no_more_than_that_is_fetched(hub, tmp_path):
    noise = random.Random(0)
    lines = [f" line {number} of a text {noise.randbytes(500).hex()} \n" for number in range(20_000)]
    add_wikitext(hub, ROWS | {"train": lines}, rows_a_group=1000)
    sizes = COUNTS | {"train": 7 * len(lines)}
    load = {"name": "wikitext-103, first 6000 words, vocabulary 16"}
    (told,) = ask(hub.address, tmp_path, load, before=sized(sizes, 16))
    assert told["name"] == load["name"]
    # Six words a line; the held-out text is read whole.
    assert told["text"]["train"] == "".join(lines[:1000])
    assert {split: told["text"][split] for split in ("valid", "test")} == {s: TEXT[s] for s in ("valid", "test")}
    assert told["size"] == 16 and told["unknown"]["train"] > 1000
    assert hub.sent < len("".join(lines)) / 3, "the rest stays where it is"
    assert not list((tmp_path / "hf").rglob("*.arrow"))


def command(hub, tmp_path, *arguments):
    """A command as typed where the hub's WikiText-103 is the small one, and scale laptop reads its first 12 words."""
    (tmp_path / "command.py").write_text(f"""
import sys
from dataclasses import replace
from alibi.corpora.hub import HUB
from alibi.scale import SCALES
{TOY}
SCALES["laptop"] = replace(SCALES["laptop"], train_words=12, vocabulary_size=8)
{AT_ONCE}
from alibi.__main__ import main
if __name__ == "__main__":
    main()
""")
    typed = [sys.executable, str(tmp_path / "command.py"), *arguments]
    found = environment(hub.address, tmp_path, ALIBI_RESULTS=str(tmp_path / "results"))
    return subprocess.run(typed, cwd=tmp_path, env=found, capture_output=True, text=True, timeout=HANGS_AFTER)


def test_a_command_reads_what_its_scale_does(hub, tmp_path):
    repeated = ROWS | {"train": ROWS["train"][3:5] * 400}
    add_wikitext(hub, repeated)
    chosen = ["--method", "alibi", "--scale", "laptop", "--corpus", "wikitext-103", "--train-length", "4"]
    done = command(hub, tmp_path, "train", *chosen, "--out", "run")
    assert done.returncode == 2 and "the training stream holds" in done.stderr, "twelve words fill no batch"
    assert "wikitext-103: fetching the first 12 training words from Salesforce/wikitext" in done.stderr
    kept = [path.name for path in (tmp_path / "cache" / "corpora").glob("[!.]*")]
    assert kept == ["wikitext-103, first 12 words, vocabulary 8"]


def test_without_network_nothing_is_trained(hub, tmp_path):
    hub.close()
    done = command(hub, tmp_path, "reproduce", "wikitext103", "--scale", "laptop", "--methods", "alibi")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "can't be read from Salesforce/wikitext" in done.stderr and "--corpus wikipedia-sample" in done.stderr
    assert not (tmp_path / "cache" / "runs").exists() and not list((tmp_path / "results").glob("*"))


def test_openwebtext_from_the_hub(hub, tmp_path):
    rows = [f"document {number}\n\nits end\n" for number in range(9)]
    repository = HUB["openwebtext"]
    files = {f"plain_text/train-{number:05}-of-00002.parquet": parquet(rows[5 * number :][:5]) for number in range(2)}
    hub.add(repository.repository, {"README.md": card("plain_text", {"train": rows})} | files, repository.revision)
    loads = [{"name": "openwebtext"}, {"name": "openwebtext, first 8 words"}]
    whole, part = ask(hub.address, tmp_path, *loads, before="hub.HELD_OUT_DOCUMENTS = 2")
    assert whole["text"] == {"train": "".join(rows[4:]), "valid": "".join(rows[:2]), "test": "".join(rows[2:4])}
    assert part["text"] == whole["text"] | {"train": "".join(rows[4:6])}
    assert whole["tokenisation"] == "bytes"
    assert whole["source"] == f"{repository.repository}, plain_text, at {repository.revision}"


def no_repository(hub):
    pass


def other_revision(hub):
    add_wikitext(hub, revision="main")


def failing(hub):
    add_wikitext(hub)
    hub.status = 500


def other_column(hub):
    add_wikitext(hub, column="sentence")


def other_column_without_card(hub):
    add_wikitext(hub, column="sentence", with_card=False)


def no_test(hub):
    add_wikitext(hub, {split: rows for split, rows in ROWS.items() if split != "test"})


def other_configuration(hub):
    files = {f"wikitext-2-v1/{split}-00000-of-00001.parquet": parquet(rows) for split, rows in ROWS.items()}
    hub.add(WIKITEXT.repository, {"README.md": card("wikitext-2-v1", ROWS)} | files, WIKITEXT.revision)


def cut_short(hub):
    add_wikitext(hub)
    hub.spoil = lambda path, content: content[:-5] if "validation" in path else content


def no_parquet(hub):
    add_wikitext(hub)
    hub.spoil = lambda path, content: b"<html>".ljust(len(content)) if "validation" in path else content


@pytest.mark.parametrize(
    "state",
    [
        no_repository,
        other_revision,
        failing,
        other_column,
        pytest.param(other_column_without_card),
        no_test,
        other_configuration,
        cut_short,
        no_parquet,
    ],
)
def test_a_hub_without_the_text_is_refused(hub, tmp_path, state):
    state(hub)
    loads = [{"name": "wikitext-103", "streaming": streaming} for streaming in (True, False)]
    for told in ask(hub.address, tmp_path, *loads, before=f"{TOY}; {AT_ONCE}"):
        message = refused(told)
        for said in (WIKITEXT.repository, WIKITEXT.revision, "HF_HOME", "FOLDER/wikitext-103"):
            assert said in message
        if state in (no_repository, other_revision, no_test, other_configuration):
            assert "the hub has no such repository, revision, split or file" in message
    assert unbuilt(tmp_path / "cache")


def test_a_refused_build_leaves_nothing(hub, tmp_path):
    add_wikitext(hub)
    (told,) = ask(hub.address, tmp_path, {"name": "wikitext-103"})
    refused(told)
    assert [path.name for path in (tmp_path / "cache" / "corpora").iterdir()] == [".wikitext-103.lock"]


def test_other_counts_than_the_published_are_refused(hub, tmp_path):
    add_wikitext(hub)
    cases = {
        "": ("wikitext-103 train", WIKITEXT.repository, WIKITEXT.revision, " 20 tokens", "103,227,021"),
        sized(COUNTS | {"test": 6}, 16): ("wikitext-103 test", " 5 tokens", "are 6:"),
        sized(COUNTS, 24): ("wikitext-103 has 16 entries", "published are 24"),
    }
    every = ask(hub.address, tmp_path, *({"name": "wikitext-103", "before": before} for before in cases))
    for told, expected in zip(every, cases.values(), strict=True):
        message = refused(told)
        assert [said for said in expected if said not in message] == []
    assert unbuilt(tmp_path / "cache")


def test_a_copy_of_another_revision_does_not_pass_for_the_pinned_one(hub, tmp_path):
    add_wikitext(hub)
    add_wikitext(hub, revision="0" * 40)
    other = f"{TOY}; HUB['wikitext-103'] = replace(HUB['wikitext-103'], revision='{'0' * 40}')"
    ask(hub.address, tmp_path, {"name": "wikitext-103"}, before=other)
    (told,) = ask(
        hub.address,
        tmp_path,
        {"name": "wikitext-103"},
        before=TOY,
        HF_HUB_OFFLINE="1",
        ALIBI_CACHE=str(tmp_path / "other"),
    )
    assert WIKITEXT.revision in refused(told)


def test_a_folder_comes_before_the_hub(hub, tmp_path):
    add_wikitext(hub, {"train": ["a \n"], "validation": ["b \n"], "test": ["c \n"]})
    folder = tmp_path / "data" / "wikitext-103"
    write(folder, train=TEXT["train"], valid=TEXT["valid"], test=TEXT["test"])
    load = {"name": "wikitext-103"}
    nothing = "HUB['wikitext-103'] = replace(HUB['wikitext-103'], exact=False)"
    loads = [
        load,
        load | {"environment": {"ALIBI_DATA": str(tmp_path / "data")}},
        load | {"environment": {"ALIBI_DATA": str(tmp_path / "elsewhere")}},
    ]
    from_hub, from_folder, copied = ask(hub.address, tmp_path, *loads, before=nothing)
    assert from_hub["text"] == {"train": "a \n", "valid": "b \n", "test": "c \n"}
    assert from_hub["source"].startswith(WIKITEXT.repository)
    assert (from_folder["text"], from_folder["ids"], from_folder["source"]) == (TEXT, IDS, str(folder))
    assert copied == from_folder
    # Nor is the hub asked where there is a folder from the start.
    hub.requests.clear()
    more = {"ALIBI_DATA": str(tmp_path / "data"), "ALIBI_CACHE": str(tmp_path / "other")}
    assert ask(hub.address, tmp_path, load, before=TOY, **more) == [from_folder]
    assert hub.requests == []


# BookCorpus

# By hand: sha256("bookcorpus N") modulo 1000 is 0 or 1.
BLOCKS = [int(hashlib.sha256(f"bookcorpus {block}".encode()).hexdigest(), 16) % 1000 for block in range(10_000)]


def test_the_split_of_a_block_is_that_of_its_hash():
    splits = [bookcorpus_split(4096 * block) for block in range(len(BLOCKS))]
    assert splits == [bookcorpus_split(4096 * block + 4095) for block in range(len(BLOCKS))]
    assert splits == [{0: "valid", 1: "test"}.get(number, "train") for number in BLOCKS]
    counts = Counter(splits)
    # One in a thousand each, within four standard deviations.
    assert all(abs(counts[split] - 10) < 4 * 10**0.5 for split in ("valid", "test"))


WORDS = ["it", "was", "late", "night", "she", "said", "##s", "##ing", "walk", "walked", ",", ".", "He", "he"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


def tokenizer(normalizer="", vocabulary=BERT):
    """A small tokenizer.json of BERT's kind."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    made = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    kinds = {
        "": [normalizers.BertNormalizer(lowercase=False)],
        "bert": [normalizers.BertNormalizer(lowercase=True)],
        "sequence": [normalizers.Sequence([normalizers.NFC(), normalizers.BertNormalizer(lowercase=True)])],
        "plain": [normalizers.Lowercase()],
    }
    made.normalizer = kinds[normalizer][0]
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return made.to_str().encode()


SENTENCES_A_BLOCK = 2
LAST_BLOCK = max(BLOCKS.index(0), BLOCKS.index(1)) + 1
SENTENCES = [f"he walked , it was night {number} ." for number in range(SENTENCES_A_BLOCK * LAST_BLOCK + 1)]
SENTENCES[:2] = ["He walks", "walking Zebra"]
SMALL_BLOCKS = f"hub.SENTENCES_A_BLOCK = {SENTENCES_A_BLOCK}; bert.BERT_CASED_SIZE = {len(BERT)}"


def add_bookcorpus(hub):
    """As the hub has it: on the branch of converted files, in parts, without a card."""
    half = len(SENTENCES) // 2
    parts = (SENTENCES[:half], SENTENCES[half:])
    files = {f"plain_text/train/{number:04}.parquet": parquet(part) for number, part in enumerate(parts)}
    return hub.add(BOOKCORPUS.repository, files, BOOKCORPUS.revision)


def add_tokenizer(hub, **kind):
    return hub.add(BERT_CASED, {"tokenizer.json": tokenizer(**kind)}, kind="models")


def test_bookcorpus_from_the_hub(hub, tmp_path):
    commit = add_bookcorpus(hub)
    add_tokenizer(hub)
    load = {"name": "bookcorpus"}
    again = {"environment": {"ALIBI_CACHE": str(tmp_path / "streamed")}}
    copied, streamed = ask(
        hub.address, tmp_path, load, load | again | {"streaming": True}, before=f"{SMALL_BLOCKS}; {AT_ONCE}"
    )
    assert copied == streamed
    dealt = {"train": [], "valid": [], "test": []}
    for number, sentence in enumerate(SENTENCES):
        dealt[{0: "valid", 1: "test"}.get(BLOCKS[number // SENTENCES_A_BLOCK], "train")].append(sentence)
    assert copied["text"] == {split: "".join(f"{line}\n" for line in lines) for split, lines in dealt.items()}
    assert all(dealt.values())
    assert copied["tokenisation"] == "bert"
    assert copied["size"] == len(BERT)
    # Cased, in pieces, each line ended by [SEP], what can't be written in pieces unknown.
    piece = {symbol: number for number, symbol in enumerate(BERT)}
    first = [piece[symbol] for symbol in ["He", "walk", "##s", "[SEP]", "walk", "##ing", "[UNK]", "[SEP]"]]
    assert copied["ids"]["train"][: len(first)] == first
    assert copied["ids"]["valid"].count(piece["[SEP]"]) == len(dealt["valid"])
    assert copied["unknown"] == {split: ids.count(piece["[UNK]"]) for split, ids in copied["ids"].items()}
    assert copied["source"] == f"{BOOKCORPUS.repository} at {BOOKCORPUS.revision}"
    asked = [path for _, path in hub.requests if f"/{BOOKCORPUS.repository}/" in path]
    assert asked
    assert all(BOOKCORPUS.revision in path or commit in path for path in asked)
    # Without network the copies serve, those of text and tokenizer both.
    hub.close()
    more = {"HF_HUB_OFFLINE": "1", "ALIBI_CACHE": str(tmp_path / "offline")}
    assert ask(hub.address, tmp_path, load, before=SMALL_BLOCKS, **more) == [copied]


@pytest.mark.parametrize(
    "kind",
    ["bert", "sequence", pytest.param("plain")],
)
def test_a_lower_casing_vocabulary_is_refused(hub, tmp_path, kind):
    add_bookcorpus(hub)
    add_tokenizer(hub, normalizer=kind)
    message = refused(ask(hub.address, tmp_path, {"name": "bookcorpus"}, before=SMALL_BLOCKS)[0])
    assert BERT_CASED in message
    assert "lower-cased" in message
    assert unbuilt(tmp_path / "cache")


def test_the_beginning_of_a_dealt_corpus_has_the_held_out_text_that_it_holds(hub, tmp_path):
    add_bookcorpus(hub)
    words = len(" ".join(SENTENCES[: SENTENCES_A_BLOCK * (BLOCKS.index(0) + 3)]).split())
    load = {"name": f"bookcorpus, first {words} words", "tokenisation": "bytes"}
    (told,) = ask(hub.address, tmp_path, load, before=SMALL_BLOCKS)
    assert list(told["text"]) == ["train", "valid"], "the first block of test text comes later"
    assert told["text"]["valid"].splitlines() == SENTENCES[SENTENCES_A_BLOCK * BLOCKS.index(0) :][:SENTENCES_A_BLOCK]


def test_no_other_vocabulary_replaces_a_missing_one(hub, tmp_path):
    add_bookcorpus(hub)
    learned = {"name": "bookcorpus", "tokenisation": "bytes"}
    missing, asked_for = ask(hub.address, tmp_path, {"name": "bookcorpus"}, learned, before=SMALL_BLOCKS)
    message = refused(missing)
    for said in (BERT_CASED, "network", "HF_HOME", "--tokenisation bytes"):
        assert said in message
    assert asked_for["tokenisation"] == "bytes"
    assert [path.name for path in (tmp_path / "cache" / "corpora").glob("[!.]*")] == ["bookcorpus-bytes"]


def test_a_vocabulary_of_another_size_is_refused(hub, tmp_path):
    add_bookcorpus(hub)
    add_tokenizer(hub)
    (told,) = ask(hub.address, tmp_path, {"name": "bookcorpus"})
    assert f"has {len(BERT)} entries, not 28,996" in refused(told)


def test_a_broken_vocabulary_is_refused(hub, tmp_path):
    add_bookcorpus(hub)
    hub.add(BERT_CASED, {"tokenizer.json": b"{}"}, kind="models")
    assert BERT_CASED in refused(ask(hub.address, tmp_path, {"name": "bookcorpus"}, before=SMALL_BLOCKS)[0])

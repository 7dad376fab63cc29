"""A thousand bits flipped at random in files that hold numbers: each is told or changes nothing that is read.

What can't be told: files that were written before they had digests (finished runs, manifests of corpora, measurements
and records; their formats are read on), and a corpus's file above 1 GiB whose bits change without its time after its
first check. A flip in the name of a digest makes a file pass for an older one: what is read of it is the same.
"""

import dataclasses
import json
import random
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from small_run import period_corpus, small, steps_done

from alibi import checkpoint
from alibi.configuration import configure, read_run
from alibi.corpora.corpus import Corpus, load
from alibi.errors import UserError
from alibi.evaluate import evaluate
from alibi.records import MEASURED_COLUMNS, append, measured_results
from alibi.reproduction.merging import merge
from alibi.run_cache import store, stored
from alibi.run_spec import RunSpec
from alibi.runs import Run
from alibi.train import Training, train
from alibi.weights import load_model

pytestmark = pytest.mark.slow

TINY = {"layers": 1, "width": 8, "heads": 2, "feedforward": 8, "cutoffs": ()}
# The file of each kind, and its number of flips: 1,000 in all.
FLIPS = {
    "checkpoint": {checkpoint.TENSORS: 120, checkpoint.FACTS: 80, checkpoint.MANIFEST: 50},
    "words": {"train.bin": 40, "train.txt": 40, "dict.txt": 60, "manifest.json": 90},
    "bytes": {"valid.bin": 30, "valid.txt": 30, "tokenizer.json": 60, "manifest.json": 40},
    "run": {"model.safetensors": 70, "config.json": 90, "metrics.jsonl": 40},
    "measurement": {"evaluation.json": 60},
    "records": {"efficiency.csv": 60},
    "sent": {"efficiency.csv": 40},
}
assert sum(sum(files.values()) for files in FLIPS.values()) == 1000


@dataclasses.dataclass
class Kind:
    """Files of one kind in a folder, and how they are read: into a value that can be compared, or None if told."""

    folder: object
    read: object


def comparable(value):
    """The value in parts that `==` compares bit by bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, pd.DataFrame):
        return value.to_csv()
    if isinstance(value, dict):
        return {name: comparable(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value):
        return comparable({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    return value


def tiny_config(**changes):
    corpus = period_corpus(800)
    config = small(configure(RunSpec(method="alibi", train_length=16, steps=2), corpus))
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **TINY), **changes), corpus


@pytest.fixture
def kind(request, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("ALIBI_DATA", raising=False)
    monkeypatch.delenv("ALIBI_SMOKE", raising=False)
    return {
        "checkpoint": a_checkpoint,
        "words": a_corpus,
        "bytes": a_corpus,
        "run": a_run,
        "measurement": a_measurement,
        "records": records,
        "sent": sent,
    }[request.param](tmp_path, monkeypatch, request.param)


def a_checkpoint(folder, monkeypatch, name):
    config, corpus = tiny_config()
    training = Training(config, corpus)
    for _ in range(2):
        checkpoint.save(folder, steps_done(training, 1).checkpoint(), keep=2)

    def read():
        found = checkpoint.newest(folder)
        return found if found.step == 2 else None

    return Kind(folder / "000000002", read)


def a_corpus(folder, monkeypatch, name):
    text = folder / "data" / "tiny"
    text.mkdir(parents=True)
    dice = random.Random(0)
    for split in ("train", "valid"):
        lines = (" ".join(f"w{dice.randrange(40)}" for _ in range(10)) for _ in range(20))
        (text / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))
    with monkeypatch.context() as patch:
        patch.setenv("ALIBI_DATA", str(folder / "data"))
        cached = load("tiny", name).folder

    def read():
        # A copy without its source, which would be built again.
        found = load("tiny", name)
        fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(Corpus)}
        texts = {split: found.text(split) for split in found.splits}
        entries = found.vocabulary.decode(range(found.vocabulary_size))
        return fields | {"texts": texts, "vocabulary": entries}

    return Kind(cached, read)


def a_run(folder, monkeypatch, name):
    config, corpus = tiny_config()
    train(config, corpus, folder)

    def read():
        config, facts = read_run(folder)
        facts = {name: facts.get(name) for name in ("parameters", "tokens", "seconds", "device", "commit")}
        weights, metrics = load_model(folder).state_dict(), Run(config, corpus, folder).metrics()
        return {"config": config, "facts": facts, "weights": weights, "metrics": metrics}

    return Kind(folder, read)


def a_measurement(folder, monkeypatch, name):
    config, corpus = tiny_config()
    found = evaluate(Training(config, corpus).model, corpus.splits["valid"], 0, 16, prefix=64)
    store(found, folder / "evaluation.json")
    return Kind(folder, lambda: stored(type(found), folder / "evaluation.json"))


def rows(number):
    blank = dict.fromkeys(MEASURED_COLUMNS)
    given = {"method": "alibi", "metric": "perplexity", "scale": "quick", "device": "a CPU", "dtype": "float32"}
    made = [blank | given | {"seed": seed, "value": 17.123456 + seed, "eval_length": 64} for seed in range(number)]
    return pd.DataFrame(made)


def records(folder, monkeypatch, name):
    append("efficiency", rows(8))
    return Kind(folder / "results", measured_results)


def sent(folder, monkeypatch, name):
    append("efficiency", rows(4))
    (folder / "sent").mkdir()
    path = folder / "sent" / "efficiency.csv"
    path.write_bytes((folder / "results" / "efficiency.csv").read_bytes())

    def read():
        merged = merge([path])
        return dataclasses.asdict(merged), measured_results()

    return Kind(folder / "sent", lambda: repr(read()))


@pytest.mark.parametrize("kind", FLIPS, indirect=True)
def test_flipped_bits_are_told_or_harmless(kind, request, capsys):
    files = FLIPS[request.node.callspec.params["kind"]]
    dice, right, silent = random.Random(19), comparable(kind.read()), []
    assert right is not None
    counts = {name: Counter() for name in files}
    for name, number in files.items():
        path = kind.folder / name
        whole = path.read_bytes()
        for place in dice.sample(range(8 * len(whole)), number):
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
            path.write_bytes(damaged)
            capsys.readouterr()
            try:
                found = kind.read()
                told = capsys.readouterr().err if found is None else ""
            except UserError as error:
                found, told = None, str(error)
            if found is None:
                assert str(kind.folder) in told, f"bit {place} of {name} is told without its place: {told!r}"
                counts[name]["told"] += 1
            elif comparable(found) == right:
                counts[name]["harmless"] += 1
            else:
                silent.append((name, place, chr(whole[place // 8]), chr(damaged[place // 8])))
                counts[name]["silent"] += 1
        path.write_bytes(whole)
        assert comparable(kind.read()) == right
    print(json.dumps(counts))
    assert not silent
    # What is harmless touches no number, and is rare: the name of a digest.
    assert all(count["harmless"] <= 0.2 * count.total() for count in counts.values()), counts

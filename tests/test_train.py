"""Training: the files it writes, the same bits from the same seed, and what it refuses."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alibi import train as training
from alibi.corpus import Corpus, Split
from alibi.positions import METHODS
from alibi.train import TrainingError, configure, load_model, train


@pytest.fixture(scope="module")
def corpus():
    """A stream that repeats with period 9, which any model learns in a few steps."""
    tokens = np.resize(np.arange(9, dtype=np.uint16), 40_000)
    splits = {"train": Split("train", tokens, 20_000, 100_000, 1, hashlib.sha256(tokens).hexdigest())}
    return Corpus("period", "counts to nine", "none", "none", "none", 16, 0, splits, Path("nowhere"))


def small(config, **changes):
    shape = replace(config.model, layers=2, width=32, heads=4, feedforward=64, dropout=0.1)
    return replace(config, **({"model": shape, "batch_tokens": 512, "warmup_steps": 2} | changes))


def config_for(corpus, method="alibi", **changes):
    return small(configure(method, corpus, train_length=32, steps=12), **changes)


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_loss_and_writes_three_files(corpus, method, tmp_path):
    config = config_for(corpus, method, steps=60)
    train(config, corpus, tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"model.safetensors", "config.json", "metrics.jsonl"}
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 10, 20, 30, 40, 50, 59]
    assert rows[-1]["tokens"] == 60 * 512
    assert rows[0]["loss"] > 2.5 and rows[-1]["loss"] < 1.5
    facts = json.loads((tmp_path / "run" / "config.json").read_text())["run"]
    assert {"device", "torch_version", "commit", "date", "parameters", "tokens", "seconds"} <= facts.keys()
    model = load_model(tmp_path / "run")
    assert not model.training and model.config == config.model


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_same_seed_same_bits_other_seed_other_bits(corpus, tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        train(config_for(corpus, seed=seed), corpus, tmp_path / name)
        torch.randn(7)  # A run must not depend on what was drawn before it.
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_a_finished_run_is_not_run_again_and_another_is_refused(corpus, tmp_path):
    config = config_for(corpus)
    train(config, corpus, tmp_path)
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    train(config, corpus, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match="seed is 1, asked for 2"):
        train(replace(config, seed=2), corpus, tmp_path)
    with pytest.raises(TrainingError, match="has training stream"):
        train(replace(config, stream_sha256="0" * 64), corpus, tmp_path / "other")


def test_a_loss_that_is_not_finite_stops_before_the_optimiser_steps(corpus, tmp_path, monkeypatch):
    def broken(*arguments):
        model = decoder(*arguments)
        torch.nn.init.constant_(model.embedding.weight_VC, float("nan"))
        return model

    decoder = training.Decoder
    monkeypatch.setattr(training, "Decoder", broken)
    with pytest.raises(TrainingError, match="step 0: loss nan"):
        train(config_for(corpus), corpus, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_wrong_choices_are_refused_before_work(corpus):
    with pytest.raises(ValueError, match="'relative'; known are sinusoidal, rotary, t5, alibi"):
        configure("relative", corpus)
    with pytest.raises(ValueError, match="'huge'; known are quick, laptop, gpu"):
        configure("alibi", corpus, scale="huge")
    with pytest.raises(ValueError, match="train_length=4096: choose 1 to 2048"):
        configure("alibi", corpus, train_length=4096)
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="needs a CUDA GPU"):
            configure("alibi", corpus, scale="gpu")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"holds no finished run: config.json is missing"):
        load_model(tmp_path)


def test_ids_outside_the_vocabulary_are_refused(corpus, tmp_path):
    config = config_for(corpus)
    config = replace(config, model=replace(config.model, vocabulary_size=8))
    with pytest.raises(ValueError, match=r"token id 8 .* vocabulary of 8"):
        train(config, corpus, tmp_path)

"""Runs and checkpoints of every format that the package ever wrote go on, or are refused by name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import period_corpus

from alibi import checkpoint
from alibi.configuration import TrainingError, config_from, read_config
from alibi.train import train
from alibi.weights import load_model

pytestmark = pytest.mark.slow

FORMATS = Path(__file__).resolve().parent / "formats"
CORPUS = period_corpus(800)
REFUSED = {
    "acc0c0d": r"lacks fields \(tokenisation, recipe, tokens_at_once\)",
    "d2394dc": r"lacks fields \(tokenisation, recipe, tokens_at_once\)",
    "24c8919": r"lacks fields \(tokenisation\)",
}
READ = ("df3c90a", "3465b28", "13763ad", "1fa9862", "ec9969e", "fdb1a6f", "b704135")
OTHER_GROUPS = "t5-3465b28"


def copied(name, tmp_path):
    """The copy of a stopped run."""
    shutil.copytree(FORMATS / name / "checkpoints", tmp_path / "checkpoints")
    return checkpoint.newest(tmp_path / "checkpoints")


def loss(folder):
    """Mean loss of the first 64 tokens in nats."""
    tokens = torch.from_numpy(CORPUS.splits["train"].tokens[:65].astype("int64"))
    with torch.no_grad():
        nats = load_model(folder).negative_log_likelihood(tokens[:-1].view(4, 16), tokens[1:].view(4, 16))
    return nats.double().mean().item()


def loss_of_its_time(name):
    return json.loads((FORMATS / name / "loss.json").read_text())


def test_every_folder_is_read_or_refused():
    assert {path.name for path in FORMATS.iterdir() if path.is_dir()} == {*REFUSED, *READ, OTHER_GROUPS}


@pytest.mark.parametrize("name", [*READ, OTHER_GROUPS])
def test_a_finished_run_has_the_loss_of_its_time(name):
    assert read_config(FORMATS / name / "finished").model.decay_window is None
    assert loss(FORMATS / name / "finished") == pytest.approx(loss_of_its_time(name), rel=1e-6)


@pytest.mark.parametrize("name", READ)
def test_a_stopped_run_ends_as_it_did_in_its_time(name, tmp_path):
    found = copied(name, tmp_path)
    config = config_from(found.facts["config"])
    train(config, CORPUS, tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    # Rounding differs from machine to machine; on the one that wrote them the bits are the same.
    assert loss(tmp_path) == pytest.approx(loss_of_its_time(name), rel=1e-5)


def test_what_a_checkpoint_holds_matters(tmp_path):
    # The test of the test: other random numbers for dropout end elsewhere.
    found = copied(READ[-1], tmp_path)
    changed = torch.Generator().manual_seed(99).get_state()
    checkpoint.save(tmp_path / "checkpoints", replace(found, tensors=found.tensors | {"random.cpu": changed}), keep=1)
    train(config_from(found.facts["config"]), CORPUS, tmp_path)
    assert loss(tmp_path) != pytest.approx(loss_of_its_time(READ[-1]), rel=1e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_older_ones_are_refused_by_name(name, tmp_path):
    finished = FORMATS / name / "finished"
    with pytest.raises(TrainingError, match=f"{finished / 'config.json'} {REFUSED[name]}"):
        load_model(finished)
    if (FORMATS / name / "checkpoints").is_dir():
        found, newer = copied(name, tmp_path), copied(READ[0], tmp_path / "newer")
        with pytest.raises(TrainingError, match=f"{tmp_path / 'checkpoints' / '000000003'}.* {REFUSED[name]}"):
            train(config_from(newer.facts["config"]), CORPUS, tmp_path)
        assert checkpoint.newest(tmp_path / "checkpoints").facts == found.facts


def test_parameters_in_other_groups_are_refused_by_name(tmp_path):
    found = copied(OTHER_GROUPS, tmp_path)
    with pytest.raises(TrainingError, match=r"another version of alibi wrote the checkpoint of step 3: .*group"):
        train(config_from(found.facts["config"]), CORPUS, tmp_path)
    assert checkpoint.newest(tmp_path / "checkpoints").step == 3

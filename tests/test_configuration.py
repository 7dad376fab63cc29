"""A run that was stored by another version, cut or altered is named in one line, with file and field."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from small_run import config_for, period_corpus

from alibi import checkpoint
from alibi.__main__ import main
from alibi.configuration import TrainingError, configure, read_config
from alibi.errors import InputError
from alibi.files import sha256
from alibi.run_cache import config_hash
from alibi.run_spec import Bookkeeping, RunSpec
from alibi.train import StoppedError, Training, train
from alibi.weights import check_weights, load_model

CORPUS = period_corpus(3200)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(config_for(CORPUS, steps=1), CORPUS, folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def rewrite(path, change):
    """Changes a file of an older version, which wrote no digests into it."""
    stored = json.loads(path.read_text())
    for digest in ("config_sha256", "weights_sha256"):
        stored.get("run", {}).pop(digest, None)
    change(stored)
    path.write_text(json.dumps(stored))


LATER = {"compiled": False, "activation_checkpointing": False, "official_tail_gap": False}


def test_fields_that_came_later_have_their_defaults_which_one_line_tells(run, capsys):
    later = LATER | {"model.decay_window": None, "model.cutoffs": ()}

    def older(stored):
        for name in later:
            of, _, field = name.rpartition(".")
            del (stored[of] if of else stored)[field]

    rewrite(run / "config.json", older)
    for _ in range(2):
        config = read_config(run)
    for name, default in later.items():
        assert getattr(config.model if "." in name else config, name.rpartition(".")[2]) == default
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"warning: {run / 'config.json'} is of an earlier version")
    assert set(told.partition("defaults: ")[2].split(", ")) == {f"{name}: {default}" for name, default in later.items()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.pop("tokenisation"), r"lacks fields \(tokenisation\)"),
        (lambda c: (c.pop("steps"), c.pop("seed")), r"lacks fields \(steps, seed\)"),
        (lambda c: c["model"].pop("heads"), r"lacks fields \(model.heads\)"),
        (lambda c: c.pop("run"), "lacks the field run"),
        (lambda c: c.update(run=3), "lacks the field run"),
        (lambda c: c.update(rope_base=1), r"has unknown fields \(rope_base\)"),
        (lambda c: c["model"].update(experts=8), r"has unknown fields \(model.experts\)"),
        (lambda c: c.update(steps="12"), 'steps is "12", and should be an integer'),
        (lambda c: c.update(steps=True), "steps is true, and should be an integer"),
        (lambda c: c.update(steps=1.5), "steps is 1.5, and should be an integer"),
        (lambda c: c.update(compiled=1), "compiled is 1, and should be true or false"),
        (lambda c: c.update(device=None), "device is null, and should be a string"),
        (lambda c: c.update(learning_rate="fast"), "learning_rate is .fast., and should be a finite number"),
        (lambda c: c["model"].update(dropout=float("nan")), "model.dropout is NaN, and should be a finite number"),
        (lambda c: c.update(model=["x" * 1000]), r"model is \[.x{70,80}, and should be an object"),
        (lambda c: c.update(data_seed="3"), 'data_seed is "3", and should be an integer or null'),
        (lambda c: c.update(data_seed=True), "data_seed is true, and should be an integer or null"),
        (lambda c: c.update(method_rate=[1]), r"method_rate is \[1\], and should be a finite number or null"),
        (lambda c: c.update(threads=0), "threads is 0, and should be at least 1"),
        (lambda c: c["model"].update(cutoffs=[1, "2"]), r"model.cutoffs is .*, and should be a list of integers"),
    ],
)
def test_fields_that_are_not_understood_are_named(change, told, run):
    rewrite(run / "config.json", change)
    with pytest.raises(TrainingError, match=rf"{run / 'config.json'}:? {told}") as error:
        read_config(run)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 500


def test_whole_numbers_stand_for_others(run):
    rewrite(run / "config.json", lambda c: c.update(learning_rate=1))
    assert read_config(run).learning_rate == 1.0


@pytest.mark.parametrize("content", [b"", b'{"corpus": "period", "st', b"[1, 2]", b"\xff\xfe{}"])
def test_a_file_that_was_cut_is_named(content, run, monkeypatch, capsys):
    (run / "config.json").write_bytes(content)
    for command in (["evaluate", run], ["generate", run, "a"]):
        monkeypatch.setattr(sys, "argv", ["alibi", *map(str, command)])
        with pytest.raises(SystemExit, match="1"):
            main()
        told = capsys.readouterr().err
        assert told.startswith(f"python -m alibi: {run / 'config.json'} ") and told.count("\n") == 1


@pytest.mark.parametrize(
    "fields", [{"method": "alibi-9"}, {"heads": 5}, {"heads": 0}, {"width": -32}, {"decay_window": -1.0}]
)
def test_a_model_that_can_not_be_is_laid_to_the_file(fields, run):
    rewrite(run / "config.json", lambda c: c["model"].update(fields))
    with pytest.raises(TrainingError, match=f"{run / 'config.json'} describes no model: "):
        load_model(run)


def test_a_kernel_of_another_version_is_laid_to_the_file(run):
    rewrite(run / "config.json", lambda c: c.update(kernel="flash9"))
    with pytest.raises(TrainingError, match=r"config.json describes no model: .*'flash9'; choose from automatic"):
        load_model(run)


NAME = "layers.1.feedforward_in.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.update({NAME: torch.zeros(3, 32)}), rf"{NAME} is \(3, 32\), and should be \(64, 32\)$"),
        (lambda w: w.pop(NAME), rf"{NAME} is missing, and should be \(64, 32\)$"),
        (lambda w: w.update(more=torch.zeros(2)), r"more is \(2,\), and should be left out$"),
        (lambda w: [w.pop(n) for n in [*w] if n.endswith("bias")], r" is missing, .* \(\d+ others differ too\)$"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, told, run):
    weights = load_file(run / "model.safetensors")
    change(weights)
    save_file(weights, run / "model.safetensors")
    with pytest.raises(
        TrainingError, match=rf"{run / 'model.safetensors'} does not fit the model of config.json: .*{told}"
    ):
        load_model(run)


@pytest.mark.parametrize(("value", "told"), [(float("nan"), "not finite"), (float("inf"), "not finite"), (7, "int64")])
def test_weights_that_are_no_numbers_are_named(value, told, run):
    weights = load_file(run / "model.safetensors")
    weights[NAME] = torch.full_like(weights[NAME], value, dtype=torch.int64 if value == 7 else None)
    save_file(weights, run / "model.safetensors")
    with pytest.raises(TrainingError, match=f"{run / 'model.safetensors'}: {NAME} holds .*{told}"):
        load_model(run)


def test_whole_numbers_that_a_method_keeps_are_weights_too(run):
    model = load_model(run)
    model.positions.register_buffer("passes", torch.zeros((), dtype=torch.int64))
    check_weights(model, model.state_dict(), "here")


def test_more_layers_than_the_weights_have_are_refused_before_they_are_built(run):
    rewrite(run / "config.json", lambda c: c["model"].update(layers=10**9))
    with pytest.raises(TrainingError, match=r"model.layers is 1000000000, and model.safetensors has 2"):
        load_model(run)


def test_weights_that_are_missing_are_named(run):
    (run / "model.safetensors").unlink()
    with pytest.raises(
        TrainingError, match=f"{run / 'model.safetensors'} can't be read: .*remove the run and train it again"
    ):
        load_model(run)


@pytest.mark.skipif(os.name == "nt" or not os.geteuid(), reason="root may read everything")
def test_weights_without_permission_are_not_to_be_trained_again(run):
    (run / "model.safetensors").chmod(0)
    with pytest.raises(TrainingError, match=r"can't be read: .*Permission denied.*; its owner can allow it"):
        load_model(run)


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("steps", 2.0, "an integer"),
        ("steps", "2", "an integer"),
        ("seed", True, "an integer"),
        ("train_length", 128.0, "an integer"),
        ("learning_rate", float("inf"), "a finite number"),
        ("compiled", 1, "true or false"),
    ],
)
def test_a_request_that_could_not_be_read_back_is_refused_before_any_training(field, value, right):
    with pytest.raises(InputError, match=re.escape(f"{field}={value!r}: choose {right}")):
        configure(RunSpec(**{"method": "alibi", field: value}), CORPUS)


def test_the_weights_can_be_read_by_those_who_can_read_the_configuration(run):
    assert (run / "model.safetensors").stat().st_mode == (run / "config.json").stat().st_mode


def stopped_checkpoint(folder, monkeypatch):
    def stepping(self, right=Training.step):
        if self.done == 2:
            raise StoppedError("as if by a signal")
        return right(self)

    monkeypatch.setattr(Training, "step", stepping)
    with pytest.raises(StoppedError):
        train(config_for(CORPUS), CORPUS, folder, bookkeeping=Bookkeeping(checkpoint_every=1))
    monkeypatch.undo()
    return folder / "checkpoints" / "000000002"


def test_a_checkpoint_of_another_version_is_named(tmp_path, monkeypatch):
    place = stopped_checkpoint(tmp_path, monkeypatch)

    def told(name, change):
        rewrite(place / checkpoint.FACTS, change)
        digests = {name: sha256(place / name) for name in (checkpoint.TENSORS, checkpoint.FACTS)}
        (place / checkpoint.MANIFEST).write_text(json.dumps(digests))
        with pytest.raises(TrainingError, match=name):
            train(config_for(CORPUS), CORPUS, tmp_path)

    told("another version of alibi wrote the checkpoint of step 2: .*groups", lambda f: f["groups"].pop())
    told(rf"{place / 'facts.json'} has unknown fields \(rope_base\)", lambda f: f["config"].update(rope_base=1))


def test_a_checkpoint_of_other_weights_is_refused():
    first = Training(config_for(CORPUS), CORPUS)
    saved = first.checkpoint()
    saved.tensors["model." + NAME] = torch.zeros(3, 32)
    with pytest.raises(TrainingError, match=rf"the checkpoint of step 0 does not fit .*: {NAME} is \(3, 32\)"):
        first.restore(saved)


def test_without_a_compiler_the_flag_is_named_before_a_step(tmp_path):
    environment = os.environ | {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, ROOT / "tests" / "small_run.py", tmp_path / "run", json.dumps({"compiled": True})]
    done = subprocess.run(
        command, capture_output=True, text=True, env={k: v for k, v in environment.items() if k != "CXX"}
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("python -m alibi:")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(told) == 1 and "can't be compiled here" in told[0] and "--compiled False trains without" in told[0]
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_a_compiler_cache_that_can_not_be_written_is_not_laid_to_the_run(tmp_path, monkeypatch):
    def compile_(function):
        raise NotADirectoryError(20, "Not a directory", str(tmp_path / "cache"))

    monkeypatch.setattr(torch, "compile", compile_)
    with pytest.raises(TrainingError, match=r"can't be compiled here: .*cache.*; --compiled False trains"):
        Training(config_for(CORPUS, compiled=True), CORPUS)


def test_a_whole_number_and_a_float_of_its_value_are_one_run():
    whole, point = (
        configure(RunSpec(method="alibi", decay_window=kind(12), learning_rate=kind(1), method_rate=None), CORPUS)
        for kind in (int, float)
    )
    assert config_hash(whole) == config_hash(point)
    assert json.dumps(asdict(whole)) == json.dumps(asdict(point))


@pytest.mark.parametrize(
    ("kernel", "method", "told"),
    [
        ("window", "t5", "kernel window is for a linear bias with a decay window"),
        ("sdpa", "alibi-multiplied", "a MultipliedBias can't be added to scores: choose kernel reference or flex"),
    ],
)
def test_a_kernel_that_can_not_train_the_method_is_refused_before_any_training(kernel, method, told):
    with pytest.raises(InputError, match=told):
        configure(RunSpec(method=method, kernel=kernel), CORPUS)


def test_a_kernel_that_can_not_hold_a_decay_window_is_refused_before_any_training():
    with pytest.raises(InputError, match="columns of the keys can't hold a window: choose kernel window"):
        configure(RunSpec(method="alibi", kernel="columns", decay_window=12.0), CORPUS)


def test_flex_is_refused_for_a_model_with_attention_dropout_on_any_device():
    with pytest.raises(InputError, match="flex has no attention dropout"):
        configure(RunSpec(method="alibi", scale="paper", device="cuda", kernel="flex"), CORPUS)

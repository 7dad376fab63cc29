"""A run meets a machine that it was not trained on: no GPU, a CPU with another dtype, a cache that can't be written."""

import json
import os
import random
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from file_systems import read_only
from small_run import config_for, period_corpus, stop_after

from alibi import configuration
from alibi.__main__ import main
from alibi.configuration import TrainingError, configure, read_config, run_sha256
from alibi.corpora.corpus import load
from alibi.device import DTYPES, compute_dtype
from alibi.evaluate import evaluate
from alibi.run_cache import config_hash
from alibi.run_spec import RunSpec
from alibi.runs import trained
from alibi.train import StoppedError, train
from alibi.weights import load_model

pytestmark = pytest.mark.slow

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """A corpus that is built in a fraction of a second, in a cache of its own."""
    root, dice = tmp_path_factory.mktemp("machines"), random.Random(0)
    (root / "data" / "tiny").mkdir(parents=True)
    for split, lines in (("train", 300), ("valid", 10), ("test", 10)):
        text = "".join(" ".join(f"w{dice.randrange(300)}" for _ in range(20)) + "\n" for _ in range(lines))
        (root / "data" / "tiny" / f"{split}.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIBI_DATA", str(root / "data"))
        patch.setenv("ALIBI_CACHE", str(root / "cache"))
        patch.delenv("ALIBI_SMOKE", raising=False)
        yield root


@pytest.fixture
def alibi(monkeypatch, capsys):
    """Runs a command in this process: its exit status, its lines on stdout and on stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["alibi", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def command(out, *others):
    small = ["--train-length", 16, "--steps", 1]
    return ["train", "--method", "alibi", "--corpus", "tiny", "--out", out, *small, *others]


@pytest.fixture(scope="module")
def finished(tiny):
    config = configure(RunSpec(method="alibi", train_length=16, steps=1), load("tiny"))
    train(config, load("tiny"), tiny / "finished")
    return tiny / "finished"


def altered(run, folder, **fields):
    """A copy of this run whose configuration says something else, as another machine would have written it."""
    shutil.copytree(run, folder)
    stored = json.loads((folder / "config.json").read_text()) | fields
    stored["run"]["config_sha256"] = run_sha256(stored)
    (folder / "config.json").write_text(json.dumps(stored))
    return folder


def other(dtype):
    return next(name for name in DTYPES if name != dtype)


@without_gpu
def test_a_run_from_a_gpu_is_evaluated_on_the_cpu_which_is_told(finished, tmp_path, alibi):
    from_gpu = altered(finished, tmp_path / "run", device="cuda", kernel="flex", compiled=True)
    told = f"{from_gpu} was trained on cuda, which is not here: computing on the CPU\n"
    for name, *others in (["evaluate", "--lengths", 16, 64], ["generate", "w1 w2", "--tokens", 3]):
        right = alibi(name, finished, *others)
        status, out, err = alibi(name, from_gpu, *others)
        assert right[0] == status == 0 and right[1] == out
        assert err.count(told) == 1 and told not in right[2]
        assert "attention kernel flex was chosen for cuda; automatic here" in err
        status, out, err = alibi(name, from_gpu, *others, "--device", "cpu")
        assert (status, out) == (0, right[1]) and told not in err
    status, out, err = alibi(*command(from_gpu, "--kernel", "flex"))
    assert status == 0 and "perplexity" in out and told in err and "device is cuda, asked for cpu" in err


@without_gpu
def test_a_device_that_is_not_there_is_refused_before_work(finished, tmp_path, alibi):
    for arguments in (["evaluate", finished], ["generate", finished, "w1"]):
        status, out, err = alibi(*arguments, "--device", "cuda")
        assert (
            (status, out) == (1, "")
            and err.count("\n") == 1
            and "device cuda can't be used: torch sees no CUDA GPU;" in err
        )
        status, out, err = alibi(*arguments, "--device", "tpu")
        assert (status, out) == (2, "") and err.endswith("unknown device 'tpu'; choose from cpu, cuda, mps\n")
    for device in (["--device", "cuda"], ["--scale", "gpu"]):
        status, _, err = alibi(*command(tmp_path / "run", *device))
        assert status == 1 and "--device cpu trains on the CPU" in err and err.count("\n") == 1
    # Before a text is looked for, too.
    asked = ["train", "--method", "alibi", "--corpus", "absent", "--scale", "gpu", "--out", tmp_path / "run"]
    assert "torch sees no CUDA GPU" in alibi(*asked)[2] and "absent" not in alibi(*asked)[2]
    assert alibi(*command(tmp_path / "run", "--device", "tpu"))[0] == 2
    assert not (tmp_path / "run").exists()


def test_what_trains_is_chosen_by_flag_else_by_scale():
    corpus = load("tiny")
    for scale, device in (("quick", "cpu"), ("gpu", "cuda")):
        chosen = configure(RunSpec(method="alibi", scale=scale), corpus)
        assert (chosen.device, chosen.dtype, chosen.compiled) == (device, compute_dtype(device), device == "cuda")
    chosen = configure(RunSpec(method="alibi", scale="gpu", device="cpu", dtype="float32"), corpus)
    assert (chosen.device, chosen.dtype, chosen.compiled) == ("cpu", "float32", False)
    for wrong in ({"device": "tpu"}, {"dtype": "float16"}):
        with pytest.raises(ValueError, match=rf"unknown {next(iter(wrong))} '\w+'; choose from "):
            configure(RunSpec(method="alibi", **wrong), corpus)


def test_the_kernel_of_the_training_stays_on_its_device_alone(tmp_path):
    corpus = period_corpus(3200)
    train(config_for(corpus, kernel="reference", steps=1), corpus, tmp_path / "run")
    assert load_model(tmp_path / "run").kernel == "reference"
    if not torch.cuda.is_available():
        model = load_model(altered(tmp_path / "run", tmp_path / "gpu", device="cuda"))
        assert model.kernel == "automatic" and model.device.type == "cpu"
        found, right = (evaluate(m, corpus.splits["valid"], 0, 64).nats for m in (model, load_model(tmp_path / "run")))
        assert found == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stopped_in_one_dtype_a_run_goes_on_in_it(dtype, tmp_path, monkeypatch, capsys):
    corpus = period_corpus(3200)
    config = config_for(corpus, dtype=dtype)
    train(config, corpus, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StoppedError):
            train(config, corpus, tmp_path / "stopped")
    elsewhere = replace(config, dtype=other(dtype))
    with pytest.raises(TrainingError, match=f"holds another run .dtype is {dtype}, asked for {other(dtype)}"):
        train(elsewhere, corpus, tmp_path / "stopped", exact_dtype=True)
    capsys.readouterr()
    train(elsewhere, corpus, tmp_path / "stopped")
    told = f"the run began in {dtype} and keeps it; this machine would choose {other(dtype)}"
    assert told in capsys.readouterr().err
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert (whole / "model.safetensors").read_bytes() == (stopped / "model.safetensors").read_bytes()
    assert read_config(stopped) == config


def test_the_same_command_on_another_cpu_finds_its_run(finished, tmp_path, monkeypatch, alibi):
    run = altered(finished, tmp_path / "run")
    right = alibi(*command(run))
    stored = read_config(run).dtype
    monkeypatch.setattr(configuration, "compute_dtype", lambda device: other(stored))
    status, out, err = alibi(*command(run))
    assert (status, out) == (0, right[1]) and f"began in {stored} and keeps it" in err
    status, _, err = alibi(*command(run, "--dtype", other(stored)))
    assert status == 1 and f"dtype is {stored}, asked for {other(stored)}" in err
    assert alibi(*command(run, "--dtype", stored))[:2] == right[:2]


def test_a_dtype_is_chosen_for_a_new_run(tmp_path, alibi):
    for dtype in DTYPES:
        assert alibi(*command(tmp_path / dtype, "--dtype", dtype))[0] == 0
        assert read_config(tmp_path / dtype).dtype == dtype
    status, _, err = alibi(*command(tmp_path / "other", "--dtype", "float16"))
    assert status == 2 and "unknown dtype 'float16'; choose from bfloat16, float32" in err


def test_a_finished_run_is_read_where_nothing_can_be_written(tiny, capsys):
    def run():
        return trained("alibi", corpus="tiny", train_length=16, steps=1)

    right = run().records([16])
    both = run().evaluation(32).nats
    shutil.rmtree(run().folder / "evaluations")
    run().evaluation(16)
    capsys.readouterr()
    with read_only(tiny / "cache"):
        assert run().records([16]).equals(right)
        assert "warning:" not in capsys.readouterr().err
        assert run().evaluation(32).nats == both
        told = capsys.readouterr().err
        assert told.count("warning:") == 1 and "32-nonoverlapping-all-1.json can't be written" in told
        assert "measured, and not kept" in told
        with pytest.raises(TrainingError, match=r"runs can't be written: .*; ALIBI_CACHE names another folder"):
            trained("alibi", corpus="tiny", train_length=16, steps=2)
    assert os.listdir(run().folder / "evaluations") == ["tiny-valid-16-nonoverlapping-all-1.json"]


def test_an_evaluation_that_can_not_be_kept_is_not_lost(tiny, capsys):
    run = trained("alibi", corpus="tiny", train_length=16, steps=1)
    right = run.evaluation(48).nats
    shutil.rmtree(run.folder / "evaluations")
    (run.folder / "evaluations").write_text("in the way")
    assert run.evaluation(48).nats == right
    assert "48-nonoverlapping-all-1.json can't be written" in capsys.readouterr().err
    (run.folder / "evaluations").unlink()


@pytest.mark.parametrize("stored", ["", '{"length": 24', "[]", '{"length": 24}'])
def test_an_evaluation_that_was_cut_is_measured_again(stored, capsys):
    run = trained("alibi", corpus="tiny", train_length=16, steps=1)
    right = run.evaluation(24).nats
    path = run.folder / "evaluations" / "tiny-valid-24-nonoverlapping-all-1.json"
    path.write_text(stored)
    assert run.evaluation(24).nats == right
    assert f"warning: {path} can't be read" in capsys.readouterr().err
    assert run.evaluation(24).nats == right and "warning:" not in capsys.readouterr().err


def test_a_run_of_another_machine_has_the_hash_of_that_machine():
    run = trained("alibi", corpus="tiny", train_length=16, steps=1)
    run.__dict__["facts"] = run.facts | {"device": "another machine"}
    assert run.provenance()["config_hash"] == config_hash(run.config, "another machine")
    assert run.provenance()["config_hash"] not in run.folder.name

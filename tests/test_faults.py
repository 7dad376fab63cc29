"""A run that is stopped, killed or starved of disk goes on to the same bits; what is broken is named and left alone."""

import errno
import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import stat
import subprocess
from dataclasses import replace
from itertools import product

import forked
import pytest
import torch
from file_systems import read_only
from filelock import FileLock
from small_run import config_for, period_corpus, run_as_command, stop_after

from alibi import checkpoint, files
from alibi import train as training
from alibi.checkpoint import CheckpointError
from alibi.configuration import TrainingError
from alibi.run_spec import Bookkeeping
from alibi.train import StoppedError, train
from alibi.weights import load_model

pytestmark = pytest.mark.slow

CORPUS = period_corpus(3200)  # Six batches an epoch.


def _train(folder, told, options):
    descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    run_as_command(folder, options)


def process(folder, **options):
    """Exit status of a process that trains in the folder, minus the signal that ended it; what it told."""
    told = folder.with_suffix(".told")
    status = forked.status(forked.start(_train, folder, told, options))
    return status, told.read_text(encoding="utf-8")


def result(folder):
    """The weights, and every row of the metrics but for what time decides."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return (folder / "model.safetensors").read_bytes(), [
        {name: value for name, value in row.items() if name != "tokens_per_second"} for row in rows
    ]


def content(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(config_for(CORPUS), CORPUS, folder, bookkeeping=Bookkeeping(log_every=1, validate_every=10))
    return folder


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A folder with the checkpoints of steps 6, 7 and 8 of 12."""
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        with pytest.raises(StoppedError):
            go_on(tmp_path / "run", checkpoint_every=1, keep=3)
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [6, 7, 8]
    return tmp_path / "run"


def go_on(folder, **bookkeeping):
    train(
        config_for(CORPUS),
        CORPUS,
        folder,
        bookkeeping=Bookkeeping(**{"log_every": 1, "validate_every": 10} | bookkeeping),
    )


@pytest.mark.parametrize("step", range(1, 12))
def test_stopped_at_any_step_it_ends_in_the_same_bits(step, uninterrupted, tmp_path, monkeypatch):
    # Dropout is on, and step 6 begins an epoch.
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        with pytest.raises(StoppedError, match=f"SIGTERM: stopped after step {step} of 12"):
            go_on(tmp_path)
    go_on(tmp_path)
    assert result(tmp_path) == result(uninterrupted)
    assert not (tmp_path / "checkpoints").exists()


def test_a_second_ctrl_c_does_not_wait_for_the_step(tmp_path, monkeypatch):
    def pressed(self):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the step goes on")

    monkeypatch.setattr(training.Training, "step", pressed)
    with pytest.raises(KeyboardInterrupt, match="SIGINT"):
        go_on(tmp_path)


def test_a_signal_in_the_last_step_ends_what_would_follow(uninterrupted, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 12)
        with pytest.raises(StoppedError, match="SIGTERM: the training is done and saved in"):
            go_on(tmp_path)
    assert result(tmp_path) == result(uninterrupted)


@pytest.mark.parametrize("recipe", ["adamw", "paper"])
def test_the_same_for_each_recipe_and_for_several_stops(recipe, tmp_path, monkeypatch):
    config = config_for(CORPUS, recipe=recipe, tokens_at_once=128)
    train(config, CORPUS, tmp_path / "whole")
    for step in (3, 7, 10):
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(StoppedError):
                train(config, CORPUS, tmp_path / "stopped")
    train(config, CORPUS, tmp_path / "stopped")
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


STEPS, EVERY = 40, 2
IN_A_SAVE = ("tensors", "facts", "rename", "renamed", "older", "removal")
# Each with its step, counted from the newest checkpoint: after one save or more, so that the run comes on. A save
# follows every other step.
MOMENTS = [*((moment, 2 * EVERY) for moment in IN_A_SAVE), *product(("step", "row"), (EVERY + 1, 2 * EVERY))]


@pytest.fixture(scope="module")
def uninterrupted_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted process") / "run"
    assert process(folder, steps=STEPS, every=STEPS)[0] == 0
    return folder


def test_killed_once_at_each_moment_of_saves_and_steps(uninterrupted_process, tmp_path):
    folder = tmp_path / "run"
    for moment, later in random.Random(0).sample(MOMENTS, len(MOMENTS)):
        before = max(checkpoint.steps(folder / "checkpoints"), default=0)
        step = before + later
        kill = (moment, step, signal.SIGKILL)
        status, told = process(folder, steps=STEPS, every=EVERY, keep=1, signal_at=kill)
        assert status == -signal.SIGKILL, f"not killed at {moment} of step {step}: {told}"
        assert "warning" not in told and ("going on from step" in told) == (before > 0)
        assert bool(list((folder / "checkpoints").glob("*.part"))) == (moment in IN_A_SAVE[:3])
        assert checkpoint.newest(folder / "checkpoints").step > before
    status, told = process(folder, steps=STEPS, every=STEPS)
    assert status == 0 and "going on from step" in told and "warning" not in told
    assert result(folder) == result(uninterrupted_process)


@pytest.mark.parametrize("moment", ["step", "tensors"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_status_75_after_a_save(number, moment, uninterrupted_process, tmp_path):
    status, told = process(tmp_path / "run", steps=STEPS, every=20, signal_at=(moment, 20, number))
    assert status == 75 and f"{number.name}: stopped after step 20 of {STEPS}" in told
    assert "the same command goes on" in told and "Traceback" not in told
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").step == 20
    assert process(tmp_path / "run", steps=STEPS, every=STEPS)[0] == 0
    assert result(tmp_path / "run") == result(uninterrupted_process)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, remove])
@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.FACTS, checkpoint.MANIFEST])
def test_a_broken_checkpoint_is_passed_over_with_a_warning(harm, name, stopped, uninterrupted, capsys):
    harm(stopped / "checkpoints" / "000000008" / name)
    go_on(stopped)
    told = capsys.readouterr().err
    assert "warning: checkpoint" in told
    assert f"{stopped / 'checkpoints' / '000000008'} can't be used" in told
    assert f"going on from {stopped / 'checkpoints' / '000000007'}" in told
    assert result(stopped) == result(uninterrupted)


def test_a_save_before_broken_checkpoints_removes_neither_itself_nor_the_last_whole_one(tmp_path):
    for step in (100, 200, 300):
        checkpoint.save(tmp_path, checkpoint.Checkpoint(step, {"a": torch.zeros(1)}, {}), keep=3)
    for step in (200, 300):
        truncate(tmp_path / f"{step:09}" / checkpoint.TENSORS)
    checkpoint.save(tmp_path, checkpoint.Checkpoint(150, {"a": torch.ones(1)}, {}), keep=2)
    assert checkpoint.newest(tmp_path).step == 150
    assert checkpoint.steps(tmp_path) == [100, 150, 200, 300]
    checkpoint.save(tmp_path, checkpoint.Checkpoint(400, {"a": torch.ones(1)}, {}), keep=1)
    assert checkpoint.steps(tmp_path) == [400]


def test_without_a_whole_checkpoint_nothing_is_overwritten(stopped):
    for step in checkpoint.steps(stopped / "checkpoints"):
        flip_a_bit(stopped / "checkpoints" / f"{step:09}" / checkpoint.TENSORS)
    before = content(stopped)
    with pytest.raises(CheckpointError, match=r"every checkpoint is damaged: .*000000008.*000000007.*000000006"):
        go_on(stopped)
    assert content(stopped) == before


@pytest.fixture
def small_disk(tmp_path):
    """A disk that holds two checkpoints and not three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_the_last_checkpoint(small_disk, uninterrupted):
    folder = small_disk / "run"
    with pytest.raises(CheckpointError, match=r"step \d can't be written .*No space left.* checkpoint: 1") as told:
        go_on(folder, checkpoint_every=1, keep=10)
    assert "Make room and repeat the command: it goes on from the last" in str(told.value)
    assert str(folder) in str(told.value)
    assert checkpoint.newest(folder / "checkpoints") is not None
    assert not list(folder.rglob("*.part"))
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    go_on(folder)
    assert result(folder) == result(uninterrupted)


def test_a_disk_full_at_the_end_leaves_a_run_to_finish(small_disk, uninterrupted):
    folder = small_disk / "run"
    folder.mkdir()
    (small_disk / "ballast").write_bytes(bytes(690 * 1024))
    with pytest.raises(TrainingError, match=r"can't be written: .*No space left.*; the saved part of the run is whole"):
        go_on(folder, checkpoint_every=100)
    assert not (folder / "config.json").exists()
    (small_disk / "ballast").unlink()
    go_on(folder, keep=1)
    assert result(folder) == result(uninterrupted)


def test_an_old_checkpoint_that_can_not_be_removed_ends_nothing(stopped, uninterrupted, monkeypatch, capsys):
    monkeypatch.setattr(files, "_told", set())
    old = stopped / "checkpoints" / "000000006"
    with read_only(old):
        go_on(stopped, checkpoint_every=1, keep=1)
        assert capsys.readouterr().err.count(f"warning: {old} is no longer needed and can't be removed") == 1
        assert result(stopped) == result(uninterrupted)
        assert checkpoint.steps(stopped / "checkpoints") == [6]
        go_on(stopped)
    go_on(stopped)
    assert not (stopped / "checkpoints").exists()


def test_a_broken_checkpoint_gives_its_place_to_a_whole_one(stopped, monkeypatch):
    flip_a_bit(stopped / "checkpoints" / "000000008" / checkpoint.TENSORS)
    stop_after(monkeypatch, 8)
    with pytest.raises(StoppedError):
        go_on(stopped, keep=3)
    assert sorted(os.listdir(stopped / "checkpoints")) == ["000000006", "000000007", "000000008"]
    assert checkpoint.newest(stopped / "checkpoints").step == 8


def test_folders_that_can_not_be_synchronised_end_nothing(uninterrupted, tmp_path, monkeypatch, capsys):
    right = os.fsync

    def fsync(at):
        if stat.S_ISDIR(os.fstat(at).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        right(at)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(files, "_told", set())
    go_on(tmp_path, checkpoint_every=1)
    assert result(tmp_path) == result(uninterrupted)
    assert capsys.readouterr().err.count("warning: folders can't be synchronised") == 1


def test_rows_that_were_not_asked_for_are_not_missed(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StoppedError):
            train(config_for(CORPUS), CORPUS, tmp_path, bookkeeping=Bookkeeping(log_every=4, checkpoint_every=1))
    train(config_for(CORPUS), CORPUS, tmp_path, bookkeeping=Bookkeeping(log_every=1))
    assert "has no rows" not in capsys.readouterr().err
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted({0, 4, *steps}) and {5, 6, 7, 8, 9, 10, 11} <= set(steps)


def test_the_time_before_a_stop_counts():
    kept = training.Training(config_for(CORPUS), CORPUS)
    kept.seconds = 1000.0
    resumed = training.Training(config_for(CORPUS), CORPUS)
    resumed.restore(kept.checkpoint())
    assert resumed.seconds == 1000.0


def test_the_last_checkpoint_stays_until_the_weights_are_written(stopped, uninterrupted, monkeypatch):
    def full(path, *given, **named):
        if path.name == "model.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        return files.write_whole(path, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_whole", full)
        with pytest.raises(TrainingError, match="No space left"):
            go_on(stopped)
    assert checkpoint.steps(stopped / "checkpoints")
    go_on(stopped)
    assert result(stopped) == result(uninterrupted)


def test_a_broken_row_of_the_metrics_costs_no_other_row(stopped, uninterrupted, capsys):
    path = stopped / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    path.write_bytes(b"".join([*lines[:2], b"\0" * 40 + b"\n", *lines[3:], b'{"step": 8, "tok']))
    go_on(stopped)
    told = capsys.readouterr().err
    assert f"warning: {path}: lines 3 are no rows and are left out" in told
    assert f"warning: {path} has no rows of steps 2, before step 8 from which the run goes on" in told
    weights, rows = result(uninterrupted)
    assert result(stopped) == (weights, [row for row in rows if row["step"] != 2])


@pytest.mark.parametrize("begun", ["", '{"ste', '{"step": 0, "tok'])
def test_half_a_first_row_hinders_no_run(begun, uninterrupted, tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text(begun)
    go_on(tmp_path)
    assert "warning" not in capsys.readouterr().err and result(tmp_path) == result(uninterrupted)


@pytest.mark.parametrize("content", [b'{"epoch": 1}\n', b'{"step": 1, "loss": 2}\n', b"[1]\n", b"\xff\xfe\n", b"notes"])
def test_metrics_of_something_else_are_neither_erased_nor_continued(content, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(
        TrainingError, match=r"metrics\.jsonl holds another file, not the metrics of a run: move it away"
    ):
        go_on(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == content


def test_what_is_not_ours_is_left_alone(uninterrupted, tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    foreign = [".000000002.part", "000000002.part", "2", "notes.part", "0000000002", "٠٠٠٠٠٠٠٠٢"]
    for name in foreign[:3]:
        (folder / name).write_text("not ours")
    for name in foreign[3:]:
        (folder / name).mkdir()
        (folder / name / "file").write_text("not ours")
    (folder / "000000001.77.part").mkdir()  # Ours, of a process that was killed.
    before = content(folder)
    go_on(tmp_path, checkpoint_every=1, keep=1)
    assert result(tmp_path) == result(uninterrupted)
    assert content(folder) == before and sorted(os.listdir(folder)) == sorted(foreign)


def test_a_file_in_the_place_of_a_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "000000002").write_text("not ours")
    with pytest.raises(CheckpointError, match=r"a file that is not a checkpoint has its name: .*000000002") as told:
        go_on(tmp_path, checkpoint_every=1)
    assert "room" not in str(told.value) and "with a checkpoint: 1. Mend that and repeat" in str(told.value)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["000000001", "000000002"]


def test_a_changed_setting_is_refused_and_a_changed_machine_told(stopped, uninterrupted, capsys):
    config, before = config_for(CORPUS), content(stopped)
    other_width = replace(config.model, width=64)
    for changed, told in [
        (replace(config, seed=5), "seed is 1, asked for 5"),
        (replace(config, steps=13), "steps is 12, asked for 13"),
        (replace(config, model=other_width), "model.width is 32, asked for 64"),
        (replace(config, seed=5, learning_rate=0.5), r"learning_rate is 0.002, asked for 0.5; seed is 1, asked for 5"),
    ]:
        with pytest.raises(TrainingError, match=told):
            train(changed, CORPUS, stopped)
    longer = period_corpus(3600)
    with pytest.raises(TrainingError, match=r"stream_sha256 is \w{64}, asked for \w{64}"):
        train(config_for(longer), longer, stopped)
    assert content(stopped) == before
    train(
        replace(config, torch_version="2.0"),
        CORPUS,
        stopped,
        bookkeeping=Bookkeeping(log_every=1, validate_every=10, keep=5),
    )
    assert "torch_version is" in capsys.readouterr().err
    assert result(stopped) == result(uninterrupted)


def test_two_processes_in_one_folder(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingError, match=f"another process trains in {tmp_path}"):
        go_on(tmp_path)


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file" / "run", "/proc/alibi"):
        with pytest.raises(TrainingError, match="can't be written"):
            go_on(tmp_path / folder)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_is_never_run(stopped, tmp_path):
    harm = pickle.dumps(Malicious(tmp_path / "ran"))
    for step in checkpoint.steps(stopped / "checkpoints"):
        place = stopped / "checkpoints" / f"{step:09}"
        for name in (checkpoint.TENSORS, checkpoint.FACTS):
            (place / name).write_bytes(harm)
        digests = {name: hashlib.sha256(harm).hexdigest() for name in (checkpoint.TENSORS, checkpoint.FACTS)}
        (place / checkpoint.MANIFEST).write_text(json.dumps(digests))
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        go_on(stopped)
    shutil.rmtree(stopped)
    go_on(stopped)
    (stopped / "model.safetensors").write_bytes(harm)
    with pytest.raises(TrainingError, match=r"model.safetensors can't be read"):
        load_model(stopped)
    assert not (tmp_path / "ran").exists()
    # The test of the test: read as a pickle it does run.
    pickle.loads(harm)
    assert (tmp_path / "ran").exists()

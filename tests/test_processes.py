"""Several processes at one run: what one process learns and measures, checkpoints for any number, and their ends."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import weakref
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import forked
import pytest
import torch
from forked import started, together
from small_run import DROPOUTS, config_for, period_corpus
from torch.nn.parallel import DistributedDataParallel

from alibi import checkpoint, processes
from alibi.configuration import TrainingError, configure
from alibi.device import settle_cpu
from alibi.errors import InputError
from alibi.evaluate import evaluate
from alibi.model import Decoder
from alibi.run_spec import RunSpec
from alibi.train import Training, train
from alibi.weights import load_model

pytestmark = pytest.mark.slow

CORPUS = period_corpus(3200)  # Six batches an epoch, so that ten steps cross one.
CASES = {
    "adamw, tied": {"cutoffs": (), "recipe": "adamw", "method": "alibi"},
    "paper, adaptive, several passes": {
        "cutoffs": (4, 8),
        "recipe": "paper",
        "learning_rate": 0.5,
        "method": "sinusoidal",
        "tokens_at_once": 64,
    },
    "small batch, adaptive, layers computed again": {
        "cutoffs": (4, 8),
        "recipe": "adamw-small-batch",
        # The T5 table learns 30 times as fast as the rest, and AdamW makes steps of rounding too.
        "learning_rate": 1e-3,
        "method": "t5",
        "activation_checkpointing": True,
    },
}
STEPS, HALF = 10, 5


def case_config(case, size=1, parallel="ddp"):
    chosen = dict(CASES[case])
    cutoffs, method = chosen.pop("cutoffs"), chosen.pop("method")
    config = config_for(CORPUS, method, steps=STEPS, dtype="float32", processes=size, parallel=parallel, **chosen)
    return replace(config, model=replace(config.model, cutoffs=cutoffs, **dict.fromkeys(DROPOUTS, 0.0)))


def steps_of(training, steps):
    settle_cpu(1)
    return [training.step() for _ in range(steps)]


def keep(folder, name, training, rows):
    """Rows (loss and gradient norm) and state, as the first process has them."""
    saved = training.checkpoint()
    if not processes.rank():
        checkpoint.save(folder / name, saved, keep=1)
        (folder / name / "rows.json").write_text(json.dumps(rows))


def resumed(folder, name, config):
    training = Training(config, CORPUS)
    found = checkpoint.newest(folder / name)
    training.restore(found if not processes.rank() else replace(found, tensors={}))
    return training


def scores(config, folder):
    """What an evaluation finds with the weights of a new model, by several protocols."""
    torch.manual_seed(3)
    model = Decoder(config.model)
    kinds = {"nonoverlapping": (32, None), "sliding": (32, 5)}
    split = CORPUS.splits["valid"]
    found = {
        kind: evaluate(model, split, CORPUS.end_of_line, *window, prefix=900, batch_tokens=100)
        for kind, window in kinds.items()
    }
    (folder / f"scores of {processes.rank()} of {processes.count()}.json").write_text(
        json.dumps({kind: [one.nats, *one.nats_by_position, *one.nats_by_article] for kind, one in found.items()})
    )


def work(folder, size):
    """Each case with DDP and with FSDP: whole runs, runs from a checkpoint of one process, runs to a checkpoint."""
    with processes.group():
        for case in CASES:
            for parallel in ("ddp", "fsdp"):
                config = case_config(case, size, parallel)
                training = Training(config, CORPUS)
                rows = steps_of(training, HALF)
                keep(folder, f"{case} {parallel} {size} half", training, rows)
                rows += steps_of(training, STEPS - HALF)
                keep(folder, f"{case} {parallel} {size}", training, rows)
                if size == 2:
                    for other in (f"{case} 1 half", f"{case} {parallel} 4 half"):
                        training = resumed(folder, other, config)
                        keep(folder, f"{other} then {parallel} 2", training, steps_of(training, STEPS - HALF))
        scores(config, folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with all that one, four and two processes did, in this order."""
    folder = tmp_path_factory.mktemp("processes")
    for case in CASES:
        training = Training(case_config(case), CORPUS)
        rows = steps_of(training, HALF)
        keep(folder, f"{case} 1 half", training, rows)
        keep(folder, f"{case} 1", training, rows + steps_of(training, STEPS - HALF))
    scores(case_config(case), folder)
    for size in (4, 2):
        assert together(size, work, folder, size) == [0] * size
    return folder


def held(folder, name):
    rows = json.loads((folder / name / "rows.json").read_text())
    weights = {n: x for n, x in checkpoint.newest(folder / name).tensors.items() if n.startswith("model.")}
    for name, weight in weights.items():
        if name.endswith("queries_keys_values.bias"):
            # The softmax cancels the bias of keys, whose gradient is rounding alone; Adam makes steps of it.
            weight.chunk(3)[1].zero_()
    return torch.tensor(rows, dtype=torch.float64), weights


def same_but_for_rounding(found, expected):
    (rows, weights), (expected_rows, expected_weights) = found, expected
    torch.testing.assert_close(rows, expected_rows[-len(rows) :], rtol=1e-5, atol=0)
    assert weights.keys() == expected_weights.keys()
    for name, weight in expected_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=2e-5 * float(weight.abs().max()), msg=name)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("case", CASES)
def test_several_processes_learn_what_one_learns(case, parallel, size, done):
    same_but_for_rounding(held(done, f"{case} {parallel} {size}"), held(done, f"{case} 1"))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_goes_on_with_another_number_of_processes(case, parallel, done):
    expected = held(done, f"{case} 1")
    for before in (f"{case} 1 half", f"{case} {parallel} 4 half"):
        same_but_for_rounding(held(done, f"{before} then {parallel} 2"), expected)
    for size in (2, 4):
        training = resumed(done, f"{case} {parallel} {size} half", case_config(case))
        rows = steps_of(training, STEPS - HALF)
        name = f"{case} {parallel} {size} then 1"
        keep(done, name, training, rows)
        same_but_for_rounding(held(done, name), expected)


def test_several_processes_measure_the_same_number_to_the_last_digit(done):
    expected = json.loads((done / "scores of 0 of 1.json").read_text())
    for size in (2, 4):
        for rank in range(size):
            assert json.loads((done / f"scores of {rank} of {size}.json").read_text()) == expected


def command(folder, options):
    """Trains as a process of torchrun does, in small_run's way; what it tells goes to a file of its own."""
    from small_run import run_as_command

    told = os.open(folder.with_suffix(f".told-{os.environ['RANK']}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(told, 1)
    os.dup2(told, 2)
    run_as_command(folder, options)


def torchrun(folder, restarts=0, **options):
    """Exit status of torchrun with two processes, and what they and it tell."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    launcher += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    script = Path(__file__).with_name("small_run.py")
    ran = subprocess.run(
        [sys.executable, *launcher, script, folder, json.dumps(options)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=forked.HANGS_AFTER,
    )
    return ran.returncode, ran.stderr


def result(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = [row.pop("tokens_per_second", None) for row in rows]
    assert all(times)
    return (folder / "model.safetensors").read_bytes(), rows


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert together(2, command, folder, {"every": 3}) == [0, 0]
    told = [folder.with_suffix(f".told-{rank}").read_text() for rank in range(2)]
    assert "12 steps of 512 tokens" in told[0] and told[1] == ""
    assert load_model(folder).config.layers == 2
    return folder


def test_a_killed_process_ends_all_and_a_restart_goes_on_to_the_same_bits(uninterrupted, tmp_path):
    # Dropout is on. The second process dies while the first begins to write.
    kill = {"signal_at": ("gathered", 6, signal.SIGKILL), "rank": 1, "every": 3}
    status, told = torchrun(tmp_path / "run", restarts=1, **kill)
    assert status == 0, told
    assert "(exitcode: -9) local_rank: 1" in told and re.search("going on from step [36]", told)
    assert result(tmp_path / "run") == result(uninterrupted)


def test_one_error_names_the_process_and_a_request_to_end_saves_first(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    status, told = torchrun(folder, signal_at=("tensors", 6, signal.SIGKILL), rank=0, every=3)
    assert status == 1 and told.count("python -m alibi: ") == 1
    assert "process 0 of 2 ended" in told and "the same command goes on from the last checkpoint" in told
    root_cause = told.split("Root Cause")[1]
    assert re.search(r"rank +: 0 ", root_cause) and "exitcode  : -9" in root_cause
    assert checkpoint.steps(folder / "checkpoints") == [3]
    # Only the second process has it from the launcher before the first does: all end after the same step.
    ask = {"signal_at": ("step", 8, signal.SIGTERM), "rank": 1, "to_launcher": True}
    status, told = torchrun(folder, every=30, **ask)
    assert status != 0 and "going on from step 3" in told
    stopped = re.findall(r"python -m alibi: SIGTERM: stopped after step (\d+) of 12", told)
    assert len(stopped) == 1 and checkpoint.steps(folder / "checkpoints")[-1] == int(stopped[0]) >= 8
    assert together(2, command, folder, {"every": 3}) == [0, 0]
    assert result(folder) == result(uninterrupted)


def test_a_request_to_end_that_one_process_gets_ends_all_with_status_75(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    options = {"signal_at": ("step", 5, signal.SIGTERM), "rank": 1, "every": 30}
    assert together(2, command, folder, options) == [75, 75]
    assert checkpoint.steps(folder / "checkpoints") == [5]
    assert together(2, command, folder, {"every": 3}) == [0, 0]
    assert result(folder) == result(uninterrupted)


def hang(folder):
    processes.PATIENCE = timedelta(seconds=3)
    try:
        with processes.group():
            if processes.rank() == 1:
                signal.pause()
            processes.wait()
    except processes.ProcessLostError as lost:
        (folder / "told").write_text(str(lost))


def test_a_process_that_hangs_is_named_after_a_time(tmp_path):
    (first, hanging), _store = started(2, hang, tmp_path)
    try:
        assert forked.status(first) == 0
    finally:
        hanging.kill()
    assert (tmp_path / "told").read_text().startswith("process 1 of 2 did not answer within 0.05 minutes")


def refuse(folder):
    try:
        with processes.group():
            raise InputError("wrong in every process")
    except InputError:
        (folder / f"told by {os.environ['RANK']}").touch()
        sys.exit(InputError.exit_status)


def test_an_error_of_all_is_told_once(tmp_path):
    assert together(2, refuse, tmp_path) == [2, 2]
    assert len(list(tmp_path.iterdir())) == 1


def forget_the_model():
    with processes.group():
        model = DistributedDataParallel(torch.nn.Linear(2, 2))
        model(torch.ones(1, 2)).sum().backward()
        world = weakref.ref(torch.distributed.group.WORLD)
    del model
    gc.collect()
    assert world() is not None


def test_a_group_outlives_its_models():
    """A reducer that frees its group may wait without end for a thread of gloo."""
    assert together(2, forget_the_model) == [0, 0]


def test_what_several_processes_can_not_share_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="unknown parallel 'pipeline'; choose from ddp, fsdp"):
        configure(RunSpec(method="alibi", parallel="pipeline"), CORPUS)
    with pytest.raises(InputError, match=r"parallel=fsdp is for several processes: torchrun .* starts them"):
        configure(RunSpec(method="alibi", parallel="fsdp"), CORPUS)
    with pytest.raises(TrainingError, match="configured for 2 processes, and here are 1"):
        train(case_config("adamw, tied", 2), CORPUS, tmp_path / "run")
    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(
        InputError, match="16 blocks of a step can't be dealt evenly to 3 processes; choose from 1, 2, 4"
    ):
        configure(RunSpec(method="alibi"), CORPUS)
    ran = subprocess.run(
        [sys.executable, "-m", "alibi", "reproduce"],
        env=os.environ | {"TORCHELASTIC_RUN_ID": "test"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2 and "reproduce takes one process: start it without torchrun" in ran.stderr

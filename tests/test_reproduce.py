"""Experiments as data, and the engine that runs what is missing of them and keeps records."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from forked import HANGS_AFTER

from alibi import configuration
from alibi.configuration import TrainingError
from alibi.corpora.reading import Reading
from alibi.device import DTYPES, compute_dtype
from alibi.errors import InputError
from alibi.files import locked
from alibi.interruption import UnfinishedError
from alibi.planning import USUAL_SHARE
from alibi.positions import METHODS, PAPER_METHODS
from alibi.progress import duration
from alibi.records import MEASURED_COLUMNS, TYPES, append, measured_results
from alibi.reproduction import plan as reproduction_plan
from alibi.reproduction import runner, training_cell
from alibi.reproduction.choice import Choice, cells, dealt, seeds_named, shard_named
from alibi.reproduction.claims import CLAIMS
from alibi.reproduction.control import ControlCell
from alibi.reproduction.evaluations import Measure
from alibi.reproduction.evidence import CONTROLS
from alibi.reproduction.experiments import EXPERIMENTS, module
from alibi.reproduction.later_rules import LATER_CLAIMS
from alibi.reproduction.merging import append_unrecorded
from alibi.reproduction.plan import as_json, listing, plan, states, supposed
from alibi.reproduction.runner import ReproduceError, reproduce
from alibi.reproduction.speed_cells import AttentionCell, DecayWindowCell, SpeedCell
from alibi.reproduction.training_cell import TrainingCell
from alibi.run_cache import run_folder
from alibi.run_spec import RunSpec
from alibi.runs import trained
from alibi.scale import SCALES

SPEC = RunSpec(method="alibi", train_length=64, seed=21)
TINY = TrainingCell(SPEC, measures=(Measure(64), Measure(96, 1, 32)))
OF_TINY = [("wikitext103", TINY)]


@pytest.fixture
def results(monkeypatch, tmp_path, tmp_path_factory):
    """Runs of two steps, records in a folder of their own."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    cache.mkdir(exist_ok=True)
    monkeypatch.setenv("ALIBI_CACHE", str(cache))
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path))
    monkeypatch.setenv("ALIBI_SMOKE", "2")
    return tmp_path


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_experiment_lists_cells_at_every_scale(experiment, scale):
    found = cells(Choice(experiment, scale, seeds=(0, 1)))
    assert len(set(found)) == len(found) == len({cell.title for cell in found})
    assert found == cells(Choice(experiment, scale, seeds=(0, 1))), "the order is the same each time"
    assert all(cell.scale == scale for cell in found)
    assert {method for cell in found for method in cell.methods} <= {*METHODS, *CONTROLS}
    trained_cells = [cell for cell in found if type(cell) is TrainingCell]
    # The first seed of every cell comes before the second of any, and speed, which has none, after both.
    # noise_floor compares a seed with one that is 1,000 above it.
    seeds = [cell.spec.seed % 1000 for cell in trained_cells]
    assert seeds == sorted(seeds) and seeds.count(0) == seeds.count(1)
    assert all(cell.measures or cell.reading for cell in trained_cells)
    splits = {measure.split for cell in trained_cells for measure in cell.measures}
    assert splits <= {"valid", "test"} if experiment == "test_split" else splits <= {"valid"}
    assert all(cell.alone for cell in found if isinstance(cell, SpeedCell | AttentionCell))
    assert f"python -m alibi reproduce {experiment} --scale" in module(experiment).__doc__


@pytest.mark.parametrize("scale", SCALES)
def test_the_test_split_is_read_by_runs_of_wikitext103_in_the_windows_of_the_validation_split(scale):
    of_validation = {
        cell.spec: {measure.length for measure in cell.measures if not measure.skip and measure.stride is None}
        for cell in cells(Choice("wikitext103", scale))
        if isinstance(cell, TrainingCell)
    }
    found = cells(Choice("test_split", scale))
    assert {cell.spec.method for cell in found} == set(PAPER_METHODS)
    for cell in found:
        windows = {
            split: [measure.length for measure in cell.measures if measure.split == split]
            for split in ("valid", "test")
        }
        assert windows["valid"] == windows["test"] and set(windows["test"]) <= of_validation[cell.spec]
        assert max(windows["test"]) >= 16 * cell.train_length


@pytest.mark.parametrize("experiment", ["after_alibi", "reads_further"])
@pytest.mark.parametrize("scale", SCALES)
def test_what_is_asked_of_later_methods_needs_no_run_of_its_own_for_the_papers(experiment, scale):
    first = {cell.spec for cell in cells(Choice("wikitext103", scale)) if isinstance(cell, TrainingCell)}
    found = [cell.spec for cell in cells(Choice(experiment, scale))]
    assert {spec for spec in found if spec.method in (*PAPER_METHODS, "none")} <= first
    assert set(found) <= {cell.spec for cell in cells(Choice("after_alibi", scale))}


@pytest.mark.parametrize("length", [64, 128])
def test_measures_of_reading_cost_at_most_a_quarter_of_the_training(length):
    for method in ("alibi", "t5"):
        (cell,) = cells(Choice("reads_further", "laptop", methods=[method], lengths=[length]))
        training, reading = cell.flops()
        of_own_steps = training * SCALES["laptop"].steps / cell.spec.steps
        assert 0.05 < reading / of_own_steps < 0.25


def test_a_split_that_is_to_be_evaluated_on_is_missed_before_any_training(results, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path / "data"))
    for name, split in (("mine", "train"), ("held", "test")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / f"{split}.txt").write_text("a b c\n" * 9)
    mine, held = replace(SPEC, corpus="mine"), replace(SPEC, corpus="held")
    for spec, read, missing in ((mine, None, "mine .*'valid'"), (mine, "held", "held .*'valid'"),
                                (held, "mine", "held .*'train'")):  # fmt: skip
        with pytest.raises(ValueError, match=f"{missing}; it has"):
            replace(TINY, spec=spec, eval_corpus=read).prepare()
    for read in (None, "held"):
        with pytest.raises(ValueError, match="no split 'valid'"):
            replace(TINY, spec=mine, eval_corpus=read).flops()


def test_lengths_stand_for_the_papers():
    for scale in SCALES.values():
        stand_for = {cell.train_length * scale.paper_factor for cell in cells(Choice("wikitext103", scale.name))}
        assert stand_for <= {64, 128, 256, 512, 1024, 1536, 2048, 3072}
        assert scale.batch_tokens % scale.train_length == 0
    laptop = cells(Choice("wikitext103", "laptop"))
    assert {(m, c.train_length) for c in laptop for m in c.methods} == {
        *((m, n) for m in (*PAPER_METHODS, *CONTROLS) for n in (64, 128, 384)), ("none", 64), ("none", 128),
    }  # fmt: skip
    read = Reading.named(laptop[0].spec.corpus)
    assert (read.corpus, read.train_words) == ("wikitext-103", SCALES["laptop"].train_words)
    assert laptop[0].eval_corpus is None
    # Trained at L / 6, evaluated at L: claim 6.
    assert 384 in {m.length for m in laptop[0].measures} and laptop[0].train_length == 64


def test_choices_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="choose from all, wikitext103, bookcorpus"):
        cells(Choice("wikitext", "quick"))
    with pytest.raises(ValueError, match="unknown scale 'huge'"):
        cells(Choice("wikitext103", "huge"))
    with pytest.raises(ValueError, match="unknown position method 'rope'"):
        cells(Choice("wikitext103", "quick", methods=("rope",)))
    with pytest.raises(ValueError, match="no such cell; it has alibi at 128"):
        cells(Choice("wikitext103", "quick", lengths=(64,)))
    for seeds in ((), (-1,), (0, 2**63)):
        with pytest.raises(ValueError, match=r"seeds=.*: choose at least one, from 0 to 2\*\*63 - 1"):
            Choice("efficiency", "quick", seeds=seeds)
    for shard in ((1, 0), (4, 3), (0, 3)):
        with pytest.raises(ValueError, match=r"shard=.*: choose a number from 1 to the number of shards"):
            Choice("efficiency", "quick", shard=shard)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_another_text_may_be_chosen(experiment, monkeypatch, tmp_path):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    for name, splits in (("wikipedia", ["train"]), ("mine", ["train", "valid"]), ("books", ["train", "valid"])):
        (tmp_path / name).mkdir()
        for split in splits:
            (tmp_path / name / f"{split}.txt").write_text("a b\n")
    trained_on = {
        "wikipedia": "wikipedia, vocabulary 16384 -> wikitext-103",
        "mine": "mine",
        "books": "books",
        "wikipedia-sample": "wikipedia-sample",
        "wikitext-2": "wikitext-2, vocabulary 16384",
    }
    usual = cells(Choice(experiment, "laptop"))
    # The experiment's own text by its name is that text, tokenisation and all.
    owned = {Reading.named(cell.spec.corpus).corpus for cell in usual if isinstance(cell, TrainingCell)}
    assert len(owned) == (experiment != "retrieval"), "one text, but where windows are generated"
    assert all(cells(Choice(experiment, "laptop", corpus=own)) == usual for own in owned)
    for name, used in trained_on.items():
        found = cells(Choice(experiment, "laptop", corpus=name))
        assert [cell.title for cell in found] == [cell.title for cell in usual]
        assert {cell.corpus_used for cell in found if isinstance(cell, TrainingCell)} == ({used} if owned else set())
    with pytest.raises(ValueError, match="unknown corpus 'wikipedias'; choose from"):
        cells(Choice(experiment, "laptop", corpus="wikipedias"))


def test_a_part_of_the_own_text_is_read_as_the_own_text_is():
    usual = cells(Choice("bookcorpus", "laptop"))
    (part,) = {cell.spec.corpus for cell in usual}
    assert part == "bookcorpus, first 20M words" and {cell.spec.tokenisation for cell in usual} == {"bytes"}
    assert cells(Choice("bookcorpus", "laptop", corpus=part)) == usual
    other = cells(Choice("bookcorpus", "laptop", corpus="wikipedia-sample"))
    assert {cell.spec.tokenisation for cell in other} == {None}


@pytest.mark.slow  # Seconds, though it trains nothing.
def test_a_text_that_is_read_more_than_once_is_told(results, capfd):
    replace(TINY, spec=replace(SPEC, steps=3000)).prepare()
    replace(TINY, spec=replace(SPEC, steps=3000, seed=4)).prepare()
    told = [line for line in capfd.readouterr().err.splitlines() if "is read" in line]
    assert len(told) == 1 and told[0].startswith("wikipedia-sample: the text is read 1")
    replace(TINY, spec=replace(SPEC, steps=10)).prepare()
    assert "is read" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_cell_is_run_once_and_recorded_whole(results, capfd):
    assert [state.recorded for state in states(OF_TINY)] == [False]
    reproduce(OF_TINY)
    found = measured_results("wikitext103")
    assert list(found.columns) == MEASURED_COLUMNS
    assert set(found.source) == {"wikitext103"} and set(found.paper_length) == {512} and set(found.seed) == {21}
    assert set(zip(found.eval_length, found.stride.fillna(0), strict=True)) == {(64, 0), (96, 1)}
    # A smoke run says so, and does not pass for the cell.
    assert found.smoke.all()
    assert not states(OF_TINY)[0].recorded


@pytest.mark.slow
def test_decay_windows_of_a_smoke_run_say_so_and_do_not_pass_for_the_cell(results):
    (cell,) = (each for each in cells(Choice("efficiency", "quick")) if isinstance(each, DecayWindowCell))
    rows = cell.records().astype(TYPES)
    assert rows.smoke.all() and not cell.recorded(rows)
    assert not cell.recorded(rows.assign(smoke=False)), "two steps of training are not those of the cell"
    assert not cell.recorded(rows.assign(tokens_trained=cell.tokens))
    assert cell.recorded(rows.assign(smoke=None, tokens_trained=cell.tokens).astype(TYPES))


@pytest.mark.slow
def test_what_is_recorded_is_not_run_again(results, monkeypatch):
    run = trained("alibi", train_length=64, seed=21)
    rows = pd.concat([run.records([64]), run.records([96], 1, prefix=32)])
    whole = rows.assign(tokens_trained=TINY.tokens, smoke=False)
    append("wikitext103", whole[whole.eval_length == 64])
    assert not TINY.recorded(measured_results("wikitext103"))
    append("wikitext103", whole[whole.eval_length == 96])
    assert TINY.recorded(measured_results("wikitext103"))
    for other in (
        {"seed": 22},
        {"train_length": 32},
        {"steps": 299},
        {"method": "t5"},
        {"corpus": "wikipedia"},
        {"decay_window": 2.0},
    ):
        assert not replace(TINY, spec=replace(SPEC, **other)).recorded(measured_results("wikitext103"))
    # One that can't be run here keeps nobody from seeing the others' states.
    refused = ("wikitext103", replace(TINY, spec=replace(SPEC, train_length=4096)))
    assert "1 of 2 cells recorded; left: about 0 s on this machine, without the 1 ref" in listing(
        states([*OF_TINY, refused])
    )
    with pytest.raises(InputError, match="train_length=4096"):
        states([refused])
    # Nor is it run if another command recorded it after this one began.
    receiving, _ = multiprocessing.Pipe()
    monkeypatch.setattr(runner, "follow", lambda end: None)
    monkeypatch.setattr(TrainingCell, "records", None)
    runner._work("wikitext103", TINY, 0, receiving)
    monkeypatch.setattr(runner, "CONTEXT", None)  # A worker could not be started.
    reproduce(OF_TINY)
    assert "1 of 1 cells recorded; left: about 0 s" in listing(states(OF_TINY))


def test_cells_whose_records_could_not_be_told_apart_are_refused(monkeypatch):
    twice = [TINY, replace(TINY, spec=replace(SPEC, tokenisation="bytes"))]
    monkeypatch.setitem(EXPERIMENTS, "sweep", lambda *_: twice)
    with pytest.raises(InputError, match="experiment sweep has two cells 'alibi, L = 64, seed 21'"):
        cells(Choice("sweep", "quick"))


@pytest.mark.slow
def test_what_another_command_recorded_meanwhile_is_not_recorded_again(results, monkeypatch):
    monkeypatch.setattr(runner, "follow", lambda end: None)
    (control,) = cells(Choice("wikitext103", "quick", methods=["trigram-cache"], corpus="wikipedia-sample"))
    receiving, _ = multiprocessing.Pipe()
    for _ in range(2):
        runner._work("wikitext103", control, 0, receiving)
    found = measured_results("wikitext103")
    assert len(found) == len(control.numbers()) and control.recorded(found)


# A rate that no file holds in full: read back, it has seven digits. Records of before rates were recorded lack it.
@pytest.mark.slow
@pytest.mark.parametrize("written", [0.004 / 3, None])
def test_a_recorded_cell_that_gained_a_measure_adds_only_its_new_numbers(results, written):
    run = trained("alibi", train_length=64, seed=21)
    rows = pd.concat([run.records([64]), run.records([96], 1, prefix=32)]).assign(learning_rate=0.004 / 3)
    append("wikitext103", rows[rows.eval_length == 64].assign(value=7.0, learning_rate=written))
    append_unrecorded("wikitext103", rows)
    append_unrecorded("wikitext103", rows)
    found = measured_results("wikitext103")
    assert len(found) == len(rows) and set(found.eval_length) == {64, 96}
    assert set(found.value[found.eval_length == 64]) == {7.0}, "the first record stays"


@pytest.mark.slow
def test_a_record_of_a_smoke_run_does_not_stand_for_the_number(results):
    rows = trained("alibi", train_length=64, seed=21).records([64])
    append("wikitext103", rows.assign(smoke=True, value=7.0))
    append_unrecorded("wikitext103", rows.assign(smoke=False))
    found = measured_results("wikitext103")
    assert len(found[~found.smoke]) == len(rows) == len(found) / 2


@pytest.mark.slow
def test_records_of_several_processes_all_arrive(results):
    rows = trained("alibi", train_length=64, seed=21).records([64]).assign(commit="1234e5")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append, args=("slopes", rows.assign(seed=seed))) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = measured_results("slopes")
    assert sorted(found.seed) == sorted(list(range(4)) * len(rows))
    assert set(found.commit) == {"1234e5"}  # Not a number, though it looks like one.
    assert found.value.tolist() == pytest.approx(rows.value.tolist() * 4, rel=1e-6)
    assert [path.name for path in results.glob("[!.]*")] == ["slopes.csv"]  # A lock lies beside it.
    assert len(measured_results()) == len(found) and measured_results("bookcorpus").empty


@pytest.mark.slow
def test_a_failing_cell_is_named_and_the_others_run(results, capfd):
    broken = replace(TINY, spec=replace(SPEC, train_length=4096))
    with pytest.raises(ReproduceError, match=r"1 cells failed: wikitext103: alibi, L = 4096, seed 21 \(exit"):
        reproduce([("wikitext103", broken), *OF_TINY])
    told = capfd.readouterr().err
    assert "wikitext103: alibi, L = 4096, seed 21: train_length=4096: choose 1 to 2048" in told
    assert re.search(r"[12] of 2: wikitext103: alibi, L = 4096, seed 21: failed \(exit status 2\) after", told)
    assert "wikitext103: alibi, L = 64, seed 21: recorded after" in told
    assert set(measured_results("wikitext103").train_length) == {64}


@pytest.mark.slow
def test_two_measurements_never_run_side_by_side(results, capfd):
    lock = Path(os.environ["ALIBI_CACHE"]) / "locks" / "measurement.lock"
    lock.parent.mkdir(exist_ok=True)
    with locked(lock), pytest.raises(ReproduceError, match=r"1 cells failed: efficiency: attention at 128 \(exit"):
        reproduce([("efficiency", AttentionCell("quick", 128))])
    assert f"another process measures speed or memory and holds {lock}" in capfd.readouterr().err
    assert measured_results("efficiency").empty


# Steps of seconds: a signal falls into the middle of one, and others that follow it do too.
SLOW = """
    from alibi.__main__ import COMMANDS, main
    from alibi.reproduction.evaluations import Measure
    from alibi.reproduction.training_cell import TrainingCell
    from alibi.reproduction.runner import fill_cache
    from alibi.run_spec import RunSpec

    def fill() -> None:
        \"\"\"Fills.\"\"\"
        fill_cache([TrainingCell(RunSpec(method="t5", train_length=2048, seed=24), measures=(Measure(64),))])
        print("filled")

    if __name__ == "__main__":
        COMMANDS.clear()
        COMMANDS.update(fill=fill, other=fill)
        main()
"""


def interrupted(arguments, name, interrupt):
    """Exit status, output and errors of a process that is interrupted while a run of this name trains."""
    environment = {name: value for name, value in os.environ.items() if name != "ALIBI_SMOKE"}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    before = {path: path.stat().st_size for path in trained_rows(name)}
    while not any(path.stat().st_size > before.get(path, 0) for path in trained_rows(name)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    interrupt(process)
    # Their end, by which the children have ended too: they share the pipes.
    output, errors = process.communicate(timeout=HANGS_AFTER)
    return process.returncode, output, errors


def trained_rows(name):
    return (Path(os.environ["ALIBI_CACHE"]) / "runs").glob(f"{name}-*/metrics.jsonl")


def saved(name):
    """The checkpoints of a run, and what was left in the middle of being written."""
    folders = list((Path(os.environ["ALIBI_CACHE"]) / "runs").glob(f"{name}-*"))
    found = [path for folder in folders for path in folder.glob("checkpoints/*/manifest.json")]
    return found, [path for folder in folders for path in folder.rglob("*.part")]


def ctrl_c(process):
    os.killpg(process.pid, signal.SIGINT)


def terminated_by_make(process):
    os.killpg(process.pid, signal.SIGTERM)
    process.terminate()


@pytest.mark.slow
def test_a_stopped_run_goes_on(results):
    command = ["-m", "alibi", "reproduce", "slopes", "--methods", "alibi-half", "--seeds", "23"]
    status, output, errors = interrupted(command, "alibi-half-quick-128-seed23", ctrl_c)
    assert status == 75, errors
    assert output.startswith("missing") and output.count("0 of 1 cells recorded; left: about") == 2
    assert "the same command goes on from there" in errors and "Traceback" not in errors
    assert errors.endswith("python -m alibi: SIGINT: 1 of 1 cells of slopes are left; the same command goes on\n")
    checkpoints, left = saved("alibi-half-quick-128-seed23")
    assert len(checkpoints) == 1 and not left
    assert measured_results("slopes").empty


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interrupt", "status", "told"),
    [
        (ctrl_c, 75, "python -m alibi: SIGINT: 1 of 1 cells are left; the same command goes on\n"),
        (terminated_by_make, 75, "python -m alibi: SIGTERM: 1 of 1 cells are left; the same command goes on\n"),
        (subprocess.Popen.kill, -signal.SIGKILL, "the same command goes on from there\n"),
    ],
)
def test_one_interruption_ends_a_slow_step_and_saves(results, interrupt, status, told):
    script = results / "fill.py"
    script.write_text(textwrap.dedent(SLOW))
    for rows in trained_rows("t5-quick-2048-seed24"):
        shutil.rmtree(rows.parent)
    found, output, errors = interrupted([str(script), "fill"], "t5-quick-2048-seed24", interrupt)
    assert found == status, errors
    assert errors.endswith(told) and "Traceback" not in errors and not output
    checkpoints, left = saved("t5-quick-2048-seed24")
    assert len(checkpoints) == 1 and not left


@pytest.mark.slow
def test_time_that_is_over_leaves_cells_and_says_so(results):
    with pytest.raises(UnfinishedError, match="1e-06 minutes are over: 2 of 2 cells of slopes are left; the same comm"):
        reproduce([("slopes", TINY), ("slopes", replace(TINY, spec=replace(SPEC, seed=22)))], minutes=1e-6)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_time_that_is_over_is_told_by_its_status_though_a_cell_failed(results, monkeypatch):
    monkeypatch.setenv("ALIBI_DATA", str(results / "nothing"))
    absent = replace(TINY, spec=replace(SPEC, corpus="absent"))
    told = (
        r"1e-06 minutes are over: 2 of 2 cells of slopes are left, 1 of them failed: slopes: alibi, L = 64, seed 21 "
        r"\(not prepared\); the same command goes on"
    )
    with pytest.raises(UnfinishedError, match=told):
        reproduce([("slopes", absent), ("slopes", TINY)], minutes=1e-6)


def test_records_that_can_not_be_written_are_told_before_any_work(results, monkeypatch):
    (results / "file").write_text("in the way")
    monkeypatch.setenv("ALIBI_RESULTS", str(results / "file" / "results"))
    monkeypatch.setattr(runner, "CONTEXT", None)  # A worker could not be started.
    with pytest.raises(ValueError, match=r"slopes.csv can't be written: .*results is not a folder"):
        reproduce([("slopes", TINY)])


@pytest.mark.slow
def test_the_command_line_lists_and_refuses():
    def run(*arguments):
        command = [sys.executable, "-m", "alibi", "reproduce", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    listed = run("cc100_roberta", "--scale", "quick", "--list")
    assert listed.returncode == 0 and "sinusoidal, L = 128, seed 0" in listed.stdout
    assert "280 steps" in listed.stdout  # 46,700 of 50,000 updates, in equal time.
    assert "5 cells recorded; left: about" in listed.stdout
    dry = run("wikitext103", "--methods", "t5", "--dry-run")
    assert json.loads(dry.stdout[: dry.stdout.index("\n}\n") + 2])["model"]["method"] == "t5"
    wrong = run("wikitext")
    assert wrong.returncode == 2 and "unknown experiment 'wikitext'; choose from all, wikitext103" in wrong.stderr
    every = run("--list", "--json", "--seeds", "0-1")
    (document,) = [json.loads(every.stdout)]
    assert {cell["experiment"] for cell in document} == set(EXPERIMENTS)
    assert {cell["seed"] for cell in document} == {0, 1, 1000, 1001, None} and all(cell["state"] for cell in document)
    wrong = run("--json")
    assert wrong.returncode == 2 and "choose --list --json" in wrong.stderr and not wrong.stdout


@pytest.mark.slow
def test_a_scale_is_estimated_without_its_text_and_without_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path))
    monkeypatch.delenv("ALIBI_DATA", raising=False)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "alibi", "reproduce", "wikitext103", "--scale", "paper", "--dry-run"]
    dry = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert dry.returncode == 0, dry.stderr
    config = json.loads(dry.stdout[: dry.stdout.index("\n}\n") + 2])
    assert config["model"]["vocabulary_size"] == 267_744 and config["steps"] == 286_000
    assert "wikitext-103 is not here: the estimate takes its published sizes" in dry.stdout
    assert "the estimate is for this machine's CPU" in dry.stdout and "years on this machine" in dry.stdout
    assert not (tmp_path / "corpora").exists(), "nothing was fetched"


def test_each_part_of_a_cell_is_estimated_in_its_dtype(results, monkeypatch):
    """Evaluations are float32, and so are the small models of retrieval, whatever a device trains in natively."""
    rates = {"bfloat16": 4e11, "float32": 1e11}
    monkeypatch.setattr(reproduction_plan, "matmul_rate", lambda device, dtype: rates[dtype])
    monkeypatch.setattr(reproduction_plan, "compute_dtype", lambda device: "bfloat16")
    cell = replace(TINY, spec=replace(SPEC, seed=99))
    (small,) = cells(Choice("retrieval", "quick", methods=["alibi"]))
    for one, of_training in ((cell, 4e11), (small, 1e11)):
        training, evaluations = one.flops()
        (state,) = states([("slopes", one)])
        assert state.seconds == pytest.approx((training / of_training + evaluations / 1e11) / USUAL_SHARE)
    half = cell.config().steps // 2
    (run_folder(cell.config()) / "checkpoints" / f"{half:09}").mkdir(parents=True)
    (state,) = states([("slopes", cell)])
    training, evaluations = cell.flops()
    left = training * (1 - half / cell.config().steps)
    assert state.told == "begun" and state.seconds == pytest.approx((left / 4e11 + evaluations / 1e11) / USUAL_SHARE)
    # The decay windows are as many evaluations of one model.
    (windows,) = [cell for cell in cells(Choice("efficiency", "quick")) if isinstance(cell, DecayWindowCell)]
    assert windows.measurements == len(windows.numbers())
    assert windows.flops()[1] == pytest.approx(len(windows.numbers()) * TrainingCell.flops(windows)[1])


def test_seeds_are_numbers_and_ranges():
    assert seeds_named(()) == (0,)
    assert seeds_named(("0", "1", "2")) == seeds_named(("0-2",)) == seeds_named(("0,1-2", "1")) == (0, 1, 2)
    assert seeds_named(("0,2,5-7",)) == (0, 2, 5, 6, 7) and seeds_named(("3", "1")) == (3, 1)
    for wrong in ("4-0", "0-", "-1", "1.5", "0--3", "0,,1", "", "a", "0-4-6", "1 2", "\u0661"):
        with pytest.raises(InputError, match="is no seed and no range; write 0 1 2, 0-4 or 0,2,5-7"):
            seeds_named((wrong,))
    assert seeds_named((str(2**63 - 1),)) == (2**63 - 1,) and len(seeds_named(("0-999", "0-9"))) == 1000
    for wrong in ("0-1000", "0-999,1000", str(2**63), "9" * 5000, f"0-{'9' * 5000}", f"{'9' * 5000}-0"):
        with pytest.raises(InputError, match=r"choose at most 1,000 seeds, from 0 to 2\*\*63 - 1"):
            seeds_named((wrong,))


@pytest.mark.slow  # Seconds, though it trains nothing.
def test_shards_share_out_the_cells_and_no_two_train_one_run():
    chosen = [(name, cell) for name in EXPERIMENTS for cell in cells(Choice(name, "laptop", seeds=(0, 1, 2)))]
    for shards in (1, 3, 8):
        shares = [dealt(chosen, (number, shards)) for number in range(1, shards + 1)]
        assert sorted((n, c.title) for share in shares for n, c in share) == sorted((n, c.title) for n, c in chosen)
        # Whichever dtype a machine computes in if none is asked for.
        runs = [{replace(cell.trains, dtype=None) for _, cell in share if cell.trains} for share in shares]
        assert sum(map(len, runs)) == len(set().union(*runs)) and max(map(len, runs)) - min(map(len, runs)) <= 2
    planned = [{(s.experiment, s.cell.title) for s in plan(Choice("all", "quick", shard=(n, 2)))} for n in (1, 2)]
    assert planned[0] | planned[1] == {(s.experiment, s.cell.title) for s in plan(Choice("all", "quick"))}
    assert not planned[0] & planned[1]
    with pytest.raises(InputError, match=r"shard 99/99 has none of the \d+ cells: choose fewer shards"):
        plan(Choice("wikitext103", "quick", shard=(99, 99)))
    assert shard_named("3/8") == (3, 8) and shard_named(None) == (1, 1)
    for wrong in ("0/8", "9/8", "3", "3/", "/8", "1/2/3", "a/b", "-1/8", "1.5/2", "", f"1/{'9' * 5000}"):
        with pytest.raises(InputError, match="choose I/N as in 3/8"):
            shard_named(wrong)


@pytest.mark.parametrize("native", DTYPES)
def test_one_run_has_one_specification_on_any_machine(native, monkeypatch):
    """The scale's own steps, rate and dtype by their values are the same run as without them."""
    for user in (training_cell, configuration):
        monkeypatch.setattr(user, "compute_dtype", lambda device: native)
    size = SCALES["laptop"]
    plain = TrainingCell(replace(SPEC, scale="laptop"))
    by_value = {"steps": size.steps, "learning_rate": size.learning_rate, "dtype": native}
    told = TrainingCell(replace(plain.spec, **by_value))
    assert told.trains == plain.trains == plain.spec and told.config() == plain.config()
    assert runner._next([("slopes", told)], [plain]) is None
    (other,) = {*DTYPES} - {native}
    for changed in ({"steps": size.steps // 2}, {"learning_rate": 2 * size.learning_rate}, {"dtype": other}):
        assert TrainingCell(replace(plain.spec, **changed)).trains == replace(plain.spec, **changed)
    chosen = [("all", cell) for cell in cells(Choice("all", "laptop", corpus="wikipedia-sample")) if cell.trains]
    shares = [dealt(chosen, (number, 8)) for number in range(1, 9)]
    runs = [{run_folder(cell.config()) for _, cell in share} for share in shares]
    assert sum(map(len, runs)) == len(set().union(*runs))


@pytest.mark.slow  # Seconds, though it trains nothing.
def test_what_most_claims_wait_for_comes_first(results):
    found = plan(Choice("all", "laptop", seeds=(1, 0)))
    assert {state.experiment for state in found} == set(EXPERIMENTS)
    # Nothing is recorded here: most claims wait for ALiBi, and several gates for it at the longest L.
    states = {(state.experiment, state.cell.title): state for state in found}
    first = states["wikitext103", "alibi, L = 64, seed 1, 13,000 steps"]
    assert [state.cell.title for state in found[:1]] == ["alibi, L = 384, seed 1, 13,000 steps"]
    assert set(first.claims) >= {4, 5, 6, 12, 13, 14, 18}
    of_seeds = [(state.cell.seed, -len(state.claims)) for state in found if state.cell.seed is not None]
    assert of_seeds == sorted(of_seeds, key=lambda pair: (pair[0] != 1, pair[1]))
    # Retrieval and controls have seeds too, though no run that others share.
    assert {s.experiment for s in found if s.cell.seed == 0 and not s.cell.trains} >= {"retrieval", "wikitext103"}
    claimed = {number for state in found for number in state.claims}
    every = {claim.number for claim in (*CLAIMS, *LATER_CLAIMS)}
    assert claimed == every, "each claim can be measured at scale laptop"
    # Recorded, a claim waits for nothing.
    append("wikitext103", supposed("wikitext103", first.cell).assign(corpus_used="wikitext-103", seed=1))
    again = {(s.experiment, s.cell.title): s.claims for s in plan(Choice("all", "laptop", seeds=(1, 0)))}
    assert set(again["wikitext103", "alibi, L = 64, seed 1, 13,000 steps"]) < set(first.claims)
    with pytest.raises(InputError, match="no experiment at scale laptop has a cell of rotary, L = 65"):
        plan(Choice("all", "laptop", methods=["rotary"], lengths=[65]))
    of_rotary = {
        "wikitext103",
        "efficiency",
        "after_alibi",
        "reads_further",
        "learning_rates",
        "retrieval",
        "test_split",
    }
    assert {s.experiment for s in plan(Choice("all", "quick", methods=["rotary"]))} == of_rotary
    assert not any(state.claims for state in plan(Choice("all", "quick"))), "quick is no evidence"


# The others have cells of another kind.
TRAINED = [name for name in EXPERIMENTS if any(isinstance(c, TrainingCell) for c in cells(Choice(name, "laptop")))]


# At scale quick the T5 bias has one length for all of its rates.
@pytest.mark.slow  # Seconds, though it trains nothing.
@pytest.mark.parametrize(
    ("experiment", "scale"), [*((name, "laptop") for name in TRAINED), ("learning_rates", "quick")]
)
def test_what_one_cell_records_passes_for_no_other_cell(experiment, scale):
    trained = [cell for cell in cells(Choice(experiment, scale)) if isinstance(cell, TrainingCell)]
    for own in trained:
        recorded = supposed(experiment, own).assign(smoke=False, corpus_used=own.corpus_used)
        assert [cell.title for cell in trained if cell.recorded(recorded.astype(TYPES))] == [own.title]


@pytest.mark.slow
def test_cells_that_need_the_same_run_train_it_once(results, monkeypatch):
    spec = RunSpec(method="alibi", train_length=64, seed=31)
    lengths = {"slopes": 64, "wikitext103": 96}
    of_two = [(name, TrainingCell(spec, measures=(Measure(length),))) for name, length in lengths.items()]
    other = TrainingCell(replace(spec, seed=32), measures=(Measure(64),))
    # While the first trains, the second would wait for it: what needs another run starts instead.
    waiting = [of_two[1], ("slopes", other)]
    for number, next_cell in ((1, None), (2, 1)):
        monkeypatch.setattr(runner, "cores", lambda number=number: number)
        assert runner._next(waiting, [of_two[0][1]]) == next_cell
    monkeypatch.setattr(reproduction_plan, "matmul_rate", lambda device, dtype: 1e11)
    costs = [state.seconds for state in states(of_two)]
    assert costs[1] < costs[0] / 10
    reproduce(of_two)
    assert len(list((Path(os.environ["ALIBI_CACHE"]) / "runs").glob("alibi-quick-64-seed31-*/config.json"))) == 1
    assert all(set(measured_results(name).eval_length) == {length} for name, length in lengths.items())


@pytest.mark.slow
def test_a_text_that_is_not_there_stops_no_other_cell(results, monkeypatch, capfd):
    monkeypatch.setenv("ALIBI_DATA", str(results / "nothing"))
    absent = replace(TINY, spec=replace(SPEC, corpus="absent"))
    failed = r"1 cells failed: slopes: alibi, L = 64, seed 21 \(not prepared\); the others"
    with pytest.raises(ReproduceError, match=failed):
        reproduce([("slopes", absent), ("wikitext103", TINY)])
    told = capfd.readouterr().err
    assert "not run, while the others are: slopes: alibi, L = 64, seed 21: unknown corpus 'absent'" in told
    assert set(measured_results().source) == {"wikitext103"}
    with pytest.raises(ValueError, match="unknown corpus 'absent'"):
        reproduce([("slopes", absent)])
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="torch sees no CUDA GPU"):
            reproduce([("slopes", absent.on("cuda"))])
    (refused, _) = states([("slopes", absent), ("wikitext103", TINY)])
    assert refused.told == "refused" and "unknown corpus 'absent'" in listing([refused, _])
    assert [each["state"] for each in as_json([refused, _])] == ["refused", "missing"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dtype_is_asked_for_so_that_runs_of_several_machines_compare(dtype):
    (own,), (asked,) = (
        cells(Choice("bookcorpus", "laptop", methods=["alibi"], lengths=[64], corpus="wikipedia-sample", dtype=each))
        for each in (None, dtype)
    )
    assert asked.config() == replace(own.config(), dtype=dtype)
    assert (asked.title, asked.numbers()) == (own.title, own.numbers()), "a record in either dtype counts"
    floor = cells(Choice("noise_floor", "laptop", corpus="wikipedia-sample", dtype=dtype))
    assert {cell.config().dtype for cell in floor} == set(DTYPES), "the noise floor compares them"
    for experiment in EXPERIMENTS:
        for cell in cells(Choice(experiment, "laptop", dtype=dtype)):
            if run := cell.trains:
                assert (run.dtype or compute_dtype(cell.device)) == (cell.spec.dtype or dtype)
    with pytest.raises(ValueError, match="unknown dtype 'float16'; choose from bfloat16, float32"):
        Choice("slopes", "laptop", dtype="float16")


def test_a_device_is_asked_for_at_any_scale():
    for experiment in EXPERIMENTS:
        for cell in cells(Choice(experiment, "gpu", device="cpu")):
            assert cell.device == "cpu"
            assert cell.on("cuda").device == ("cpu" if isinstance(cell, ControlCell) else "cuda")
    assert {cell.device for cell in cells(Choice("slopes", "laptop", device="cuda"))} == {"cuda"}
    with pytest.raises(ValueError, match="unknown device 'tpu'; choose from cpu, cuda, mps"):
        cells(Choice("slopes", "laptop", device="tpu"))
    if not torch.backends.mps.is_built():
        with pytest.raises(
            InputError, match=r"device mps can't be used: this torch was built without MPS.*or choose cpu"
        ):
            plan(Choice("all", "laptop", device="mps"))


def test_durations_read_well():
    told = [duration(s) for s in (40, 100, 720, 12_600, 1_728_000, 1.5e10, 1e12)]
    assert told == ["40 s", "1.67 min", "12 min", "3.5 h", "20 days", "476 years", "31,710 years"]

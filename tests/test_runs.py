"""The run cache: found by content, built once, provenance complete."""

import hashlib
import json
import math
import multiprocessing
from dataclasses import field, make_dataclass, replace

import forked
import pytest

from alibi import runs
from alibi.configuration import TrainConfig, configure
from alibi.corpora.corpus import load
from alibi.positions.alibi import ALiBi
from alibi.positions.t5 import T5Bias
from alibi.records import MEASURED_COLUMNS, PAPER_COLUMNS, append, measured_results, paper_results
from alibi.run_spec import RunSpec
from alibi.runs import config_hash, trained
from alibi.train import Training

pytestmark = pytest.mark.slow


@pytest.fixture
def short(monkeypatch, tmp_path_factory):
    """Runs of two steps, in a cache of their own beside the shared corpora."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    cache.mkdir(exist_ok=True)
    monkeypatch.setenv("ALIBI_CACHE", str(cache))
    monkeypatch.setenv("ALIBI_SMOKE", "2")


def test_a_run_is_trained_once_and_found_again(short, capfd):
    first = trained("alibi", seed=11)
    assert "ALIBI_SMOKE is set: 2 steps of 300" in capfd.readouterr().err
    assert len(first.corpus.split("valid").tokens) == runs.SMOKE_TOKENS < len(first.corpus.split("train").tokens)
    weights = (first.folder / "model.safetensors").stat().st_mtime_ns
    again = trained("alibi", seed=11)
    assert again.folder == first.folder and again.smoke
    assert (again.folder / "model.safetensors").stat().st_mtime_ns == weights
    metrics = first.metrics()
    assert metrics.loss.notna().all() and metrics.validation_perplexity.notna().any()
    evaluation = first.evaluation(64)
    assert again.evaluation(64).nats == evaluation.nats and evaluation.tokens == runs.SMOKE_TOKENS
    with pytest.raises(ValueError, match="no split 'dev'; it has train, valid, test"):
        first.evaluation(64, split="dev")


def test_a_run_that_was_cut_off_is_trained_anew(short):
    run = trained("alibi", seed=12)
    expected = (run.folder / "model.safetensors").read_bytes()
    (run.folder / "config.json").unlink()
    (run.folder / "model.safetensors").write_bytes(b"half")
    assert (trained("alibi", seed=12).folder / "model.safetensors").read_bytes() == expected


def test_records_are_complete(short):
    records = trained("t5", seed=13).records([32, 64], stride=16)
    assert list(records.columns) == MEASURED_COLUMNS
    assert len(records) == 2 * 3 and set(records.protocol) == {"sliding_window"} and set(records.stride) == {16}
    other = ["equal_time", "gpu_hours", "note", "prefix", "first_position", "last_position", "kernel", "compiled"]
    known = records.drop(columns=["source", "page", "decay_window", *other])
    assert known.notna().all().all(), known.isna().sum()
    assert set(records.corpus_used) == {"wikipedia-sample"} and set(records.tokens_trained) == {2 * 2048}
    assert records.smoke.all()


def test_records_of_text_without_spaces_come_back_from_their_file(short, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "results"))
    (tmp_path / "spaceless").mkdir()
    for split, text in (("train", "a\n" * 1100), ("valid", f"{'岸' * 300}\n" * 3), ("test", "\n")):
        (tmp_path / "spaceless" / f"{split}.txt").write_text(text, encoding="utf-8")
    run = trained("alibi", corpus="spaceless", train_length=16, steps=1)
    for split, per_word in (("valid", math.inf), ("test", math.nan)):
        append(split, run.records([16], split=split))
        values = measured_results(split).set_index("metric").value
        assert values["word_perplexity"] == pytest.approx(per_word, nan_ok=True)
        assert math.isfinite(values["perplexity"]) and math.isfinite(values["bits_per_byte"])


def test_the_hash_follows_what_decides_the_bits(short, monkeypatch):
    base = configure(RunSpec(method="alibi"), load("wikipedia-sample"))
    variants = [
        replace(base, **change)
        for change in ({"seed": 2}, {"steps": 299}, {"threads": 2}, {"kernel": "sdpa"}, {"torch_version": "2.0"})
    ]
    variants.append(replace(base, model=replace(base.model, method="t5")))
    assert len({config_hash(c) for c in [base, *variants]}) == len(variants) + 1
    assert config_hash(base) == config_hash(configure(RunSpec(method="alibi"), load("wikipedia-sample")))
    before = config_hash(base)
    for changed, name, value in ((runs, "RECIPE", 0), (ALiBi, "version", 0)):
        with monkeypatch.context() as patch:
            patch.setattr(changed, name, value)
            assert config_hash(base) != before
    # Another method's own file is no matter of this run.
    monkeypatch.setattr(T5Bias, "version", 0)
    assert config_hash(base) == before
    monkeypatch.setattr(runs, "device_name", lambda device: "another machine")
    assert config_hash(base) != before


def _trained_when_both_have_looked(both, told):
    steps, lock, step = [], runs.locked, Training.step
    runs.locked = lambda path: (both.wait(forked.HANGS_AFTER), lock(path))[1]
    Training.step = lambda self: (steps.append(self.done), step(self))[1]
    run = trained("rotary", seed=14)
    weights = (run.folder / "model.safetensors").read_bytes()
    told.write_text(json.dumps([steps, hashlib.sha256(weights).hexdigest()]))


def test_two_processes_train_one_run(short, tmp_path):
    both, answers = forked.context().Barrier(2), [tmp_path / "one", tmp_path / "other"]
    processes = [forked.start(_trained_when_both_have_looked, both, told) for told in answers]
    assert [forked.status(process) for process in processes] == [0, 0]
    (idle, found), (worked, made) = sorted(json.loads(told.read_text()) for told in answers)
    assert (idle, worked) == ([], [0, 1]) and found == made


def test_the_papers_numbers_are_whole():
    paper = paper_results()
    assert list(paper.columns) == PAPER_COLUMNS
    assert len(paper) == 1148
    missing = paper[paper.value.isna()]
    assert missing.note.str.contains("memory").all()
    table2 = (
        paper[(paper.source == "Table 2") & (paper.metric == "perplexity")].set_index(["method", "eval_length"]).value
    )
    assert (table2["alibi", 512], table2["sinusoidal", 15512]) == (19.73, 406.01)


def test_a_choice_that_comes_later_leaves_the_runs_of_before(monkeypatch):
    base = configure(RunSpec(method="alibi"), load("wikipedia-sample"))
    before = config_hash(base)
    later = make_dataclass("Later", [("gate", bool, field(default=False))], bases=(TrainConfig,), frozen=True)
    assert config_hash(later(**vars(base))) == before
    assert config_hash(later(**vars(base), gate=True)) != before


def test_spawned_workers_fill_the_cache(short):
    from alibi.reproduction.cells import Measure, TrainingCell
    from alibi.reproduction.runner import fill_cache

    specs = [RunSpec(method=method, train_length=64, seed=15) for method in ("alibi", "sinusoidal")]
    cells = [TrainingCell(spec, measures=(Measure(64),)) for spec in specs]
    fill_cache(cells)
    assert multiprocessing.active_children() == []
    for cell in cells:
        assert (cell.run().folder / "evaluations").is_dir()

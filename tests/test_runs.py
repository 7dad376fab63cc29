"""The run cache: found by content, built once, provenance complete."""

import hashlib
import json
import math
import multiprocessing
import os
import random
import re
import subprocess
import sys
from dataclasses import asdict, field, make_dataclass, replace

import forked
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from alibi import provenance, run_cache, runs
from alibi.configuration import TrainConfig, configure
from alibi.corpora.articles import article_starts
from alibi.corpora.corpus import load
from alibi.device import settle_cpu
from alibi.errors import InputError
from alibi.evaluate import evaluate
from alibi.positions.alibi import ALiBi
from alibi.positions.interpolation import interpolated
from alibi.positions.t5 import T5Bias
from alibi.records import (
    LATER,
    MEASURED_COLUMNS,
    PAPER_COLUMNS,
    TYPES,
    RecordsError,
    append,
    measured_results,
    paper_results,
)
from alibi.reproduction.merging import KEY
from alibi.reproduction.reading import ReadingMeasure, numbers_of_reading, records_of_reading
from alibi.run_cache import config_hash
from alibi.run_spec import RunSpec
from alibi.runs import trained
from alibi.train import Training

pytestmark = pytest.mark.slow


@pytest.fixture
def short(monkeypatch, tmp_path_factory):
    """Runs of two steps, in a cache of their own beside the shared corpora."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    cache.mkdir(exist_ok=True)
    monkeypatch.setenv("ALIBI_CACHE", str(cache))
    monkeypatch.setenv("ALIBI_SMOKE", "2")


@pytest.fixture
def articles(short, tmp_path, monkeypatch):
    """Name of a corpus of short articles, ten of them in what a smoke run reads."""
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    (tmp_path / "articles").mkdir()
    draw = random.Random(0)
    for split, count in (("train", 40), ("valid", 11)):
        lines = [
            "",
            *(line for _ in range(count) for line in (" = A = ", " = = B = = ", words(draw, 60), words(draw, 30))),
        ]
        (tmp_path / "articles" / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "articles"


def words(draw, count):
    return " ".join(draw.choices("abcdefghij", k=count))


def test_a_run_is_trained_once_and_found_again(short, capfd):
    first = trained("alibi", seed=11)
    assert "ALIBI_SMOKE is set: 2 steps of 300" in capfd.readouterr().err
    assert len(first.corpus.split("valid").tokens) == runs.SMOKE_TOKENS < len(first.corpus.split("train").tokens)
    weights = (first.folder / "model.safetensors").stat().st_mtime_ns
    again = trained("alibi", seed=11)
    assert again.folder == first.folder and again.smoke and first.folder.name.endswith("-smoke")
    # A real run of as many steps, whose validation reads more, would not find it.
    assert not runs.run_folder(first.config).exists()
    assert (again.folder / "model.safetensors").stat().st_mtime_ns == weights
    metrics = first.metrics()
    assert metrics.loss.notna().all() and metrics.validation_perplexity.notna().any()
    evaluation = first.evaluation(64)
    assert again.evaluation(64).nats == evaluation.nats and evaluation.tokens == runs.SMOKE_TOKENS
    # A length out of an array is of numpy's type.
    assert first.evaluation(np.int64(32)).nats == again.evaluation(32).nats
    with pytest.raises(ValueError, match="no split 'dev'; it has train, valid, test"):
        first.evaluation(64, split="dev")


def test_a_rescaled_reading_is_kept_apart_from_the_plain_one(short):
    run = trained("alibi", seed=11)
    rescaled, plain = run.evaluation(256, interpolation="pi").nats, run.evaluation(256).nats
    model, split = trained("alibi", seed=11).model, run.corpus.split("valid")
    assert plain == evaluate(model, split, run.corpus.end_of_line, 256).nats != rescaled
    with model.positions_by(interpolated(model.positions, "pi", run.config.train_length, 256)):
        assert rescaled == evaluate(model, split, run.corpus.end_of_line, 256).nats
    assert run.evaluation(256, interpolation="pi").nats == rescaled


def test_a_model_that_its_caller_changes_changes_no_number_that_is_kept(short):
    run = trained("alibi", seed=11)
    with run.model.positions_by(interpolated(run.model.positions, "pi", 64, 256)):
        within = run.evaluation(48).nats
    run.model.positions.slopes_H *= 4
    with torch.autocast("cpu", torch.bfloat16):
        run.model.bfloat16()
        kept = run.evaluation(96).nats
    fresh = trained("alibi", seed=11)
    measured = [evaluate(fresh.model, run.corpus.split("valid"), run.corpus.end_of_line, n).nats for n in (48, 96)]
    assert [within, kept] == measured


def test_the_callers_random_numbers_do_not_depend_on_the_cache(short):
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        trained("alibi", seed=17)
        drawn.append(torch.rand(1))
    assert drawn[0] == drawn[1]


def test_a_run_that_was_cut_off_is_trained_anew(short):
    run = trained("alibi", seed=12)
    expected = (run.folder / "model.safetensors").read_bytes()
    (run.folder / "config.json").unlink()
    (run.folder / "model.safetensors").write_bytes(b"half")
    assert (trained("alibi", seed=12).folder / "model.safetensors").read_bytes() == expected


def test_checkpoints_that_a_finished_run_was_killed_with_are_removed(short):
    folder = trained("alibi", seed=12).folder
    (folder / "checkpoints" / "000000001").mkdir(parents=True)
    assert trained("alibi", seed=12).folder == folder and not (folder / "checkpoints").exists()


def test_records_are_complete(short):
    records = trained("t5", seed=13).records([32, 64], stride=16)
    assert list(records.columns) == MEASURED_COLUMNS
    assert len(records) == 2 * 3 and set(records.protocol) == {"sliding_window"} and set(records.stride) == {16}
    assert set(records.corpus) == set(records.corpus_used)
    other = [
        *LATER,
        "equal_time",
        "gpu_hours",
        "note",
        "prefix",
        "first_position",
        "last_position",
        "kernel",
        "compiled",
    ]
    run = trained("t5", seed=13)
    cut = replace(run, config=replace(run.config, model=replace(run.config.model, decay_window=2.0)))
    assert cut.provenance()["decay_window"] == 2
    known = records.drop(columns=["source", "page", "decay_window", *other])
    assert known.notna().all().all(), known.isna().sum()
    assert set(records.corpus_used) == {"wikipedia-sample"} and set(records.tokens_trained) == {2 * 2048}
    assert records.smoke.all()


def test_records_of_full_windows_say_what_was_scored_and_how_certain_they_are(articles):
    run = trained("alibi", seed=13, corpus=articles)
    found = run.records([256, 128], stride=16, skip=300, sample=128)
    # Of 724 tokens 11 pieces of 64 and a rest; 128 tokens are 2 pieces, so every fifth counts.
    assert set(found.skipped) == {300} and set(found["sample"]) == {128} and set(found.tokens_scored) == {3 * 64}
    value = found.set_index(["eval_length", "metric"]).value
    change = math.log(value[256, "perplexity"] / value[128, "perplexity"])
    assert value[256, "loss_change"] == pytest.approx(change) and (128, "loss_change") not in value.index
    assert 0 < value[256, "loss_change_standard_error"] < value[256, "loss_standard_error"]
    kept = sorted(path.name for path in (run.folder / "evaluations").glob("*-from-300-sample-128-*"))
    assert len(kept) == 2
    # No windows of L score the same tokens at such a stride.
    assert "loss_change" not in set(run.records([256], stride=256, skip=300, sample=128).metric)
    again = trained("alibi", seed=13, corpus=articles).evaluation(256, 16, skip=300, sample=128)
    assert again.loss_standard_error == value[256, "loss_standard_error"]


def test_records_of_more_than_the_text_holds_are_told(articles, capfd):
    run = replace(trained("alibi", seed=13, corpus=articles), smoke=False)
    tokens = len(run.corpus.split("valid").tokens)
    run.records([64], prefix=tokens)
    assert f"{articles} valid has" not in capfd.readouterr().err
    found = run.records([10**6], prefix=10**9)
    assert set(found.eval_length) == {10**6} and set(found.tokens_scored) == {tokens}
    told = capfd.readouterr().err
    assert f"warning: {articles} valid has {tokens:,} tokens, so no window of 1,000,000 is full" in told
    assert f"warning: {articles} valid has {tokens:,} tokens, fewer than the prefix of 1,000,000,000" in told


def test_a_run_against_itself_is_measured_once_and_recorded_by_position(articles):
    run = trained("sinusoidal", train_length=64, seed=13, corpus=articles)
    found = run.records_against_itself(512, 8)
    assert set(found.protocol) == {"against_itself"} and set(found.eval_length) == {512} and set(found.stride) == {8}
    mean = found[found.metric == "loss_against_itself"].set_index(["first_position", "last_position"])
    assert (1, 64) in mean.index and (65, 72) in mean.index and (449, 512) in mean.index and (65, 512) in mean.index
    assert abs(mean.value[1, 64]) < 1e-5 < abs(mean.value[65, 512])
    parts = mean.drop(index=[(1, 64), (65, 512)])
    assert parts.tokens_scored.sum() == mean.tokens_scored[65, 512]
    whole = (parts.value * parts.tokens_scored).sum() / parts.tokens_scored.sum()
    assert whole == pytest.approx(mean.value[65, 512], abs=1e-9)
    assert (found.metric == "loss_against_itself_standard_error").sum() == len(mean)
    (run.folder / "model.safetensors").unlink()
    run = trained("sinusoidal", train_length=64, seed=13, corpus=articles)  # What was measured is read.
    assert run.against_itself(512, 8).between(65, 512)[0] == mean.value[65, 512]


def test_an_evaluation_from_before_articles_were_told_apart_is_read(articles):
    run = trained("alibi", seed=13, corpus=articles)
    whole = run.evaluation(64, prefix=512)
    (path,) = (run.folder / "evaluations").glob("*-64-nonoverlapping-512-*")
    stored = json.loads(path.read_text())
    later = (run_cache.DIGEST, run_cache.TEXT_DIGEST)
    older = {name: value for name, value in stored.items() if "article" not in name and name not in later}
    path.write_text(json.dumps(older))
    assert run.evaluation(64, prefix=512).nats == whole.nats
    assert set(run.records([64], prefix=512).metric) == {"perplexity", "word_perplexity", "bits_per_byte"}


def test_another_text_of_the_same_name_is_measured_anew(articles, tmp_path, capfd):
    run = trained("alibi", seed=13, corpus=articles)
    before = run.evaluation(64, prefix=500)
    valid = tmp_path / articles / "valid.txt"
    valid.write_text(" ".join(reversed(valid.read_text(encoding="utf-8").split(" "))), encoding="utf-8")
    again = trained("alibi", seed=13, corpus=articles)
    assert again.folder == run.folder, "the training text is the same"
    found = again.evaluation(64, prefix=500)
    assert found.nats != before.nats and capfd.readouterr().err.count("is of another text; measured again") == 1
    assert again.evaluation(64, prefix=500).nats == found.nats and not capfd.readouterr().err


def test_none_of_the_text_is_not_all_of_it(articles):
    run = trained("alibi", seed=13, corpus=articles)
    run.evaluation(64)
    run.against_itself(128, 16)
    run.receptive_field(64)
    for nothing, told in (
        (lambda: run.evaluation(64, sample=0), "sample=0: choose at least one token, or None for all"),
        (lambda: run.evaluation(64, stride=0), "the stride must lie between"),
        (lambda: run.evaluation(0), "length=0: a window needs at least 1 token"),
        (lambda: run.evaluation(24.0), "length=24.0: windows have a whole number of tokens"),
        (lambda: run.evaluation(64, prefix=100.0), r"prefix=100\.0: windows have a whole number of tokens"),
        (lambda: run.evaluation(64, prefix=-500), "prefix=-500: choose at least 1 token, or None for the whole split"),
        (lambda: run.against_itself(128, 16, sample=0), "windows=0: take at least one, or None for all"),
    ):
        with pytest.raises(InputError, match=told):
            nothing()


def test_a_measurement_with_many_arguments_is_kept(articles, monkeypatch, capfd):
    run = trained("alibi", seed=13, corpus=articles)
    found = run.truncation(64, range(1, 64), 8)
    assert "measured, and not kept" not in capfd.readouterr().err
    monkeypatch.setattr(runs, "load_model", None)  # Nothing is measured again.
    again = trained("alibi", seed=13, corpus=articles).truncation(64, range(1, 64), 8)
    np.testing.assert_equal(asdict(again), asdict(found))


def test_smoke_steps_that_are_no_number_are_refused(short, monkeypatch):
    told = r"ALIBI_SMOKE is '[x0-9.-]+': choose a number of steps, at least 1, or unset it"
    for wrong in ("x", "0", "-1", "9" * 5000):
        monkeypatch.setenv("ALIBI_SMOKE", wrong)
        with pytest.raises(InputError, match=told):
            trained("alibi", seed=16)


def test_a_cell_is_recorded_once_its_full_windows_and_itself_are(short):
    from alibi.reproduction.evaluations import Measure, SelfMeasure
    from alibi.reproduction.training_cell import TrainingCell

    measures = (Measure(64, 8, skip=256, sample=128), Measure(128, 8, skip=256, sample=128))
    spec = RunSpec(method="rotary", train_length=64, seed=13)
    cell = TrainingCell(spec, measures=measures, against_itself=SelfMeasure(256, 8))
    records = cell.records().assign(smoke=False, tokens_trained=cell.tokens)
    typed = records.astype({"smoke": "boolean"})
    assert cell.recorded(typed) and cell.measurements == 3
    assert not cell.recorded(typed[typed.protocol != "against_itself"])
    assert not cell.recorded(typed[typed.eval_length != 128])
    for other in (Measure(64, 8, skip=128, sample=128), Measure(64, 8, skip=256), Measure(64, 8)):
        assert not replace(cell, measures=(other,)).recorded(typed)


def test_the_slopes_that_a_run_learned_are_recorded(short):
    from alibi.reproduction.evaluations import Measure
    from alibi.reproduction.training_cell import TrainingCell

    spec = RunSpec(method="alibi-learned", train_length=64, seed=17)
    cell = TrainingCell(spec, measures=(Measure(64),), slopes=True)
    typed = cell.records().assign(smoke=False, tokens_trained=cell.tokens).astype({"smoke": "boolean"})
    found, learned_H = typed[typed.metric == "slope"], cell.run().model.positions.slopes_H
    assert found.value.tolist() == learned_H.tolist() != ALiBi(64, 8).slopes_H.tolist()
    numbers = pd.DataFrame([number for number in cell.numbers() if number["metric"] == "slope"])
    for name in ("method", "seed", "scale", "protocol", "unit", "head"):
        assert numbers[name].tolist() == found[name].tolist()
    assert cell.recorded(typed) and not cell.recorded(typed[typed.metric != "slope"])


def test_articles_begin_at_their_titles(articles):
    text = load(articles, "words")
    stream = text.split("valid").tokens
    starts = article_starts(text, "valid", stream, text.end_of_line)
    # The first line is empty, and belongs to the first article; title, heading and paragraphs have ends of lines.
    assert starts.tolist() == [0, *range(1 + 4 + 6 + 61 + 31, len(stream), 4 + 6 + 61 + 31)] and len(starts) == 11
    assert article_starts(text, "valid", stream[:300], text.end_of_line).tolist() == starts[:3].tolist()
    assert article_starts(text, "valid", stream[:100], text.end_of_line) is None
    # A beginning that ends just before a title.
    assert article_starts(text, "valid", stream[: starts[2]], text.end_of_line).tolist() == starts[:2].tolist()
    pairs = load("wikipedia-sample", "bytes")
    found = article_starts(pairs, "valid", pairs.split("valid").tokens, pairs.end_of_line)
    begins = [pairs.vocabulary.decode(pairs.split("valid").tokens[start : start + 4]) for start in found[1:]]
    assert len(found) == pairs.split("valid").articles and all(text.startswith(" = ") for text in begins)


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
    for changed, name, value in ((run_cache, "RECIPE", 0), (ALiBi, "version", 0)):
        with monkeypatch.context() as patch:
            patch.setattr(changed, name, value)
            assert config_hash(base) != before
    # Another method's own file is no matter of this run.
    monkeypatch.setattr(T5Bias, "version", 0)
    assert config_hash(base) == before
    monkeypatch.setattr(run_cache, "device_name", lambda device: "another machine")
    assert config_hash(base) != before


def test_no_run_of_the_process_decides_the_threads_of_the_next():
    def threads():
        return configure(RunSpec(method="alibi", scale="gpu", device="cpu"), load("wikipedia-sample")).threads

    before, now = threads(), torch.get_num_threads()
    settle_cpu(1 if now > 1 else 2)
    try:
        assert threads() == before
    finally:
        torch.set_num_threads(now)


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
    from alibi.reproduction.evaluations import Measure
    from alibi.reproduction.runner import fill_cache
    from alibi.reproduction.training_cell import TrainingCell

    specs = [RunSpec(method=method, train_length=64, seed=15) for method in ("alibi", "sinusoidal")]
    cells = [TrainingCell(spec, measures=(Measure(64),)) for spec in specs]
    fill_cache(cells)
    assert multiprocessing.active_children() == []
    for cell in cells:
        assert (cell.run().folder / "evaluations").is_dir()


def test_records_of_what_a_run_reads_say_what_was_measured(short, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path))
    run = trained("alibi", seed=11)
    reading = ReadingMeasure(256, (8, 64), last=16, windows=1, stride=8, repeated=(200,))
    found = records_of_reading(run, reading)
    assert list(found.columns) == MEASURED_COLUMNS and found.value.notna().all() and found.smoke.all()
    append("reads_further", found)
    assert len(measured_results("reads_further")) == len(found)
    # No two records are of one number.
    assert not found.duplicated([name for name in KEY if name != "source"]).any()
    within, model = run.config.train_length, run.config.model
    # Told before they are measured, but for rows of repeated tokens without any, and errors of a single article.
    columns = ["protocol", "metric", "unit", "eval_length", "sample", "stride", "seen", "first_distance",
               "last_distance", "layer", "head"]  # fmt: skip
    numbers = numbers_of_reading(reading, within, model.layers, model.heads)
    tables = [of.reindex(columns=MEASURED_COLUMNS).astype(TYPES) for of in (pd.DataFrame(numbers), found)]
    told, made = (set(map(tuple, table[columns].astype(str).values)) for table in tables)
    assert made < told and {row[:2] for row in told - made} == {
        ("repeats", "loss_repeated"), ("repeats", "loss_repeated_change"),
        *((protocol, f"{metric}_standard_error") for protocol, metric in (
            ("repeats", "loss_repeated_change"), ("truncated_attention", "loss_truncated_change"),
            ("truncated_window", "loss_truncated_change"), ("gradient", "gradient_share"),
            ("attention", "attention_distance_mean"))),
    }  # fmt: skip
    cut = found[found.protocol == "truncated_attention"].set_index(["seen", "metric"]).value
    assert sorted({w for w, _ in cut.index}) == [8, 64, within, 256]
    assert cut[8, "loss_truncated_change"] == pytest.approx(cut[8, "loss_truncated"] - cut[256, "loss_truncated"])
    shorter = found[found.protocol == "truncated_window"].set_index(["seen", "metric"]).value
    assert shorter[256, "loss_truncated"] == pytest.approx(cut[256, "loss_truncated"])
    repeated = found[(found.metric == "loss_repeated") & (found.seen == 256)]
    assert repeated.tokens_scored.sum() == 16
    assert repeated.value @ repeated.tokens_scored / 16 == pytest.approx(cut[256, "loss_truncated"])
    for length in (within, 256):
        heads = found[(found.metric == "attention_distance_mean") & (found.eval_length == length)]
        assert len(heads) == model.layers * model.heads and heads.value.between(0, length - 1).all()
    assert set(found[found.protocol == "repeats"].seen) == {within, 200, 256}
    shares = found[found.metric == "gradient_share"].set_index("seen").value
    assert shares.is_monotonic_increasing and shares[256] == pytest.approx(1)


def test_a_smoke_run_has_text_for_two_of_its_own_training_lengths(short):
    against = trained("alibi", seed=11, train_length=768).against_itself(4096, 192)
    assert (against.length, against.window) == (768, 1536)


def test_measures_of_what_a_run_reads_are_made_once_and_found_again(short, monkeypatch):
    run = trained("alibi", seed=11)

    def measured(run):
        return (
            run.truncation(4096, [8, 64], 16),
            run.truncation(512, [8, 64], 16, form="window", stride=8),
            run.attention_distance(256, 16),
            run.repeats([64, 256], 16, stride=8),
            run.receptive_field(128),
        )

    first = measured(run)
    cut, shortened, distance, repeated, field = first
    # A smoke run's text fills one window of SMOKE_TOKENS, and one window is measured.
    assert cut.length == runs.SMOKE_TOKENS and cut.seen.tolist() == [8, 64, runs.SMOKE_TOKENS]
    assert cut.tokens.sum() == shortened.tokens.sum() == repeated.tokens.sum() == 16
    assert distance.weights.shape[2] == 256 and field.shares.sum() == pytest.approx(1)
    monkeypatch.setattr(runs, "load_model", None)  # Nothing is measured again.
    for one, again in zip(first, measured(trained("alibi", seed=11)), strict=True):
        np.testing.assert_equal(asdict(again), asdict(one))


@pytest.mark.parametrize("name", ["2024", "NA", "007"])
def test_a_corpus_with_any_name_is_recorded_under_it(name, short, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path))
    for _ in range(2):  # The second time reads the first records, and writes them again.
        append("slopes", trained("alibi", seed=13).records([16]).assign(corpus_used=name))
    assert set(measured_results("slopes").corpus_used) == {name}


def test_processes_with_caches_of_their_own_lose_no_records(tmp_path):
    row = dict.fromkeys(MEASURED_COLUMNS) | {"metric": "perplexity", "value": 1.0}
    adding = f"for _ in range(10): append('slopes', pd.DataFrame([{row}]))"
    code = f"import pandas as pd\nfrom alibi.records import append\n{adding}"
    environment = os.environ | {"ALIBI_RESULTS": str(tmp_path / "results")}
    caches = [environment | {"ALIBI_CACHE": str(tmp_path / cache)} for cache in "ab"]
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=of_one) for of_one in caches]
    assert [process.wait() for process in both] == [0, 0]
    with (tmp_path / "results" / "slopes.csv").open() as file:
        assert len(file.readlines()) == 1 + 20


def test_adding_records_leaves_those_before_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path))
    row = dict.fromkeys(MEASURED_COLUMNS) | {"metric": "perplexity", "value": 5.0}
    append("slopes", pd.DataFrame([row | {"seconds": 762.0}, row]))
    before = (tmp_path / "slopes.csv").read_bytes()
    # As `records merge` gives them: a column that is empty in all rows comes without a number's type.
    append("slopes", pd.DataFrame([row], columns=MEASURED_COLUMNS).astype(TYPES))
    after = (tmp_path / "slopes.csv").read_bytes()
    assert after.startswith(before) and len(after) > len(before)


def test_seeds_beyond_a_floats_53_bits_stay_as_they_were_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path))
    row = dict.fromkeys(MEASURED_COLUMNS) | {"metric": "perplexity", "value": 5.0}
    seeds = [2**53 + 1, 2**63 - 1]
    for seed in (*seeds, None, 0):
        append("slopes", pd.DataFrame([row | {"seed": seed, "data_seed": seed}]))
    kept = measured_results("slopes")
    assert kept.seed.dropna().tolist() == kept.data_seed.dropna().tolist() == [*seeds, 0]
    assert all((tmp_path / "slopes.csv").read_text().count(str(seed)) == 2 for seed in seeds)


def test_a_damaged_file_of_records_is_named_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path))
    row = pd.DataFrame([dict.fromkeys(MEASURED_COLUMNS) | {"metric": "perplexity", "value": 5.0}])
    append("slopes", row)
    path = tmp_path / "slopes.csv"
    whole = path.read_text()
    for damaged, told in (
        (whole.rstrip("\n") + ",7\n", "line 2 has more cells than the header"),
        ("\n" + whole, "line 1, the header, is empty"),
        ("", "line 1, the header, is empty"),
    ):
        path.write_text(damaged)
        with pytest.raises(RecordsError, match=rf"slopes\.csv can't be read \(ValueError: {told}\): restore it"):
            append("slopes", row)
        assert path.read_text() == damaged


def test_what_no_file_of_records_can_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "results"))
    row = pd.DataFrame([dict.fromkeys(MEASURED_COLUMNS) | {"metric": "perplexity", "value": 5.0}])
    append("slopes", row[:0])
    append("slopes", pd.DataFrame())
    with pytest.raises(InputError, match="records of slopes: unknown columns foo, bar; choose from MEASURED_COLUMNS"):
        append("slopes", row.assign(foo=3, bar=4))
    for name in ("../slopes", str(tmp_path / "slopes"), "a/slopes", "a\\slopes", ""):
        with pytest.raises(InputError, match="choose a name, which a file of records gets; not a path"):
            append(name, row)
    assert not list(tmp_path.rglob("*.csv"))


def test_the_commit_of_a_repository_around_a_copy_is_not_the_copy_s(tmp_path, monkeypatch):
    """As of a source archive that was unpacked inside another repository."""

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "--message", "theirs")
    (tmp_path / "copy").mkdir()
    for root, told in ((tmp_path / "copy", "not a checkout"), (tmp_path, "[0-9a-f]{12}")):
        monkeypatch.setattr(provenance, "checkout", lambda root=root: root)
        assert re.fullmatch(told, provenance.commit.__wrapped__())

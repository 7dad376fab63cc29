"""A cell of the experiment `retrieval` from training to records, at a budget that shows nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from lookup import reader

from alibi.configuration import TrainingError
from alibi.model import Decoder, ModelConfig
from alibi.optim import RECIPES
from alibi.positions import METHODS
from alibi.records import MEASURED_COLUMNS, TYPES, append, measured_results
from alibi.reproduction import retrieval_cells
from alibi.reproduction.experiments.retrieval import cells
from alibi.reproduction.merging import MergeError, merge
from alibi.reproduction.plan import states
from alibi.reproduction.retrieval_cells import RetrievalCell
from alibi.reproduction.runner import reproduce
from alibi.retrieval.accuracy import accuracy, greedy
from alibi.retrieval.tasks import VOCABULARY_SIZE, draw
from alibi.retrieval.training import Budget, train

pytestmark = pytest.mark.slow

SMALL = ModelConfig("alibi", VOCABULARY_SIZE, layers=2, width=32, heads=4, feedforward=32)
TINY = Budget(steps=3, model=SMALL, windows=2, warmup_steps=1)
CELL = RetrievalCell("alibi", "quick", 5, TINY)


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("ALIBI_SMOKE", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def recorded():
    """What the cell records, at two lengths, of a model that reads its last 48 tokens, whatever it has learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval_cells, "LENGTHS", (64, 128))
        patch.setattr(retrieval_cells, "greedy", lambda model: reader(48))
        patch.delenv("ALIBI_SMOKE", raising=False)
        yield CELL.records()


def test_records_are_the_numbers_that_the_cell_says_before(recorded, monkeypatch):
    monkeypatch.setattr(retrieval_cells, "LENGTHS", (64, 128))
    assert list(recorded.columns) == MEASURED_COLUMNS
    numbers = pd.DataFrame(CELL.numbers())
    known = recorded[numbers.columns].astype(object).where(recorded[numbers.columns].notna(), None)
    pd.testing.assert_frame_equal(known, numbers.astype(object).where(numbers.notna(), None), check_dtype=False)
    assert recorded.value.between(0, 1).all() and (recorded.tokens_scored > 0).all()
    learned = recorded.protocol == "copying"
    assert recorded.note[learned].isna().all()
    assert recorded.note[~learned].str.fullmatch(r"not learned: exact match 0\.\d\d at L").all()
    assert set(recorded.distractors.dropna()) == {3, 15} and set(recorded.protocol) == {"passkey", "recall", "copying"}
    assert set(recorded.interpolation.dropna()) == {"pi", "ntk"}
    # Each token of a copied string stands half a window before the one that is asked for.
    copied = recorded[recorded.protocol.eq("copying") & recorded.metric.eq("exact_match")]
    assert copied.groupby("eval_length").value.unique().map(list).to_dict() == {64: [1.0], 128: [0.0]}
    assert recorded[recorded.first_position.notna()].value.between(0.01, 0.99).any()
    # The parts of a window are its whole, weighted by their answers.
    for _, rows in recorded[recorded.metric == "exact_match"].groupby(
        ["protocol", "eval_length", "distractors", "interpolation"], dropna=False
    ):
        whole, parts = rows[rows.first_position.isna()], rows[rows.first_position.notna()]
        if len(parts):
            assert parts.tokens_scored.sum() == whole.tokens_scored.item()
            mean = np.average(parts.value, weights=parts.tokens_scored.astype(float))
            assert mean == pytest.approx(whole.value.item())


def test_a_cell_is_recorded_once_and_may_come_from_another_machine(recorded, results, monkeypatch):
    monkeypatch.setattr(retrieval_cells, "LENGTHS", (64, 128))
    assert not CELL.recorded(measured_results("retrieval"))
    append("retrieval", recorded[recorded.protocol != "recall"])
    assert not CELL.recorded(measured_results("retrieval")), "a task is missing"
    append("retrieval", recorded[recorded.protocol == "recall"])
    found = measured_results("retrieval")
    assert CELL.recorded(found) and len(found) == len(recorded)
    assert not replace(CELL, seed=6).recorded(found) and not replace(CELL, method="none").recorded(found)
    assert not replace(CELL, budget=replace(TINY, steps=4)).recorded(found)
    assert not CELL.recorded(found.assign(smoke=True))
    # The same numbers sent again are known.
    again = results / "retrieval.csv"
    again.write_bytes((results / "results" / "retrieval.csv").read_bytes())
    assert merge([again]).known == len(found)


def test_shares_from_another_machine_are_taken_and_what_is_no_share_is_refused(recorded, results):
    cell = cells("quick", (7,))[0]
    rows = pd.DataFrame(cell.numbers())
    common = recorded.iloc[0][["provenance", "device", "torch_version", "dtype", "date"]].to_dict()
    sent = results / "retrieval.csv"
    # None right is a number like others.
    whole = rows.assign(**common, source="retrieval", commit="0123456789ab", smoke=False, value=0.0)

    def send(rows):
        rows.reindex(columns=MEASURED_COLUMNS).astype(TYPES).to_csv(sent, index=False)

    send(whole)
    assert merge([sent]).appended == len(rows) and cell.recorded(measured_results("retrieval"))
    # A seed counts once, whatever machine trained it.
    send(whole.assign(device="another", value=0.5))
    found = merge([sent])
    assert found.appended == 0 and len(found.kept_out) == len(rows)
    send(whole.assign(seed=8, value=1.5))
    with pytest.raises(MergeError, match=r"value is 1\.5: a share of answers is between 0 and 1"):
        merge([sent])


def test_the_runner_runs_a_smoke_cell_and_says_so(results, monkeypatch, capfd):
    monkeypatch.setenv("ALIBI_SMOKE", "1")
    cell = replace(CELL, method="none")
    reproduce([("retrieval", cell)])
    found = measured_results("retrieval")
    assert found.smoke.all() and set(found.eval_length) == {64} and set(found.method) == {"none"}
    assert not states([("retrieval", cell)])[0].recorded
    assert "retrieval of none, L = 64, seed 5: recorded" in capfd.readouterr().err


def test_a_step_descends_the_mean_over_tasks_of_the_loss_of_what_is_asked():
    found = train("alibi", replace(TINY, steps=1), 0).model
    torch.manual_seed(0)
    model = Decoder(TINY.config("alibi")).train()
    length = int(replace(TINY, steps=1).lengths(0)[0])
    of_tasks = []
    for windows in TINY.batch(0, 0, length):
        scores_BTV = model(torch.from_numpy(windows.sources)) @ model.embedding.weight_VC.T
        targets_BT = torch.from_numpy(windows.targets).where(torch.from_numpy(windows.asked), -100)
        of_tasks.append(F.cross_entropy(scores_BTV.transpose(1, 2), targets_BT))
    torch.stack(of_tasks).mean().backward()
    optimizer, _, clip = RECIPES[TINY.recipe](model, TINY.learning_rate, TINY.warmup_steps, 1, None)
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    # Adam's first step is the gradient's sign: rounding decides it where the gradient is nearly zero.
    ours, theirs = (torch.cat([p.detach().flatten() for p in of.parameters()]) for of in (found, model))
    assert torch.isclose(ours, theirs, rtol=0, atol=1e-5).double().mean() > 0.99


def test_training_learns_and_repeats_its_bits():
    budget = replace(TINY, steps=60, windows=8, warmup_steps=10)
    first, again = (train("alibi", budget, 0).model for _ in range(2))
    for ours, theirs in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    windows = draw("copying", np.random.default_rng(0), 32, 16, held_out=True)

    def loss(model):
        sources_BT, targets_BT = torch.from_numpy(windows.sources), torch.from_numpy(windows.targets)
        with torch.no_grad():
            return model.negative_log_likelihood(sources_BT, targets_BT)[torch.from_numpy(windows.asked)].mean().item()

    untrained = train("alibi", replace(budget, steps=1, learning_rate=1e-9), 0).model
    assert loss(first) < loss(untrained) - 0.5
    assert any(
        not torch.equal(ours, theirs)
        for ours, theirs in zip(first.parameters(), train("alibi", budget, 1).model.parameters(), strict=True)
    )


@pytest.mark.parametrize("method", sorted({cell.method for cell in cells("quick")}))
def test_every_method_of_the_experiment_trains_and_answers_past_l(method):
    assert method in METHODS
    model = train(method, TINY, 0).model
    found = accuracy(greedy(model), draw("passkey", np.random.default_rng(0), 2, 256))
    assert len(found.right_A) == 2


def test_a_loss_that_is_not_finite_ends_the_training():
    with pytest.raises(TrainingError, match=r"alibi, step \d+: loss nan"):
        train("alibi", replace(TINY, steps=20, learning_rate=1e30), 0)

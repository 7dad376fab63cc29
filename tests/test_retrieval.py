"""Retrieval tasks ask for what a window holds, where they say it; scores are those of readers known beforehand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lookup import reader

from alibi.model import Decoder, ModelConfig
from alibi.positions import METHODS
from alibi.reproduction import retrieval_cells
from alibi.reproduction.experiments.retrieval import cells
from alibi.reproduction.retrieval_cells import LENGTHS, PAIRS, RetrievalMeasure, measured, measures
from alibi.retrieval.accuracy import accuracy, greedy
from alibi.retrieval.tasks import (
    COPYING,
    KEY_SYMBOLS,
    MARK,
    NOISE,
    PASSKEY,
    RECALL,
    SYMBOLS,
    TASKS,
    VOCABULARY_SIZE,
    draw,
)
from alibi.retrieval.training import Budget

TASK = st.sampled_from([*TASKS])
LENGTH = st.integers(4, 256).map(lambda quarter: 4 * quarter)


@given(TASK, LENGTH, st.integers(0, 2**32), st.booleans())
def test_what_is_asked_stands_where_it_is_said_to_and_nowhere_else(task, length, seed, held_out):
    windows = draw(task, np.random.default_rng(seed), 3, length, held_out=held_out)
    assert windows.tokens_BN.shape == (3, length + 1) and windows.found_BT.shape == (3, length)
    assert windows.tokens_BN.min() >= 0 and windows.tokens_BN.max() < VOCABULARY_SIZE
    for sources_T, targets_T, found_T in zip(windows.sources, windows.targets, windows.found_BT, strict=True):
        asked = np.flatnonzero(found_T)
        assert len(asked)
        for target in asked:
            answer, asking = targets_T[target], sources_T[target]
            # The answer is in the past, after the only earlier occurrence of the token that asks; and nothing else
            # before the question tells it: no other token there is the answer.
            place = found_T[target] - 1
            assert place < target and sources_T[place] == answer and answer < SYMBOLS
            assert np.flatnonzero(sources_T[:target] == asking).tolist() == [place - 1]
            assert np.flatnonzero(sources_T[: target + 1] == answer).tolist() == [place]


@given(LENGTH, st.integers(0, 2**32))
def test_each_task_has_its_form(length, seed):
    random = np.random.default_rng(seed)
    passkey, recall, copying = (draw(task, random, 4, length) for task in (PASSKEY, RECALL, COPYING))
    assert (passkey.asked.sum(axis=1) == KEY_SYMBOLS).all() and passkey.asked[:, -KEY_SYMBOLS:].all()
    assert ((passkey.tokens_BN < SYMBOLS).sum(axis=1) == 2 * KEY_SYMBOLS).all()
    assert ((passkey.tokens_BN == MARK).sum(axis=1) == 2).all()
    assert (recall.asked.sum(axis=1) == length // 4).all() and not recall.asked[:, : length // 2].any()
    assert (recall.found_BT <= length // 2).all()
    assert (copying.asked.sum(axis=1) == length // 2 - 1).all() and copying.asked[:, -1].all()
    assert (np.sort(copying.found_BT[:, -(length // 2 - 1) :]) == np.arange(2, length // 2 + 1)).all()
    for pairs in {1, length // 8, length // 4} - {0}:
        fewer = draw(RECALL, random, 2, length, pairs)
        assert (fewer.asked.sum(axis=1) == pairs).all()
        noise = (fewer.tokens_BN >= SYMBOLS) & (fewer.tokens_BN < SYMBOLS + NOISE)
        assert (noise.sum(axis=1) == length + 1 - 4 * pairs).all()


def test_a_passkey_stands_anywhere_and_pairs_are_asked_for_in_any_order():
    places = draw(PASSKEY, np.random.default_rng(0), 2000, 64).found_BT.max(axis=1) - KEY_SYMBOLS + 1
    counts = np.bincount(places, minlength=65)
    assert (counts[2:56] > 0).all() and not counts[:2].any() and not counts[56:].any()
    recall = draw(RECALL, np.random.default_rng(0), 500, 64)
    order = np.corrcoef(np.nonzero(recall.found_BT)[1], recall.found_BT[recall.asked])[0, 1]
    assert abs(order) < 0.05


@pytest.mark.parametrize("task", TASKS)
def test_a_generator_decides_the_windows_and_none_is_in_training_and_test(task):
    def drawn(seed, held_out):
        windows = draw(task, np.random.default_rng(seed), 200, 16, 1 if task == RECALL else None, held_out)
        return [(*row,) for row in windows.tokens_BN.tolist()], windows

    ours, others = drawn(0, False), drawn(0, True)
    assert ours[0] == drawn(0, False)[0] != drawn(1, False)[0]
    # Few symbols would be shared by chance alone: the sums of the answers tell the two apart.
    assert not {*ours[0]} & {*others[0]}
    for (_, windows), odd in ((ours, 0), (others, 1)):
        assert ((windows.targets * windows.asked).sum(axis=1) % 2 == odd).all()


def test_training_windows_are_those_of_the_seed_and_the_test_s_are_held_out():
    budget = Budget(steps=30, windows=2)
    lengths = budget.lengths(3)
    assert (lengths == budget.lengths(3)).all() and (lengths != budget.lengths(4)).any()
    assert lengths.min() >= 16 and lengths.max() <= 64 and not (lengths % 4).any() and len({*lengths}) > 5
    assert budget.tokens(3) == lengths.sum() * 2 * 3
    # Half of the steps, and of the others those that draw it.
    longest = Budget(steps=2000).lengths(3) == 64
    assert abs(longest.mean() - (1 / 2 + 1 / 2 / 13)) < 0.04
    asked = [budget.batch(3, step, 64)[[*TASKS].index(RECALL)].asked.sum() for step in range(500)]
    assert abs(np.mean(np.equal(asked, 2 * 64 // 4)) - (1 / 2 + 1 / 2 / 16)) < 0.08
    first, again = budget.batch(3, 0, 32), budget.batch(3, 0, 32)
    for part, same in zip(first, again, strict=True):
        assert (part.tokens_BN == same.tokens_BN).all()
        assert not ((part.targets * part.asked).sum(axis=1) % 2).any()
    assert (first[0].tokens_BN != budget.batch(3, 1, 32)[0].tokens_BN).any()
    for task in TASKS:
        held_out = RetrievalMeasure(task, 64).windows()
        assert ((held_out.targets * held_out.asked).sum(axis=1) % 2 == 1).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("length", [16, 64, 128])
def test_a_reader_of_the_whole_window_is_always_right(task, length):
    found = accuracy(reader(), draw(task, np.random.default_rng(1), 8, length))
    assert found.exact_match()[0] == found.token_accuracy()[0] == 1
    assert found.exact_match(1, 0)[1] == found.token_accuracy(1, 0)[1] == 0
    silent = accuracy(lambda sources_BT: torch.full_like(sources_BT, MARK), draw(task, np.random.default_rng(1), 8, 16))
    assert silent.exact_match()[0] == silent.token_accuracy()[0] == 0


def test_a_reader_of_the_last_tokens_is_right_as_far_as_it_sees():
    """The token that asked before stands one before the answer, at the target's position less the distance."""
    length, seen = 128, 48
    for task in (PASSKEY, RECALL):
        windows = draw(task, np.random.default_rng(2), 60, length)
        found = accuracy(reader(seen), windows)
        distances = (np.arange(1, length + 1) - (windows.found_BT - 1))[windows.asked]
        assert found.tokens_right_N.tolist() == (distances < seen).tolist()
    # The passkey is asked for 5 tokens before the end: it is seen where its mark is among the last 48 then.
    within = length - KEY_SYMBOLS + 1 - (seen - 1) + 1
    passkey = accuracy(reader(seen), draw(PASSKEY, np.random.default_rng(2), 300, length))
    assert passkey.exact_match(within)[0] == 1 and passkey.exact_match(1, within - 1)[0] == 0
    assert passkey.exact_match(within)[1] + passkey.exact_match(1, within - 1)[1] == 300
    # Each token of a copied string is T / 2 before the one that is asked for.
    for see, right in ((length // 2, 0.0), (length // 2 + 2, 1.0)):
        assert accuracy(reader(see), draw(COPYING, np.random.default_rng(2), 4, length)).exact_match()[0] == right


def test_one_wrong_token_makes_an_answer_wrong_and_no_other():
    windows = draw(COPYING, np.random.default_rng(3), 4, 32)

    def wrong_once(sources_BT):
        predicted_BT = reader()(sources_BT)
        predicted_BT[0, 20] = MARK
        return predicted_BT

    found = accuracy(wrong_once, windows)
    assert found.right_A.tolist() == [False, True, True, True]
    assert found.token_accuracy() == (1 - 1 / 60, 60)
    place = windows.found_BT[0, 20]
    assert found.token_accuracy(place, place) == (3 / 4, 4)
    assert np.isnan(found.exact_match(30)[0]) and found.exact_match(30)[1] == 0


def test_a_model_that_writes_its_answer_by_itself_has_the_same_exact_match():
    """With the right tokens given before each, all are right if and only if it writes them so."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig("alibi", VOCABULARY_SIZE, layers=1, width=16, heads=2, feedforward=16)).eval()
    with torch.no_grad():
        model.embedding.weight_VC.mul_(4)  # Without training it repeats itself: it is right where the text is its own.
    drawn = draw(PASSKEY, np.random.default_rng(5), 6, 16)
    for window, row in enumerate(drawn.tokens_BN):
        written = model.generate(torch.from_numpy(row[:-KEY_SYMBOLS]), KEY_SYMBOLS, temperature=0).numpy()
        if window % 2:
            row[-KEY_SYMBOLS:] = written[-KEY_SYMBOLS:]
    assert accuracy(greedy(model), drawn).right_A.tolist() == [False, True] * 3


@pytest.mark.parametrize("method", ["alibi", "rotary", "t5", "none"])
def test_a_cell_asks_each_task_at_every_length_and_past_l_with_what_rescales_the_method(method):
    found = measures(method, 64)
    assert len({*found}) == len(found)
    plain = [measure for measure in found if measure.interpolation is None]
    assert {measure.length for measure in plain} == {*LENGTHS}
    for length in LENGTHS:
        assert {m.pairs for m in plain if (m.task, m.length) == (RECALL, length)} == {
            n for n in PAIRS if 4 * n <= length
        }
    kinds = {"alibi": {"pi", "ntk"}, "rotary": {"pi", "yarn"}}.get(method, set())
    others = [measure for measure in found if measure.interpolation]
    assert {m.interpolation for m in others} == kinds and all(m.length > 64 for m in others)
    assert {(m.task, m.length, m.pairs) for m in others} == (
        {(m.task, m.length, m.pairs) for m in plain if m.length > 64} if kinds else set()
    )


def test_parts_of_the_window_hold_every_answer():
    for measure in measures("none", 64):
        windows, parts = measure.windows(), measure.parts
        assert [first for first, _ in parts[1:]] == [last + 1 for _, last in parts[:-1]]
        found = accuracy(lambda sources_BT: torch.zeros_like(sources_BT), windows)
        share = found.token_accuracy if measure.task == COPYING else found.exact_match
        counts = [share(*part)[1] for part in parts]
        assert all(counts) and sum(counts) == share()[1], measure


def test_rescaled_slopes_are_asked_and_put_back(monkeypatch):
    asked = []
    monkeypatch.setattr(
        retrieval_cells, "greedy", lambda model: asked.append(model.positions.slopes_H.clone()) or greedy(model)
    )
    torch.manual_seed(0)
    model = Decoder(ModelConfig("alibi", VOCABULARY_SIZE, layers=1, width=32, heads=4, feedforward=32)).eval()
    own = model.positions
    kept = own.slopes_H.clone()
    measured(model, RetrievalMeasure(PASSKEY, 256, interpolation="pi"), 64)
    assert model.positions is own and torch.equal(own.slopes_H, kept)
    assert torch.equal(asked[0], kept / 4)
    with pytest.raises(ValueError, match="unknown interpolation of alibi 'yarn'; choose from pi, ntk"):
        measured(model, RetrievalMeasure(PASSKEY, 256, interpolation="yarn"), 64)
    assert model.positions is own


def test_what_can_t_be_drawn_is_refused():
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown retrieval task 'sorting'; choose from passkey, recall, copying"):
        draw("sorting", random, 1, 64)
    for windows, length in ((0, 64), (1, 12), (1, 66), (1, 1028)):
        with pytest.raises(ValueError, match=f"windows={windows}, length={length}: choose one window or more"):
            draw(PASSKEY, random, windows, length)
    for task, pairs in ((RECALL, 0), (RECALL, 17), (PASSKEY, 4), (COPYING, 4)):
        with pytest.raises(ValueError, match=f"pairs={pairs}: task recall has 1 to 16 in 64 tokens, the others none"):
            draw(task, random, 1, 64, pairs)


def test_an_unknown_text_is_refused_though_none_is_read():
    assert cells("laptop", corpus="wikitext-103") == cells("laptop")
    with pytest.raises(ValueError, match="unknown corpus 'wikipedias'; choose from"):
        cells("laptop", corpus="wikipedias")
    assert {cell.method for cell in cells("quick")} <= {*METHODS}
    longer = replace(cells("quick")[0].budget, length=128)
    assert longer.config("window").longest == 128 and not longer.config("alibi").longest
    with pytest.raises(ValueError, match="unknown position method 'rope'; choose from sinusoidal"):
        longer.config("rope")


@pytest.mark.parametrize("wrong", [{"length": 18}, {"length": 8}, {"windows": 0}, {"steps": 0}])
def test_a_budget_that_no_task_can_have_is_refused_before_training(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        Budget(**{"steps": 2} | wrong)


def test_an_unknown_recipe_is_refused_before_training():
    with pytest.raises(ValueError, match="unknown recipe 'sgd'; choose from"):
        Budget(steps=2, recipe="sgd")

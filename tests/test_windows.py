"""Blocks and windows: every token scored once on the official grid, a training order that needs no state."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alibi.windows import PIECE, TrainingOrder, Window, evaluation_windows, scored_tokens, shift, windows_in_windows


@given(st.integers(1, 300), st.integers(1, 64), st.data())
def test_every_token_is_scored_once_with_the_context_of_the_official_grid(tokens, length, data):
    stride = data.draw(st.integers(1, length))
    windows = list(evaluation_windows(tokens, length, stride))
    scored = [target for window in windows for target in range(window.scored, window.end)]
    assert scored == list(range(tokens))
    for number, window in enumerate(windows):
        assert window.end - window.start <= length
        assert window.scored - window.start == min(number * stride, length - stride)
        assert window.end - window.scored == min(stride, tokens - number * stride)


def test_the_papers_figure_10():
    nonoverlapping, sliding = list(evaluation_windows(8, 4)), list(evaluation_windows(8, 4, 1))
    assert nonoverlapping == [Window(0, 0, 4), Window(4, 4, 8)]
    # The paper draws five passes of full windows; the first four tokens share one there, and grow here.
    assert [w for w in sliding if w.end - w.start == 4] == [Window(i, i + 3, i + 4) for i in range(5)]


@pytest.mark.parametrize(
    ("tokens", "length", "stride", "told"),
    [
        (0, 4, None, "empty stream"),
        (9, 0, None, "at least 1 token"),
        (9, 4, 0, "stride must lie between"),
        (9, 4, 5, "stride must lie between"),
    ],
)
def test_impossible_windows_are_refused(tokens, length, stride, told):
    with pytest.raises(ValueError, match=told):
        list(evaluation_windows(tokens, length, stride))


@given(st.integers(1, 64), st.integers(1, 300), st.data())
def test_after_a_skip_every_length_and_stride_scores_the_same_tokens_in_full_windows(length, tokens, data):
    stride = data.draw(st.integers(1, length))
    windows = list(evaluation_windows(64 + tokens, length, stride, skip=64))
    assert [target for window in windows for target in range(window.scored, window.end)] == list(range(64, 64 + tokens))
    assert all(window.scored - window.start == length - stride for window in windows)
    assert all(window.end - window.start == length for window in windows[:-1])


@pytest.mark.parametrize("skip", [-1, 9, 10])
def test_a_skip_that_leaves_nothing_is_refused(skip):
    with pytest.raises(ValueError, match=f"skip={skip} of 9 tokens: choose 0 to 8"):
        list(evaluation_windows(9, 4, 2, skip))


@given(st.integers(1, 20_000), st.integers(0, 300), st.integers(1, 5000))
def test_a_sample_is_large_enough_and_spread_evenly_over_what_is_not_skipped(tokens, skip, sample):
    counted = scored_tokens(skip + tokens, skip, sample)
    assert min(tokens // PIECE * PIECE, sample) <= counted.sum() and not counted[:skip].any()
    places = np.flatnonzero(counted) - skip
    starts = places[places % PIECE == 0]
    assert places[0] == 0 and len(set(np.diff(starts))) <= 1
    # No gap at the end that another piece would have fitted into.
    assert len(starts) < 2 or tokens - starts[-1] <= np.diff(starts)[0] + PIECE
    assert scored_tokens(skip + tokens, skip).sum() == tokens


@pytest.mark.parametrize("sample", [0, -1])
def test_a_sample_of_nothing_is_refused(sample):
    with pytest.raises(ValueError, match=f"sample={sample}: choose at least one token, or None for all"):
        scored_tokens(500, 0, sample)


@pytest.mark.parametrize("length", [64, 128, 384, 512])
@pytest.mark.parametrize("sample", [4096, 5000, 16_384, 25_000])
def test_a_sample_falls_on_all_places_of_a_window_alike(length, sample):
    places = np.flatnonzero(scored_tokens(512 + 200_000, 512, sample)) - 512
    share = np.bincount(places % length // PIECE) / len(places)
    np.testing.assert_allclose(share, PIECE / length, atol=0.02)


def test_windows_in_a_window_score_its_tokens_once_and_never_look_out_of_it():
    windows = list(windows_in_windows(100, length=8, window=32, stride=2))
    assert windows[0] == Window(100, 100, 108) and windows[1] == Window(102, 108, 110)
    assert [target for w in windows for target in range(w.scored, w.end)] == list(range(100, 132))
    assert all(w.end - w.start == 8 and w.start >= 100 for w in windows)


def test_an_epoch_holds_each_block_once_and_targets_follow_sources():
    stream = np.arange(100, 1127, dtype=np.uint16)
    order = TrainingOrder(stream, end_of_line=7, length=16, batch=4, seed=0)
    assert order.blocks == 64 and order.steps_an_epoch == 16
    epochs = [[order(step) for step in range(e * 16, (e + 1) * 16)] for e in range(2)]
    for epoch in epochs:
        starts = sorted(int(row[0]) for _, targets in epoch for row in targets)
        assert starts == list(range(100, 1124, 16))
        for sources, targets in epoch:
            assert sources.shape == targets.shape == (4, 16)
            assert torch.equal(sources[:, 1:], targets[:, :-1])
            assert all(int(s[0]) == (7 if t[0] == 100 else t[0] - 1) for s, t in zip(sources, targets, strict=True))
    assert not torch.equal(epochs[0][0][1], epochs[1][0][1])
    again = TrainingOrder(stream, end_of_line=7, length=16, batch=4, seed=0)
    assert torch.equal(again(20)[0], epochs[1][4][0])
    assert not torch.equal(TrainingOrder(stream, 7, 16, 4, seed=1)(0)[0], epochs[0][0][0])


def test_a_stream_shorter_than_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"63 tokens, 3 blocks of length 16: a batch of 4 needs at least 64"):
        TrainingOrder(np.zeros(63, np.uint16), 0, 16, 4, 0)


def test_shift_puts_the_end_of_line_in_front():
    assert shift(np.array([5, 6], np.uint16), 3).tolist() == [3, 5, 6]

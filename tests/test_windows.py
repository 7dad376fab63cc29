"""Blocks and windows: every token scored once on the official grid, a training order that needs no state."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alibi.windows import TrainingOrder, Window, evaluation_windows, shift


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


@pytest.mark.parametrize(("tokens", "length", "stride"), [(0, 4, None), (9, 0, None), (9, 4, 0), (9, 4, 5)])
def test_impossible_windows_are_refused(tokens, length, stride):
    with pytest.raises(ValueError, match=r"empty stream|stride must lie between"):
        list(evaluation_windows(tokens, length, stride))


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

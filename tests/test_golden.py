"""Equality with vectors that the official code (ofirpress/attention_with_linear_biases) produced."""

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from alibi.positions import position_method, slopes
from alibi.positions.sinusoidal import sinusoid

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def official():
    return load_file(GOLDEN / "alibi.safetensors") | load_file(GOLDEN / "sinusoidal.safetensors")


def test_slopes_are_the_official_ones(official):
    assert torch.equal(torch.tensor(slopes(8)), official["slopes"])


def test_relative_bias_and_the_official_row_give_the_same_attention(official):
    row_HS = official["bias_row"].double()
    heads, keys = row_HS.shape
    positions = torch.arange(keys)
    relative_HTS = position_method("alibi", 64, heads).bias().dense(positions, positions).double()
    scores_HTS = torch.randn(heads, keys, keys, dtype=torch.float64)
    future_TS = positions[:, None] < positions
    attention = [
        (scores_HTS + bias).masked_fill(future_TS, -torch.inf).softmax(-1) for bias in (relative_HTS, row_HS[:, None])
    ]
    torch.testing.assert_close(*attention, rtol=0, atol=1e-12)


def test_sinusoid_is_the_official_one(official):
    # The official table is computed in float32, whose angles err with the row.
    found = position_method("sinusoidal", 64, 8).embeddings(torch.arange(256))
    torch.testing.assert_close(found, official["d64.positions_0_255"], rtol=0, atol=2e-5)
    raw = official["d64.raw_rows_0_9"]
    assert not raw[1].any(), "row 1 is the padding row, zero by definition"
    torch.testing.assert_close(sinusoid(torch.arange(2, 10), 64), raw[2:], rtol=0, atol=2e-5)

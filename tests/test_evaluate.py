"""Evaluation: every token once, the same loss however windows are batched, and the units as defined."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from alibi import evaluate as evaluation
from alibi.corpora.corpus import Split
from alibi.evaluate import evaluate
from alibi.model import Decoder, ModelConfig
from alibi.windows import evaluation_windows, shift


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Decoder(ModelConfig("alibi", vocabulary_size=40, layers=2, width=32, heads=4, feedforward=64))


def split(tokens):
    return Split("valid", tokens, words=60, bytes=333, articles=1, sha256="")


@pytest.fixture
def tokens():
    return np.random.default_rng(0).integers(0, 40, 101).astype(np.uint16)


@pytest.mark.parametrize(("length", "stride"), [(16, None), (7, None), (16, 4), (16, 1), (12, 5), (200, None), (1, 1)])
def test_loss_is_that_of_the_windows_run_one_at_a_time(model, tokens, length, stride):
    stream, expected = torch.from_numpy(shift(tokens, 3)), 0.0
    by_position = np.zeros(length)
    for window in evaluation_windows(len(tokens), length, stride):
        taken = stream[None, window.start : window.end + 1]
        losses = model.negative_log_likelihood(taken[:, :-1], taken[:, 1:])[0].double()
        skip = window.scored - window.start
        expected += losses[skip:].sum().item()
        by_position[skip : len(losses)] += losses[skip:].detach().numpy()
    found = evaluate(model, split(tokens), 3, length, stride)
    assert found.nats == pytest.approx(expected, rel=1e-6)
    assert found.tokens_by_position.sum() == found.tokens == 101
    np.testing.assert_allclose(found.nats_by_position, by_position, rtol=1e-5)


def test_batches_change_nothing(model, tokens, monkeypatch):
    together = evaluate(model, split(tokens), 3, 8, 2).nats
    monkeypatch.setattr(evaluation, "BATCH_TOKENS", 1)
    assert evaluate(model, split(tokens), 3, 8, 2).nats == pytest.approx(together, rel=1e-7)


def test_units(model, tokens):
    found = evaluate(model, split(tokens), 3, 16)
    assert found.perplexity == pytest.approx(math.exp(found.nats / 101))
    assert found.word_perplexity == pytest.approx(math.exp(found.nats / 60))
    assert found.bits_per_byte == pytest.approx(found.nats / math.log(2) / 333)


def test_words_too_long_or_none_leave_the_other_units(model, tokens):
    found = evaluate(model, replace(split(tokens), words=0), 3, 16)
    assert math.isnan(found.word_perplexity) and found.remark.startswith("there is no perplexity per word")
    assert math.isfinite(found.perplexity) and math.isfinite(found.bits_per_byte)
    one = replace(found, nats=2000.0, words=1.0)
    assert one.word_perplexity == math.inf and one.perplexity == math.exp(2000 / 101)
    assert one.remark == "perplexity per word is more than a float holds, at 333 bytes a word"
    assert replace(one, tokens=1).perplexity == math.inf
    assert replace(one, words=60.0).remark == ""


def test_a_uniform_model_has_the_vocabulary_size_as_perplexity(model, tokens):
    torch.nn.init.zeros_(model.embedding.weight_VC)
    assert evaluate(model, split(tokens), 3, 16, 8).perplexity == pytest.approx(40, rel=1e-6)


def test_a_prefix_scores_its_tokens_and_its_share_of_words(model, tokens):
    found = evaluate(model, split(tokens), 3, 16, prefix=50)
    alone = evaluate(model, split(tokens[:50]), 3, 16)
    assert found.nats == alone.nats and found.tokens == 50
    assert found.words == pytest.approx(60 * 50 / 101)


def test_nothing_to_evaluate_is_refused(model):
    with pytest.raises(ValueError, match="the split valid has no tokens"):
        evaluate(model, split(np.array([], np.uint16)), 3, 16)

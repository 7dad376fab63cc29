"""Methods with constants for an eighth of the lengths: what they are at L is what the paper's are at 8 L."""

import math

import pytest
import torch

from alibi.model import Decoder, ModelConfig
from alibi.positions import METHODS, PAPER_METHODS, SCALED_METHODS, position_method
from alibi.positions.t5 import bucket
from alibi.reproduction.choice import Choice, cells


def share_in_last(bucket_of, length):
    """Share of a block's pairs in the last bucket."""
    buckets = bucket_of(torch.arange(length))
    pairs = (length - torch.arange(length)).double()
    return (pairs[buckets == buckets.max()].sum() / pairs.sum()).item()


def test_each_of_the_papers_methods_has_one():
    assert set(SCALED_METHODS) == set(PAPER_METHODS) and set(SCALED_METHODS.values()) < set(METHODS)


def test_alibi_at_a_distance_is_alibi_at_eight_times_it():
    scaled, paper = (position_method(name, 64, 8).bias() for name in ("alibi-x8", "alibi"))
    near, far = (torch.arange(64) * factor for factor in (1, 8))
    dense = scaled.dense(near[-1:], near, torch.float64)
    torch.testing.assert_close(dense, paper.dense(far[-1:], far, torch.float64), rtol=0, atol=0)


def test_buckets_are_met_and_filled_as_the_papers():
    method = position_method("t5-16", 64, 8)
    bucket_of_16 = method.bias().bucket
    assert bucket_of_16(torch.arange(64)).unique().tolist() == list(range(16))
    assert bucket_of_16(torch.tensor([7, 8, 14, 15, 1000])).tolist() == [7, 8, 14, 15, 15]
    assert f"{share_in_last(bucket_of_16, 64):.1%} {share_in_last(bucket, 512):.1%}" == "58.9% 60.8%"
    at = torch.arange(40)
    assert method.weights_KH.shape == (16, 8)
    expected = method.weights_KH.detach()[bucket_of_16(39 - at)].T
    assert torch.equal(method.bias().dense(at[-1:], at).detach()[:, 0], expected)


def test_slowest_turns_are_eight_times_as_fast():
    places = torch.arange(300)
    found = position_method("sinusoidal-base", 64, 8).embeddings(places).double()
    slowest = torch.sin((places + 2).double() / 1250)
    torch.testing.assert_close(found[:, 31], slowest, rtol=0, atol=1e-6)
    pairs = torch.zeros(1, 1, 300, 8)
    pairs[..., 6] = 1
    turned = position_method("rotary-base", 64, 8).rotate(pairs, places)[0, 0]
    torch.testing.assert_close(turned[:, 3].double(), (places * 1250 ** (-6 / 8)).double().cos(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SCALED_METHODS.values())
def test_a_model_learns_with_it(name):
    torch.manual_seed(0)
    shape = {"vocabulary_size": 50, "layers": 2, "width": 32, "heads": 4, "feedforward": 64}
    model, tokens = Decoder(ModelConfig(name, **shape)), torch.randint(50, (2, 24))
    loss = model.negative_log_likelihood(tokens, tokens).mean()
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_the_experiment_has_a_run_beside_each_of_the_first():
    laptop = {(cell.spec.method, cell.train_length): cell for cell in cells(Choice("scaled_methods", "laptop"))}
    plain = {
        (cell.spec.method, cell.train_length): cell for cell in cells(Choice("wikitext103", "laptop")) if cell.trains
    }
    assert len(laptop) == 8
    for method, name in SCALED_METHODS.items():
        for length in (64, 128):
            assert set(laptop[name, length].measures) <= set(plain[method, length].measures)

"""The paper's optimiser and schedule: the stated formulas, resumed in the middle, wrong numbers refused."""

import copy
import math

import pytest
import torch
from small_run import config_for, period_corpus, resumed_after, steps_done
from torch import nn

from alibi.model import Decoder, ModelConfig
from alibi.optim import NAG, RECIPES, WEIGHT_DECAY, adamw, cosine_restarts, method_rate
from alibi.positions import METHODS, T5Bias
from alibi.scale import SCALES
from alibi.train import Training


def made(seed=0, **options):
    torch.manual_seed(seed)
    parameters = [nn.Parameter(torch.randn(3, 4, dtype=torch.float64)), nn.Parameter(torch.randn(5).double())]
    optimizer = NAG([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=0.1, **options)
    return parameters, optimizer


def step(parameters, optimizer, number):
    generator = torch.Generator().manual_seed(number)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
    optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_a_constant_rate_gives_nesterovs_method(weight_decay):
    # At a constant rate fairseq's form is torch's, whose buffer holds the gradients without the rate.
    ours, optimizer = made(weight_decay=weight_decay)
    theirs, _ = made()
    reference = torch.optim.SGD(theirs, 0.1, momentum=0.99, nesterov=True)
    for number in range(30):
        step(ours, optimizer, number)
        with torch.no_grad():
            for p in theirs:
                p.mul_(1 - 0.1 * weight_decay)
        step(theirs, reference, number)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q)


def test_a_warm_up_from_zero_changes_nothing():
    # torch's schedules may begin at 0, where the buffer's ratio of rates has no value.
    warmed, optimizer = made()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    step(warmed, optimizer, 0)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    plain, other = made()
    for number in range(1, 4):
        step(warmed, optimizer, number)
        step(plain, other, number)
    assert all(torch.equal(p, q) for p, q in zip(warmed, plain, strict=True))


def test_resumed_is_never_stopped():
    def run(stop):
        parameters, optimizer = made()
        schedule = cosine_restarts(optimizer, 5, 1e-3, 0.5, 0.01, 7, 2.0, 0.75)
        for number in range(40):
            if number == stop:
                saved = copy.deepcopy([optimizer.state_dict(), schedule.state_dict()])
                values = [p.detach().clone() for p in parameters]
                parameters, optimizer = made(seed=1)
                schedule = cosine_restarts(optimizer, 5, 1e-3, 0.5, 0.01, 7, 2.0, 0.75)
                with torch.no_grad():
                    for p, value in zip(parameters, values, strict=True):
                        p.copy_(value)
                optimizer.load_state_dict(saved[0])
                schedule.load_state_dict(saved[1])
            step(parameters, optimizer, number)
            schedule.step()
        return parameters

    whole = run(None)
    for stop in (1, 3, 12, 26):
        assert all(torch.equal(p, q) for p, q in zip(whole, run(stop), strict=True))


def test_the_schedule_warms_up_falls_and_restarts_lower_and_longer():
    parameters, optimizer = made()
    schedule = cosine_restarts(optimizer, 10, 1e-7, 1.0, 1e-4, 20, 2.0, 0.75)
    rates = []
    for number in range(100):
        rates.append([group["lr"] for group in optimizer.param_groups])
        step(parameters, optimizer, number)
        schedule.step()
    assert all(first == second for first, second in rates)
    rates = [first for first, _ in rates]
    assert rates[0] == 1e-7 and rates[5] == pytest.approx(0.5, abs=1e-6) and rates[10] == 1.0
    assert rates[20] == pytest.approx((1 + 1e-4) / 2) and rates[29] < 0.01
    assert rates[30] == pytest.approx(0.75) and rates[50] == pytest.approx(0.75 * (1 + 1e-4) / 2)
    assert rates[70] == pytest.approx(0.75**2)


@pytest.mark.parametrize("highest", [1.0, 1e-5, 1e-9])
def test_no_rate_of_the_papers_recipe_is_above_the_highest(highest):
    optimizer, schedule, _ = RECIPES["paper"](small_model("alibi"), highest, 10, 110, None)
    rates = []
    for _ in range(110):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == rates[10] == highest
    lowest = min(1e-4, highest)
    assert rates[109] == pytest.approx(lowest + (highest - lowest) * (1 + math.cos(0.99 * math.pi)) / 2)


def test_a_parameter_without_gradient_stays_and_a_closure_is_called():
    parameters, optimizer = made()
    parameters[0].grad = torch.ones_like(parameters[0])
    before = [p.detach().clone() for p in parameters]
    assert optimizer.step(lambda: 7.0) == 7.0
    assert not torch.equal(parameters[0], before[0]) and torch.equal(parameters[1], before[1])


@pytest.mark.parametrize("wrong", [{"period": 0}, {"t_mult": 0.5}])
def test_periods_that_never_reach_an_update_are_refused(wrong):
    _, optimizer = made()
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        cosine_restarts(optimizer, **wrong)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": math.nan}, {"momentum": 1.0}, {"weight_decay": math.nan}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        NAG([nn.Parameter(torch.zeros(1))], **{"lr": 0.1} | wrong)


def small_model(name):
    return Decoder(ModelConfig(name, vocabulary_size=20, layers=1, width=16, heads=2, feedforward=32, longest=8))


@pytest.mark.parametrize("name", METHODS)
def test_adamw_gives_the_positions_a_rate_of_their_own_and_no_decay(name):
    model = small_model(name)
    named = {id(p): parameter for parameter, p in model.named_parameters()}
    found = {}
    for group in adamw(model, 0.01, steps=1300, method_factor=None).param_groups:
        found |= {named[id(p)]: (group["lr"], group["weight_decay"]) for p in group["params"]}
    assert found.keys() == set(named.values())
    for parameter, p in model.named_parameters():
        placed = parameter.startswith("positions.")
        decay = WEIGHT_DECAY if p.dim() >= 2 and not placed else 0.0
        rate = 0.01 * (10 if placed and METHODS[name].travel else 1)
        assert found[parameter] == (pytest.approx(rate), decay)


def test_the_schedule_of_adamw_keeps_the_factor_and_the_paper_s_recipe_has_none():
    for recipe, factor in (("adamw", 30.0), ("paper", None)):
        optimizer, schedule, _ = RECIPES[recipe](small_model("t5"), 0.01, 5, 20, None)
        for _ in range(20):
            rates = [group["lr"] for group in optimizer.param_groups]
            assert len(set(rates[:2])) == 1
            assert rates[2:] == ([] if factor is None else [pytest.approx(factor * rates[0])])
            assert schedule.get_last_lr()[0] == rates[0]
            optimizer.step()
            schedule.step()


def test_the_factor_of_the_t5_table_follows_from_the_budget_or_is_the_one_asked_for():
    travel = METHODS["t5"].travel
    for scale, factor in (("quick", 30.0), ("gpu", 30.0), ("laptop", 7.47)):
        size = SCALES[scale]
        assert method_rate(travel, size.learning_rate, size.steps) == factor
    # Too few steps for any table to travel so far, and so many that it does at the model's own rate.
    assert method_rate(travel, 2e-3, 8) == 30.0 and method_rate(travel, 3e-3, 100_000) == 1.0
    assert method_rate(METHODS["alibi"].travel, 2e-3, 8) == 1.0
    for recipe in ("adamw", "adamw-small-batch"):
        groups = RECIPES[recipe](small_model("t5"), 0.01, 5, 20, 7.0)[0].param_groups
        assert groups[2]["initial_lr"] == pytest.approx(7 * groups[0]["initial_lr"])


def test_the_recipe_for_small_batches_remembers_rare_words_and_ends_at_zero():
    optimizer, schedule, _ = RECIPES["adamw-small-batch"](small_model("alibi"), 0.01, 5, 20, None)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}
    rates = []
    for _ in range(20):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[4] == max(rates) == pytest.approx(0.01)
    assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)


def test_the_t5_table_can_travel_as_far_as_attention_scores_ask(monkeypatch):
    def travelled():
        model = small_model("t5")
        optimizer, schedule, _ = RECIPES["adamw"](model, 2e-3, 30, 300, None)
        begin = model.positions.weights_KH.detach().clone()
        for _ in range(300):
            optimizer.zero_grad()
            model.positions.weights_KH.sum().backward()
            optimizer.step()
            schedule.step()
        return (begin - model.positions.weights_KH).min().item()

    assert 9 < travelled() < 11
    monkeypatch.setattr(T5Bias, "travel", 0.0)
    assert 0.3 < travelled() < 0.4


def test_a_run_with_a_rate_of_its_own_resumes_to_the_same_bits():
    corpus = period_corpus()
    config = config_for(corpus, "t5")
    whole = steps_done(Training(config, corpus), 12)
    resumed = resumed_after(config, corpus, 5)
    rates = [group["lr"] for group in resumed.optimizer.param_groups]
    assert rates[2] == pytest.approx(30 * rates[0]) and rates[0] == rates[1] == resumed.schedule.get_last_lr()[0]
    steps_done(resumed, 7)
    for tensor, other in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(tensor, other)

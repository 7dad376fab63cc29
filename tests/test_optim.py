"""The paper's optimiser and schedule: the stated formulas, resumed in the middle, wrong numbers refused."""

import copy
import math

import pytest
import torch
from torch import nn

from alibi.optim import NAG, cosine_restarts


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


def test_a_parameter_without_gradient_stays_and_a_closure_is_called():
    parameters, optimizer = made()
    parameters[0].grad = torch.ones_like(parameters[0])
    before = [p.detach().clone() for p in parameters]
    assert optimizer.step(lambda: 7.0) == 7.0
    assert not torch.equal(parameters[0], before[0]) and torch.equal(parameters[1], before[1])


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": math.nan}, {"momentum": 1.0}, {"weight_decay": -1.0}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        NAG([nn.Parameter(torch.zeros(1))], **{"lr": 0.1} | wrong)

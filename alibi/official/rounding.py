"""Bounds on the rounding error of a model's results, for any machine, kernel and number of threads.

Rounded to a unit u (2^-24 in float32, 2^-53 in float64), a sum of n products has a random error. Its standard deviation
is at most sqrt(n) u of the sum of the absolute products, for any order of the terms (Higham and Mary 2019, A New
Approach to Probabilistic Rounding Error Analysis). An exact sum has the same error if its factors are off by sqrt(n) u.
So `bounds` computes the quantity in float64, exact for this purpose. Then it multiplies each weight, each module's
result and each backward gradient by 1 + sqrt(n) u or 1 - sqrt(n) u, with random signs from a fixed seed, and computes
the quantity again. The root mean square of the changes is the standard deviation of the quantity; it does not depend on
this machine's rounding. Two computations that both round, ours and the official one, may differ by `DEVIATIONS`
standard deviations.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alibi.model import Decoder

UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
# Six standard deviations of the difference of two computations; a normal variable exceeds six once in 500 million
# times.
DEVIATIONS = 6 * math.sqrt(2)
DRAWS = 8

Quantities = dict[str, Tensor]


def relative_error(summands: int, dtype: torch.dtype) -> float:
    """The relative standard deviation of a sum of n = `summands` products in this dtype: sqrt(n) u."""
    return math.sqrt(summands) * UNIT_ROUNDOFF[dtype]


def bounds(
    model: Callable[[], Decoder], quantities: Callable[[Decoder], Quantities], error: float, slopes_error: float = 0.0
) -> dict[str, float]:
    """The largest difference that rounding explains between two computations of each quantity.

    Args:
        model: makes a new model in float64.
        quantities: computes the quantities from a model, which it may train. The entries of a quantity share a bound.
        error: rounding error of each computation, from `relative_error`.
        slopes_error: relative error of the linear bias, if larger.
    """
    exact, generator = quantities(model()), torch.Generator().manual_seed(0)
    moved = [quantities(perturbed(model(), error, max(error, slopes_error), generator)) for _ in range(DRAWS)]
    return {
        name: DEVIATIONS * float(torch.stack([one[name] - values for one in moved]).square().mean().sqrt())
        for name, values in exact.items()
    }


class _Perturb(torch.autograd.Function):
    """Multiplies by 1 +- error in the forward pass, and the gradient in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, error: float, generator: torch.Generator) -> Tensor:
        ctx.error, ctx.generator = error, generator
        return x * _factors(x, error, generator)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * _factors(gradient, ctx.error, ctx.generator), None, None


def _factors(x: Tensor, error: float, generator: torch.Generator) -> Tensor:
    return 1 + error * (2 * torch.randint(0, 2, x.shape, generator=generator) - 1).to(x.dtype)


def perturbed(model: Decoder, error: float, slopes_error: float, generator: torch.Generator) -> Decoder:
    """The model itself: its weights and slopes are moved, and hooks move each module's results and gradients."""

    def move(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        moved: Tensor = _Perturb.apply(output, error, generator)
        return moved

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(_factors(parameter, error, generator))
        for slopes_H in model.positions.buffers():
            slopes_H.mul_(_factors(slopes_H, slopes_error, generator))
    for part in (model.embedding, *model.layers):
        for module in part.modules():
            if not isinstance(module, nn.ParameterList):
                module.register_forward_hook(move)
    return model

"""How far rounding may move what a model computes, on any machine, with any kernel and number of threads.

Rounded to a unit u (2^-24 in float32, 2^-53 in float64), a sum of n products errs by a random amount whose standard
deviation is at most sqrt(n) u of the sum of their absolute values, whatever the order of its terms (Higham and Mary
2019, A New Approach to Probabilistic Rounding Error Analysis). The exact sum of products whose factors are off by as
much errs as much. So the quantity is computed in float64, exact for this purpose, and again with each weight, each
result of a module and each gradient that flows back multiplied by 1 + sqrt(n) u or 1 - sqrt(n) u, signs drawn at random
from a fixed seed. The root mean square of how far that moves the quantity is its standard deviation; nothing in it
depends on how the machine at hand rounds. Two computations that both round, ours and the official one, may differ by
`DEVIATIONS` standard deviations of their difference.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alibi.model import Decoder

UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
# Of the difference of two: six of each. Beyond six a normal variable lies once in 500 million times.
DEVIATIONS = 6 * math.sqrt(2)
DRAWS = 8

Quantities = dict[str, Tensor]


def relative_error(summands: int, dtype: torch.dtype) -> float:
    """The standard deviation of a sum of so many products in this dtype: sqrt(n) u, relative."""
    return math.sqrt(summands) * UNIT_ROUNDOFF[dtype]


def bounds(
    model: Callable[[], Decoder], quantities: Callable[[Decoder], Quantities], error: float, slopes_error: float = 0.0
) -> dict[str, float]:
    """How far two computations of each quantity may lie apart, each of which rounds by `error`.

    Args:
        model: makes the model anew, in float64.
        quantities: computes them from a model; may train it. The entries of one quantity share a bound.
        error: from `relative_error`.
        slopes_error: relative error of the linear bias where that is larger.
    """
    exact, generator = quantities(model()), torch.Generator().manual_seed(0)
    moved = [quantities(perturbed(model(), error, max(error, slopes_error), generator)) for _ in range(DRAWS)]
    return {
        name: DEVIATIONS * float(torch.stack([one[name] - values for one in moved]).square().mean().sqrt())
        for name, values in exact.items()
    }


class _Perturb(torch.autograd.Function):
    """Multiplies by 1 +- error on the way forward, and the gradient on the way back."""

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
    """The model itself, its weights and slopes moved, and hooked so that each module's results and gradients are."""

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

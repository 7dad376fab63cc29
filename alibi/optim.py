"""Optimisers and schedules: the paper's (Nesterov, cosine with restarts), and AdamW for the small scales."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from alibi.errors import InputError
from alibi.positions import PositionMethod

WEIGHT_DECAY = 0.1
LARGEST_METHOD_RATE = 30.0


class NAG(torch.optim.Optimizer):
    """Nesterov's accelerated gradient as in fairseq, the paper's optimiser: the buffer contains the learning rate.

    With r = rate / rate of the previous step, momentum m, decay d and gradient g, a step is

        p <- p (1 - rate d) + m^2 r v - (1 + m) rate g,        v <- m r v - rate g,

    so that a buffer v from one rate fits the next. torch's SGD with nesterov=True keeps gradients without their rates,
    which is another algorithm as soon as the rate changes.

    Args:
        parameters: parameters to optimise, or groups of them.
        lr: learning rate.
        momentum: m (0.99 in the official code).
        weight_decay: d (0 in the official code).

    Raises:
        InputError: if a number is out of range.
    """

    def __init__(self, parameters: Iterable[Any], lr: float, momentum: float = 0.99, weight_decay: float = 0.0) -> None:
        if not 0 < lr < math.inf or not 0 <= momentum < 1 or not 0 <= weight_decay < math.inf:
            raise InputError(
                f"lr={lr}, momentum={momentum}, weight_decay={weight_decay}: the rate must be above 0, "
                "the momentum in [0, 1), the decay not negative, all finite"
            )
        # The last step's rate belongs to the group, so that it is saved and restored with the buffers.
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "last_lr": None})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; a closure, if given, evaluates the loss again and returns it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            # After no step, or a step of rate 0, the buffers are zero and any ratio will do.
            ratio = rate / group["last_lr"] if group["last_lr"] else 1.0
            parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters if p.grad is not None]
            for p in parameters:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in parameters]
            if parameters:
                torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
                torch._foreach_add_(parameters, buffers, alpha=momentum * momentum * ratio)
                torch._foreach_add_(parameters, gradients, alpha=-(1 + momentum) * rate)
                torch._foreach_mul_(buffers, momentum * ratio)
                torch._foreach_add_(buffers, gradients, alpha=-rate)
            group["last_lr"] = rate
        return loss


def cosine_restarts(
    optimizer: torch.optim.Optimizer,
    warmup_updates: int = 16_000,
    warmup_init_lr: float = 1e-7,
    lr: float = 1.0,
    min_lr: float = 1e-4,
    period: float = 270_000,
    t_mult: float = 2.0,
    shrink: float = 0.75,
) -> LambdaLR:
    """The paper's schedule: a linear warm-up, then cosines; each period is longer and lower than the previous one.

    With w warm-up updates and t = u - w inside the current period T, the update after u updates has the rate

        warmup_init_lr + u (lr - warmup_init_lr) / w   for u < w,
        min + (max - min) (1 + cos(pi t / T)) / 2      after,

    where a new period multiplies T by `t_mult` and both limits by `shrink`. The defaults are the official command's,
    which stops after 286,000 updates, the end of the first period.

    Args:
        optimizer: the schedule sets the rate of all its groups.
        warmup_updates: w.
        warmup_init_lr: the rate of the first update.
        lr: the highest rate.
        min_lr: the lowest rate of the first period.
        period: updates in the first period.
        t_mult: factor of each new period's length.
        shrink: factor of each new period's rates.

    Raises:
        InputError: if `period` is not positive, or `t_mult` is below 1: periods would never reach a later update.
    """
    if not period > 0 or not t_mult >= 1:
        raise InputError(f"period={period}, t_mult={t_mult}: a period has updates, and the next is not shorter")

    def rate(updates: int) -> float:
        if updates < warmup_updates:
            return warmup_init_lr + updates * (lr - warmup_init_lr) / warmup_updates
        low, high, into, length = min_lr, lr, float(updates - warmup_updates), period
        while into >= length:
            into, length, low, high = into - length, length * t_mult, low * shrink, high * shrink
        return low + (high - low) * (1 + math.cos(math.pi * into / length)) / 2

    for group in optimizer.param_groups:
        group["lr"] = 1.0  # LambdaLR multiplies the rate that it finds.
        group.pop("initial_lr", None)
    return LambdaLR(optimizer, rate)


def method_rate(travel: float, learning_rate: float, steps: int) -> float:
    """The factor of the learning rate for a method's own parameters, from the budget alone.

    Each step of Adam is about as long as its learning rate, and the rates sum up to steps * learning_rate / 2 under a
    cosine that ends at 0. The factor makes this sum equal to `travel`; it is at least 1, and at most 30. Recipe adamw's
    cosine ends at a tenth of the rate, which adds 9 %.

    Args:
        travel: nats that a parameter must be able to move (`alibi.positions.PositionMethod.travel`).
        learning_rate: the highest rate.
        steps: number of steps of the whole run.
    """
    return min(LARGEST_METHOD_RATE, max(1.0, round(2 * travel / (steps * learning_rate), 2)))


def adamw(
    model: torch.nn.Module, learning_rate: float, steps: int, method_factor: float | None, second_beta: float = 0.95
) -> torch.optim.AdamW:
    """AdamW with betas (0.9, second_beta). Matrices decay by 0.1; biases, norms and position parameters do not.

    The method's own parameters have their own learning rate: the model's times `method_factor` or, if that is None,
    times `method_rate`.
    """
    methods = [module for module in model.modules() if isinstance(module, PositionMethod)]
    placed = {id(p) for method in methods for p in method.parameters()}
    rest = [p for p in model.parameters() if id(p) not in placed]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    for method in methods:
        if own := list(method.parameters()):
            factor = method_rate(method.travel, learning_rate, steps) if method_factor is None else method_factor
            groups.append({"params": own, "weight_decay": 0.0, "lr": learning_rate * factor})
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, second_beta), fused=True)


def warmup_cosine(optimizer: torch.optim.Optimizer, warmup_steps: int, steps: int, last_share: float = 0.1) -> LambdaLR:
    """Linear warm-up over `warmup_steps`, then a cosine from the highest rate down to its `last_share` at `steps`."""

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, steps - warmup_steps)
        return last_share + (1 - last_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, share)


Recipe = tuple[torch.optim.Optimizer, LambdaLR, float]


def adamw_recipe(
    model: torch.nn.Module,
    learning_rate: float,
    warmup_steps: int,
    steps: int,
    method_factor: float | None,
    second_beta: float = 0.95,
    last_share: float = 0.1,
) -> Recipe:
    """AdamW with betas (0.9, second_beta), one cosine to this share of the rate, gradients clipped to norm 1."""
    optimizer = adamw(model, learning_rate, steps, method_factor, second_beta)
    return optimizer, warmup_cosine(optimizer, warmup_steps, steps, last_share), 1.0


def paper_recipe(
    model: torch.nn.Module, learning_rate: float, warmup_steps: int, steps: int, method_factor: float | None
) -> Recipe:
    """The paper's recipe: Nesterov with momentum 0.99, a cosine after the warm-up, gradients clipped to norm 0.1.

    Its steps grow with the gradient, so the method's own parameters need no factor. The lowest rate is the official
    1e-4, or the highest where that is below it; so is the first rate, 1e-7.
    """
    optimizer = NAG(model.parameters(), learning_rate)
    period, first, lowest = max(1, steps - warmup_steps), min(1e-7, learning_rate), min(1e-4, learning_rate)
    return optimizer, cosine_restarts(optimizer, warmup_steps, first, learning_rate, lowest, period), 0.1


# Optimiser, schedule and the largest norm of gradients.
RECIPES: dict[str, Callable[[torch.nn.Module, float, int, int, float | None], Recipe]] = {
    "adamw": adamw_recipe,
    # A batch of 1,536 tokens misses most words. A second moment over 20 steps (0.95) has forgotten a word before it
    # comes again; a second moment over 1,000 steps (0.999) has not. After 600 steps of 768 tokens the loss of ALiBi was
    # 0.09 nats lower.
    "adamw-small-batch": partial(adamw_recipe, second_beta=0.999, last_share=0.0),
    "paper": paper_recipe,
}

"""Optimisers and schedules: AdamW with warm-up and cosine decay, the recipe of the small scales."""

import math

import torch
from torch.optim.lr_scheduler import LambdaLR

WEIGHT_DECAY = 0.1
LAST_SHARE = 0.1


def adamw(model: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """AdamW with betas (0.9, 0.95); matrices decay by 0.1, biases, norms and position tables do not."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.dim() >= 2 and not name.startswith("positions.")]
    others = [p for name, p in named if p.dim() < 2 or name.startswith("positions.")]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def warmup_cosine(optimizer: torch.optim.Optimizer, warmup_steps: int, steps: int) -> LambdaLR:
    """Linear warm-up over `warmup_steps`, then a cosine from the highest rate to a tenth of it at `steps`."""

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, steps - warmup_steps)
        return LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, share)

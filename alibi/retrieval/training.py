"""The training of a small model on all retrieval tasks at once, from random weights."""

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from alibi.configuration import TrainingError
from alibi.device import placed, settle_cpu
from alibi.model import Decoder, ModelConfig
from alibi.optim import RECIPES
from alibi.positions import METHODS
from alibi.progress import bar as progress_bar
from alibi.retrieval.tasks import RECALL, SHORTEST, TASKS, VOCABULARY_SIZE, Windows, draw


@dataclass(frozen=True)
class Budget:
    """A model and how it is trained; each step has the same number of windows of every task."""

    steps: int
    model: ModelConfig = ModelConfig("alibi", VOCABULARY_SIZE, layers=2, width=128, heads=8, feedforward=256)
    """Its shape; the position method is set by `train`."""
    windows: int = 32
    """Windows of each task in a step."""
    length: int = 64
    """Tokens of the longest windows, L; each step has windows of one length, from `SHORTEST` to this."""
    recipe: str = "adamw"
    """Optimiser, schedule and clipping, a name of `alibi.optim.RECIPES`."""
    learning_rate: float = 2e-3
    warmup_steps: int = 100

    def config(self, method: str) -> ModelConfig:
        """The shape of the model with this position method."""
        return replace(self.model, method=method, longest=self.length if METHODS[method].needs_longest else 0)

    def batch(self, seed: int, step: int) -> Windows:
        """The windows of a step, the same for every method."""
        random = np.random.default_rng([seed, step])
        length = 4 * int(random.integers(SHORTEST // 4, self.length // 4 + 1))
        pairs = int(random.integers(1, length // 4 + 1))
        parts = [draw(task, random, self.windows, length, pairs if task == RECALL else None) for task in TASKS]
        return Windows(
            np.concatenate([part.tokens_BN for part in parts]), np.concatenate([part.found_BT for part in parts])
        )

    @property
    def tokens(self) -> int:
        """Tokens trained on, but for the chance of the lengths."""
        return self.steps * self.windows * len(TASKS) * (SHORTEST + self.length) // 2

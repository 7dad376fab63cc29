"""The training of a small model on all retrieval tasks at once, from random weights."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from alibi.configuration import TrainingError
from alibi.device import placed, settle_cpu
from alibi.errors import InputError, UnknownNameError
from alibi.model import Decoder, ModelConfig
from alibi.optim import RECIPES
from alibi.positions import METHODS
from alibi.progress import bar as progress_bar
from alibi.retrieval.tasks import RECALL, SHORTEST, TASKS, VOCABULARY_SIZE, Windows, check_windows, draw

MODEL = ModelConfig("alibi", VOCABULARY_SIZE, layers=4, width=128, heads=8, feedforward=128)


@dataclass(frozen=True)
class Budget:
    """A model and its training; each step has the same number of windows of every task.

    Raises:
        InputError: for an unknown recipe, or a number out of range.
    """

    steps: int
    model: ModelConfig = MODEL
    """Shape of the model; `train` sets the position method."""
    windows: int = 16
    """Windows of each task in a step."""
    length: int = 64
    """Tokens of the longest windows, L. Half of the steps, on average, have length L; the others any length up to L."""
    recipe: str = "adamw"
    """Optimiser, schedule and clipping, a name of `alibi.optim.RECIPES`."""
    learning_rate: float = 3e-3
    warmup_steps: int = 100

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise UnknownNameError("recipe", self.recipe, RECIPES)
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: choose one step or more")
        check_windows(self.windows, self.length)

    def config(self, method: str) -> ModelConfig:
        """The shape of the model with this position method.

        Raises:
            InputError: for an unknown method; the message lists the known ones.
        """
        if method not in METHODS:
            raise UnknownNameError("position method", method, METHODS)
        return replace(self.model, method=method, longest=self.length if METHODS[method].needs_longest else 0)

    def lengths(self, seed: int) -> np.ndarray:
        """Tokens of the windows of each step, T: L, or a length from `SHORTEST` to L."""
        random = np.random.default_rng(seed)
        shorter = 4 * random.integers(SHORTEST // 4, self.length // 4 + 1, self.steps)
        return np.where(random.random(self.steps) < 1 / 2, self.length, shorter)

    def batch(self, seed: int, step: int, length: int) -> list[Windows]:
        """The windows of a step, grouped by task; the same for every method."""
        random = np.random.default_rng([seed, step])
        # Half of the recall windows are full, on average.
        pairs = None if random.random() < 1 / 2 else int(random.integers(1, length // 4 + 1))
        return [draw(task, random, self.windows, length, pairs if task == RECALL else None) for task in TASKS]

    def tokens(self, seed: int) -> int:
        """Number of training tokens."""
        return int(self.lengths(seed).sum()) * self.windows * len(TASKS)


@dataclass(frozen=True)
class Trained:
    """A model that was trained on the tasks."""

    model: Decoder
    seconds: float


def train(method: str, budget: Budget, seed: int, device: str = "cpu", threads: int = 1, bar_row: int = 0) -> Trained:
    """Trains a model in float32.

    The loss of a step is the mean negative log-likelihood of the tokens that a task asks for, averaged over tasks.

    Args:
        method: position method.
        budget: shape of the model, and its training.
        seed: seed of weights and windows.
        device: cpu, cuda or mps.
        threads: number of CPU threads.
        bar_row: line of the terminal for the progress bar.

    Raises:
        InputError: for an unknown method (the message lists the known ones).
        alibi.configuration.TrainingError: if the loss or gradient is not finite.
    """
    settle_cpu(threads)
    torch.manual_seed(seed)
    model = placed(Decoder(budget.config(method)), device).train()
    optimizer, schedule, clip = RECIPES[budget.recipe](
        model, budget.learning_rate, budget.warmup_steps, budget.steps, None
    )
    started = time.perf_counter()
    bar = progress_bar(
        budget.lengths(seed).tolist(), unit=" steps", desc=f"{method:10}", position=bar_row, mininterval=0.5
    )
    for step, length in enumerate(bar):
        parts = budget.batch(seed, step, length)
        sources_BT, targets_BT, asked_BT = (
            torch.from_numpy(np.concatenate(of_tasks)).to(device)
            for of_tasks in zip(*((part.sources, part.targets, part.asked) for part in parts), strict=True)
        )
        losses_N = model.embedding.negative_log_likelihood(model(sources_BT)[asked_BT], targets_BT[asked_BT])
        of_tasks = losses_N.split([int(part.asked.sum()) for part in parts])
        loss = torch.stack([losses.mean() for losses in of_tasks]).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        if step % 10 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if not torch.isfinite(norm):
            raise TrainingError(f"{method}, step {step}: loss {loss.item()}, gradient norm {norm.item()}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    return Trained(model.eval(), time.perf_counter() - started)

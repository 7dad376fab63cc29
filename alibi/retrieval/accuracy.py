"""The share of right answers in a retrieval task, overall and by the place of the answer in the window."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alibi.evaluate import BATCH_TOKENS
from alibi.model import Decoder
from alibi.retrieval.tasks import Windows

Predict = Callable[[Tensor], Tensor]
"""Sources [B, T] to the most probable token after each, [B, T]."""


def greedy(model: Decoder) -> Predict:
    """The most probable next tokens of a model, which is put into evaluation mode."""
    model.eval()

    @torch.no_grad()
    def predict(sources_BT: Tensor) -> Tensor:
        hidden_NC = model(sources_BT.to(model.device)).flatten(0, 1)
        return model.embedding.log_probabilities(hidden_NC).argmax(dim=-1).view(sources_BT.shape).cpu()

    return predict


@dataclass(frozen=True)
class Accuracy:
    """The answers, and their tokens, that a model gave right; see `accuracy`."""

    length: int
    """Tokens in a window, T."""
    right_A: np.ndarray
    """Whether all tokens of each answer are right."""
    places_A: np.ndarray
    """Position of each answer's first token in the window, from 1."""
    tokens_right_N: np.ndarray
    """Whether each token of the answers is right."""
    token_places_N: np.ndarray

    def exact_match(self, first: int = 1, last: int | None = None) -> tuple[float, int]:
        """Share of entirely right answers among those that begin at these positions, and the number of these answers.

        The share is not a number if there are none.
        """
        return _share(self.right_A, self.places_A, first, self.length if last is None else last)

    def token_accuracy(self, first: int = 1, last: int | None = None) -> tuple[float, int]:
        """Share of right tokens in answers, and the number of tokens, for tokens at these positions."""
        return _share(self.tokens_right_N, self.token_places_N, first, self.length if last is None else last)


def _share(right: np.ndarray, places: np.ndarray, first: int, last: int) -> tuple[float, int]:
    chosen = right[(places >= first) & (places <= last)]
    return (float(chosen.mean()) if len(chosen) else float("nan")), len(chosen)


def accuracy(predict: Predict, windows: Windows) -> Accuracy:
    r"""Scores the answers that windows ask for.

    With $a$ answers of $n_k$ tokens $y$ each, and $\hat y_i = \arg\max_v P(v \mid x_1, \ldots, x_{i-1})$,

    $$\text{exact match} = \frac{1}{a} \sum_{k=1}^{a} \prod_{i=1}^{n_k} [\hat y_{k,i} = y_{k,i}].$$

    The model is given the earlier tokens of an answer. As all tokens must be right, a model that writes the answer
    itself, always with the most probable token, has the same exact match. Token accuracy is the share of right single
    tokens, each given the right tokens before it.

    Args:
        predict: gives the next tokens, such as `greedy(model)`.
        windows: windows of a task.
    """
    length = windows.tokens_BN.shape[1] - 1
    batch = max(1, BATCH_TOKENS // length)
    sources_BT = torch.from_numpy(windows.sources)
    predicted_BT = torch.cat([predict(part_BT) for part_BT in sources_BT.split(batch)]).numpy()
    asked_BT = windows.asked
    begins_BT = asked_BT & ~np.pad(asked_BT, ((0, 0), (1, 0)))[:, :-1]
    tokens_right_N = (predicted_BT == windows.targets)[asked_BT]
    starts_A = np.flatnonzero(begins_BT[asked_BT])
    return Accuracy(
        length=length,
        right_A=np.logical_and.reduceat(tokens_right_N, starts_A),
        places_A=windows.found_BT[begins_BT],
        tokens_right_N=tokens_right_N,
        token_places_N=windows.found_BT[asked_BT],
    )

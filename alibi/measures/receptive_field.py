"""Receptive field: how far back the gradient of the last token's loss goes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from alibi.corpora.corpus import Split
from alibi.errors import InputError
from alibi.evaluate import BATCH_TOKENS
from alibi.model import Decoder
from alibi.progress import bar as progress_bar
from alibi.windows import shift, spread_windows


@dataclass(frozen=True)
class ReceptiveField:
    """Each input token's share of the gradient, by its distance from the last one; see `receptive_field`."""

    windows: int
    """Number of windows in the mean."""
    shares: np.ndarray
    """Mean share at each distance from 0 (the last input token), [length]; they sum to 1."""
    cumulative_standard_error: np.ndarray
    """Standard error of `cumulative` over windows, [length]; not a number for a single window."""

    @property
    def cumulative(self) -> np.ndarray:
        """Share of the last d + 1 input tokens together, [length]."""
        return self.shares.cumsum()

    def tokens(self, share: float = 0.99) -> int:
        """The smallest number of last tokens that together have this share, at most the whole window.

        Raises:
            InputError: if the share is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise InputError(f"share={share}: choose a number between 0 and 1")
        return int(np.searchsorted(self.cumulative[:-1], share)) + 1


def receptive_field(
    model: Decoder,
    split: Split,
    end_of_line: int,
    length: int,
    windows: int | None = None,
    batch_tokens: int | None = None,
) -> ReceptiveField:
    r"""The normalised gradient by distance; its running sum is the measure of Chi et al. (2023).

    $$s(d) = \frac{1}{K} \sum_{k=1}^{K} \frac{g_k(T - d)}{\sum_{j=1}^{T} g_k(j)}, \qquad
    g_k(j) = \Big\lVert \frac{\partial \, {-\ln P(x_{k,T+1} \mid x_{k,1}, \ldots, x_{k,T})}}{\partial e_{k,j}}
    \Big\rVert_2$$

    over $K$ windows of $T$ = `length` tokens, with $e_{k,j}$ the vector that the embedding gives for token $j$, before
    positions are added. The receptive field is the smallest d with $s(0) + \ldots + s(d - 1) \ge 0.99$. Chi et al. find
    that a method extrapolates where the training length covers it. A gradient shows the effect of a small change of an
    input; a small gradient at a far token does not prove that nothing can be read from there.

    Args:
        model: a trained decoder; it is put into evaluation mode.
        split: the text.
        end_of_line: id of the end-of-line token, the source of the first target.
        length: tokens in a window, T.
        windows: least number of windows, spread evenly over the text; None takes all.
        batch_tokens: tokens run at once, at least one window; None takes `alibi.evaluate.BATCH_TOKENS`.

    Raises:
        InputError: for a text shorter than one window, a number out of range, or a kernel without a backward pass.
    """
    stream = torch.from_numpy(shift(np.asarray(split.tokens), end_of_line))
    places = torch.tensor(spread_windows(len(split.tokens), length, windows))
    # Running sums are summed and squared as deviations from the first window's: they are close to each other, and their
    # squares would cancel to nothing but rounding.
    sums_T, deviations_T, squares_T = torch.zeros(3, length, dtype=torch.float64)
    first_T: Tensor | None = None
    model.eval()
    with progress_bar(total=len(places), unit=" windows", desc="receptive field", leave=False, delay=1) as bar:
        for starts_B in places.split(max(1, (batch_tokens or BATCH_TOKENS) // length)):
            taken = stream[starts_B[:, None] + torch.arange(length + 1)].to(model.device)
            norms_BT = _gradient_norms(model, taken[:, :-1], taken[:, 1:]).cpu().double()
            shares_BT = (norms_BT / norms_BT.sum(dim=1, keepdim=True)).flip(1)
            sums_T += shares_BT.sum(dim=0)
            running_BT = shares_BT.cumsum(dim=1)
            first_T = running_BT[0] if first_T is None else first_T
            apart_BT = running_BT - first_T
            deviations_T += apart_BT.sum(dim=0)
            squares_T += apart_BT.square().sum(dim=0)
            bar.update(len(starts_B))
    windows = len(places)
    means_T = sums_T / windows
    variances_T = (squares_T / windows - (deviations_T / windows).square()).clamp(min=0)
    errors_T = (variances_T / (windows - 1)).sqrt() if windows > 1 else torch.full_like(means_T, torch.nan)
    return ReceptiveField(windows, means_T.numpy(), errors_T.numpy())


def _gradient_norms(model: Decoder, sources_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Norm of the gradient of each window's last loss with respect to the embedding of each of its tokens, [B, T]."""
    embedded: list[Tensor] = []

    def as_leaf(module: nn.Module, given: tuple[Tensor, ...], embedded_BTC: Tensor) -> Tensor:
        embedded.append(embedded_BTC.detach().requires_grad_())
        return embedded[0]

    hook = model.embedding.register_forward_hook(as_leaf)
    try:
        with torch.enable_grad():
            losses_B1 = model.negative_log_likelihood(sources_BT, targets_BT, sources_BT.shape[1] - 1)
            (gradient_BTC,) = torch.autograd.grad(losses_B1.sum(), embedded[0])
    finally:
        hook.remove()
    return gradient_BTC.float().norm(dim=-1)

"""Interpolation: slopes or angles of a trained model, rescaled for windows longer than L without more training.

With a = L_valid / L, the evaluated window divided by the training length:

- `pi`, position interpolation: ALiBi's slopes m_h / a (Al-Khateeb et al. 2023, arXiv:2310.13017), rotary's angles
  p theta_k / a (Chen et al. 2023, arXiv:2306.15595). Both squeeze the positions of the window into those of training.
- `ntk` for ALiBi: m_h / a^((h - 1) / (H - 1)) (github.com/keezen/ntk_alibi). The steepest head stays, and the flattest
  is interpolated.
- `yarn` for rotary (Peng et al. 2024, arXiv:2309.00071): pairs that turn often within L stay, pairs that turn less than
  once are interpolated, and the others are mixed; scores are multiplied by (0.1 ln a + 1)^2.

It is a setting of an evaluation, not of a model: nothing is learned, and a stored run does not contain it.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from alibi.errors import InputError, UnknownNameError
from alibi.positions.alibi import ALiBi
from alibi.positions.base import PositionMethod
from alibi.positions.rotary import Rotary, frequencies, rotate

# A pair with at least the first number of turns within L stays; with less than the second it is interpolated.
MANY_TURNS, FEW_TURNS = 32, 1


def ntk_slopes(slopes_H: Tensor, factor: float) -> Tensor:
    """m_h / a^((h - 1) / (H - 1)), where h counts the heads from the steepest; H is at least 2.

    For powers of two the steepest head is the first. For other head counts the source leaves the order open.
    """
    ranks_H = slopes_H.argsort(descending=True).argsort().to(slopes_H.dtype)
    return slopes_H / factor ** (ranks_H / (len(slopes_H) - 1))


def yarn_frequencies(head_width: int, train_length: int, factor: float) -> Tensor:
    """The angle at position 1 of each pair: (1 - g_k) theta_k / a + g_k theta_k, [K], float64.

    A pair makes n turns within L if k = D ln(L / 2 pi n) / (2 ln 10000). g falls linearly in k from 1 at the pair of 32
    turns to 0 at the pair of 1 turn, both rounded outwards, as in the authors' code.
    """

    def pair(turns: int) -> float:
        return head_width * math.log(train_length / (2 * math.pi * turns)) / (2 * math.log(10000))

    low, high = max(math.floor(pair(MANY_TURNS)), 0), min(math.ceil(pair(FEW_TURNS)), head_width - 1)
    theta_K = frequencies(head_width)
    # The least width of the ramp is also the authors'.
    kept_K = 1 - ((torch.arange(len(theta_K)) - low) / max(high - low, 0.001)).clamp(0, 1)
    return (1 - kept_K) * theta_K / factor + kept_K * theta_K


class _RescaledRotary(Rotary):
    """Rotary with other angles and with vectors multiplied by a factor."""

    def __init__(self, width: int, heads: int, frequencies_K: Tensor, magnitude: float) -> None:
        super().__init__(width, heads)
        self.frequencies_K, self.magnitude = frequencies_K, magnitude

    def rotate(self, heads_BHTD: Tensor, positions_T: Tensor) -> Tensor:
        return rotate(heads_BHTD, positions_T, self.frequencies_K) * self.magnitude


def _pi_alibi(method: PositionMethod, train_length: int, factor: float) -> PositionMethod:
    return _with_slopes(method, lambda slopes_H: slopes_H / factor)


def _ntk_alibi(method: PositionMethod, train_length: int, factor: float) -> PositionMethod:
    if method.heads < 2:
        raise InputError("ntk needs two heads or more: one is both the steepest, which stays, and the flattest")
    return _with_slopes(method, lambda slopes_H: ntk_slopes(slopes_H, factor))


def _with_slopes(method: PositionMethod, change: Callable[[Tensor], Tensor]) -> PositionMethod:
    other = copy.deepcopy(method)
    assert isinstance(other, ALiBi)
    other.slopes_H = change(other.slopes_H)
    return other


def _pi_rotary(method: PositionMethod, train_length: int, factor: float) -> PositionMethod:
    return _RescaledRotary(method.width, method.heads, frequencies(method.head_width) / factor, 1.0)


def _yarn_rotary(method: PositionMethod, train_length: int, factor: float) -> PositionMethod:
    frequencies_K = yarn_frequencies(method.head_width, train_length, factor)
    return _RescaledRotary(method.width, method.heads, frequencies_K, 0.1 * math.log(factor) + 1)


# By method and kind.
INTERPOLATIONS: dict[str, dict[str, Callable[[PositionMethod, int, float], PositionMethod]]] = {
    ALiBi.name: {"pi": _pi_alibi, "ntk": _ntk_alibi},
    Rotary.name: {"pi": _pi_rotary, "yarn": _yarn_rotary},
}


def interpolated(method: PositionMethod, kind: str, train_length: int, window: int) -> PositionMethod:
    """The position method of a trained model for windows longer than the training length.

    Args:
        method: the model's method, which is not changed.
        kind: pi or ntk for alibi, pi or yarn for rotary.
        train_length: L.
        window: L_valid; up to L the method itself is returned.

    Raises:
        InputError: for an unknown method or kind (the message lists the known ones), lengths below 1, a rotary method
            that is interpolated already, or ntk with one head.
    """
    if method.name not in INTERPOLATIONS:
        raise UnknownNameError("position method to interpolate", method.name, INTERPOLATIONS)
    if kind not in INTERPOLATIONS[method.name]:
        raise UnknownNameError(f"interpolation of {method.name}", kind, INTERPOLATIONS[method.name])
    if train_length < 1 or window < 1:
        raise InputError(f"train_length={train_length}, window={window}: lengths are at least 1")
    if isinstance(method, _RescaledRotary):
        raise InputError("this rotary method is interpolated already: give the method that the model was trained with")
    if window <= train_length:
        return method
    return INTERPOLATIONS[method.name][kind](method, train_length, window / train_length)

"""The decay window of a linear bias: how far a head sees, and a bound on the attention weight that it drops.

A head of slope m lowers the score of a key at distance d by m d nats (section 3). Keys with m d > t weigh so little
that they can be left out: each of T queries then meets at most t / m + 1 keys, and attention costs T t / m instead of
T^2 / 2. The paper has no such window. It changes the model by at most the bound of `dropped_mass`.
`alibi.windowed_attention` computes within it. Number formats impose a window of their own by underflow: see
`seen_keys`.
"""

import math

import torch

from alibi.errors import InputError


def dropped_mass(slope: float, decay_window: float, score_range: float) -> float:
    """An upper bound, at most 1, of the attention weight that a query gives to all keys beyond the window.

    With scores s_d = q k / sqrt(D) of the key at distance d and R = max_d s_d - s_0, the weight of a key is at most
    exp(s_d - m d) / exp(s_0) <= exp(R - m d). The keys with m d > t are a geometric series:

        mass <= exp(R) sum_{d > t/m} exp(-m d) <= exp(R - t) / (1 - exp(-m)).

    The bound also holds for a larger R, such as the whole range max_d s_d - min_d s_d.

    Args:
        slope: m, above 0.
        decay_window: t, in nats.
        score_range: R, at least 0.

    Raises:
        InputError: if the slope is not positive or the range negative.
    """
    if not slope > 0 or not score_range >= 0:
        raise InputError(f"slope={slope}, score_range={score_range}: a slope is positive, a range not negative")
    return math.exp(min(0.0, score_range - decay_window - math.log(-math.expm1(-slope))))


def window_for(slope: float, score_range: float, mass: float) -> float:
    """The smallest window, in nats, for which `dropped_mass` is at most `mass`: R - ln(mass (1 - exp(-m))).

    Args:
        slope: the model's smallest slope, which needs the widest window.
        score_range: R, the largest range of the model's scores.
        mass: largest attention weight to lose, between 0 and 1.

    Raises:
        InputError: if the slope is not positive, the range negative or the mass not between 0 and 1.
    """
    if not slope > 0 or not score_range >= 0 or not 0 < mass < 1:
        raise InputError(
            f"slope={slope}, score_range={score_range}, mass={mass}: a slope is positive, a range not negative and a "
            "mass between 0 and 1"
        )
    return score_range - math.log(mass) - math.log(-math.expm1(-slope))


def zero_below(dtype: torch.dtype) -> float:
    """The largest number that rounds to zero in this dtype: half the smallest number above zero that it holds.

    2^-25 in float16, 2^-134 in bfloat16, 2^-150 in float32, subnormal numbers included.

    Raises:
        InputError: for float64, whose number of this kind is itself zero in Python.
    """
    if dtype == torch.float64:
        raise InputError(f"{dtype}: half of its smallest number is zero in Python; choose a dtype of at most 32 bits")
    limits = torch.finfo(dtype)
    return limits.smallest_normal * limits.eps / 2


def seen_keys(slope: float, keys: int, dtype: torch.dtype) -> int:
    """Number of the nearest keys whose weight for the last query is above zero when weights are stored in this dtype.

    With equal scores the softmax gives the key at distance d the weight exp(-m d) / Z, with the sum
    Z = (1 - exp(-m S)) / (1 - exp(-m)) over S keys. All weights of at most 2^-k (`zero_below`) become zero, that is, at
    distances

        d >= (k ln 2 - ln Z) / m.

    This *underflow* hides farther keys from a head, in both passes (Schroeder et al. 2026, arXiv 2608.03994).

    Args:
        slope: m, above 0.
        keys: S, including the query's own.
        dtype: dtype of the weights after the softmax, which is computed in more digits.

    Raises:
        InputError: if the slope is not positive, or `keys` is below 1, or as `zero_below`.
    """
    if not slope > 0 or keys < 1:
        raise InputError(f"slope={slope}, keys={keys}: a slope is positive, and a query has at least one key, its own")
    log_sum = math.log(math.expm1(-slope * keys) / math.expm1(-slope))
    return min(keys, max(0, math.ceil((-math.log(zero_below(dtype)) - log_sum) / slope)))

"""The position methods, one file each; ALiBi's variants share one, as do methods with scaled constants.

A new method is a file, and its class in `_LATER`.
"""

from alibi.errors import InputError, UnknownNameError
from alibi.positions.alibi import ALiBi, slopes
from alibi.positions.base import (
    Bias,
    GateBias,
    GrowthBias,
    LinearBias,
    MultipliedBias,
    NoBias,
    PositionMethod,
    TableBias,
)
from alibi.positions.fire import Fire
from alibi.positions.forgetting import Forgetting
from alibi.positions.kerple import Kerple
from alibi.positions.learned import Learned
from alibi.positions.none import NoPositions
from alibi.positions.rotary import Rotary
from alibi.positions.sandwich import Sandwich
from alibi.positions.scaled import ScaledALiBi, ScaledRotary, ScaledSinusoidal, ScaledT5Bias
from alibi.positions.sinusoidal import Sinusoidal
from alibi.positions.t5 import T5Bias
from alibi.positions.variants import (
    Exponential,
    HalfBiased,
    LearnedSlopes,
    Logarithmic,
    Multiplied,
    Quadratic,
    RandomSlopes,
)
from alibi.positions.window import Window
from alibi.positions.xpos import XPos

_VARIANTS = (LearnedSlopes, RandomSlopes, HalfBiased, Quadratic, Exponential, Logarithmic, Multiplied)
_LATER = (Window, Kerple, Sandwich, Fire, XPos, Forgetting)
_SCALED = (ScaledSinusoidal, ScaledRotary, ScaledT5Bias, ScaledALiBi)
_ALL = (Sinusoidal, Rotary, T5Bias, ALiBi, Learned, NoPositions, *_VARIANTS, *_LATER, *_SCALED)
METHODS: dict[str, type[PositionMethod]] = {method.name: method for method in _ALL}
if len(METHODS) < len(_ALL):
    _names = [method.name for method in _ALL]
    raise InputError(f"several position methods are named {sorted({n for n in _names if _names.count(n) > 1})}")
# The four methods that the paper compares.
PAPER_METHODS = ("sinusoidal", "rotary", "t5", "alibi")
# ALiBi with other slopes, another growth, or multiplied.
VARIANTS = tuple(method.name for method in _VARIANTS)
# Methods of other papers, most of them later, and a control from one of these papers.
LATER_METHODS = tuple(method.name for method in _LATER)
# The paper's four by name, and the name of each with constants for an eighth of its lengths.
SCALED_METHODS = {method.unscaled: method.name for method in _SCALED}


def position_method(name: str, width: int, heads: int, longest: int = 0) -> PositionMethod:
    """The position method of this name for a model of this width and head count.

    Args:
        name: a name of `METHODS`.
        width: width of the residual stream.
        heads: number of attention heads, which divides the width.
        longest: the training length, for methods that need it (`needs_longest`); other methods ignore it.

    Raises:
        InputError: for an unknown name (the message lists the known ones), or numbers that do not fit the method.
    """
    if name not in METHODS:
        raise UnknownNameError("position method", name, METHODS)
    return METHODS[name](width, heads, longest)


__all__ = [
    "LATER_METHODS",
    "METHODS",
    "PAPER_METHODS",
    "SCALED_METHODS",
    "VARIANTS",
    "ALiBi",
    "Bias",
    "GateBias",
    "GrowthBias",
    "Learned",
    "LinearBias",
    "MultipliedBias",
    "NoBias",
    "NoPositions",
    "PositionMethod",
    "Rotary",
    "Sinusoidal",
    "T5Bias",
    "TableBias",
    "position_method",
    "slopes",
]

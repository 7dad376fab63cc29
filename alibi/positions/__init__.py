"""The position methods, one file each. A new one is a file and a line in `METHODS`."""

from alibi.positions.alibi import ALiBi, slopes
from alibi.positions.base import Bias, LinearBias, NoBias, PositionMethod, TableBias
from alibi.positions.rotary import Rotary
from alibi.positions.sinusoidal import Sinusoidal
from alibi.positions.t5 import T5Bias

METHODS: dict[str, type[PositionMethod]] = {method.name: method for method in (Sinusoidal, Rotary, T5Bias, ALiBi)}


def position_method(name: str, width: int, heads: int) -> PositionMethod:
    """The position method of this name for a model of this width and head count.

    Raises:
        ValueError: if no method has this name; the known names are listed.
    """
    if name not in METHODS:
        raise ValueError(f"no position method is named {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name](width, heads)


__all__ = [
    "METHODS",
    "ALiBi",
    "Bias",
    "LinearBias",
    "NoBias",
    "PositionMethod",
    "Rotary",
    "Sinusoidal",
    "T5Bias",
    "TableBias",
    "position_method",
    "slopes",
]

"""The look of each position method in every figure: its colour, marker and dashes; names of metrics; the style.

Colours are Okabe and Ito's, or Paul Tol's for ALiBi's variants: colour-blind readers can tell them apart. Markers and
dashes tell methods apart without colour.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.core.getipython import get_ipython
from matplotlib.colors import to_hex, to_rgb
from matplotlib_inline.config import InlineBackend

from alibi.book.plots.files import offer
from alibi.positions import METHODS, PAPER_METHODS

PAPER_ORDER = list(PAPER_METHODS)
TITLES = {name: method.title for name, method in METHODS.items()}
METRIC_NAMES = {
    "perplexity": "perplexity",
    "word_perplexity": "perplexity per word",
    "bits_per_byte": "bits per byte",
    "train_speed": "training speed",
    "eval_speed": "inference speed",
    "train_memory": "training memory",
}
PERPLEXITY = "perplexity (per token)"
Look = tuple[str, str | tuple[int, int, int], tuple[float, ...] | str]
"""Colour, marker and dashes of a line."""
CHOSEN_LOOKS: dict[str, Look] = {
    "sinusoidal": ("#D55E00", "s", (4, 1.5)),
    "rotary": ("#CC79A7", "^", (2, 1)),
    "t5": ("#009E73", "D", (5, 1, 1, 1)),
    "alibi": ("#0072B2", "o", ""),
    "learned": ("#E69F00", "v", (1, 1)),
    "none": ("#000000", "P", (6, 2)),
    # Other slopes cool, other growth warm.
    "alibi-learned": ("#332288", "<", (7, 1)),
    "alibi-random": ("#44AA99", "X", (1, 2)),
    "alibi-half": ("#8C6BD9", ">", (3, 1, 1, 1)),
    "alibi-quadratic": ("#882255", "p", (3, 2)),
    "alibi-exponential": ("#CC6677", "d", (5, 3)),
    "alibi-logarithmic": ("#DDCC77", "*", (8, 1, 1, 1)),
    "alibi-multiplied": ("#999933", "h", (2, 2)),
    # Methods of other papers.
    "window": ("#777777", (4, 1, 0), (6, 1, 2, 1)),
    "kerple": ("#117733", "H", (4, 3)),
    "sandwich": ("#663333", (8, 1, 0), (9, 2)),
    "fire": ("#EE3377", (6, 1, 0), (3, 3)),
    "xpos": ("#AA4499", "8", (1, 3)),
    "forgetting": ("#994F00", (3, 1, 0), (2, 1, 6, 1)),
    # Constants for an eighth of the lengths: lighter than the method itself.
    "sinusoidal-base": ("#F0A868", (4, 0, 20), (2, 1, 1, 1)),
    "rotary-base": ("#E6BFD6", (3, 0, 90), (1, 1, 3, 1)),
    "t5-16": ("#7FCFB8", (6, 0, 0), (6, 1)),
    "alibi-x8": ("#7FB8DC", (5, 0, 36), (3, 1)),
}
# For methods without a chosen look, in the order of METHODS. A marker of two numbers has its corners, and 1 for a star.
SPARE_LOOKS: tuple[Look, ...] = (
    ("#4477AA", (7, 1, 0), (10, 1, 2, 1)),
    ("#225555", (9, 1, 0), (1, 4)),
    ("#BBBBBB", (10, 1, 0), (7, 3)),
    ("#AA3377", (12, 1, 0), (4, 1, 1, 2)),
)


def _looks() -> dict[str, Look]:
    without = [name for name in METHODS if name not in CHOSEN_LOOKS]
    if len(without) > len(SPARE_LOOKS):
        raise ValueError(f"no look is left for {', '.join(without[len(SPARE_LOOKS) :])}: add some to SPARE_LOOKS")
    looks = CHOSEN_LOOKS | dict(zip(without, SPARE_LOOKS, strict=False))
    return {name: looks[name] for name in METHODS}


LOOKS = _looks()
COLOURS = {name: colour for name, (colour, _, _) in LOOKS.items()}
MARKERS = {name: marker for name, (_, marker, _) in LOOKS.items()}
DASHES = {name: dashes for name, (_, _, dashes) in LOOKS.items()}


# The filters of book.css for figures on a dark page: inverted lightness, the same hue (Filter Effects Module Level 1,
# hueRotate with the cosine -1), all of it brighter. White becomes the page's ground, #121212.
INVERTED, BRIGHTER = 0.9435, 1.25
TURNED = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])


def on_dark(colour: str) -> str:
    """The colour (#RRGGBB) that a figure's colour becomes on a dark page, for drawings in the page itself."""
    turned = TURNED @ (INVERTED + np.array(to_rgb(colour)) * (1 - 2 * INVERTED))
    return to_hex(tuple((BRIGHTER * turned.clip(0, 1)).clip(0, 1))).upper()


# The line at the training length, and its name in a legend of several panels.
AT_LENGTH: dict[str, Any] = {"color": "0.25", "lw": 1.5, "ls": ":"}
TRAINING_LENGTH = "training length L"
# Inches of a figure's width, and points of its type: 12 pixels where a phone gives a figure 358, its margins included.
WIDTH, TYPE = 6.4, 16


def use_style() -> None:
    """Seaborn's white grid with type that stays legible at the width of a phone."""
    kinds = ["font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"]
    kinds += ["legend.title_fontsize", "figure.titlesize", "figure.labelsize"]
    sns.set_theme(context="notebook", style="whitegrid", rc=dict.fromkeys(kinds, TYPE))
    plt.rcParams |= {
        "figure.dpi": 90,
        "figure.figsize": (WIDTH, 4.2),
        "figure.constrained_layout.use": True,
        "legend.frameon": False,
        "lines.linewidth": 2,
        "lines.markersize": 5,
        # A figure must not depend on the fonts of a machine.
        "font.family": "DejaVu Sans",
        # The same drawing is the same SVG.
        "svg.hashsalt": "alibi",
    }
    if shell := get_ipython():
        # Twice the pixels in the same width.
        inline = InlineBackend.instance(parent=shell)
        inline.shell, inline.figure_formats = shell, {"retina"}
        offer(shell)

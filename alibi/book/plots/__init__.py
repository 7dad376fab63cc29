"""The paper's figures and ours, from records; a method has one colour, marker and dash everywhere.

Every function draws on given or new axes, and returns them.
"""

from alibi.book.plots.answers import RESCALED, answers, exact_matches
from alibi.book.plots.axes import band, legend_above, logarithmic, nice_ticks
from alibi.book.plots.curves import (
    against_itself,
    by_position,
    extrapolation,
    headline,
    perplexities,
    recorded_against_itself,
    relative,
    two_readings,
)
from alibi.book.plots.forest import forests
from alibi.book.plots.looks import (
    AT_LENGTH,
    COLOURS,
    DASHES,
    MARKERS,
    METRIC_NAMES,
    PAPER_ORDER,
    TITLES,
    on_dark,
    use_style,
)
from alibi.book.plots.paper_figures import (
    figure_1,
    figure_2,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_11,
)
from alibi.book.plots.repeated import repeated

__all__ = [
    "AT_LENGTH",
    "COLOURS",
    "DASHES",
    "MARKERS",
    "METRIC_NAMES",
    "PAPER_ORDER",
    "RESCALED",
    "TITLES",
    "against_itself",
    "answers",
    "band",
    "by_position",
    "exact_matches",
    "extrapolation",
    "figure_1",
    "figure_2",
    "figure_4",
    "figure_5",
    "figure_6",
    "figure_7",
    "figure_8",
    "figure_9",
    "figure_11",
    "forests",
    "headline",
    "legend_above",
    "logarithmic",
    "nice_ticks",
    "on_dark",
    "perplexities",
    "recorded_against_itself",
    "relative",
    "repeated",
    "two_readings",
    "use_style",
]

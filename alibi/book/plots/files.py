"""Files beside a picture on the site: the drawing as SVG, and the numbers that it shows as CSV."""

import math
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure

from alibi.book.widgets import FIGURE_FILES

COLOUR_BAR = "<colorbar>"
"""Matplotlib's label of the axes of a scale of colours."""


def numbers(figure: Figure) -> pd.DataFrame:
    """The points of a figure's curves, its bars and its tables of colours, in the order in which they were drawn.

    Returns:
        Columns panel (from 1), series (its name in a legend, if it has one), x and y in the units of the axes, and
        value for what a colour stands for; x and y of a table of colours are its column and row, from 0. A line across
        the panel has one coordinate alone. A bar that does not begin at 0 has two rows, its ends, and so has each
        stretch that marks an interval. Points at infinity are left out.
    """
    rows: list[tuple[Any, ...]] = []
    for panel, ax in enumerate([ax for ax in figure.axes if ax.get_label() != COLOUR_BAR], start=1):
        for line in ax.get_lines():
            x, y = (np.atleast_1d(data) for data in line.get_data(orig=True))
            in_units = line.get_transform().contains_branch_seperately(ax.transData)
            if all(in_units):
                rows += [(panel, line.get_label(), *point, None) for point in zip(x, y, strict=True)]
            elif any(in_units):  # From one edge of the panel to the other.
                across = (x[0], None) if in_units[0] else (None, y[0])
                rows.append((panel, line.get_label(), *across, None))
        for bars in ax.containers:
            upright = getattr(bars, "orientation", "vertical") == "vertical"
            for bar in getattr(bars, "patches", ()):
                (left, low), (width, height) = bar.get_xy(), (bar.get_width(), bar.get_height())
                begin, size = (low, height) if upright else (left, width)
                for end in (begin, begin + size) if begin else (size,):
                    point = (left + width / 2, end) if upright else (end, low + height / 2)
                    rows.append((panel, bars.get_label(), *point, None))
        for lines in [each for each in ax.collections if isinstance(each, LineCollection)]:
            ends = [point for segment in lines.get_segments() for point in segment]
            rows += [(panel, lines.get_label(), *point, None) for point in ends]
        for mesh in [each for each in ax.collections if isinstance(each, QuadMesh)] + list(ax.images):
            values: np.ndarray = np.ma.asarray(mesh.get_array(), float).filled(np.nan)
            if values.ndim == 2:
                rows += [(panel, mesh.get_label(), x, y, value) for (y, x), value in np.ndenumerate(values)]
    found = pd.DataFrame(rows, columns=["panel", "series", "x", "y", "value"])
    endless = found[["x", "y"]].isin([math.inf, -math.inf]).any(axis="columns")
    nothing = found[["x", "y"]].isna().all(axis="columns") & found.value.isna()
    found = found[~endless & ~nothing].dropna(axis="columns", how="all")
    if "series" in found:
        # Matplotlib's names of what has none.
        found["series"] = found.series.where(~found.series.astype(str).str.startswith("_"), "")
    return found


def files(figure: Figure) -> dict[str, str]:
    """The figure as SVG, and its numbers as CSV if it shows any, by the ends of their names."""
    for ax in figure.axes:
        for mesh in ax.collections:
            # A path for each cell of a table of colours would be megabytes.
            mesh.set_rasterized(isinstance(mesh, QuadMesh))
    drawn = StringIO()
    figure.savefig(drawn, format="svg", bbox_inches="tight", dpi=220)
    shown = numbers(figure)
    return {"svg": drawn.getvalue()} | ({"csv": shown.to_csv(index=False, float_format="%.6g")} if len(shown) else {})


def offer(shell: InteractiveShell) -> None:
    """Every figure that this kernel shows from now on brings its files with it."""
    formatter = shell.display_formatter.mimebundle_formatter  # type: ignore[union-attr]
    formatter.for_type(Figure, lambda figure: {FIGURE_FILES: files(figure)})

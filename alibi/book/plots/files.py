"""Files beside a picture on the site: the drawing as SVG, and the numbers that it shows as CSV."""

from io import StringIO

import numpy as np
import pandas as pd
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from alibi.book.widgets import FIGURE_FILES


def numbers(figure: Figure) -> pd.DataFrame:
    """The points of a figure's curves, its bars and its tables of colours, in the order in which they were drawn.

    Returns:
        Columns panel (from 1), series (its name in a legend, if it has one), x and y in the units of the axes, and
        value for what a colour stands for; x and y of a table of colours are its column and row, from 0.
    """
    rows = []
    for panel, ax in enumerate(figure.axes, start=1):
        for line in ax.get_lines():
            x, y = (np.atleast_1d(data) for data in line.get_data(orig=True))
            rows += [(panel, line.get_label(), *point, None) for point in zip(x, y, strict=True)]
        for bars in ax.containers:
            for bar in getattr(bars, "patches", ()):
                middle = bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2
                upright = getattr(bars, "orientation", "vertical") == "vertical"
                end = (middle[0], bar.get_height()) if upright else (bar.get_width(), middle[1])
                rows.append((panel, bars.get_label(), *end, None))
        for mesh in [each for each in ax.collections if isinstance(each, QuadMesh)] + list(ax.images):
            values: np.ndarray = np.ma.asarray(mesh.get_array(), float).filled(np.nan)
            if values.ndim == 2:
                rows += [(panel, mesh.get_label(), x, y, value) for (y, x), value in np.ndenumerate(values)]
    found = pd.DataFrame(rows, columns=["panel", "series", "x", "y", "value"]).dropna(axis="columns", how="all")
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

"""The paper that all drawings share: one width, two strokes, one size of type, and the colours of the methods.

Shapes are plain SVG elements, which the standard library writes: a library of drawing would add names, not save lines.
"""

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree

# Units of the drawing. A phone shows about one CSS pixel a unit, a wide page SHOWN pixels in all.
WIDTH, SHOWN = 360, 480
TYPE = 12
THIN, THICK = 1, 2
INK, MUTED, FAINT, BAND, PAPER = "#262626", "#595959", "#A6A6A6", "#F0F0F0", "#FFFFFF"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
HEAD = 5
Point = tuple[float, float]


def tint(colour: str, share: float) -> str:
    """The colour (#RRGGBB) mixed with white; a share of 1 leaves it as it is."""
    channels = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - share * (255 - channel)):02X}" for channel in channels)


class Sheet:
    """A drawing, which a notebook shows as an SVG picture. It grows downwards from (0, 0); texts stand on (x, y).

    Args:
        name: beginning of the ids in it.
        title: of the drawing, for readers who do not see it.
        told: description of the drawing, for them too.
        height: in units.
    """

    def __init__(self, name: str, title: str, told: str, height: float) -> None:
        self.title, self.told = title, told
        self.root = ElementTree.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {WIDTH} {height:g}",
                "width": f"{SHOWN}",
                "height": f"{height * SHOWN / WIDTH:g}",
                "role": "img",
                "aria-labelledby": f"{name}-title {name}-desc",
                "font-family": FONTS,
                "font-size": f"{TYPE}",
            },
        )
        ElementTree.SubElement(self.root, "title", {"id": f"{name}-title"}).text = title
        ElementTree.SubElement(self.root, "desc", {"id": f"{name}-desc"}).text = told
        # A notebook may be dark; the site turns pictures around.
        self.box(0, 0, WIDTH, height, stroke="none")

    def __repr__(self) -> str:
        return f"Drawing: {self.title}"

    def _repr_svg_(self) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        fill: str = PAPER,
        stroke: str = INK,
        thickness: float = THIN,
        colour: str = INK,
    ) -> None:
        """A rectangle with words in its middle; a stroke of "none" has sharp edges, which meet."""
        place = {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:g}", "height": f"{height:g}"}
        edge = {"stroke": stroke, "stroke-width": f"{thickness}"}
        edge = {"shape-rendering": "crispEdges"} if stroke == "none" else edge
        ElementTree.SubElement(self.root, "rect", place | {"fill": fill} | edge)
        if words:
            self.text(x + width / 2, y + height / 2 + 0.36 * TYPE, words, "middle", colour)

    def line(
        self, points: Sequence[Point], colour: str = INK, width: float = THIN, arrow: bool = False, dashed: bool = False
    ) -> None:
        """A line through these points, with a head at the last one if it is an arrow."""
        drawn = list(points)
        if arrow:
            (x0, y0), (x, y) = points[-2:]
            length = math.hypot(x - x0, y - y0)
            dx, dy = HEAD * (x - x0) / length, HEAD * (y - y0) / length
            wings = [(x, y), (x - dx - 0.6 * dy, y - dy + 0.6 * dx), (x - dx + 0.6 * dy, y - dy - 0.6 * dx)]
            ElementTree.SubElement(self.root, "polygon", {"points": _listed(wings), "fill": colour})
            drawn[-1] = (x - dx, y - dy)
        look = {"fill": "none", "stroke": colour, "stroke-width": f"{width}"}
        look |= {"stroke-dasharray": "4 3"} if dashed else {}
        ElementTree.SubElement(self.root, "polyline", {"points": _listed(drawn)} | look)

    def dot(self, x: float, y: float, radius: float = 3.5) -> None:
        """A filled circle."""
        look = {"fill": INK, "stroke": INK, "stroke-width": f"{THIN}"}
        ElementTree.SubElement(self.root, "circle", {"cx": f"{x:g}", "cy": f"{y:g}", "r": f"{radius:g}"} | look)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        anchor: str = "start",
        colour: str = INK,
        bold: bool = False,
        upright: bool = False,
    ) -> None:
        """Words, between asterisks in italics.

        Args:
            x: of their start, middle or end, as the anchor says.
            y: of the line that they stand on.
            words: one line.
            anchor: start, middle or end.
            colour: of the type.
            bold: for headings.
            upright: written from the bottom to the top.
        """
        look = {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor, "fill": colour}
        look |= {"font-weight": "600"} if bold else {}
        look |= {"transform": f"rotate(-90 {x:g} {y:g})"} if upright else {}
        made = ElementTree.SubElement(self.root, "text", look)
        for place, part in enumerate(re.split(r"\*(.+?)\*", words)):
            if part:
                style = {"font-style": "italic"} if place % 2 else {}
                ElementTree.SubElement(made, "tspan", style).text = part


def _listed(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.5g},{y:.5g}" for x, y in points)

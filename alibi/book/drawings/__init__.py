"""Schematic drawings of the chapters, as SVG: each function draws one, with numbers from the code that runs.

They are drawn in the light colours of every figure, and a dark page turns them around as it does the others.
"""

from alibi.book.drawings.attention import reach_of_heads, score_triangles, where_position_enters

__all__ = ["reach_of_heads", "score_triangles", "where_position_enters"]

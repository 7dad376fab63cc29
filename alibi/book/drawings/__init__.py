"""Schematic drawings of the chapters, as SVG: each function draws one, with numbers from the code that runs.

They have the light colours of all figures, and a dark page inverts them like the others.
"""

from alibi.book.drawings.attention import reach_of_heads, score_triangles, where_position_enters
from alibi.book.drawings.evaluation import claim_to_verdict, toll_of_a_border, windows
from alibi.book.drawings.rulers import bfloat16_numbers, t5_buckets

__all__ = [
    "bfloat16_numbers",
    "claim_to_verdict",
    "reach_of_heads",
    "score_triangles",
    "t5_buckets",
    "toll_of_a_border",
    "where_position_enters",
    "windows",
]

"""Drawings of attention: where position enters a layer, what ALiBi adds to the scores, how far its heads see."""

import torch

from alibi.book.drawings.sheet import BAND, INK, MUTED, PAPER, THICK, WIDTH, Sheet, tint
from alibi.book.plots.looks import COLOURS, PAPER_ORDER, TITLES
from alibi.positions import LinearBias, slopes

# The step of each method, and its row in the layer.
ENTRANCES = {
    "sinusoidal": ("+ sinusoid", 260.0, "a vector is added, once, below all layers"),
    "rotary": ("turn", 176.0, "turns queries and keys by their position"),
    "t5": ("+ table", 112.0, "adds a learned number for each distance"),
    "alibi": ("− *m*(*i*−*j*)", 112.0, "subtracts a fixed slope times the distance"),
}
SENTENCE = (
    "the cat that had slept all morning on the warm stone wall behind the old house woke up and began to move her tail"
)


def where_position_enters() -> Sheet:
    """One layer four times, each with the one step by which its method adds positions."""
    sheet = Sheet(
        "enters",
        "Where position enters a transformer, by method",
        "A layer drawn four times, from the token embeddings up. Sinusoidal embeddings are added once, below all "
        "layers. In each layer, rotary embeddings turn queries and keys before their product, the T5 bias adds a "
        "learned number to each score, and ALiBi subtracts a slope times the distance. The last three leave the values "
        "as they are.",
        400,
    )
    sheet.box(0, 26, WIDTH, 224, fill=BAND, stroke="none")
    sheet.text(8, 41, "in each layer", colour=MUTED)
    for place, method in enumerate(PAPER_ORDER):
        _layer(sheet, 8 + 88 * place, method)
        y = 342 + 18 * place
        sheet.box(8, y - 10, 10, 10, fill=COLOURS[method], stroke="none")
        sheet.text(24, y, f"{TITLES[method]}: {ENTRANCES[method][2]}")
    return sheet


def _layer(sheet: Sheet, left: float, method: str) -> None:
    """The layer of one method, 80 units wide: boxes from the top down, then the arrows between them."""
    step, row, _ = ENTRANCES[method]
    q, k, v, middle, column, height = left + 13.5, left + 44.5, left + 72, left + 29, 58, 22
    colour = COLOURS[method]
    sheet.text(left + 40, 13, TITLES[method], "middle", bold=True)
    sheet.line([(left, 20), (left + 80, 20)], colour, THICK)
    for y, width, words in ((48, 80, "mean of *v*"), (80, column, "softmax"), (144, column, "*q*·*k* / √*d*")):
        sheet.box(left, y, width, height, words)
    for x, width, name in ((left, 27, "q"), (left + 31, 27, "k"), (left + 64, 16, "v")):
        sheet.box(x, 208, width, height, f"*{name}*")
    sheet.box(left, 292, 80, height, "embedding")
    within = row < 250
    sheet.box(left, row, column if within else 80, height, step, tint(colour, 0.3), colour, THICK)
    # Arrows from row to row, through the method's own step if the row has one.
    for x, low, high in ((q, 208, 166), (k, 208, 166), (middle, 144, 102)):
        for start, end in ((low, row + height), (row, high)) if high < row < low else ((low, high),):
            sheet.line([(x, start), (x, end)], arrow=True)
    sheet.line([(middle, 80), (middle, 70)], arrow=True)
    sheet.line([(v, 208), (v, 70)], arrow=True)
    if not within:
        sheet.line([(left + 40, 292), (left + 40, row + height)], arrow=True)
    sheet.line([(left + 40, 292 if within else row), (left + 40, 241)])
    for x in (q, k, v):
        sheet.line([(left + 40, 241), (x, 241), (x, 230)], arrow=True)


def score_triangles() -> Sheet:
    """The paper's Figure 3: the scores of queries and keys, and the distances that a slope multiplies."""
    tokens = 5
    sheet = Sheet(
        "triangles",
        "ALiBi adds a slope times the distance to each score",
        f"Two lower triangles of {tokens} queries by {tokens} keys, added. The first holds the products of query and "
        "key. The second holds 0 on the diagonal, minus 1 beside it, minus 2 beside that; a slope m multiplies it.",
        192,
    )
    places = torch.arange(tokens)
    (distances_TS,) = LinearBias(torch.ones(1)).dense(places, places).int().tolist()
    cell, top = 28, 46
    second = WIDTH - tokens * cell
    for left, title in ((0, "scores"), (second, "minus the distance")):
        sheet.text(left + tokens * cell / 2, 14, title, "middle", bold=True)
        sheet.text(left, top - 9, "keys →, queries ↓", colour=MUTED)
    for query in range(tokens):
        for key in range(query + 1):
            number, y = distances_TS[query][key], float(top + cell * query)
            product = f"*q*{_low(query + 1)}*k*{_low(key + 1)}"
            shade = tint(COLOURS["alibi"], (1 - number) / (tokens + 3))
            sheet.box(cell * key, y, cell, cell, product, BAND, PAPER)
            sheet.box(second + cell * key, y, cell, cell, f"{number}".replace("-", "−"), shade, PAPER)
    between, y = (tokens * cell + second) / 2, top + tokens * cell / 2 + 4
    sheet.text(between - 16, y, "+", "middle", bold=True)
    sheet.text(between + 14, y, "*m* ×", "middle", COLOURS["alibi"], bold=True)
    return sheet


def _low(number: int) -> str:
    return chr(0x2080 + number)


def reach_of_heads(heads: int = 8) -> Sheet:
    """A row for each head: the weight of each word for the last word's query, by the bias alone."""
    words = SENTENCE.split()
    top = 66
    bottom = top + 22 * heads
    sheet = Sheet(
        "reach",
        f"How far each of {heads} heads sees back over a sentence",
        f"The last of {len(words)} words looks back. A row for each head shades each word by its weight beside the "
        f"last word's own, if all scores are equal. The first head has a reach of {1 / slopes(heads)[0]:g} words. The "
        f"last one, with a reach of {1 / slopes(heads)[-1]:g}, sees the whole sentence almost evenly.",
        bottom + 16,
    )
    places = torch.arange(len(words))
    seen_HS = LinearBias(torch.tensor(slopes(heads))).dense(places[-1:], places)[:, 0].exp().tolist()
    left, step = 40, 11.5
    for place, word in enumerate(words):
        sheet.text(left + step * place + 10, top - 8, word, upright=True, bold=word in ("cat", "tail"))
    sheet.text(left - 6, top - 8, "reach", "end", MUTED)
    sheet.text(WIDTH, top - 8, "slope", "end", MUTED)
    for head, (slope, seen_S) in enumerate(zip(slopes(heads), seen_HS, strict=True)):
        y = top + 22 * head
        for place, weight in enumerate(seen_S):
            sheet.box(left + step * place, y, step, 16, fill=tint(COLOURS["alibi"], weight), stroke="none")
        sheet.text(left - 6, y + 12, f"{1 / slope:g}", "end")
        sheet.text(WIDTH, y + 12, f"1/{1 / slope:g}", "end")
        if 1 / slope < len(words):
            x = left + step * (len(words) - 1 / slope)
            sheet.line([(x, y - 2), (x, y + 18)], INK, THICK)
    sheet.text(left, bottom + 9, "← back", colour=MUTED)
    sheet.text(left + step * len(words), bottom + 9, "query", "end", MUTED)
    return sheet

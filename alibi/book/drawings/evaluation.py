"""Drawings of evaluation: windows over a text, the toll of their borders, and how a claim becomes a verdict."""

import math
from itertools import groupby

from alibi.book.drawings.sheet import BAND, INK, MUTED, PAPER, THICK, WIDTH, Sheet, tint
from alibi.book.plots.looks import COLOURS
from alibi.records import paper_results
from alibi.reproduction import claims
from alibi.windows import Window, evaluation_windows

WORDS = ("the", "cat", "sat", "on", "a", "warm", "stone", "wall")
SCORED = COLOURS["alibi"]
READ = tint(SCORED, 0.22)


def windows() -> Sheet:
    """The two ways to cut a text: each pass over eight words, the words that it scores and those it only reads."""
    length = 4
    blocks, sliding = _passes(length, length), _passes(length, 1)
    sheet = Sheet(
        "windows",
        "Two ways to cut a text into windows",
        f"Eight words in windows of {length}. Nonoverlapping: {len(blocks)} passes, each scores all its words. Sliding "
        f"with a stride of 1: {len(sliding)} passes; each one after the first scores its last word alone and reads the "
        f"{length - 1} before it again.",
        88 + 26 * len(blocks + sliding),
    )
    step, y = WIDTH / len(WORDS), 13.0
    for name, passes in (("Nonoverlapping", blocks), ("Sliding, stride 1", sliding)):
        sheet.text(0, y, f"{name}: {len(passes)} passes", bold=True)
        y += 8
        for window in passes:
            for place in range(window.start, window.end):
                fill, colour = (SCORED, PAPER) if place >= window.scored else (READ, INK)
                sheet.box(step * place + 1, y, step - 2, 22, WORDS[place], fill, "none", colour=colour)
            y += 26
        y += 26
    for left, fill, told in ((1, SCORED, "scored in this pass"), (176, READ, "only read, as context")):
        sheet.box(left, y - 10, 10, 10, fill=fill, stroke="none")
        sheet.text(left + 16, y, told)
    return sheet


def _passes(length: int, stride: int) -> list[Window]:
    """The windows of an evaluation; windows that start at the same word are one."""
    groups = groupby(evaluation_windows(len(WORDS), length, stride), key=lambda window: window.start)
    same = [(start, list(group)) for start, group in groups]
    return [Window(start, group[0].scored, group[-1].end) for start, group in same]


def toll_of_a_border() -> Sheet:
    """The loss of each prediction around a border, and the part of it that a full window would have saved.

    That part is ln(8 / c) after c words of context in a window of 8, the loss of a model that is blind beyond them.
    """
    length = 8
    at = "method == 'alibi' and train_length == 512 and eval_length == 512"
    alibi = paper_results().query(at).set_index("source").value
    nats = 512 * math.log(alibi["Table 5"] / alibi["Table 15"])
    sheet = Sheet(
        "toll",
        "The toll of a border between windows",
        f"Bars for {2 * length} predictions in two windows of {length}. The lower parts have one height: the loss with "
        "a full window of context. The upper parts are the loss that is added because the window has read too little: "
        "most for the first word of a window, none for its last. Their sum over a window is the toll of its border. "
        f"The paper's ALiBi model pays {nats:.0f} nats at 512 tokens.",
        234,
    )
    step, ground, base, unit, gap = 21.0, 152.0, 34.0, 34.0, 24.0
    forgotten, full = tint(INK, 0.75), tint(INK, 0.2)
    sheet.text(2, 13, "loss per prediction", bold=True)
    for number, window in enumerate(evaluation_windows(2 * length, length)):
        left = (length * step + gap) * number
        for place in range(window.scored, window.end):
            read = place - window.start + 1
            x, added = left + step * (read - 1), unit * math.log(length / read)
            sheet.box(x + 2, ground - base, step - 4, base, fill=full, stroke="none")
            sheet.box(x + 2, ground - base - added, step - 4, added, fill=forgotten, stroke="none")
            sheet.text(x + step / 2, ground + 16, f"{read}", "middle", MUTED)
        sheet.line([(left + 2, ground + 24), (left + length * step - 2, ground + 24)], INK)
        sheet.text(left + length * step / 2, ground + 39, f"window {number + 1}: words read", "middle")
    border = length * step + gap / 2
    sheet.line([(border, 24), (border, ground + 24)], INK, dashed=True)
    sheet.text(border, 13, "border", "middle")
    x = border + gap / 2 + 2.4 * step
    sheet.text(x, 36, "the toll", bold=True)
    sheet.text(x, 53, f"{nats:.0f} nats in the")
    sheet.text(x, 69, "paper, *L* = 512")
    for left, fill, told in ((2, forgotten, "for forgotten words"), (border + gap / 2 + 2, full, "with a full window")):
        sheet.box(left, 218, 10, 10, fill=fill, stroke="none")
        sheet.text(left + 16, 228, told)
    return sheet


def claim_to_verdict() -> Sheet:
    """The steps from a claim's words to its verdict: statistic and rule, value and intervals, parts and seeds."""
    (claim,) = (claim for claim in claims.CLAIMS if claim.number == 4)
    part = claim.parts[0]
    sheet = Sheet(
        "verdict",
        "How a claim becomes a verdict",
        f"The claim, {claim.title}, gets a statistic, which code computes from records, and a rule, here {part.rule}. "
        "A part holds if its value and its 95 % interval obey the rule, is undecided if the interval crosses the "
        "bound, and is broken if it lies beyond. With two seeds or more, a claim is "
        f"{claims.REPRODUCED} if all parts hold and {claims.NOT_REPRODUCED} if one is broken. With one seed it is "
        f"{claims.SEEN_ONCE} or {claims.CONTRADICTED_ONCE}. It is {claims.INCONCLUSIVE} if a part is undecided.",
        414,
    )
    y = _step(sheet, 0, "1. The paper claims")
    sheet.box(0, y, WIDTH, 26, claim.title, BAND, "none")
    y = _step(sheet, 58, "2. The words become a number and a rule")
    for left, width, name, told in (
        (0, 226, "statistic", "perplexity past *L* / that at *L*"),
        (234, 126, "rule", part.rule),
    ):
        sheet.box(left, y, width, 46, fill=BAND, stroke="none")
        sheet.text(left + 8, y + 18, name, colour=MUTED)
        sheet.text(left + 8, y + 36, told)
    y = _step(sheet, 136, "3. Records give it, with a 95 % interval")
    bound, found = 176.0, {claims.HOLDS: 84.0, claims.UNDECIDED: 168.0, claims.BROKEN: 260.0}
    sheet.box(0, y, bound, 78, fill=BAND, stroke="none")
    sheet.line([(bound, y), (bound, y + 84)], INK, dashed=True)
    sheet.text(bound, y + 98, f"{part.high:g}", "middle", MUTED)
    sheet.text(0, y + 98, "allowed", colour=MUTED)
    for row, (outcome, x) in enumerate(found.items()):
        level = y + 16 + 23 * row
        sheet.line([(x - 34, level), (x + 34, level)], INK, THICK)
        sheet.dot(x, level, 4)
        sheet.text(x + 42, level + 4.5, outcome)
    y = _step(sheet, 270, "4. All parts together give the verdict")
    two, one = 106, 240
    sheet.text(two, y + 12, "two seeds or more", colour=MUTED)
    sheet.text(one, y + 12, "one seed", colour=MUTED)
    rows = {
        "all hold": (claims.REPRODUCED, claims.SEEN_ONCE),
        "one undecided": (claims.INCONCLUSIVE, claims.INCONCLUSIVE),
        "one broken": (claims.NOT_REPRODUCED, claims.CONTRADICTED_ONCE),
    }
    for row, (parts, words) in enumerate(rows.items()):
        level = y + 20 + 28 * row
        sheet.text(0, level + 16.5, parts)
        for left, width, word in zip((two, one), (126, 120), words, strict=True):
            sheet.box(left, level, width, 24, word, BAND, "none")
    sheet.text(0, y + 118, f"Below the paper's size: {claims.REDUCED}", colour=MUTED)
    return sheet


def _step(sheet: Sheet, y: float, words: str) -> float:
    """Draws a heading; returns the place below it."""
    sheet.text(0, y + 12, words, bold=True)
    return y + 20

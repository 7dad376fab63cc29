"""Drawings of rulers: the buckets of the T5 bias, and the numbers that sixteen bits can hold."""

import math

import torch

from alibi.book.drawings.sheet import FAINT, INK, MUTED, THICK, WIDTH, Sheet, tint
from alibi.book.plots.looks import COLOURS
from alibi.positions.t5 import BUCKETS, bucket


def t5_buckets() -> Sheet:
    """The distances that share a bucket, as two rulers: near ones enlarged, then far ones."""
    found = bucket(torch.arange(1000))
    starts = [int((found < number).sum()) for number in range(BUCKETS)]
    exact, last = BUCKETS // 2, starts[-1]
    sheet = Sheet(
        "buckets",
        "The buckets of the T5 bias as a ruler",
        f"Two rulers of distances. Near: each distance below {exact} has a bucket of its own, then buckets hold "
        f"{starts[exact + 1] - starts[exact]} and more distances. Far: buckets widen up to distance {last - 1}, and "
        f"bucket {BUCKETS - 1} holds every distance from {last} on.",
        184,
    )
    sheet.text(0, 13, "Near: a bucket for each distance", bold=True)
    _ruler(sheet, 22, starts, WIDTH / 21, (0, 4, 8, 12, 16, 19))
    sheet.text(0, 98, "Far: buckets widen, and the last has no end", bold=True)
    _ruler(sheet, 107, starts, 2.75, (0, 16, 31, 46, 67, 87, last))
    sheet.text(0, 180, "On the rulers: buckets. Below: distances in tokens.", colour=MUTED)
    return sheet


def _ruler(sheet: Sheet, y: float, starts: list[int], scale: float, told: tuple[int, ...]) -> None:
    """The buckets from distance 0 to the edge of the sheet, numbered where they are wide enough."""
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], math.inf], strict=True)):
        left, right = scale * start, min(scale * end, WIDTH)
        if left < WIDTH:
            last = math.isinf(end)
            words = f"{number}" if right - left > 17 else ""
            fill = tint(COLOURS["t5"], 0.7 if last else (0.18, 0.36)[number % 2])
            sheet.box(left, y, right - left, 26, f"{words} →" if last else words, fill, "none")
    for distance in told:
        sheet.line([(scale * distance, y + 26), (scale * distance, y + 32)], MUTED)
        sheet.text(scale * distance, y + 45, f"{distance}", "middle" if distance else "start", MUTED)


def bfloat16_numbers() -> Sheet:
    """Rulers from 128 on, each twice as far out: the whole numbers that bfloat16 holds, and another one's rounding."""
    beyond, shown = 11, 32
    starts = [128 * 2**power for power in range(6)]
    rows = []
    for start in starts:
        whole = torch.arange(start, start + shown + 1)
        held = [int(number) - start for number in whole if int(number) == int(number.bfloat16())]
        rows.append((start, held, int(torch.tensor(start + beyond).bfloat16()) - start))
    sheet = Sheet(
        "bfloat16",
        "Whole numbers in bfloat16: the gaps grow",
        f"Six rulers of {shown} whole numbers, from {starts[0]}, {starts[1]} and so on to {starts[-1]}. Ticks are the "
        f"numbers that bfloat16 holds. The gaps are {', '.join(f'{held[1]}' for _, held, _ in rows)}. The number "
        f"{beyond} after each start stays on the first ruler and moves to the nearest tick on the others.",
        24 + 40 * len(rows),
    )
    left, scale = 44, (WIDTH - 44 - 44) / shown
    sheet.text(left - 8, 13, "from", "end", MUTED)
    sheet.text(WIDTH, 13, "gap", "end", MUTED)
    at = left + scale * beyond
    sheet.line([(at, 20), (at, 12 + 40 * len(rows))], FAINT, dashed=True)
    for row, (start, held, lands) in enumerate(rows):
        y = 44.0 + 40 * row
        sheet.text(left - 8, y + 4, f"{start}", "end")
        sheet.text(WIDTH, y + 4, f"{held[1]}", "end")
        sheet.line([(left, y), (left + scale * shown, y)], INK)
        for number in held:
            sheet.line([(left + scale * number, y - 6), (left + scale * number, y + 6)], INK, THICK)
        if lands != beyond:
            sheet.line([(at, y - 12), (left + scale * lands, y - 12)], INK, arrow=True)
        sheet.dot(left + scale * lands, y)
        told = f"{start + beyond} → {start + lands}" if lands != beyond else f"{start + beyond} stays"
        sheet.text(left + scale * 18, y - 10, told, colour=MUTED)
    return sheet

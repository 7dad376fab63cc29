"""Verdicts for pages: a table, the effects behind them, and the details of each claim to unfold."""

from collections.abc import Sequence
from html import escape

import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from alibi.book import tables
from alibi.book.findings import why
from alibi.reproduction import claim_tables, claims
from alibi.reproduction.rules import Claim
from alibi.speed.shapes import SHAPES

SIGNS = dict(zip(claims.VERDICTS, "✔◐◔≈✗✘=⊘○", strict=True))
NUMBERS = ["low", "high", "paper", "effect", "start", "end"]


def table(verdicts: Sequence[claims.Verdict], caption: str, whose: bool = False) -> Styler:
    """A row for each claim: title, verdict, the reason, and the smallest scale with the numbers of seeds.

    Args:
        verdicts: of `claims.scorecard`.
        caption: of the table.
        whose: also name the paper, for verdicts on several papers.
    """
    rows = {}
    for verdict in verdicts:
        seeds = claim_tables.seed_range(verdict.findings)
        rows[verdict.number] = {
            "claim": verdict.title,
            **({"whose": verdict.paper} if whose else {}),
            "verdict": f"{SIGNS[verdict.verdict]} {verdict.verdict}",
            "why": why(verdict),
            "smallest scale": f"{verdict.scale}, seeds: {seeds}" if seeds else "",
        }
    return tables.left(pd.DataFrame.from_dict(rows, "index"), caption)


def effects(asked: Sequence[Claim], verdicts: Sequence[claims.Verdict]) -> pd.DataFrame:
    """A row for each part of each claim, such as 1b: the rule's range, the paper's value, ours with its interval.

    Where there are two intervals, over seeds and over the text, it is the range of both. Columns are those of
    `alibi.book.plots.forests`.
    """
    rows = {}
    for claim, verdict in zip(asked, verdicts, strict=True):
        letters = "abcdef"[: len(claim.parts)] if len(claim.parts) > 1 else [""]
        for letter, part, found in zip(letters, claim.parts, verdict.findings, strict=True):
            ends = [end for interval in (found.interval, found.text_interval) for end in interval or ()]
            values = [part.low, part.high, found.paper, found.effect, min(ends, default=None), max(ends, default=None)]
            rows[f"{verdict.number}{letter}"] = [*values, found.outcome]
    shown = pd.DataFrame.from_dict(rows, "index", columns=[*NUMBERS, "outcome"])
    return shown.astype(dict.fromkeys(NUMBERS, float))


def details(verdicts: Sequence[claims.Verdict]) -> HTML:
    """Each claim to unfold: statistics, rules, both numbers with intervals, evidence, remark and gates."""
    key = "Evidence on <i>A -&gt; B</i> is of models trained on text A and evaluated on text B."
    if any(part.model for verdict in verdicts for part in verdict.findings):
        middle, large = (SHAPES[name].unmade("alibi").parameter_count() / 1e6 for name in ("W2", "247M-512"))
        key += (
            f" Of the models that were timed, W2 has {middle:.0f}M parameters. What is named 247M is the paper's shape "
            f"with a smaller vocabulary, {large:.0f}M."
        )
    return HTML("\n".join([f"<p>{key}</p>", *map(_unfolds, verdicts)]))


def _unfolds(verdict: claims.Verdict) -> str:
    rows = [
        {
            "statistic": part.statistic,
            "rule": part.rule,
            "the paper": part.number(part.paper),
            "measured": part.number(part.effect),
            "95 % interval, measured": claim_tables.intervals(part),
            "evidence": claim_tables.on_what(part),
        }
        for part in verdict.findings
    ]
    known = [column for column in rows[0] if any(row[column] for row in rows)]
    inside = (
        pd.DataFrame(rows)[known]
        .to_html(index=False, border=0, justify="left")
        .replace("<td>", '<td style="text-align: left">')
    )
    gates = ", ".join(f"{gate.letter} {gate.state}" for gate in verdict.gates)
    notes = [verdict.remark, f"Gates: {gates}" if gates else ""]
    told = "".join(f"<p>{escape(note)}</p>" for note in notes if note)
    summary = f"{verdict.number} {SIGNS[verdict.verdict]} {escape(verdict.title)}"
    return f"<details><summary>{summary}</summary>{inside}{told}</details>"

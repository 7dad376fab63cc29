"""Verdicts in words and tables, for a terminal, the README and JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from alibi.records import paper_results
from alibi.reproduction.claims import (
    CONTRADICTED_ONCE,
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    SHUT,
    VERDICTS,
    AtLength,
    Finding,
    GateFinding,
    Verdict,
)
from alibi.reproduction.evidence import as_records
from alibi.reproduction.nulls import survivors
from alibi.reproduction.rules import PRESS, rule_changes

if TYPE_CHECKING:
    from rich.table import Table


def changes(before: Sequence[Verdict], after: Sequence[Verdict]) -> str:
    """For a terminal: a line for each claim whose verdict changed, or one line if none did."""
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if old.verdict != new.verdict]
    if not pairs:
        return f"no verdict changed: {_counted(after)}"
    return "\n".join(f"claim {new.number}: {old.verdict} -> {new.verdict}: {new.title}" for old, new in pairs)


def _counted(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{counts[kind]} {kind}" for kind in VERDICTS if counts[kind])


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Verdicts as plain data: strings, numbers, lists and None."""
    return [asdict(verdict) for verdict in verdicts]


def on_what(found: Finding) -> str:
    """The evidence of a finding in words, or the first number that it lacks."""
    if found.missing:
        more = f", and {len(found.missing) - 1} more" if len(found.missing) > 1 else ""
        return f"missing: {found.missing[0]}{more}"
    length = f"at L = {found.length}" if found.length > 1 else ""
    corrected = "" if found.holm is None else f"Holm's p {found.holm:.2g}"
    told = [found.outcome, length, _seeds(found), corrected, found.scale, found.corpus_used, found.model]
    others = []
    for other in found.at_other_lengths:
        numbers = filter(None, [found.number(other.effect), _intervals(other, found)])
        others.append(f"at L = {other.length}: {', '.join([*numbers, other.outcome, _seeds(other)])}")
    return "; ".join([", ".join(filter(None, told)), *others, *smaller_scales(found)])


def seed_range(findings: Sequence[Finding]) -> str:
    """The fewest and the most seeds at any L of these findings, such as "1 to 3"; empty if nothing is measured."""
    counts = [count for found in findings if found.outcome for count in found.seed_counts]
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _seeds(found: Finding | AtLength) -> str:
    return "one seed" if found.seeds == 1 else f"{found.agreeing} of {found.seeds} seeds obey the rule"


def smaller_scales(found: Finding) -> list[str]:
    """The findings of smaller scales for the same part, in words."""
    return [f"at {other.scale}: {other.number(other.effect)}, {other.outcome}" for other in found.at_smaller_scales]


def intervals(found: Finding) -> str:
    """The intervals of a finding in words, over seeds and over the text or the repeats."""
    return _intervals(found, found)


def _intervals(at: Finding | AtLength, found: Finding) -> str:
    borrowed = " (spread of other runs)" if at.seeds == 1 else ""
    told = ((borrowed, at.interval), (" (repeats)" if found.model else " (text)", at.text_interval))
    return ", ".join("{:.4g} to {:.4g}".format(*ends) + of for of, ends in told if ends)


def _columns(*headings: str, **ratios: int) -> "Table":
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        shown.add_column(heading, ratio=ratios.get(heading.replace(" ", "_")))
    return shown


def table(verdicts: Sequence[Verdict]) -> "Table":
    """For a terminal: a row for each part of each claim, under the claim's title and verdict."""
    shown = _columns(
        "", "claim and statistic", "rule", "measured", "95 % interval", "paper", "verdict and evidence",
        claim_and_statistic=3, verdict_and_evidence=2,
    )  # fmt: skip
    for verdict in verdicts:
        whose = "" if verdict.paper == PRESS else f" ({verdict.paper})"
        shown.add_row(str(verdict.number), verdict.title + whose, *[""] * 4, verdict.verdict, style="bold")
        for found in verdict.findings:
            numbers = found.number(found.effect), intervals(found), found.number(found.paper)
            shown.add_row("", found.statistic, found.rule, *numbers, on_what(found))
        told = [f"{gate.letter} {gate.state}" for gate in verdict.gates]
        if told:
            shown.add_row("", f"gates: {', '.join(told)}", style="italic")
        if verdict.verdict in (NOT_REPRODUCED, CONTRADICTED_ONCE) and verdict.remark:
            shown.add_row("", verdict.remark, style="italic")
        shown.add_row()
    return shown


def gate_table(found: Sequence[GateFinding]) -> "Table":
    """For a terminal: a row for each gate of each scale."""
    shown = _columns("gate", "scale", "statistic", "rule", "measured", "state", "why", statistic=3, why=2)
    for gate in found:
        lacks = f"missing: {gate.finding.missing[0]}" if gate.finding.missing else gate.why
        numbers = gate.finding.rule, gate.finding.number(gate.finding.effect)
        shown.add_row(gate.letter, gate.scale, gate.finding.statistic, *numbers, gate.state, lacks)
    return shown


def null_table() -> "Table":
    """For a terminal: the outcome of the rules in each world, by the paper's numbers and by the measured ones."""
    of_paper, ours = survivors(as_records(paper_results())), survivors()
    shown = _columns("claim", *of_paper.columns)
    for number in of_paper.index:
        pairs = zip(of_paper.loc[number], ours.loc[number], strict=True)
        shown.add_row(str(number), *(f"{theirs or '-'} / {mine or '-'}" for theirs, mine in pairs))
    return shown


def change_table() -> "Table":
    """For a terminal: every change of a rule."""
    shown = _columns(
        "claim", "rule before", "rule now", "why", "date, commit", "seen by then", rule_before=2, rule_now=2, why=2
    )
    for row in rule_changes().itertuples():
        when = f"{row.date} {row.commit}"
        shown.add_row(str(row.claim), str(row.before), str(row.now), str(row.why), when, str(row.seen))
    return shown


def _three(found: Finding, value: float) -> str:
    """A value in three digits, or in as many as tell it from the bounds of the rule."""
    short = f"{value:.3g}"
    return found.number(value) if float(short) in found.bounds else short


def summary(verdicts: Sequence[Verdict], later: Sequence[Verdict] = ()) -> str:
    """For the README, in Markdown: counts of verdicts, then a row for each of the paper's claims, by its first part."""
    lines = [f"{_counted(verdicts)}.", ""]
    if later:
        papers = len({verdict.paper for verdict in later})
        lines += [f"Claims of {papers} other sources, most of them later papers: {_counted(later)}.", ""]
    lines += ["| | the paper's claim | verdict | the paper | measured | seeds |", "|---:|---|---|---:|---:|---:|"]
    for verdict in verdicts:
        found = next((part for part in verdict.findings if part.effect is not None), verdict.findings[0])
        paper, effect = ("" if value is None else _three(found, value) for value in (found.paper, found.effect))
        shut = ", ".join(gate.letter for gate in verdict.gates if gate.state == SHUT)
        word = f"{verdict.verdict} (gate {shut} shut)" if verdict.verdict == NOT_MEASURABLE else verdict.verdict
        told = f"{verdict.number} | {verdict.title} | {word} | {paper} | {effect} | {seed_range([found])}"
        lines.append(f"| {told} |")
    return "\n".join(lines) + "\n"

"""The numbers that claims need before they are measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from alibi.reproduction.claims import Known, lacked_by, measure
from alibi.reproduction.evidence import COUNTED_SCALES, Sample, evidence
from alibi.reproduction.later_rules import LATER_CLAIMS
from alibi.reproduction.rules import CLAIMS, GATES, Part


@dataclass(frozen=True)
class Need:
    """The numbers that a part of a claim, or one of its gates, lacks at a scale."""

    claim: int | str
    part: Part
    lacking: frozenset[str]
    """Names of numbers, as in `Finding.missing`."""
    every: frozenset[str]
    """Names of all numbers that the part or gate uses."""


def needs(records: pd.DataFrame, scale: str) -> list[Need]:
    """The missing numbers at this scale of claims that no scale has measured; none at quick, which is not evidence."""
    known, found = Known(records), []
    for claim in (*CLAIMS, *LATER_CLAIMS) if scale in COUNTED_SCALES else ():
        gates = [gate.part for gate in GATES if gate.letter in claim.gates and scale != "paper"]
        parts = (*claim.parts, *gates)
        if all(measure(part, known, COUNTED_SCALES).outcome for part in parts):
            continue
        for part in parts:
            at_scale = measure(part, known, (scale,))
            # A number of any other draw is useful, and of any other shape if several may decide.
            every = frozenset(lacked_by(part, known.nothing))
            if at_scale.missing:
                lacking = every if part.draws or part.by_model else frozenset(at_scale.missing)
                found.append(Need(claim.number, part, lacking, every))
    return found


def waiting(lacking: Sequence[Need], numbers: pd.DataFrame) -> tuple[int | str, ...]:
    """The claims that wait for one of these numbers, in the order of `needs`.

    Args:
        lacking: result of `needs`.
        numbers: records of one experiment and seed, with any values.
    """
    sample, found = Sample(evidence(numbers)), dict[int | str, None]()
    for need in lacking:
        if numbers["source"].iloc[0] not in need.part.experiments:
            continue
        if need.lacking & (need.every - set(lacked_by(need.part, sample))):
            found[need.claim] = None
    return tuple(found)

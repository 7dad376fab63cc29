"""The outcomes of the rules on the test split, beside those on the validation split of the same models."""

from dataclasses import dataclass

import pandas as pd

from alibi.reproduction.claims import AtLength, Finding, Known, measure
from alibi.reproduction.evidence import COUNTED_SCALES
from alibi.reproduction.rules import CLAIMS, Part

EXPERIMENT = "test_split"


@dataclass(frozen=True)
class OnBothSplits:
    """A statistic of a claim at one L, on the validation and the test split of the same models."""

    claim: int | str
    part: Part
    length: int
    """L in the paper's tokens."""
    validation: Finding | AtLength
    test: Finding | AtLength

    @property
    def transfers(self) -> bool:
        """Whether the outcome on the test split is that on the validation split."""
        return self.validation.outcome == self.test.outcome


def on_both_splits(records: pd.DataFrame) -> list[OnBothSplits]:
    """Each statistic of the paper's claims that these records allow, at each L, on both splits; no gate is asked.

    Only runs that were read on both splits count, so that the models are the same.

    Args:
        records: as for `alibi.reproduction.claims.judge`; those of `test_split` are read.
    """
    of_runs = records[records["source"].eq(EXPERIMENT)]
    read_twice = of_runs.groupby(["config_hash", "eval_length"])["split"].transform("nunique").eq(2)
    known = {split: _known(of_runs[read_twice & of_runs["split"].eq(split)]) for split in ("valid", "test")}
    found = []
    for claim in CLAIMS:
        for part in (part for part in claim.parts if "wikitext103" in part.experiments):
            valid, test = (_by_length(part, of_split) for of_split in known.values())
            found += [
                OnBothSplits(claim.number, part, length, valid[length], test[length])
                for length in sorted(valid.keys() & test.keys())
            ]
    return found


def _by_length(part: Part, known: Known) -> dict[int, Finding | AtLength]:
    """The outcome of a part at each L that has its numbers."""
    finding = measure(part, known, COUNTED_SCALES, in_part=True)
    if not finding.outcome:
        return {}
    return {finding.length: finding} | {other.length: other for other in finding.at_other_lengths}


def _known(rows: pd.DataFrame) -> Known:
    """These rows as the validation records of `wikitext103`, which the rules read."""
    return Known(rows.assign(source="wikitext103", split="valid"))

"""Judges the claims of `alibi.reproduction.rules` and, separately, those of `alibi.reproduction.later_rules`.

The evidence:

- Scales laptop, gpu and paper; quick is for CI and is never evidence. The largest scale that has all numbers of a part
  decides it. The scale of a claim is the smallest scale of its parts.
- The validation split. The paper's own corpus comes first, then its beginning, then a stand-in evaluated on it, then
  any other; of these, the one with the longest training. Models are compared after trainings of one budget. A speed is
  divided by speeds of the same machine and training dtype; the machine with the most records decides, of equal ones the
  first by name.
- Each statistic is computed within a seed, so methods are paired by seed, and judged at each L that it names, over all
  seeds that have it there; one seed must have every L. The part holds if it holds at every L; the L nearest to breaking
  it is shown.
- There are two separate 95 % intervals: over seeds (Student's t, from two seeds on; a single seed has one where the
  part names the spread of other runs), and over the articles of the text or the repeats of a time, where the part names
  standard errors. Two seeds have a wide interval, since Student's t has one degree of freedom: it may leave undecided
  what one seed with a known spread has decided. A part *holds* if its value and both intervals obey the rule, is
  *broken* if all lie outside, and is *undecided* if an interval crosses the bound. For a rule that is a band this is a
  test of equivalence (two one-sided tests at 2.5 % each).

The verdicts:

- *reproduced* (scale paper) or *reproduced at reduced scale*: every part holds, with at least two seeds at every L.
- *seen once*: every part holds, and one of them has a single seed at some L. *Contradicted once*: each L that breaks a
  part has one seed.
- *inconclusive*: a part is undecided, and none is broken. *Not reproduced*: a part is broken at some L by two seeds
  or more.
- *not measurable at this scale*: a gate of the claim (`GATES`) is shut at the deciding scale. The gate is measured on
  the claim's text if its experiments have records of that text: models trained on another text do not open it.
  Claims on a text without such records borrow the gates of WikiText-103.
- *true by arithmetic*: it holds, and a count shows that without a measurement.
- *not yet measured*: a part or a gate lacks a number, which the finding names.

Each part also has the share of seeds whose own value obeys the rule (seeds are paired, so for an order of methods this
is the probability of superiority), and Holm's p of the hypothesis that the rule is broken, over all parts with two
seeds at every L that differ. It is about seeds alone, on this text. The paper's claims and the claims of later papers
are two families with separate corrections. Where a smaller scale than the deciding one has all numbers of a part, its
finding stands beside it.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from alibi.corpora.reading import Reading
from alibi.records import measured_results, paper_results
from alibi.reproduction.evidence import COUNTED_SCALES, Sample, as_records, evidence
from alibi.reproduction.later_rules import LATER_CLAIMS
from alibi.reproduction.rules import CLAIMS, GATES, PRESS, ROUNDING, SPREAD_SCALE, Claim, Gate, Part

REPRODUCED, REDUCED, SEEN_ONCE = "reproduced", "reproduced at reduced scale", "seen once"
NOT_REPRODUCED, CONTRADICTED_ONCE = "not reproduced", "contradicted once"
INCONCLUSIVE, NOT_MEASURABLE = "inconclusive", "not measurable at this scale"
ARITHMETIC, NOT_MEASURED = "true by arithmetic", "not yet measured"
VERDICTS = (
    REPRODUCED, REDUCED, SEEN_ONCE, INCONCLUSIVE, CONTRADICTED_ONCE, NOT_REPRODUCED, ARITHMETIC, NOT_MEASURABLE,
    NOT_MEASURED,
)  # fmt: skip
HOLDS, BROKEN, UNDECIDED = "holds", "broken", "undecided"
OPEN, SHUT, UNKNOWN = "open", "shut", "not yet measured"
# The 0.975 quantile of the standard normal distribution: articles are many, so their intervals need no Student's t.
Z = 1.959964
# Of Student's t with 9 degrees of freedom: a time is repeated at least ten times (`alibi.speed.timing`), and not many
# times more.
T_OF_REPEATS = 2.262157
# Trainings on this share of the longest one's tokens have its budget: budgets differ twofold or more, and the tokens of
# a run that draws its windows by seed, or that stops after an equal time, by less.
SAME_BUDGET = 0.7
# Least number of random draws of which the best one counts.
FEWEST_DRAWS = 3


@dataclass(frozen=True)
class AtLength:
    """The outcome of one part of a claim at one L: the same fields as those of a `Finding`."""

    length: int
    outcome: str
    effect: float
    interval: tuple[float, float] | None
    text_interval: tuple[float, float] | None
    p: float | None
    seeds: int
    agreeing: int


@dataclass(frozen=True)
class Finding:
    """The outcome of one part of a claim by records."""

    statistic: str
    rule: str
    outcome: str = ""
    """holds, broken or undecided; empty if a number is missing."""
    obeys: bool | None = None
    """Whether the mean obeys the rule at every L, however wide the intervals; None if a number is missing."""
    effect: float | None = None
    """The statistic at the L that is nearest to breaking the rule: mean over seeds, or smallest of random draws."""
    length: int = 0
    """That L; 0 if the statistic names none."""
    interval: tuple[float, float] | None = None
    """95 % interval of the mean, Student's t over seeds; with one seed from the spread of other runs, or none."""
    text_interval: tuple[float, float] | None = None
    """95 % interval over the articles of the text, which are the same in every seed, or over the repeats of a time,
    whose records name a `model`; None without standard errors."""
    paper: float | None = None
    """The same statistic from the paper's tables."""
    seeds: int = 0
    """Number of seeds with a value at that L."""
    agreeing: int = 0
    """Number of those seeds whose own value at that L obeys the rule."""
    p: float | None = None
    """One-sided p over seeds (`p_value`), the largest of all L; None if an L has one seed."""
    scale: str = ""
    corpus_used: str = ""
    model: str = ""
    missing: tuple[str, ...] = ()
    holm: float | None = None
    """That p after Holm's correction for all parts of the scorecard that have one."""
    at_other_lengths: tuple[AtLength, ...] = ()
    """The outcomes at the other L that the part names, nearest to breaking the rule first."""
    at_smaller_scales: tuple["Finding", ...] = ()
    """The findings of smaller scales that have all numbers too, which don't decide; largest scale first."""
    bounds: tuple[float, ...] = ()
    """The ends of the rule's range."""

    def number(self, value: float | None) -> str:
        """A value of the statistic in four digits, or in as many more as tell it from the bounds; empty for None."""
        if value is None:
            return ""
        others = [bound for bound in self.bounds if abs(value - bound) > ROUNDING]
        told = (f"{value:.{digits}g}" for digits in range(4, 17))
        return next(text for text in told if float(text) not in others)

    @property
    def seed_counts(self) -> list[int]:
        """Number of seeds at each L, that of this finding first."""
        return [self.seeds, *(other.seeds for other in self.at_other_lengths)]

    @property
    def holds(self) -> bool | None:
        """Whether the outcome is "holds"; None if a number is missing."""
        return None if not self.outcome else self.outcome == HOLDS


@dataclass(frozen=True)
class GateFinding:
    """The state of one gate by the records of a scale."""

    letter: str
    scale: str
    state: str
    """open, shut or not yet measured; the mean over seeds decides, without intervals, since a gate is not a claim."""
    why: str
    finding: Finding


@dataclass(frozen=True)
class Verdict:
    """A claim with its verdict and findings."""

    number: int | str
    title: str
    paper_place: str
    verdict: str
    scale: str
    """The smallest scale at which a part was measured."""
    findings: tuple[Finding, ...]
    remark: str
    gates: tuple[GateFinding, ...] = ()
    """The claim's gates at that scale."""
    paper: str = PRESS


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of a mean: mean +- t(0.975, n - 1) s / sqrt(n); None for fewer than two values."""
    if len(values) < 2:
        return None
    # Not scipy.stats, whose import takes longer than the whole scorecard.
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def borrowed_interval(part: Part, effect: float) -> tuple[float, float] | None:
    """95 % interval of a ratio of two runs by the part's `spread` s: effect x exp(+- t(0.975, 2) sqrt(2) s), or None.

    The spread comes from three seeds of other runs, so t has two degrees of freedom.
    """
    from scipy.special import stdtrit

    half = float(stdtrit(2, 0.975)) * math.sqrt(2) * part.spread
    return (effect * math.exp(-half), effect * math.exp(half)) if part.spread else None


def p_value(part: Part, values: Sequence[float]) -> float | None:
    """One-sided p of the hypothesis that the true mean breaks the rule (Student's t); for a band, the larger of two.

    It is the probability that seeds' mean lies at least so far inside the rule if the true mean is at the rule's bound.
    None for equal values, such as a count or a point of a coarse grid: they have no spread to compare with.
    """
    from scipy.special import stdtr

    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    if error < 1e-12 * max(1.0, abs(mean)):
        return None
    return float(stdtr(len(values) - 1, -part.margin(mean) / error))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's p of each of m tests: the k-th smallest p times m - k + 1, at most 1, and never decreasing."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


@dataclass(frozen=True)
class _Group:
    """Records that may be compared with each other: a sample for each seed."""

    scale: str
    corpus_used: str
    model: str
    samples: tuple[Sample, ...]


def substitution(corpus: str, used: str) -> int:
    """Rank of a text by its closeness to the claim's corpus.

    0 for the corpus itself, 1 for its beginning, 2 for a stand-in that is evaluated on it, 3 for anything else.
    """
    own, stands_in = Reading.named(used).corpus == corpus, used.endswith(f"-> {corpus}")
    return 0 if used == corpus else 1 if own else 2 if stands_in else 3


class Known:
    """Records as evidence; their samples are made once."""

    def __init__(self, records: pd.DataFrame) -> None:
        self.records = evidence(records)
        self.nothing = Sample(self.records.iloc[:0])
        self._made: dict[tuple[tuple[str, ...], bool, str], list[_Group]] = {}

    def groups(self, part: Part, scales: Sequence[str], texts: Collection[str] = ()) -> Iterator[_Group]:
        """The groups of records that may decide a part, best first.

        Only groups of these `texts`, if there are any.
        """
        for scale in scales:
            key = part.experiments, part.by_model, scale
            if key not in self._made:
                self._made[key] = self._make(part, scale)
            of_texts = [group for group in self._made[key] if group.corpus_used in texts]
            yield from of_texts or self._made[key]

    def _make(self, part: Part, scale: str) -> list[_Group]:
        rows = self.records[self.records["source"].isin(part.experiments) & (self.records["scale"] == scale)]
        by = ["corpus_used", "model"] if part.by_model else ["corpus_used"]
        of_text = [group for _, group in rows.groupby(by)]
        if part.by_model:
            of_text = [machine for group in of_text for machine in _machines(group)]
        groups = [_longest(group) for group in of_text]

        def rank(group: pd.DataFrame) -> tuple[int, float, int]:
            size = group["parameters" if part.by_model else "tokens_trained"].max()
            stand_in = substitution(str(group["corpus"].iloc[0]), group["corpus_used"].iloc[0])
            return stand_in, -(0 if pd.isna(size) else size), -len(group)

        return [
            _Group(
                scale,
                group["corpus_used"].iloc[0],
                group["model"].iloc[0] if part.by_model else "",
                tuple(Sample(of_seed) for _, of_seed in group.groupby("seed")),
            )
            for group in sorted(groups, key=rank)
        ]


def _machines(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each machine and training dtype, by name; evaluations, in float32, are those of every such dtype."""
    found = []
    for _, of_device in rows.groupby("device"):
        trained = of_device["metric"].str.startswith("train_")
        dtypes = sorted(of_device.loc[trained, "dtype"].unique())
        found += [of_device[~trained | of_device["dtype"].eq(dtype)] for dtype in dtypes or [""]]
    return found


def _longest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of shorter trainings: two budgets, of whatever methods and seeds, are not compared."""
    run = rows.groupby(["source", "paper_length", "equal_time"])
    return rows[~rows["tokens_trained"].lt(SAME_BUDGET * run["tokens_trained"].transform("max"))]


def _computed(part: Part, sample: Sample) -> tuple[dict[int, float], dict[int, float], list[str]]:
    """The part's values and standard errors in a sample, at each L where it has all numbers, and the missing ones."""
    sample.missing = []
    values = {length: value for length, value in part.of(sample).items() if not math.isnan(value)}
    missing, sample.missing = sample.missing, []
    errors = part.errors_of(sample) if values else {}
    sample.missing = []
    return values, errors, missing


def lacked_by(part: Part, sample: Sample) -> list[str]:
    """Names of the numbers that the part lacks in a sample."""
    return _computed(part, sample)[2]


def measure(
    part: Part,
    known: Known,
    scales: Sequence[str],
    paper: float | None = None,
    texts: Collection[str] = (),
    in_part: bool = False,
) -> Finding:
    """The finding by the first group of records with all numbers of the part; else the numbers missing in the best.

    With `in_part` numbers at one of several L are enough, and the finding is that of the L which have them.
    """
    least_missing = lacked_by(part, known.nothing)
    for group in known.groups(part, scales, texts):
        found = [_computed(part, sample) for sample in group.samples]
        if part.draws:
            draws = Counter(length for values, _, _ in found for length in values)
            lacking = FEWEST_DRAWS - max(draws.values(), default=0)
            if 0 < lacking < FEWEST_DRAWS:
                least_missing = [f"{lacking} more random draws"]
                continue
            enough = {length for length, number in draws.items() if number >= FEWEST_DRAWS}
            found = [
                ({at: value for at, value in values.items() if at in enough}, errors, missing)
                for values, errors, missing in found
            ]
        if any(values if in_part else not missing for values, _, missing in found):
            return _decided(part, group, [(values, errors) for values, errors, _ in found], paper)
        else:
            least_missing = min([least_missing, *(missing for _, _, missing in found)], key=len)
    return Finding(part.statistic, part.rule, paper=paper, missing=tuple(least_missing), bounds=part.bounds)


def _decided(
    part: Part, group: _Group, found: Sequence[tuple[dict[int, float], dict[int, float]]], paper: float | None
) -> Finding:
    """The outcome over seeds at each L; the finding has the L that is nearest to breaking the rule."""
    told, quantile = [], T_OF_REPEATS if group.model else Z
    for length in dict.fromkeys(length for values, _ in found for length in values):
        values = [of_seed[length] for of_seed, _ in found if length in of_seed]
        effect = min(values) if part.draws else float(np.mean(values))
        borrowed = borrowed_interval(part, effect) if group.scale == SPREAD_SCALE else None
        over_seeds = None if part.draws else interval(values) or borrowed
        errors = [errors[length] for _, errors in found if not math.isnan(errors.get(length, math.nan))]
        error = float(np.mean(errors)) if errors else math.nan
        over_text = (effect - quantile * error, effect + quantile * error) if errors else None
        sides = {part.holds(value) for value in (effect, *(over_seeds or ()), *(over_text or ()))}
        # Both ends of an interval may lie outside a band, one on each side.
        around = any(ends and ends[0] < part.low and ends[1] > part.high for ends in (over_seeds, over_text))
        outcome = UNDECIDED if len(sides) > 1 or around else HOLDS if sides == {True} else BROKEN
        p = None if part.draws or len(values) < 2 else p_value(part, values)
        agreeing = sum(map(part.holds, values))
        told.append(AtLength(length, outcome, effect, over_seeds, over_text, p, len(values), agreeing))
    told.sort(key=lambda at: ([BROKEN, UNDECIDED, HOLDS].index(at.outcome), part.margin(at.effect)))
    worst, ps = told[0], [at.p for at in told]
    largest = None if None in ps else max(p for p in ps if p is not None)
    return Finding(
        part.statistic,
        part.rule,
        **asdict(worst) | {"p": largest},
        obeys=all(part.holds(at.effect) for at in told),
        paper=paper,
        scale=group.scale,
        corpus_used=group.corpus_used,
        model=group.model,
        at_other_lengths=tuple(told[1:]),
        bounds=part.bounds,
    )


def _gate(gate: Gate, known: Known, scale: str, texts: Collection[str] = ()) -> GateFinding:
    found = measure(gate.part, known, (scale,), texts=texts)
    return GateFinding(gate.letter, scale, {None: UNKNOWN, True: OPEN, False: SHUT}[found.obeys], gate.why, found)


def gates(records: pd.DataFrame | None = None) -> list[GateFinding]:
    """The gates at every scale below the paper's that has records; None takes all measured records."""
    known = Known(measured_results() if records is None else records)
    scales = [scale for scale in COUNTED_SCALES if scale != "paper" and (known.records["scale"] == scale).any()]
    return [_gate(gate, known, scale) for scale in scales for gate in GATES]


def judge(claim: Claim, records: pd.DataFrame, paper: pd.DataFrame) -> Verdict:
    """The verdict on a claim.

    Args:
        claim: one of `alibi.reproduction.rules.CLAIMS` or `alibi.reproduction.later_rules.LATER_CLAIMS`.
        records: measured records, in the columns of `alibi.records.MEASURED_COLUMNS`.
        paper: the paper's numbers (`alibi.records.paper_results`).
    """
    return _judge(claim, Known(records), Known(as_records(paper)))


def _judge(claim: Claim, known: Known, published: Known) -> Verdict:
    findings = []
    for part in claim.parts:
        of_paper = measure(part, published, ("paper",)).effect
        deciding, *others = _by_scale(part, known, of_paper)
        findings.append(replace(deciding, at_smaller_scales=tuple(others)))
    scale = max((finding.scale for finding in findings if finding.scale), key=COUNTED_SCALES.index, default="")
    asked = [gate for gate in GATES if gate.letter in claim.gates and scale not in ("", "paper")]
    texts = {finding.corpus_used for finding in findings if finding.scale == scale}
    passed = tuple(_gate(gate, known, scale, texts) for gate in asked)
    verdict = _word(claim, scale, findings, [gate.state for gate in passed])
    return Verdict(
        claim.number, claim.title, claim.paper_place, verdict, scale, tuple(findings), claim.remark, passed, claim.paper
    )


def _by_scale(part: Part, known: Known, paper: float | None) -> list[Finding]:
    """The finding of the largest scale with all numbers, or what is missing; then those of smaller scales with all."""
    deciding = measure(part, known, COUNTED_SCALES, paper)
    smaller = COUNTED_SCALES[COUNTED_SCALES.index(deciding.scale) + 1 :] if deciding.scale else ()
    others = [measure(part, known, (scale,), paper) for scale in smaller]
    return [deciding, *(found for found in others if found.outcome)]


def _word(claim: Claim, scale: str, findings: Sequence[Finding], gates: Sequence[str]) -> str:
    broken = [finding for finding in findings if finding.outcome == BROKEN]
    if any(not finding.outcome for finding in findings):
        return NOT_MEASURED
    if SHUT in gates:
        return NOT_MEASURABLE
    if UNKNOWN in gates:
        return NOT_MEASURED
    if broken:
        # A count is the same in every seed.
        elsewhere = [at.seeds for finding in broken for at in finding.at_other_lengths if at.outcome == BROKEN]
        once = {finding.seeds for finding in broken} | {*elsewhere} == {1} and not claim.arithmetic
        return CONTRADICTED_ONCE if once else NOT_REPRODUCED
    if any(finding.outcome == UNDECIDED for finding in findings):
        return INCONCLUSIVE
    if claim.arithmetic:
        return ARITHMETIC
    if any(1 in finding.seed_counts for finding in findings):
        return SEEN_ONCE
    return REPRODUCED if scale == "paper" else REDUCED


def scorecard(
    records: pd.DataFrame | None = None, paper: pd.DataFrame | None = None, claims: Sequence[Claim] = CLAIMS
) -> list[Verdict]:
    """The verdicts on these claims; their p values are corrected together.

    Args:
        records: as for `judge`; None takes all measured records.
        paper: as for `judge`; None takes all of the paper's numbers.
        claims: the paper's if left out.
    """
    known = Known(measured_results() if records is None else records)
    return _scorecard(claims, known, Known(as_records(paper_results() if paper is None else paper)))


def both_scorecards() -> tuple[list[Verdict], list[Verdict]]:
    """The verdicts on the paper's claims, and those on the claims of later papers, on all measured records."""
    known, published = Known(measured_results()), Known(as_records(paper_results()))
    return _scorecard(CLAIMS, known, published), _scorecard(LATER_CLAIMS, known, published)


def _scorecard(claims: Sequence[Claim], known: Known, published: Known) -> list[Verdict]:
    verdicts = [_judge(claim, known, published) for claim in claims]
    adjusted = iter(holm([f.p for verdict in verdicts for f in verdict.findings if f.p is not None]))
    return [
        replace(
            verdict,
            findings=tuple(f if f.p is None else replace(f, holm=next(adjusted)) for f in verdict.findings),
        )
        for verdict in verdicts
    ]

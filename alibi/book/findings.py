"""Findings in sentences, written from the records, so that they stay true with new records or none."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

import numpy as np
import pandas as pd
from IPython.display import Markdown

from alibi.book import plots, results
from alibi.protocols import SLIDING
from alibi.reproduction import claim_tables, claims
from alibi.reproduction.rules import FAILS_FROM, HOLDS_UP_TO

NONE = "*No record of this experiment counts yet, so there is nothing to report.*"
# Curves of the paper may end a little before a multiple, as Table 3 does at 15.6 L.
SHORT_OF = 0.05
# Windows past L, in multiples of it.
MULTIPLES = (1.125, 2, 16)
METHODS = [*plots.PAPER_ORDER, "none"]
FAILED = (claims.CONTRADICTED_ONCE, claims.NOT_REPRODUCED)


def _listed(sentences: Iterable[str]) -> Markdown:
    lines = [f"- {sentence}" for sentence in sentences]
    return Markdown("\n".join(lines) or NONE)


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _against(ratio: float) -> str:
    """A ratio of two perplexities in words, for a place before the second."""
    per_cent = 100 * (ratio - 1)
    if abs(per_cent) < 0.05:
        return "equal to"
    return f"{abs(per_cent):.1f} % {'above' if per_cent > 0 else 'below'}"


def growth(records: pd.DataFrame, method: str, multiple: float) -> dict[float, float]:
    """Perplexity at multiple x L over perplexity at L, by training length, mean over seeds, without overlap.

    Between two windows log perplexity is interpolated, since the paper's tables step by hundreds of tokens.
    """
    rows = results.relative(records).query("method == @method and multiple >= 1").dropna(subset="ratio")
    found = {}
    for length in sorted(rows.train_length.unique()):
        curve = rows[rows.train_length == length].groupby("multiple").ratio.mean()
        multiples = np.array(curve.index, dtype=float)
        if multiples[0] == 1 and multiples[-1] >= multiple * (1 - SHORT_OF):
            log = np.interp(math.log(multiple), np.log(multiples), np.log(curve.to_numpy()))
            found[float(length)] = math.exp(log)
    return found


def _word(at_2: Sequence[float], farthest: Sequence[float], largest: float) -> str:
    """A word for a method's perplexity past L, by the two thresholds of the rules; `largest` is of all windows."""
    if min(at_2) >= FAILS_FROM:
        return "fails"
    if min(farthest) >= FAILS_FROM:
        return "fails farther out"
    return "holds" if max(*at_2, *farthest, largest) <= HOLDS_UP_TO else "is in between"


def _largest(records: pd.DataFrame, method: str) -> float:
    """The largest perplexity on any window from 2 L on over that at L, mean over seeds, at any training length."""
    rows = results.relative(records).query("method == @method and multiple >= 2").dropna(subset="ratio")
    return float(rows.groupby(["train_length", "multiple"]).ratio.mean().max())


def past_length(paper: pd.DataFrame, measured: pd.DataFrame) -> Markdown:
    """The change of perplexity from L to longer windows, here and in the paper, for each method with records.

    As in the rules of the claims, *holds* is at most 0.5 % above perplexity at L on all windows from 2 L on. *Fails* is
    10 % above at every L.

    Args:
        paper: rows of the paper's tables.
        measured: from `results.results`.
    """
    told = []
    for method in METHODS:
        ours, theirs = (_by_multiple(records, method) for records in (measured, paper))
        whole = [ratios for ratios in ours.values() if len(ratios) == len(MULTIPLES)]
        if whole:
            own = measured[measured.method == method]
            at_2, farthest = ([ratios[multiple] for ratios in whole] for multiple in (2, MULTIPLES[-1]))
            word = _word(at_2, farthest, _largest(own, method))
            counted = own.groupby(own.train_length.astype(float)).seed.nunique()
            seeds = dict(zip(counted.index, counted, strict=True))
            published = f" In the paper, trained at {_lengths(theirs)}: {_ranges(theirs)}." if theirs else ""
            told.append(
                f"**{plots.TITLES[method]} {word}.** Trained at {_lengths(ours, seeds)}: {_ranges(ours)}.{published}"
            )
    return _listed(told)


def _lengths(curves: Mapping[float, Mapping[float, float]], seeds: Mapping[float, int] = MappingProxyType({})) -> str:
    """The training lengths, each with its number of seeds and its farthest window if they are not 1 and 16 L."""
    lengths = []
    for length, ratios in curves.items():
        notes = [f"{seeds[length]} seeds"] if seeds.get(length, 1) > 1 else []
        # A curve that ends sooner has no part in the last number.
        if MULTIPLES[-1] not in ratios:
            notes.append(f"up to ${max(ratios):g} L$")
        lengths.append(f"{length:g}" + (f" ({', '.join(notes)})" if notes else ""))
    return _joined(lengths)


def _ranges(curves: Mapping[float, Mapping[float, float]]) -> str:
    """The least and greatest change of perplexity from L over training lengths, by multiple of L."""
    at: dict[float, list[float]] = {}
    for ratios in curves.values():
        for multiple, ratio in ratios.items():
            at.setdefault(multiple, []).append(ratio - 1)
    told = []
    for multiple, changes in sorted(at.items()):
        ends = dict.fromkeys(map(_change, (min(changes), max(changes))))
        told.append(f"{' to '.join(ends)} at ${multiple:g} L$")
    return ", ".join(told)


def _change(change: float) -> str:
    """A change in per cent, with a second digit where the first would hide on which side of a threshold it is.

    From ten times the perplexity on it has no digit after the point.
    """
    near = any(abs(change - (threshold - 1)) < 5e-4 for threshold in (HOLDS_UP_TO, FAILS_FROM))
    return f"{change:+,.{0 if change > 9 else 1 + near}%}".replace("%", " %")


def _by_multiple(records: pd.DataFrame, method: str) -> dict[float, dict[float, float]]:
    """Perplexity over perplexity at L, by training length and multiple, without missing ones."""
    found: dict[float, dict[float, float]] = {}
    for multiple in MULTIPLES:
        for length, ratio in growth(records, method, multiple).items():
            found.setdefault(length, {})[multiple] = ratio
    return dict(sorted(found.items()))


def _at_own_length(records: pd.DataFrame) -> pd.DataFrame:
    """Perplexity at L: a column for each method, and a row for each training length in tokens and each seed."""
    own = results.relative(records).query("multiple == 1")
    own = own.pivot_table(index=["train_length", "seed"], columns="method", values="value")
    return own.reindex(columns=METHODS)


def _seeds(seeds: Iterable[int]) -> str:
    named = [f"{seed:g}" for seed in seeds]
    return f" (seed{'s' if len(named) > 1 else ''} {_joined(named)} alone)"


def _leads(own: pd.DataFrame) -> dict[float, float]:
    """ALiBi's perplexity over sinusoidal's in a table of `_at_own_length`, by L, mean over the seeds that both have."""
    ratios = (own.alibi / own.sinusoidal).groupby("train_length").mean().dropna()
    return dict(zip(ratios.index.tolist(), ratios.tolist(), strict=True))


def order_at_length(paper: pd.DataFrame, measured: pd.DataFrame) -> Markdown:
    """At L: the methods from best to worst, and ALiBi against sinusoidal here and in the paper.

    Methods are ranked by their means over the seeds that all of them have, or if there are none, over their own. The
    seeds are named where some method has more.

    Args:
        paper: the rows of Table 5, which has many training lengths.
        measured: from `results.results`.
    """
    own = _at_own_length(measured)
    lead, ours = _leads(_at_own_length(paper)), _leads(own)
    known = measured.dropna(subset="paper_length").astype({"train_length": float, "paper_length": float})
    stands_for = dict(zip(known.train_length, known.paper_length, strict=True))
    told = []
    for length in own.index.unique("train_length"):
        with_records = own.loc[length].dropna(axis="columns", how="all")
        shared = with_records.dropna()
        means = (shared if len(shared) else with_records).mean().to_dict()
        ranked = sorted((value, plots.TITLES[method]) for method, value in means.items())
        if len(ranked) < 2:
            continue
        order = _joined([f"{title} {value:.1f}" for value, title in ranked])
        only = _seeds(shared.index) if 0 < len(shared) < len(with_records) else ""
        sentence = f"**Trained and read at {length:g}**{only}, from best to worst: {order}."
        if length in ours:
            places = [place for place in dict.fromkeys([length, stands_for[length]]) if place in lead]
            theirs = _joined([f"{lead[place]:.3f} at {place:g}" for place in places]) if places else "not given"
            sentence += f" ALiBi over sinusoidal is {ours[length]:.3f}; in the paper it is {theirs}."
        told.append(sentence)
    return _listed(told)


def short_against_long(measured: pd.DataFrame) -> Markdown:
    """ALiBi trained at 512 against sinusoidal trained at 3072, both read there, and whether this rival is a fair one.

    Models are paired by seed: only seeds with all three runs count.

    Args:
        measured: from `results.results`; lengths are those of the paper that they stand for.
    """
    short, long = 512.0, 3072.0
    keys = ["method", "paper_length", "paper_eval_length"]
    rows = plots.perplexities(measured).astype({"paper_length": float, "paper_eval_length": float, "value": float})
    wanted = [("alibi", short, long), ("sinusoidal", long, long), ("sinusoidal", short, short)]
    by_seed = rows.groupby([*keys, "seed"]).value.mean().unstack("seed").reindex(wanted).dropna(axis=1)
    if by_seed.empty:
        return Markdown("*The runs for this comparison are not all recorded yet.*")
    alibi, rival, own = (by_seed.loc[[key]].iloc[0] for key in wanted)
    ours = dict(zip(rows.paper_length, rows.train_length.astype(float), strict=True))
    at_short, at_long = (
        f"{ours[length]:g}" + (f" (for {length:g})" if ours[length] != length else "") for length in (short, long)
    )
    told = [
        f"**ALiBi trained at {at_short} is {_against((alibi / rival).mean())} its rival**, sinusoidal trained at "
        f"{at_long}. Both are read at {ours[long]:g}."
    ]
    beside = _against((rival / own).mean())
    weak = beside.endswith("above")
    told.append(
        f"**The rival is {'weak' if weak else 'a fair one'}.** Sinusoidal trained and read at {ours[long]:g} is "
        f"{beside} sinusoidal trained and read at {ours[short]:g}."
    )
    if weak:
        told.append("So short training wins without ALiBi too, and the comparison shows nothing about ALiBi.")
    return _listed(told)


def full_windows(measured: pd.DataFrame) -> Markdown:
    """For each method, the change of perplexity from L to 2 L and to the longest window, in full sliding windows.

    Args:
        measured: from `results.results`; records whose first windows grow are left out.
    """
    rows = plots.perplexities(measured, protocol=SLIDING)
    rows = rows[rows.skipped.notna()]
    told = []
    for method in [name for name in plots.COLOURS if name in set(rows.method)]:
        of_method: dict[float, dict[float, float]] = {}
        for length in sorted(rows[rows.method == method].train_length.astype(float).unique()):
            curve = _curve(rows[(rows.method == method) & (rows.train_length == length)])
            windows = sorted({2 * length, max(curve)} & {window for window in curve if window > length})
            if length in curve and windows:
                of_method[length] = {window / length: curve[window] / curve[length] for window in windows}
        if of_method:
            lengths = _joined([f"{length:g}" for length in of_method])
            told.append(f"**{plots.TITLES[method]}**, trained at {lengths}: {_ranges(of_method)}.")
    return _listed(told)


def of_variants(measured: pd.DataFrame) -> Markdown:
    """Perplexity of each method against ALiBi's at L and at 16 L, and how both change.

    Means over the seeds that both have: a seed is the same weights at the start and the same order of the data. They
    are named where the method has more.
    """
    multiple = MULTIPLES[-1]
    rows = results.relative(measured).query("multiple in (1, @multiple)")
    table = rows.pivot_table(index=["method", "seed"], columns="multiple", values="value")
    table = table.reindex(columns=[1, multiple]).dropna()
    curves = {method: curve.droplevel("method") for method, curve in table.groupby("method")}
    alibi = curves.pop("alibi", table[:0])
    told = []
    for method in [name for name in plots.TITLES if name in curves]:
        own, same = curves[method].align(alibi, join="inner", axis="index")
        if len(own):
            ratios = (own / same).mean()
            changes = [f"{(curve[multiple] / curve[1] - 1).mean():+.1%}".replace("%", " %") for curve in (own, same)]
            only = _seeds(own.index) if len(own) < len(curves[method]) else ""
            told.append(
                f"*{plots.TITLES[method]}*{only}: perplexity {_against(ratios[1])} ALiBi's at $L$, and "
                f"{_against(ratios[multiple])} it at ${multiple} L$. Up to there it changes by {changes[0]}, and "
                f"ALiBi's by {changes[1]}."
            )
    return _listed(told)


def _curve(rows: pd.DataFrame) -> dict[float, float]:
    """Perplexity by window, mean over seeds."""
    numbers = rows.astype({"eval_length": float, "value": float}).groupby("eval_length").value.mean()
    return dict(zip(numbers.index.tolist(), numbers.tolist(), strict=True))


def of_claims(numbers: Sequence[int | str]) -> Markdown:
    """The verdicts on these claims, each with its measured parts; claims without any share the last line."""
    told, waiting = [], []
    for verdict in chain(*claims.both_scorecards()):
        parts = [
            "; ".join(
                [
                    f"  - {part.statistic}: {part.number(part.effect)} at {part.scale}. The rule asks {part.rule}: "
                    f"{part.outcome}",
                    *claim_tables.smaller_scales(part),
                ]
            )
            for part in verdict.findings
            if part.outcome and part.effect is not None
        ]
        if verdict.number in numbers and parts:
            told.append("\n".join([f"**Claim {verdict.number}, {verdict.title}: {verdict.verdict}.**", *parts]))
        elif verdict.number in numbers:
            waiting.append(f"{verdict.number}")
    if waiting:
        told.append(f"**Not yet measured:** claim{'s' if len(waiting) > 1 else ''} {_joined(waiting)}.")
    return _listed(told)


def _numbered(verdicts: Iterable[claims.Verdict]) -> str:
    return ", ".join(str(verdict.number) for verdict in verdicts)


def verdict_line(verdicts: Sequence[claims.Verdict]) -> Markdown:
    """The number of claims with each verdict, which they are, and which incomplete ones failed in a part."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    each = []
    for word in claims.VERDICTS:
        if counts[word]:
            named = "" if word == claims.NOT_MEASURED else f" ({_numbered(v for v in verdicts if v.verdict == word)})"
            each.append(f"{counts[word]} {word}{named}")
    in_part = [
        verdict
        for verdict in verdicts
        if verdict.verdict == claims.NOT_MEASURED and any(part.outcome == claims.BROKEN for part in verdict.findings)
    ]
    more = f" Not yet complete, but failed in a part: {_numbered(in_part)}." if in_part else ""
    return Markdown(f"Of {len(verdicts)} claims: {'; '.join(each)}.{more}")


def failed_line(verdicts: Sequence[claims.Verdict]) -> Markdown:
    """The titles of the claims that were contradicted or not reproduced, each with its number."""
    failed = [f"*{verdict.title}* ({verdict.number})" for verdict in verdicts if verdict.verdict in FAILED]
    return Markdown(f"Did not hold: {'; '.join(failed)}." if failed else "No claim has failed.")


def measured_line(verdicts: Sequence[claims.Verdict]) -> Markdown:
    """The number of statistics in the rules of these claims, and of those that are measured."""
    effects = [part.effect for verdict in verdicts for part in verdict.findings]
    measured = sum(effect is not None for effect in effects)
    drawn = "Those are drawn below, each beside the range in which its rule holds." if measured else "Nothing is drawn."
    return Markdown(f"The rules ask for {len(effects)} statistics; {measured} of them are measured. {drawn}")


def why(verdict: claims.Verdict) -> str:
    """The reason of a verdict in a few words: the shut gate, the broken or undecided part, or the missing records.

    After a shut gate and after a broken part come the findings of smaller scales.
    """
    if verdict.verdict == claims.NOT_MEASURABLE:
        shut = [gate.letter for gate in verdict.gates if gate.state == claims.SHUT]
        others = [told for part in verdict.findings for told in claim_tables.smaller_scales(part)]
        return "; ".join([f"shut: gate{'s' if len(shut) > 1 else ''} {_joined(shut)}", *others])
    broken = next((part for part in verdict.findings if part.outcome == claims.BROKEN), None)
    missing = sum(not part.outcome for part in verdict.findings)
    lacking = f"{missing} of {len(verdict.findings)} parts lack records" if missing else ""
    if broken is not None:
        told = f"{broken.statistic}: {broken.number(broken.effect)}, not {broken.rule}"
        return "; ".join(filter(None, [told, *claim_tables.smaller_scales(broken), lacking]))
    open_parts = [part for part in verdict.findings if part.outcome == claims.UNDECIDED]
    if open_parts and not lacking:
        part, many = open_parts[0], f" (and {len(open_parts) - 1} more)" if len(open_parts) > 1 else ""
        return f"undecided: {part.statistic}: {claim_tables.intervals(part)}, asked is {part.rule}{many}"
    unknown = [gate.letter for gate in verdict.gates if gate.state == claims.UNKNOWN]
    return lacking or (f"no records for gate{'s' if len(unknown) > 1 else ''} {_joined(unknown)}" if unknown else "")

"""Sentences that are written from records: what they say follows the numbers, whichever way these come out."""

from dataclasses import replace

import pandas as pd
import pytest
from test_results import PAPER, frame, record

from alibi.book import findings
from alibi.reproduction import claims

TABLE_2 = PAPER[PAPER.source == "Table 2"]
TABLE_5 = PAPER[PAPER.source == "Table 5"]


def curve(method, ratios, length=64, **more):
    """Records at these multiples of L, as if from `results.results`."""
    rows = [record(100 * ratio, method, length, round(multiple * length), **more) for multiple, ratio in ratios.items()]
    return rows


def measured(*rows):
    found = frame(*rows)
    return found.assign(paper_eval_length=(found.eval_length * 8).astype("Float64"))


@pytest.mark.parametrize(
    ("at_2", "at_16", "word"),
    [(1.3, 2, "fails"), (1.01, 1.4, "fails farther out"), (0.98, 1.004, "holds"), (1.02, 1.05, "is in between")],
)
def test_a_method_past_its_length_is_told_by_the_thresholds_of_the_rules(at_2, at_16, word):
    # A window between the two that is above the bound breaks the rule of holding.
    bump = findings.past_length(TABLE_2, measured(*curve("alibi", {1: 1, 1.125: 1, 2: 1, 4: 1.3, 16: 1}))).data
    assert bump.startswith("- **ALiBi is in between.**")
    rows = measured(*curve("alibi", {1: 1, 1.125: 1, 2: at_2, 16: at_16}))
    (line,) = findings.past_length(TABLE_2, rows).data.splitlines()
    assert line.startswith(f"- **ALiBi {word}.** Trained at 64:")
    assert f"{at_2 - 1:+.1%}".replace("%", " %") + " at $2 L$" in line
    # Table 2, 19.73 at 512 tokens and between 18.73 and 18.69 at 1,012 and 1,112.
    assert "In the paper, trained at 512: " in line and "-5.1 % at $2 L$" in line


def test_a_change_near_a_threshold_has_a_digit_more():
    """One digit would show 0.5 and 10.0 %, which hold and fail."""
    rows = measured(*curve("alibi", {1: 1, 1.125: 1, 2: 1.0052, 16: 1.0996}))
    (line,) = findings.past_length(TABLE_2, rows).data.splitlines()
    assert line.startswith("- **ALiBi is in between.**") and "+0.52 % at $2 L$, +9.96 % at $16 L$" in line


def test_a_failure_at_one_length_alone_is_not_called_one():
    rows = measured(
        *curve("t5", {1: 1, 1.125: 1, 2: 1.3, 16: 1.5}), *curve("t5", {1: 1, 1.125: 1, 2: 1, 16: 1}, length=128)
    )
    told = findings.past_length(TABLE_2, rows).data
    assert "**T5 bias is in between.** Trained at 64 and 128: " in told and "+0.0 % to +30.0 % at $2 L$" in told


def test_a_curve_that_ends_too_soon_tells_nothing():
    short = measured(*curve("alibi", {1: 1, 2: 0.9}))
    assert findings.growth(short, "alibi", 2) == {64: pytest.approx(0.9)}
    assert findings.growth(short, "alibi", 16) == {}
    assert findings.past_length(TABLE_2, short).data == findings.NONE


def test_the_order_at_the_training_length():
    t5 = record(95, "t5"), record(97, "t5", seed=1)
    rows = measured(record(90, "alibi"), record(100, "sinusoidal"), *t5, record(99, "none"))
    told = findings.order_at_length(TABLE_5, rows).data
    # A seed that not all have is in no mean: another order would contradict the ratio.
    more = findings.order_at_length(TABLE_5, pd.concat([rows, measured(record(190, "alibi", seed=1))])).data
    assert more == told and "at 64** (seed 0 alone), from" in told and "is 0.900; in the paper" in told
    assert "ALiBi 90.0, T5 bias 95.0, None (NoPE) 99.0 and Sinusoidal 100.0" in told
    apart = findings.order_at_length(TABLE_5, measured(record(90, "alibi"), record(80, "sinusoidal", seed=1))).data
    assert "at 64**, from best to worst: Sinusoidal 80.0 and ALiBi 90.0" in apart
    # Table 5: 28.46 over 28.03 at 64 tokens, 19.73 over 20.05 at 512.
    assert "is 0.900; in the paper it is 1.015 at 64 and 0.984 at 512" in told


@pytest.mark.parametrize(("own", "weak"), [(110, False), (99.98, False), (90, True)])
def test_a_long_rival_that_is_worse_than_a_short_one_is_called_weak(own, weak):
    long = {"length": 384, "window": 384}
    three = record(80, "alibi", 64, 384), record(100, "sinusoidal", **long), record(own, "sinusoidal", 64, 64)
    rows = measured(*three)
    # A seed without a rival is not a pair.
    told = findings.short_against_long(measured(*three, record(500, "alibi", 64, 384, seed=1))).data
    assert "ALiBi trained at 64 (for 512) is 20.0 % below its rival" in told
    assert ("shows nothing about ALiBi" in told) is weak and ("The rival is a fair one" in told) is not weak
    assert "not all recorded" in findings.short_against_long(rows[:2]).data


def test_windows_that_grow_are_left_out():
    sliding = {"protocol": "sliding_window", "stride": 8}
    full = curve("alibi", {1: 1, 2: 0.99, 4: 0.98}, skipped=256, **sliding)
    growing = curve("sinusoidal", {1: 1, 2: 2}, **sliding)
    told = findings.full_windows(measured(*full, *growing)).data
    assert told == "- **ALiBi**, trained at 64: -1.0 % at $2 L$, -2.0 % at $4 L$."


def test_variants_are_told_against_alibi_and_against_themselves():
    alibi, learned = curve("alibi", {1: 1, 16: 0.9}), curve("alibi-learned", {1: 0.98, 16: 0.99})
    told = findings.of_variants(measured(*alibi, *learned, *curve("alibi-half", {1: 1}))).data
    assert told == (
        "- *ALiBi, learned slopes*: perplexity 2.0 % below ALiBi's at $L$, and 10.0 % above it at $16 L$. Up to there "
        "it changes by +1.0 %, and ALiBi's by -10.0 %."
    )
    assert findings.of_variants(measured(*learned)).data == findings.of_variants(measured()).data == findings.NONE
    # A seed that one of them lacks is not compared.
    more = curve("alibi-learned", {1: 1.5, 16: 1.5}, seed=1), curve("alibi", {1: 2, 16: 3}, seed=2)
    paired = told.replace("learned slopes*:", "learned slopes* (seed 0 alone):")
    assert findings.of_variants(measured(*alibi, *learned, *more[0], *more[1])).data == paired != told


def test_claims_without_a_number_share_a_line(monkeypatch):
    part = claims.Finding("a ratio", "at most 1", claims.BROKEN, effect=1.2, seeds=1, scale="gpu")
    empty = replace(part, outcome="", effect=None)
    verdicts = [
        claims.Verdict(number, f"Title {number}", "", word, "", parts, "")
        for number, word, parts in ((1, "seen once", (part, empty)), (2, "not yet measured", (empty,)), (3, "", ()))
    ]
    monkeypatch.setattr(claims, "both_scorecards", lambda: (verdicts, []))
    assert findings.of_claims([1, 2]).data.split("\n") == [
        "- **Claim 1, Title 1: seen once.**",
        "  - a ratio: 1.2 at gpu. The rule asks at most 1: broken",
        "- **Not yet measured:** claim 2.",
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1.00003, "1.00003"),
        (0.99996, "0.99996"),
        (1.0, "1"),
        (1.1 - 0.1, "1"),
        (19.3 - 18.3, "1"),
        (0.93333, "0.9333"),
        (2.50001, "2.50001"),
        (None, ""),
    ],
)
def test_a_value_is_not_rounded_onto_a_bound(value, told):
    part = claims.Finding("a", "b", bounds=(1.0, 2.5))
    assert part.number(value) == told


def test_the_line_of_verdicts_names_the_claims_that_failed():
    part = claims.Finding("a ratio", "at most 1", claims.BROKEN, obeys=False, effect=1.2, seeds=1, scale="laptop")
    empty = claims.Finding("a", "b", missing=("one",))
    verdicts = [
        claims.Verdict(1, "One holds", "", claims.SEEN_ONCE, "laptop", (), ""),
        claims.Verdict(2, "Two holds", "", claims.CONTRADICTED_ONCE, "laptop", (part,), ""),
        claims.Verdict(3, "Three holds", "", claims.NOT_MEASURED, "laptop", (part, empty), ""),
    ]
    told = findings.verdict_line(verdicts).data
    assert told == (
        "Of 3 claims: 1 seen once (1); 1 contradicted once (2); 1 not yet measured. Not yet complete, but failed in a "
        "part: 3."
    )
    assert findings.failed_line(verdicts).data == "Did not hold: *Two holds* (2)."
    assert findings.failed_line(verdicts[:1]).data == "No claim has failed."
    assert findings.why(verdicts[1]) == "a ratio: 1.2, not at most 1"
    assert findings.why(verdicts[2]) == "a ratio: 1.2, not at most 1; 1 of 2 parts lack records"
    near = replace(part, outcome=claims.UNDECIDED, effect=1.01, interval=(0.9, 1.12), seeds=2)
    undecided = claims.Verdict(4, "Four holds", "", claims.INCONCLUSIVE, "laptop", (near, near), "")
    assert findings.why(undecided) == "undecided: a ratio: 0.9 to 1.12, asked is at most 1 (and 1 more)"


def test_without_records_nothing_is_found():
    nothing = measured()
    for told in (
        findings.past_length(TABLE_2, nothing),
        findings.order_at_length(TABLE_5, nothing),
        findings.full_windows(nothing),
    ):
        assert told.data == findings.NONE
    assert isinstance(nothing, pd.DataFrame) and "recorded" in findings.short_against_long(nothing).data


def test_a_curve_that_ends_sooner_is_told_with_its_end():
    whole = curve("alibi", {1: 1, 1.125: 1, 2: 0.98, 16: 0.95})
    rows = measured(*whole, *curve("alibi", {1: 1, 1.125: 1, 2: 0.99}, length=384))
    told = findings.past_length(TABLE_2, rows).data
    assert "Trained at 64 and 384 (up to $2 L$): +0.0 % at $1.125 L$, -2.0 % to -1.0 % at $2 L$" in told

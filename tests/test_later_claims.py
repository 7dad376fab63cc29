"""Claims of later papers: verdicts from made-up records, both sides of each threshold, and what is missing."""

import re
from itertools import chain

import pandas as pd
import pytest
from conftest import ROOT
from test_claims import everything as of_the_paper

from alibi.records import MEASURED_COLUMNS, paper_results
from alibi.reproduction.claim_tables import as_json, changes, summary, table
from alibi.reproduction.claims import NOT_MEASURED, REDUCED, both_scorecards, holm, judge, scorecard
from alibi.reproduction.experiments.retrieval import BUDGETS
from alibi.reproduction.later_rules import LATER_CLAIMS
from alibi.reproduction.needs import needs, waiting
from alibi.reproduction.retrieval_cells import GENERATED
from alibi.reproduction.rules import CLAIMS, GATES, PRESS

PAPER = paper_results()
CURVES = {
    "alibi": {1: 20, 1.25: 19.6, 2: 19.2, 4: 19, 16: 18.8},
    "none": {1: 20.4, 1.25: 19.5, 2: 30, 4: 90, 16: 400},
    "rotary": {1: 20, 1.25: 20.2, 2: 24, 4: 40, 16: 90},
    "xpos": {1: 20, 1.25: 20, 2: 22, 4: 30, 16: 60},
    "window": {1: 20.3, 1.25: 19.9, 2: 19.4, 4: 19.1, 16: 18.9},
    "forgetting": {1: 19.9, 1.25: 19.5, 2: 19.1, 4: 19.5, 16: 24},
    "kerple": {1: 20, 1.25: 19.5, 2: 19, 4: 18.8, 16: 18.6},
    "sandwich": {1: 20, 1.25: 19.5, 2: 19, 4: 18.8, 16: 18.7},
    "fire": {1: 20, 1.25: 19.5, 2: 19, 4: 18.9, 16: 30},
}
INTERPOLATED = {("alibi", "pi"): {2: 19.1, 4: 20}, ("rotary", "pi"): {2: 23, 4: 30}, ("rotary", "yarn"): {2: 22, 4: 25}}


# Share of the answers right past L: passkeys, values among 15 distractors, copied tokens.
FOUND = {
    ("none", ""): (0.9, 0.8, 0.5),
    ("alibi", ""): (0.5, 0.4, 0.3),
    ("alibi", "pi"): (0.7, 0.5, 0.4),
    ("alibi", "ntk"): (0.8, 0.6, 0.4),
    ("alibi-x8", ""): (0.3, 0.2, 0.2),
    ("alibi-half", ""): (0.95, 0.9, 0.9),
    ("rotary", ""): (0.1, 0.1, 0.1),
    ("rotary", "yarn"): (0.4, 0.3, 0.1),
    ("forgetting", ""): (0.5, 0.5, 0.3),
}


def retrieved(scale, seed):
    """Records of `retrieval`, of which no length is scaled down."""
    rows = []
    for (method, kind), shares in FOUND.items():
        common = {"source": "retrieval", "corpus": GENERATED, "corpus_used": GENERATED, "split": "valid", "seed": seed,
                  "scale": scale, "method": method, "train_length": 64}  # fmt: skip
        for multiple in (1, 2, 4, 8, 16) if not kind else (2, 4, 8, 16):
            common |= {"eval_length": 64 * multiple, "interpolation": kind or None}
            for task, share in zip(("passkey", "recall", "copying"), shares, strict=True):
                own = common | {"protocol": task, "distractors": 15 if task == "recall" else None}
                value = share if multiple > 1 else 1.0
                rows.append(
                    own | {"metric": "exact_match", "value": 0 if task == "copying" and multiple > 1 else value}
                )
                rows.append(own | {"metric": "token_accuracy", "value": value})
                for part in range(8 if task == "passkey" else 0):
                    places = {"first_position": 8 * multiple * part + 1, "last_position": 8 * multiple * (part + 1)}
                    near = value if multiple == 1 else 0.03 if part < 4 else 2 * value - 0.03
                    rows.append(own | {"metric": "exact_match", "value": near} | places)
    return pd.DataFrame(rows)


def everything(scale="laptop", seed=0, shrink=8):
    """Records with which every claim holds and the gates are open; lengths are the paper's divided by shrink."""
    rows = []

    def add(source, method, length, metric, value, window, **more):
        rows.append(
            {"source": source, "corpus": "wikitext-103", "corpus_used": "wikitext-103", "split": "valid", "seed": seed,
             "scale": scale, "method": method, "train_length": length // shrink, "paper_length": length,
             "eval_length": window / shrink, "protocol": "nonoverlapping", "metric": metric, "value": value} | more
        )  # fmt: skip

    for length in (512, 1024):
        for method, curve in CURVES.items():
            for multiple, value in curve.items():
                add("after_alibi", method, length, "perplexity", value, multiple * length)
        for (method, kind), curve in INTERPOLATED.items():
            for multiple, value in curve.items():
                add("after_alibi", method, length, "perplexity", value, multiple * length, interpolation=kind)
        far, ours = 16 * length, length // shrink
        for method, cut, whole in (("alibi", 2.91, 2.9), ("none", 2.905, 6)):
            for protocol in ("truncated_attention", "truncated_window"):
                for seen, value in ((ours, cut), (16 * ours, whole)):
                    of = {"protocol": protocol, "seen": seen}
                    add("reads_further", method, length, "loss_truncated", value, far, **of)
                of = {"protocol": protocol, "seen": 2 * ours}
                add("reads_further", method, length, "loss_truncated_change", 0.004, far, **of)
                add("reads_further", method, length, "loss_truncated_change_standard_error", 1e-4, far, **of)
        for method, tokens in (("alibi", 0.8), ("sinusoidal", 3), ("rotary", 9)):
            of = {"protocol": "gradient"}
            add("reads_further", method, length, "receptive_field", tokens * ours, far, **of)
        for distance, change in ((0, 0.003), (ours, -0.03)):
            of = {"protocol": "repeats", "seen": 2 * ours, "first_distance": distance, "last_distance": 2 * distance}
            add("reads_further", "alibi", length, "loss_repeated_change", change, far, **of)
            add("reads_further", "alibi", length, "loss_repeated_change_standard_error", 1e-4, far, **of)
        for method, near in (("alibi", 4), ("t5", 9), ("none", 12)):
            for layer in (1, 2):
                for head in (1, 2, 3, 4):
                    of = {"protocol": "attention", "layer": layer, "head": head}
                    add("reads_further", method, length, "attention_distance_mean", near + head, length, **of)
                    first = 0.7 if head <= 2 else 0.2
                    add("reads_further", method, length, "attention_on_first", first, length, **of)
                    # In other windows they are other numbers.
                    add("reads_further", method, length, "attention_on_first", 0, far, **of)
    made = pd.concat([pd.DataFrame(rows), retrieved(scale, seed)]).reindex(columns=MEASURED_COLUMNS)
    gates = of_the_paper(scale, seed, shrink)
    return pd.concat([made, gates[gates["source"].eq("wikitext103")]], ignore_index=True)


COMPLETE = pd.concat([everything(seed=seed) for seed in range(2)], ignore_index=True)


def test_seeds_of_a_run_that_draws_its_windows_count_though_their_tokens_differ():
    tokens = [BUDGETS["laptop"].tokens(seed) for seed in range(3)]
    drawn = [everything(seed=seed).assign(tokens_trained=number) for seed, number in enumerate(tokens)]
    found = judge(claim("A21"), pd.concat(drawn, ignore_index=True), PAPER)
    assert found.verdict == REDUCED and {part.seeds for part in found.findings} == {len(set(tokens))}


def claim(number):
    (found,) = (one for one in LATER_CLAIMS if one.number == number)
    return found


def changed(frame, value, **where):
    chosen = frame["source"].isin(["after_alibi", "reads_further", "retrieval"])
    multiple = where.pop("multiple", None)
    if multiple is not None:
        chosen &= frame["eval_length"].eq(multiple * frame["train_length"])
    if "interpolation" not in where:
        chosen &= frame["interpolation"].isna()
    for column, wanted in where.items():
        chosen &= frame[column].isna() if wanted is None else frame[column].eq(wanted)
    assert chosen.any()
    return frame[~chosen] if value is None else frame.assign(value=frame["value"].where(~chosen, value))


def test_claims_have_names_of_their_own_and_say_whose_they_are():
    numbers = [one.number for one in LATER_CLAIMS]
    assert numbers == [f"A{place}" for place in range(1, len(LATER_CLAIMS) + 1)]
    assert not set(numbers) & {one.number for one in CLAIMS} and {one.paper for one in CLAIMS} == {PRESS}
    for one in LATER_CLAIMS:
        assert one.paper != PRESS and one.paper_place and set(one.gates) <= {gate.letter for gate in GATES}
        for part in one.parts:
            assert re.fullmatch(r"(above|below|at least|at most) [\d.]+|between -?[\d.]+ and [\d.]+", part.rule)


@pytest.mark.parametrize("shrink", [1, 8])
def test_complete_records_at_reduced_scale(shrink):
    records = pd.concat([everything(seed=seed, shrink=shrink) for seed in range(2)], ignore_index=True)
    for found in scorecard(records, PAPER, LATER_CLAIMS):
        assert found.verdict == REDUCED, found
        assert all(gate.state == "open" for gate in found.gates) and found.paper != PRESS
        assert all(part.holds and part.seeds == 2 and part.paper is None for part in found.findings)


READ = {"source": "reads_further"}
PASSKEY, RECALL = (
    {"protocol": task, "metric": "exact_match", "first_position": None} for task in ("passkey", "recall")
)
COPYING = {"protocol": "copying", "metric": "token_accuracy", "first_position": None}
# Claim, part, the records that are changed, a value with which the claim holds, one with which it does not.
SIDES = [
    ("A1", 0, READ | {"method": "none", "metric": "loss_truncated", "seen": 64, "train_length": 64}, 2.9099, 2.9101),
    ("A1", 0, READ | {"method": "none", "metric": "loss_truncated", "seen": 128, "train_length": 128}, 2.89, 2.8899),
    ("A2", 0, {"method": "window", "multiple": 1, "train_length": 64}, 18.81, 18.8),
    ("A2", 1, {"method": "window", "multiple": 16, "train_length": 128}, 18.62, 18.61),
    ("A3", 0, READ | {"method": "alibi", "metric": "receptive_field", "train_length": 64}, 64, 65),
    ("A3", 1, READ | {"method": "sinusoidal", "metric": "receptive_field", "train_length": 128}, 129, 128),
    ("A3", 2, READ | {"method": "rotary", "metric": "receptive_field", "train_length": 128}, 129, 128),
    ("A4", 0, READ | {"method": "alibi", "metric": "loss_truncated_change", "protocol": "truncated_attention",
                      "train_length": 64}, 0.0097, 0.0103),
    ("A4", 1, READ | {"method": "alibi", "metric": "loss_truncated_change", "protocol": "truncated_window",
                      "train_length": 128}, -0.0097, -0.0103),
    ("A5", 0, {"method": "none", "multiple": 16, "train_length": 64}, 18.81, 18.79),
    ("A6", 0, {"method": "none", "multiple": 1.25, "train_length": 128}, 19.59, 19.61),
    ("A7", 0, READ | {"method": "t5", "metric": "attention_distance_mean", "train_length": 64}, 6.6, 6.4),
    ("A7", 1, READ | {"method": "none", "metric": "attention_distance_mean", "train_length": 128}, 6.6, 6.4),
    ("A8", 0, {"method": "forgetting", "multiple": 1, "train_length": 64}, 20, 20.01),
    ("A9", 0, {"method": "forgetting", "multiple": 2, "train_length": 128}, 19.99, 20.01),
    ("A10", 0, {"method": "kerple", "multiple": 16, "train_length": 64}, 18.79, 18.8),
    ("A11", 0, {"method": "sandwich", "multiple": 16, "train_length": 128}, 18.79, 18.8),
    ("A12", 0, {"method": "fire", "multiple": 4, "train_length": 64}, 18.99, 19.0),
    ("A13", 0, {"method": "xpos", "multiple": 2, "train_length": 64}, 23.9, 24.1),
    ("A13", 1, {"method": "xpos", "multiple": 4, "train_length": 128}, 39, 41),
    ("A14", 0, READ | {"metric": "loss_repeated_change", "first_distance": 0, "train_length": 64}, -0.029, -0.031),
    ("A14", 1, READ | {"metric": "loss_repeated_change", "first_distance": 128, "train_length": 128}, -0.001, 0.001),
    ("A15", 0, {"method": "alibi", "interpolation": "pi", "multiple": 2, "train_length": 64}, 19.19, 20.2),
    ("A15", 1, {"method": "alibi", "interpolation": "pi", "multiple": 2, "train_length": 128}, 19.19, 19.21),
    ("A16", 0, {"method": "rotary", "multiple": 4, "train_length": 64}, 25.1, 24.9),
    ("A16", 1, {"method": "rotary", "interpolation": "yarn", "multiple": 4, "train_length": 128}, 29, 31),
    ("A17", 0, READ | {"metric": "attention_on_first", "method": "alibi", "multiple": 1, "head": 2}, 0.51, 0.2),
    ("A17", 1, READ | {"metric": "attention_on_first", "method": "alibi", "multiple": 1, "head": 4}, 0.6, 1.3),
    ("A18", 0, PASSKEY | {"method": "none", "multiple": 8}, 0.0, -0.8),
    ("A18", 1, RECALL | {"method": "none", "multiple": 2}, 0.0, -0.9),
    ("A19", 0, PASSKEY | {"method": "alibi", "multiple": 4, "first_position": 1}, 0.1, 0.12),
    ("A20", 0, PASSKEY | {"method": "alibi-x8", "multiple": 4}, 1.0, 1.1),
    ("A20", 1, PASSKEY | {"method": "alibi", "interpolation": "pi", "multiple": 4}, 0.0, -0.2),
    ("A20", 2, PASSKEY | {"method": "alibi", "interpolation": "ntk", "multiple": 16}, 0.0, -0.5),
    ("A21", 0, PASSKEY | {"method": "alibi", "interpolation": "pi", "multiple": 16}, 1.0, 1.2),
    ("A22", 0, COPYING | {"method": "alibi-half", "multiple": 16}, 0.0, -1.6),
    ("A22", 1, COPYING | {"method": "rotary", "multiple": 16}, 0.8, 0.95),
    ("A23", 0, RECALL | {"method": "alibi-half", "multiple": 2}, 0.0, -1.2),
    ("A24", 0, PASSKEY | {"method": "forgetting", "multiple": 2}, 0.5, 0.49),
    ("A25", 0, PASSKEY | {"method": "rotary", "multiple": 2}, 1.2, 1.4),
]  # fmt: skip


@pytest.mark.parametrize(("number", "part", "where", "inside", "outside"), SIDES)
def test_both_sides_of_each_threshold(number, part, where, inside, outside):
    holds, breaks = (judge(claim(number), changed(COMPLETE, value, **where), PAPER) for value in (inside, outside))
    assert holds.verdict == REDUCED and breaks.findings[part].holds is False


def test_every_part_is_tried_on_both_sides():
    assert {(number, part) for number, part, *_ in SIDES} == {
        (one.number, part) for one in LATER_CLAIMS for part in range(len(one.parts))
    }


@pytest.mark.parametrize(
    ("number", "where", "missing"),
    [
        ("A1", READ | {"method": "none", "metric": "loss_truncated", "seen": 64}, "none trained at 512 in windows of"),
        ("A2", {"method": "window"}, "perplexity of window trained at 512 on windows of 8192"),
        ("A3", READ | {"method": "rotary", "metric": "receptive_field"}, "receptive_field (gradient) of rotary"),
        (
            "A7",
            READ | {"method": "none", "multiple": 1},
            "attention_distance_mean of none trained at 512 in",
        ),
        ("A14", READ | {"metric": "loss_repeated_change", "first_distance": 64}, "of 1024 tokens at distance 512"),
        ("A15", {"interpolation": "pi", "method": "alibi"}, "windows of 1024, interpolated by pi"),
        ("A18", RECALL | {"method": "none", "multiple": 4}, "of none in recall among 15 distractors at 4 L"),
        ("A20", PASSKEY | {"interpolation": "ntk", "multiple": 8}, "alibi in passkey at 8 L, interpolated by ntk"),
    ],
)
def test_partial_data_is_not_yet_measured_and_the_missing_is_named(number, where, missing):
    found = judge(claim(number), changed(COMPLETE, None, **where), PAPER)
    assert found.verdict == NOT_MEASURED
    assert any(missing in name for part in found.findings for name in part.missing), found.findings


def test_a_task_that_was_not_learned_decides_no_claim():
    for share, verdict in ((0.951, REDUCED), (0.95, NOT_MEASURED)):
        at_length = changed(COMPLETE, share, method="forgetting", multiple=1, **PASSKEY)
        found = judge(claim("A24"), at_length, PAPER)
        assert found.verdict == verdict
    assert found.findings[0].missing == (
        "a model of forgetting that learned passkey: at L 0.95 of its answers are right",
    )


def test_what_an_evaluation_rescales_is_no_perplexity_of_the_run_as_it_is():
    plain = changed(COMPLETE, None, method="alibi", multiple=2)
    assert judge(claim("A15"), plain, PAPER).findings[1].missing


def test_a_figure_draws_each_part():
    chapter = (ROOT / "book" / "later-claims.ipynb").read_text(encoding="utf-8")
    for one in LATER_CLAIMS:
        for letter in "abcd"[: len(one.parts)]:
            part = f"{one.number}{letter if len(one.parts) > 1 else ''}"
            assert f'\\"{part}\\": ' in chapter, f"no figure draws part {part}"


def test_both_families_are_corrected_by_themselves():
    records = COMPLETE.copy()
    noise = 1 + 1e-3 * records["seed"].astype(float)
    records["value"] *= noise.where(records["method"].eq("kerple"), 1)
    found = [part for verdict in scorecard(records, PAPER, LATER_CLAIMS) for part in verdict.findings]
    tested = [part for part in found if part.p is not None]
    assert [part.holm for part in tested] == holm([part.p for part in tested]) and len(tested) < len(SIDES)
    assert any(part.p > 0 for part in tested)


def test_cells_wait_for_claims_of_both():
    nothing = pd.DataFrame(columns=MEASURED_COLUMNS)
    lacking = needs(nothing, "laptop")
    assert {need.claim for need in lacking} >= {1, 4, "A2", "A10"}
    kerple = COMPLETE[COMPLETE["method"].eq("kerple")].assign(value=1.0, parameters=1)
    assert waiting(lacking, kerple) == ("A10",)


def test_later_claims_stand_apart():
    papers, later = scorecard(COMPLETE, PAPER), scorecard(COMPLETE, PAPER, LATER_CLAIMS)
    told = summary(papers, later).split("\n")
    others = len({one.paper for one in LATER_CLAIMS})
    assert (
        told[2] == f"Claims of {others} other sources, most of them later papers: {len(later)} {REDUCED}."
        and not told[3]
    )
    assert not any(line.startswith("A") for line in told)
    assert [found["paper"] for found in as_json(later)] == [one.paper for one in LATER_CLAIMS]
    cells = [str(cell) for cell in table(later).columns[1].cells]
    assert any(cell.endswith("(Chi et al. 2023)") for cell in cells)
    assert changes(later, [*later[:-1], judge(LATER_CLAIMS[-1], COMPLETE.iloc[:0], PAPER)]).startswith("claim A25: ")
    assert [found.number for found in chain(*both_scorecards())] == [one.number for one in (*CLAIMS, *LATER_CLAIMS)]

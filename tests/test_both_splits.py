"""The rules on the test split: the same models as on the validation split, and no evidence for a claim."""

import pandas as pd
import pytest
from test_claims import COMPLETE, EMPTY, changed, everything, seeds

from alibi.book.checklist import both_splits
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.both_splits import on_both_splits
from alibi.reproduction.claims import scorecard


def both(frame, **on_test):
    """Records of `test_split` from those of `wikitext103`; those of its test split are changed by `changed`."""
    rows = frame[frame.source.eq("wikitext103") & frame.metric.eq("perplexity") & frame.protocol.eq("nonoverlapping")]
    run = rows.method + rows.train_length.astype(int).astype(str) + rows.seed.astype(str)
    rows = rows.assign(config_hash=run)
    test = rows.assign(split="test", value=rows.value * 1.04)
    test = changed(test, "wikitext103", **on_test) if on_test else test
    return pd.concat([rows, test], ignore_index=True).assign(source="test_split")


def test_a_test_split_that_is_harder_throughout_transfers_every_rule():
    found = on_both_splits(both(COMPLETE))
    assert {of.claim for of in found} >= {1, 2, 3, 4, 5} and all(of.transfers for of in found)
    assert {of.test.seeds for of in found} == {3}
    ratios = [of for of in found if of.claim in (1, 2, 3, 4, 5)]
    assert [of.test.effect for of in ratios] == pytest.approx([of.validation.effect for of in ratios])
    assert {(of.length, of.test.outcome) for of in found if of.claim == 1} == {(512, "holds"), (1024, "holds")}


def test_a_rule_that_breaks_on_the_test_split_alone_is_told_at_its_length():
    worse = both(COMPLETE, value=30, method="t5", multiple=2, length=1024)
    (found,) = (of for of in on_both_splits(worse) if not of.transfers)
    assert (found.claim, found.length, found.validation.outcome, found.test.outcome) == (
        3,
        1024,
        "holds",
        "broken",
    )
    shown = both_splits([found]).data.loc["claim 3, L = 1024"]
    assert shown[["validation", "test", "outcome"]].tolist() == ["0.960", "1.457", "holds; on test broken"]
    assert found.test.effect == pytest.approx(30 / (19.8 * 1.04)) and found.validation.effect == pytest.approx(
        19 / 19.8
    )


def test_a_run_that_was_read_on_one_split_only_counts_on_none():
    rows = both(seeds(everything(), everything()))
    unread = rows.split.eq("test") & rows.seed.eq(1) & rows.method.eq("sinusoidal")
    far_worse = rows.split.eq("valid") & rows.seed.eq(1) & rows.method.eq("sinusoidal") & rows.eval_length.eq(640)
    rows.loc[far_worse, "value"] = 1e6
    found = [of for of in on_both_splits(rows[~unread]) if of.claim == 1]
    assert {of.test.seeds for of in found} == {1} and all(of.transfers for of in found)


def test_an_l_that_lacks_its_numbers_hides_no_other():
    rows = both(COMPLETE)
    alone = rows[rows.method.ne("sinusoidal") | rows.paper_length.eq(1024)]
    assert {of.length for of in on_both_splits(alone) if of.claim == 1} == {1024}
    assert {of.length for of in on_both_splits(alone) if of.claim == 4} == {512, 1024}


def test_no_records_give_no_outcomes():
    assert on_both_splits(EMPTY) == [] and both_splits([]).data.empty


def test_records_of_the_test_split_are_no_evidence():
    wrong = both(COMPLETE).assign(value=1.0)
    of_both = pd.concat([COMPLETE, wrong], ignore_index=True).reindex(columns=MEASURED_COLUMNS)
    assert scorecard(of_both) == scorecard(COMPLETE)

"""Records of made-up worlds in which a claim is false or empty: a rule that can't tell them from ours says nothing.

A world turns records, the paper's or measured ones, into the records that would have been measured in it. `survivors`
judges every claim in every world by its rules alone, without gates.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from alibi.protocols import AGAINST_ITSELF, NONOVERLAPPING, SLIDING
from alibi.records import measured_results
from alibi.reproduction.claims import BROKEN, HOLDS, UNDECIDED, Known, measure
from alibi.reproduction.evidence import CONTROLS, COUNTED_SCALES, STRIDE_SHARE
from alibi.reproduction.rules import CLAIMS, Claim

PASSES, FAILS = "passes", "fails"
# Rows with equal values here are one run, evaluated in one way on the same tokens.
RUN = ["source", "scale", "seed", "corpus", "corpus_used", "model", "method", "train_length", "equal_time", "metric"]
TOKENS = ["prefix", "skipped", "sample"]


def _of(records: pd.DataFrame, method: str) -> pd.Series:
    """Rows of a method; for alibi also those of its variants."""
    named = records["method"].astype(str)
    return named.eq(method) | (named.str.startswith("alibi-") if method == "alibi" else False)


def _keys(records: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The values of these columns as one key; missing values are equal."""
    filled = records.reindex(columns=list(columns)).astype(object)
    rows = filled.where(filled.notna(), "").astype(str).itertuples(index=False)
    return pd.Series(["|".join(row) for row in rows], records.index, dtype=object)


def _at_own_length(records: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The value at L_valid = L, by these columns."""
    own = records[records["eval_length"].eq(records["train_length"])]
    return own.assign(key=_keys(own, columns)).drop_duplicates("key", keep="last").set_index("key")["value"]


def _constant(rows: pd.DataFrame) -> pd.DataFrame:
    """These rows with the perplexity at L for every longer window, in both protocols, and no loss against itself."""
    keys = [*RUN, "protocol", *TOKENS]
    at_length = _keys(rows, keys).map(_at_own_length(rows, keys))
    past = rows["metric"].eq("perplexity") & rows["eval_length"].gt(rows["train_length"])
    compared = rows["protocol"].eq(AGAINST_ITSELF) | rows["metric"].eq("loss_change")
    return rows.assign(value=rows["value"].where(~past, at_length).where(~compared, 0.0))


def _last_words(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a model that reads only the last L tokens of any window, made from these rows.

    In full sliding windows nothing changes from L on. Without overlap, a share 1 - L / L_valid of the tokens has the
    full L tokens that sliding gives every token: from L on the loss falls by this share of sliding's gain at L. Both
    protocols must have scored the same tokens at L; else rows past L without overlap are left out.
    """
    constant = _constant(rows)
    # Without a prefix or a sample the whole text was scored, of which some records don't tell the tokens.
    whole = constant["prefix"].isna() & constant["sample"].isna() & constant["tokens_scored"].isna()
    constant = constant.assign(tokens_scored=constant["tokens_scored"].astype(float).mask(whole, math.inf))
    plain, sliding = (constant[constant["protocol"].eq(kind)] for kind in (NONOVERLAPPING, SLIDING))
    # The most tokens and the finest stride come last: the last counts. At a coarse stride windows are not full.
    plain = plain.sort_values("tokens_scored", na_position="first", kind="stable")
    sliding = sliding[~sliding["stride"].gt(STRIDE_SHARE * sliding["train_length"].astype(float))]
    sliding = sliding.sort_values("stride", ascending=False, kind="stable")
    keys = [*RUN[1:], *TOKENS]
    without, with_overlap = _at_own_length(plain, keys), _at_own_length(sliding, keys)
    lifted = (with_overlap.reindex(without.index) / without).dropna().astype(float).map(math.log)
    # If several parts of the text were scored both ways, the largest counts: the whole, or the largest sample.
    by_run = lifted.groupby(lifted.index.str.split("|").str[: len(RUN) - 1].str.join("|")).last()
    share = 1 - constant["train_length"].astype(float) / constant["eval_length"].astype(float)
    change = _keys(constant, RUN[1:]).map(by_run).astype(float) * share
    past = constant["protocol"].eq(NONOVERLAPPING) & constant["metric"].eq("perplexity") & share.gt(0)
    return constant.assign(value=constant["value"].where(~past, constant["value"] * np.exp(change)))


def _in_place_of_alibi(records: pd.DataFrame, rows: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Records with these rows under ALiBi's name; experiment slopes, which measures only ALiBi, borrows them."""
    slopes = kept["source"].eq("slopes") & _of(kept, "alibi")
    variants = sorted(records.loc[records["source"].eq("slopes"), "method"].astype(str).unique())
    borrowed = rows[rows["source"].eq("wikitext103")]
    tried = [borrowed.assign(source="slopes", method=variant) for variant in variants]
    return pd.concat([kept[~slopes], rows.assign(method="alibi"), *tried], ignore_index=True)


def blind(records: pd.DataFrame) -> pd.DataFrame:
    """ALiBi's perplexity past L equals its perplexity at L, in both protocols."""
    of = _of(records, "alibi")
    return pd.concat([records[~of], _constant(records[of])], ignore_index=True)


def last_words(records: pd.DataFrame) -> pd.DataFrame:
    """ALiBi reads only the last L tokens of any window: flat in full windows, without the early token curse."""
    of = _of(records, "alibi")
    return pd.concat([records[~of], _last_words(records[of])], ignore_index=True)


def all_equal(records: pd.DataFrame) -> pd.DataFrame:
    """Every method has sinusoidal's records, or ALiBi's in an experiment without sinusoidal."""
    made = []
    for _, rows in records.groupby("source"):
        base = "sinusoidal" if rows["method"].eq("sinusoidal").any() else "alibi"
        methods = [str(method) for method in rows["method"].dropna().unique() if method not in CONTROLS]
        made += [rows[rows["method"].eq(base)].assign(method=method) for method in methods]
        made.append(rows[rows["method"].isin(CONTROLS)])
    return pd.concat(made, ignore_index=True)


def rotary_for_alibi(records: pd.DataFrame) -> pd.DataFrame:
    """ALiBi has rotary's records."""
    kept = records[~_of(records, "alibi")]
    return _in_place_of_alibi(records, records[records["method"].eq("rotary")], kept)


def sinusoidal_at_own_length(records: pd.DataFrame) -> pd.DataFrame:
    """ALiBi has the records of sinusoidal, trained and read in windows of its own L, however long the text."""
    kept = records[~_of(records, "alibi")]
    return _in_place_of_alibi(records, _constant(records[records["method"].eq("sinusoidal")]), kept)


def exchanged(records: pd.DataFrame) -> pd.DataFrame:
    """ALiBi and sinusoidal have each other's records."""
    sinusoidal = records[records["method"].eq("sinusoidal")]
    alibi = records[records["method"].eq("alibi") & records["source"].ne("slopes")]
    kept = records[~_of(records, "alibi") & records["method"].ne("sinusoidal")]
    other = pd.concat([kept, alibi.assign(method="sinusoidal")], ignore_index=True)
    return _in_place_of_alibi(records, sinusoidal, other)


World = Callable[[pd.DataFrame], pd.DataFrame]
"""Turns records into those that would have been measured in another world."""
WORLDS: Mapping[str, World] = MappingProxyType(
    {
        "blind ALiBi": blind,
        "ALiBi reads L words": last_words,
        "all methods equal": all_equal,
        "rotary for ALiBi": rotary_for_alibi,
        "sinusoidal at its own L for ALiBi": sinusoidal_at_own_length,
        "ALiBi and sinusoidal exchanged": exchanged,
    }
)


def made_in(world: World, records: pd.DataFrame) -> pd.DataFrame:
    """The records that count, in this world."""
    counted = records[
        records["scale"].ne("quick") & ~records["metric"].isin(["loss", "word_perplexity", "bits_per_byte"])
    ]
    early = counted["equal_time"].astype("boolean").fillna(False)  # Part of the key of a run.
    return world(counted.assign(equal_time=early).reset_index(drop=True)) if len(counted) else counted


def obeyed(claim: Claim, known: Known) -> str:
    """Whether records obey a claim's rules, without gates or a number of seeds; empty if a number is missing."""
    found = [measure(part, known, COUNTED_SCALES).outcome for part in claim.parts]
    if not all(found):
        return ""
    return FAILS if BROKEN in found else PASSES if set(found) == {HOLDS} else UNDECIDED


def survivors(records: pd.DataFrame | None = None) -> pd.DataFrame:
    """Outcome of each claim (a row) in each world (a column), and by the records themselves (`records`).

    Args:
        records: measured records, or the paper's by `alibi.reproduction.evidence.as_records`; None takes all measured.
    """
    records = measured_results() if records is None else records
    worlds = {"records": records} | {name: made_in(world, records) for name, world in WORLDS.items()}
    known = {name: Known(made) for name, made in worlds.items()}
    return pd.DataFrame(
        {name: [obeyed(claim, of_world) for claim in CLAIMS] for name, of_world in known.items()},
        index=pd.Index([claim.number for claim in CLAIMS], name="claim"),
    )

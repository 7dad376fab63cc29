"""The reviewer's tables: a run is paid for once, and recipes are the scales' own."""

import re
from html import unescape

import pandas as pd

from alibi.book.checklist import budget, differences, hyperparameters
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.experiments.wikitext103 import STEPS
from alibi.scale import SCALES


def test_a_run_is_paid_for_once_however_many_numbers_it_gave():
    one = {"source": "wikitext103", "scale": "laptop", "device": "a (CPU)", "dtype": "bfloat16", "seconds": 5400.0}
    one |= {"method": "alibi", "train_length": 64, "corpus_used": "x", "tokens_trained": 1, "parameters": 1}
    rows = [one | {"seed": seed, "eval_length": length} for seed in (0, 1) for length in (64, 128)]
    elsewhere, timed = one | {"seed": 2, "device": "b (CPU)", "seconds": 7200.0}, one | {"seed": 0, "seconds": None}
    on_a_gpu, shared = one | {"seed": 3, "device": "c"}, one | {"source": "early_token_curse", "seed": 1}
    found = budget(pd.DataFrame([*rows, elsewhere, timed, on_a_gpu, shared]).reindex(columns=MEASURED_COLUMNS)).data
    assert found.loc[("early_token_curse", "laptop"), "runs"] == "1"
    told = (
        found.drop("early_token_curse")
        .set_index("machine")[["runs", "core hours", "card hours", "kWh, about"]]
        .T.to_dict("list")
    )
    assert told == {
        "a (CPU)": ["2", "3.0", "", "0.03"],
        "b (CPU)": ["1", "2.0", "", "0.02"],
        "c": ["1", "", "1.5", "1.05"],
        "": ["4", "5.0", "1.5", "1.10"],
    }


def test_hyperparameters_and_differences_are_those_of_the_scales():
    table = hyperparameters().data
    assert list(table.columns) == list(SCALES)
    assert f"{STEPS['laptop']:,} for WikiText-103" in table.loc["steps", "laptop"]
    assert table.loc["factor of T5's table"].tolist() == ["30", "7.47; 3.33 for WikiText-103", "30", ""]
    none = pd.DataFrame(columns=MEASURED_COLUMNS)
    tokens = differences(none).data.loc["tokens read"]
    assert tokens["here"] == f"{STEPS['laptop'] * SCALES['laptop'].batch_tokens:,}"
    assert tokens["the paper"] == f"{286_000 * 73_728:,}"


def test_seeds_are_counted_from_the_records():
    several = [(method, 64, seed) for method in ("alibi", "rotary") for seed in (0, 1)]
    models = [*several, ("alibi", 128, 0), ("t5", 64, 0), *(("trigram", 64, seed) for seed in range(3))]
    records = pd.DataFrame([*models, models[0]], columns=["method", "train_length", "seed"])
    records["corpus_used"] = "wikipedia -> wikitext-103"
    assert "recorded: wikipedia" in differences(records).data.loc["text", "here"]
    assert differences(records).data.loc["seeds", "here"] == "1; 2 for ALiBi, Rotary at L = 64"
    assert differences(records[records.seed == 0]).data.loc["seeds", "here"] == "1"
    assert differences(records[:0]).data.loc["seeds", "here"] == "0"


def test_the_page_shows_every_text_of_the_differences():
    table = differences(pd.DataFrame(columns=MEASURED_COLUMNS))
    shown = unescape(re.sub("<[^>]*>", "", table.to_html()))
    assert all(text in shown for text in table.data.to_numpy().ravel())

"""Tables that a reviewer of a reproduction asks for: differences, hyperparameters, the test split, costs by machine."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from alibi.book import tables
from alibi.book.plots import TITLES
from alibi.book.results import RUN
from alibi.optim import method_rate
from alibi.positions import METHODS
from alibi.reproduction.both_splits import OnBothSplits
from alibi.reproduction.evidence import CONTROLS
from alibi.reproduction.experiments.wikitext103 import LENGTHS, STEPS
from alibi.scale import SCALES, scale_named

# An assumption, not a measurement: a core of a server CPU at work, with its share of memory, fans and cooling.
WATTS_A_CORE = 10
# The limit of an H100 SXM (NVIDIA's data sheet): a card at work draws less.
WATTS_A_CARD = 700


def _size(name: str) -> str:
    model = scale_named(name).model
    return f"{model.layers} layers, width {model.width}, {model.heads} heads"


def differences(records: pd.DataFrame) -> Styler:
    """Differences between the paper's WikiText-103 runs and those of scale laptop: item, paper, ours, why, effect.

    Args:
        records: the measured records of `wikitext103` at this scale, which tell texts and seeds.
    """
    ours, paper = SCALES["laptop"], SCALES["paper"]
    tokens, theirs = STEPS["laptop"] * ours.batch_tokens, paper.steps * paper.batch_tokens
    lengths = ", ".join(f"{length:,}" for length in sorted(LENGTHS["laptop"]))
    rows = [
        (
            "model",
            _size("paper"),
            _size("laptop"),
            "a run fits one core",
            "levels of perplexity, as expected",
        ),
        ("training lengths", "64 to 3,072", lengths, "a run fits one core", "8 L is 512 tokens; see scaled methods"),
        (
            "tokens read",
            f"{theirs:,}",
            f"{tokens:,}",
            "a run takes about an hour",
            "whether context is used; gate a, token budget",
        ),
        (
            "text",
            "WikiText-103",
            f"asked for: its first {ours.train_words:,} words; recorded: {_texts(records)}",
            "half a gigabyte to fetch, of which most is not read",
            "the vocabulary; levels of perplexity",
        ),
        (
            "vocabulary",
            "267,744 words",
            f"{ours.vocabulary_size:,} words, any other is unknown",
            "rare words are seen too seldom to be learned",
            "levels of perplexity; measured beside a trigram, gate b",
        ),
        (
            "optimiser",
            "Nesterov, momentum 0.99, rate 1",
            f"AdamW, rate {ours.learning_rate:g}, {ours.recipe}",
            "few steps; the paper's recipe needs 16,000 of warm-up",
            "on the T5 table, by a factor; measured below",
        ),
        ("dropout", f"{paper.model.dropout:g}", f"{ours.model.dropout:g}", "less than two epochs", "none expected"),
        ("precision", "fp16", "bfloat16, float32 weights", "what CPUs have", "of storing the bias: see Precision"),
        (
            "seeds",
            "one; a deviation of 0.24 for one model",
            _seeds(records),
            "one shows no spread",
            "intervals on the scorecard",
        ),
        (
            "kernel",
            "unfused attention",
            "the fastest, and a common one",
            "what is used today",
            "speed: claims 7 and 20",
        ),
    ]
    shown = pd.DataFrame(rows, columns=["item", "the paper", "here", "why", "effect"]).set_index("item")
    return tables.left(shown, "What differs: the paper's WikiText-103 runs, and scale laptop")


def _texts(records: pd.DataFrame) -> str:
    """The texts of training in the records, such as a stand-in."""
    return ", ".join(sorted({used.split(" -> ")[0] for used in records.corpus_used})) or "nothing"


def _seeds(records: pd.DataFrame) -> str:
    """The number of seeds of a model, and the models that have more."""
    counted = records[~records.method.isin(CONTROLS)].groupby(["train_length", "method"]).seed.nunique().reset_index()
    fewest = counted.seed.min() if len(counted) else 0
    more = [
        f"{seeds} for {', '.join(TITLES[method] for method in same.method)} at L = {length}"
        for (length, seeds), same in counted[counted.seed > fewest].groupby(["train_length", "seed"])
    ]
    return "; ".join([f"{fewest}", *more])


def hyperparameters() -> Styler:
    """Each scale's model and recipe, the same for all methods, and the factor of T5's rate by the common rule."""
    shown = pd.DataFrame(
        {
            name: {
                "model": _size(name),
                "dropout": f"{size.model.dropout:g}",
                "recipe": size.recipe,
                "highest rate": f"{size.learning_rate:g}",
                "warm-up (steps)": f"{size.warmup_steps:,}",
                "steps": f"{size.steps:,}" + (f"; {STEPS[name]:,} for WikiText-103" if name in STEPS else ""),
                "tokens in a step": f"{size.batch_tokens:,}",
                "tokens in all": f"{STEPS.get(name, size.steps) * size.batch_tokens / 1e6:,.1f} million",
                "weight decay": "0" if size.recipe == "paper" else "0.1, matrices alone",
                "factor of T5's table": "" if size.recipe == "paper" else _factors(name),
            }
            for name, size in SCALES.items()
        }
    )
    return tables.styled(shown, "Hyperparameters by scale; the last row is T5's alone")


def _factors(scale: str) -> str:
    """The factor for the scale's budget, and for that of WikiText-103 if it is another."""
    size = SCALES[scale]
    common, longer = (
        f"{method_rate(METHODS['t5'].travel, size.learning_rate, steps):.3g}"
        for steps in (size.steps, STEPS.get(scale, size.steps))
    )
    return common if common == longer else f"{common}; {longer} for WikiText-103"


def both_splits(found: Sequence[OnBothSplits]) -> Styler:
    """Each statistic at each L on the validation and the test split, with the outcome of its rule; empty rows if none.

    Args:
        found: statistics by `alibi.reproduction.both_splits.on_both_splits`.
    """
    rows = [
        {
            "": f"claim {of.claim}, L = {of.length}" if of.length else f"claim {of.claim}",
            "statistic": of.part.statistic.split(", L = ")[0],
            "rule": of.part.rule,
            "validation": _effect(of.validation.effect),
            "test": _effect(of.test.effect),
            "outcome": of.validation.outcome if of.transfers else f"{of.validation.outcome}; on test {of.test.outcome}",
            "seeds": of.test.seeds,
        }
        for of in found
    ]
    columns = ["", "statistic", "rule", "validation", "test", "outcome", "seeds"]
    shown = pd.DataFrame(rows, columns=columns).set_index("")
    return tables.left(shown, "The same models on two splits; L in the paper's tokens")


def _effect(effect: float | None) -> str:
    """A count without decimals, another number with three."""
    if effect is None:
        return ""
    return f"{effect:,.0f}" if effect == int(effect) else f"{effect:.3f}"


def budget(records: pd.DataFrame) -> Styler:
    """Runs, hours and kilowatt hours by experiment, scale and machine, where a run counts in each of its experiments.

    Hours are those of a core for a run on a CPU, which trains on one thread, and of a card for one on a GPU. Energy is
    hours times `WATTS_A_CORE` or `WATTS_A_CARD`: a rough estimate, not a reading. The last row counts each run once.
    """
    runs = records.dropna(subset="seconds")
    hours = runs.seconds.astype(float) / 3600
    on_cpu = runs.device.str.endswith("(CPU)")
    energy = hours * np.where(on_cpu, WATTS_A_CORE, WATTS_A_CARD) / 1000
    spent = {"core hours": hours.where(on_cpu), "card hours": hours.mask(on_cpu), "kWh, about": energy}
    runs, numbers = pd.concat([runs.assign(runs=1), pd.DataFrame(spent)], axis=1), ["runs", *spent]
    by = {"source": "experiment", "scale": "scale", "device": "machine", "dtype": "dtype"}
    each = runs.drop_duplicates(["source", *RUN]).groupby(list(by))[numbers].sum(min_count=1)
    rows = each.reset_index().rename(columns=by)
    rows.loc[len(rows)] = ["all, each run once", "", "", "", *runs.drop_duplicates(RUN)[numbers].sum()]
    formats = ["{:,.0f}", "{:.1f}", "{:.1f}", "{:.2f}"]
    instead = {"nan": "", "0.0": "< 0.1", "0.00": "< 0.01"}
    texts = {name: rows[name].map(form.format).replace(instead) for name, form in zip(numbers, formats, strict=True)}
    caption = f"Budget: training alone, at an assumed {WATTS_A_CORE} W a core and {WATTS_A_CARD} W a card"
    return tables.styled(rows.assign(**texts).set_index(["experiment", "scale"]), caption)

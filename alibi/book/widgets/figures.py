"""The moving figures of the chapters: each function makes the figure of its name, with data rounded for the screen."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML

from alibi.book import page_model, plots, results
from alibi.book.widgets import give_to_site, widget
from alibi.corpora.vocabulary import Vocabulary
from alibi.evaluate import AgainstItself
from alibi.positions import T5Bias, slopes
from alibi.positions.rotary import frequencies
from alibi.positions.t5 import LONGEST_DISTANCE, bucket
from alibi.reproduction.claims import VERDICTS, Verdict
from alibi.runs import Run

# A text for windows to move over: 32 words, and the last one depends on the second.
SENTENCE = (
    "the cat that had slept all morning on the warm stone wall behind the old house by the river woke up saw a small "
    "brown bird and began to move her tail"
)


def dial(heads: int, train_length: int, t5: Run) -> HTML:
    """The ALiBi dial: slope, bias and weights of a head, beside other growths and a trained T5 bias.

    Args:
        heads: head count at its start.
        train_length: L in tokens.
        t5: a run of the method t5, whose bias (nats, for each head and bucket) is shown.
    """
    return widget("dial", {"heads": heads, "train_length": train_length, "t5": _table(t5)})


def drowned(t5: Run, keys: int) -> HTML:
    """The share of attention to the far keys of a window, by a trained T5 bias and by ALiBi, with equal scores.

    Args:
        t5: a run of the method t5.
        keys: tokens in the window at its start.
    """
    table = _table(t5)
    # All distances of the last bucket are far; the others lie within LONGEST_DISTANCE.
    widths = torch.bincount(bucket(torch.arange(LONGEST_DISTANCE)))[:-1].tolist()
    # At its start ALiBi has the slope of the sixth head.
    start = {"keys": keys, "slope": 5}
    return widget("drowned", {"table": table, "widths": widths, "slopes": slopes(len(table))} | start)


def hands(models: Sequence[tuple[str, int, int]]) -> HTML:
    """The angle of each pair of rotary embeddings at an offset up to 4 L, and those that offsets below L have shown.

    Args:
        models: name, head width and training length L (tokens) of each.
    """
    shown = [
        {"title": f"{name}: D = {width}, L = {length}", "length": length, "frequencies": frequencies(width).tolist()}
        for name, width, length in models
    ]
    return widget("hands", {"models": shown, "multiple": 4})


def _table(t5: Run) -> list[list[float]]:
    """The bias (nats) of a T5 run by head and bucket."""
    method = t5.model.positions
    assert isinstance(method, T5Bias)
    numbers: list[list[float]] = method.weights_KH.detach().T.double().round(decimals=3).tolist()
    return numbers


def cut() -> HTML:
    """Windows over a sentence, at its start of 8 tokens without overlap, and the number of tokens before each word."""
    return widget("cut", {"words": SENTENCE.split(), "length": 8, "stride": 8, "few": 4, "chosen": 1})


def staircase(heads: int, keys: int) -> HTML:
    """Weights of the nearest keys with a bias in sixteen bits, for each of `heads` heads; `keys` keys at its start."""
    return widget("staircase", {"slopes": slopes(heads), "keys": keys})


def watch(found: Mapping[str, AgainstItself], vocabulary: Vocabulary, tokens: np.ndarray) -> HTML:
    """The cost of a window longer than L for each model, by position, beside a text of the same length.

    Args:
        found: result of each method, all with the same lengths. A result of one article has no error, and so no band.
        vocabulary: vocabulary of the text.
        tokens: the text, at least one window of it.
    """
    some = next(iter(found.values()))
    methods = []
    for name, own in found.items():
        means, margins = (np.nan_to_num(values).round(4).tolist() for values in plots.by_position(own))
        methods.append({"name": name, "title": plots.TITLES[name], "means": means, "margins": margins})
    pieces = _pieces(vocabulary, tokens[: some.window])
    return widget("watch", {"length": some.length, "stride": some.stride, "methods": methods, "pieces": pieces})


def _pieces(vocabulary: Vocabulary, tokens: np.ndarray) -> list[str]:
    """The characters that each token adds to the text; a character of several tokens belongs to its last one."""
    ends = [0]
    for count in range(1, len(tokens) + 1):
        ends.append(len(vocabulary.decode(tokens[:count]).rstrip("\ufffd")))
    text = vocabulary.decode(tokens)
    return [text[start:end] for start, end in pairwise(ends)]


def curves(paper: pd.DataFrame, measured: pd.DataFrame, tables: Mapping[str, float]) -> HTML:
    """Perplexity against evaluation length without overlap: the paper's models beside ours that stand for them.

    Args:
        paper: `alibi.records.paper_results`.
        measured: records of `alibi.book.results.results`, of one scale.
        tables: the paper's training length (tokens) of each shown table, by the table's name.
    """
    pairs = []
    for table, length in tables.items():
        theirs = plots.perplexities(paper[paper.source == table])
        ours = plots.perplexities(measured[measured.paper_length == length])
        if len(ours):
            sides = [_side("The paper", f"{table}, 247M parameters, WikiText-103.", theirs)]
            sides.append(_side(f"Ours, {ours.scale.iloc[0]}", results.described(ours), ours))
            pairs.append({"title": f"L = {length:g} and what stands for it", "sides": sides})
    return widget("curves", {"pairs": pairs})


def _side(title: str, told: str, rows: pd.DataFrame) -> dict[str, Any]:
    """The curve of each of the paper's methods, from rows of one training length; several seeds give mean and range."""
    found = []
    for method in plots.PAPER_ORDER:
        at = rows[rows.method == method].groupby("eval_length").value.agg(["mean", "min", "max"]).astype(float).round(4)
        points = [
            {"length": int(length), "value": mean, "low": low, "high": high}
            for length, mean, low, high in at.itertuples()
        ]
        found.append({"method": method, "title": plots.TITLES[method], "points": points})
    return {"title": title, "told": told, "length": int(rows.train_length.iloc[0]), "curves": found}


def scorecard(judged: Mapping[str, tuple[Sequence[Verdict], Sequence[Verdict]]]) -> HTML:
    """The verdicts on the same claims by several sets of numbers, each as it is and with two methods exchanged.

    Args:
        judged: by the name of each set, the verdicts on its numbers, and on these with the two methods exchanged.
    """
    worlds: dict[str, Sequence[Verdict]] = {}
    for name, (own, exchanged) in judged.items():
        worlds |= {name: own, f"{name}, exchanged": exchanged}
    claims = []
    for place, claim in enumerate(next(iter(worlds.values()))):
        parts = [{"statistic": p.statistic, "rule": p.rule, "paper": p.number(p.paper)} for p in claim.findings]
        found = {name: _judged(verdicts[place]) for name, verdicts in worlds.items()}
        about = {"number": str(claim.number), "title": claim.title, "place": claim.paper_place}
        claims.append(about | {"parts": parts, "judged": found})
    return widget("scorecard", {"claims": claims, "numbers": list(judged), "verdicts": list(VERDICTS)})


def _judged(verdict: Verdict) -> dict[str, Any]:
    parts = [{"outcome": part.outcome, "effect": part.number(part.effect)} for part in verdict.findings]
    return {"verdict": verdict.verdict, "parts": parts}


def try_it(runs: Sequence[Run], texts: Mapping[str, str]) -> HTML:
    """Two trained models that read the reader's own text in the page; their weights go into the site.

    Args:
        runs: results of `alibi.book.page_model.page_run`, with one shape, L and vocabulary.
        texts: texts to pick from, by title; the first is shown at the start.
    """
    give_to_site(page_model.scripts(runs))
    titles = {run.config.model.method: plots.TITLES[run.config.model.method] for run in runs}
    shown = [{"title": title, "text": text} for title, text in texts.items()]
    data = {"length": runs[0].config.train_length, "titles": titles, "texts": shown}
    return widget("try-it", data | {"told": page_model.described(runs[0])})


def try_here(runs: Sequence[Run], text: str) -> HTML:
    """The same models beside one text, on a page that loads them only once the reader asks for it.

    The site has their files from `try_it`.

    Args:
        runs: results of `alibi.book.page_model.page_run`, as for `try_it`.
        text: the text that stands in the box at the start.
    """
    titles = {run.config.model.method: plots.TITLES[run.config.model.method] for run in runs}
    data = {"length": runs[0].config.train_length, "titles": titles, "text": text, "bytes": page_model.BYTES}
    return widget("try-here", data | {"told": page_model.described(runs[0])})

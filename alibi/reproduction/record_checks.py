"""Checks of a record: its columns against each other, and against the cell that measures its number."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import numpy as np

from alibi.attention import KERNELS
from alibi.configuration import TrainConfig
from alibi.corpora.corpus import Corpus, outline
from alibi.device import DTYPES, kind_of
from alibi.errors import UserError, listed
from alibi.model import unmade
from alibi.protocols import AGAINST_ITSELF, GRADIENT, READING, REPEATS, SLOPES
from alibi.records import LATER, TRUTHS, VALUE_FORMAT
from alibi.reproduction.cells import Cell
from alibi.reproduction.control import ControlCell
from alibi.reproduction.evidence import CONTROLS
from alibi.reproduction.experiments import EXPERIMENTS
from alibi.reproduction.retrieval_cells import ANSWERS
from alibi.reproduction.training_cell import TrainingCell
from alibi.run_cache import config_hash
from alibi.scale import SCALES, scale_named
from alibi.windows import evaluation_windows, scored_tokens, spread_windows

# Only the paper's records have these.
PAPERS = ("page", "gpu_hours")
MOST_THREADS = 512
SIGNED = ("loss_change", "loss_against_itself", "loss_truncated_change", "loss_repeated_change", "slope")
SHARES = ("attention_past_length", "attention_on_first", "gradient_share")
# The control counts words, on the CPU.
CONTROL_DTYPES = ("float64",)
HASH = re.compile(r"[0-9a-f]{12}")
CORPORA = re.compile(r"[^<>]+( -> [^<>]+)?")

# A run has one learning rate, which is compared with its configuration's.
TELL_APART = [
    name
    for name in (*LATER, "stride", "prefix", "first_position", "last_position", "decay_window")
    if name != "learning_rate"
]

Row = dict[str, Any]
"""A record by column; None is an empty one."""


def wrong_columns(row: Row) -> Iterator[tuple[str, str]]:
    """Each wrong column, with the right value."""
    yield from _wrong_anywhere(row)
    if row["source"] not in EXPERIMENTS:
        yield "source", f"unknown experiment: choose from {listed(EXPERIMENTS)}"
    elif row["scale"] not in SCALES:
        yield "scale", f"choose from {listed(SCALES)}"
    else:
        cell, wrong = _cell(row)
        yield from wrong
        if isinstance(cell, TrainingCell | ControlCell) and not CORPORA.fullmatch(row["corpus_used"] or ""):
            yield "corpus_used", "name the training text, or if another text was evaluated, TRAINED -> EVALUATED"
            return
        try:
            if isinstance(cell, TrainingCell):
                yield from _wrong_of_run(row, cell)
            elif isinstance(cell, ControlCell):
                yield from _wrong_tokens(row, _tokens(row["corpus_used"], cell.run.spec.tokenisation, row["split"]))
        except UserError as wrong_text:  # Such as one without this split, or shorter than the tokens left out.
            yield "corpus_used", f"its text has no such number: {wrong_text}"


def _wrong_anywhere(row: Row) -> Iterator[tuple[str, str]]:
    for name in PAPERS:
        if row[name] is not None:
            yield name, "only numbers of the paper have one: leave it empty"
    if row["provenance"] != "measured":
        yield "provenance", "choose measured: others are the paper's numbers"
    if row["smoke"]:
        yield "smoke", "the numbers of a smoke run mean nothing: run it without ALIBI_SMOKE"
    if row["value"] is None or not (math.isfinite(row["value"]) or row["metric"] == "word_perplexity"):
        yield "value", "choose a finite number"
    elif row["metric"] in SIGNED:
        pass  # A difference may have either sign.
    elif row["metric"] in ANSWERS:
        if not 0 <= row["value"] <= 1:
            yield "value", "a share of answers is between 0 and 1"
    elif row["protocol"] in READING:
        # 0 is possible: a token that is never attended to has no weight.
        if not row["value"] >= 0:
            yield "value", "it is at least 0"
        elif row["metric"] in SHARES and row["value"] > 1 + 1e-6:
            yield "value", "a share is at most 1"
    elif not row["value"] > (1 if str(row["metric"]).endswith("perplexity") else 0):
        least = "a perplexity is above 1" if str(row["metric"]).endswith("perplexity") else "it is above 0"
        yield "value", least
    for name in ("device", "torch_version"):
        if not row[name]:
            yield name, "name the one that measured"
    dtypes = CONTROL_DTYPES if row["method"] in CONTROLS else DTYPES
    if row["dtype"] not in dtypes:
        yield "dtype", f"choose from {listed(dtypes)}"
    if not HASH.fullmatch(row["commit"] or ""):
        yield "commit", "the first 12 digits of the commit of an unchanged checkout, such as 22848ad4b161"
    if row["kernel"] not in (None, *KERNELS):
        yield "kernel", f"choose from {listed(KERNELS)}"
    if row["seconds"] is not None and not 0 <= row["seconds"] < math.inf:
        yield "seconds", "it is at least 0"
    if not _is_past_day(row["date"] or ""):
        yield "date", "the day in UTC, such as 2026-11-21, not in the future"


def _is_past_day(told: str) -> bool:
    try:
        # A week's day is a date too, and would not sort as one.
        return told == (day := date.fromisoformat(told)).isoformat() and day <= datetime.now(UTC).date()
    except ValueError:
        return False


@cache
def _cells(experiment: str, scale: str, seed: int) -> list[tuple[Cell, list[Row]]]:
    every = EXPERIMENTS[experiment](scale, (seed,))
    return [(cell, [{n: v if v != "" else None for n, v in own.items()} for own in cell.numbers()]) for cell in every]


def _cell(row: Row) -> tuple[Cell | None, list[tuple[str, str]]]:
    """The cell that measures this number; else the columns that differ from the nearest cell's, with right values."""
    cells = _cells(row["source"], row["scale"], row["seed"] or 0)
    if row["data_seed"] is not None:  # In noise_floor it is the seed of the cells whose weights have another one.
        cells = cells + _cells(row["source"], row["scale"], row["data_seed"])
    row = row | {name: bool(row[name]) for name in TRUTHS}
    nearest: tuple[list[str], Row] | None = None
    for cell, numbers in cells:
        for number in numbers:
            if not (apart := _differ(number, row)):
                return cell, []
            # A number that differs only in the metric is less alike than one that differs only in a length.
            if nearest is None or (len(apart), "metric" in apart) < (len(nearest[0]), "metric" in nearest[0]):
                nearest = apart, number
    if nearest is None:
        return None, [("source", f"the experiment has no cell at scale {row['scale']}")]
    wrong = []
    for name in nearest[0]:
        others = [n for _, numbers in cells for n in numbers if _differ(n, row) == [name]]
        found = [n.get(name) for n in others or [nearest[1]]]
        right = list(dict.fromkeys("nothing" if value is None else value for value in found))
        wrong.append(
            (name, f"no cell of {row['source']} at scale {row['scale']} measures that; there is {listed(right)}")
        )
    return None, wrong


def _differ(number: Row, row: Row) -> list[str]:
    """Columns in which a row is not this number: also those that tell others apart, and that this one leaves empty."""
    apart = [name for name, value in number.items() if row[name] != value]
    return apart + [name for name in TELL_APART if name not in number and row[name] is not None]


@cache
def _text(name: str, tokenisation: str | None = None) -> Corpus | None:
    """A text, or only its sizes; None if these are not known here either."""
    try:
        return outline(name, tokenisation)
    except UserError:
        return None


@cache
def _tokens(corpus_used: str, tokenisation: str | None, split: str) -> int | None:
    """Number of tokens of a split of the evaluated text, in the vocabulary of the run; None if not known here."""
    trained, _, evaluated = corpus_used.partition(" -> ")
    trained_on = _text(trained, tokenisation)
    read = _text(evaluated) if evaluated else trained_on
    if trained_on is None or read is None:
        return None
    if trained_on.source and read.source:
        return len(read.split(split).tokens if read is trained_on else read.encoded_by(trained_on, split).tokens)
    # WikiText's published sizes count words and ends of lines: its tokens in any vocabulary of words.
    of_words = trained_on.tokenisation == "words" if trained_on.source else trained_on.name.startswith("wikitext")
    return read.splits[split].words if of_words and not read.source else None


@cache
def _configuration(cell: TrainingCell) -> TrainConfig:
    return cell.config()


@cache
def _scored(
    tokens: int, length: int, stride: int | None, skip: int, sample: int | None, first: int | None, last: int | None
) -> int:
    """Number of tokens that an evaluation of a text of `tokens` scores at positions first to last of its windows."""
    low, high = (first or 1) - 1, last or length
    before = np.concatenate([[0], np.cumsum(scored_tokens(tokens, skip, sample))])
    scored = 0
    for window in evaluation_windows(tokens, length, stride, skip):
        start, end = max(window.scored, window.start + low), min(window.end, window.start + high)
        scored += before[end] - before[start] if end > start else 0
    return int(scored)


def _wrong_of_run(row: Row, cell: TrainingCell) -> Iterator[tuple[str, str]]:
    trained, _, read = row["corpus_used"].partition(" -> ")
    spec = replace(cell.spec, corpus=trained, device=kind_of(row["device"] or ""))
    dtype = row["dtype"] if row["dtype"] in DTYPES else None
    same = replace(cell, spec=replace(spec, dtype=dtype), eval_corpus=read or None)
    given = row["corpus_used"], cell.spec.tokenisation
    if (trained_on := _text(trained, cell.spec.tokenisation)) is None:
        return
    if (
        (size := trained_on.vocabulary_size)
        and row["value"] is not None
        and row["metric"] == "perplexity"
        and not row["value"] < size
    ):
        yield "value", f"a perplexity is below the {size:,} entries of the vocabulary"
    if row["protocol"] in READING:
        yield from _wrong_tokens_read(row, cell, _tokens(*given, row["split"]))
    # The tokens that a run compares with itself depend on the ends of long windows, and are not counted again here.
    # Slopes are read off the weights, without a text.
    elif row["protocol"] not in (AGAINST_ITSELF, SLOPES):
        yield from _wrong_tokens(row, _tokens(*given, row["split"]))
    rate = _configuration(same).learning_rate
    if row["learning_rate"] is not None and VALUE_FORMAT % row["learning_rate"] != VALUE_FORMAT % rate:
        yield "learning_rate", f"the run of that cell has {rate:g}"
    if row["parameters"] != (count := unmade(_configuration(same).model).parameter_count()):
        yield "parameters", f"the model of that cell has {count}"
    if row["model"] != (name := f"{count / 1e6:.1f}M"):
        yield "model", f"a model of {count:,} parameters is called {name}"
    if not HASH.fullmatch(row["config_hash"] or ""):
        yield "config_hash", "12 hexadecimal digits"
    elif trained_on.source and row["device"] and row["config_hash"] not in (hashes := _hashes(same, row)):
        yield "config_hash", f"this code gives {hashes[0]}: the run had other settings, text or recipe"


def _wrong_tokens(row: Row, whole: int | None) -> Iterator[tuple[str, str]]:
    """A wrong number of scored tokens, if the size of the split or a prefix is known."""
    if row["prefix"] is None and whole is None:
        return
    tokens = min(n for n in (row["prefix"], whole) if n is not None)
    # The control has no windows: its length is its cache's.
    length = tokens if row["method"] in CONTROLS else row["eval_length"]
    which = tokens, length, row["stride"], row["skipped"] or 0, row["sample"]
    right = _scored(*which, row["first_position"], row["last_position"])
    if row["tokens_scored"] != right:
        yield "tokens_scored", f"this evaluation scores {right:,}"


def _wrong_tokens_read(row: Row, cell: TrainingCell, whole: int | None) -> Iterator[tuple[str, str]]:
    """A wrong number of tokens, queries or windows of a measure of reading, if the size of the split is known."""
    if whole is None or cell.reading is None:
        return
    length = row["eval_length"]
    (last, windows), *_ = [(own, n) for w, own, n in cell.reading.attention(cell.train_length) if w == length]
    windows = len(spread_windows(whole, length, windows))
    right = windows if row["protocol"] == GRADIENT else windows * last
    scored = row["tokens_scored"]
    # The number of tokens with a last occurrence at a given distance depends on the text.
    if scored is None or (not 0 < scored <= right if row["protocol"] == REPEATS else scored != right):
        most = "at most " * (row["protocol"] == REPEATS)
        yield "tokens_scored", f"this measure has {most}{right:,}"


def _hashes(cell: TrainingCell, row: Row) -> list[str]:
    """The possible values of `config_hash` for the cell on that machine, one for each number of threads.

    A scale that sets the number of threads has only one.
    """
    config = replace(_configuration(cell), torch_version=row["torch_version"] or "")
    threads = scale_named(cell.scale).threads
    every = range(1, MOST_THREADS + 1) if threads is None else (threads,)
    return [config_hash(replace(config, threads=number), row["device"] or "") for number in every]

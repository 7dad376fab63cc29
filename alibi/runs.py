"""Trained runs, cached by the content of their configuration: asked for, found or trained, evaluated once."""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from alibi.configuration import CONFIG, TrainConfig, TrainingError, configure, read_run, require_device
from alibi.corpus import Corpus, Split, load
from alibi.device import device_name, give_back_memory, settle_cpu
from alibi.evaluate import Evaluation, evaluate
from alibi.files import locked, write_whole
from alibi.model import Decoder
from alibi.paths import PACKAGE, cache_folder
from alibi.records import MEASURED_COLUMNS
from alibi.scale import scale_named
from alibi.train import load_model, train

if TYPE_CHECKING:
    import pandas as pd

# What decides the bits of a run; a change to one of these trains anew, a change to a figure does not.
SCIENCE = [
    "positions",
    "attention.py",
    "decay_window.py",
    "embedding.py",
    "model.py",
    "windows.py",
    "optim.py",
    "train.py",
    "evaluate.py",
    "device.py",
]
SMOKE_TOKENS = 1024
METRICS = {"perplexity": "", "word_perplexity": "", "bits_per_byte": "bits/byte"}


@cache
def code_sha256() -> str:
    """Hash of the syntax trees of the modules in SCIENCE, docstrings and comments apart."""
    digest = hashlib.sha256()
    for name in SCIENCE:
        path = PACKAGE / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list):
                    # A bare string is a docstring, of a module, class, function or field.
                    body[:] = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


def config_hash(config: TrainConfig, machine: str = "") -> str:
    """Twelve hexadecimal digits that stand for a configuration, the machine and the code that decide the bits.

    Args:
        config: of a run.
        machine: what `device_name` says where it was trained; empty for this machine.
    """
    key = asdict(config) | {"machine": machine or device_name(config.device), "code": code_sha256()}
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


def run_folder(config: TrainConfig) -> Path:
    """Where the run of this configuration lies, or will lie, in the cache."""
    name = f"{config.model.method}-{config.scale}-{config.train_length}-seed{config.seed}-{config_hash(config)}"
    return cache_folder() / "runs" / name


@dataclass(frozen=True)
class Run:
    """A finished training run and what was measured of it."""

    config: TrainConfig
    corpus: Corpus
    folder: Path
    smoke: bool = False
    """Trained for a few steps only, to see that everything runs; its numbers mean nothing."""

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Device, torch version, commit and date of the training, its tokens, parameters and seconds."""
        return read_run(self.folder)[1]

    @cached_property
    def model(self) -> Decoder:
        """The trained model, on the device it was trained on where that is here, else on the CPU."""
        return load_model(self.folder)

    def metrics(self) -> "pd.DataFrame":
        """Loss (nats), gradient norm and learning rate during training, a row every ten steps."""
        import pandas as pd

        return pd.read_json(self.folder / "metrics.jsonl", lines=True)

    def evaluation(
        self,
        length: int,
        stride: int | None = None,
        split: str = "valid",
        prefix: int | None = None,
        text: Corpus | None = None,
    ) -> Evaluation:
        """The loss over a split at this window length, measured once and kept beside the weights.

        Where it can't be kept it is measured each time, which stderr is told.

        Args:
            length: tokens in a window, L_valid.
            stride: new tokens a window; None for nonoverlapping windows.
            split: of the text.
            prefix: score only so many tokens from its start; None scores all.
            text: what is read, in the vocabulary of the run; the corpus of the run if left out.

        Raises:
            ValueError: for an unknown split (the known are listed), or a length or stride out of range.
        """
        text = text or self.corpus
        text.require(split)
        prefix = min(SMOKE_TOKENS, prefix or SMOKE_TOKENS) if self.smoke else prefix
        name = f"{text.name}-{split}-{length}-{stride or 'nonoverlapping'}-{prefix or 'all'}.json"
        path = self.folder / "evaluations" / name
        if stored := _stored(path):
            return stored
        with ExitStack() as holding:
            refusal = None
            try:
                holding.enter_context(locked(_lock(self.folder)))
            except OSError as wrong:
                refusal = wrong
            if stored := _stored(path):  # By another process, while this one waited.
                return stored
            settle_cpu(self.config.threads)
            stream = text.encoded_by(self.corpus, split)
            found = evaluate(self.model, stream, self.corpus.end_of_line, length, stride, prefix)
            give_back_memory()
            try:
                if refusal is None:
                    _store(found, path)
            except OSError as wrong:
                refusal = wrong
            if refusal is not None:
                tqdm.write(f"warning: {path} can't be written: {refusal}; measured, and not kept", sys.stderr)
        return found

    def records(
        self,
        lengths: Iterable[int],
        stride: int | None = None,
        split: str = "valid",
        prefix: int | None = None,
        text: Corpus | None = None,
        corpus: str = "wikitext-103",
    ) -> "pd.DataFrame":
        """Perplexity per token, per word and bits per byte at these window lengths, with provenance.

        One number a row, in the columns of `alibi.records.MEASURED_COLUMNS`. Arguments as for `evaluation`; `corpus` is
        the paper's set, by which our records join its numbers, whatever was read.
        """
        import pandas as pd

        rows = []
        for length in lengths:
            found = self.evaluation(length, stride, split, prefix, text)
            first = "" if prefix is None and not self.smoke else f"first {found.tokens} tokens"
            common = self.provenance(text) | {
                "corpus": corpus,
                "split": split,
                "eval_length": length,
                "protocol": "nonoverlapping" if stride is None else "sliding_window",
                "stride": stride,
                "note": f"smoke run: {first}" if self.smoke else first,
            }
            rows += [common | {"metric": m, "value": getattr(found, m), "unit": unit} for m, unit in METRICS.items()]
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

    def provenance(self, text: Corpus | None = None) -> dict[str, Any]:
        """What every record of this run says: model, method, training, texts, machine and code."""
        trained_on, read = self.corpus.name, text.name if text else self.corpus.name
        return {
            "model": f"{self.facts['parameters'] / 1e6:.1f}M",
            "method": self.config.model.method,
            "train_length": self.config.train_length,
            "paper_length": self.config.train_length * scale_named(self.config.scale).paper_factor,
            "provenance": "measured",
            "scale": self.config.scale,
            "seed": self.config.seed,
            "tokens_trained": self.facts["tokens"],
            "parameters": self.facts["parameters"],
            "corpus_used": trained_on if read == trained_on else f"{trained_on} -> {read}",
            "device": self.facts["device"],
            "torch_version": self.facts["torch_version"],
            "dtype": self.config.dtype,
            "commit": self.facts["commit"],
            "config_hash": config_hash(self.config, self.facts["device"]),
            "seconds": self.facts["seconds"],
            "date": self.facts["date"],
        }


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _stored(path: Path) -> Evaluation | None:
    """The evaluation that this file holds, None if there is none; one that is cut is told, and measured again."""
    if not path.is_file():
        return None
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        stored |= {name: np.array(values) for name, values in stored.items() if isinstance(values, list)}
        return Evaluation(**stored)
    except (OSError, ValueError, TypeError, AttributeError) as wrong:
        tqdm.write(f"warning: {path} can't be read: {wrong}; measured again", sys.stderr)
        return None


def _store(found: Evaluation, path: Path) -> None:
    fields = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(found).items()}
    path.parent.mkdir(exist_ok=True)
    write_whole(path, lambda part: part.write_text(json.dumps(fields), encoding="utf-8"))


def trained(
    method: str,
    corpus: str = "wikipedia-sample",
    scale: str = "quick",
    train_length: int = 0,
    seed: int = 1,
    steps: int = 0,
    bar_row: int = 0,
    tokenisation: str = "",
    large: bool = False,
) -> Run:
    """The finished run of this configuration: from the cache, or trained now with a progress bar.

    Where the environment variable ALIBI_SMOKE holds a number of steps and the run is not in the cache, so many
    steps are trained instead, which a line on stderr says; what is evaluated on is then cut to `SMOKE_TOKENS`.

    Args:
        method: position method, a name of `alibi.positions.METHODS`.
        corpus: a name that `alibi.corpus.load` knows.
        scale: a name of `alibi.scale.SCALES`.
        train_length: tokens in a training block; 0 takes the scale's own.
        seed: of weights, order and dropout.
        steps: optimiser steps; 0 takes the scale's own number.
        bar_row: line of the terminal for the progress bar, where several runs are trained side by side.
        tokenisation: words, bytes or bert; empty takes the corpus's own.
        large: take the scale's larger model.

    Raises:
        ValueError: for an unknown name or a number out of range.
        alibi.configuration.TrainingError: if the training fails, the scale's device is not there, or the run has to be
            trained and the cache can't be written.
    """
    loaded = load(corpus, tokenisation)
    config = configure(method, loaded, scale, train_length, seed, steps, large=large)
    require_device(config)
    folder, smoke = run_folder(config), False
    if not (folder / CONFIG).is_file() and (short := os.environ.get("ALIBI_SMOKE")):
        fewer = min(config.steps, int(short))
        print(f"ALIBI_SMOKE is set: {fewer} steps of {config.steps}, a run that shows nothing", file=sys.stderr)
        config = replace(config, steps=fewer, warmup_steps=min(config.warmup_steps, fewer))
        loaded = _beginnings(loaded)
        folder, smoke = run_folder(config), True
    if not (folder / CONFIG).is_file():
        with ExitStack() as holding:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                holding.enter_context(locked(_lock(folder)))
            except OSError as wrong:
                raise TrainingError(
                    f"{folder.parent} can't be written: {wrong}; ALIBI_CACHE names another folder for what is trained"
                ) from wrong
            train(config, loaded, folder, bar_row)
    return Run(config, loaded, folder, smoke)


def _beginnings(corpus: Corpus) -> Corpus:
    """The corpus with the first `SMOKE_TOKENS` of each split but the training one."""

    def beginning(split: Split) -> Split:
        share = min(1.0, SMOKE_TOKENS / max(1, len(split.tokens)))
        words, size = round(share * split.words), round(share * split.bytes)
        return replace(split, tokens=split.tokens[:SMOKE_TOKENS], words=words, bytes=size)

    splits = {name: split if name == "train" else beginning(split) for name, split in corpus.splits.items()}
    return replace(corpus, splits=splits)

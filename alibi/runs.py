"""Trained runs, cached by the content of their configuration: trained once, and each measured once."""

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from alibi import checkpoint as checkpoints
from alibi.configuration import (
    CHECKPOINTS,
    CONFIG,
    METRICS_DIGEST,
    TrainConfig,
    TrainingError,
    check_here,
    configure,
    corpus_of,
    read_run,
    require_device,
)
from alibi.corpora.articles import article_starts
from alibi.corpora.corpus import Corpus, Split
from alibi.device import give_back_memory, settle_cpu, without_autocast
from alibi.evaluate import PROTOCOL, AgainstItself, Evaluation, against_itself, evaluate
from alibi.files import locked, sha256
from alibi.measures.attention_distance import AttentionDistance, attention_distance
from alibi.measures.receptive_field import ReceptiveField, receptive_field
from alibi.measures.repeats import Repeats, repeats
from alibi.measures.truncation import Truncation, truncation
from alibi.model import Decoder
from alibi.positions.interpolation import interpolated
from alibi.progress import say
from alibi.protocols import AGAINST_ITSELF, NONOVERLAPPING, SLIDING
from alibi.records import MEASURED_COLUMNS
from alibi.run_cache import Measured, config_hash, lock_of, run_folder, store, stored
from alibi.run_spec import BOOKKEEPING, Bookkeeping, RunSpec, smoke_steps
from alibi.scale import scale_named
from alibi.train import METRICS_FILE, train
from alibi.weights import AGAIN, load_model

if TYPE_CHECKING:
    import pandas as pd

# The least number of tokens that a smoke run reads.
SMOKE_TOKENS = 1024
# Bytes in the name of a measurement's file: file systems take 255, with the endings of a file that is being written.
LONGEST_NAME = 230
METRICS = {"perplexity": "", "word_perplexity": "", "bits_per_byte": "bits/byte"}
# The loss against itself is recorded between these multiples of L up to the end of the long window, and from L to that
# end.
SELF_MULTIPLES = (0, 1, 1.125, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Run:
    """A finished training run and its measurements."""

    config: TrainConfig
    corpus: Corpus
    folder: Path
    smoke: bool = False
    """Trained only for a few steps, to see that everything runs; its numbers mean nothing."""

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Device, torch version, commit and date of the training, its tokens, parameters and seconds."""
        return read_run(self.folder)[1]

    @cached_property
    def model(self) -> Decoder:
        """The trained model, on the device of its training if this machine has it, else on the CPU.

        It is the caller's: measurements of the run read another one, so a change of this one changes none of them.
        """
        return load_model(self.folder)

    @cached_property
    def _measured_model(self) -> Decoder:
        """As it was trained: no caller can change the model whose numbers are kept."""
        return load_model(self.folder)

    def metrics(self) -> "pd.DataFrame":
        """Loss (nats), gradient norm and learning rate during training, a row every ten steps and at each validation.

        Rows without a validation have NaN for its perplexity.

        Raises:
            alibi.configuration.TrainingError: if the file is missing or not as it was written.
        """
        import pandas as pd

        path = self.folder / METRICS_FILE
        try:
            digest = sha256(path)
        except OSError as wrong:
            raise TrainingError(f"{path} can't be read: {wrong}; restore it, or {AGAIN}") from wrong
        if self.facts.get(METRICS_DIGEST, "") not in ("", digest):
            raise TrainingError(f"{path} is not as it was written: restore it, or {AGAIN}")
        return pd.read_json(path, lines=True)

    def evaluation(
        self,
        length: int,
        stride: int | None = None,
        split: str = "valid",
        prefix: int | None = None,
        text: Corpus | None = None,
        skip: int = 0,
        sample: int | None = None,
        interpolation: str | None = None,
    ) -> Evaluation:
        """The loss over a split at this window length, measured once and kept beside the weights.

        If it can't be stored, a warning says so, and it is measured each time.

        Args:
            length: tokens in a window, L_valid.
            stride: new tokens a window; None for nonoverlapping windows.
            split: of the text.
            prefix: number of tokens to read from its start; None reads all.
            text: the text to read, in the vocabulary of the run; the corpus of the run if left out.
            skip: tokens at the start that are only context and not scored.
            sample: least number of tokens to score, spread evenly over the text; None scores all.
            interpolation: rescales slopes or angles for windows past L, a kind of `alibi.positions.interpolation`; None
                reads by positions as trained.

        Raises:
            InputError: for an unknown split or interpolation (the message lists the known ones), or a length, stride or
                skip out of range.
        """
        prefix, skip = self._cut(prefix, skip)
        name = f"{length}-{'nonoverlapping' if stride is None else stride}-{_or_all(prefix)}"
        if skip or sample is not None:
            name += f"-from-{skip}-sample-{_or_all(sample)}"
        if interpolation:
            name += f"-{interpolation}"

        of_windows = partial(evaluate, length=length, stride=stride, prefix=prefix, skip=skip, sample=sample)

        def measure(model: Decoder, *of: Any, **how: Any) -> Evaluation:
            positions = model.positions
            if interpolation:
                positions = interpolated(positions, interpolation, self.config.train_length, length)
            with model.positions_by(positions):
                return of_windows(model, *of, **how)

        return self._kept(Evaluation, name, split, text, measure)

    def against_itself(
        self,
        window: int,
        stride: int,
        split: str = "valid",
        sample: int | None = None,
        text: Corpus | None = None,
    ) -> AgainstItself:
        """The loss in windows longer than the training length L, minus the loss of the same tokens in windows of L.

        It is measured once and stored, like an evaluation.

        Args:
            window: tokens in a longer window, a multiple of L.
            stride: new tokens in each window of L, a divisor of L.
            split: of the text.
            sample: least number of tokens, in windows spread evenly over the text; None takes all.
            text: the text to read, in the vocabulary of the run; the corpus of the run if left out.

        Raises:
            InputError: for an unknown split (the message lists the known ones), a split shorter than a window, or other
                lengths.
        """
        length, (prefix, _) = self.config.train_length, self._cut(None)
        if self.smoke:
            window = max(length, min(window, _smoke_tokens(self.config) // length * length))
        name = f"against-itself-{length}-{window}-{stride}-{_or_all(prefix)}-sample-{_or_all(sample)}"
        measure = partial(against_itself, length=length, window=window, stride=stride, sample=sample, prefix=prefix)
        return self._kept(AgainstItself, name, split, text, measure)

    def truncation(
        self,
        length: int,
        seen: Sequence[int],
        last: int,
        form: str = "attention",
        windows: int | None = None,
        stride: int = 1,
        split: str = "valid",
        text: Corpus | None = None,
    ) -> Truncation:
        """The loss of windows' last tokens when only the last w may be seen; measured once and stored.

        Arguments and errors as for `alibi.measures.truncation.truncation`, split and text as for `evaluation`.
        """
        length, last, windows = self._cut_windows(length, last, windows)
        every = sorted({min(w, length) for w in seen} if self.smoke else set(seen))
        name = f"truncation-{form}-{length}-{last}-{_or_all(windows)}-{stride}-of-{'-'.join(map(str, every))}"
        measure = partial(truncation, length=length, seen=every, last=last, form=form, windows=windows, stride=stride)
        return self._kept(Truncation, name, split, text, measure)

    def attention_distance(
        self, length: int, last: int, windows: int | None = None, split: str = "valid", text: Corpus | None = None
    ) -> AttentionDistance:
        """The distance that each head looks back on text; measured once and stored.

        Arguments and errors as for `alibi.measures.attention_distance.attention_distance`, split and text as for
        `evaluation`.
        """
        length, last, windows = self._cut_windows(length, last, windows)
        name = f"attention-distance-{length}-{last}-{_or_all(windows)}"
        measure = partial(attention_distance, length=length, last=last, windows=windows)
        return self._kept(AttentionDistance, name, split, text, measure, by_article=False)

    def repeats(
        self,
        lengths: Sequence[int],
        last: int,
        windows: int | None = None,
        stride: int = 1,
        split: str = "valid",
        text: Corpus | None = None,
    ) -> Repeats:
        """The loss of repeated tokens by the distance of their last occurrence; measured once and stored.

        Arguments and errors as for `alibi.measures.repeats.repeats`, split and text as for `evaluation`.
        """
        longest, last, windows = self._cut_windows(max(lengths, default=0), last, windows)
        every = sorted({min(length, longest) for length in lengths})
        name = f"repeats-{last}-{_or_all(windows)}-{stride}-of-{'-'.join(map(str, every))}"
        measure = partial(repeats, lengths=every, last=last, windows=windows, stride=stride)
        return self._kept(Repeats, name, split, text, measure)

    def receptive_field(
        self, length: int, windows: int | None = None, split: str = "valid", text: Corpus | None = None
    ) -> ReceptiveField:
        """The distance that the gradient of the last token's loss reaches back; measured once and stored.

        Arguments and errors as for `alibi.measures.receptive_field.receptive_field`, split and text as for
        `evaluation`.
        """
        length, _, windows = self._cut_windows(length, length, windows)
        name = f"receptive-field-{length}-{_or_all(windows)}"
        measure = partial(receptive_field, length=length, windows=windows)
        return self._kept(ReceptiveField, name, split, text, measure, by_article=False)

    def _cut_windows(self, length: int, last: int, windows: int | None) -> tuple[int, int, int | None]:
        """Tokens in a window, scored tokens at its end, and number of windows; a smoke run has one short window."""
        if not self.smoke:
            return length, last, windows
        length = min(length, _smoke_tokens(self.config))
        return length, min(last, length), 1

    def _cut(self, prefix: int | None, skip: int = 0) -> tuple[int | None, int]:
        """The tokens to read and to skip; a smoke run reads `_smoke_tokens`, and skips at most half of them."""
        if not self.smoke:
            return prefix, skip
        most = _smoke_tokens(self.config)
        prefix = min(prefix or most, most)
        return prefix, min(skip, prefix // 2)

    def _kept(
        self,
        kind: type[Measured],
        name: str,
        split: str,
        text: Corpus | None,
        measure: Callable[..., Measured],
        by_article: bool = True,
    ) -> Measured:
        """The measurement of this name and text, read from its file, or made now and written there.

        Args:
            kind: class of the measurement.
            name: says everything that the measurement depends on besides the run, the text and its split.
            split: of the text.
            text: as for `evaluation`.
            measure: called with the model, the split and the end-of-line token.
            by_article: also call it with `starts`, the first tokens of articles, for errors over articles.
        """
        text = text or self.corpus
        text.require(split)
        digest, name = text.splits[split].text_sha256, f"{text.name}-{split}-{name}-{PROTOCOL}"
        if len(name.encode()) > LONGEST_NAME:
            name = hashlib.sha256(name.encode()).hexdigest()
        path = self.folder / "evaluations" / f"{name}.json"
        before = _written(path)
        if (kept := stored(kind, path, digest)) is not None:
            return kept
        with ExitStack() as holding:
            refusal = None
            try:
                holding.enter_context(locked(lock_of(self.folder)))
            except OSError as wrong:
                refusal = wrong
            # Another process may have made it while this one waited.
            if _written(path) != before and (kept := stored(kind, path, digest)) is not None:
                return kept
            settle_cpu(self.config.threads)
            stream = text.encoded_by(self.corpus, split)
            end_of_line = self.corpus.end_of_line
            starts = {"starts": article_starts(text, split, stream.tokens, end_of_line)} if by_article else {}
            with without_autocast(self._measured_model.device.type):
                found = measure(self._measured_model, stream, end_of_line, **starts)
            give_back_memory()
            try:
                if refusal is None:
                    store(found, path, digest)
            except OSError as wrong:
                refusal = wrong
            if refusal is not None:
                say(f"warning: {path} can't be written: {refusal}; measured, and not kept")
        return found

    def records(
        self,
        lengths: Iterable[int],
        stride: int | None = None,
        split: str = "valid",
        prefix: int | None = None,
        text: Corpus | None = None,
        corpus: str | None = None,
        skip: int = 0,
        sample: int | None = None,
        interpolation: str | None = None,
    ) -> "pd.DataFrame":
        """Perplexity per token, perplexity per word and bits per byte at these window lengths, with provenance.

        One number a row, in the columns of `alibi.records.MEASURED_COLUMNS`. Arguments are as for `evaluation`. The
        column `corpus` is the paper's set, which joins our records with its numbers; None writes the text that was
        read, as in `corpus_used`. The metric loss_standard_error is the standard error of the mean loss (nats a token)
        over articles. If tokens are skipped and windows are longer than L, loss_change is the mean loss minus the loss
        of the same tokens in windows of L, and has a standard error too.

        A warning tells of windows, or of a prefix, longer than the text.
        """
        import pandas as pd

        rows = []
        for length in lengths:
            found = self.evaluation(length, stride, split, prefix, text, skip, sample, interpolation)
            self._tell_short(found, split, prefix if sample is None else None, text, skip)
            common = self.provenance(text, corpus) | {
                "split": split,
                "eval_length": length,
                "protocol": NONOVERLAPPING if stride is None else SLIDING,
                "stride": stride,
                "prefix": prefix,
                "skipped": skip or None,
                "sample": sample,
                "interpolation": interpolation,
                "tokens_scored": found.tokens,
            }
            rows += [common | {"metric": m, "value": getattr(found, m), "unit": unit} for m, unit in METRICS.items()]
            in_nats = {"loss_standard_error": found.loss_standard_error}
            if "loss_change" in metrics_of(length, self.config.train_length, skip, stride):
                at_length = self.evaluation(self.config.train_length, stride, split, prefix, text, skip, sample)
                in_nats["loss_change"], in_nats["loss_change_standard_error"] = found.change_from(at_length)
            rows += [common | row for row in _in_nats(in_nats)]
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

    def _tell_short(self, found: Evaluation, split: str, prefix: int | None, text: Corpus | None, skip: int) -> None:
        """Warns of records that name a longer window, or more tokens, than the text has; a smoke run means nothing."""
        if self.smoke:
            return
        read = f"warning: {(text or self.corpus).name} {split}"
        if (places := len(found.nats_by_position)) < found.length:
            say(f"{read} has {places:,} tokens, so no window of {found.length:,} is full")
        if prefix is not None and found.tokens + skip < prefix:
            say(f"{read} has {found.tokens + skip:,} tokens, fewer than the prefix of {prefix:,}")

    def records_against_itself(
        self,
        window: int,
        stride: int,
        split: str = "valid",
        sample: int | None = None,
        text: Corpus | None = None,
        corpus: str | None = None,
    ) -> "pd.DataFrame":
        """The metric loss_against_itself (nats a token, see `alibi.evaluate.AgainstItself`), with provenance.

        One row for each range of positions between the multiples `SELF_MULTIPLES` of L, and one for all positions past
        L; each has its standard error over articles. `eval_length` is the longer window; arguments are as for
        `against_itself`.
        """
        import pandas as pd

        found = self.against_itself(window, stride, split, sample, text)
        window, rows = found.window, []
        for low, high in ranges_against_itself(self.config.train_length, window, stride):
            mean, error = found.between(low + 1, high)
            common = self.provenance(text, corpus) | {
                "split": split,
                "eval_length": window,
                "protocol": AGAINST_ITSELF,
                "stride": stride,
                "sample": sample,
                "first_position": low + 1,
                "last_position": high,
                "tokens_scored": found.tokens_between(low + 1, high),
            }
            named = {"loss_against_itself": mean, "loss_against_itself_standard_error": error}
            rows += [common | row for row in _in_nats(named)]
        return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)

    def provenance(self, text: Corpus | None = None, corpus: str | None = None) -> dict[str, Any]:
        """The columns that all records of this run share: model, method, training, texts, machine and code.

        Args:
            text: the text that was read; the corpus of the run if left out.
            corpus: the paper's set, which joins our records with its numbers; the text that was read if left out.
        """
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
            "learning_rate": self.config.learning_rate,
            "method_rate": self.config.method_rate,
            "data_seed": self.config.data_seed,
            "decay_window": self.config.model.decay_window,
            "parameters": self.facts["parameters"],
            "corpus": corpus or read,
            "corpus_used": trained_on if read == trained_on else f"{trained_on} -> {read}",
            "device": self.facts["device"],
            "torch_version": self.facts["torch_version"],
            "dtype": self.config.dtype,
            "commit": self.facts["commit"],
            "config_hash": config_hash(self.config, self.facts["device"]),
            "seconds": self.facts["seconds"],
            "date": self.facts["date"],
            "smoke": self.smoke,
        }


def _written(path: Path) -> int | None:
    """When the file was written (ns); None if there is none."""
    return path.stat().st_mtime_ns if path.is_file() else None


def _or_all(count: int | None) -> int | str:
    return "all" if count is None else count


def metrics_of(length: int, train_length: int, skip: int, stride: int | None) -> dict[str, str]:
    """The metrics that `Run.records` takes from an evaluation, and their units.

    The change from L needs windows of L on the same tokens, which such a stride does not leave out.
    """
    compared = skip and length > train_length and (stride is None or stride <= train_length)
    changes = ("loss_change", "loss_change_standard_error") if compared else ()
    return METRICS | dict.fromkeys(("loss_standard_error", *changes), "nats")


def ranges_against_itself(train_length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Ranges of positions of a long window for the loss against itself, without the first position of each.

    They lie between the multiples `SELF_MULTIPLES` of the training length; the last range is all positions past it.
    """
    whole = {round(multiple * train_length / stride) * stride for multiple in SELF_MULTIPLES}
    edges = sorted({edge for edge in whole if edge < window} | {window})
    return [*pairwise(edges), *([(train_length, window)] if window > train_length else [])]


def _in_nats(values: dict[str, float]) -> list[dict[str, Any]]:
    """Metric, value and unit of each of these; a single article has no standard error, which is left out."""
    return [{"metric": m, "value": value, "unit": "nats"} for m, value in values.items() if not math.isnan(value)]


def trained(method: str, **chosen: Any) -> Run:
    """The finished run with this position method: `cached_run` of `RunSpec(method=method, **chosen)`."""
    return cached_run(RunSpec(method=method, **chosen))


def cached_run(spec: RunSpec, bookkeeping: Bookkeeping = BOOKKEEPING) -> Run:
    """The finished run of this specification: from the cache, or trained now with a progress bar, see `run_of`.

    Raises:
        InputError: for an unknown name or a number out of range.
        alibi.corpora.source.CorpusError: if the corpus can't be read.
        alibi.configuration.TrainingError: as `run_of`; a missing device before any text is fetched.
        alibi.checkpoint.CheckpointError: as `run_of`.
    """
    check_here(spec)
    corpus = corpus_of(spec)
    return run_of(configure(spec, corpus), corpus, bookkeeping)


def run_of(config: TrainConfig, corpus: Corpus, bookkeeping: Bookkeeping = BOOKKEEPING) -> Run:
    """The finished run of this configuration: from the cache, or trained now with a progress bar.

    Training leaves this process prepared for work on a CPU, as `alibi.device.settle_cpu` says: its number of threads,
    and numbers below float32's normal range are zero.

    If the environment variable ALIBI_SMOKE holds a number of steps and the run is not in the cache, it trains only
    these steps, and a line on stderr says so; evaluations then read only two training lengths, or `SMOKE_TOKENS`.

    Raises:
        alibi.configuration.TrainingError: if the training fails, the scale's device is missing, or the run is not
            cached and the cache can't be written.
        alibi.checkpoint.CheckpointError: if a checkpoint can't be written, or all checkpoints are damaged.
        InputError: if no run can have this configuration, or the corpus does not fill a batch.
    """
    require_device(config.scale, config.device)
    folder, smoke = run_folder(config), False
    if not (folder / CONFIG).is_file() and (short := smoke_steps()):
        fewer = min(config.steps, short)
        print(f"ALIBI_SMOKE is set: {fewer} steps of {config.steps}, a run that shows nothing", file=sys.stderr)
        config = replace(config, steps=fewer, warmup_steps=min(config.warmup_steps, fewer))
        corpus = _beginnings(corpus, _smoke_tokens(config))
        # In a folder of its own: a real run of as many steps has another validation.
        real = run_folder(config)
        folder, smoke = real.with_name(f"{real.name}-smoke"), True
    if not (folder / CONFIG).is_file():
        with ExitStack() as holding:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                holding.enter_context(locked(lock_of(folder)))
            except OSError as wrong:
                raise TrainingError(
                    f"{folder.parent} can't be written: {wrong}; ALIBI_CACHE names another folder for trained runs"
                ) from wrong
            # Training seeds the generator; the caller's goes on as if the run had been cached.
            on_gpu = [torch.cuda.current_device()] if config.device == "cuda" else []
            with torch.random.fork_rng(on_gpu):
                train(config, corpus, folder, bookkeeping)
    elif (folder / CHECKPOINTS).is_dir():
        checkpoints.remove(folder / CHECKPOINTS)  # The process may have ended before it removed them.
    return Run(config, corpus, folder, smoke)


def _smoke_tokens(config: TrainConfig) -> int:
    return max(SMOKE_TOKENS, 2 * config.train_length)


def _beginnings(corpus: Corpus, tokens: int) -> Corpus:
    """The corpus with only the first tokens of each split except the training split."""

    def beginning(split: Split) -> Split:
        share = min(1.0, tokens / max(1, len(split.tokens)))
        words, size = round(share * split.words), round(share * split.bytes)
        return replace(split, tokens=split.tokens[:tokens], words=words, bytes=size)

    splits = {name: split if name == "train" else beginning(split) for name, split in corpus.splits.items()}
    return replace(corpus, splits=splits)

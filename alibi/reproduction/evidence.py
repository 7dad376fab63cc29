"""Records as evidence: the numbers of one seed at one scale, looked up by the paper's lengths."""

import math
from collections.abc import Iterable
from itertools import pairwise
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pandas as pd

from alibi.protocols import (
    AGAINST_ITSELF,
    ATTENTION,
    CACHE,
    GRADIENT,
    NONOVERLAPPING,
    READING,
    REPEATS,
    SLIDING,
    TRUNCATED,
)
from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.experiments import TABLES
from alibi.retrieval.tasks import COPYING, TASKS

COUNTED_SCALES = ("paper", "gpu", "laptop")
"""Scales that count, the largest first."""
Curve = dict[float, float]
"""Perplexity by window, in ascending order."""
Tokens = tuple[float, float, float]
"""The scored tokens of a split: a `sample` of the first `prefix` without the `skipped`; infinity stands for all."""
Estimate = tuple[float, float]
"""A number and its standard error, over articles or over repeats of a time; nan if it is not known."""
WHOLE: Tokens = (math.inf, 0, math.inf)
# A retrieval task is learned if more than this share of answers at L is right. "Past L" means these multiples of L.
LEARNED, PAST = 0.95, (2, 4, 8, 16)
TRIGRAM_WITH_CACHE = "trigram-cache"
CONTROLS = ("trigram", TRIGRAM_WITH_CACHE)
"""The trigram without and with a cache, by their names in `method`; neither is a position method."""
# Sliding windows are full if at most this share of the scored tokens has less than a window before it, and the stride
# is at most this share of L. The paper scores 217,646 tokens at stride 1; up to 3,072 of them have less.
GROWING_SHARE, STRIDE_SHARE = 0.02, 1 / 8
# fmt: off
SAMPLE_COLUMNS = [
    "method", "paper_length", "metric", "value", "protocol", "stride", "paper_eval_length", "prefix", "skipped",
    "sample", "tokens_scored", "first_position", "last_position", "kernel", "equal_time", "parameters", "factor",
    "interpolation", "seen", "first_distance", "layer", "head", "distractors",
]
# fmt: on


def as_records(paper: pd.DataFrame) -> pd.DataFrame:
    """The paper's numbers as records of scale paper, one seed, sources named as the experiments are."""
    experiment = {table: name for name, tables in TABLES.items() for table in tables}
    # If a number is both printed and read off a figure, the printed one comes last, and the last one counts.
    ordered = paper.sort_values("provenance", kind="stable")
    return ordered.assign(
        source=ordered["source"].map(experiment),
        scale="paper",
        seed=1,
        corpus_used=ordered["corpus"],
        paper_length=ordered["train_length"],
    ).reindex(columns=MEASURED_COLUMNS)


def evidence(records: pd.DataFrame) -> pd.DataFrame:
    """The records that count (validation split, every scale except quick), in the columns that statistics use.

    New columns are factor, the paper's length over ours, and paper_eval_length, L_valid in the paper's tokens.
    Positions, distances and seen are in the paper's tokens too; prefix, skipped and sample are as in `Tokens`.
    """

    def text(column: str, missing: str = "") -> pd.Series:
        return records[column].astype(object).where(records[column].notna(), missing).astype(str)

    def number(column: str) -> pd.Series:
        return pd.to_numeric(records[column]).astype("float64")

    def truth(column: str) -> pd.Series:
        return records[column].astype("boolean").fillna(False).astype(bool)

    length = number("paper_length").fillna(number("train_length"))
    factor = length / number("train_length")
    joined = records.assign(
        source=text("source"),
        paper_length=length,
        paper_eval_length=number("eval_length") * factor,
        factor=factor,
        prefix=number("prefix").fillna(math.inf),
        skipped=number("skipped").fillna(0),
        sample=number("sample").fillna(math.inf),
        tokens_scored=number("tokens_scored"),
        first_position=(number("first_position") - 1) * factor + 1,
        last_position=number("last_position") * factor,
        interpolation=text("interpolation"),
        seen=number("seen").fillna(0) * factor,
        first_distance=number("first_distance").fillna(0) * factor,
        layer=number("layer").fillna(0),
        head=number("head").fillna(0),
        distractors=number("distractors").fillna(0),
        kernel=text("kernel"),
        stride=number("stride"),
        value=number("value"),
        parameters=number("parameters"),
        tokens_trained=number("tokens_trained"),
        equal_time=truth("equal_time"),
        seed=number("seed").fillna(0),
        model=text("model"),
        corpus_used=text("corpus_used"),
        device=text("device"),
        dtype=text("dtype"),
    )
    # Numbers of smoke runs mean nothing; Figure 5 is perplexity in the middle of training.
    meaningless = truth("smoke") | records["gpu_hours"].notna()
    counts = text("scale").isin(COUNTED_SCALES) & text("split", "valid").eq("valid") & ~meaningless
    # An infinite perplexity has no mean and no interval: it counts as missing.
    counts &= np.isfinite(joined["value"])
    groups = ["source", "scale", "seed", "corpus", "corpus_used", "model", "device", "dtype", "tokens_trained"]
    return joined.loc[counts, [*groups, *SAMPLE_COLUMNS]]


class Sample:
    """The numbers of one seed at one scale on one corpus. A missing number is nan, and `missing` gets its name."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.missing: list[str] = []
        self.factor = float(rows["factor"].iloc[0]) if len(rows) else math.nan
        """The paper's length over ours."""
        self._numbers: dict[tuple[str, str, float], dict[str, float]] = {}
        self._parameters: dict[str, float] = {}
        self._curves: dict[tuple[str, float, bool], dict[Tokens, Curve]] = {}
        self._sliding: dict[tuple[str, float], dict[Tokens, Curve]] = {}
        self._change_errors: dict[tuple[str, float, bool], dict[Tokens, Curve]] = {}
        self._against_itself: dict[tuple[str, str, float], dict[tuple[float, float], float]] = {}
        self._caches: dict[float, Curve] = {}
        self._interpolated: dict[tuple[str, float, str], Curve] = {}
        self._reading: dict[tuple[str, str, str, float, float], dict[tuple[float, float], float]] = {}
        self._heads: dict[tuple[str, str, float, float], dict[tuple[float, float], float]] = {}
        self._retrieved: dict[tuple[str, str, str, str, float, float], dict[float, float]] = {}
        # If a number has two records, the last one counts; of several strides the finest, whose windows are fullest.
        rows = rows.sort_values("stride", ascending=False, na_position="first", kind="stable")
        # `itertuples` would take longer than the rows of a seed.
        for values in zip(*(rows[column].tolist() for column in SAMPLE_COLUMNS), strict=True):
            self._add(SimpleNamespace(**dict(zip(SAMPLE_COLUMNS, values, strict=True))))

    def _add(self, row: SimpleNamespace) -> None:
        """Files a row by what it measures; its attributes are `SAMPLE_COLUMNS`."""
        method, metric, protocol, value = row.method, row.metric, row.protocol, row.value
        length, window, tokens = row.paper_length, row.paper_eval_length, (row.prefix, row.skipped, row.sample)
        if not math.isnan(row.parameters):
            self._parameters[method] = row.parameters
        if row.equal_time and (metric != "perplexity" or protocol != NONOVERLAPPING):
            return  # Only `curves` tell a run that was stopped early from the whole one.
        if protocol in TASKS:
            multiple = window / length
            by_part = self._retrieved.setdefault(
                (metric, protocol, method, row.interpolation, row.distractors, multiple), {}
            )
            # End of the part in the window, as a share; 0 stands for the whole window.
            by_part[0 if math.isnan(row.last_position) else row.last_position / window] = value
        elif protocol == ATTENTION:
            self._heads.setdefault((metric, method, length, window), {})[row.layer, row.head] = value
        elif protocol in READING:
            of_window = self._reading.setdefault((metric, protocol, method, length, window), {})
            of_window[row.seen, row.first_distance] = value
        elif row.interpolation:
            if metric == "perplexity" and protocol == NONOVERLAPPING and tokens == WHOLE:
                of_kind = self._interpolated.setdefault((method, length, row.interpolation), {})
                of_kind[window] = value
        elif protocol == AGAINST_ITSELF:
            of_run = self._against_itself.setdefault((metric, method, length), {})
            of_run[row.first_position, row.last_position] = value
        elif metric == "loss_change_standard_error":
            errors = self._change_errors.setdefault((method, length, protocol == SLIDING), {})
            errors.setdefault(tokens, {})[window] = value
        elif metric != "perplexity":
            self._numbers.setdefault((metric, method, length), {})[row.kernel] = value
        elif protocol == CACHE and tokens == WHOLE:
            self._caches.setdefault(length, {})[window] = value
        elif protocol == NONOVERLAPPING:
            curves = self._curves.setdefault((method, length, row.equal_time), {})
            curves.setdefault(tokens, {})[window] = value
        elif protocol == SLIDING:
            scored = min(row.tokens_scored if row.tokens_scored > 0 else math.inf, row.prefix)
            growing = max(0.0, window / row.factor - row.stride - row.skipped)
            if growing <= GROWING_SHARE * scored and row.stride <= max(1, STRIDE_SHARE * length / row.factor):
                self._sliding.setdefault((method, length), {}).setdefault(tokens, {})[window] = value

    def lacks(self, what: str) -> float:
        """Adds this name to `missing`, and returns nan."""
        if what not in self.missing:
            self.missing.append(what)
        return math.nan

    def lengths(self, method: str) -> list[int]:
        """Training lengths of a method, in the paper's tokens."""
        of_numbers = {length for _, of, length in self._numbers if of == method}
        of_curves = {length for of, length, _ in self._curves if of == method}
        return sorted(int(length) for length in of_numbers | of_curves if not math.isnan(length))

    def number(self, metric: str, method: str, length: int, optional: bool = False) -> float:
        """A number of a method at an L, such as train_memory, on the method's fastest kernel."""
        found = self._numbers.get((metric, method, length), {})
        if found:
            return found[self._fastest(found, metric, method, length)]
        return math.nan if optional else self.lacks(f"{metric} of {method} at L = {length}")

    def _fastest(self, kernels: Iterable[str], metric: str, method: str, length: int) -> str:
        """The kernel on which the method trains or evaluates fastest, by the metric; the last of equal ones."""
        kind = "eval" if metric.startswith("eval") else "train"
        speed = self._numbers.get((f"{kind}_speed", method, length), {})
        return sorted(kernels, key=lambda kernel: speed.get(kernel, 0.0))[-1]

    def on_one_kernel(self, metric: str, method: str, length: int) -> tuple[float, float]:
        """A number of a method and of sinusoidal on one kernel: sinusoidal's fastest of those that both ran."""
        own, other = (self._numbers.get((metric, name, length), {}) for name in (method, "sinusoidal"))
        shared = [kernel for kernel in own if kernel in other]
        if not shared:
            missing = self.lacks(f"{metric} of {method} and sinusoidal on one kernel at L = {length}")
            return missing, missing
        kernel = self._fastest(shared, "train_speed", "sinusoidal", length)
        return own[kernel], other[kernel]

    def parameters(self, method: str) -> float:
        """Number of parameters of the method's model."""
        return self._parameters[method] if method in self._parameters else self.lacks(f"parameters of {method}")

    def curves(self, method: str, length: int, equal_time: bool = False) -> dict[Tokens, Curve]:
        """Perplexity by length of nonoverlapping windows, one curve for each choice of scored tokens."""
        return _sorted(self._curves.get((method, length, equal_time), {}))

    def sliding(self, method: str, length: int) -> dict[Tokens, Curve]:
        """The same in full sliding windows: every scored token has a window before it, minus at most the stride.

        The stride is at most an eighth of L. The largest choice of tokens comes first.
        """
        return _sorted(self._sliding.get((method, length), {}))

    def perplexity(
        self,
        method: str,
        length: int,
        window: float,
        sliding: bool = False,
        equal_time: bool = False,
        farthest: float = 0,
    ) -> float:
        """Perplexity on windows of `window` tokens, for a model trained at L = length.

        Between two measured windows at most a factor 1.5 apart, log perplexity is interpolated in log window: the
        paper's tables step by 100 and 1000 tokens from L. Our records have the exact windows. Nonoverlapping windows
        score the whole text; full sliding windows score the largest choice of tokens that has L and windows to this
        one, or to `farthest` if that is longer.
        """
        if sliding:
            end, curves = max(window, farthest), self.sliding(method, length).values()
            curve = next((curve for curve in curves if length in curve and max(curve) >= end), {})
        else:
            curve = self.curves(method, length, equal_time).get(WHOLE, {})
        below = max((w for w in curve if w <= window * (1 + 1e-9)), default=0)
        above = min((w for w in curve if w >= window * (1 - 1e-9)), default=math.inf)
        if above <= 1.5 * below:
            return math.exp(np.interp(math.log(window), np.log(list(curve)), np.log(list(curve.values()))))
        kind = " (sliding windows that are full)" if sliding else ""
        kind += " at equal training time" if equal_time else ""
        return self.lacks(f"perplexity of {method} trained at {length} on windows of {window:g}{kind}")

    def growth(self, method: str, length: int, multiple: float, sliding: bool = False) -> float:
        """Perplexity at multiple x L over perplexity at L, on the same tokens."""
        longer = self.perplexity(method, length, window := multiple * length, sliding)
        return longer / self.perplexity(method, length, length, sliding, farthest=window)

    def beyond(self, method: str, length: int, start: float, reach: float) -> Curve:
        """The measured curve from start x L on. It must go from L to reach x L in steps of at most a doubling.

        5 % less than reach is enough, because Table 3 ends at 15.6 L.
        """
        curve = {w: value for w, value in self.curves(method, length).get(WHOLE, {}).items() if w >= length}
        windows = [*curve]
        gaps = [after / before for before, after in pairwise(windows) if before < 0.95 * reach * length]
        if length not in curve or windows[-1] < 0.95 * reach * length or max(gaps) > 2.1:
            lacking = f"perplexity of {method} trained at {length} on windows of {length} to {reach * length:g}"
            return {math.nan: self.lacks(lacking)}
        return {window: value for window, value in curve.items() if window >= start * length}

    def same_tokens(self, method: str, length: int) -> tuple[Curve, Curve]:
        """Perplexity by window on the same tokens, in nonoverlapping and in full sliding windows.

        The windows were measured both ways on the largest choice of tokens, and include L and one of at least 2 L.
        Without these both curves are empty, and `missing` says so.
        """
        tokens = self._scored_both_ways(method, length)
        if tokens is None:
            self.lacks(f"perplexity of {method} trained at {length} on the same tokens by both protocols")
            return {}, {}
        plain, sliding = self.curves(method, length)[tokens], self.sliding(method, length)[tokens]
        windows = [window for window in plain if window in sliding]
        return {window: plain[window] for window in windows}, {window: sliding[window] for window in windows}

    def change(self, method: str, length: int, window: float, sliding: bool = True) -> Estimate:
        """Loss (nats a token) in windows of this length minus the loss of the same tokens in windows of L.

        It comes from the curves of `same_tokens`. The standard error of the token-by-token differences is over
        articles.
        """
        curve, tokens = self.same_tokens(method, length)[sliding], self._scored_both_ways(method, length)
        if tokens is None:
            return math.nan, math.nan
        if window not in curve:
            return self.lacks(f"perplexity of {method} trained at {length} on full windows of {window:g}"), math.nan
        errors = self._change_errors.get((method, length, sliding), {}).get(tokens, {})
        return math.log(curve[window] / curve[length]), errors.get(window, math.nan)

    def _scored_both_ways(self, method: str, length: int) -> Tokens | None:
        plain = self.curves(method, length)
        for tokens, curve in self.sliding(method, length).items():
            windows = curve.keys() & plain.get(tokens, {}).keys()
            if length in windows and max(windows) >= 2 * length:
                return tokens
        return None

    def against_itself(self, method: str, length: int) -> dict[tuple[float, float], Estimate]:
        """Loss in a long window minus the loss of the same tokens within L (nats a token), by first and last position.

        Positions are the paper's tokens, from 1, in ascending order. See `alibi.evaluate.AgainstItself`.
        """
        found = self._against_itself.get(("loss_against_itself", method, length), {})
        errors = self._against_itself.get(("loss_against_itself_standard_error", method, length), {})
        if not found:
            self.lacks(f"loss of {method} trained at {length} against itself")
        return {place: (found[place], errors.get(place, math.nan)) for place in sorted(found)}

    def past_length(self, method: str, length: int) -> Estimate:
        """The loss against itself of all tokens past L, to the end of the long window."""
        places = [place for place in self.against_itself(method, length) if place[0] == length + 1]
        return self.against_itself(method, length)[max(places)] if places else (math.nan, math.nan)

    def interpolated(self, method: str, length: int, window: float, kind: str) -> float:
        """Perplexity without overlap of a run trained at L, with slopes or angles rescaled for windows of this length.

        Kinds are those of `alibi.positions.interpolation`.
        """
        value = self._interpolated.get((method, length, kind), {}).get(window, math.nan)
        told = f"perplexity of {method} trained at {length} on windows of {window:g}, interpolated by {kind}"
        return self.lacks(told) if math.isnan(value) else value

    def truncated(self, method: str, length: int, window: float, seen: float) -> float:
        """Loss (nats) of the last tokens of windows of this length if attention reaches the last `seen` tokens only."""
        return self._read("loss_truncated", f"{TRUNCATED}attention", method, length, window, seen)[0]

    def truncated_change(self, method: str, length: int, window: float, seen: float, form: str) -> Estimate:
        """The truncated loss minus the loss of the same tokens when the whole window may be seen (nats).

        Forms are those of `alibi.measures.truncation`.
        """
        return self._read("loss_truncated_change", f"{TRUNCATED}{form}", method, length, window, seen)

    def repeated_change(self, method: str, length: int, window: float, seen: float, distance: float) -> Estimate:
        """Loss in windows of `seen` tokens minus the loss of the same tokens in windows of L (nats).

        These are the last tokens of windows of `window` tokens whose last occurrence is `distance` to twice `distance`
        tokens back; with distance 0, tokens that did not occur before.
        """
        return self._read("loss_repeated_change", REPEATS, method, length, window, seen, distance)

    def receptive_field(self, method: str, length: int, window: float) -> float:
        """Number of last tokens that have 0.99 of the gradient of the last loss, in windows of this length."""
        return self.factor * self._read("receptive_field", GRADIENT, method, length, window)[0]

    def _read(
        self, metric: str, protocol: str, method: str, length: int, window: float, seen: float = 0, distance: float = 0
    ) -> Estimate:
        place = seen, distance
        value, error = (
            self._reading.get((name, protocol, method, length, window), {}).get(place, math.nan)
            for name in (metric, f"{metric}_standard_error")
        )
        if math.isnan(value):
            of = f" of {seen:g} tokens" * (seen > 0) + f" at distance {distance:g}" * (protocol == REPEATS)
            self.lacks(f"{metric} ({protocol}) of {method} trained at {length} in windows of {window:g}{of}")
        return value, error

    def heads(self, metric: str, method: str, length: int, window: float) -> np.ndarray:
        """A number of each head's attention in windows of this length, [layers, heads], in the model's order.

        Metrics are those of protocol `attention`; distances are in the run's tokens. Without records the result is nan
        for one layer of two heads.
        """
        found = self._heads.get((metric, method, length, window), {})
        if not found:
            self.lacks(f"{metric} of {method} trained at {length} in windows of {window:g}")
        layers, heads = map(int, max(found, default=(1, 2)))
        return np.array([[found.get((i, j), math.nan) for j in range(1, heads + 1)] for i in range(1, layers + 1)])

    def answers_past(self, task: str, method: str, interpolation: str = "", distractors: int = 0) -> float:
        """Share of right answers in a retrieval task, mean over windows of 2, 4, 8 and 16 L.

        For copying, whose answers are half a window long, it is the share of right tokens. It is nan, and `missing`
        says so, if the method did not learn the task: at most `LEARNED` of its answers at L are right, without
        interpolation.

        Args:
            task: a name of `alibi.retrieval.tasks.TASKS`.
            method: position method.
            interpolation: kind of interpolation of its slopes or angles past L; empty leaves them.
            distractors: number of other pairs in a window.
        """
        metric = "token_accuracy" if task == COPYING else "exact_match"
        past = [self._answers(metric, task, method, multiple, interpolation, distractors) for multiple in PAST]
        return self._where_learned(task, method, distractors, float(np.mean(past)))

    def answers_in_first_half(self, task: str, method: str, multiple: float) -> float:
        """Share of right answers in the first half of windows of multiple x L, a mean over its parts of equal length.

        Nothing is interpolated. It is nan if the task was not learned, as in `answers_past`.
        """
        self._answers("exact_match", task, method, multiple)
        parts = self._retrieved.get(("exact_match", task, method, "", 0, multiple), {})
        half = [value for end, value in parts.items() if 0 < end <= 1 / 2]
        return self._where_learned(task, method, 0, float(np.mean(half)) if half else math.nan)

    def _answers(
        self, metric: str, task: str, method: str, multiple: float, interpolation: str = "", distractors: int = 0
    ) -> float:
        found = self._retrieved.get((metric, task, method, interpolation, distractors, multiple), {})
        if 0 in found:
            return found[0]
        how = f", interpolated by {interpolation}" if interpolation else ""
        among = f" among {distractors} distractors" if distractors else ""
        return self.lacks(f"{metric} of {method} in {task}{among} at {multiple:g} L{how}")

    def _where_learned(self, task: str, method: str, distractors: int, value: float) -> float:
        right = self._answers("exact_match", task, method, 1, distractors=distractors)
        if right <= LEARNED:
            return self.lacks(f"a model of {method} that learned {task}: at L {right:.2f} of its answers are right")
        return value

    def cache(self, length: int) -> float:
        """Lowest perplexity of the trigram with a cache of any size, counted on the training tokens of a run at L."""
        found = self._caches.get(length, {})
        return min(found.values()) if found else self.lacks(f"perplexity of trigram-cache beside runs at {length}")

    def time_ratio(
        self,
        kind: Literal["train", "eval"],
        method: str,
        length: int,
        one_kernel: bool = False,
        other: str = "sinusoidal",
    ) -> Estimate:
        """Time per token over another method's at the same L, each on its fastest kernel or both on the same.

        It is the ratio of neighbouring steps, with its standard error over repeats. If that was not measured, as in the
        paper, it is the ratio of the two speeds, whose error is not known.
        """
        metric = f"{kind}_time_ratio" + ("_on_one_kernel" if one_kernel else "")
        ratios, errors = (self._numbers.get((f"{metric}{end}", method, length), {}) for end in ("", "_standard_error"))
        if ratios:
            kernel = self._fastest(ratios, metric, other if one_kernel else method, length)
            return ratios[kernel], errors.get(kernel, math.nan)
        speed = f"{kind}_speed"
        if one_kernel:
            own, others = self.on_one_kernel(speed, method, length)
        else:
            own, others = (self.number(speed, name, length) for name in (method, other))
        return others / own, math.nan

    def cost(self, method: str, length: int) -> float:
        """Training time for a fixed number of tokens, in units that cancel in a ratio."""
        hours = self.number("train_time", method, length, optional=True)
        updates = self.number("updates", method, length, optional=True)
        if not math.isnan(hours / updates):
            return hours / updates
        return 1 / self.number("train_speed", method, length)


def _sorted(curves: dict[Tokens, Curve]) -> dict[Tokens, Curve]:
    def size(tokens: Tokens) -> Tokens:
        prefix, skipped, sample = tokens
        return prefix, -skipped, sample

    return {tokens: dict(sorted(curves[tokens].items())) for tokens in sorted(curves, key=size, reverse=True)}

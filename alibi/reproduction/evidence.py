"""Records as evidence: what one seed gave at one scale, asked in the paper's lengths."""

import math
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from alibi.records import MEASURED_COLUMNS
from alibi.reproduction.experiments import TABLES

COUNTED_SCALES = ("paper", "gpu", "laptop")
"""Scales that count, the largest first."""
Curve = dict[float, float]
"""Perplexity by window, in ascending order."""
Scored = tuple[float, float, float]
"""Which tokens of a split: how many were skipped at its start, its prefix, and the size of the sample."""
Estimate = tuple[float, float]
"""A number and its standard error over articles; nan where it is not known."""
# fmt: off
SAMPLE_COLUMNS = [
    "method", "paper_length", "metric", "value", "protocol", "stride", "paper_eval_length", "prefix", "equal_time",
    "parameters", "skipped", "sample", "first_position", "last_position",
]
# fmt: on


def as_records(paper: pd.DataFrame) -> pd.DataFrame:
    """The paper's numbers as records of scale paper, one seed, sources named as the experiments are."""
    experiment = {table: name for name, tables in TABLES.items() for table in tables}
    # Where a number is both printed and read off a figure, the printed one comes last, and the last counts.
    ordered = paper.sort_values("provenance", kind="stable")
    return ordered.assign(
        source=ordered["source"].map(experiment),
        scale="paper",
        seed=1,
        corpus_used=ordered["corpus"],
        paper_length=ordered["train_length"],
    ).reindex(columns=MEASURED_COLUMNS)


def evidence(records: pd.DataFrame) -> pd.DataFrame:
    """The records that count (not of scale quick, validation split), in the columns that statistics use.

    New is paper_eval_length, L_valid in the paper's tokens, as the positions are; prefix is infinite where all of the
    text was read, sample where all of that was scored.
    """

    def text(column: str, missing: str = "") -> pd.Series:
        return records[column].astype(object).where(records[column].notna(), missing).astype(str)

    def number(column: str) -> pd.Series:
        return pd.to_numeric(records[column]).astype("float64")

    def truth(column: str) -> pd.Series:
        return records[column].astype("boolean").fillna(False).astype(bool)

    length = number("paper_length").fillna(number("train_length"))
    stands_for = length / number("train_length")
    joined = records.assign(
        source=text("source"),
        paper_length=length,
        paper_eval_length=number("eval_length") * stands_for,
        first_position=(number("first_position") - 1) * stands_for + 1,
        last_position=number("last_position") * stands_for,
        prefix=number("prefix").fillna(math.inf),
        skipped=number("skipped").fillna(0),
        sample=number("sample").fillna(math.inf),
        stride=number("stride"),
        value=number("value"),
        parameters=number("parameters"),
        equal_time=truth("equal_time"),
        seed=number("seed").fillna(0),
        model=text("model"),
        corpus_used=text("corpus_used"),
        device=text("device"),
    )
    # Smoke runs mean nothing; Figure 5 is perplexity in the middle of training.
    meaningless = truth("smoke") | records["gpu_hours"].notna()
    counts = (
        text("scale").isin(COUNTED_SCALES) & text("split", "valid").eq("valid") & joined["value"].notna() & ~meaningless
    )
    return joined.loc[counts, ["source", "scale", "seed", "corpus", "corpus_used", "model", "device", *SAMPLE_COLUMNS]]


class Sample:
    """What one seed gave at one scale on one corpus. A number that is not there is nan, and its name is kept."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.missing: list[str] = []
        self._numbers: dict[tuple[str, str, float], float] = {}
        self._parameters: dict[str, float] = {}
        self._curves: dict[tuple[str, float, float | None, bool], dict[float, Curve]] = {}
        self._scored: dict[tuple[str, str, float, float | None], dict[Scored, Curve]] = {}
        self._against_itself: dict[tuple[str, str, float], dict[tuple[float, float], float]] = {}
        columns = [rows[column].tolist() for column in SAMPLE_COLUMNS]
        # Of two records of the same number the last counts.
        for (
            method, length, metric, value, protocol, stride, window, prefix, equal_time, parameters,
            skipped, sample, first, last,
        ) in zip(*columns, strict=True):  # fmt: skip
            self._numbers[metric, method, length] = value
            if not math.isnan(parameters):
                self._parameters[method] = parameters
            if protocol == "against_itself":
                self._against_itself.setdefault((metric, method, length), {})[first, last] = value
                continue
            new = None if protocol == "nonoverlapping" else stride
            if metric == "perplexity" and not skipped and math.isinf(sample):
                kind = method, length, new, equal_time
                self._curves.setdefault(kind, {}).setdefault(prefix, {})[window] = value
            if math.isnan(first) and not equal_time:
                scored = self._scored.setdefault((metric, method, length, new), {})
                scored.setdefault((skipped, prefix, sample), {})[window] = value

    def lacks(self, what: str) -> float:
        """nan, and what is missing goes on the list."""
        if what not in self.missing:
            self.missing.append(what)
        return math.nan

    def lengths(self, method: str) -> list[int]:
        """Training lengths of a method, the paper's."""
        return sorted({int(length) for _, of, length in self._numbers if of == method and not math.isnan(length)})

    def number(self, metric: str, method: str, length: int, optional: bool = False) -> float:
        """A number that belongs to a method and an L, such as train_speed."""
        found = self._numbers.get((metric, method, length), math.nan)
        return self.lacks(f"{metric} of {method} at L = {length}") if math.isnan(found) and not optional else found

    def ratio(
        self, metric: str, length: int, other_length: int = 0, method: str = "alibi", other: str = "sinusoidal"
    ) -> float:
        """Such a number of one method at L over that of another at L, or at the length given."""
        return self.number(metric, method, length) / self.number(metric, other, other_length or length)

    def memory(self, method: str, length: int) -> float:
        """GB at most in use while training."""
        return self.number("train_memory", method, length)

    def parameters(self, method: str) -> float:
        """How many parameters the method's model has."""
        return self._parameters[method] if method in self._parameters else self.lacks(f"parameters of {method}")

    def curves(
        self, method: str, length: int, stride: int | None = None, equal_time: bool = False
    ) -> dict[float, Curve]:
        """Perplexity by window, one curve for each prefix of the text that was read, the longest first.

        Without a stride the windows do not overlap.
        """
        found = self._curves.get((method, length, stride, equal_time), {})
        return {prefix: dict(sorted(found[prefix].items())) for prefix in sorted(found, reverse=True)}

    def perplexity(
        self, method: str, length: int, window: float, stride: int | None = None, equal_time: bool = False
    ) -> float:
        """Perplexity of a model trained at L = length on windows of this many tokens.

        Between two measured windows at most a factor 1.5 apart, log perplexity is interpolated in log window: the
        paper's tables step by 100 and 1000 tokens from L. Our records have the windows themselves. Under a sliding
        window, of several prefixes the longest that has L and a window past it counts.
        """
        curves = self.curves(method, length, stride, equal_time)
        if stride is None:
            curve = curves.get(math.inf, {})
        else:
            curve = next((c for c in curves.values() if length in c and max(c) > length), {})
        below = max((w for w in curve if w <= window * (1 + 1e-9)), default=0)
        above = min((w for w in curve if w >= window * (1 - 1e-9)), default=math.inf)
        if above <= 1.5 * below:
            return math.exp(np.interp(math.log(window), np.log(list(curve)), np.log(list(curve.values()))))
        kind = "" if stride is None else f" (sliding window, stride {stride})"
        kind += " at equal training time" if equal_time else ""
        return self.lacks(f"perplexity of {method} trained at {length} on windows of {window:g}{kind}")

    def same_tokens(self, method: str, length: int) -> tuple[Curve, Curve]:
        """Perplexity by window on the same tokens: in windows that don't overlap, and in sliding ones.

        Windows are those measured both ways. They must include L and one of 2 L or more. Of several strides the
        smallest counts, then the most tokens skipped, so that windows are full. The paper's records and those of
        before skip none. A note is made, and both curves are empty, if no tokens were scored both ways.
        """
        found = self._scored_both_ways(method, length)
        if found is None:
            self.lacks(f"perplexity of {method} trained at {length} on the same tokens by both protocols")
            return {}, {}
        stride, scored, windows = found
        plain, sliding = (self._scored["perplexity", method, length, new][scored] for new in (None, stride))
        return {window: plain[window] for window in windows}, {window: sliding[window] for window in windows}

    def change(self, method: str, length: int, window: float, sliding: bool = True) -> Estimate:
        """Loss (nats a token) in windows of this length less that of the same tokens in windows of L.

        From the curves of `same_tokens`. The standard error is over articles, of differences token by token.
        """
        curve = self.same_tokens(method, length)[sliding]
        found = self._scored_both_ways(method, length)
        if found is None:
            return math.nan, math.nan
        stride, scored, windows = found
        if window not in windows:
            return self.lacks(f"perplexity of {method} trained at {length} on full windows of {window:g}"), math.nan
        errors = self._scored.get(("loss_change_standard_error", method, length, stride if sliding else None), {})
        return math.log(curve[window] / curve[length]), errors.get(scored, {}).get(window, math.nan)

    def _scored_both_ways(self, method: str, length: int) -> tuple[float, Scored, list[float]] | None:
        """Stride, what was scored, and the windows that were measured without overlap and at this stride."""
        kinds = [kind for kind in self._scored if kind[:3] == ("perplexity", method, length)]
        plain = self._scored.get(("perplexity", method, length, None), {})
        for stride in sorted(kind[3] for kind in kinds if kind[3] is not None):
            sliding = self._scored["perplexity", method, length, stride]
            for scored in sorted(sliding.keys() & plain.keys(), reverse=True):
                windows = sorted(sliding[scored].keys() & plain[scored].keys())
                if length in windows and windows[-1] >= 2 * length:
                    return stride, scored, windows
        return None

    def against_itself(self, method: str, length: int) -> dict[tuple[float, float], Estimate]:
        """Loss in a long window less that of the same tokens within L (nats a token), by first and last position.

        Positions are the paper's tokens, from 1, in ascending order. See `alibi.evaluate.AgainstItself`.
        """
        found = self._against_itself.get(("loss_against_itself", method, length), {})
        errors = self._against_itself.get(("loss_against_itself_standard_error", method, length), {})
        if not found:
            self.lacks(f"loss of {method} trained at {length} against itself")
        return {place: (found[place], errors.get(place, math.nan)) for place in sorted(found)}

    def growth(self, method: str, length: int, multiple: float, stride: int | None = None) -> float:
        """Perplexity at multiple x L over perplexity at L."""
        longer = self.perplexity(method, length, multiple * length, stride)
        return longer / self.perplexity(method, length, length, stride)

    def beyond(self, method: str, length: int, start: float, reach: float) -> Curve:
        """The measured curve from start x L on: from L to reach x L it must leave out no more than a doubling.

        Five per cent less than reach will do, because Table 3 ends at 15.6 L.
        """
        curve = {w: value for w, value in self.curves(method, length).get(math.inf, {}).items() if w >= length}
        windows = [*curve]
        gaps = [after / before for before, after in pairwise(windows) if before < 0.95 * reach * length]
        if length not in curve or windows[-1] < 0.95 * reach * length or max(gaps) > 2.1:
            lacking = f"perplexity of {method} trained at {length} on windows of {length} to {reach * length:g}"
            return {math.nan: self.lacks(lacking)}
        return {window: value for window, value in curve.items() if window >= start * length}

    def time_ratio(self, kind: Literal["train", "eval"], method: str, length: int) -> float:
        """Time per token over sinusoidal's at the same L: measured side by side, else from the two speeds."""
        side_by_side = self.number(f"{kind}_time_ratio", method, length, optional=True)
        if not math.isnan(side_by_side):
            return side_by_side
        return self.number(f"{kind}_speed", "sinusoidal", length) / self.number(f"{kind}_speed", method, length)

    def cost(self, method: str, length: int) -> float:
        """Training time for a fixed number of tokens, in units that cancel in a ratio."""
        hours = self.number("train_time", method, length, optional=True)
        updates = self.number("updates", method, length, optional=True)
        if not math.isnan(hours / updates):
            return hours / updates
        return 1 / self.number("train_speed", method, length)

"""Equality with the official code: `verify` computes its results again and compares them, quantity by quantity.

The quantities of a folder of official vectors (`alibi.official.vectors`) are the dictionary, token streams and windows,
parameter counts, slopes and bias, perplexities in every mode of evaluation, log-probabilities, residual streams, the
training criterion, three training steps, the learning rates, the optimiser's trace and the sinusoid.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alibi.corpora.vocabulary import WordVocabulary
from alibi.evaluate import evaluate
from alibi.model import Decoder, unmade
from alibi.official.rounding import DEVIATIONS, UNIT_ROUNDOFF, Quantities, bounds, relative_error
from alibi.official.vectors import Vectors, VectorsError, by_official_name
from alibi.optim import NAG, cosine_restarts
from alibi.positions import LinearBias, slopes
from alibi.positions.sinusoidal import FIRST_ROW, sinusoid
from alibi.scale import paper_model
from alibi.windows import evaluation_windows, shift

PADDING = 1
# fairseq's count for transformer_lm_wiki103 on WikiText-103 (its README on layer dropout).
PAPER_PARAMETERS = 246_933_504


@dataclass(frozen=True)
class Check:
    """One quantity: its difference from the official one, and the tolerance."""

    quantity: str
    difference: float
    """Difference of the entry that came nearest to its tolerance; absolute, or relative if the quantity's name says
    so."""
    tolerance: float
    """Zero for counts, else derived from the quantity's rounding error; see the place where it is set."""

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN fails."""
        return self.difference <= self.tolerance

    @property
    def share(self) -> float:
        """The difference as a share of the tolerance; NaN if the tolerance is zero."""
        return self.difference / self.tolerance if self.tolerance else math.nan


def _largest(differences: Any) -> float:
    values = torch.as_tensor(differences, dtype=torch.float64).abs()
    return float(values.max()) if values.numel() else math.nan


def _unequal(found: Any, expected: Any) -> float:
    """Number of entries that differ; all entries if the shapes differ."""
    first, second = np.asarray(found), np.asarray(expected)
    return float((first != second).sum()) if first.shape == second.shape else float(max(first.size, second.size))


def _nearest(quantity: str, found: Quantities, expected: Quantities, tolerances: Mapping[str, float]) -> Check:
    """The check of the entry that comes nearest to its tolerance."""
    if found.keys() != expected.keys():
        raise VectorsError(f"{quantity}: the vectors and the model differ in {sorted(found.keys() ^ expected.keys())}")
    checks = [Check(quantity, _largest(found[name] - expected[name]), tolerances[name]) for name in expected]
    return max(checks, key=lambda check: math.inf if math.isnan(check.difference) else check.share)


def _summands(vectors: Vectors) -> int:
    """Products in the longest sum of a pass: over width, window, a step's tokens, or a softmax with its bands."""
    options = vectors.options
    edges = [0, *vectors.cutoffs, len(vectors.config["dictionary"]["symbols"])]
    windows = [entry["length"] for entries in vectors.reference["evaluation"].values() for entry in entries]
    steps = [step["sample_size"] for step in vectors.reference["training_steps"]["steps"]]
    classes = max(high - low for low, high in pairwise(edges)) + len(edges) - 2
    return int(max(options["decoder_embed_dim"], options["decoder_ffn_embed_dim"], *windows, *steps, classes))


def _row_error(vectors: Vectors) -> float:
    """Relative error of the official bias row, which is float32 even in float64 runs; 0 if slopes are powers of two."""
    row_HS = vectors.tensors("alibi.safetensors")["bias_row"].double()
    heads, keys = row_HS.shape
    exact_HS = torch.tensor(slopes(heads), dtype=torch.float64)[:, None] * torch.arange(keys)
    return _largest(row_HS[:, 1:] / exact_HS[:, 1:] - 1)


def _bounds(vectors: Vectors, dtype: torch.dtype, quantities: Callable[[Decoder], Quantities]) -> dict[str, float]:
    """The largest difference that rounding explains in this dtype (`alibi.official.rounding`)."""
    error = relative_error(_summands(vectors), dtype)
    return bounds(lambda: vectors.model(torch.float64), quantities, error, _row_error(vectors))


def dictionary(vectors: Vectors) -> Iterator[Check]:
    """Entries, their order, padding and counts, from the training text."""
    found, expected = WordVocabulary.train(vectors.lines("train")), vectors.config["dictionary"]
    specials = len(WordVocabulary.SPECIAL)
    yield Check("dictionary: entries that differ", _unequal(found.symbols, expected["symbols"]), 0)
    yield Check("dictionary: counts that differ", _unequal(found.counts, expected["counts"][specials:]), 0)


def streams(vectors: Vectors) -> Iterator[Check]:
    """The ids and line ends of every split."""
    vocabulary = WordVocabulary.train(vectors.lines("train"))
    for split in ("train", "valid", "test"):
        ids = vocabulary.encode_lines(vectors.lines(split))
        ends = np.flatnonzero(ids == vocabulary.end_of_line)
        differing = _unequal(ids, vectors.stream(split))
        differing += _unequal(np.diff(ends, prepend=-1), vectors.tokens[f"{split}.line_lengths"])
        yield Check(f"stream {split}: ids and lines that differ", differing, 0)


def windows(vectors: Vectors) -> Iterator[Check]:
    """Sources and scored targets of every stored window, laid out as the official loader does."""
    differing: dict[str, float] = {}
    for name in vectors.tokens:
        if not (parsed := re.fullmatch(r"(\w+)\.(\w+)\.l(\d+)\.source", name)):
            continue
        split, mode, length = parsed[1], parsed[2], int(parsed[3])
        stride = {_named(entry): entry["stride"] for entry in vectors.reference["evaluation"][split]}[mode, length]
        grid = list(evaluation_windows(len(vectors.stream(split)), length, stride))
        stem = name.removesuffix(".source")
        stored = vectors.tokens.get(f"{stem}.index", torch.arange(len(grid)))
        shifted = shift(vectors.stream(split), vectors.end_of_line)
        sources, targets = np.full((2, len(stored), length), PADDING)
        for row, window in enumerate(grid[int(number)] for number in stored):
            size, context = window.end - window.start, window.scored - window.start
            sources[row, :size] = shifted[window.start : window.end]
            targets[row, context:size] = shifted[window.scored + 1 : window.end + 1]
        found = _unequal(sources, vectors.tokens[name]) + _unequal(targets, vectors.tokens[f"{stem}.target"])
        differing[mode] = differing.get(mode, 0) + found
    for mode, count in differing.items():
        yield Check(f"windows {mode}: ids that differ", count, 0)


def _named(entry: Mapping[str, Any]) -> tuple[str, int]:
    return entry["mode"], entry["length"]


def parameters(vectors: Vectors) -> Iterator[Check]:
    """Parameter counts (tied ones once), and equality in the official weights of the tensors that we tie."""
    count = vectors.model().parameter_count()
    yield Check("parameters: difference in number", abs(count - vectors.config["derived"]["parameters"]), 0)
    paper = unmade(paper_model("247M")).parameter_count()
    yield Check(f"parameters of the 247M model, {paper:,}", abs(paper - PAPER_PARAMETERS), 0)
    stored = vectors.tensors("weights.safetensors")
    tied = [_unequal(stored[first], stored[second]) for first, second in vectors.config["tied_parameters"]]
    yield Check("tied tensors: entries that differ", sum(tied), 0)


def bias(vectors: Vectors) -> Iterator[Check]:
    """Slopes, and attention with our relative bias and with the official absolute row."""
    stored = vectors.tensors("alibi.safetensors")
    row_HS = stored["bias_row"].double()
    heads, keys = row_HS.shape
    linear, at = LinearBias(torch.tensor(slopes(heads), dtype=torch.float64)), torch.arange(keys)
    slopes_H = -linear.dense(at[1:2], at[:1])[:, 0, 0]
    # The official slopes are rounded to float32 once; powers of the first one are rounded again.
    yield Check("slopes, relative", _largest(slopes_H / stored["slopes"] - 1), 2**-23)
    future_TS = at[:, None] < at
    scores_HTS = torch.randn(heads, keys, keys, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, theirs = (
        (scores_HTS + added).masked_fill(future_TS, -math.inf).softmax(-1)
        for added in (linear.dense(at, at, torch.float64), row_HS[:, None])
    )
    # Their row is float32: its rounding is the tolerance, zero if slopes are powers of two.
    yield Check("attention weights under the bias", _largest(ours - theirs), float(row_HS.max()) * 2**-23)


def perplexities(vectors: Vectors, dtype: torch.dtype = torch.float64) -> Iterator[Check]:
    """Perplexity of the validation and test split in every stored mode and length, relative."""
    model, differences, uncounted = vectors.model(dtype), dict[str, list[float]](), 0
    stored = {torch.float64: "perplexity_float64_model", torch.float32: "perplexity"}[dtype]
    for split, entries in vectors.reference["evaluation"].items():
        for entry in entries:
            stride = None if entry["context_window"] == 0 else entry["stride"]
            found = evaluate(model, vectors.split(split), vectors.end_of_line, entry["length"], stride)
            uncounted += abs(found.tokens - entry["tokens"])
            differences.setdefault(entry["mode"], []).append(found.perplexity / entry[stored] - 1)
    label = str(dtype).removeprefix("torch.")
    yield Check(f"tokens scored, {label}: difference in number", uncounted, 0)
    tolerance = _loss_bounds(vectors, dtype)["mean"]
    for mode, values in differences.items():
        yield Check(f"perplexity {mode}, {label}, relative", _largest(values), tolerance)


def _loss_bounds(vectors: Vectors, dtype: torch.dtype) -> dict[str, float]:
    """Bounds on the difference from the official loss, in nats: for a "token", and for the "mean" of a split.

    Perplexity is the exponential of the mean, so the bound of the mean is the relative bound of perplexity.
    """
    entries = [e for e in vectors.reference["evaluation"]["valid"] if e["mode"] == "nonoverlapping"]
    entry = max(entries, key=lambda entry: entry["length"])

    @torch.no_grad()
    def losses(model: Decoder) -> Quantities:
        losses_N = _losses(model, vectors, "valid", entry["length"], 0, 0, entry["tokens"])
        return {"token": losses_N, "mean": losses_N.mean()}

    found = _bounds(vectors, dtype, losses)
    # Losses are summed in float64 in either dtype.
    summing = DEVIATIONS * relative_error(entry["tokens"], torch.float64)
    return found | {"mean": found["mean"] + summing * math.log(entry["perplexity"])}


def _losses(model: Decoder, vectors: Vectors, split: str, length: int, context: int, first: int, count: int) -> Tensor:
    """-ln p of `count` targets, beginning with window `first` of the grid."""
    shifted, losses = torch.from_numpy(shift(vectors.stream(split), vectors.end_of_line)), list[Tensor]()
    for window in list(evaluation_windows(len(shifted) - 1, length, length - context))[first:]:
        taken = shifted[None, window.start : window.end + 1]
        losses.append(model.negative_log_likelihood(taken[:, :-1], taken[:, 1:], window.scored - window.start)[0])
        if sum(map(len, losses)) >= count:
            break
    return torch.cat(losses)[:count].double()


@torch.no_grad()
def log_probabilities(vectors: Vectors) -> Iterator[Check]:
    """Log-probabilities of single targets and the whole vocabulary, and every layer's residual stream, in float32."""
    model, differences = vectors.model(), []
    for entry in vectors.reference["per_token"].values():
        expected = torch.tensor(entry["logprob"], dtype=torch.float64)
        where = entry["split"], entry["length"], entry["context_window"], entry.get("block", 0)
        differences.append(_largest(_losses(model, vectors, *where, count=len(expected)) + expected))
    yield Check("log-probability of a token", _largest(differences), _loss_bounds(vectors, torch.float32)["token"])
    stored = vectors.tensors("logprobs.safetensors")
    found = _whole_outputs(model, vectors, stored)
    tolerances = _bounds(vectors, torch.float32, lambda exact: _whole_outputs(exact, vectors, stored))
    for kind, quantity in (
        ("log_softmax", "log-probability of every entry"),
        ("hidden", "residual stream of every layer"),
    ):
        chosen = {name: values for name, values in found.items() if name.endswith(kind)}
        yield _nearest(quantity, chosen, {name: stored[name] for name in chosen}, tolerances)


@torch.no_grad()
def _whole_outputs(model: Decoder, vectors: Vectors, names: Iterable[str]) -> Quantities:
    """Residual streams or all log-probabilities of one block, for each of these names of logprobs.safetensors."""
    found, streams_found = Quantities(), list[Tensor]()
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: streams_found.append(output[0]))
        for module in (model.embedding, *model.layers)
    ]
    for name in names:
        parsed = re.fullmatch(r"(\w+)\.nonoverlapping\.l(\d+)\.block(\d+)\.(hidden|log_softmax)", name)
        if parsed is None:
            raise VectorsError(f"{vectors.folder}: unknown entry {name!r} of logprobs.safetensors")
        length, block = int(parsed[2]), int(parsed[3])
        sources = shift(vectors.stream(parsed[1]), vectors.end_of_line)[block * length : (block + 1) * length]
        streams_found.clear()
        out_NC = model(torch.from_numpy(sources)[None])[0]
        hidden = parsed[4] == "hidden"
        found[name] = torch.stack(streams_found) if hidden else model.embedding.log_probabilities(out_NC)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def criterion(vectors: Vectors) -> Iterator[Check]:
    """The official training loss with its tail gap, and our loss without it, in float64; relative."""
    model, with_gap, counts, without_gap, smallest = vectors.model(torch.float64), [], 0.0, [], math.inf
    evaluated = vectors.reference["evaluation"]
    for entry in vectors.reference["criterion_adaptive_loss"]:
        split, length = entry["split"], entry["length"]
        shifted = torch.from_numpy(shift(vectors.stream(split), vectors.end_of_line))
        blocks, plain = list[float](), 0.0
        for window in evaluation_windows(len(shifted) - 1, length):
            taken = shifted[None, window.start : window.end + 1]
            hidden_NC, targets_N = model(taken[:, :-1])[0], taken[0, 1:]
            blocks.append(float(model.embedding.negative_log_likelihood(hidden_NC, targets_N, True).sum()))
            plain += float(model.embedding.negative_log_likelihood(hidden_NC, targets_N).sum())
        stored = [entry["loss_nats_float64_model"], *entry["per_block_first8"]]
        smallest = min(smallest, *(loss / length for loss in entry["per_block_first8"]))
        with_gap += [found / expected - 1 for found, expected in zip([sum(blocks), *blocks], stored, strict=False)]
        gaps = sum(int((shifted[1:] == edge + 1).sum()) for edge in vectors.cutoffs)
        counts += abs(gaps - entry["targets_without_tail_term"])
        same = [e for e in evaluated.get(split, []) if _named(e) == ("nonoverlapping", length)]
        without_gap += [plain / e["loss_nats_float64_model"] - 1 for e in same]
    # The losses of a block and of the whole split are means over tokens; the bound holds for each token.
    tolerance = _loss_bounds(vectors, torch.float64)["token"] / smallest
    yield Check("training loss with the official gap, relative", _largest(with_gap), tolerance)
    yield Check("targets in the gap: difference in number", counts, 0)
    yield Check("training loss without the gap = evaluation, relative", _largest(without_gap), tolerance)


def training(vectors: Vectors) -> Iterator[Check]:
    """The three training steps: losses, gradient norms before clipping, parameter norms after each step."""
    stored: dict[str, list[float]] = {}
    for step in vectors.reference["training_steps"]["steps"]:
        norms, sizes = step["grad_norm_per_parameter_before_clip"], step["parameter_norm_after"]
        values = {"loss": step["loss_sum_nats"], "gradient norm": step["grad_norm_before_clip"]}
        values |= {f"gradient norm of {name}": norm for name, norm in norms.items()}
        values |= {f"norm of {name}": size for name, size in sizes.items()}
        for name, value in values.items():
            stored.setdefault(name, []).append(value)
    expected = {name: torch.tensor(values, dtype=torch.float64) for name, values in stored.items()}
    found = _three_steps(vectors.model(), vectors)
    tolerances = _bounds(vectors, torch.float32, lambda exact: _three_steps(exact, vectors))
    # Each of these is itself a sum of losses or of squares.
    summing = DEVIATIONS * relative_error(_summands(vectors), torch.float32)
    tolerances = {name: tolerances[name] + summing * float(found[name].max()) for name in found}
    for quantity, pattern in {
        "loss": "loss",
        "gradient norm": "gradient norm",
        "gradient norm of a parameter": "gradient norm of .*",
        "parameter norms after": "norm of .*",
    }.items():
        ours, theirs = ({n: v for n, v in some.items() if re.fullmatch(pattern, n)} for some in (found, expected))
        yield _nearest(f"training steps: {quantity}", ours, theirs, tolerances)


def _three_steps(model: Decoder, vectors: Vectors) -> Quantities:
    """The quantities that the official training stored, one entry a step; norms are summed in float64."""
    optimizer, length = NAG(model.train().parameters(), lr=1.0), vectors.options["tokens_per_sample"]
    clip = float(re.findall(r"--clip-norm (\S+)", vectors.config["training_flags"])[0])
    shifted = torch.from_numpy(shift(vectors.stream("train"), vectors.end_of_line))
    found: dict[str, list[float]] = {}
    for step in vectors.reference["training_steps"]["steps"]:
        first, last = step["blocks"]
        starts = length * torch.arange(first, last)[:, None]
        taken = shifted[starts + torch.arange(length + 1)]
        loss = model.negative_log_likelihood(taken[:, :-1], taken[:, 1:], official_tail_gap=True).sum()
        optimizer.zero_grad()
        (loss / step["sample_size"]).backward()
        gradients = by_official_name(model, lambda p: p.grad)  # type: ignore[arg-type, return-value]
        values = {f"gradient norm of {name}": float(g.double().norm()) for name, g in gradients.items()}
        values |= {"loss": loss.item(), "gradient norm": float(nn.utils.clip_grad_norm_(model.parameters(), clip))}
        optimizer.param_groups[0]["lr"] = step["lr"]
        optimizer.step()
        values |= {f"norm of {name}": float(p.double().norm()) for name, p in by_official_name(model).items()}
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}


def schedule(vectors: Vectors) -> Iterator[Check]:
    """The learning rates of the paper's flags and of shorter schedules that restart."""
    differences = []
    for name, stored in vectors.json("optimizer.json").items():
        if not name.startswith("cosine"):
            continue
        flags = stored["flags"]
        optimizer = NAG([nn.Parameter(torch.zeros(1))], lr=1.0)
        rates = cosine_restarts(
            optimizer,
            warmup_updates=flags["warmup_updates"],
            warmup_init_lr=flags["warmup_init_lr"],
            lr=flags["lr"],
            min_lr=flags["min_lr"],
            period=flags["lr_period_updates"],
            t_mult=flags["t_mult"],
            shrink=flags["lr_shrink"],
        ).lr_lambdas[0]
        differences += [rates(updates) - expected for updates, expected in stored["lr"]]
    # A rate is at most 1 and takes eight float64 operations, one of them on the cosine's argument of up to pi.
    yield Check("learning rate", _largest(differences), 16 * UNIT_ROUNDOFF[torch.float64])


def momentum(vectors: Vectors) -> Iterator[Check]:
    """The optimiser's parameters and buffers over steps of constant and of varying rates."""
    stored, differences = vectors.json("optimizer.json")["nag"], []
    for trace in (value for value in stored.values() if isinstance(value, dict)):
        parameter = nn.Parameter(torch.tensor(stored["initial"]))
        optimizer = NAG([parameter], lr=1.0, momentum=trace["momentum"], weight_decay=trace["weight_decay"])
        for step, gradient in zip(trace["steps"], stored["gradients"], strict=True):
            parameter.grad = torch.tensor(gradient)
            optimizer.param_groups[0]["lr"] = step["lr"]
            optimizer.step()
            buffer = optimizer.state[parameter]["momentum_buffer"]
            for found, expected in ((parameter.data, step["parameter"]), (buffer, step["momentum_buffer"])):
                size = max(1.0, _largest(expected))
                differences.append(_largest((found - torch.tensor(expected)) / size))
    # A step rounds each parameter three times and its buffer twice, on both sides.
    roundings = 2 * 5 * len(stored["gradients"])
    yield Check("Nesterov's trace, relative", _largest(differences), roundings * UNIT_ROUNDOFF[torch.float32])


def sinusoids(vectors: Vectors) -> Iterator[Check]:
    """fairseq's sinusoid: its rows, the row of a position, and positions among padding."""
    differences, rows_seen = [], 1
    for name, expected in vectors.tensors("sinusoidal.safetensors").items():
        if parsed := re.fullmatch(r"d(\d+)\.(positions|raw_rows)_(\d+)_(\d+)", name):
            rows = torch.arange(int(parsed[3]), int(parsed[4]) + 1)
            found = sinusoid(rows + (FIRST_ROW if parsed[2] == "positions" else 0), expected.shape[1])
            if parsed[2] == "raw_rows":
                found[PADDING] = 0
            rows_seen = max(rows_seen, len(rows))
        elif name.endswith(".with_padding.output"):
            tokens_BT = vectors.tensors("sinusoidal.safetensors")[name.replace("output", "tokens")]
            seen_BT = tokens_BT != PADDING
            found = torch.stack([sinusoid(row.cumsum(0) - 1 + FIRST_ROW, expected.shape[-1]) for row in seen_BT])
            found = found * seen_BT[..., None]
        else:
            continue
        differences.append(_largest(found - expected))
    # The official angles are float32, so their error grows with the row; ours are float64.
    yield Check("sinusoid", _largest(differences), rows_seen * 2**-23)


GROUPS: tuple[Callable[[Vectors], Iterator[Check]], ...] = (
    dictionary,
    streams,
    windows,
    parameters,
    bias,
    perplexities,
    lambda vectors: perplexities(vectors, torch.float32),
    log_probabilities,
    criterion,
    training,
    schedule,
    momentum,
    sinusoids,
)


def verify(folder: Path) -> Iterator[Check]:
    """All checks of a folder of official vectors, one after the other.

    Raises:
        VectorsError: if the folder lacks a part of the layout.
    """
    try:
        vectors = Vectors(folder)
        for group in GROUPS:
            yield from group(vectors)
    except KeyError as missing:
        raise VectorsError(f"{folder} lacks the entry {missing}: it is not in the layout of the vectors") from missing

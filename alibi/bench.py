"""Speed and memory of training steps: ours, method against method, and against other libraries, in one process.

Steps of all contestants take turns, so that what else the machine does falls on all of them; medians are compared, and
a ratio is the median of the ratios of neighbouring steps. Each method runs on the attention kernel that is its fastest
for the shape, which the table names.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from alibi.configuration import TrainConfig
from alibi.corpus import Corpus, Split
from alibi.device import compute_dtype, computing, matmul_rate, settle_cpu
from alibi.model import ModelConfig
from alibi.records import provenance
from alibi.train import Training

Step = Callable[[], object]
CPU_KERNELS, GPU_KERNELS = ("baddbmm", "sdpa", "columns"), ("sdpa", "columns", "flex")


class BenchError(RuntimeError):
    """What was asked for can't be measured here."""


@dataclass(frozen=True)
class Shape:
    """A model, a training length and the tokens of a step."""

    name: str
    layers: int
    width: int
    heads: int
    length: int
    tokens: int
    vocabulary: int = 4096

    @property
    def feedforward(self) -> int:
        """Four times the width."""
        return 4 * self.width


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("W1", 4, 256, 8, 128, 4096),
        Shape("W2", 6, 512, 8, 512, 4096),
        Shape("W2-1024", 6, 512, 8, 1024, 4096),
        Shape("W2-3072", 6, 512, 8, 3072, 3072),
        Shape("247M-512", 16, 1024, 8, 512, 9216, 32_768),
        Shape("247M-1024", 16, 1024, 8, 1024, 9216, 32_768),
        Shape("247M-3072", 16, 1024, 8, 3072, 9216, 32_768),
        Shape("1.3B-1024", 25, 2048, 16, 1024, 8192, 50_304),
    )
}
DEFAULT_SHAPES = {"cpu": ("W1", "W2"), "cuda": ("247M-512", "247M-1024", "247M-3072")}


@dataclass(frozen=True)
class Row:
    """The time of one contestant's training step."""

    shape: str
    contestant: str
    kernel: str
    seconds: float
    """Median."""
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    tokens_per_second: float
    share_of_matmul_rate: float | None
    """Of the rate of matrix products measured in this process; None for peers, whose operations are not counted."""


def bench(
    shapes: tuple[str, ...] = (),
    peers: bool = False,
    device: str = "",
    methods: tuple[str, ...] = ("sinusoidal", "alibi"),
    rounds: int = 12,
) -> dict[str, Any]:
    """Measures training steps and returns machine, ceilings, rows and ratios.

    Args:
        shapes: names of `SHAPES`; empty takes the device's default, "all" every one that it has memory for.
        peers: measure other libraries' models of the same shape as well.
        device: cpu or cuda; empty takes CUDA where there is one.
        methods: position methods; the first is what the others are divided by.
        rounds: steps of each contestant that are timed.

    Raises:
        ValueError: for an unknown shape; the known are listed.
        BenchError: if the device is not there, or peers are asked for that are not installed.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("device cuda is asked for, and torch sees no CUDA GPU")
    if shapes == ("all",):
        shapes = tuple(name for name in SHAPES if device == "cuda" or name.startswith("W"))
    chosen = shapes or DEFAULT_SHAPES[device]
    if unknown := [name for name in chosen if name not in SHAPES]:
        raise ValueError(f"no shape is named {unknown[0]!r}; known are {', '.join(SHAPES)}, all")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    settle_cpu(torch.get_num_threads())
    dtype = compute_dtype(device)
    machine = provenance(device) | {
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "load_before": round(load, 2),
        "note": "the machine was busy before the start: expect noise" if load > 0.5 else "",
    }
    rows: list[Row] = []
    ratios: dict[str, dict[str, float]] = {}
    ceiling = matmul_rate(device, dtype)
    for name in chosen:
        shape = SHAPES[name]
        contestants = _ours(shape, methods, device) | (_peers(shape, device) if peers else {})
        times = _take_turns(contestants, device, rounds, name)
        rows += [_row(shape, contestant, times[contestant.name], ceiling) for contestant in contestants.values()]
        for title, ratio in _ratios(times, methods):
            ratios.setdefault(title, {})[name] = ratio
    return {
        "machine": machine,
        "ceilings": {f"matmul {dtype}, FLOP/s": ceiling},
        "rows": [asdict(row) for row in rows],
        "ratios": ratios,
    }


@dataclass(frozen=True)
class _Contestant:
    name: str
    kernel: str
    step: Step
    flops: float | None
    """For each token; None for peers."""


def _take_turns(contestants: dict[str, _Contestant], device: str, rounds: int, label: str) -> dict[str, list[float]]:
    for contestant in contestants.values():
        contestant.step(), contestant.step()  # Warm-up and compilation.
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in tqdm(range(rounds), desc=label, leave=False, delay=1):
        for name, contestant in contestants.items():
            times[name].append(_time(contestant.step, device))
    return times


def _time(step: Step, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _row(shape: Shape, contestant: _Contestant, times: list[float], ceiling: float) -> Row:
    low, median, high = statistics.quantiles(times, n=4)
    rate = shape.tokens / median
    share = None if contestant.flops is None else rate * contestant.flops / ceiling
    return Row(shape.name, contestant.name, contestant.kernel, median, low, high, rate, share)


def _ratios(times: dict[str, list[float]], methods: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    def ratio(numerator: str, denominator: str) -> float:
        return statistics.median(a / b for a, b in zip(times[numerator], times[denominator], strict=True))

    first, *others = methods
    for method in others:
        yield f"train_step {method}/{first}", ratio(method, first)
    ours = "alibi" if "alibi" in methods else first
    for peer in (name for name in times if name not in methods):
        # As a speed: above 1 ours is faster.
        yield f"speed {ours}/{peer}", ratio(peer, ours)


def _ours(shape: Shape, methods: tuple[str, ...], device: str) -> dict[str, _Contestant]:
    contestants = {}
    for method in methods:
        kernel = _fastest_kernel(shape, method, device)
        training = _training(shape, method, kernel, device)
        flops = training.model.training_flops(shape.length)
        contestants[method] = _Contestant(method, kernel, training.step, flops)
    return contestants


def _fastest_kernel(shape: Shape, method: str, device: str) -> str:
    seconds: dict[str, float] = {}
    for kernel in CPU_KERNELS if device == "cpu" else GPU_KERNELS:
        training = _training(shape, method, kernel, device)
        # A kernel may not serve this bias, or not hold this length.
        with contextlib.suppress(ValueError, torch.OutOfMemoryError):
            training.step()
            seconds[kernel] = min(_time(training.step, device) for _ in range(3))
    if not seconds:
        raise BenchError(f"no attention kernel runs {method} at shape {shape.name} on {device}")
    return min(seconds, key=seconds.__getitem__)


def _training(shape: Shape, method: str, kernel: str, device: str) -> Training:
    tokens = np.random.default_rng(0).integers(shape.vocabulary, size=64 * shape.tokens, dtype=np.uint16)
    split = Split("train", tokens, len(tokens), len(tokens), 1, "")
    corpus = Corpus("random", "", "", "", "", "words", shape.vocabulary, 0, {"train": split}, Path())
    model = ModelConfig(
        method, shape.vocabulary, shape.layers, shape.width, shape.heads, shape.feedforward, longest=shape.length
    )
    config = TrainConfig(
        corpus="random",
        tokenisation="words",
        stream_sha256="",
        model=model,
        scale="bench",
        train_length=shape.length,
        batch_tokens=shape.tokens,
        steps=10_000,
        recipe="adamw",
        learning_rate=1e-4,
        warmup_steps=100,
        seed=1,
        official_tail_gap=False,
        dtype=compute_dtype(device),
        device=device,
        kernel=kernel,
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        tokens_at_once=shape.tokens,
        compiled=device == "cuda",
        activation_checkpointing=False,
    )
    return Training(config, corpus)


# Other libraries ------------------------------------------------------------------------------------------------------


def _peers(shape: Shape, device: str) -> dict[str, _Contestant]:
    try:
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, MptConfig, MptForCausalLM
        from x_transformers import Decoder as XDecoder
        from x_transformers import TransformerWrapper
    except ImportError as missing:
        raise BenchError(f"peers are not installed ({missing}): pip install alibi-book[test]") from missing

    mpt = MptConfig(
        d_model=shape.width,
        n_heads=shape.heads,
        n_layers=shape.layers,
        expansion_ratio=4,
        max_seq_len=shape.length,
        vocab_size=shape.vocabulary,
    )
    neox = GPTNeoXConfig(
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.feedforward,
        max_position_embeddings=shape.length,
        vocab_size=shape.vocabulary,
    )

    def of_x_transformers(**positions: Any) -> nn.Module:
        layers = XDecoder(dim=shape.width, depth=shape.layers, heads=shape.heads, attn_flash=False, **positions)
        absolute = not positions
        return TransformerWrapper(
            num_tokens=shape.vocabulary,
            max_seq_len=shape.length,
            attn_layers=layers,
            tie_embedding=True,
            use_abs_pos_emb=absolute,
            scaled_sinu_pos_emb=absolute,
        )

    made = {
        "transformers MPT (ALiBi)": (MptForCausalLM(mpt), True),
        "transformers GPT-NeoX (rotary)": (GPTNeoXForCausalLM(neox), True),
        "x-transformers ALiBi": (of_x_transformers(alibi_pos_bias=True), False),
        "x-transformers rotary": (of_x_transformers(rotary_pos_emb=True), False),
        "x-transformers sinusoidal": (of_x_transformers(), False),
    }
    steps = {name: _peer_step(model.to(device).train(), shape, device, wraps) for name, (model, wraps) in made.items()}
    return {f"peer {name}": _Contestant(f"peer {name}", "its own", step, None) for name, step in steps.items()}


def _peer_step(model: nn.Module, shape: Shape, device: str, returns_object: bool) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batch = shape.tokens // shape.length
    tokens_BT = torch.randint(shape.vocabulary, (batch, shape.length + 1), device=device)
    dtype = compute_dtype(device)

    def step() -> None:
        with computing(device, dtype):
            found = model(tokens_BT[:, :-1])
            logits_BTV: Tensor = found.logits if returns_object else found
            loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), tokens_BT[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def table(found: dict[str, Any]) -> str:
    """The result of `bench` as text."""
    machine = found["machine"]
    lines = [
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch_version']}, {machine['dtype']}",
        *(f"measured ceiling, {name}: {value:.3g}" for name, value in found["ceilings"].items()),
        *([machine["note"]] if machine["note"] else []),
        "",
        f"{'shape':10} {'contestant':36} {'kernel':9} {'ms/step':>9} {'quartiles':>17} {'tokens/s':>11} {'of peak':>8}",
    ]
    for row in found["rows"]:
        share = "-" if row["share_of_matmul_rate"] is None else f"{row['share_of_matmul_rate']:.0%}"
        quartiles = f"{1e3 * row['low']:.1f} to {1e3 * row['high']:.1f}"
        lines.append(
            f"{row['shape']:10} {row['contestant']:36} {row['kernel']:9} {1e3 * row['seconds']:9.1f} {quartiles:>17} "
            f"{row['tokens_per_second']:11,.0f} {share:>8}"
        )
    lines.append("")
    for name, by_shape in found["ratios"].items():
        lines.append(f"{name:50} " + "  ".join(f"{shape}: {ratio:.3f}" for shape, ratio in by_shape.items()))
    return "\n".join(lines)

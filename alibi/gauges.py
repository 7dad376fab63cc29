"""What the benchmark measures beside training steps: evaluation, memory, and attention alone."""

import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch

from alibi.attention import KERNELS, causal_attention, choose_kernel
from alibi.device import compute_dtype, peak_memory, settle_cpu
from alibi.evaluate import evaluate
from alibi.interruption import Pool
from alibi.model import Decoder
from alibi.positions import Bias, LinearBias, NoBias, slopes
from alibi.shapes import DECAY_WINDOW, Shape, Step, paired_ratio, random_split, seconds_of, take_turns, training

Rows = list[dict[str, Any]]
Ratios = dict[str, dict[str, float]]

# Evaluation is measured at the training length and at so many times it.
LONGER = 16
ATTENTION_LENGTHS = {
    "cpu": (128, 512, 1024, 2048, 3072, 8192),
    "cuda": (512, 1024, 2048, 3072, 4096, 8192, 16_384, 32_768, 65_536),
}
# Beyond this length every kernel takes minutes, or T x T memory, but these of each bias.
ALL_KERNELS_UP_TO = {"cpu": 3072, "cuda": 8192}
LONG_KERNELS = {
    "cpu": {"none": ["sdpa"], "alibi": ["columns"]},
    "cuda": {"none": ["sdpa", "flex"], "alibi": ["flex"]},
}
ATTENTION_TOKENS, ATTENTION_HEADS, ATTENTION_WIDTH = 4096, 8, 64
SECONDS_A_LENGTH = 10.0
MEMORY_COLUMNS = ("train_bytes", "evaluate_8L_bytes", "evaluate_16L_bytes")


def _scoring(model: Decoder, shape: Shape, tokens: int, length: int, stride: int | None, batch_tokens: int) -> Step:
    return partial(evaluate, model, random_split(shape, tokens), 0, length, stride, batch_tokens=batch_tokens)


def evaluation(shape: Shape, methods: tuple[str, ...], device: str, beyond: bool = True) -> tuple[Rows, Ratios]:
    """Tokens a second of evaluation, kernels chosen automatically, and ratios of the times to the first method's.

    Args:
        shape: of the models.
        methods: whose models are evaluated in nonoverlapping windows of L tokens.
        device: cpu or cuda.
        beyond: at 16 L as well, and of ALiBi, or else the last method, with a sliding window of L tokens, an eighth of
            them new, batched against one window at a time.
    """
    models = {method: training(shape, method, "automatic", device, compiled=False).model for method in methods}
    rows: Rows = []
    ratios: Ratios = {}

    def measure(protocol: str, tokens: int, length: int, steps: dict[str, Step]) -> dict[str, list[float]]:
        for step in steps.values():
            step()
        timed = {name: partial(seconds_of, step, device) for name, step in steps.items()}
        times = take_turns(timed, SECONDS_A_LENGTH, f"{shape.name} {protocol} at {length}")
        for name, seconds in times.items():
            median = statistics.median(seconds)
            rows.append(
                {
                    "shape": shape.name,
                    "method": name if name in methods else slid,
                    "protocol": protocol if name in methods else f"{protocol}, {name}",
                    "length": length,
                    "seconds": median,
                    "tokens_per_second": tokens / median,
                }
            )
        return times

    first, slid = methods[0], "alibi" if "alibi" in methods else methods[-1]
    for multiple, at in ((1, "L"), (LONGER, f"{LONGER} L"))[: 1 + beyond]:
        length = multiple * shape.length
        tokens = max(shape.tokens, length)
        steps = {m: _scoring(model, shape, tokens, length, None, tokens) for m, model in models.items()}
        times = measure("nonoverlapping", tokens, length, steps)
        for method in methods[1:]:
            ratios[f"evaluate {method}/{first} at {at}"] = {shape.name: paired_ratio(times[method], times[first])}
    if not beyond:
        return rows, ratios
    length, tokens = shape.length, 5 * shape.length
    sliding = {
        name: _scoring(models[slid], shape, tokens, length, length // 8, at_once)
        for name, at_once in (("batched", 64 * length), ("one at a time", 1))
    }
    times = measure("sliding window", tokens, length, sliding)
    # As a speed: above 1 the batches are faster.
    ratio = paired_ratio(times["one at a time"], times["batched"])
    ratios["evaluate sliding batched/one at a time"] = {shape.name: ratio}
    return rows, ratios


# Memory -------------------------------------------------------------------------------------------------------------


def _highest(device: str) -> int:
    """Bytes at most so far of this process; what it was started from does not count, as it does for getrusage."""
    status = Path("/proc/self/status")
    if device == "cuda" or not status.is_file():
        return peak_memory(device)
    lines = status.read_text("utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _training_memory(shape: Shape, method: str, kernel: str, device: str, threads: int) -> int:
    settle_cpu(threads)
    before = 0 if device == "cuda" else _highest(device)
    run = training(shape, method, kernel, device, compiled=False)
    for _ in range(2):
        run.step()
    return _highest(device) - before


def _evaluation_memory(shape: Shape, method: str, device: str, threads: int) -> tuple[int, int]:
    settle_cpu(threads)
    model = training(shape, method, "automatic", device, compiled=False).model.eval()
    _scoring(model, shape, shape.length, shape.length, None, shape.length)()
    before, found = _highest(device), []
    for length in (LONGER // 2 * shape.length, LONGER * shape.length):
        _scoring(model, shape, length, length, None, length)()
        found.append(_highest(device) - before)
    return found[0], found[1]


def memory(shape: Shape, kernels: dict[str, str], device: str, beyond: bool = True) -> tuple[Rows, Ratios]:
    """Peak bytes of training and of evaluating one window of 8 L and 16 L, each in a process of its own; ratios.

    Training: above the process that has nothing but the libraries loaded. Evaluation: above what a window of L took,
    so that a ratio of 16 L to 8 L of 15/7 is linear growth, and of 4.05 growth with the square.

    Args:
        shape: of the model.
        kernels: the attention kernel that each method trains on; the first method is what others are divided by.
        device: cpu or cuda.
        beyond: evaluation as well, not training alone.
    """
    threads = torch.get_num_threads()
    rows: Rows = []
    ratios: Ratios = {}
    for method, kernel in kernels.items():
        # One process for each task: a peak does not go down again.
        with Pool(1, tasks_per_child=1) as pool:
            found = [pool.submit(_training_memory, shape, method, kernel, device, threads).result()]
            if beyond:
                found += pool.submit(_evaluation_memory, shape, method, device, threads).result()
                ratios[f"evaluate_memory {method} at {LONGER} L/{LONGER // 2} L"] = {
                    shape.name: found[2] / max(1, found[1])
                }
        columns = MEMORY_COLUMNS[: len(found)]
        rows.append({"shape": shape.name, "method": method, "kernel": kernel} | dict(zip(columns, found, strict=True)))
    for row in rows[1:]:
        for what, column in (("train_memory", MEMORY_COLUMNS[0]), ("evaluate_memory", MEMORY_COLUMNS[2])):
            if column in row:
                ratio = row[column] / max(1, rows[0][column])
                ratios[f"{what} {row['method']}/{rows[0]['method']}"] = {shape.name: ratio}
    return rows, ratios


# Attention alone ----------------------------------------------------------------------------------------------------


def attention(device: str, lengths: tuple[int, ...] = ()) -> tuple[Rows, Ratios]:
    """Forward and backward pass of attention without a bias, with ALiBi's, and with its decay window, kernel by kernel.

    8 heads of width 64; 4,096 tokens in all, or one window that is longer. Ratios divide the fastest kernel of a bias
    by the fastest without a bias. A kernel that refuses has its reason in place of a time.
    """
    slopes_H = torch.tensor(slopes(ATTENTION_HEADS), dtype=torch.float64, device=device)
    windowed = LinearBias(slopes_H, DECAY_WINDOW)
    rows: Rows = []
    ratios: Ratios = {}
    for length in lengths or ATTENTION_LENGTHS[device]:
        # On a CPU flex has no way back.
        left_out = {"reference", "window"} | ({"flex"} if device == "cpu" else set())
        every = [kernel for kernel in KERNELS if kernel not in left_out]
        exact = {} if length <= ALL_KERNELS_UP_TO[device] else LONG_KERNELS[device]
        biases: list[tuple[str, Bias, list[str]]] = [
            ("none", NoBias(), exact.get("none", every)),
            ("alibi", LinearBias(slopes_H), exact.get("alibi", every)),
            ("alibi+window", windowed, [choose_kernel(device, length, True, windowed)]),
        ]
        steps: dict[tuple[str, str], Step] = {}
        for name, bias, kernels in biases:
            for kernel in kernels:
                try:
                    step = _attention_step(bias, length, kernel, device)
                    step()
                except (ValueError, torch.OutOfMemoryError) as refusal:
                    rows.append({"length": length, "bias": name, "kernel": kernel, "refused": str(refusal)})
                else:
                    steps[name, kernel] = step
        timed = {key: partial(seconds_of, step, device) for key, step in steps.items()}
        times = take_turns(timed, SECONDS_A_LENGTH, f"attention at {length}")
        medians = {key: statistics.median(seconds) for key, seconds in times.items()}
        rows += [{"length": length, "bias": n, "kernel": k, "seconds": m} for (n, k), m in medians.items()]
        fastest = {
            name: min((key for key in medians if key[0] == name), key=medians.__getitem__) for name, *_ in biases
        }
        for name in ("alibi", "alibi+window"):
            ratio = paired_ratio(times[fastest[name]], times[fastest["none"]])
            ratios.setdefault(f"attention {name}/none", {})[str(length)] = ratio
    return rows, ratios


def _attention_step(bias: Bias, length: int, kernel: str, device: str) -> Step:
    at, shape = torch.arange(length, device=device), (max(1, ATTENTION_TOKENS // length), ATTENTION_HEADS, length)
    dtype = getattr(torch, compute_dtype(device))
    q, k, v, gradient = torch.randn(4, *shape, ATTENTION_WIDTH, dtype=dtype, device=device)
    inputs = [x.requires_grad_() for x in (q, k, v)]

    def step() -> None:
        # As in a model the bias is prepared at each pass.
        attended = causal_attention(bias, at, at, kernel)(*inputs)
        torch.autograd.grad(attended, inputs, gradient)

    return step

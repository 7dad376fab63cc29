"""Attention alone, forward and backward, kernel by kernel."""

from functools import partial

import torch

from alibi.attention import KERNELS, causal_attention, choose_kernel
from alibi.device import compute_dtype, widest_dtype
from alibi.positions import Bias, LinearBias, NoBias, slopes
from alibi.speed.result import AttentionRow, Ratio
from alibi.speed.shapes import ALIBI, DECAY_WINDOW, WINDOWED_ALIBI
from alibi.speed.timing import SECONDS_A_LENGTH, Step, median_of, paired_ratio, seconds_of, take_turns
from alibi.speed.trials import refusal_of

ATTENTION_LENGTHS = {
    "cpu": (128, 512, 1024, 2048, 3072, 8192),
    "cuda": (512, 1024, 2048, 3072, 4096, 8192, 16_384, 32_768, 65_536),
    "mps": (128, 512, 1024, 2048, 3072, 8192),
}
# Beyond this length the other kernels of each bias take minutes, or T x T memory.
ALL_KERNELS_UP_TO = {"cpu": 3072, "cuda": 8192, "mps": 3072}
LONG_KERNELS = {
    "cpu": {"none": ["sdpa"], "alibi": ["columns"]},
    "cuda": {"none": ["sdpa", "flex"], "alibi": ["flex"]},
    "mps": {"none": ["sdpa"], "alibi": ["columns"]},
}
BIASES = ("none", "alibi", "alibi+window")
ATTENTION_TOKENS, ATTENTION_HEADS, ATTENTION_WIDTH = 4096, 8, 64


def attention(device: str, lengths: tuple[int, ...] = ()) -> tuple[list[AttentionRow], list[Ratio]]:
    """Forward and backward pass of attention without a bias, with ALiBi's, and with its decay window, kernel by kernel.

    8 heads of width 64; as many windows as 4,096 tokens hold, at least one. Ratios divide the fastest kernel of a bias
    by the fastest without a bias. A kernel that refuses gets its reason instead of a time.
    """
    slopes_H = torch.tensor(slopes(ATTENTION_HEADS), dtype=widest_dtype(torch.device(device)), device=device)
    none, alibi, windowed = "none", ALIBI.name, WINDOWED_ALIBI.name
    biases: dict[str, Bias] = {
        none: NoBias(),
        alibi: LinearBias(slopes_H),
        windowed: LinearBias(slopes_H, DECAY_WINDOW),
    }
    rows: list[AttentionRow] = []
    ratios: list[Ratio] = []
    for length in lengths or ATTENTION_LENGTHS[device]:
        kernels = kernels_at(length, device)
        kernels[windowed] = [choose_kernel(device, length, True, biases[windowed])]
        steps: dict[tuple[str, str], Step] = {}
        for name, bias in biases.items():
            for kernel in kernels[name]:
                try:
                    step = _attention_step(bias, length, kernel, device)
                    step()
                except Exception as refusal:  # As in `alibi.speed.trials`.
                    rows.append(AttentionRow(length, name, kernel, refused=refusal_of(refusal)))
                else:
                    steps[name, kernel] = step
        timed = {key: partial(seconds_of, step, device) for key, step in steps.items()}
        times = take_turns(timed, SECONDS_A_LENGTH, f"attention at {length}")
        medians = {key: median_of(seconds) for key, seconds in times.items()}
        rows += [AttentionRow(length, name, kernel, *median) for (name, kernel), median in medians.items()]
        fastest: dict[str, tuple[str, str]] = {}
        for key in sorted(medians, key=medians.__getitem__):
            fastest.setdefault(key[0], key)
        for name in (alibi, windowed):
            if {name, none} <= fastest.keys():
                ratio = paired_ratio(times[fastest[name]], times[fastest[none]])
                ratios.append(Ratio("attention", name, none, str(length), *ratio))
    return rows, ratios


def kernels_at(length: int, device: str) -> dict[str, list[str]]:
    """The kernels that `attention` times at this length: without a bias, and with ALiBi's."""
    # flex has a backward pass only on CUDA.
    left_out = {"reference", "window"} | (set() if device == "cuda" else {"flex"})
    every = [kernel for kernel in KERNELS if kernel not in left_out]
    exact = {} if length <= ALL_KERNELS_UP_TO[device] else LONG_KERNELS[device]
    return {name: [*exact.get(name, every)] for name in ("none", ALIBI.name)}


def _attention_step(bias: Bias, length: int, kernel: str, device: str) -> Step:
    at, shape = torch.arange(length, device=device), (max(1, ATTENTION_TOKENS // length), ATTENTION_HEADS, length)
    dtype = getattr(torch, compute_dtype(device))
    q, k, v, gradient = torch.randn(4, *shape, ATTENTION_WIDTH, dtype=dtype, device=device)
    inputs = [x.requires_grad_() for x in (q, k, v)]

    def step() -> None:
        # The bias is prepared at each pass, as in a model.
        attended = causal_attention(bias, at, at, kernel)(*inputs)
        torch.autograd.grad(attended, inputs, gradient)

    return step

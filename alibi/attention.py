"""Causal attention with a bias, by several kernels behind one interface.

A kernel gets queries, keys and values and the bias as a value; it looks at the kind of bias and never at the
position method. Letters in tensor names: B batch, H heads, T queries, S keys, D head width.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from alibi.positions.base import Bias, NoBias

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def additive_mask(bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor) -> Tensor:
    """The bias where the key is not after the query, minus infinity where it is: float32 [T, S] or [H, T, S]."""
    future_TS = query_positions_T[:, None] < key_positions_S[None, :]
    bias_HTS = bias.dense(query_positions_T, key_positions_S)
    if bias_HTS is None:
        bias_HTS = torch.zeros(future_TS.shape, device=future_TS.device)
    return bias_HTS.masked_fill(future_TS, -math.inf)


def reference(bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor) -> Attend:
    """The definition: softmax(q k^T / sqrt(D) + bias) v over the keys not after the query, scores in float32.

    The bias is not divided by sqrt(D) (the paper's footnote 10).
    """
    mask = additive_mask(bias, query_positions_T, key_positions_S)

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        scores_BHTS = q_BHTD.float() @ k_BHSD.float().transpose(-1, -2) / math.sqrt(q_BHTD.shape[-1]) + mask
        return (scores_BHTS.softmax(dim=-1) @ v_BHSD.float()).to(v_BHSD.dtype)

    return attend


def baddbmm(bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor) -> Attend:
    """Score product and bias in one batched call, scores in the inputs' dtype: the fastest on CPU at short lengths."""
    mask = additive_mask(bias, query_positions_T, key_positions_S)
    expanded: dict[tuple[int, torch.dtype], Tensor] = {}

    def mask_for(batch: int, heads: int, dtype: torch.dtype) -> Tensor:
        # The layers of one pass share it: expanded once to batch x heads, which is what baddbmm takes.
        if (batch, dtype) not in expanded:
            shape = (batch, heads, *mask.shape[-2:])
            expanded[batch, dtype] = mask.to(dtype).expand(shape).reshape(batch * heads, *mask.shape[-2:])
        return expanded[batch, dtype]

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        batch, heads, queries, head_width = q_BHTD.shape
        scores = torch.baddbmm(
            mask_for(batch, heads, q_BHTD.dtype) if mask.dim() == 3 else mask.to(q_BHTD.dtype)[None],
            q_BHTD.reshape(batch * heads, queries, head_width),
            k_BHSD.reshape(batch * heads, -1, head_width).transpose(1, 2),
            alpha=1 / math.sqrt(head_width),
        )
        attended = torch.bmm(scores.softmax(dim=-1), v_BHSD.reshape(batch * heads, -1, head_width))
        return attended.view(batch, heads, queries, head_width)

    return attend


def sdpa(bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor) -> Attend:
    """torch's scaled_dot_product_attention; without a bias it skips the future keys, with one it takes a mask."""
    # is_causal aligns the mask to the upper left corner, which is right only where queries and keys are the same.
    plain = isinstance(bias, NoBias) and len(query_positions_T) == len(key_positions_S)
    mask = None if plain else additive_mask(bias, query_positions_T, key_positions_S)
    if mask is not None and mask.dim() == 3:
        mask = mask[None]  # The fused CPU kernel takes two or four dimensions, not three.

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        typed = None if mask is None else mask.to(q_BHTD.dtype)
        return F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=typed, is_causal=plain)

    return attend


KERNELS: dict[str, Callable[[Bias, Tensor, Tensor], Attend]] = {
    "reference": reference,
    "baddbmm": baddbmm,
    "sdpa": sdpa,
}


def choose_kernel(device: torch.device, keys: int, training: bool) -> str:
    """The kernel for this device and number of keys where none is asked for by name.

    On a CPU the batched product wins at short lengths, and for longer in training, where the fused kernel's backward
    pass is slow; beyond, memory decides.
    """
    short = 768 if training else 512
    return "baddbmm" if device.type == "cpu" and keys < short else "sdpa"


def causal_attention(
    bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, kernel: str = "automatic"
) -> Attend:
    """The attention of one pass, prepared once and applied in every layer.

    Args:
        bias: what the position method adds to the scores.
        query_positions_T: absolute positions of the queries.
        key_positions_S: absolute positions of the keys; with a cache there are more of them than queries.
        kernel: a name of `KERNELS`, or "automatic".

    Returns:
        A function of queries [B, H, T, D], keys and values [B, H, S, D] that gives [B, H, T, D].

    Raises:
        ValueError: if no kernel has this name; the known names are listed.
    """
    if kernel == "automatic":
        kernel = choose_kernel(query_positions_T.device, len(key_positions_S), torch.is_grad_enabled())
    if kernel not in KERNELS:
        raise ValueError(f"no attention kernel is named {kernel!r}; known are automatic, {', '.join(KERNELS)}")
    return KERNELS[kernel](bias, query_positions_T, key_positions_S)

"""Causal attention with a bias, by several kernels behind one interface.

A kernel gets queries, keys, values and the bias as a value; it looks at the kind of bias, never at the position
method. Letters in tensor names: B batch, H heads, T queries, S keys, D head width.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from alibi.device import widest_dtype, without_autocast
from alibi.errors import InputError, UnknownNameError
from alibi.positions.base import (
    COLUMN_ALIGNMENT,
    SPLIT,
    Bias,
    DistanceBias,
    GrowthBias,
    LinearBias,
    MultipliedBias,
    NoBias,
)
from alibi.windowed_attention import WindowedAttention, flex_blocks

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

Kernel = Callable[[Bias, Tensor, Tensor, float, torch.dtype], Attend]

# A function that prepares the attention of one pass, with the arguments of `causal_attention`.
Prepare = Callable[[Bias, Tensor, Tensor, str, float, torch.dtype], Attend]


def additive_mask(
    bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The bias, with minus infinity for keys after the query: [T, S] or [H, T, S]."""
    future_TS = query_positions_T[:, None] < key_positions_S[None, :]
    bias_HTS = bias.dense(query_positions_T, key_positions_S, dtype)
    if bias_HTS is None:
        bias_HTS = torch.zeros(future_TS.shape, dtype=dtype, device=future_TS.device)
    return bias_HTS.masked_fill(future_TS, -math.inf)


def _check_heads(bias: int, queries: int) -> None:
    # A bias of several heads would make as many out of queries of one.
    if bias not in (1, queries):
        raise InputError(f"a bias of {bias} heads for queries of {queries}: both need the same number")


def attention_weights(
    bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function from queries and keys to softmax(q k^T / sqrt(D) + bias), [B, H, T, S], in `dtype`.

    The bias is not divided by sqrt(D) (the paper's footnote 10). A multiplied bias is a factor of the scores instead of
    a summand.
    """
    factor_HTS = None
    if isinstance(bias, MultipliedBias):
        factor_HTS, bias = bias.factor(query_positions_T, key_positions_S, dtype), NoBias()
    mask = additive_mask(bias, query_positions_T, key_positions_S, dtype)

    def weigh(q_BHTD: Tensor, k_BHSD: Tensor) -> Tensor:
        if mask.dim() == 3:
            _check_heads(mask.shape[0], q_BHTD.shape[1])
        with without_autocast(q_BHTD.device.type):
            scores_BHTS = q_BHTD.to(dtype) @ k_BHSD.to(dtype).transpose(-1, -2) / math.sqrt(q_BHTD.shape[-1])
            if factor_HTS is not None:
                scores_BHTS = scores_BHTS * factor_HTS
            return (scores_BHTS + mask).softmax(dim=-1)

    return weigh


def reference(
    bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, dropout: float, dtype: torch.dtype
) -> Attend:
    """The definition: softmax(q k^T / sqrt(D) + bias) v over the keys not after the query, scores in `dtype`.

    See `attention_weights`. Dropout sets weights to zero after the softmax.
    """
    weigh = attention_weights(bias, query_positions_T, key_positions_S, dtype)

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        weights_BHTS = F.dropout(weigh(q_BHTD, k_BHSD), dropout)
        with without_autocast(v_BHSD.device.type):
            return (weights_BHTS @ v_BHSD.to(dtype)).to(v_BHSD.dtype)

    return attend


def baddbmm(
    bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, dropout: float, dtype: torch.dtype
) -> Attend:
    """Adds score product and bias in one batched call, in the inputs' dtype: the fastest on CPU at short lengths.

    With gates scores are float32 or wider, since 16 bits would round the running sums that they contain.
    """
    mask = additive_mask(bias, query_positions_T, key_positions_S, dtype)
    mask = mask if mask.dim() == 3 else mask[None]
    typed: dict[torch.dtype, Tensor] = {}

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        batch, heads, queries, head_width = q_BHTD.shape
        given = v_BHSD.dtype
        if bias.gated:
            q_BHTD, k_BHSD, v_BHSD = (x.to(dtype) for x in (q_BHTD, k_BHSD, v_BHSD))
        if q_BHTD.dtype not in typed:
            typed[q_BHTD.dtype] = mask.to(q_BHTD.dtype)
        # baddbmm needs one copy for its result. `repeat` makes exactly that one; a view from `expand` would cost a
        # second in the backward pass.
        biases = typed[q_BHTD.dtype]
        _check_heads(len(biases), heads)
        scores = biases.repeat(batch * heads // len(biases), 1, 1)
        scores.baddbmm_(
            q_BHTD.reshape(batch * heads, queries, head_width),
            k_BHSD.reshape(batch * heads, -1, head_width).transpose(1, 2),
            alpha=1 / math.sqrt(head_width),
        )
        weights = F.dropout(scores.softmax(dim=-1), dropout)
        return torch.bmm(weights, v_BHSD.reshape(batch * heads, -1, head_width)).view(q_BHTD.shape).to(given)

    return attend


def sdpa(bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, dropout: float, dtype: torch.dtype) -> Attend:
    """torch's scaled_dot_product_attention: without a bias it skips future keys, with a bias it takes a mask."""
    # is_causal aligns the mask to the upper left corner, which is right only if there are as many queries as keys.
    plain = isinstance(bias, NoBias) and query_positions_T.shape[0] == key_positions_S.shape[0]
    mask = None if plain else additive_mask(bias, query_positions_T, key_positions_S, dtype)
    if mask is not None and mask.dim() == 3:
        mask = mask[None]  # The fused CPU kernel takes two or four dimensions, not three.

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        if mask is not None and mask.dim() == 4:
            _check_heads(mask.shape[1], q_BHTD.shape[1])
        typed = None if mask is None else mask.to(q_BHTD.dtype)
        # Not `plain`, which is a symbol where lengths are symbols, as in an export.
        return F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, typed, dropout, is_causal=typed is None)

    return attend


def columns(
    bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, dropout: float, dtype: torch.dtype
) -> Attend:
    """torch's fused attention without a T x S bias: extra columns of queries and keys hold a linear bias.

    With cached keys, of which there are more than queries, it takes a T x S mask that hides later keys.

    The product of the extended vectors is q k^T / sqrt(D) + slope * (j - first key). Its largest term grows with the
    number of keys S, so the error of scores is about slope * S * 2^-24 (see `LinearBias.key_columns`).
    """
    square = query_positions_T.shape[0] == key_positions_S.shape[0]
    allowed_TS = None if square else query_positions_T[:, None] >= key_positions_S[None, :]
    extra: dict[torch.dtype, tuple[Tensor, Tensor] | None] = {}

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        batch, heads, queries, head_width = q_BHTD.shape
        if q_BHTD.dtype not in extra:
            extra[q_BHTD.dtype] = bias.key_columns(key_positions_S, q_BHTD.dtype)
        both = extra[q_BHTD.dtype]
        # The kernel's scale would multiply the bias too, so the queries take it.
        q_BHTD = q_BHTD / math.sqrt(head_width)
        if both is not None:
            q_HE, k_SE = both
            q_BHTD = torch.cat([q_BHTD, q_HE[None, :, None].expand(batch, -1, queries, -1)], dim=-1)
            k_BHSD = torch.cat([k_BHSD, k_SE[None, None].expand(batch, heads, -1, -1)], dim=-1)
            v_BHSD = F.pad(v_BHSD, (0, k_SE.shape[-1]))  # Fused kernels need one width for all three.
        attended = F.scaled_dot_product_attention(
            q_BHTD, k_BHSD, v_BHSD, allowed_TS, dropout, is_causal=allowed_TS is None, scale=1.0
        )
        return attended[..., :head_width]

    return attend


@cache
def _flex_attention(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention


# The compiled kernel takes no narrower heads.
FLEX_LEAST_WIDTH = 16


def _flex_blocks_that_fit(bias: Bias, dtype: torch.dtype, head_width: int) -> dict[str, int] | None:
    """Sizes of FlexAttention's blocks if torch's own are too large for an H100; None if they fit.

    If `score_mod` reads a bias for each score instead of computing it from a slope, Triton holds blocks of the bias in
    shared memory, in float32, beside queries, keys and values. Shared memory has 232,448 bytes. For a dense bias the
    forward kernel would need 247,808 with 16-bit heads of width 64, and the backward kernel 265,216 with wider heads,
    up to 128. With these sizes they need at most 132,096 and 182,272. At other widths torch's blocks are no larger.
    """
    if dtype.itemsize > 2 or isinstance(bias, NoBias | LinearBias | GrowthBias | MultipliedBias):
        return None
    if head_width <= 64:
        return {"BLOCK_N": 64}  # Keys in the forward kernel.
    if head_width <= 128 and not isinstance(bias, DistanceBias):
        return {"BLOCK_N1": 64, "BLOCK_M2": 64}  # Keys and queries that the halves of the backward kernel keep.
    return None


def flex(bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, dropout: float, dtype: torch.dtype) -> Attend:
    """FlexAttention: on CUDA one fused kernel that computes the bias and skips blocks of future keys, in both passes.

    It also skips the blocks beyond a decay window. On a CPU it is for comparisons, forward only.

    Raises:
        InputError: for attention dropout, and on a CPU for a gradient: FlexAttention has neither.
    """
    if dropout:
        raise InputError(f"kernel flex has no attention dropout ({dropout}): choose automatic")
    on_gpu = query_positions_T.device.type == "cuda"
    score_mod = bias.score_mod(query_positions_T, key_positions_S)
    blocks = flex_blocks(query_positions_T, key_positions_S, bias.reach().float() if _hides_keys(bias) else None)
    apply = _flex_attention(on_gpu)

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        if not on_gpu and torch.is_grad_enabled() and any(x.requires_grad for x in (q_BHTD, k_BHSD, v_BHSD)):
            raise InputError("kernel flex has no backward pass on a CPU: choose automatic")
        options = _flex_blocks_that_fit(bias, q_BHTD.dtype, q_BHTD.shape[-1])
        width = q_BHTD.shape[-1]
        if width < FLEX_LEAST_WIDTH:
            q_BHTD, k_BHSD, v_BHSD = (F.pad(x, (0, FLEX_LEAST_WIDTH - width)) for x in (q_BHTD, k_BHSD, v_BHSD))
        given = {"score_mod": score_mod, "block_mask": blocks, "kernel_options": options}
        attended: Tensor = apply(q_BHTD, k_BHSD, v_BHSD, scale=1 / math.sqrt(width), **given)
        return attended[..., :width]

    return attend


def within_decay_window(
    bias: Bias, query_positions_T: Tensor, key_positions_S: Tensor, dropout: float, dtype: torch.dtype
) -> Attend:
    """Attention of each head to the keys within its decay window only, in both passes; for a linear bias.

    See `alibi.windowed_attention`. With a cache, where queries are fewer than keys, it is sdpa with a mask.

    Raises:
        InputError: for a bias without a decay window, slopes that learn, or attention dropout.
    """
    if not _hides_keys(bias):
        lacks = "which this one lacks" if isinstance(bias, LinearBias) else f"not for a {type(bias).__name__}"
        raise InputError(f"kernel window is for a linear bias with a decay window, {lacks}: choose sdpa")
    if dropout:
        raise InputError(f"kernel window has no attention dropout ({dropout}): choose sdpa")
    if _learns(bias):
        raise InputError("kernel window has no gradient for slopes: choose sdpa")
    if query_positions_T.shape[0] < key_positions_S.shape[0]:
        return sdpa(bias, query_positions_T, key_positions_S, dropout, dtype)
    return WindowedAttention(bias, key_positions_S.shape[0])


def _hides_keys(bias: Bias) -> TypeGuard[LinearBias]:
    return isinstance(bias, LinearBias) and bias.hides


def _learns(bias: LinearBias) -> bool:
    return torch.is_grad_enabled() and bias.slopes_H.requires_grad


KERNELS: dict[str, Kernel] = {
    "reference": reference,
    "baddbmm": baddbmm,
    "sdpa": sdpa,
    "columns": columns,
    "flex": flex,
    "window": within_decay_window,
}
# Kernels that hold a bias or score for every query and key at once; sdpa does so only with a bias.
DENSE = ("reference", "baddbmm", "sdpa")
# Queries are taken in blocks beyond this number of query-key pairs: 2,048 of each, or 4,096 of each in training, where
# the backward pass computes each block again and so costs time.
PAIRS_AT_ONCE, PAIRS_AT_ONCE_IN_TRAINING = 2**22, 2**24
# Scores in a block, over all windows and heads: 128 MiB in float32, and a kernel makes a few tensors of this size.
SCORES_A_BLOCK = 2**25
# The window kernel is the fastest on a CPU from this number of keys on.
DECAY_WINDOW_PAYS = 1024
# With 247M parameters on an H100 a mask was the fastest for ALiBi at 512 keys, and columns at 3072; not timed between.
COLUMNS_PAY_ON_CUDA = 2048


def choose_kernel(
    device: str,
    keys: int,
    training: bool,
    bias: Bias,
    kernel: str = "automatic",
    dropout: float = 0.0,
    cached: bool = False,
) -> str:
    """The kernel to use: the named one, or for "automatic" the one for this device, number of keys and bias.

    On a CPU the batched product is fastest at short lengths. In training it stays so for longer, because the fused
    kernel's backward pass is slow. At greater lengths columns hold a linear bias without the memory of a mask, on a CPU
    in about half its time. A multiplied bias needs the reference, or on CUDA flex, which has no attention dropout. With
    a decay window, kernels that skip the keys beyond it come first; they have no attention dropout. With cached keys
    neither they nor columns gain anything.

    Raises:
        InputError: for an unknown kernel (the message lists the known ones), or one that the device can't run.
    """
    if kernel == "automatic":
        if isinstance(bias, MultipliedBias):  # The other kernels only add a bias.
            return "flex" if device == "cuda" and not dropout else "reference"
        if _hides_keys(bias) and not dropout and not cached:
            if device == "cuda":
                return "flex"
            if device == "cpu" and keys >= DECAY_WINDOW_PAYS and not _learns(bias):
                return "window"
        if device == "cpu" and keys < (2048 if training else 1024):
            return "baddbmm" if training or keys < 512 else "sdpa"
        pays = device == "cpu" or (device == "cuda" and keys >= COLUMNS_PAY_ON_CUDA)
        if pays and isinstance(bias, LinearBias) and not bias.hides and not cached and keys <= SPLIT * SPLIT:
            return "columns"  # In 16 bits columns are exact up to this number of positions.
        return "sdpa"
    if kernel not in KERNELS:
        raise UnknownNameError("attention kernel", kernel, ["automatic", *KERNELS])
    if kernel == "flex" and device == "mps":
        raise InputError("kernel flex: it has no backward pass on mps; choose sdpa, columns or automatic")
    return kernel


def causal_attention(
    bias: Bias,
    query_positions_T: Tensor,
    key_positions_S: Tensor,
    kernel: str = "automatic",
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Attend:
    """The attention of one pass, prepared once and applied in every layer.

    In a long pass, kernels with a dense bias get the queries in blocks: beyond `PAIRS_AT_ONCE` memory grows only with
    the number of keys.

    Args:
        bias: the position method's bias of the scores.
        query_positions_T: absolute positions of the queries.
        key_positions_S: absolute positions of the keys; with a cache there are more keys than queries, and the
            queries are the last positions.
        kernel: a name of `KERNELS`, or "automatic".
        dropout: probability of dropping an attention weight.
        dtype: dtype of the bias: float32, or the model's own if wider.

    Returns:
        A function from queries [B, H, T, D], keys and values [B, H, S, D] to [B, H, T, D].

    Raises:
        InputError: for an unknown kernel (the message lists the known ones), or a bias, dropout or gradient that the
            kernel does not support. The function raises it for other shapes.
    """
    device, keys = query_positions_T.device.type, key_positions_S.shape[0]
    cached = query_positions_T.shape[0] < keys
    chosen = choose_kernel(device, keys, torch.is_grad_enabled(), bias, kernel, dropout, cached)
    dense = chosen in DENSE and not (chosen == "sdpa" and isinstance(bias, NoBias) and not cached)
    given = bias, query_positions_T, key_positions_S, dropout, dtype
    at_once = PAIRS_AT_ONCE_IN_TRAINING if torch.is_grad_enabled() else PAIRS_AT_ONCE
    in_blocks = dense and query_positions_T.shape[0] * keys > at_once
    attend = _in_blocks(KERNELS[chosen], *given) if in_blocks else KERNELS[chosen](*given)

    def attend_checked(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        batch, heads, queries, width = q_BHTD.shape
        own = batch, heads, keys, width
        if queries != query_positions_T.shape[0] or k_BHSD.shape != own or v_BHSD.shape != own:
            shapes = ", ".join(f"{list(x.shape)}" for x in (q_BHTD, k_BHSD, v_BHSD))
            raise InputError(
                f"queries, keys and values of {shapes}: this pass needs [B, H, {query_positions_T.shape[0]}, D] and "
                f"twice [B, H, {keys}, D]"
            )
        return attend(q_BHTD, k_BHSD, v_BHSD)

    return attend_checked


def gated(attend: Attend, q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, log_gates_BHS: Tensor) -> Tensor:
    """Attention by any kernel that also adds the log gates of tokens j + 1 to i to the score of query i and key j.

    Their sum is c_i - c_j with running sums c. The softmax cancels c_i, which all keys of a query share; -c_j is a
    column of the keys, as ALiBi's positions are, and needs no T x S tensor. In bfloat16 it is split into three parts;
    float16 can't hold the sums of a long text, so that attention is computed in float32. The error of a score is the
    error of its float32 sum: `|c_j| 2^-24`.
    """
    if k_BHSD.dtype is torch.float16:
        with without_autocast(k_BHSD.device.type):
            return gated(attend, q_BHTD.float(), k_BHSD.float(), v_BHSD.float(), log_gates_BHS).to(v_BHSD.dtype)
    head_width, dtype = q_BHTD.shape[-1], k_BHSD.dtype
    parts = 3 if dtype.itemsize == 2 else 1
    width = head_width + parts
    width += -width % COLUMN_ALIGNMENT
    # The kernel divides by the square root of the new width.
    rest_BHS = -math.sqrt(width) * log_gates_BHS.cumsum(dim=-1, dtype=widest_dtype(log_gates_BHS.device))
    columns_BHS = []
    for _ in range(parts):
        columns_BHS.append(rest_BHS.to(dtype))
        rest_BHS = rest_BHS - columns_BHS[-1]
    padding = width - head_width
    k_BHSE = F.pad(torch.cat([k_BHSD, torch.stack(columns_BHS, dim=-1)], dim=-1), (0, padding - parts))
    q_BHTE = F.pad(q_BHTD * math.sqrt(width / head_width), (0, padding), value=1.0)
    return attend(q_BHTE, k_BHSE, F.pad(v_BHSD, (0, padding)))[..., :head_width]


def _in_blocks(
    kernel: Kernel,
    bias: Bias,
    query_positions_T: Tensor,
    key_positions_S: Tensor,
    dropout: float,
    dtype: torch.dtype,
) -> Attend:
    queries, keys = query_positions_T.shape[0], key_positions_S.shape[0]

    def attend_block(start: int, end: int, q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        seen = keys - queries + end  # Later keys come after the block's last query.
        attend = kernel(bias, query_positions_T[start:end], key_positions_S[:seen], dropout, dtype)
        return attend(q_BHTD[:, :, start:end], k_BHSD[:, :, :seen], v_BHSD[:, :, :seen])

    def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> Tensor:
        given = q_BHTD, k_BHSD, v_BHSD
        rows = max(1, SCORES_A_BLOCK // (q_BHTD.shape[0] * q_BHTD.shape[1] * keys))
        # The last block comes first: it sees the most keys, and the memory that it frees fits all other blocks.
        edges = [(start, min(start + rows, queries)) for start in range(0, queries, rows)][::-1]
        if torch.is_grad_enabled():
            blocks = [checkpoint(attend_block, *edge, *given, use_reentrant=False) for edge in edges]
        else:
            blocks = [attend_block(*edge, *given) for edge in edges]
        return torch.cat(blocks[::-1], dim=2)

    return attend

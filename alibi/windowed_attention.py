"""Attention within the decay window of a linear bias (`alibi.decay_window`), which skips the keys beyond it.

`WindowedAttention` is for CPUs, in both passes; `flex_blocks` tells FlexAttention on a GPU which blocks to compute.

Letters in tensor names: B batch, H heads, T positions, D head width, N blocks of queries (with the batch), R queries in
a block, W keys that a block meets.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from alibi.errors import InputError
from alibi.positions.base import LinearBias

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

# Queries in a block: small blocks compute few keys beyond the window, large ones are faster for long windows.
SMALLEST_BLOCK, LARGEST_BLOCK = 128, 512
# A block grows while the window holds more than this number of blocks.
BLOCKS_IN_WINDOW = 8
# Scores of a piece: a few megabytes, so that they stay in a CPU's cache.
SCORES_AT_ONCE = 2**22
# Positions in a block of FlexAttention.
FLEX_BLOCK = 128


class _Head(NamedTuple):
    """One head's bias for a block of queries and the keys in and before the block."""

    mask_RW: Tensor
    before: int
    """Number of keys before the block that its queries see."""


class _Piece(NamedTuple):
    """Blocks of queries that are computed at once, and all their keys."""

    queries: slice
    keys: slice
    mask_RW: Tensor


def _heads(bias: LinearBias, length: int, dtype: torch.dtype) -> list[_Head]:
    heads = []
    for slope, reach in zip(bias.slopes_H.detach(), bias.reach().tolist(), strict=True):
        block = SMALLEST_BLOCK
        while block < LARGEST_BLOCK and BLOCKS_IN_WINDOW * block < min(reach, length):
            block *= 2
        # Whole blocks, so that the keys of two pieces overlap by whole blocks; at most the keys before a block.
        before = min(math.ceil(min(reach, length) / block), (length - 1) // block) * block
        positions_W = torch.arange(before + block, device=slope.device)
        one = replace(bias, slopes_H=slope[None])
        mask_RW = one.dense(positions_W[before:], positions_W, torch.promote_types(dtype, torch.float32))[0]
        future_RW = positions_W[before:, None] < positions_W
        heads.append(_Head(mask_RW.masked_fill(future_RW, -torch.inf).to(dtype), before))
    return heads


def _pieces(head: _Head, length: int, batch: int) -> Iterator[_Piece]:
    """Single blocks until the window is full of keys, then many blocks at once, and the rest at the end."""
    block, width = head.mask_RW.shape
    start = 0
    while start < length:
        before, rows, blocks = min(start, head.before), min(block, length - start), 1
        if before == head.before and rows == block:
            blocks = min(max(1, SCORES_AT_ONCE // (batch * block * width)), (length - start) // block)
        end = start + blocks * rows
        yield _Piece(
            slice(start, end),
            slice(start - before, end),
            head.mask_RW[:rows, head.before - before : head.before + rows],
        )
        start = end


def _blocks(x_BTD: Tensor, size: int, step: int) -> Tensor:
    """[B, T, D] as blocks of `size` positions that begin `step` apart: [N, size, D], a view if the batch is one."""
    return x_BTD.unfold(1, size, step).transpose(2, 3).reshape(-1, size, x_BTD.shape[-1])


def _add_blocks(into_BTD: Tensor, x_NWD: Tensor, step: int) -> None:
    """Adds blocks back to the places from which `_blocks` took them."""
    batch, width = into_BTD.shape[0], x_NWD.shape[1]
    x_BNWD = x_NWD.view(batch, -1, *x_NWD.shape[1:])
    blocks = x_BNWD.shape[1]
    if blocks == 1:
        into_BTD += x_BNWD[:, 0]
        return
    # The same `step` positions of all blocks do not overlap: one addition takes them.
    for first in range(0, width, step):
        into_BTD[:, first : first + blocks * step].unflatten(1, (blocks, step)).add_(x_BNWD[:, :, first : first + step])


def _weights(q_NRD: Tensor, k_NWD: Tensor, mask_RW: Tensor) -> Tensor:
    scores_NRW = torch.baddbmm(mask_RW, q_NRD, k_NWD.transpose(1, 2), alpha=1 / math.sqrt(q_NRD.shape[-1]))
    return scores_NRW.softmax(dim=-1)


class _Windowed(torch.autograd.Function):
    """Attention head by head and piece by piece; the backward pass computes a piece's weights again."""

    @staticmethod
    def forward(ctx: Any, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, heads: list[_Head]) -> Tensor:
        batch, _, length, _ = q_BHTD.shape
        out_BHTD = torch.empty_like(q_BHTD)
        for h, head in enumerate(heads):
            for queries, keys, mask_RW in _pieces(head, length, batch):
                rows, width = mask_RW.shape
                k_NWD, v_NWD = (_blocks(x_BHTD[:, h, keys], width, rows) for x_BHTD in (k_BHTD, v_BHTD))
                weights_NRW = _weights(_blocks(q_BHTD[:, h, queries], rows, rows), k_NWD, mask_RW)
                out_BHTD[:, h, queries] = torch.bmm(weights_NRW, v_NWD).view(batch, -1, v_NWD.shape[-1])
        ctx.save_for_backward(q_BHTD, k_BHTD, v_BHTD, out_BHTD)
        ctx.heads = heads
        return out_BHTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_BHTD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_BHTD, k_BHTD, v_BHTD, out_BHTD = ctx.saved_tensors
        batch, _, length, head_width = q_BHTD.shape
        wide = torch.promote_types(q_BHTD.dtype, torch.float32)
        dq_BHTD = torch.empty_like(q_BHTD)
        # A key's gradient is a sum over many blocks: 16 bits are too few.
        dk_BHTD, dv_BHTD = (torch.zeros(k_BHTD.shape, dtype=wide, device=k_BHTD.device) for _ in range(2))
        # For each query, the sum over keys of the weight times its gradient.
        shared_BHT1 = (dout_BHTD.to(wide) * out_BHTD).sum(dim=-1, keepdim=True).to(q_BHTD.dtype)
        for h, head in enumerate(ctx.heads):
            for queries, keys, mask_RW in _pieces(head, length, batch):
                rows, width = mask_RW.shape
                q_NRD, dout_NRD, shared_NR1 = (
                    _blocks(x_BHTD[:, h, queries], rows, rows) for x_BHTD in (q_BHTD, dout_BHTD, shared_BHT1)
                )
                k_NWD, v_NWD = (_blocks(x_BHTD[:, h, keys], width, rows) for x_BHTD in (k_BHTD, v_BHTD))
                weights_NRW = _weights(q_NRD, k_NWD, mask_RW)
                _add_blocks(dv_BHTD[:, h, keys], torch.bmm(weights_NRW.transpose(1, 2), dout_NRD), rows)
                dscores_NRW = torch.bmm(dout_NRD, v_NWD.transpose(1, 2)).sub_(shared_NR1).mul_(weights_NRW)
                dq_BHTD[:, h, queries] = torch.bmm(dscores_NRW, k_NWD).view(batch, -1, head_width)
                _add_blocks(dk_BHTD[:, h, keys], torch.bmm(dscores_NRW.transpose(1, 2), q_NRD), rows)
        scale = 1 / math.sqrt(head_width)
        return dq_BHTD * scale, (dk_BHTD * scale).to(k_BHTD.dtype), dv_BHTD.to(v_BHTD.dtype), None


class WindowedAttention:
    """softmax(q k^T / sqrt(D) + bias) v over the keys within each head's reach, in memory that grows only with T.

    Queries and keys have the same consecutive positions. A head's queries are cut into blocks. One dense product
    multiplies a block's queries with the keys of the block and of the blocks before it that the window reaches.

    Args:
        bias: slopes and decay window.
        length: T.
    """

    def __init__(self, bias: LinearBias, length: int) -> None:
        self.bias, self.length = bias, length
        self.heads: dict[torch.dtype, list[_Head]] = {}

    def __call__(self, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
        """Queries, keys and values [B, H, T, D] to [B, H, T, D].

        Raises:
            InputError: if H is not the number of slopes, or T not the length.
        """
        own = len(self.bias.slopes_H), self.length
        if q_BHTD.shape[1:3] != own:
            raise InputError(
                f"queries of shape {list(q_BHTD.shape)}: the bias is for {own[0]} heads, {own[1]} positions"
            )
        # The layers of one pass share the masks.
        if q_BHTD.dtype not in self.heads:
            self.heads[q_BHTD.dtype] = _heads(self.bias, self.length, q_BHTD.dtype)
        attended: Tensor = _Windowed.apply(q_BHTD, k_BHTD, v_BHTD, self.heads[q_BHTD.dtype])
        return attended


def flex_blocks(query_positions_T: Tensor, key_positions_S: Tensor, reach_H: Tensor | None = None) -> "BlockMask":
    """For FlexAttention: the blocks of keys that each block of queries sees in part or whole.

    Only the ends of the blocks are compared, so that no T x S tensor is made, as `create_block_mask` would make;
    positions are consecutive.

    Args:
        query_positions_T: positions of the queries.
        key_positions_S: positions of the keys.
        reach_H: the farthest distance that each head sees; None lets every head see all keys up to the query.
    """
    from torch.nn.attention.flex_attention import BlockMask

    farthest_H = torch.full((1,), torch.inf, device=key_positions_S.device) if reach_H is None else reach_H

    def not_after(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query_positions_T[query] >= key_positions_S[key]

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        distance = query_positions_T[query] - key_positions_S[key]
        return (distance >= 0) & (distance <= farthest_H[head])

    first_distance_QK = query_positions_T[::FLEX_BLOCK, None] - key_positions_S[::FLEX_BLOCK]
    nearest_QK, farthest_QK = first_distance_QK - (FLEX_BLOCK - 1), first_distance_QK + (FLEX_BLOCK - 1)
    reach_H11 = farthest_H[:, None, None]
    some_HQK = (farthest_QK >= 0) & (nearest_QK <= reach_H11)
    # Rows past the last query have no position: a block with such rows is never whole, so that `seen` masks it.
    filled_Q1 = torch.arange(1, len(first_distance_QK) + 1, device=farthest_H.device)[:, None] * FLEX_BLOCK
    whole_HQK = (nearest_QK >= 0) & (farthest_QK <= reach_H11) & (filled_Q1 <= len(query_positions_T))
    shape = len(query_positions_T), len(key_positions_S)
    parts, wholes = _numbers_and_indices(some_HQK & ~whole_HQK), _numbers_and_indices(whole_HQK)
    mask = not_after if reach_H is None else seen
    return BlockMask.from_kv_blocks(*parts, *wholes, BLOCK_SIZE=FLEX_BLOCK, mask_mod=mask, seq_lengths=shape)


def _numbers_and_indices(chosen_HQK: Tensor) -> tuple[Tensor, Tensor]:
    """The number of chosen blocks of keys, [1, H, Q], and the blocks' indices, chosen ones first: [1, H, Q, K]."""
    indices_HQK = chosen_HQK.int().argsort(dim=-1, descending=True, stable=True)
    return chosen_HQK.sum(dim=-1)[None].int(), indices_HQK[None].int()

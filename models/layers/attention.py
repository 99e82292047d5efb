"""Attention: each frame takes from all others what answers its question."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import cpu
from samevoice.models.layers import Module


class Attention(Module):
    """Several heads, each of ``width`` numbers, over all frames: (B, T, D) -> (B, T, D).

    A network whose heads were pruned has fewer than D numbers in all of them.
    """

    def __init__(self, dims: int, heads: int, width: int = 0) -> None:
        super().__init__()
        self.num_heads, self.width = heads, width or dims // heads
        if not width and dims % heads:
            raise ValueError(f"{dims} numbers do not divide into {heads} heads")
        inner = heads * self.width
        self.query_proj, self.key_proj = Linear(dims, inner), Linear(dims, inner)
        self.value_proj, self.out_proj = Linear(dims, inner), Linear(inner, dims)

    def __call__(self, x: mx.array, bias: mx.array | None = None) -> mx.array:
        """``bias``, (H, T, T), is added to what softmax takes; -inf is a mask."""
        return self.attended(x, bias, None)

    def attended(self, x: mx.array, bias: mx.array | None, gates: mx.array | None) -> mx.array:
        """``gates``, (B, H, T, 1): by how much the bias counts for each frame that looks."""
        scale = 1 / math.sqrt(self.width)
        query = self.parted(self.query_proj(x))
        key, value = self.parted(self.key_proj(x)), self.parted(self.value_proj(x))
        if fast.on_cpu():
            parts = (on_host(part) for part in (query * scale, key, value))
            around = (None if one is None else on_host(one) for one in (bias, gates))
            y = mx.array(cpu.attention(*parts, *around), dtype=x.dtype)
        else:
            mask = bias if bias is None or gates is None else gates * bias
            mask = None if mask is None else mask.astype(query.dtype)
            y = mx.fast.scaled_dot_product_attention(query, key, value, scale=scale, mask=mask)
            y = y.swapaxes(1, 2)
        return self.out_proj(y.reshape(*x.shape[:2], -1))

    def parted(self, x: mx.array) -> mx.array:
        """(B, T, H * W) -> (B, H, T, W): head after head."""
        return x.reshape(*x.shape[:2], self.num_heads, self.width).swapaxes(1, 2)


def on_host(x: mx.array) -> cpu.Floats:
    """To be read alone: where it can be, it is the very memory that MLX has."""
    return np.asarray(x.astype(mx.float32))


class PositionEmbedding(Module):
    """How much each head looks at frames so far before or behind: a row a bucket, a column a head.

    Near distances have a bucket each, far ones share one, those from ``distance`` on the last.
    """

    def __init__(self, buckets: int, heads: int, distance: int) -> None:
        super().__init__()
        self.weight = mx.zeros((buckets, heads))
        self.distance = distance

    def __call__(self, buckets: mx.array) -> mx.array:
        """(T, T) -> (T, T, H)."""
        return self.weight[buckets]

    def buckets(self, frames: int) -> mx.array:
        """(T, T): of each frame, in rows, and the frame that it looks at."""
        found = buckets(frames, self.weight.shape[0], self.distance)
        return mx.array(found, dtype=mx.int64)


def buckets(frames: int, count: int, distance: int) -> np.ndarray:
    """(T, T): the first half of the ``count`` buckets for what lies before a frame."""
    apart = np.arange(frames, dtype=np.int32)
    apart = apart[None, :] - apart[:, None]
    far, half = np.abs(apart), count // 2
    near = half // 2
    # In float32 and in this order, because torch rounds so and an edge may be a whole number.
    with np.errstate(divide="ignore"):
        wide = np.log(far.astype(np.float32) / np.float32(near))
        wide = wide / np.float32(math.log(distance / near)) * np.float32(half - near)
        steps = np.where(far > 0, wide, np.float32(0)).astype(np.int32)
    shared = np.minimum(near + steps, half - 1)
    found: np.ndarray = np.where(far < near, far, shared) + np.where(apart > 0, half, 0)
    return found


class GatedAttention(Attention):
    """WavLM's: by how far two frames lie apart, as much as the frame itself lets through.

    The first layer of an encoder has the ``positions`` that all of its layers share. ``kept`` are
    the heads that pruning left of ``total``; gates and positions are those of all.
    """

    def __init__(
        self,
        dims: int,
        total: int,
        kept: list[int] | None = None,
        positions: PositionEmbedding | None = None,
    ) -> None:
        heads = list(range(total)) if kept is None else [int(head) for head in kept]
        if dims % total or not all(0 <= head < total for head in heads):
            raise ValueError(f"heads {heads} of {total} for {dims} numbers")
        super().__init__(dims, len(heads), dims // total)
        self.kept = None if len(heads) == total else tuple(heads)
        self.gru_rel_pos_linear = Linear(self.width, 8)
        self.gru_rel_pos_const = mx.ones((1, total, 1, 1))
        if positions is not None:
            self.rel_attn_embed = positions
        # Of the first layer. No child: only that one holds and computes them.
        self.shared: tuple[PositionEmbedding, ...] = ()

    def __call__(self, x: mx.array, bias: mx.array | None = None) -> mx.array:
        """``bias``, (all heads, T, T), before the gates."""
        if bias is None:
            return self.attended(x, None, None)
        gates = self.gates(x)
        if self.kept is not None:
            at = mx.array(self.kept)
            gates, bias = gates[:, at], bias[at]
        return self.attended(x, bias, gates)

    def share(self, first: GatedAttention) -> None:
        self.shared = (first.rel_attn_embed,)

    def gates(self, x: mx.array) -> mx.array:
        """(B, T, D) -> (B, all heads, T, 1)."""
        parts = x.reshape(*x.shape[:2], -1, self.width).swapaxes(1, 2)
        sums = self.gru_rel_pos_linear(parts).reshape(*parts.shape[:3], 2, 4).sum(axis=-1)
        first, second = mx.split(mx.sigmoid(sums), 2, axis=-1)
        return first * (second * self.gru_rel_pos_const - 1) + 2

    def positions(self, frames: int) -> mx.array | None:
        """(all heads, T, T), for this layer and those behind it."""
        if "rel_attn_embed" not in self:
            return None
        embed = self.rel_attn_embed
        # In one piece: every layer reads it head by head.
        return mx.contiguous(embed(embed.buckets(frames)).transpose(2, 0, 1))

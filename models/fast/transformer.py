"""A layer of a transformer's encoder on a CPU, in numpy: frames shared out between the cores.

All that a frame goes through alone is one strip's work, from norm to norm, each core with a BLAS of
one thread: what stands between two products stays in the cache, and no core waits while another
one adds or divides. Only attention looks at other frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models.fast import cpu
from samevoice.models.fast.cpu import Floats, Share, strips
from samevoice.models.fast.resnet import are_plain
from samevoice.models.layers import EPSILON, LayerNorm
from samevoice.models.layers.attention import GatedAttention, PositionEmbedding, on_host


@dataclass(frozen=True)
class Dense:
    weight: Floats  # (O, I)
    bias: Floats

    def __call__(self, x: Floats, out: Floats | None = None) -> Floats:
        """(..., I) -> (..., O)."""
        y: Floats = np.matmul(x, self.weight.T, out=out)
        y += self.bias
        return y


@dataclass(frozen=True)
class Norm:
    affine: tuple[Floats, Floats]
    epsilon: float

    def __call__(self, x: Floats) -> Floats:
        """In place."""
        return cpu.layer_norm(x, self.affine, self.epsilon)


@dataclass(frozen=True)
class Gates:
    """How much of the bias each frame lets through: of all heads, those that are kept."""

    linear: Dense  # (W) -> (8)
    factor: Floats  # (all heads,)
    kept: list[int]

    def __call__(self, x: Floats) -> Floats:
        """(N, D) -> (N, heads)."""
        width = self.linear.weight.shape[1]
        parts = x.reshape(len(x), -1, width)[:, self.kept]
        sums = self.linear(parts).reshape(*parts.shape[:2], 2, 4).sum(axis=-1)
        first, second = np.moveaxis(1 / (1 + np.exp(-sums)), -1, 0)
        gates: Floats = first * (second * self.factor[self.kept] - 1) + 2
        return gates

    def of_kept(self, bias: Floats) -> Floats:
        """(all heads, T, T) -> (heads, T, T)."""
        return bias if len(self.kept) == len(bias) else bias[self.kept]


@dataclass(frozen=True)
class Attention:
    asked: tuple[Dense, Dense, Dense]  # query, key, value
    out: Dense
    heads: int
    width: int
    gates: Gates | None = None

    def __call__(self, x: Floats, norm: Norm | None, bias: Floats | None, share: Share) -> Floats:
        """(B, T, D), normed first where it is to be -> (B * T, heads * W), not yet ``out``."""
        batch, frames, dims = x.shape
        rows = x.reshape(-1, dims)
        asked = np.empty((3, len(rows), self.heads * self.width), dtype=np.float32)
        by_frame = np.empty((len(rows), self.heads), dtype=np.float32)
        gates = None if bias is None else self.gates
        scale = np.float32(1 / math.sqrt(self.width))

        def work(strip: slice) -> None:
            part = rows[strip] if norm is None else norm(rows[strip].copy())
            for one, out in zip(self.asked, asked, strict=True):
                one(part, out[strip])
            asked[0, strip] *= scale
            if gates is not None:
                by_frame[strip] = gates(part)

        strips(work, len(rows), share)
        query, key, value = asked.reshape(3, batch, frames, self.heads, self.width).swapaxes(2, 3)
        if bias is None or gates is None:
            heard = cpu.attention(query, key, value, bias, share=share)
        else:
            by_head = by_frame.reshape(batch, frames, self.heads, 1).swapaxes(1, 2)
            heard = cpu.attention(query, key, value, gates.of_kept(bias), by_head, share=share)
        return heard.reshape(len(rows), -1)


@dataclass(frozen=True)
class Layer:
    """With ``first`` norms stand before what they norm; pruning may leave out either part."""

    attention: Attention | None
    norm: Norm
    fed: tuple[Dense, Dense] | None
    last_norm: Norm
    first: bool
    activation: Callable[[Floats], Floats]  # in place

    def __call__(self, x: Floats, bias: Floats | None, share: Share) -> Floats:
        """(B, T, D), (heads, T, T) -> (B, T, D)."""
        rows, found = x.reshape(-1, x.shape[-1]), np.empty(x.shape, dtype=np.float32)
        norm = self.norm if self.first else None
        with cpu.one_blas_thread():
            heard = None
            if self.attention is not None:
                heard = self.attention(x, norm, bias, share)
            into = found.reshape(rows.shape)

            def work(strip: slice) -> None:
                into[strip] = self._fed(rows[strip], None if heard is None else heard[strip])

            strips(work, len(rows), share)
        return found

    def _fed(self, x: Floats, heard: Floats | None) -> Floats:
        if heard is not None and self.attention is not None:
            x = np.add(y := self.attention.out(heard), x, out=y)
        if not self.first:
            x = self.norm(x if heard is not None else x.copy())
        if self.fed is not None:
            inner, outer = self.fed
            y = self.activation(inner(self.last_norm(x.copy()) if self.first else x))
            x = np.add(y := outer(y), x, out=y)
        return x if self.first else self.last_norm(x)


def gelu(x: Floats) -> Floats:
    return cpu.gelu(x, cpu.alone)


def of(layer: Any, activation: Callable[[Floats], Floats]) -> Layer | None:
    """The form of a ``wavlm.EncoderLayer`` or its like, or None where it would compute otherwise.

    It reads the very memory of the layer's weights.
    """
    plain = are_plain([layer], (Linear, PositionEmbedding, LayerNorm))
    return layer_of(layer, activation) if plain else None


def layer_of(layer: Any, activation: Callable[[Floats], Floats]) -> Layer:
    """Of one whose weights are plain."""
    attention, fed = layer.get("attention"), layer.get("feed_forward")
    return Layer(
        None if attention is None else attention_of(attention),
        norm_of(layer.layer_norm),
        None if fed is None else (dense_of(fed.intermediate_dense), dense_of(fed.output_dense)),
        norm_of(layer.final_layer_norm),
        getattr(layer, "first", False),
        activation,
    )


def attention_of(of: Any) -> Attention:
    asked = (dense_of(of.query_proj), dense_of(of.key_proj), dense_of(of.value_proj))
    gates = None
    if isinstance(of, GatedAttention):
        factor = on_host(of.gru_rel_pos_const).reshape(-1)
        kept = list(range(len(factor))) if of.kept is None else list(of.kept)
        gates = Gates(dense_of(of.gru_rel_pos_linear), factor, kept)
    return Attention(asked, dense_of(of.out_proj), of.num_heads, of.width, gates)


def dense_of(linear: Linear) -> Dense:
    return Dense(on_host(linear.weight), on_host(linear.bias))


def norm_of(norm: Any) -> Norm:
    return Norm((on_host(norm.weight), on_host(norm.bias)), getattr(norm, "eps", EPSILON))

"""Conformer as torchaudio writes it: (B, T, D) -> (B, T, D). Modules have the names of there."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import conformer as cpu_conformer
from samevoice.models.fast.depthwise import depthwise
from samevoice.models.layers import BatchNorm, Kept, LayerNorm, Module, glu, silu
from samevoice.models.layers.attention import Attention, on_host


class Depthwise(Module):
    """A convolution of each channel for itself, odd and padded: (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"a kernel of {kernel} frames has no middle: an odd one is wanted")
        self.weight, self.bias = mx.zeros((channels, kernel, 1)), mx.zeros((channels,))
        self.stride, self.padding, self.groups = 1, kernel // 2, channels

    def __call__(self, x: mx.array) -> mx.array:
        if fast.on_cpu():
            return depthwise(x[:, None], self.weight[:, None])[:, 0] + self.bias
        return mx.conv1d(x, self.weight, 1, self.padding, groups=self.groups) + self.bias


class ConvolutionModule(Module):
    """A gated linear unit, each channel's frames, and back."""

    def __init__(self, dims: int, kernel: int) -> None:
        super().__init__()
        self.layer_norm = LayerNorm(dims)
        self.pointwise1, self.depthwise = Linear(dims, 2 * dims), Depthwise(dims, kernel)
        self.norm, self.pointwise2 = BatchNorm(dims), Linear(dims, dims)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.depthwise(glu(self.pointwise1(self.layer_norm(x))))
        return self.pointwise2(silu(self.norm(x)))


class FeedForward(Module):
    def __init__(self, dims: int, inner: int) -> None:
        super().__init__()
        self.layer_norm = LayerNorm(dims)
        self.linear1, self.linear2 = Linear(dims, inner), Linear(inner, dims)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear2(silu(self.linear1(self.layer_norm(x))))


class ConformerLayer(Module):
    def __init__(self, dims: int, heads: int, inner: int, kernel: int) -> None:
        super().__init__()
        self.ffn1 = FeedForward(dims, inner)
        self.self_attn_layer_norm, self.self_attn = LayerNorm(dims), Attention(dims, heads)
        self.conv_module = ConvolutionModule(dims, kernel)
        self.ffn2 = FeedForward(dims, inner)
        self.final_layer_norm = LayerNorm(dims)
        self._host: Kept[cpu_conformer.Layer | None] = Kept()

    def __call__(self, x: mx.array) -> mx.array:
        if fast.whole_on_cpu() and (host := self._on_cpu()) is not None:
            return mx.array(host(on_host(x)))
        x = x + 0.5 * self.ffn1(x)
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        x = x + self.conv_module(x)
        x = x + 0.5 * self.ffn2(x)
        normed: mx.array = self.final_layer_norm(x)
        return normed

    def _on_cpu(self) -> cpu_conformer.Layer | None:
        return self._host.of(self.arrays, lambda: cpu_conformer.of(*self._parts()))

    def _parts(self) -> tuple[Any, ...]:
        conv = self.conv_module
        first, second = (
            (one.layer_norm, one.linear1, one.linear2) for one in (self.ffn1, self.ffn2)
        )
        between = (conv.layer_norm, conv.pointwise1, conv.depthwise, conv.norm, conv.pointwise2)
        attention = (self.self_attn_layer_norm, self.self_attn)
        return first, attention, between, second, self.final_layer_norm


class Conformer(Module):
    def __init__(self, dims: int, heads: int, inner: int, layers: int, kernel: int) -> None:
        super().__init__()
        self.conformer_layers = [ConformerLayer(dims, heads, inner, kernel) for _ in range(layers)]

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.conformer_layers:
            x = layer(x)
        return x

"""Layers with weights, built as torch's are."""

from __future__ import annotations

import math

import mlx.core as mx

from samevoice.models.layers import Module
from samevoice.models.nn import norms, products
from samevoice.models.nn.axes import pad
from samevoice.models.nn.products import Pair, pair, same_or


class Linear(Module):
    """(..., I) -> (..., O)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = _uniform((outputs, inputs), inputs)
        if bias:
            self.bias = _uniform((outputs,), inputs)

    def __call__(self, x: mx.array) -> mx.array:
        return products.linear(x, self.weight, self.get("bias"))


class Embedding(Module):
    """Integers (...) -> (..., C)."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.weight = mx.random.normal((count, size))

    def __call__(self, x: mx.array) -> mx.array:
        return self.weight[x]


class _Conv(Module):
    def __init__(self, dims: int, shape: tuple[int, ...], padding_mode: str, bias: bool) -> None:
        super().__init__()
        self.weight = _uniform(shape, math.prod(shape[1:]))
        if bias:
            self.bias = _uniform((shape[0],), math.prod(shape[1:]))
        self.dims, self.padding_mode = dims, padding_mode

    def padded(self, x: mx.array, padding: list[tuple[int, int]]) -> mx.array:
        mode = {"replicate": "edge"}.get(self.padding_mode, self.padding_mode)
        return pad(x, [(0, 0), *padding, (0, 0)], mode)


class Conv1d(_Conv):
    """(B, T, I) -> (B, T', O)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(1, (out_channels, kernel_size, in_channels // groups), padding_mode, bias)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def __call__(self, x: mx.array) -> mx.array:
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = self.padded(x, same_or((self.weight.shape[1],), padding, self.dilation)), 0
        more = (self.stride, padding, self.dilation, self.groups)
        return products.conv1d(x, self.weight, self.get("bias"), *more)


class Conv2d(_Conv):
    """(B, H, W, I) -> (B, H', W', O)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(
            2, (out_channels, *pair(kernel_size), in_channels // groups), padding_mode, bias
        )
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def __call__(self, x: mx.array) -> mx.array:
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = self.padded(x, same_or(self.weight.shape[1:3], padding, self.dilation)), 0
        more = (self.stride, padding, self.dilation, self.groups)
        return products.conv2d(x, self.weight, self.get("bias"), *more)


class ConvTranspose1d(_Conv):
    """(B, T, I) -> (B, T', O)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(1, (out_channels // groups, kernel_size, in_channels), "zeros", False)
        if bias:
            self.bias = _uniform((out_channels,), kernel_size * out_channels)
        self.more = (stride, padding, output_padding, dilation, groups)

    def __call__(self, x: mx.array) -> mx.array:
        return products.conv_transpose1d(x, self.weight, self.get("bias"), *self.more)


class ConvTranspose2d(_Conv):
    """(B, H, W, I) -> (B, H', W', O)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            2, (out_channels // groups, *pair(kernel_size), in_channels), "zeros", False
        )
        if bias:
            self.bias = _uniform((out_channels,), math.prod(pair(kernel_size)) * out_channels)
        self.more = (stride, padding, output_padding, dilation, groups)

    def __call__(self, x: mx.array) -> mx.array:
        return products.conv_transpose2d(x, self.weight, self.get("bias"), *self.more)


class _Norm(Module):
    def __init__(self, shape: tuple[int, ...], affine: bool, bias: bool, eps: float) -> None:
        super().__init__()
        self.eps = eps
        if affine:
            self.weight = mx.ones(shape)
        if affine and bias:
            self.bias = mx.zeros(shape)


class LayerNorm(_Norm):
    """Over the last axis, or as many as ``channels`` names."""

    def __init__(
        self,
        channels: int | tuple[int, ...],
        affine: bool = True,
        bias: bool = True,
        eps: float = 1e-5,
    ) -> None:
        shape = (channels,) if isinstance(channels, int) else channels
        super().__init__(shape, affine, bias, eps)
        self.axes = len(shape)

    def __call__(self, x: mx.array) -> mx.array:
        return norms.layer_norm(x, self.get("weight"), self.get("bias"), self.eps, self.axes)


class GroupNorm(_Norm):
    """(B, ..., C), in groups of channels."""

    def __init__(self, groups: int, channels: int, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__((channels,), affine, True, eps)
        self.groups = groups

    def __call__(self, x: mx.array) -> mx.array:
        return norms.group_norm(x, self.groups, self.get("weight"), self.get("bias"), self.eps)


class InstanceNorm(_Norm):
    """(B, ..., C), each channel of each item."""

    def __init__(self, channels: int, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__((channels,), affine, True, eps)

    def __call__(self, x: mx.array) -> mx.array:
        return norms.instance_norm(x, self.get("weight"), self.get("bias"), self.eps)


def _uniform(shape: tuple[int, ...], inputs: int) -> mx.array:
    bound = 1 / math.sqrt(max(inputs, 1))
    return mx.random.uniform(-bound, bound, shape)

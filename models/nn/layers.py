"""Layers with weights, built as torch's are."""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx

from samevoice.models.layers import Module
from samevoice.models.nn import norms, products
from samevoice.models.nn.axes import pad
from samevoice.models.nn.products import Pair, each, same_or


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
    """(B, ..., I) -> (B, ..., O), along as many axes as the kernel has."""

    dims: int
    convolve: Callable[..., mx.array]

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
        super().__init__()
        kernel = each(kernel_size, self.dims)
        inputs = in_channels // groups
        self.weight = _uniform((out_channels, *kernel, inputs), math.prod(kernel) * inputs)
        if bias:
            self.bias = _uniform((out_channels,), math.prod(kernel) * inputs)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.padding_mode = padding_mode

    def __call__(self, x: mx.array) -> mx.array:
        padding = self.padding
        if self.padding_mode != "zeros":
            widths = same_or(self.weight.shape[1:-1], padding, self.dilation)
            mode = {"replicate": "edge"}.get(self.padding_mode, self.padding_mode)
            x, padding = pad(x, [(0, 0), *widths, (0, 0)], mode), 0
        more = (self.stride, padding, self.dilation, self.groups)
        return self.convolve(x, self.weight, self.get("bias"), *more)


class Conv1d(_Conv):
    """(B, T, I) -> (B, T', O)."""

    dims, convolve = 1, staticmethod(products.conv1d)


class Conv2d(_Conv):
    """(B, H, W, I) -> (B, H', W', O)."""

    dims, convolve = 2, staticmethod(products.conv2d)


class _ConvTranspose(Module):
    """(B, ..., I) -> (B, ..., O), along as many axes as the kernel has."""

    dims: int
    convolve: Callable[..., mx.array]

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
        super().__init__()
        kernel, outputs = each(kernel_size, self.dims), out_channels // groups
        self.weight = _uniform((outputs, *kernel, in_channels), math.prod(kernel) * outputs)
        if bias:
            self.bias = _uniform((out_channels,), math.prod(kernel) * outputs)
        self.more = (stride, padding, output_padding, dilation, groups)

    def __call__(self, x: mx.array) -> mx.array:
        return self.convolve(x, self.weight, self.get("bias"), *self.more)


class ConvTranspose1d(_ConvTranspose):
    """(B, T, I) -> (B, T', O)."""

    dims, convolve = 1, staticmethod(products.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """(B, H, W, I) -> (B, H', W', O)."""

    dims, convolve = 2, staticmethod(products.conv_transpose2d)


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

"""Pools, and other sizes of images and sequences, channels last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import mlx.core as mx
import numpy as np

from samevoice.models.nn.sums import mean, total

Pair = int | tuple[int, ...]


def _windows(
    x: mx.array, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> mx.array:
    """(B, ..., C) -> (B, count, size, ..., C) for each axis between, in turn."""
    for n, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        axis = 1 + 2 * n
        count = (x.shape[axis] - (k - 1) * d - 1) // s + 1
        index = mx.arange(count)[:, None] * s + mx.arange(k)[None] * d
        taken = mx.take(x, index.reshape(-1), axis=axis)
        x = taken.reshape(*x.shape[:axis], count, k, *x.shape[axis + 1 :])
    return x


def _pooled(
    x: mx.array,
    dims: int,
    kernel: Pair,
    stride: Pair | None,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
    value: float,
) -> tuple[mx.array, tuple[int, ...]]:
    """All windows, and which axes of what is given go over one."""

    def each(given: Pair) -> tuple[int, ...]:
        return (given,) * dims if isinstance(given, int) else tuple(given)

    kernels, paddings, dilations = each(kernel), each(padding), each(dilation)
    strides = kernels if stride is None else each(stride)
    rows = []
    for n, size in enumerate(x.shape[1:-1]):
        more = 0
        if ceil_mode:
            span = dilations[n] * (kernels[n] - 1) + 1
            count = ceil((size + 2 * paddings[n] - span) / strides[n]) + 1
            count -= (count - 1) * strides[n] >= size + paddings[n]
            more = max(0, (count - 1) * strides[n] + span - size - 2 * paddings[n])
        rows.append((paddings[n], paddings[n] + more))
    x = mx.pad(x, [(0, 0), *rows, (0, 0)], "constant", mx.array(value, dtype=x.dtype))
    return _windows(x, kernels, strides, dilations), tuple(2 + 2 * n for n in range(dims))


def max_pool1d(
    x: mx.array,
    kernel: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> mx.array:
    """(B, T, C) -> (B, T', C)."""
    windows, axes = _pooled(x, 1, kernel, stride, padding, dilation, ceil_mode, -float("inf"))
    return windows.max(axis=axes)


def max_pool2d(
    x: mx.array,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> mx.array:
    """(B, H, W, C) -> (B, H', W', C)."""
    windows, axes = _pooled(x, 2, kernel, stride, padding, dilation, ceil_mode, -float("inf"))
    return windows.max(axis=axes)


def avg_pool1d(
    x: mx.array,
    kernel: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> mx.array:
    """(B, T, C) -> (B, T', C)."""
    return _averaged(x, 1, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool2d(
    x: mx.array,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> mx.array:
    """(B, H, W, C) -> (B, H', W', C)."""
    return _averaged(x, 2, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _averaged(
    x: mx.array,
    dims: int,
    kernel: Pair,
    stride: Pair | None,
    padding: Pair,
    ceil_mode: bool,
    include: bool,
    divisor: int | None,
) -> mx.array:
    windows, axes = _pooled(x, dims, kernel, stride, padding, 1, ceil_mode, 0.0)
    sums = total(windows, axes)
    if divisor is not None:
        return sums / divisor
    ones = mx.ones((1, *x.shape[1:-1], 1), dtype=x.dtype)
    if include:  # the padding counts, but not what only rounding up added
        width = (padding,) * dims if isinstance(padding, int) else tuple(padding)
        ones = mx.pad(
            ones, [(0, 0), *((p, p) for p in width), (0, 0)], "constant", mx.array(1.0, x.dtype)
        )
        padding = 0
        counted, _ = _pooled(ones, dims, kernel, stride, 0, 1, ceil_mode, 0.0)
    else:
        counted, _ = _pooled(ones, dims, kernel, stride, padding, 1, ceil_mode, 0.0)
    counts = counted.sum(axis=axes)
    return sums / counts[tuple(slice(size) for size in (1, *sums.shape[1:-1], 1))]


def _adaptive(
    x: mx.array, sizes: Sequence[int | None], reduce: Callable[[mx.array, int], mx.array]
) -> mx.array:
    for n, size in enumerate(sizes):
        axis, have = n + 1, x.shape[n + 1]
        if size is None or size == have:
            continue
        edges = [(k * have // size, -(-(k + 1) * have // size)) for k in range(size)]
        before = (slice(None),) * axis
        x = mx.concatenate([reduce(x[(*before, slice(a, b))], axis) for a, b in edges], axis=axis)
    return x


def adaptive_avg_pool1d(x: mx.array, size: int) -> mx.array:
    """(B, T, C) -> (B, size, C)."""
    return _adaptive(x, (size,), lambda part, axis: mean(part, axis, keepdims=True))


def adaptive_avg_pool2d(x: mx.array, sizes: tuple[int | None, int | None]) -> mx.array:
    """(B, H, W, C) -> (B, *sizes, C)."""
    return _adaptive(x, sizes, lambda part, axis: mean(part, axis, keepdims=True))


def adaptive_max_pool1d(x: mx.array, size: int) -> mx.array:
    """(B, T, C) -> (B, size, C)."""
    return _adaptive(x, (size,), lambda part, axis: part.max(axis=axis, keepdims=True))


def adaptive_max_pool2d(x: mx.array, sizes: tuple[int | None, int | None]) -> mx.array:
    """(B, H, W, C) -> (B, *sizes, C)."""
    return _adaptive(x, sizes, lambda part, axis: part.max(axis=axis, keepdims=True))


def interpolate(
    x: mx.array,
    sizes: Sequence[int] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
    scales: Sequence[float] | None = None,
) -> mx.array:
    """(B, ..., C): the axes between in other sizes, as torch reads between two numbers."""
    if sizes is None:
        assert scales is not None
        sizes = [int(have * by) for have, by in zip(x.shape[1:-1], scales, strict=True)]
    for n, size in enumerate(sizes):
        axis, have = n + 1, x.shape[n + 1]
        if size == have:
            continue
        # torch computes the places in float32; so does this, where rounding decides.
        step = np.float32(1 / scales[n]) if scales else np.float32(have) / np.float32(size)
        places = np.arange(size, dtype=np.float32)
        if mode == "nearest":
            index = np.minimum(np.floor(places * step), have - 1).astype(np.int32)
            x = mx.take(x, mx.array(index), axis=axis)
        elif mode == "nearest-exact":
            index = np.minimum(np.floor((places + np.float32(0.5)) * step), have - 1).astype(
                np.int32
            )
            x = mx.take(x, mx.array(index), axis=axis)
        else:
            x = _between(x, axis, _places(places, have, size, step, align_corners))
    return x


def _places(
    places: np.ndarray, have: int, size: int, step: np.float32, corners: bool
) -> np.ndarray:
    if corners:
        return places * np.float32((have - 1) / max(size - 1, 1))
    found: np.ndarray = np.maximum((places + np.float32(0.5)) * step - np.float32(0.5), 0)
    return found


def _between(x: mx.array, axis: int, places: np.ndarray) -> mx.array:
    low = np.minimum(np.floor(places).astype(np.int32), x.shape[axis] - 1)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = mx.array((places - low).astype(np.float32)).reshape(-1, *[1] * (x.ndim - 1 - axis))
    return (
        mx.take(x, mx.array(low), axis=axis) * (1 - share)
        + mx.take(x, mx.array(high), axis=axis) * share
    )

"""Pools, and other sizes of images and sequences, channels last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import mlx.core as mx
import numpy as np

from samevoice.models.nn.products import Pair, each
from samevoice.models.nn.sums import mean, total

Sizes = int | Sequence[int | None]


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
    kernel: Pair,
    stride: Pair | None,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
    value: float,
) -> tuple[mx.array, tuple[int, ...]]:
    """All windows, and which axes of what is given go over one."""
    dims = x.ndim - 2
    kernels, paddings, dilations = (each(one, dims) for one in (kernel, padding, dilation))
    strides = kernels if stride is None else each(stride, dims)
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


def max_pool(
    x: mx.array,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> mx.array:
    """(B, ..., C) -> (B, ..., C), along the axes between."""
    windows, axes = _pooled(x, kernel, stride, padding, dilation, ceil_mode, -float("inf"))
    return windows.max(axis=axes)


def avg_pool(
    x: mx.array,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> mx.array:
    """(B, ..., C) -> (B, ..., C), along the axes between."""
    windows, axes = _pooled(x, kernel, stride, padding, 1, ceil_mode, 0.0)
    sums = total(windows, axes)
    if divisor_override is not None:
        return sums / divisor_override
    ones = mx.ones((1, *x.shape[1:-1], 1), dtype=x.dtype)
    if count_include_pad:  # the padding counts, but not what only rounding up added
        widths = [(0, 0), *((p, p) for p in each(padding, x.ndim - 2)), (0, 0)]
        ones, padding = mx.pad(ones, widths, "constant", mx.array(1.0, x.dtype)), 0
    counted, _ = _pooled(ones, kernel, stride, padding, 1, ceil_mode, 0.0)
    counts = counted.sum(axis=axes)
    return sums / counts[tuple(slice(size) for size in (1, *sums.shape[1:-1], 1))]


max_pool1d = max_pool2d = max_pool
avg_pool1d = avg_pool2d = avg_pool


def _adaptive(x: mx.array, wanted: Sizes, reduce: Callable[[mx.array, int], mx.array]) -> mx.array:
    for n, size in enumerate((wanted,) if isinstance(wanted, int) else wanted):
        axis, have = n + 1, x.shape[n + 1]
        if size is None or size == have:
            continue
        edges = [(k * have // size, -(-(k + 1) * have // size)) for k in range(size)]
        before = (slice(None),) * axis
        x = mx.concatenate([reduce(x[(*before, slice(a, b))], axis) for a, b in edges], axis=axis)
    return x


def adaptive_avg_pool(x: mx.array, sizes: Sizes) -> mx.array:
    """(B, ..., C) -> (B, *sizes, C); None leaves an axis as it is."""
    return _adaptive(x, sizes, lambda part, axis: mean(part, axis, keepdims=True))


def adaptive_max_pool(x: mx.array, sizes: Sizes) -> mx.array:
    """(B, ..., C) -> (B, *sizes, C); None leaves an axis as it is."""
    return _adaptive(x, sizes, lambda part, axis: part.max(axis=axis, keepdims=True))


adaptive_avg_pool1d = adaptive_avg_pool2d = adaptive_avg_pool
adaptive_max_pool1d = adaptive_max_pool2d = adaptive_max_pool


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

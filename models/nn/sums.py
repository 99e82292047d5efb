"""Sums, means and spreads of whole axes, with torch's results."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np

from samevoice.models import backend, layers

Axes = int | tuple[int, ...] | None


def _axes(x: mx.array, axis: Axes) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return tuple(sorted(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)))


def total(x: mx.array, axis: Axes = None, keepdims: bool = False) -> mx.array:
    """The sum, which loses no digits over long axes."""
    if mx.issubdtype(x.dtype, mx.complexfloating):
        return total(mx.real(x), axis, keepdims) + 1j * total(mx.imag(x), axis, keepdims)
    if not mx.issubdtype(x.dtype, mx.floating):
        return x.sum(axis=axis, keepdims=keepdims)
    axes, wide = _axes(x, axis), x.astype(mx.float32)
    for one in reversed(axes):
        wide = layers.total(wide, one)
    shape = [1 if n in axes else size for n, size in enumerate(x.shape)]
    return (wide.reshape(shape) if keepdims else wide).astype(x.dtype)


def mean(x: mx.array, axis: Axes = None, keepdims: bool = False) -> mx.array:
    count = int(np.prod([x.shape[a] for a in _axes(x, axis)]))
    return total(x, axis, keepdims) / count


def var(x: mx.array, axis: Axes = None, keepdims: bool = False, ddof: int = 1) -> mx.array:
    """Unbiased, as torch's."""
    count = int(np.prod([x.shape[a] for a in _axes(x, axis)]))
    around = x - mean(x, axis, keepdims=True)
    return total(mx.square(around), axis, keepdims) / mx.array(count - ddof, dtype=x.dtype)


def std(x: mx.array, axis: Axes = None, keepdims: bool = False, ddof: int = 1) -> mx.array:
    return mx.sqrt(var(x, axis, keepdims, ddof))


def cumsum(x: mx.array, axis: int = -1) -> mx.array:
    """As torch sums up: on a CPU in float64, elsewhere in runs whose ends are summed up."""
    count, step = x.shape[axis], math.isqrt(x.shape[axis])
    if not mx.issubdtype(x.dtype, mx.floating):
        return mx.cumsum(x.astype(mx.int32) if x.dtype == mx.bool_ else x, axis=axis)
    if backend.on_cpu():
        return mx.cumsum(x.astype(mx.float64), axis=axis).astype(x.dtype)
    x = x.swapaxes(axis, -1)
    padded = mx.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -count % step)])
    runs = mx.cumsum(padded.reshape(*x.shape[:-1], -1, step), axis=-1)
    ends = mx.pad(runs[..., :-1, -1:], [(0, 0)] * (x.ndim - 1) + [(1, 0), (0, 0)])
    before = mx.cumsum(ends, axis=-2)
    return (runs + before).reshape(padded.shape)[..., :count].swapaxes(axis, -1)


def cumprod(x: mx.array, axis: int = -1) -> mx.array:
    wide = x.astype(mx.float64) if backend.on_cpu() else x
    return mx.cumprod(wide, axis=axis).astype(x.dtype)


def median(x: mx.array, axis: int) -> tuple[mx.array, mx.array]:
    """The lower of both in the middle, and where it was."""
    return ranked(x, (x.shape[axis] + 1) // 2, axis)


def ranked(x: mx.array, k: int, axis: int) -> tuple[mx.array, mx.array]:
    """The k-th smallest number, counted from 1, and where it was."""
    order = mx.argsort(x, axis=axis)
    place = mx.take(order, mx.array([k - 1]), axis=axis)
    return mx.take_along_axis(x, place, axis=axis).squeeze(axis), place.squeeze(axis)


def logsumexp(x: mx.array, axis: Axes = None, keepdims: bool = False) -> mx.array:
    most = mx.max(x, axis=axis, keepdims=True)
    most = mx.where(mx.abs(most) == mx.inf, 0, most)
    found = mx.log(total(mx.exp(x - most), axis, keepdims=True)) + most
    return found if keepdims else found.squeeze(_axes(x, axis))

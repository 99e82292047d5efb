"""Normalisations as functions, channels last."""

from __future__ import annotations

import mlx.core as mx

from samevoice.models.nn.sums import mean, total


def layer_norm(
    x: mx.array,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
    axes: int = 1,
) -> mx.array:
    over = tuple(range(-axes, 0))
    return _affine(_normed(x, over, eps), weight, bias)


def batch_norm(
    x: mx.array,
    mean: mx.array | None,
    var: mx.array | None,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
) -> mx.array:
    """(..., C), by these statistics, or where there are none by those of the batch."""
    if mean is None or var is None:
        return _affine(_normed(x, tuple(range(x.ndim - 1)), eps), weight, bias)
    return _affine((x - mean) / mx.sqrt(var + eps), weight, bias)


def group_norm(
    x: mx.array,
    groups: int,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
) -> mx.array:
    """(B, ..., C): each group of channels of each item."""
    parts = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    return _affine(_normed(parts, (1, 3), eps).reshape(x.shape), weight, bias)


def instance_norm(
    x: mx.array, weight: mx.array | None = None, bias: mx.array | None = None, eps: float = 1e-5
) -> mx.array:
    """(B, ..., C): each channel of each item."""
    return _affine(_normed(x, tuple(range(1, x.ndim - 1)), eps), weight, bias)


def _normed(x: mx.array, axis: tuple[int, ...], eps: float) -> mx.array:
    # Centred twice: what the first mean was rounded by is taken away by the second.
    around = x - mean(x, axis, keepdims=True)
    around = around - mean(around, axis, keepdims=True)
    return around / mx.sqrt(mean(mx.square(around), axis, keepdims=True) + eps)


def _affine(x: mx.array, weight: mx.array | None, bias: mx.array | None) -> mx.array:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def weight_norm(v: mx.array, g: mx.array, axis: int) -> mx.array:
    """Directions, each as long as its norm says."""
    others = tuple(n for n in range(v.ndim) if n != axis % v.ndim)
    return v * (g / mx.sqrt(total(mx.square(v), others, keepdims=True)))


def rms_norm(
    x: mx.array, weight: mx.array | None = None, eps: float | None = None, axes: int = 1
) -> mx.array:
    """By the root of the mean of the squares, over so many axes at the end."""
    over = tuple(range(-axes, 0))
    least = 2.0**-23 if eps is None else eps
    return _affine(x / mx.sqrt(mean(mx.square(x), over, keepdims=True) + least), weight, None)


def normalize(x: mx.array, axis: int = -1) -> mx.array:
    """Each as long as 1."""
    return x / mx.maximum(mx.sqrt(total(mx.square(x), axis, keepdims=True)), 1e-12)


def cosine_similarity(x: mx.array, y: mx.array, axis: int = 1, eps: float = 1e-8) -> mx.array:
    lengths = (
        mx.maximum(mx.sqrt(total(mx.square(one), axis, keepdims=True)), eps) for one in (x, y)
    )
    return total((x / next(lengths)) * (y / next(lengths)), axis)

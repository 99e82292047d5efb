"""Functions of each number alone that MLX lacks, or has otherwise."""

from __future__ import annotations

import mlx.core as mx

from samevoice.models import layers


def identity(x: mx.array) -> mx.array:
    """What a dropout does once training is over."""
    return x


def leaky_relu(x: mx.array, negative_slope: float = 0.01) -> mx.array:
    return mx.where(x > 0, x, negative_slope * x)


def prelu(x: mx.array, slope: mx.array) -> mx.array:
    return mx.where(x > 0, x, slope * x)


def relu6(x: mx.array) -> mx.array:
    return mx.clip(x, 0, 6)


def elu(x: mx.array, alpha: float = 1.0) -> mx.array:
    return mx.where(x > 0, x, alpha * mx.expm1(mx.minimum(x, 0)))


def celu(x: mx.array, alpha: float = 1.0) -> mx.array:
    return mx.where(x > 0, x, alpha * mx.expm1(mx.minimum(x, 0) / alpha))


def selu(x: mx.array) -> mx.array:
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def gelu_tanh(x: mx.array) -> mx.array:
    """By tanh, torch's other form."""
    return 0.5 * x * (1 + mx.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def softplus(x: mx.array, beta: float = 1.0, threshold: float = 20.0) -> mx.array:
    return mx.where(x * beta > threshold, x, mx.logaddexp(x * beta, mx.array(0.0, x.dtype)) / beta)


def log_sigmoid(x: mx.array) -> mx.array:
    return -mx.logaddexp(-x, mx.array(0.0, x.dtype))


def mish(x: mx.array) -> mx.array:
    return x * mx.tanh(softplus(x))


def hardtanh(x: mx.array, min_val: float = -1.0, max_val: float = 1.0) -> mx.array:
    return mx.clip(x, min_val, max_val)


def hardsigmoid(x: mx.array) -> mx.array:
    return mx.clip(x + 3, 0, 6) / 6


def hardswish(x: mx.array) -> mx.array:
    return x * mx.clip(x + 3, 0, 6) / 6


def hardshrink(x: mx.array, lambd: float = 0.5) -> mx.array:
    return mx.where(mx.abs(x) > lambd, x, 0)


def softshrink(x: mx.array, lambd: float = 0.5) -> mx.array:
    return mx.sign(x) * mx.maximum(mx.abs(x) - lambd, 0)


def softsign(x: mx.array) -> mx.array:
    return x / (1 + mx.abs(x))


def threshold(x: mx.array, threshold: float, value: float) -> mx.array:
    return mx.where(x > threshold, x, value)


def glu(x: mx.array, axis: int = -1) -> mx.array:
    """The first half of an axis, as much of it as the second lets through."""
    if axis in (-1, x.ndim - 1):
        return layers.glu(x)
    values, gates = mx.split(x, 2, axis=axis)
    return values * mx.sigmoid(gates)


def softmax(x: mx.array, axis: int = -1) -> mx.array:
    below = mx.exp(x - x.max(axis=axis, keepdims=True))
    return below / layers.total(below, axis % x.ndim)[_at(axis % x.ndim)]


def log_softmax(x: mx.array, axis: int = -1) -> mx.array:
    below = x - x.max(axis=axis, keepdims=True)
    return below - mx.log(layers.total(mx.exp(below), axis % x.ndim)[_at(axis % x.ndim)])


def _at(axis: int) -> tuple[slice | None, ...]:
    """Where an axis that was summed up is put back."""
    return (*([slice(None)] * axis), None)

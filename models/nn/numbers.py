"""Functions of numbers alone or in pairs that MLX lacks, or has otherwise; complex numbers, too."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np

from samevoice.models import fast


def trunc(x: mx.array) -> mx.array:
    return mx.sign(x) * mx.floor(mx.abs(x))


def cube(x: mx.array) -> mx.array:
    return x * x * x


def nan_to_num(
    x: mx.array,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> mx.array:
    """Numbers for what is none; what is infinite becomes the largest number, if none is said."""
    return mx.nan_to_num(x, 0.0 if nan is None else nan, posinf, neginf)


def erf(x: mx.array) -> mx.array:
    if fast.on_cpu():  # MLX's own errs eight times as much there
        from scipy.special import erf as exact  # takes a while to import

        return mx.array(exact(np.asarray(x.astype(mx.float32))), dtype=x.dtype)
    return mx.erf(x)


def frac(x: mx.array) -> mx.array:
    return x - trunc(x)


def fmod(x: mx.array, y: mx.array | float) -> mx.array:
    """What division leaves over, with the sign of x."""
    return mx.sign(x) * (mx.abs(x) % mx.abs(mx.array(y, dtype=x.dtype)))


def truncated(x: mx.array, y: mx.array | float) -> mx.array:
    """x / y without what stands behind the point; of integers, too."""
    if mx.issubdtype(x.dtype, mx.floating):
        return trunc(x / y)
    divisor = mx.array(y, dtype=x.dtype)
    return mx.sign(x) * mx.sign(divisor) * (mx.abs(x) // mx.abs(divisor))


def floored(x: mx.array, y: mx.array | float) -> mx.array:
    """x // y towards minus infinity: by what the remainder leaves, so that no rounding decides."""
    divisor = y if isinstance(y, mx.array) else mx.array(y, dtype=x.dtype)
    if mx.issubdtype(x.dtype, mx.floating):
        return mx.round((x - x % divisor) / divisor)
    whole = truncated(x, divisor)
    return whole - ((whole * divisor != x) & ((x < 0) != (divisor < 0))).astype(x.dtype)


def round_to(x: mx.array, decimals: int) -> mx.array:
    return mx.round(x * 10.0**decimals) / 10.0**decimals


def hypot(x: mx.array, y: mx.array) -> mx.array:
    """The length of (x, y)."""
    large, small = mx.maximum(mx.abs(x), mx.abs(y)), mx.minimum(mx.abs(x), mx.abs(y))
    share = small / mx.where(large > 0, large, 1)
    return large * mx.sqrt(1 + share * share)


def copysign(x: mx.array, y: mx.array) -> mx.array:
    return mx.where((y < 0) | (1 / y < 0), -mx.abs(x), mx.abs(x))


def xlogy(x: mx.array, y: mx.array) -> mx.array:
    return mx.where(x == 0, 0, x * mx.log(y))


def erfc(x: mx.array) -> mx.array:
    if fast.on_cpu():  # without the digits that 1 - erf loses
        from scipy.special import erfc as exact  # takes a while to import

        return mx.array(exact(np.asarray(x.astype(mx.float32))), dtype=x.dtype)
    return 1 - mx.erf(x)


def sinc(x: mx.array) -> mx.array:
    angle = mx.where(x == 0, 1, x * math.pi)
    return mx.where(x == 0, 1, mx.sin(angle) / angle)


def exp2(x: mx.array) -> mx.array:
    return mx.power(mx.array(2.0, dtype=x.dtype), x)


def logit(x: mx.array, eps: float | None = None) -> mx.array:
    x = x if eps is None else mx.clip(x, eps, 1 - eps)
    return mx.log(x / (1 - x))


def isclose(x: mx.array, y: mx.array, rtol: float = 1e-5, atol: float = 1e-8) -> mx.array:
    return mx.isclose(x, y, rtol, atol)


# Complex numbers ----------------------------------------------------------------------------------


def complex_of(real: mx.array, imag: mx.array) -> mx.array:
    return real + 1j * imag


def polar(length: mx.array, angle: mx.array) -> mx.array:
    return complex_of(length * mx.cos(angle), length * mx.sin(angle))


def angle(x: mx.array) -> mx.array:
    if mx.issubdtype(x.dtype, mx.complexfloating):
        return mx.arctan2(mx.imag(x), mx.real(x))
    return mx.where(x < 0, math.pi, mx.where(mx.isnan(x), x, 0))


def magnitude(x: mx.array) -> mx.array:
    """The length of a complex number."""
    return hypot(mx.real(x), mx.imag(x))


def direction(x: mx.array) -> mx.array:
    """A complex number as long as 1, or 0."""
    length = magnitude(x)
    return x / mx.where(length == 0, 1, length)


def as_pairs(x: mx.array) -> mx.array:
    """Complex (...) -> (..., 2): real and imaginary parts."""
    return mx.stack([mx.real(x), mx.imag(x)], axis=-1)


def as_complex(x: mx.array) -> mx.array:
    """(..., 2) -> complex (...)."""
    return complex_of(x[..., 0], x[..., 1])

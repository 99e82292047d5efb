"""Layout changes between torch and MLX, each with its way back.

A transform takes the source arrays of one rule and gives the target arrays. It must not look at
the values, only move them: rules.py also runs it on arrays without memory to learn the shapes
before anything is written. The two bias sums and the weight norm are the exceptions that compute,
in float64; they have no exact inverse, so the engine keeps their sources in the bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = tuple[Array, ...]


@dataclass(frozen=True)
class Transform:
    """One layout change; ``inverse`` is None where the values alone do not lead back."""

    name: str
    forward: Callable[..., Arrays]
    inverse: Callable[..., Arrays] | None


def permuted(*axes: int) -> Transform:
    """The axes of the source in that order."""
    return _permutation(f"axes {', '.join(map(str, axes))}", *axes)


def _permutation(name: str, *axes: int) -> Transform:
    back = tuple(int(axis) for axis in np.argsort(axes))
    return Transform(name, lambda w: (w.transpose(axes),), lambda w: (w.transpose(back),))


SAME = Transform("as is", lambda w: (w,), lambda w: (w,))
OIK_TO_OKI = _permutation("OIK -> OKI", 0, 2, 1)
OIHW_TO_OHWI = _permutation("OIHW -> OHWI", 0, 2, 3, 1)
# torch stores transposed convolutions with the input channels first.
IOK_TO_OKI = _permutation("IOK -> OKI", 1, 2, 0)
IOHW_TO_OHWI = _permutation("IOHW -> OHWI", 1, 2, 3, 0)


def _one_tap(name: str, taps: int) -> Transform:
    """(O, I, 1, ...) -> (O, I)."""
    axes = tuple(range(2, 2 + taps))
    return Transform(name, lambda w: (np.squeeze(w, axes),), lambda w: (np.expand_dims(w, axes),))


OI1_TO_OI = _one_tap("OI1 -> OI", 1)
OI11_TO_OI = _one_tap("OI11 -> OI", 2)


def _sum(b_ih: Array, b_hh: Array) -> Arrays:
    """(GH,), (GH,) -> (GH,) in float64, so that the cast that follows is the only rounding."""
    if b_ih.shape != b_hh.shape:  # numpy would broadcast without a word
        raise ValueError(f"the two biases differ in shape: {b_ih.shape}, {b_hh.shape}")
    return (b_ih.astype(np.float64) + b_hh.astype(np.float64),)


def _gru_biases(b_ih: Array, b_hh: Array) -> Arrays:
    """(3H,), (3H,) -> (3H,), (H,): gates r, z, n; the n part of b_hh is gated by r, so it stays."""
    gates = 2 * (b_hh.shape[0] // 3)
    (summed,) = _sum(b_ih, b_hh)
    return np.concatenate([summed[:gates], b_ih[gates:]]), b_hh[gates:]


def _weight_norm(norm: Array, direction: Array) -> Arrays:
    """(1, 1, K), (O, I, K) -> (O, K, I) in float64: each tap as long as its norm says."""
    if norm.shape != (1, 1, direction.shape[-1]):
        raise ValueError(f"a norm for each tap is wanted, and {norm.shape} is there")
    wide = direction.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an array without memory holds zeros
        weight = wide * (norm.astype(np.float64) / np.sqrt(np.square(wide).sum(axis=(0, 1))))
    return (weight.transpose(0, 2, 1),)


def _thirds(packed: Array) -> Arrays:
    """(3E, ...) -> three of (E, ...): query, key, value."""
    size = packed.shape[0] // 3
    return packed[:size], packed[size : 2 * size], packed[2 * size :]


# (4H,), (4H,) -> (4H,): MLX's LSTM has one bias; both frameworks order the gates i, f, g, o.
ADD_BIASES = Transform("bias_ih + bias_hh", _sum, None)
GRU_BIASES = Transform("bias_ih + bias_hh, n apart", _gru_biases, None)
WEIGHT_NORM = Transform("norm times direction, OIK -> OKI", _weight_norm, None)
SPLIT_QKV = Transform(
    "split q, k, v", _thirds, lambda q, k, v: (np.concatenate([q, k, v], axis=0),)
)


def cast(array: Array, dtype: str) -> Array:
    """Round floating values to ``dtype`` once; integers pass as they are."""
    if not is_floating(array.dtype) or array.dtype == np.dtype(dtype):
        return array
    if dtype == "bfloat16" and array.dtype == np.float64:
        # float64 -> bfloat16 goes through float32 in every library at hand. Rounding to odd
        # there keeps the lost bits visible, so that the second rounding is the only one.
        array = _to_odd_float32(array)
    with np.errstate(over="ignore"):  # the caller looks for infinities, and names the tensor
        return array.astype(np.dtype(dtype))


def is_floating(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.floating) or dtype == ml_dtypes.bfloat16


def _to_odd_float32(array: Array) -> Array:
    """float64 -> float32, truncated toward zero, the last bit set wherever something was cut."""
    with np.errstate(over="ignore"):
        nearest = array.astype(np.float32)
    finite = np.isfinite(nearest)
    too_far = finite & (np.abs(nearest.astype(np.float64)) > np.abs(array))
    truncated = np.where(too_far, np.nextafter(nearest, np.float32(0)), nearest)
    inexact = finite & (truncated.astype(np.float64) != array)
    bits = truncated.view(np.uint32) | inexact.astype(np.uint32)
    odd: Array = bits.view(np.float32)
    return odd

"""Weights into few bits and back, between numpy and MLX, which packs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from samevoice.converters.rules import Tensor
from samevoice.converters.transforms import Array
from samevoice.models import packing

if TYPE_CHECKING:
    import mlx.core as mx

    from samevoice.converters.recipe import Stored


def packed(name: str, array: Array, stored: Stored) -> Iterator[tuple[str, Array]]:
    """What a file holds of a weight: itself, or words with their scales and biases."""
    if not stored.bits:
        yield name, array
        return
    import mlx.core as mx

    made = mx.quantize(mx.array(array), stored.group_size, stored.bits)
    for target, part in zip((name, *packing.beside(name)), made, strict=True):
        yield target, _as_numpy(part)


def unpacked(
    weights: Mapping[str, Tensor], quantization: Mapping[str, Any] | None
) -> Iterator[tuple[str, Tensor]]:
    """Every weight of a bundle as numbers."""
    sides = {side for name in weights for side in packing.beside(name) if side in weights}
    for name, tensor in weights.items():
        scales, biases = packing.beside(name)
        if quantization and scales in weights:
            bits = packing.bits_of(quantization, name)
            yield name, Tensor.of(_unpacked(tensor, weights[scales], weights[biases], bits))
        elif name not in sides:
            yield name, tensor


def rounded(array: Array, stored: Stored) -> Array:
    """The numbers that are left of float32 ones once they were stored so."""
    tensors = {name: Tensor.of(part) for name, part in packed("x.weight", array, stored)}
    return dict(unpacked(tensors, {"bits": stored.bits}))["x.weight"].load()


def _unpacked(words: Tensor, scales: Tensor, biases: Tensor, bits: int) -> Array:
    import mlx.core as mx

    arrays = [mx.array(one.load()) for one in (words, scales, biases)]
    return _as_numpy(packing.dequantize(arrays[0], arrays[1], arrays[2], bits))


def _as_numpy(x: mx.array) -> Array:
    import mlx.core as mx

    if x.dtype == mx.bfloat16:
        return np.array(x.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.array(x)

"""Weights in few bits: what stands beside them, and back to numbers where MLX has no kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mlx.core as mx


def beside(name: str) -> tuple[str, str]:
    """Where a packed weight's scales and biases stand.

    ``linear.0.weight`` -> ``linear.0.scales``, as MLX names them; a layer with several matrices
    says whose they are: ``lstm.0.forward.Wx`` -> ``lstm.0.forward.Wx_scales``.
    """
    path, _, end = name.rpartition(".")
    start = f"{path}." if end == "weight" else f"{name}_"
    return f"{start}scales", f"{start}biases"


def bits_of(quantization: Mapping[str, Any], name: str) -> int:
    """The bits of a packed weight: its layer's own, or those of all."""
    own = quantization.get(name.rpartition(".")[0])
    return int((own if isinstance(own, Mapping) else quantization)["bits"])


def dequantize(packed: mx.array, scales: mx.array, biases: mx.array, bits: int) -> mx.array:
    """(..., N * bits / 32) words and (..., N / G) -> (..., N) numbers."""
    import mlx.core as mx

    values = packed.shape[-1] * 32 // bits
    return mx.dequantize(packed, scales, biases, values // scales.shape[-1], bits)


def unpacked(
    weights: Mapping[str, mx.array], quantization: Mapping[str, Any], kept: Mapping[str, Any]
) -> dict[str, mx.array]:
    """Every weight as numbers, but those whose scales are among ``kept``: MLX multiplies them."""
    made, gone = {}, set()
    for name, x in weights.items():
        scales, biases = beside(name)
        if scales in weights and scales not in kept:
            gone |= {scales, biases}
            x = dequantize(x, weights[scales], weights[biases], bits_of(quantization, name))
        made[name] = x
    return {name: x for name, x in made.items() if name not in gone}

"""SimAM: an attention without weights of its own."""

from __future__ import annotations

import mlx.core as mx

from samevoice.models.layers import Module, total

LAMBDA = 1e-4  # so that a constant channel is not divided by zero


class SimAM(Module):
    """Each value weighed by how far it lies from its channel's mean: (B, F, T, C) -> the same."""

    def __call__(self, x: mx.array) -> mx.array:
        rows = x.reshape(x.shape[0], -1, x.shape[-1]).astype(mx.float32)
        count = rows.shape[1]
        squares = mx.square(rows - (total(rows, 1) / count)[:, None])
        # One value alone is 0 / 0 = NaN, as in torch.
        variance = (total(squares, 1) / mx.array(count - 1, dtype=mx.float32))[:, None]
        gates = mx.sigmoid(squares / (4 * (variance + LAMBDA)) + 0.5)
        return (rows * gates).reshape(x.shape).astype(x.dtype)

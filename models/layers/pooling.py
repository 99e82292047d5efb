"""Statistics pooling: a recording of any length becomes one vector a speaker."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from samevoice.models.layers import Module, total

TINY = 1e-8  # pyannote's; without it an empty or a one-frame mask divides by zero


class StatsPool(Module):
    """(B, F, T, C), (B, S, T') or None -> (B, S, 2CF) or (B, 2CF), in the type of the frames.

    With ``rows`` 1 the frames are (B, T, C), and S is 1 without masks.
    """

    def __init__(self, rows: int | None = None) -> None:
        super().__init__()
        self.rows = rows

    def __call__(self, frames: mx.array, masks: mx.array | None = None) -> mx.array:
        alone = self.rows == 1
        stats = stats_pool(frames[:, None] if alone else frames, masks).astype(frames.dtype)
        return stats[:, None] if alone and masks is None else stats


def stats_pool(x: mx.array, weights: mx.array | None = None) -> mx.array:
    """(B, F, T, C), (B, S, T') or None -> (B, S, 2CF) or (B, 2CF): mean, then unbiased std, over T.

    Weights of another length than T are read at the nearest index below.
    """
    x = x.astype(mx.float32)
    if weights is None:
        return mx.concatenate([flatten(part) for part in plain_stats(x)], axis=-1)
    weights = resample(weights.astype(mx.float32), x.shape[2])
    speakers = [weighted_stats(x, weights[:, s]) for s in range(weights.shape[1])]
    vectors = [mx.concatenate([flatten(p) for p in parts], axis=-1) for parts in speakers]
    return mx.stack(vectors, axis=1)


def plain_stats(x: mx.array) -> tuple[mx.array, mx.array]:
    """(B, F, T, C) -> mean and std, each (B, F, C)."""
    mean = (total(x, 2) / x.shape[2])[:, :, None]
    # Unbiased, so T - 1; one frame alone is 0 / 0 = NaN, as in torch.
    squares = total(mx.square(x - mean), 2)
    var = squares / mx.array(x.shape[2] - 1, dtype=mx.float32)
    return mean[:, :, 0], mx.sqrt(var)


def weighted_stats(x: mx.array, weights: mx.array) -> tuple[mx.array, mx.array]:
    """(B, F, T, C), (B, T) -> mean and std, each (B, F, C); zeros where the mask is empty."""
    w = weights[:, None, :, None]
    v1 = w.sum(axis=2) + TINY
    v2 = mx.square(w).sum(axis=2)
    mean = total(x * w, 2) / v1
    squares = total(mx.square(x - mean[:, :, None]) * w, 2)
    return mean, mx.sqrt(squares / (v1 - v2 / v1 + TINY))


def resample(weights: mx.array, frames: int) -> mx.array:
    """(B, S, T') -> (B, S, frames): the value at index floor(i * T' / frames)."""
    count = weights.shape[-1]
    if count == frames:
        return weights
    # torch computes the index in float32; so does this, for frames where rounding decides.
    scale = np.float32(count / frames)
    index = np.floor(np.arange(frames, dtype=np.float32) * scale).astype(np.int32)
    return weights[..., mx.array(np.minimum(index, count - 1))]


def flatten(x: mx.array) -> mx.array:
    """(B, F, C) -> (B, CF)."""
    # The next Linear expects C-major order. F-major has the same shape, loads
    # without complaint and gives wrong embeddings.
    return x.swapaxes(1, 2).reshape(x.shape[0], -1)

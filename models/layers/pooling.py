"""Statistics pooling: a recording of any length becomes one vector a speaker."""

from __future__ import annotations

from functools import reduce
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models.layers import Module, relu, total

TINY = 1e-8  # pyannote's; without it an empty or a one-frame mask divides by zero


class StatsPool(Module):
    """(B, F, T, C), (B, S, T') or None -> (B, S, 2CF) or (B, 2CF), in the type of the frames.

    With ``rows`` 1 the frames are (B, T, C), and S is 1 without masks, unless that is ``flat``.
    ``added`` is added to the variance.
    """

    def __init__(self, rows: int | None = None, flat: bool = False, added: float = 0.0) -> None:
        super().__init__()
        self.rows, self.flat, self.added = rows, flat or rows != 1, added

    def __call__(self, frames: mx.array, masks: mx.array | None = None) -> mx.array:
        image = frames[:, None] if self.rows == 1 else frames
        stats = stats_pool(image, masks, added=self.added)
        stats = stats if self.flat or masks is not None else stats[:, None]
        return stats.astype(frames.dtype)


def stats_pool(x: mx.array, weights: mx.array | None = None, *, added: float = 0.0) -> mx.array:
    """(B, F, T, C), (B, S, T') or None -> (B, S, 2CF) or (B, 2CF): mean, then unbiased std, over T.

    Weights of another length than T are read at the nearest index below.
    """
    x = x.astype(mx.float32)
    if weights is None:
        return mx.concatenate([flatten(part) for part in plain_stats(x, added)], axis=-1)
    weights = resample(weights.astype(mx.float32), x.shape[2])
    speakers = [weighted_stats(x, weights[:, s], added) for s in range(weights.shape[1])]
    vectors = [mx.concatenate([flatten(p) for p in parts], axis=-1) for parts in speakers]
    return mx.stack(vectors, axis=1)


def plain_stats(x: mx.array, added: float = 0.0) -> tuple[mx.array, mx.array]:
    """(B, F, T, C) -> mean and std, each (B, F, C)."""
    mean = (total(x, 2) / x.shape[2])[:, :, None]
    # Unbiased, so T - 1; one frame alone is 0 / 0 = NaN, as in torch.
    squares = total(mx.square(x - mean), 2)
    var = squares / mx.array(x.shape[2] - 1, dtype=mx.float32)
    return mean[:, :, 0], mx.sqrt(var + added)


def weighted_stats(x: mx.array, weights: mx.array, added: float = 0.0) -> tuple[mx.array, mx.array]:
    """(B, F, T, C), (B, T) -> mean and std, each (B, F, C); zeros where the mask is empty."""
    w = weights[:, None, :, None]
    v1 = w.sum(axis=2) + TINY
    v2 = mx.square(w).sum(axis=2)
    mean = total(x * w, 2) / v1
    squares = total(mx.square(x - mean[:, :, None]) * w, 2)
    return mean, mx.sqrt(squares / (v1 - v2 / v1 + TINY) + added)


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


class AttentivePool(Module):
    """Mean and deviation of each channel, every frame weighed by what it says of that channel.

    (B, T, C), (B, S, T') or None -> (B, S, 2C); without masks (B, 2C), or (B, 1, 2C) with ``rows``
    1. A network names the layers that weigh the frames as its authors do, and says in
    ``score_layers`` which they are: a linear layer, a norm with a ReLU before it or "", and a
    linear layer. An ``image`` (B, F, T, C) is flattened to (B, T, CF).
    """

    score_layers = ("linear1", "", "linear2")
    has_tanh = True  # before the last of them
    # What stands beside each frame, the whole's mean and deviation: "" for nothing, "biased", or
    # "unbiased" with 1e-7 added to the variance.
    context = ""
    floor = 1e-7  # of the variance
    masked = False  # whether it takes masks, which then multiply the weights
    rows: int | None = None
    image = False

    def __call__(self, frames: mx.array, masks: mx.array | None = None) -> mx.array:
        if self.image:  # channels first, as ``flatten`` has them
            frames = frames.transpose(0, 2, 3, 1).reshape(frames.shape[0], frames.shape[2], -1)
        weights = mx.softmax(self.scores(frames).astype(mx.float32), axis=1)
        x = frames.astype(mx.float32)
        if masks is not None:
            each = resample(masks.astype(mx.float32), x.shape[1]).swapaxes(0, 1)
            found = mx.stack([self._masked(x, weights * mask[..., None]) for mask in each], axis=1)
        else:
            found = self._stats(x, weights, 0.0)
            found = found[:, None] if self.rows == 1 else found
        return found.astype(frames.dtype)

    def scores(self, frames: mx.array) -> mx.array:
        """(B, T, C) -> (B, T, C), before the softmax over time."""
        y = self.hidden(self.with_context(frames) if self.context else frames)
        scored: mx.array = self.parts()[2](mx.tanh(y) if self.has_tanh else y)
        return scored

    def hidden(self, x: mx.array) -> mx.array:
        """What the first layer and the norm behind it give; a block of both is called instead."""
        first, norm, _ = self.parts()
        y: mx.array = first(x)
        return norm(relu(y)) if norm is not None else y

    def parts(self) -> tuple[Any, Any, Any]:
        """What ``score_layers`` names, None for ""."""
        first, norm, last = (_at(self, path) if path else None for path in self.score_layers)
        return first, norm, last

    def with_context(self, frames: mx.array) -> mx.array:
        """(B, T, C) -> (B, T, 3C)."""
        x, count = frames.astype(mx.float32), frames.shape[1]
        mean = total(x, 1)[:, None] / count
        squares = total(mx.square(x - mean), 1)[:, None]
        if self.context == "biased":
            var = mx.maximum(squares / count, self.floor)
        else:  # one frame alone is 0 / 0 = NaN, as in torch
            var = squares / mx.array(count - 1, dtype=mx.float32) + 1e-7
        beside = (mx.broadcast_to(one, x.shape) for one in (mean, mx.sqrt(var)))
        return mx.concatenate([frames, *(one.astype(frames.dtype) for one in beside)], axis=-1)

    def _masked(self, x: mx.array, weights: mx.array) -> mx.array:
        sums = total(weights, 1)[:, None] + TINY
        return self._stats(x, weights / sums, TINY / sums)

    def _stats(self, x: mx.array, weights: mx.array, missing: mx.array | float) -> mx.array:
        """Of weights that add up to 1, but for what is ``missing``."""
        mean = total(weights * x, 1)[:, None]
        # The mean of squares less the mean's square, in a form that does not cancel.
        var = total(weights * mx.square(x - mean), 1)[:, None] + missing * mx.square(mean)
        return mx.concatenate([mean, mx.sqrt(mx.maximum(var, self.floor))], axis=-1)[:, 0]


class ASTP(AttentivePool):
    """WeSpeaker's: (B, T, C), or an ``image`` (B, F, T, C / F), -> (B, 2C)."""

    def __init__(self, channels: int, middle: int, with_context: bool, image: bool = False) -> None:
        super().__init__()
        self.linear1 = Linear(channels * (3 if with_context else 1), middle)
        self.linear2 = Linear(middle, channels)
        self.context, self.image = "unbiased" if with_context else "", image


def _at(module: Any, path: str) -> Any:
    """The layer at a path below: "tdnn.conv"."""
    parts = (int(part) if part.isdigit() else part for part in path.split("."))
    return reduce(lambda inner, part: inner[part], parts, module)

"""Convolutions of each channel alone, on a CPU in numpy: MLX's own take a hundred times as long.

A line of an image is one run of T * C numbers. A tap reads such a run a few channels further on,
and its weights lie repeated for a block of frames: all taps of a block are one call, which adds up
in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.lib.stride_tricks import as_strided

from samevoice.models.fast.cpu import Floats, Share, one_blas_thread, stacked

NUMBERS = 1 << 15  # in a block


@dataclass(frozen=True)
class Taps:
    """Weights of K lines by L frames, both odd, those of each tap repeated to a block."""

    tiles: Floats  # (K, L, some C)
    channels: int

    @classmethod
    def of(cls, weight: Floats) -> Taps:
        """(C, K, L)."""
        return cls(np.tile(weight.transpose(1, 2, 0), repeats(len(weight))), len(weight))

    def __call__(self, corner: Floats, line: int, out: Floats) -> Floats:
        """Into ``out`` (N,), at most a block. ``corner`` is where the first tap of the first output
        reads, and ``line`` how many numbers further the taps of the next line do."""
        down, across, _ = self.tiles.shape
        size = corner.itemsize
        steps = (line * size, self.channels * size, size)
        read = as_strided(corner, (down, across, len(out)), steps)
        tiles = self.tiles[:, :, : len(out)]
        return np.einsum("kln,kln->n", read, tiles, out=out)

    def along(self, padded: Floats, frames: slice) -> Floats:
        """Of taps in one line: (T + L - 1, C) -> these frames, (N, C)."""
        first, size = frames.start * self.channels, self.tiles.shape[2]
        made = np.empty((frames.stop - frames.start) * self.channels, dtype=np.float32)
        for left in range(0, len(made), size):
            self(padded.reshape(-1)[first + left :], 0, made[left : left + size])
        return made.reshape(-1, self.channels)

    @property
    def reach(self) -> int:
        """Frames before and behind one that it takes."""
        return len(self.tiles[0]) // 2


def repeats(channels: int) -> int:
    """Of so many numbers, in a block."""
    return max(1, NUMBERS // channels)


def depthwise(x: mx.array, weight: mx.array) -> mx.array:
    """(B, F, T, C), (C, K, L, 1), both odd -> (B, F, T, C), padded."""
    images, taps = np.asarray(x.astype(mx.float32)), Taps.of(np.array(weight[..., 0], np.float32))
    with one_blas_thread():
        made = stacked(len(images), lambda number, share: _convolved(images[number], taps, share))
    return mx.array(made).astype(x.dtype)


def _convolved(image: Floats, taps: Taps, share: Share) -> Floats:
    """(F, T, C) -> (F, T, C)."""
    above, before = taps.tiles.shape[0] // 2, taps.reach
    padded = np.pad(image, [(above, above), (before, before), (0, 0)])
    lines, out = padded.reshape(len(padded), -1), np.empty(image.shape, dtype=np.float32)
    made, size, width = out.reshape(len(image), -1), taps.tiles.shape[2], lines.shape[1]

    def work(row: int) -> None:
        for left in range(0, made.shape[1], size):
            taps(lines[row, left:], width, made[row, left : left + size])

    share(work, range(len(image)))
    return out

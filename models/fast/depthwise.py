"""Convolutions of each channel alone, on a CPU in numpy: MLX's own take a hundred times as long.

A line of an image is T * C numbers. A tap reads them a few channels further on, and its weights lie
repeated to a run that stays in the cache. All taps of any number of runs are one call: two threads
that make many short calls wait for the interpreter, and for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.lib.stride_tricks import as_strided

from samevoice.models.fast.cpu import Floats, Share, one_blas_thread, stacked

NUMBERS = 1 << 11  # in a run


@dataclass(frozen=True)
class Taps:
    """Weights of K lines by L frames, both odd, those of each tap repeated to a run."""

    tiles: Floats  # (K, L, some C)
    channels: int

    @classmethod
    def of(cls, weight: Floats, times: int = 0) -> Taps:
        """(C, K, L); ``times`` the channels are a run, or about ``NUMBERS``."""
        times = times or max(1, NUMBERS // len(weight))
        return cls(np.tile(weight.transpose(1, 2, 0), times), len(weight))

    def __call__(self, corner: Floats, line: int, out: Floats) -> Floats:
        """Into ``out`` (N,). ``corner`` is where the first tap of the first output reads, and
        ``line`` how many numbers further the taps of the next line do."""
        run = self.tiles.shape[2]
        cut = len(out) // run * run
        self._runs(corner, line, out[:cut].reshape(-1, run))
        if cut < len(out):
            self._runs(corner[cut:], line, out[None, cut:])
        return out

    def _runs(self, corner: Floats, line: int, out: Floats) -> None:
        """Into ``out`` (R, a run or less)."""
        down, across, _ = self.tiles.shape
        size, run = corner.itemsize, out.shape[1]
        steps = (line * size, self.channels * size, run * size, size)
        read = as_strided(corner, (down, across, *out.shape), steps)
        np.einsum("klrn,kln->rn", read, self.tiles[:, :, :run], out=out)

    def along(self, padded: Floats, frames: slice) -> Floats:
        """Of taps in one line: (T + L - 1, C) -> these frames, (N, C)."""
        made = np.empty((frames.stop - frames.start, self.channels), dtype=np.float32)
        self(padded.reshape(-1)[frames.start * self.channels :], 0, made.reshape(-1))
        return made

    @property
    def reach(self) -> int:
        """Frames before and behind one that it takes."""
        return len(self.tiles[0]) // 2


def depthwise(x: mx.array, weight: mx.array) -> mx.array:
    """(B, F, T, C), (C, K, L, 1), both odd -> (B, F, T, C), padded."""
    images, taps = np.asarray(x.astype(mx.float32)), Taps.of(np.array(weight[..., 0], np.float32))
    with one_blas_thread():
        made = stacked(len(images), lambda number, share: _convolved(images[number], taps, share))
    return mx.array(made).astype(x.dtype)


def _convolved(image: Floats, taps: Taps, share: Share) -> Floats:
    """(F, T, C) -> (F, T, C)."""
    above, before = taps.tiles.shape[0] // 2, taps.reach
    # In rows, whatever the order in memory was: the taps are read from there.
    padded = np.pad(np.ascontiguousarray(image), [(above, above), (before, before), (0, 0)])
    lines, out = padded.reshape(len(padded), -1), np.empty(image.shape, dtype=np.float32)
    made = out.reshape(len(image), -1)

    def work(row: int) -> None:
        taps(lines[row], lines.shape[1], made[row])

    share(work, range(len(image)))
    return out

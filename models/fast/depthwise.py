"""Convolutions of each channel alone, on a CPU in numpy: MLX's own take fifty times as long.

A line of an image is one run of T * C numbers. A tap reads such a run a few channels further on and
multiplies it with its weights, repeated for each frame of a block that stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from samevoice.models.fast.cpu import Floats, Share, one_blas_thread, stacked

NUMBERS = 1 << 12  # in a block of a line
ROWS = 8  # that are worked on at once

After = Callable[[slice, Floats], None]  # what is done to some rows (R, T * C), in place


def depthwise(x: mx.array, weight: mx.array) -> mx.array:
    """(B, F, T, C), (C, K, L, 1), both odd -> (B, F, T, C), padded."""
    images, tiles = np.array(x, dtype=np.float32), tiles_of(weight)
    made = stacked(len(images), lambda number, share: _convolved(images[number], tiles, share))
    return mx.array(made).astype(x.dtype)


def tiles_of(weight: mx.array) -> Floats:
    """(C, K, L, 1) -> (K, L, some C)."""
    taps = np.array(weight, dtype=np.float32)[..., 0].transpose(1, 2, 0)
    tiles: Floats = np.tile(taps, max(1, NUMBERS // taps.shape[-1]))
    return tiles


def _convolved(
    image: Floats, tiles: Floats, share: Share, after: After = lambda rows, made: None
) -> Floats:
    """(F, T, C), (K, L, some C) -> (F, T, C)."""
    rows, frames, channels = image.shape
    above, before = tiles.shape[0] // 2, tiles.shape[1] // 2
    line = frames * channels
    padded = np.zeros((rows + 2 * above, line + 2 * before * channels), dtype=np.float32)
    start = before * channels
    padded[above : above + rows, start : start + line] = image.reshape(rows, line)
    made = np.empty((rows, line), dtype=np.float32)
    size = tiles.shape[2]

    def work(strip: int) -> None:
        first, last = strip * ROWS, min(rows, (strip + 1) * ROWS)
        product = np.empty((last - first, size), dtype=np.float32)
        for left in range(0, line, size):
            width = min(size, line - left)
            total, part = made[first:last, left : left + width], product[:, :width]
            for down, across in np.ndindex(tiles.shape[:2]):
                reach = left + across * channels
                read = padded[first + down : last + down, reach : reach + width]
                tap = tiles[down, across, :width]
                if down or across:
                    np.multiply(read, tap, out=part)
                    total += part
                else:
                    np.multiply(read, tap, out=total)
        after(slice(first, last), made[first:last])

    share(work, range(-(-rows // ROWS)))
    return made.reshape(image.shape)


# A block of ReDimNet2 -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """Both convolutions with what stands behind them; the second norm lies in its matrix."""

    tiles: tuple[Floats, Floats]
    matrices: tuple[Floats, Floats]  # (C, C), inputs first
    shifts: tuple[Floats, Floats]  # (C,), before the ReLU
    norm: tuple[Floats, Floats]  # (C,) twice, behind the first ReLU

    def __call__(self, images: Floats) -> Floats:
        """(B, F, T, C) -> (B, F, T, C)."""
        with one_blas_thread():
            return stacked(len(images), lambda number, share: self._run(images[number], share))

    def _run(self, image: Floats, share: Share) -> Floats:
        frames = image.shape[1]
        first, second, scale, offset = (np.tile(x, frames) for x in (*self.shifts, *self.norm))
        lines = image.reshape(len(image), -1)

        def normed(rows: slice, made: Floats) -> None:
            _mix(made, self.matrices[0])
            made += first
            np.maximum(made, 0, out=made)
            made *= scale
            made += offset

        def added(rows: slice, made: Floats) -> None:
            _mix(made, self.matrices[1])
            made += second
            made += lines[rows]
            np.maximum(made, 0, out=made)

        middle = _convolved(image, self.tiles[0], share, normed)
        return _convolved(middle, self.tiles[1], share, added)


def _mix(rows: Floats, matrix: Floats) -> None:
    """(R, T * C), (C, C): each pixel's channels by the matrix, in place."""
    pixels = rows.reshape(-1, len(matrix))
    pixels[...] = pixels @ matrix


def block_of(block: Any) -> Block:
    """Of a ``networks.redimnet2.ResBlock`` in float32."""
    (scale, offset), (last, moved) = (norm.scale_shift() for norm in (block.bn1, block.bn2))
    first, second = (
        np.array(one.weight).astype(np.float64) for one in (block.conv1pw, block.conv2pw)
    )
    biases = [np.array(one.bias).astype(np.float64) for one in (block.conv1pw, block.conv2pw)]
    float32 = np.float32
    return Block(
        (tiles_of(block.conv1.weight), tiles_of(block.conv2.weight)),
        (
            np.ascontiguousarray(first.T, dtype=float32),
            np.ascontiguousarray((second * last[:, None]).T, dtype=float32),
        ),
        (biases[0].astype(float32), (biases[1] * last + moved).astype(float32)),
        (scale.astype(float32), offset.astype(float32)),
    )

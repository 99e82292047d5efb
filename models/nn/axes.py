"""Functions that move numbers and change none."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import mlx.core as mx
import numpy as np


def pad(
    x: mx.array, widths: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0
) -> mx.array:
    """At both ends of each axis; what is less than nothing is cut off."""
    cut = tuple(
        slice(-min(a, 0), size + min(b, 0)) for size, (a, b) in zip(x.shape, widths, strict=True)
    )
    if cut != tuple(slice(0, size) for size in x.shape):
        x = x[cut]
    widths = [(max(a, 0), max(b, 0)) for a, b in widths]
    if mode == "constant":
        return mx.pad(x, widths, "constant", mx.array(value, dtype=x.dtype))
    for axis, (before, behind) in enumerate(widths):
        if before or behind:
            index = _beyond(x.shape[axis], before, behind, mode)
            x = mx.take(x, mx.array(index), axis=axis)
    return x


def _beyond(size: int, before: int, behind: int, mode: str) -> np.ndarray:
    """Which number stands where, with those beyond the edges."""
    places = np.arange(size)
    if mode == "edge":
        return np.pad(places, (before, behind), "edge")
    return np.pad(places, (before, behind), "reflect" if mode == "reflect" else "wrap")


def unbind(x: mx.array, axis: int = 0) -> list[mx.array]:
    return [part.squeeze(axis) for part in mx.split(x, x.shape[axis], axis=axis)]


def unfold(x: mx.array, size: int, step: int, axis: int) -> mx.array:
    """Windows of an axis, which stand in a new axis at the end."""
    count = (x.shape[axis] - size) // step + 1
    index = mx.arange(count)[:, None] * step + mx.arange(size)[None]
    made = mx.take(x, index.reshape(-1), axis=axis)
    made = made.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
    return mx.moveaxis(made, axis + 1, -1)


def roll(x: mx.array, shift: int | tuple[int, ...], axis: int | tuple[int, ...]) -> mx.array:
    """MLX's own, whose types lack the axes."""
    rolled: Any = mx.roll
    made: mx.array = rolled(x, shift, axis=axis)
    return made


def gather(x: mx.array, index: mx.array, axis: int) -> mx.array:
    return mx.take_along_axis(x, index, axis=axis)


def sort(x: mx.array, axis: int = -1, descending: bool = False) -> tuple[mx.array, mx.array]:
    """The numbers in order, and where they were."""
    order = mx.argsort(-x if descending else x, axis=axis)
    return mx.take_along_axis(x, order, axis=axis), order


def topk(x: mx.array, k: int, axis: int = -1, largest: bool = True) -> tuple[mx.array, mx.array]:
    values, order = sort(x, axis, descending=largest)
    first = (*([slice(None)] * (axis % x.ndim)), slice(k))
    return values[first], order[first]


def one_hot(x: mx.array, classes: int) -> mx.array:
    return (x[..., None] == mx.arange(classes)).astype(mx.int32)


def pixel_shuffle(x: mx.array, by: int) -> mx.array:
    """(B, H, W, C * by * by) -> (B, H * by, W * by, C)."""
    b, h, w, c = x.shape
    parts = x.reshape(b, h, w, c // by**2, by, by).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(b, h * by, w * by, c // by**2)


def pixel_unshuffle(x: mx.array, by: int) -> mx.array:
    """(B, H, W, C) -> (B, H / by, W / by, C * by * by)."""
    b, h, w, c = x.shape
    parts = x.reshape(b, h // by, by, w // by, by, c).transpose(0, 1, 3, 5, 2, 4)
    return parts.reshape(b, h // by, w // by, c * by**2)


def put(x: mx.array, index: tuple[mx.array, ...], value: mx.array | float) -> mx.array:
    """x with another value at these places; x itself stays."""
    made = mx.array(x)
    with _where_it_scatters(x):
        made[index] = value
    return made


def put_added(x: mx.array, index: tuple[Any, ...], value: mx.array) -> mx.array:
    """x with a value added at these places, several of them at one place, too."""
    with _where_it_scatters(x):
        return x.at[index].add(value)


def _where_it_scatters(x: mx.array) -> AbstractContextManager[object]:
    """Metal writes no numbers of eight bytes to places that are computed: a CPU does."""
    return mx.stream(mx.cpu) if x.dtype.size == 8 else nullcontext()


def put_along(x: mx.array, index: mx.array, value: mx.array | float, axis: int) -> mx.array:
    """x with values at these places of an axis, as ``gather`` reads them."""
    values = mx.broadcast_to(mx.array(value, dtype=x.dtype), index.shape)
    return put(x, _places(index, axis), values)


def add_along(x: mx.array, index: mx.array, value: mx.array, axis: int) -> mx.array:
    """x with values added at these places of an axis, several of them at one place, too."""
    return put_added(x, _places(index, axis), value)


def _places(index: mx.array, axis: int) -> tuple[mx.array, ...]:
    """The index of each place in every axis."""
    along = []
    for n, size in enumerate(index.shape):
        shape = [size if k == n else 1 for k in range(index.ndim)]
        along.append(index if n == axis else mx.arange(size).reshape(shape))
    return tuple(along)


def channel_shuffle(x: mx.array, groups: int) -> mx.array:
    """(..., C): the channels of all groups in turn."""
    parts = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return parts.swapaxes(-1, -2).reshape(x.shape)


def columns(
    x: mx.array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> mx.array:
    """torch's F.unfold: (B, C, H, W) -> (B, C * K * L, windows)."""
    (p, q), (h, w) = padding, x.shape[2:]
    x = mx.pad(x, [(0, 0), (0, 0), (p, p), (q, q)])
    for n, size in enumerate((h, w)):
        index = _windows(size + 2 * padding[n], kernel[n], stride[n], dilation[n])
        axis = 2 + 2 * n
        taken = mx.take(x, mx.array(index.reshape(-1)), axis=axis)
        x = taken.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return x.transpose(0, 1, 2, 4, 3, 5).reshape(x.shape[0], -1, x.shape[3] * x.shape[5])


def overlapped(
    x: mx.array,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> mx.array:
    """torch's F.fold: (B, C * K * L, windows) -> (B, C, H, W), windows added where they overlap."""
    (k, m), (p, q) = kernel, padding
    whole = (size[0] + 2 * p, size[1] + 2 * q)
    down = mx.array(_windows(whole[0], k, stride[0], dilation[0]))
    across = mx.array(_windows(whole[1], m, stride[1], dilation[1]))
    parts = x.reshape(x.shape[0], -1, k, m, down.shape[1], across.shape[1])
    parts = parts.transpose(0, 1, 2, 4, 3, 5)
    made = mx.zeros((*parts.shape[:2], *whole), dtype=x.dtype)
    everywhere = slice(None)
    made = put_added(made, (everywhere, everywhere, down[:, :, None, None], across), parts)
    return made[:, :, p : p + size[0], q : q + size[1]]


def _windows(size: int, kernel: int, stride: int, dilation: int) -> np.ndarray:
    """(K, windows): where each tap of each window reads."""
    count = (size - (kernel - 1) * dilation - 1) // stride + 1
    return np.arange(kernel)[:, None] * dilation + np.arange(count) * stride


def highest(x: mx.array, axis: int) -> tuple[mx.array, mx.array]:
    """The largest number so far, and where its last one was."""
    return _so_far(x, mx.cummax(x, axis=axis), axis)


def lowest(x: mx.array, axis: int) -> tuple[mx.array, mx.array]:
    """The smallest number so far, and where its last one was."""
    return _so_far(x, mx.cummin(x, axis=axis), axis)


def _so_far(x: mx.array, found: mx.array, axis: int) -> tuple[mx.array, mx.array]:
    places = mx.arange(x.shape[axis]).reshape([-1 if n == axis else 1 for n in range(x.ndim)])
    return found, mx.cummax(mx.where(x == found, places, 0), axis=axis)

"""Forms that are fast on a CPU, where MLX's convolution and its many small operations are not.

They compute in float32 and return their input's dtype, as a GPU that accumulates in float32 does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import mlx.core as mx
import numpy as np


def conv2d(x: mx.array, weight: mx.array, stride: int) -> mx.array:
    """(B, F, T, I), (O, K, K, I), K 1 or 3 -> (B, ceil(F / stride), ceil(T / stride), O)."""
    taps = weight.astype(mx.float32).transpose(1, 2, 3, 0)
    wide = x.astype(mx.float32)
    if taps.shape[0] == 1:
        return (wide[:, ::stride, ::stride] @ taps[0, 0]).astype(x.dtype)
    # Item by item: one image's sums stay in the cache, a batch's do not.
    items = [shifted_matmuls(image, taps, stride) for image in wide]
    return mx.stack(items).astype(x.dtype)


def shifted_matmuls(image: mx.array, taps: mx.array, stride: int) -> mx.array:
    """(F, T, I), (3, 3, I, O) -> (F', T', O): a matrix product for each of the nine taps.

    In the padded image, flattened to rows of I, each tap reads one unbroken run of rows. Each
    output line ends in a few products that straddle two lines; they are cut off at the end.
    """
    height, width, channels = image.shape
    rows, cols = -(-height // stride), -(-width // stride)
    reach = 2 // stride  # how far, in output steps, the last tap lies behind the first
    line = cols + reach
    below, right = stride * (rows + reach + 1) - 1 - height, stride * line - 1 - width
    padded = mx.pad(image, [(1, below), (1, right), (0, 0)])
    # With stride 2 even and odd rows and columns become images of their own.
    phases = {
        (a, b): padded[a::stride, b::stride].reshape(-1, channels)
        for a in range(stride)
        for b in range(stride)
    }
    total: mx.array | None = None
    for dy in range(3):
        for dx in range(3):
            start = (dy // stride) * line + dx // stride
            run = phases[dy % stride, dx % stride][start : start + rows * line]
            tap = taps[dy, dx]
            total = run @ tap if total is None else mx.addmm(total, run, tap)
    assert total is not None
    return total.reshape(rows, line, -1)[:, :cols]


def recur(projected: list[mx.array], wh: list[mx.array]) -> list[mx.array]:
    """An LSTM layer's recurrence in numpy, all directions at once.

    For each direction (T, B, 4H) inputs times Wx, in that direction's order, and (4H, H) ->
    (T, B, H). The gates stand in the order i, f, o, cell, those with a sigmoid negated.
    """
    mx.eval(projected, wh)
    inputs = [np.asarray(p) for p in projected]
    weights = np.stack([np.asarray(w).T for w in wh])
    steps, batch, width = inputs[0].shape
    units = width // 4
    states = np.zeros((steps + 1, len(wh), batch, units), dtype=np.float32)
    cell, change = np.zeros_like(states[0]), np.empty_like(states[0])
    gates = np.empty((len(wh), batch, width), dtype=np.float32)
    sigmoids, fresh = gates[..., : 3 * units], gates[..., 3 * units :]
    i, f, o = (gates[..., k * units : (k + 1) * units] for k in range(3))
    with (
        one_blas_thread(),
        np.errstate(over="ignore"),
    ):  # exp(100) is infinite, and its sigmoid rightly 0
        for t in range(steps):
            np.matmul(states[t], weights, out=gates)
            for way, added in enumerate(inputs):
                gates[way] += added[t]
            # Not by way of tanh: (1 + tanh(x / 2)) / 2 has no digits left where a gate is shut.
            np.exp(sigmoids, out=sigmoids)
            sigmoids += 1
            np.reciprocal(sigmoids, out=sigmoids)
            np.tanh(fresh, out=fresh)
            np.multiply(i, fresh, out=change)
            cell *= f
            cell += change
            np.tanh(cell, out=change)
            np.multiply(o, change, out=states[t + 1])
    return [mx.array(states[1:, way]) for way in range(len(wh))]


class _Single:
    """How many callers want one thread; the first sets it, the last puts back what there was."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.callers = 0
        self.before = 1

    def enter(self) -> None:
        read, write = _openblas()
        with self.lock:
            self.callers += 1
            if self.callers == 1 and read:
                self.before = read()
                write(1)

    def leave(self) -> None:
        _, write = _openblas()
        with self.lock:
            self.callers -= 1
            if not self.callers and write:
                write(self.before)


_single = _Single()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """numpy's OpenBLAS on a single thread, where numpy has brought one.

    A step's product is small. On a busy machine two threads that spin for each other have been
    seen to take fifty times as long as one.
    """
    # The setting is the whole process's: another thread may still be in here when this one leaves.
    _single.enter()
    try:
        yield
    finally:
        _single.leave()


@cache
def _openblas() -> tuple[Any, Any]:
    """The functions that read and set the number of threads of numpy's own OpenBLAS, or Nones."""
    libraries = (Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*")
    for library in map(ctypes.CDLL, map(str, libraries)):
        for name in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads"):
            if hasattr(library, name.format("get")):
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None, None

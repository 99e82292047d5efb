"""Forms that are fast on a CPU, where MLX's convolution and its many small operations are not.

They compute in float32 and return their input's dtype, as a GPU that accumulates in float32 does.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

ALL_BUT_CELL = np.array([1, 1, 0, 1], dtype=np.float32)[:, None]  # of the gates i, f, g, o


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
    (T, B, H). Both have the i, f and o rows halved, so that sigmoid(x) = (1 + tanh(x / 2)) / 2
    turns all gates into one tanh; halving is exact.
    """
    mx.eval(projected, wh)
    inputs = [np.asarray(p) for p in projected]
    steps, batch, width = inputs[0].shape
    # What is kept is twice the hidden state, which saves a pass; so the weights are halved again.
    weights = np.stack([np.asarray(w).T for w in wh]) * np.float32(0.5)
    doubled = np.zeros((steps + 1, len(wh), batch, width // 4), dtype=np.float32)
    cell, change = np.zeros_like(doubled[0]), np.empty_like(doubled[0])
    gates = np.empty((len(wh), batch, width), dtype=np.float32)
    split = gates.reshape(len(wh), batch, 4, width // 4)
    i, f, g, o = (split[:, :, k] for k in range(4))
    for t in range(steps):
        np.matmul(doubled[t], weights, out=gates)
        for way, added in enumerate(inputs):
            gates[way] += added[t]
        np.tanh(gates, out=gates)
        split += ALL_BUT_CELL
        np.multiply(i, g, out=change)
        cell *= f
        cell += change
        cell *= 0.5
        np.tanh(cell, out=change)
        np.multiply(o, change, out=doubled[t + 1])
    doubled *= 0.5
    return [mx.array(doubled[1:, way]) for way in range(len(wh))]

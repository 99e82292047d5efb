"""LSTM layers, one or two directions. Gates stand in torch's order: input, forget, cell, output."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np

from samevoice.models import fast
from samevoice.models.fast import cpu, lstm_kernel
from samevoice.models.layers import Module


class LSTM(Module):
    """One direction: Wx (4H, D), Wh (4H, H), and torch's two biases as one (4H,).

    (B, T, D) -> (B, T, H). A backward one reads from the last frame on, and its output is turned
    around again.
    """

    def __init__(self, inputs: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.Wx = mx.random.uniform(-bound, bound, (4 * hidden, inputs))
        self.Wh = mx.random.uniform(-bound, bound, (4 * hidden, hidden))
        self.bias = mx.random.uniform(-bound, bound, (4 * hidden,))
        self.backward = backward

    def __call__(self, x: mx.array) -> mx.array:
        return run([self], x)[0]


class BiLSTM(Module):
    """Both directions, or forward alone, side by side."""

    way = LSTM

    def __init__(self, inputs: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.forward = self.way(inputs, hidden)
        if bidirectional:
            self.backward = self.way(inputs, hidden, backward=True)

    @property
    def ways(self) -> list[LSTM]:
        """Forward, and backward where there is one."""
        return [self[way] for way in ("forward", "backward") if way in self]

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, D) -> (B, T, H) or, forward's features first, (B, T, 2H)."""
        alone = not (fast.whole_on_cpu() or fast.whole_on_gpu())
        outputs = [way(x) for way in self.ways] if alone else run(self.ways, x)
        return mx.concatenate(outputs, axis=-1)


def run(ways: list[LSTM], x: mx.array) -> list[mx.array]:
    """(B, T, D) -> (B, T, H) of each direction."""
    along = x.swapaxes(0, 1)
    inputs = [reverse(along) if way.backward else along for way in ways]
    form = on_host if fast.on_cpu() else on_gpu if fast.on_gpu() else in_graph
    outputs = zip(ways, form(inputs, ways), strict=True)
    return [(reverse(y) if way.backward else y).swapaxes(0, 1) for way, y in outputs]


def reverse(x: mx.array) -> mx.array:
    """(T, B, D) from the last frame to the first."""
    return x[::-1]


def on_host(inputs: list[mx.array], layers: list[LSTM]) -> list[mx.array]:
    """(T, B, D) -> (T, B, H) for each direction, in numpy."""
    found = cpu.recur([as_float32(x) for x in inputs], for_host(layers))
    return [mx.array(found[:, way], dtype=x.dtype) for way, x in enumerate(inputs)]


def for_host(layers: list[LSTM]) -> cpu.Gates:
    """The directions' weights as the host takes them."""
    ways = ((as_float32(way.Wx), as_float32(way.Wh), as_float32(way.bias)) for way in layers)
    return cpu.Gates.of(ways)


def as_float32(x: mx.array) -> cpu.Floats:
    """Onto the host."""
    return np.array(x.astype(mx.float32))


def on_gpu(inputs: list[mx.array], layers: list[LSTM]) -> list[mx.array]:
    """(T, B, D) -> (T, B, H) for each direction: in one kernel where it has proven itself."""
    gates, wh = side_by_side(inputs, layers)
    return apart(lstm_kernel.chosen(gates, wh, steps)(gates, wh))


def in_graph(inputs: list[mx.array], layers: list[LSTM]) -> list[mx.array]:
    """(T, B, D) -> (T, B, H) for each direction, all of it MLX."""
    return apart(steps(*side_by_side(inputs, layers)))


def side_by_side(inputs: list[mx.array], layers: list[LSTM]) -> tuple[mx.array, mx.array]:
    """(T, B, D) for each of W directions -> (T, W, B, 4H) times Wx, and all Wh as (W, H, 4H)."""
    pairs = zip(inputs, layers, strict=True)
    gates = mx.stack([mx.addmm(way.bias, x, way.Wx.T) for x, way in pairs], axis=1)
    return gates, mx.stack([way.Wh.T for way in layers])


def apart(states: mx.array) -> list[mx.array]:
    """(T, W, B, H) -> (T, B, H) for each direction."""
    return [states[:, way] for way in range(states.shape[1])]


def steps(gates: mx.array, wh: mx.array) -> mx.array:
    """(T, W, B, 4H), (W, H, 4H) -> (T, W, B, H), an operation at a time."""
    hidden = mx.zeros((*gates.shape[1:3], wh.shape[1]), dtype=gates.dtype)
    cell, states = hidden, []
    for fed in gates:
        i, f, g, o = mx.split(fed + hidden @ wh, 4, axis=-1)
        cell = mx.sigmoid(f) * cell + mx.sigmoid(i) * mx.tanh(g)
        hidden = mx.sigmoid(o) * mx.tanh(cell)
        states.append(hidden)
    return mx.stack(states)

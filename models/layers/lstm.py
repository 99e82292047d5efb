"""LSTM layers, one or two directions. Gates stand in torch's order: input, forget, cell, output."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np

from samevoice.models import fast
from samevoice.models.fast import cpu, lstm_kernel
from samevoice.models.layers import Module, taps


class LSTM(Module):
    """The weights of one direction: Wx (4H, D), Wh (4H, H), and torch's two biases as one (4H,)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.Wx = mx.random.uniform(-bound, bound, (4 * hidden, inputs))
        self.Wh = mx.random.uniform(-bound, bound, (4 * hidden, hidden))
        self.bias = mx.random.uniform(-bound, bound, (4 * hidden,))


class BiLSTM(Module):
    """One layer; ``backward`` reads from the last frame on and exists only when bidirectional."""

    def __init__(self, inputs: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.forward = LSTM(inputs, hidden)
        if bidirectional:
            self.backward = LSTM(inputs, hidden)

    @property
    def ways(self) -> list[LSTM]:
        """Forward, and backward where there is one."""
        return [self[way] for way in ("forward", "backward") if way in self]

    def __call__(self, x: mx.array, name: str = "lstm") -> mx.array:
        """(B, T, D) -> (B, T, H) or, forward's features first, (B, T, 2H)."""
        ways = ["forward", "backward"] if "backward" in self else ["forward"]
        inputs = [taps.feed(f"{name}.{way}", x).swapaxes(0, 1) for way in ways]
        # The backward direction sees time reversed, and its output is turned around again.
        inputs[1:] = [reverse(x) for x in inputs[1:]]
        run = on_host if fast.on_cpu() else on_gpu if fast.on_gpu() else in_graph
        outputs = run(inputs, [self[way] for way in ways])
        outputs[1:] = [reverse(y) for y in outputs[1:]]
        pairs = zip(ways, outputs, strict=True)
        return mx.concatenate(
            [taps.emit(f"{name}.{way}", y.swapaxes(0, 1)) for way, y in pairs], axis=-1
        )


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

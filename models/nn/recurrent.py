"""LSTM and GRU of any number of layers and directions, as torch stacks them."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

from samevoice.models.layers import Module
from samevoice.models.layers.lstm import LSTM as Way
from samevoice.models.layers.lstm import BiLSTM
from samevoice.models.nn.functions import in_turn


class GRUWay(Module):
    """One direction of one layer: Wx (3H, D), Wh (3H, H); gates reset, update, new."""

    def __init__(self, inputs: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.Wx = mx.random.uniform(-bound, bound, (3 * hidden, inputs))
        self.Wh = mx.random.uniform(-bound, bound, (3 * hidden, hidden))
        self.b = mx.random.uniform(-bound, bound, (3 * hidden,))
        self.bhn = mx.random.uniform(-bound, bound, (hidden,))
        self.backward = backward

    def __call__(self, x: mx.array) -> mx.array:
        return self.run(x, None)[0]

    def run(self, x: mx.array, hidden: mx.array | None) -> tuple[mx.array, mx.array]:
        """(B, T, D), (B, H) -> (B, T, H), (B, H)."""
        h = mx.zeros((x.shape[0], self.Wh.shape[1]), dtype=x.dtype) if hidden is None else hidden
        fed = mx.addmm(self.b, x, self.Wx.T)
        frames = range(x.shape[1])
        made: list[mx.array] = []
        for t in reversed(frames) if self.backward else frames:
            r, z, n = mx.split(fed[:, t], 3, axis=-1)
            hr, hz, hn = mx.split(h @ self.Wh.T, 3, axis=-1)
            r, z = mx.sigmoid(r + hr), mx.sigmoid(z + hz)
            n = mx.tanh(n + r * (hn + self.bhn))
            h = (1 - z) * n + z * h
            made.append(h)
        return mx.stack(made[::-1] if self.backward else made, axis=1), h


class BiGRU(Module):
    """Both directions, or forward alone, side by side."""

    def __init__(self, inputs: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.forward = GRUWay(inputs, hidden)
        if bidirectional:
            self.backward = GRUWay(inputs, hidden, backward=True)

    @property
    def ways(self) -> list[GRUWay]:
        return [self[way] for way in ("forward", "backward") if way in self]

    def __call__(self, x: mx.array) -> mx.array:
        return mx.concatenate([way(x) for way in self.ways], axis=-1)


class _Stack(Module):
    """(B, T, D) -> (B, T, H), or of both directions (B, T, 2H)."""

    layer: type[BiLSTM] | type[BiGRU]

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False
    ) -> None:
        super().__init__()
        width = hidden_size * (2 if bidirectional else 1)
        inputs = [input_size, *[width] * (num_layers - 1)]
        self.layers: list[Any] = [self.layer(one, hidden_size, bidirectional) for one in inputs]

    def __call__(self, x: mx.array) -> mx.array:
        return in_turn(self.layers, x)


class LSTM(_Stack):
    layer = BiLSTM

    def states(
        self, x: mx.array, hidden: mx.array | None = None, cell: mx.array | None = None
    ) -> tuple[mx.array, mx.array, mx.array]:
        """The same, and the last states (layers and directions, B, H); they may be given, too."""
        hiddens: list[mx.array] = []
        cells: list[mx.array] = []
        for layer in self.layers:
            made = []
            for way in layer.ways:
                n = len(hiddens)
                start = (None if hidden is None else hidden[n], None if cell is None else cell[n])
                y, h, c = _lstm(way, x, *start)
                made.append(y)
                hiddens.append(h)
                cells.append(c)
            x = mx.concatenate(made, axis=-1)
        return x, mx.stack(hiddens), mx.stack(cells)


def _lstm(
    way: Way, x: mx.array, hidden: mx.array | None, cell: mx.array | None
) -> tuple[mx.array, mx.array, mx.array]:
    zeros = mx.zeros((x.shape[0], way.Wh.shape[1]), dtype=x.dtype)
    h, c = zeros if hidden is None else hidden, zeros if cell is None else cell
    fed = mx.addmm(way.bias, x, way.Wx.T)
    frames = range(x.shape[1])
    made: list[mx.array] = []
    for t in reversed(frames) if way.backward else frames:
        i, f, g, o = mx.split(fed[:, t] + h @ way.Wh.T, 4, axis=-1)
        c = mx.sigmoid(f) * c + mx.sigmoid(i) * mx.tanh(g)
        h = mx.sigmoid(o) * mx.tanh(c)
        made.append(h)
    return mx.stack(made[::-1] if way.backward else made, axis=1), h, c


class GRU(_Stack):
    layer = BiGRU

    def states(self, x: mx.array, hidden: mx.array | None = None) -> tuple[mx.array, mx.array]:
        """The same, and the last states (layers and directions, B, H), which may be given, too."""
        states: list[mx.array] = []
        for layer in self.layers:
            made = []
            for way in layer.ways:
                y, h = way.run(x, None if hidden is None else hidden[len(states)])
                made.append(y)
                states.append(h)
            x = mx.concatenate(made, axis=-1)
        return x, mx.stack(states)

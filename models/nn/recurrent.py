"""LSTM, GRU and RNN of any number of layers and directions, as torch stacks them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import mlx.core as mx

from samevoice.models.layers import Module, lstm
from samevoice.models.nn.functions import in_turn


def _along(way: Any, x: mx.array, *states: mx.array) -> tuple[mx.array, ...]:
    """(B, T, D) and the states to begin with, (B, H) -> (B, T, H) and the last states."""
    fed = mx.addmm(way[way.biases[0]], x, way.Wx.T)
    frames = range(x.shape[1])
    made: list[mx.array] = []
    for t in reversed(frames) if way.backward else frames:
        states = way.step(fed[:, t], *states)
        made.append(states[0])
    return mx.stack(made[::-1] if way.backward else made, axis=1), *states


class LSTMWay(lstm.LSTM):
    """One direction of one layer; with states, it gives the last ones behind its output."""

    biases: tuple[str, ...] = ("bias",)

    def __call__(self, x: mx.array, *states: mx.array) -> Any:
        return _along(self, x, *states) if states else super().__call__(x)

    def step(self, fed: mx.array, h: mx.array, c: mx.array) -> tuple[mx.array, ...]:
        i, f, g, o = mx.split(fed + h @ self.Wh.T, 4, axis=-1)
        c = mx.sigmoid(f) * c + mx.sigmoid(i) * mx.tanh(g)
        return mx.sigmoid(o) * mx.tanh(c), c


class BiLSTM(lstm.BiLSTM):
    way = LSTMWay


class _Way(Module):
    """The same of other kinds: Wx (gates * H, D), Wh (gates * H, H), and biases."""

    gates = 1
    biases: tuple[str, ...] = ("bias",)

    def __init__(self, inputs: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        random = partial(mx.random.uniform, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))
        self.Wx = random((self.gates * hidden, inputs))
        self.Wh = random((self.gates * hidden, hidden))
        for name in self.biases:
            self[name] = random(((1 if name == "bhn" else self.gates) * hidden,))
        self.backward = backward

    def __call__(self, x: mx.array, *states: mx.array) -> Any:
        zeros = mx.zeros((x.shape[0], self.Wh.shape[1]), dtype=x.dtype)
        return _along(self, x, *states) if states else _along(self, x, zeros)[0]


class GRUWay(_Way):
    """Its gates are reset, update and new; the last has a bias of its own within."""

    gates, biases = 3, ("b", "bhn")

    def step(self, fed: mx.array, h: mx.array) -> tuple[mx.array, ...]:
        r, z, n = mx.split(fed, 3, axis=-1)
        hr, hz, hn = mx.split(h @ self.Wh.T, 3, axis=-1)
        r, z = mx.sigmoid(r + hr), mx.sigmoid(z + hz)
        n = mx.tanh(n + r * (hn + self.bhn))
        return ((1 - z) * n + z * h,)


class RNNWay(_Way):
    """torch's two biases are one."""

    relu = False

    def step(self, fed: mx.array, h: mx.array) -> tuple[mx.array, ...]:
        made = fed + h @ self.Wh.T
        return (mx.maximum(made, 0) if self.relu else mx.tanh(made),)


class ReluWay(RNNWay):
    relu = True


class _Both(Module):
    """Both directions, or forward alone, side by side."""

    def __init__(self, way: type[_Way], inputs: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.forward = way(inputs, hidden)
        if bidirectional:
            self.backward = way(inputs, hidden, backward=True)

    @property
    def ways(self) -> list[_Way]:
        return [self[way] for way in ("forward", "backward") if way in self]

    def __call__(self, x: mx.array) -> mx.array:
        return mx.concatenate([way(x) for way in self.ways], axis=-1)


class _Stack(Module):
    """(B, T, D) -> (B, T, H), or of both directions (B, T, 2H)."""

    layer: Any  # of so many inputs and hidden numbers, in both directions or not
    count = 1  # kinds of states

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False
    ) -> None:
        super().__init__()
        width = hidden_size * (2 if bidirectional else 1)
        inputs = [input_size, *[width] * (num_layers - 1)]
        self.layers: list[Any] = [self.layer(one, hidden_size, bidirectional) for one in inputs]

    def __call__(self, x: mx.array) -> mx.array:
        return in_turn(self.layers, x)

    def states(self, x: mx.array, *given: mx.array) -> tuple[mx.array, ...]:
        """The same, and the last state or states (layers and directions, B, H).

        They may be given, too: those of the run that this one goes on with.
        """
        ways = [len(layer.ways) for layer in self.layers]
        size = self.layers[0].ways[0].Wh.shape[1]
        zeros = mx.zeros((sum(ways), x.shape[0], size), dtype=x.dtype)
        given = given or (zeros,) * self.count
        ends: list[tuple[mx.array, ...]] = []
        for layer in self.layers:
            made = []
            for way in layer.ways:
                y, *last = way(x, *(one[len(ends)] for one in given))
                made.append(y)
                ends.append(tuple(last))
            x = mx.concatenate(made, axis=-1)
        return (x, *(mx.stack(list(one)) for one in zip(*ends, strict=True)))


class LSTM(_Stack):
    layer, count = BiLSTM, 2


class GRU(_Stack):
    layer = partial(_Both, GRUWay)


class RNN(_Stack):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        nonlinearity: str = "tanh",
    ) -> None:
        self.layer = partial(_Both, ReluWay if nonlinearity == "relu" else RNNWay)
        super().__init__(input_size, hidden_size, num_layers, bidirectional)

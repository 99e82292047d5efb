"""LSTM layers, one or two directions. Gates stand in torch's order: input, forget, cell, output."""

from __future__ import annotations

import math

import mlx.core as mx

from samevoice.models import taps
from samevoice.models.layers import Module


class LSTM(Module):
    """The weights of one direction: Wx (4H, D), Wh (4H, H), and torch's two biases as one (4H,)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.Wx = mx.random.uniform(-bound, bound, (4 * hidden, inputs))
        self.Wh = mx.random.uniform(-bound, bound, (4 * hidden, hidden))
        self.bias = mx.random.uniform(-bound, bound, (4 * hidden,))

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, D) -> (B, T, H), from the first frame on."""
        return recur(mx.addmm(self.bias, x, self.Wx.T), self.Wh)


def recur(projected: mx.array, wh: mx.array) -> mx.array:
    """(B, T, 4H) inputs already times Wx, (4H, H) -> (B, T, H)."""
    batch, steps, _ = projected.shape
    hidden = mx.zeros((batch, wh.shape[1]), dtype=projected.dtype)
    cell = hidden
    states = []
    for t in range(steps):
        i, f, g, o = mx.split(projected[:, t] + hidden @ wh.T, 4, axis=-1)
        cell = mx.sigmoid(f) * cell + mx.sigmoid(i) * mx.tanh(g)
        hidden = mx.sigmoid(o) * mx.tanh(cell)
        states.append(hidden)
    return mx.stack(states, axis=1)


class BiLSTM(Module):
    """One layer; ``backward`` reads from the last frame on and exists only when bidirectional."""

    def __init__(self, inputs: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.forward = LSTM(inputs, hidden)
        if bidirectional:
            self.backward = LSTM(inputs, hidden)

    def __call__(self, x: mx.array, name: str = "lstm") -> mx.array:
        """(B, T, D) -> (B, T, H) or, forward's features first, (B, T, 2H)."""
        ahead = taps.call(f"{name}.forward", self.forward, x)
        if "backward" not in self:
            return ahead
        back = taps.call(f"{name}.backward", lambda x: self.backward(x[:, ::-1])[:, ::-1], x)
        return mx.concatenate([ahead, back], axis=-1)

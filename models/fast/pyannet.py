"""PyanNet on a CPU, in numpy: SincNet with shared filters, the LSTMs, and the linear layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models.fast import sincnet
from samevoice.models.fast.cpu import Floats, Gates, one_blas_thread, recur
from samevoice.models.fast.resnet import are_plain
from samevoice.models.fast.sincnet import CpuSincNet, leaky
from samevoice.models.layers.lstm import BiLSTM, for_host


@dataclass(frozen=True)
class Layers:
    """All layers in numpy, as a CPU runs them fast."""

    front: CpuSincNet
    lstm: tuple[Gates, ...]
    linear: tuple[tuple[Floats, Floats], ...]  # (I, O) and (O,), the classifier's last

    def __call__(self, waveforms: Floats) -> Floats:
        """(B, N) -> (B, T, classes), before the activation."""
        x = self.front(waveforms).swapaxes(0, 1)
        for gates in self.lstm:
            x = _both_ways(recur([x, x[::-1]][: gates.wh.shape[1]], gates))
        x = np.ascontiguousarray(x.swapaxes(0, 1))
        *inner, (weight, bias) = self.linear
        with one_blas_thread():
            for inner_weight, inner_bias in inner:
                x = leaky(x @ inner_weight + inner_bias)
            return x @ weight + bias


def _both_ways(states: Floats) -> Floats:
    """(T, W, B, H), each direction in its own order -> (T, B, WH)."""
    return np.concatenate([states[:, 0], *states[::-1, 1:].swapaxes(0, 1)], axis=-1)


def of(network: Any) -> Layers | None:
    """The form of a ``networks.pyannet.PyanNet``, or None where it would compute otherwise."""
    front = sincnet.of(network.sincnet)
    linear = [*network.get("linear", ()), network.classifier]
    if front is None or not are_plain(linear, (Linear,)):
        return None
    if any(type(layer) is not BiLSTM for layer in network.lstm):
        return None
    return Layers(
        front,
        tuple(for_host(layer.ways) for layer in network.lstm),
        tuple((np.array(layer.weight).T, np.array(layer.bias)) for layer in linear),
    )

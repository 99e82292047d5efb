"""PyanNet: who speaks when, inside one chunk of audio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import pyannet as cpu_pyannet
from samevoice.models.layers import Kept, leaky_relu, sincnet
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.lstm import BiLSTM, as_float32
from samevoice.models.layers.sincnet import SincNet
from samevoice.models.network import Network, as_batch


def log_softmax(x: mx.array) -> mx.array:
    """(..., K) -> (..., K): from the largest score down, so that large ones cost no digits."""
    below = x - x.max(axis=-1, keepdims=True)
    return below - mx.log(mx.exp(below).sum(axis=-1, keepdims=True))


ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "log_softmax": log_softmax,
    "sigmoid": mx.sigmoid,
}


def activation_of(config: Mapping[str, Any]) -> Callable[[mx.array], mx.array]:
    """The function behind a segmentation's classifier."""
    if config["activation"] not in ACTIVATIONS:
        raise ValueError(f"activation {config['activation']!r}: one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[config["activation"]]


class PyanNet(Network):
    """SincNet, LSTM, linear layers, classifier: (B, 1, N) or (B, N) -> (B, T, classes)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.activation = activation_of(config)
        stride, rate = int(config["sincnet"]["stride"]), int(config.get("sample_rate", 16000))
        self.sincnet = SincNet(stride, rate)
        width = self._build_lstm(**config["lstm"])
        width = self._build_linear(width, **config["linear"])
        self.classifier = Linear(width, int(config["num_classes"]))
        self._kept: Kept[cpu_pyannet.Layers | None] = Kept()

    def _build_lstm(self, hidden_size: int, num_layers: int, bidirectional: bool, **_: Any) -> int:
        width = hidden_size * (2 if bidirectional else 1)
        inputs = [sincnet.CHANNELS, *[width] * (num_layers - 1)]
        self.lstm = [BiLSTM(n, hidden_size, bidirectional) for n in inputs]
        return width

    def _build_linear(self, width: int, hidden_size: int, num_layers: int, **_: Any) -> int:
        if num_layers < 1:
            return width
        inputs = [width, *[hidden_size] * (num_layers - 1)]
        self.linear = [Linear(n, hidden_size) for n in inputs]
        return hidden_size

    def __call__(self, waveforms: mx.array | np.ndarray) -> mx.array:
        """Of numpy's chunks, those that overlap in memory share work on a CPU."""
        if fast.whole_on_cpu() and (host := self._on_cpu()) is not None:
            if isinstance(waveforms, mx.array):
                waveforms = as_float32(waveforms)
            x = mx.array(host(as_batch(waveforms)))
        else:
            x = self._by_layers(mx.array(waveforms))
        return self.activation(x)

    def _by_layers(self, waveforms: mx.array) -> mx.array:
        """(B, 1, N) or (B, N) -> (B, T, classes), before the activation."""
        x = as_batch(waveforms)[:, :, None].astype(mx.float32)
        x = self.sincnet(x)
        for layer in self.lstm:
            x = layer(x)
        for linear in self.get("linear", ()):
            x = leaky_relu(linear(x))
        return self.classifier(x).astype(mx.float32)

    def _on_cpu(self) -> cpu_pyannet.Layers | None:
        """The same layers for a CPU, made anew when a weight was put in another's place."""
        weights = [*self.arrays, self.sincnet.conv[0].filters()]
        return self._kept.of(weights, lambda: cpu_pyannet.of(self))

    @property
    def windows(self) -> tuple[Window, ...]:
        return sincnet.windows(self.sincnet.stride)

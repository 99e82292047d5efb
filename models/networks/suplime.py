"""SuplimeSegmentation: WavLM, a learnt mixture of its layers, Conformer, linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models.layers import leaky_relu, wavlm
from samevoice.models.layers.conformer import Conformer
from samevoice.models.layers.geometry import Window
from samevoice.models.network import Network, as_batch
from samevoice.models.networks.pyannet import activation_of


class Wav2VecSegmentation(Network):
    """(B, 1, N) or (B, N) -> (B, T, classes), by way of the layers of a wav2vec network.

    What stands between these and the linear layers is the subclass's.
    """

    at_once = 1  # a chunk's first convolution alone gives 65 MB

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.activation = activation_of(config)
        said = config["wav2vec"]
        self.wav2vec = wavlm.Wav2Vec2(said)
        # Of the whole batch, as the original does: a chunk hears how loud its neighbours are.
        self.normalize_waveform = bool(config["normalize_waveform"])
        if config["wav2vec_layer"] < 0:
            self.mixture = wavlm.Mixture(int(said["encoder_num_layers"]))
        width = self._between(int(said["encoder_embed_dim"]), config)
        linear = config["linear"]
        inner, count = int(linear["hidden_size"]), int(linear["num_layers"])
        if count > 0:
            self.linear = [Linear(n, inner) for n in [width, *[inner] * (count - 1)]]
            width = inner
        self.classifier = Linear(width, int(config["num_classes"]))

    def _between(self, width: int, config: Mapping[str, Any]) -> int:
        """Builds what turns frames of so many numbers into frames of as many as it says."""
        raise NotImplementedError

    def _turned(self, x: mx.array) -> mx.array:
        raise NotImplementedError

    def __call__(self, waveforms: mx.array | np.ndarray) -> mx.array:
        x = self._turned(self.heard(as_batch(mx.array(waveforms))))
        for linear in self.get("linear", ()):
            x = leaky_relu(linear(x))
        return self.activation(self.classifier(x).astype(mx.float32))

    def heard(self, waveforms: mx.array) -> mx.array:
        """(B, N) -> (B, T, D): the mixture of layers, or the last one that there is."""
        if self.normalize_waveform:
            waveforms = wavlm.normalised(waveforms)
        layers = self.wav2vec(waveforms)
        last = next(layers)  # what goes into the first
        if "mixture" in self:
            mixed: mx.array = self.mixture.of(layers)
            return mixed
        for x in layers:
            last = x
        return last

    @property
    def windows(self) -> tuple[Window, ...]:
        return self.wav2vec.windows


class SuplimeSegmentation(Wav2VecSegmentation):
    def _between(self, width: int, config: Mapping[str, Any]) -> int:
        said = config["conformer"]
        self.conformer = Conformer(
            width,
            int(said["num_heads"]),
            int(said["ffn_dim"]),
            int(said["num_layers"]),
            int(said["depthwise_conv_kernel_size"]),
        )
        return width

    def _turned(self, x: mx.array) -> mx.array:
        return self.conformer(x)

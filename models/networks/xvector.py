"""pyannote.audio's x-vectors: whose voice it is, by what is heard at each moment and around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.nn.layers.linear import Linear

from samevoice.models.layers import BatchNorm, Conv1d, leaky_relu, sincnet
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.mel import MFCC
from samevoice.models.layers.pooling import StatsPool
from samevoice.models.layers.sincnet import SincNet
from samevoice.models.network import Embedding, as_batch


class XVector(Embedding):
    """Features (B, T, I) -> frames (B, T', C), and their mean and deviation -> embeddings.

    The norms stand behind the activations. An empty mask gives the last layer's bias.
    """

    def __init__(self, config: Mapping[str, Any], inputs: int) -> None:
        super().__init__(config)
        channels = [int(count) for count in config["channels"]]
        convs = list(zip(config["kernel_sizes"], config["dilations"], strict=True))
        self.tdnn: list[Any] = []
        for into, out, (kernel, dilation) in zip(
            [inputs, *channels], channels, convs, strict=False
        ):
            conv = Conv1d(into, out, kernel, dilation=dilation, bias=True, pads="nothing")
            self.tdnn.append(Linear(into, out) if kernel == 1 else conv)
        self.norm = [BatchNorm(count) for count in channels]
        self.stats_pool = StatsPool(rows=1, flat=True)
        self.embedding = Linear(2 * channels[-1], int(config["dimension"]))
        # A dilated kernel reaches as far as a whole one of its size.
        self._spans = [1 + (kernel - 1) * dilation for kernel, dilation in convs]

    def along_time(self, x: mx.array) -> mx.array:
        """(B, T, I) -> (B, T', C)."""
        for tdnn, norm in zip(self.tdnn, self.norm, strict=True):
            x = norm(leaky_relu(tdnn(x)))
        return x

    def pooled(self, frames: mx.array, masks: mx.array | None) -> mx.array:
        return self.embedding(self.stats_pool(frames, masks))

    @property
    def inner_windows(self) -> tuple[Window, ...]:
        return tuple(Window(span) for span in self._spans)


class XVectorSincNet(XVector):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config, sincnet.CHANNELS)
        self.sincnet = SincNet(int(config["sincnet"]["stride"]), int(config["sample_rate"]))

    def frames(self, x: mx.array) -> mx.array:
        return self.along_time(self.sincnet(as_batch(x)[:, :, None].astype(mx.float32)))

    @property
    def windows(self) -> tuple[Window, ...]:
        return (*sincnet.windows(self.sincnet.stride), *self.inner_windows)


class XVectorMFCC(XVector):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config, int(config["mfcc"]["n_mfcc"]))
        self.mfcc = MFCC(int(config["sample_rate"]), config["mfcc"])

    def frames(self, x: mx.array) -> mx.array:
        features = self.mfcc(as_batch(x)[:, None])[..., 0].swapaxes(1, 2)
        return self.along_time(features.astype(self.tdnn[0].weight.dtype))

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.mfcc.frames.step, *self.inner_windows)

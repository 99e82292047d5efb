"""SimAM-ResNets with attentive pooling: whose voice it is, by blocks that weigh what stands out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.nn.layers.linear import Linear

from samevoice.models.layers import BatchNorm, Module
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.pooling import AttentivePool
from samevoice.models.layers.residual import Trunk
from samevoice.models.layers.simam import SimAM
from samevoice.models.network import FbankEmbedding


class Front(Trunk):
    """(B, F, T, 1) -> (B, F', T', C)."""

    def __call__(self, image: mx.array) -> mx.array:
        return self.frames(image[..., 0].swapaxes(1, 2))


class ASP(AttentivePool):
    """(B, F, T, C), (B, S, T') or None -> (B, S, 2CF) or (B, 2CF)."""

    score_layers = ("attention.0", "attention.1", "attention.2")
    has_tanh, floor, masked, image = False, 1e-5, True, True

    def __init__(self, inputs: int, middle: int) -> None:
        super().__init__()
        self.attention = [Linear(inputs, middle), BatchNorm(middle), Linear(middle, inputs)]


class ResNet(Module):
    """(B, T, M) -> frames (B, F, T', C), and their statistics -> (B, S, E) or (B, E)."""

    def __init__(self, config: Mapping[str, Any], mels: int) -> None:
        super().__init__()
        channels = int(config["in_planes"])
        self.front = Front(config["layers"], channels, gate=SimAM)
        features = 8 * channels * -(-mels // 8)
        self.pooling = ASP(features, int(config["hidden"]))
        self.bottleneck = Linear(2 * features, int(config["embed_dim"]))


class SimAMResNet(FbankEmbedding):
    """(B, F, T', C) is what the pooling weighs; masks multiply its weights."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.resnet = ResNet(config, self.fbank.num_mel_bins)

    def frames(self, x: mx.array) -> mx.array:
        return self.resnet.front(self.features(x).swapaxes(1, 2)[..., None])

    def pooled(self, frames: mx.array, masks: mx.array | None) -> mx.array:
        return self.resnet.bottleneck(self.resnet.pooling(frames, masks))

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.fbank.window, *self.resnet.front.windows)

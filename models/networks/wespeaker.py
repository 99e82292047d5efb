"""WeSpeaker's ResNets: whose voice it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import mlx.core as mx
from mlx.nn.layers.linear import Linear

from samevoice.models.layers import BatchNorm, relu
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.pooling import StatsPool
from samevoice.models.layers.residual import Trunk
from samevoice.models.network import FbankEmbedding


class Layout(NamedTuple):
    """How many blocks each of the four stages has, and of which kind."""

    depths: tuple[int, int, int, int]
    bottleneck: bool


LAYOUTS = {
    "WeSpeakerResNet34": Layout((3, 4, 6, 3), bottleneck=False),
    "WeSpeakerResNet152": Layout((3, 8, 36, 3), bottleneck=True),
    "WeSpeakerResNet221": Layout((6, 16, 48, 3), bottleneck=True),
    "WeSpeakerResNet293": Layout((10, 20, 64, 3), bottleneck=True),
}


class ResNet(Trunk):
    """(B, T, M) -> (B, E), or with masks (B, S, T') -> (B, S, E)."""

    def __init__(
        self, layout: Layout, mels: int, channels: int, embed_dim: int, two_emb_layer: bool
    ) -> None:
        super().__init__(layout.depths, channels, layout.bottleneck)
        expansion = 4 if layout.bottleneck else 1
        self.pool = StatsPool()
        self.seg_1 = Linear(2 * (mels // 8) * 8 * channels * expansion, embed_dim)
        if two_emb_layer:
            self.seg_bn_1 = BatchNorm(embed_dim, affine=False)
            self.seg_2 = Linear(embed_dim, embed_dim)

    def embed(self, frames: mx.array, masks: mx.array | None = None) -> mx.array:
        """(B, F, T', C), (B, S, T'') or None -> (B, S, E) or (B, E)."""
        first = self.seg_1(self.pool(frames, masks))
        return self.seg_2(self.seg_bn_1(relu(first))) if "seg_2" in self else first


class WeSpeakerResNet(FbankEmbedding):
    """(B, F, T', C) is what the pooling averages."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.resnet = ResNet(
            LAYOUTS[config["architecture"]],
            self.fbank.num_mel_bins,
            int(config.get("m_channels", 32)),
            int(config.get("embed_dim", 256)),
            bool(config.get("two_emb_layer", False)),
        )

    def frames(self, x: mx.array) -> mx.array:
        return self.resnet.frames(self.features(x))

    def shared_frames(self, features: mx.array, *, between: bool) -> mx.array:
        """(B, T, M) of several chunks -> (B, F, T', C)."""
        return self.resnet.frames(features, between=between)

    @property
    def shared_windows(self) -> tuple[Window, ...]:
        return self.resnet.windows

    def pooled(self, frames: mx.array, masks: mx.array | None) -> mx.array:
        return self.resnet.embed(frames, masks)

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.fbank.window, *self.resnet.windows)

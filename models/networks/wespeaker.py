"""WeSpeaker's ResNets: whose voice it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import resnet as cpu_resnet
from samevoice.models.layers import BatchNorm, Conv2d, Kept, Module, relu
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.pooling import StatsPool
from samevoice.models.layers.residual import Block
from samevoice.models.network import FbankEmbedding, interleaved


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


class ResNet(Module):
    """(B, T, M) -> (B, E), or with masks (B, S, T') -> (B, S, E)."""

    def __init__(
        self, layout: Layout, mels: int, channels: int, embed_dim: int, two_emb_layer: bool
    ) -> None:
        super().__init__()
        expansion = 4 if layout.bottleneck else 1
        self.conv1 = Conv2d(1, channels, 3)
        self.bn1 = BatchNorm(channels)
        inputs = channels
        for stage, depth in enumerate(layout.depths):
            planes = channels << stage
            strides = [1 if stage == 0 else 2, *[1] * (depth - 1)]
            blocks = []
            for stride in strides:
                blocks.append(Block(inputs, planes, (stride, stride), layout.bottleneck))
                inputs = planes * expansion
            self[f"layer{stage + 1}"] = blocks
        self.pool = StatsPool()
        self.seg_1 = Linear(2 * (mels // 8) * 8 * channels * expansion, embed_dim)
        if two_emb_layer:
            self.seg_bn_1 = BatchNorm(embed_dim, affine=False)
            self.seg_2 = Linear(embed_dim, embed_dim)
        self._host: Kept[cpu_resnet.Trunk | None] = Kept()
        self._fused: Kept[Callable[[mx.array], mx.array]] = Kept()

    @property
    def blocks(self) -> list[tuple[str, Block]]:
        """Every block with its path below this module."""
        stages = (f"layer{stage}" for stage in range(1, 5))
        return [(f"{s}.{i}", block) for s in stages for i, block in enumerate(self[s])]

    @property
    def windows(self) -> tuple[Window, ...]:
        inner = (window for _, block in self.blocks for window in block.windows)
        return (Window(3, 1, 1), *inner)

    def frames(self, fbank: mx.array, *, between: bool = False) -> mx.array:
        """(B, T, M) -> (B, F, T', C); with the frames that lie ``between``, twice as many.

        Only the last stage runs twice for them: what it sees has half of its stride.
        """
        if fast.whole_on_gpu():
            return self._on_gpu(between)(fbank)
        if fast.whole_on_cpu() and (trunk := self._on_cpu()) is not None:
            return mx.array(trunk(np.array(fbank, dtype=np.float32), between=between))
        return self._by_layers(fbank, between)

    def _on_gpu(self, between: bool) -> Callable[[mx.array], mx.array]:
        """The layers as one function, so that MLX joins what stands between the convolutions."""

        def layers(fbank: mx.array) -> mx.array:
            return self._by_layers(fbank, between)

        return self._fused.of(self.arrays, lambda: mx.compile(layers), between)

    def _by_layers(self, fbank: mx.array, between: bool) -> mx.array:
        x = fbank.swapaxes(1, 2)[..., None].astype(self.conv1.weight.dtype)
        x = relu(self.bn1(self.conv1(x)))
        *early, last = range(1, 5)
        for stage in early:
            x = self._stage(x, stage)
        found = self._stage(x, last)
        if not between or x.shape[2] < 2:
            return found
        return interleaved(found, self._stage(x[:, :, 1:], last))

    def _stage(self, x: mx.array, stage: int) -> mx.array:
        for block in self[f"layer{stage}"]:
            x = block(x)
        return x

    def _on_cpu(self) -> cpu_resnet.Trunk | None:
        """The same layers for a CPU, made anew when a weight was put in another's place."""
        return self._host.of(self.arrays, lambda: cpu_resnet.of(self))

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

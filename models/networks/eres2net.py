"""ERes2Net: whose voice it is, by residual blocks whose parts, scales and stages are fused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.nn.layers.activations import silu
from mlx.nn.layers.linear import Linear

from samevoice.models.layers import BatchNorm, Conv2d, Module, relu
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.pooling import ASTP, StatsPool
from samevoice.models.network import CutEmbedding, FbankEmbedding

STAGES = (1, 2, 3, 4)
FUSED = (3, 4)  # stages whose blocks weigh their parts before they add them
REDUCED = 4  # times fewer channels between the two layers of a fusion
FEWEST = 9  # frames of features, so that two are left to have a deviation


class ReLU(Module):
    """The authors' own, which lets through no more than its ceiling."""

    ceiling = 20.0

    def __call__(self, x: mx.array) -> mx.array:
        return mx.clip(x, 0.0, self.ceiling)


class AFF(Module):
    """Two images, each weighed by what both say: (B, F, T, C) twice -> (B, F, T, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // REDUCED
        self.local_att = [
            *(Linear(2 * channels, inner), BatchNorm(inner)),
            *(Linear(inner, channels), BatchNorm(channels)),
        ]

    def __call__(self, x: mx.array, y: mx.array) -> mx.array:
        first, norm, second, last = self.local_att
        weights = silu(norm(first(mx.concatenate([x, y], axis=-1))))
        weights = mx.tanh(last(second(weights)))
        return x * (1 + weights) + y * (1 - weights)


class Block(Module):
    """Parts of the channels, one after the other, beside a shortcut: (B, F, T, C) -> (..., C').

    Each part but the first takes the one before, added to it or ``fused`` with it.
    """

    def __init__(
        self, inputs: int, planes: int, stride: int, config: Mapping[str, Any], fused: bool
    ) -> None:
        super().__init__()
        scale = int(config["scale"])
        width = int(planes * (config["base_width"] / 64))
        outputs = planes * int(config["expansion"])
        self.conv1 = Conv2d(inputs, width * scale, 1, (stride, stride))
        self.bn1, self.relu = BatchNorm(width * scale), ReLU()
        self.convs = [Conv2d(width, width, 3) for _ in range(scale)]
        self.bns = [BatchNorm(width) for _ in range(scale)]
        if fused:
            self.fuse_models = [AFF(width) for _ in range(scale - 1)]
        self.conv3, self.bn3 = Conv2d(width * scale, outputs, 1), BatchNorm(outputs)
        if stride != 1 or inputs != outputs:
            shortcut = Conv2d(inputs, outputs, 1, (stride, stride))
            self.shortcut = [shortcut, BatchNorm(outputs)]

    def __call__(self, x: mx.array) -> mx.array:
        parts = mx.split(self.relu(self.bn1(self.conv1(x))), len(self.convs), axis=-1)
        made: list[mx.array] = []
        for number, (part, conv, norm) in enumerate(zip(parts, self.convs, self.bns, strict=True)):
            if number and "fuse_models" in self:
                part = self.fuse_models[number - 1](made[-1], part)
            elif number:
                part = made[-1] + part
            made.append(self.relu(norm(conv(part))))
        y = self.bn3(self.conv3(mx.concatenate(made, axis=-1)))
        for layer in self.get("shortcut", ()):
            x = layer(x)
        return self.relu(y + x)

    @property
    def windows(self) -> tuple[Window, ...]:
        # Of the longest way through it.
        return (Window(1, self.conv1.stride[1]), *[Window(3, 1, 1)] * len(self.convs))


class ERes2Net(FbankEmbedding, CutEmbedding):
    """Features (B, T, M) -> (B, E). It takes no masks: voices are cut out of the features."""

    fewest_frames = FEWEST

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        channels, expansion = int(config["m_channels"]), int(config["expansion"])
        self.conv1, self.bn1 = Conv2d(1, channels, 3), BatchNorm(channels)
        inputs = channels
        for stage, depth in zip(STAGES, config["layers"], strict=True):
            planes = channels << stage - 1
            blocks = []
            for stride in [1 if stage == 1 else 2, *[1] * (depth - 1)]:
                blocks.append(Block(inputs, planes, stride, config, stage in FUSED))
                inputs = planes * expansion
            self[f"layer{stage}"] = blocks
            if stage > 1:
                self[f"layer{stage - 1}_downsample"] = Conv2d(inputs // 2, inputs, 3, (2, 2))
                self[_fuse(stage)] = AFF(inputs)
        features = inputs * (self.fbank.num_mel_bins // 8)
        if middle := int(config["pool_hidden"]):
            self.pool: Module = ASTP(features, middle, bool(config["pool_context"]), image=True)
        else:
            self.pool = StatsPool(added=float(config["pool_added"]))
        self.seg_1 = Linear(2 * features, int(config["embed_dim"]))
        if config["two_emb_layer"]:
            self.seg_bn_1 = BatchNorm(int(config["embed_dim"]), affine=False)
            self.seg_2 = Linear(int(config["embed_dim"]), int(config["embed_dim"]))

    def frames(self, x: mx.array) -> mx.array:
        return self.features(x)

    def whole(self, frames: mx.array) -> mx.array:
        first = self.seg_1(self.pool(self._fused(frames)))
        return self.seg_2(self.seg_bn_1(relu(first))) if "seg_2" in self else first

    def _fused(self, features: mx.array) -> mx.array:
        """(B, T, M) -> (B, F, T', C): the last stage's image with those before it."""
        x = features.swapaxes(1, 2)[..., None].astype(self.conv1.weight.dtype)
        x = relu(self.bn1(self.conv1(x)))
        fused = x
        for stage in STAGES:
            for block in self[f"layer{stage}"]:
                x = block(x)
            if stage == 1:
                fused = x
                continue
            smaller = self[f"layer{stage - 1}_downsample"](fused)
            fused = self[_fuse(stage)](x, smaller)
        return fused

    @property
    def windows(self) -> tuple[Window, ...]:
        blocks = (block for stage in STAGES for block in self[f"layer{stage}"])
        inner = (window for block in blocks for window in block.windows)
        return (self.fbank.window, Window(3, 1, 1), *inner)

    @property
    def fewest_samples(self) -> int:
        return self.receptive_field_size(2)


def _fuse(stage: int) -> str:
    """The authors' names: fuse_mode12, fuse_mode123, fuse_mode1234."""
    return "fuse_mode" + "".join(map(str, range(1, stage + 1)))

"""ReDimNet2: whose voice it is, by images and sequences that are the same numbers laid out anew.

An image is (B, F, T, C), a sequence (B, T, FC): the channels of a frequency lie together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx.nn.layers.activations import gelu, gelu_approx
from mlx.nn.layers.convolution import Conv1d, Conv2d
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.normalization import LayerNorm

from samevoice.models import fast
from samevoice.models.fast import redimnet2 as cpu_redimnet2
from samevoice.models.fast.depthwise import depthwise
from samevoice.models.layers import BatchNorm, Kept, Module, relu
from samevoice.models.layers.attention import Attention, on_host
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.pooling import ASTP
from samevoice.models.network import CutEmbedding, FbankEmbedding

HEADS = 4
EPS = 1e-6  # of all norms but those inside the blocks
KERNELS = (7, 19, 31, 59)  # along time


class To1d(Module):
    """(B, F, T, C) -> (B, T, FC)."""

    def __call__(self, x: mx.array) -> mx.array:
        return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


class To2d(Module):
    """(B, T, FC) -> (B, F, T, C)."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def __call__(self, x: mx.array) -> mx.array:
        return x.reshape(*x.shape[:2], self.rows, -1).swapaxes(1, 2)


class Weigh(Module):
    """Sequences (B, T, C), weighed and added, each channel for itself."""

    def __init__(self, count: int, channels: int) -> None:
        super().__init__()
        self.w = mx.zeros((1, count, channels, 1))

    def __call__(self, sequences: Sequence[mx.array]) -> mx.array:
        shares = self.shares
        first, *others = (x * w.astype(x.dtype) for x, w in zip(sequences, shares, strict=True))
        return sum(others, first)

    @property
    def shares(self) -> mx.array:
        """(N, C), which add up to one."""
        return mx.softmax(self.w.astype(mx.float32), axis=1)[0, :, :, 0]


class ChannelConv2d(Conv2d):
    """A square convolution of each channel, or of a few together: (B, F, T, C) -> the same."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=groups, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        if fast.on_cpu() and self.weight.shape[-1] == 1:
            return depthwise(x, self.weight)
        y: mx.array = super().__call__(x)  # type: ignore[no-untyped-call]
        return y


class ChannelConv1d(Conv1d):
    """The same along time: (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def __call__(self, x: mx.array) -> mx.array:
        if fast.on_cpu():
            return depthwise(x[:, None], self.weight[:, None])[:, 0] + self.bias
        y: mx.array = super().__call__(x)  # type: ignore[no-untyped-call]
        return y


class StrideConv2d(Conv2d):
    """Pixels that become one, with more channels: (B, F, T, C) -> (B, F', T', C')."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], groups: int) -> None:
        super().__init__(inputs, outputs, size, stride=size, groups=groups)

    def __call__(self, x: mx.array) -> mx.array:
        if not fast.on_cpu() or self.weight.shape[-1] > 1:
            y: mx.array = super().__call__(x)  # type: ignore[no-untyped-call]
            return y
        # Each output from one channel: a product for each pixel.
        outputs, down, across, _ = self.weight.shape
        copies = outputs // x.shape[-1]
        parts = (
            mx.repeat(x[:, i::down, j::across], copies, axis=-1) * self.weight[:, i, j, 0]
            for i in range(down)
            for j in range(across)
        )
        return sum(parts, self.bias)


class ResBlock(Module):
    """Two convolutions of each channel alone and between channels: (B, F, T, C) -> the same."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        for number in (1, 2):
            self[f"conv{number}"] = ChannelConv2d(channels, groups)
            self[f"conv{number}pw"] = Linear(channels, channels)
            self[f"bn{number}"] = BatchNorm(channels)

    def __call__(self, x: mx.array) -> mx.array:
        # The ReLU stands before the first norm.
        y = self.bn1(relu(self.conv1pw(self.conv1(x))))
        return relu(self.bn2(self.conv2pw(self.conv2(y))) + x)


class ConvNeXtBlock(Module):
    """(B, T, C) -> (B, T, C): each channel along time, then all of them."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.dwconvs = [ChannelConv1d(channels, kernel)]
        self.norm = BatchNorm(channels)
        self.pwconv1 = Linear(channels, channels)

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.pwconv1(gelu(self.norm(self.dwconvs[0](x))))
        return x + y


class NewGELU(Module):
    """GELU by way of tanh."""

    function = "GELU's tanh form"

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = gelu_approx(x)
        return y


class FeedForward(Module):
    """(B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.intermediate_dense = Linear(channels, channels)
        self.intermediate_act_fn = NewGELU()
        self.output_dense = Linear(channels, channels)

    def __call__(self, x: mx.array) -> mx.array:
        return self.output_dense(self.intermediate_act_fn(self.intermediate_dense(x)))


class TransformerLayer(Module):
    """(B, T, C) -> (B, T, C); its norms stand behind the sums, the last behind all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = Attention(channels, HEADS)
        self.layer_norm = LayerNorm(channels, eps=EPS)
        self.feed_forward = FeedForward(channels)
        self.final_layer_norm = LayerNorm(channels, eps=EPS)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.layer_norm(x + self.attention(x))
        found: mx.array = self.final_layer_norm(x + self.feed_forward(x))
        return found


class TimeContext(Module):
    """What comes before and after is added to each frame: (B, T, FC) -> (B, T, FC)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.red_dim_conv = [Linear(channels, hidden), LayerNorm(hidden, eps=EPS)]
        self.tcm = [
            *(ConvNeXtBlock(hidden, kernel) for kernel in KERNELS),
            TransformerLayer(hidden),
        ]
        self.exp_dim_conv = Linear(hidden, channels)

    def __call__(self, x: mx.array) -> mx.array:
        y = x
        for layer in (*self.red_dim_conv, *self.tcm, self.exp_dim_conv):
            y = layer(y)
        return x + y


class Backbone(Module):
    """(B, F, T, 1) -> (B, T', C), or images (B, F', T', C)."""

    def __init__(self, config: Mapping[str, Any], rows: int) -> None:
        super().__init__()
        channels = int(config["C"])
        features = channels * rows
        stem = Conv2d(1, channels, 3, padding=1)
        self.stem = [stem, LayerNorm(channels, eps=EPS), To1d()]
        self.strides: list[int] = []
        for number, stage in enumerate(config["stages"]):
            down, across = stage["stride"]
            middle, outputs = int(stage["width"]), channels * down
            conv = StrideConv2d(channels, middle, (down, across), int(stage["groups"]))
            blocks = [ResBlock(middle, int(stage["block_groups"])) for _ in range(stage["blocks"])]
            layers: list[Any] = [Weigh(number + 1, features), To2d(rows), conv, *blocks]
            if middle != outputs:
                layers.append([Linear(middle, outputs), BatchNorm(outputs, eps=EPS)])
            layers.append(To1d())
            if hidden := int(stage["hidden"]):
                layers.append(TimeContext(features, hidden))
            self[f"stage{number}"] = layers
            self.strides.append(across)
            channels, rows = outputs, rows // down
        self.fin_wght1d = Weigh(len(self.strides) + 1, features)
        if config["return_2d"]:
            self.fin_to2d = To2d(rows)
        if outputs := int(config["out_channels"]):
            self.head = Linear(channels if config["return_2d"] else features, outputs)
        self._host: Kept[cpu_redimnet2.Backbone | None] = Kept()

    @property
    def stride(self) -> int:
        """So many frames become one, where they are fewest."""
        return max(self.strides)

    def __call__(self, image: mx.array) -> mx.array:
        x = image[:, :, : image.shape[2] // self.stride * self.stride]
        if fast.whole_on_cpu() and (host := self._on_cpu()) is not None:
            x = mx.array(host(on_host(x[..., 0].swapaxes(1, 2))))
        else:
            x = self._by_layers(x)
        for name in ("fin_to2d", "head"):
            x = self[name](x) if name in self else x
        return x

    def _by_layers(self, x: mx.array) -> mx.array:
        for layer in self.stem:
            x = layer(x)
        sequences = [x]
        for number, stride in enumerate(self.strides):
            x = _through(self[f"stage{number}"], sequences)
            sequences.append(mx.repeat(x, stride, axis=1) if stride > 1 else x)
        return self.fin_wght1d(sequences)

    def _on_cpu(self) -> cpu_redimnet2.Backbone | None:
        return self._host.of(self.arrays, lambda: cpu_redimnet2.of(self, KINDS))


def _through(layers: Any, x: Any) -> mx.array:
    """One after the other; a list stands for all that are in it."""
    for layer in layers:
        x = _through(layer, x) if isinstance(layer, list) else layer(x)
    found: mx.array = x
    return found


# Of the layers that the form for a CPU knows.
KINDS = (
    *(BatchNorm, ChannelConv1d, ChannelConv2d, Conv2d, LayerNorm, Linear, NewGELU, StrideConv2d),
    *(To1d, To2d, Weigh),
)


class ReDimNet2(FbankEmbedding, CutEmbedding):
    """Features (B, T, M) -> (B, E). It takes no masks: voices are cut out of the features."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.backbone = Backbone(config, self.fbank.num_mel_bins)
        features, size = int(config["features"]), int(config["embed_dim"])
        self.pool = ASTP(features, int(config["pool_hidden"]), bool(config["pool_context"]))
        self.bn, self.linear = BatchNorm(2 * features), Linear(2 * features, size)
        if config["emb_bn"]:
            self.bn2 = BatchNorm(size)
        self.fewest_frames = max(2, self.backbone.stride)

    def frames(self, x: mx.array) -> mx.array:
        return self.features(x)

    def whole(self, frames: mx.array) -> mx.array:
        x = frames.swapaxes(1, 2)[..., None].astype(self.linear.weight.dtype)
        x = self.backbone(x)
        if x.ndim == 4:  # channels before frequencies
            x = x.transpose(0, 2, 3, 1).reshape(x.shape[0], x.shape[2], -1)
        vectors = self.linear(self.bn(self.pool(x)))
        return self.bn2(vectors) if "bn2" in self else vectors

    @property
    def windows(self) -> tuple[Window, ...]:
        stride = self.backbone.stride
        return (self.fbank.window, Window(stride, stride))

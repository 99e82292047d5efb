"""CAM++ of 3D-Speaker: whose voice it is, by dense blocks that listen to their context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers import base
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import campplus as cpu_campplus
from samevoice.models.fast import campplus_gpu
from samevoice.models.layers import BatchNorm, Conv1d, Conv2d, Kept, Module, relu
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.pooling import StatsPool
from samevoice.models.layers.residual import Block
from samevoice.models.network import FbankEmbedding, interleaved

SEGMENT = 100  # frames that share a context
DILATIONS = (1, 2, 2)  # of the three dense blocks
KERNEL = 3  # of all convolutions but the one that halves the frames


class Nonlinear(Module):
    """(B, T, C) -> (B, T, C): a norm and a ReLU; the authors' name for both.

    The last one is a norm alone, without scale and shift. A copy that is in use has a ReLU behind
    it, and its voices are much alike.
    """

    def __init__(self, channels: int, last: bool = False) -> None:
        super().__init__()
        self.batchnorm = BatchNorm(channels, affine=not last)
        self.last = last

    def __call__(self, x: mx.array) -> mx.array:
        y = self.batchnorm(x)
        return y if self.last else relu(y)


class Head(Module):
    """The 2-D front: (B, T, M) -> (B, T, C * M / 8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv2d(1, channels, 3), BatchNorm(channels)
        # Time keeps its frames.
        for stage in ("layer1", "layer2"):
            self[stage] = [Block(channels, channels, stride) for stride in ((2, 1), (1, 1))]
        self.conv2, self.bn2 = Conv2d(channels, channels, 3, (2, 1)), BatchNorm(channels)

    def __call__(self, fbank: mx.array) -> mx.array:
        x = fbank.swapaxes(1, 2)[..., None].astype(self.conv1.weight.dtype)
        x = relu(self.bn1(self.conv1(x)))
        for stage in ("layer1", "layer2"):
            for block in self[stage]:
                x = block(x)
        x = relu(self.bn2(self.conv2(x)))
        # Channels before frequencies, as the next layer's weights expect.
        return x.transpose(0, 2, 3, 1).reshape(x.shape[0], x.shape[2], -1)


class Unit(Module):
    """What mixes the channels, then norm and ReLU: (B, T, I) -> (B, T', O)."""

    def __init__(self, linear: base.Module, nonlinear: Nonlinear) -> None:
        super().__init__()
        self.linear, self.nonlinear = linear, nonlinear

    def __call__(self, x: mx.array) -> mx.array:
        return self.nonlinear(self.linear(x))


class ContextMask(Module):
    """A convolution whose outputs are masked by what the recording and the segment sound like.

    (B, T, I) -> (B, T, O).
    """

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = Conv1d(inputs, outputs, KERNEL, dilation=dilation)
        self.linear1 = Linear(inputs, inputs // 2)
        self.linear2 = Linear(inputs // 2, outputs)

    def __call__(self, x: mx.array) -> mx.array:
        context = relu(self.linear1(context_of(x)))
        return self.linear_local(x) * mx.sigmoid(self.linear2(context))


def context_of(x: mx.array) -> mx.array:
    """(B, T, C) -> (B, T, C): the mean of all frames and that of the segment of 100, added."""
    batch, frames, channels = x.shape
    starts = np.arange(0, frames, SEGMENT)
    # The last segment is the mean of the frames it has.
    counts = np.minimum(starts + SEGMENT, frames) - starts
    padded = mx.pad(x.astype(mx.float32), [(0, 0), (0, -frames % SEGMENT), (0, 0)])
    sums = padded.reshape(batch, -1, SEGMENT, channels).sum(axis=2)
    whole = sums.sum(axis=1, keepdims=True) / frames
    context = whole + sums / mx.array(counts[:, None], dtype=mx.float32)
    return mx.repeat(context, SEGMENT, axis=1)[:, :frames].astype(x.dtype)


class DenseLayer(Module):
    """(B, T, I) -> (B, T, O); the norms stand before the convolutions."""

    def __init__(self, inputs: int, outputs: int, middle: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = Nonlinear(inputs)
        self.linear1 = Linear(inputs, middle, bias=False)
        self.nonlinear2 = Nonlinear(middle)
        self.cam_layer = ContextMask(middle, outputs, dilation)

    def __call__(self, x: mx.array) -> mx.array:
        return self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))


class DenseBlock(Module):
    """Layers ``tdnnd1``, ``tdnnd2``, ...: each takes all that came before and adds to it."""

    def __init__(self, layers: int, inputs: int, growth: int, middle: int, dilation: int) -> None:
        super().__init__()
        self.names = [f"tdnnd{number}" for number in range(1, layers + 1)]
        for number, layer in enumerate(self.names):
            self[layer] = DenseLayer(inputs + number * growth, growth, middle, dilation)

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.names:
            x = mx.concatenate([x, self[layer](x)], axis=-1)
        return x


class Transit(Module):
    """Half as many channels, the norm before them: (B, T, I) -> (B, T, I / 2)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.nonlinear = Nonlinear(inputs)
        self.linear = Linear(inputs, inputs // 2, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear(self.nonlinear(x))


class XVector(Module):
    """(B, T, I) -> frames (B, T / 2, C), and their statistics -> embeddings."""

    def __init__(self, inputs: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        channels, growth = int(config["init_channels"]), int(config["growth_rate"])
        middle = int(config["bn_size"]) * growth
        self.tdnn = Unit(Conv1d(inputs, channels, 5, 2), Nonlinear(channels))
        self.parts, self.segment = ["tdnn"], SEGMENT
        layers_of_blocks = zip(config["layers"], DILATIONS, strict=True)
        for number, (layers, dilation) in enumerate(layers_of_blocks, start=1):
            self[f"block{number}"] = DenseBlock(layers, channels, growth, middle, dilation)
            channels += layers * growth
            self[f"transit{number}"] = Transit(channels)
            channels //= 2
            self.parts += [f"block{number}", f"transit{number}"]
        self.out_nonlinear = Nonlinear(channels)
        self.stats = StatsPool(rows=1)
        size = int(config["embedding_size"])
        self.dense = Unit(Linear(2 * channels, size, bias=False), Nonlinear(size, last=True))

    def frames(self, x: mx.array) -> mx.array:
        for part in self.parts:
            x = self[part](x)
        return self.out_nonlinear(x)

    def embed(self, frames: mx.array, masks: mx.array | None) -> mx.array:
        """(B, T, C), (B, S, T') or None -> (B, S, E), S 1 without masks."""
        return self.dense(self.stats(frames, masks))

    @property
    def windows(self) -> tuple[Window, ...]:
        # A dilated kernel reaches as far as a whole one of its size. The context, which hears the
        # whole recording, does not count.
        layers = ((len(self[f"block{n}"].names), d) for n, d in enumerate(DILATIONS, start=1))
        reach = (Window(1 + (KERNEL - 1) * d, 1, d) for count, d in layers for _ in range(count))
        return (Window(5, 2, 2), *reach)


class CAMPPlus(FbankEmbedding):
    """(B, T', C) is what the pooling averages.

    An empty mask gives what the last norm makes of zeros, whatever the audio.
    """

    shared_apart = 1.0  # of chunks' means, in the fast tier: measured (docs/fast.md)

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        channels = int(config["m_channels"])
        self.head = Head(channels)
        self.xvector = XVector(channels * (self.fbank.num_mel_bins // 8), config)
        self._host: Kept[cpu_campplus.Layers | None] = Kept()
        self._folded: Kept[Callable[[mx.array], mx.array] | None] = Kept()

    def frames(self, x: mx.array) -> mx.array:
        return self._frames(self.features(x))

    def shared_frames(self, features: mx.array, *, between: bool) -> mx.array:
        """(B, T, M) of several chunks -> (B, T', C)."""
        found = self._frames(features)
        return interleaved(found, self._frames(features[:, 1:])) if between else found

    def _frames(self, features: mx.array) -> mx.array:
        if fast.whole_on_cpu() and (host := self._on_cpu()) is not None:
            return mx.array(host(np.array(features, dtype=np.float32)))
        if fast.whole_on_gpu() and (folded := self._on_gpu()) is not None:
            return folded(features)
        return self.xvector.frames(self.head(features))

    def pooled(self, frames: mx.array, masks: mx.array | None) -> mx.array:
        return self.xvector.embed(frames, masks)

    def _on_cpu(self) -> cpu_campplus.Layers | None:
        """The same layers in numpy, made anew when a weight was put in another's place."""
        return self._host.of(self.arrays, lambda: cpu_campplus.of(self))

    def _on_gpu(self) -> Callable[[mx.array], mx.array] | None:
        """The same layers with their norms folded in."""
        return self._folded.of(self.arrays, lambda: campplus_gpu.of(self))

    @property
    def shared_windows(self) -> tuple[Window, ...]:
        # Of the head: its own two convolutions, and two in each block.
        front = 2 * (1 + len(self.head.layer1) + len(self.head.layer2))
        return (*[Window(KERNEL, 1, 1)] * front, *self.xvector.windows)

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.fbank.window, *self.shared_windows)

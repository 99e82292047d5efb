"""ECAPA-TDNN as speechbrain and WeSpeaker have it: whose voice it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from mlx.nn.layers import base
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import ecapa as cpu_ecapa
from samevoice.models.layers import BatchNorm, Conv1d, Kept, Module, relu, total
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.mel import MelDecibels
from samevoice.models.layers.pooling import ASTP, AttentivePool
from samevoice.models.network import CutEmbedding, FbankEmbedding, as_batch


class Layout(NamedTuple):
    """What the two toolkits do otherwise."""

    pads: str  # at the edges of a convolution
    first_passes: bool  # which part of a Res2Net block goes through as it is: the first or the last
    normed: bool  # whether a norm stands between the layers' sum and the pooling
    flat: bool  # whether what is said of a whole recording has no axis for time


def mixing(inputs: int, outputs: int, kernel: int, dilation: int, pads: str) -> base.Module:
    """A convolution along time; of one tap a linear layer, which is what it is."""
    if kernel == 1:
        return Linear(inputs, outputs)
    return Conv1d(inputs, outputs, kernel, dilation=dilation, bias=True, pads=pads)


class TDNNBlock(Module):
    """A convolution, a ReLU, and the norm behind both: (B, T, I) -> (B, T, O)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        dilation: int = 1,
        pads: str = "zeros",
        normed: bool = True,
    ) -> None:
        super().__init__()
        self.conv = mixing(inputs, outputs, kernel, dilation, pads)
        if normed:
            self.norm = BatchNorm(outputs)

    def __call__(self, x: mx.array) -> mx.array:
        y = relu(self.conv(x))
        return self.norm(y) if "norm" in self else y


class Res2NetBlock(Module):
    """Parts of the channels: each is added to what became of the one before, (B, T, C) as it was.

    One part passes as it is, the first or the last.
    """

    def __init__(
        self, channels: int, scale: int, kernel: int, dilation: int, layout: Layout
    ) -> None:
        super().__init__()
        width = channels // scale
        self.blocks = [
            TDNNBlock(width, width, kernel, dilation, layout.pads) for _ in range(scale - 1)
        ]
        self.first_passes = layout.first_passes

    def __call__(self, x: mx.array) -> mx.array:
        parts = mx.split(x, len(self.blocks) + 1, axis=-1)
        *mixed, passed = parts[1:] + parts[:1] if self.first_passes else parts
        found: list[mx.array] = []
        for part, block in zip(mixed, self.blocks, strict=True):
            found.append(block(part + found[-1] if found else part))
        ordered = [passed, *found] if self.first_passes else [*found, passed]
        return mx.concatenate(ordered, axis=-1)


class SEBlock(Module):
    """Each channel as loud as the whole recording says: (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, middle: int, flat: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = Linear(channels, middle), Linear(middle, channels)
        self.flat = flat

    def __call__(self, x: mx.array) -> mx.array:
        mean = (total(x.astype(mx.float32), 1) / x.shape[1]).astype(x.dtype)
        gates = mx.sigmoid(self.conv2(relu(self.conv1(mean if self.flat else mean[:, None]))))
        return x * (gates[:, None] if self.flat else gates)


class SERes2NetBlock(Module):
    """(B, T, I) -> (B, T, O), beside a shortcut."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        config: Mapping[str, Any],
        kernel: int,
        dilation: int,
        layout: Layout,
    ) -> None:
        super().__init__()
        scale = int(config["res2net_scale"])
        self.tdnn1 = TDNNBlock(inputs, outputs)
        self.res2net_block = Res2NetBlock(outputs, scale, kernel, dilation, layout)
        self.tdnn2 = TDNNBlock(outputs, outputs)
        self.se_block = SEBlock(outputs, int(config["se_channels"]), layout.flat)
        if inputs != outputs:
            self.shortcut = Linear(inputs, outputs)

    def __call__(self, x: mx.array) -> mx.array:
        y = self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))
        return y + (self.shortcut(x) if "shortcut" in self else x)


class AttentiveStatisticsPooling(AttentivePool):
    """speechbrain's: (B, T, C) -> (B, 1, 2C)."""

    score_layers = ("tdnn.conv", "tdnn.norm", "conv")
    floor = 1e-12
    rows = 1

    def __init__(self, channels: int, attention: int, with_context: bool) -> None:
        super().__init__()
        self.context = "biased" if with_context else ""
        self.tdnn = TDNNBlock(channels * (3 if with_context else 1), attention)
        self.conv = Linear(attention, channels)

    def hidden(self, x: mx.array) -> mx.array:
        return self.tdnn(x)


class ECAPA(CutEmbedding):
    """What both have in common: features (B, T, M) -> (B, E)."""

    layout: Layout
    pooling: type[AttentiveStatisticsPooling | ASTP]

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        channels = [int(count) for count in config["channels"]]
        convs = list(zip(config["kernel_sizes"], config["dilations"], strict=True))
        if not len(channels) == len(convs) >= 3:
            raise ValueError("channels, kernel_sizes and dilations: one of each for every layer")
        first, *blocks, last = convs
        layout, inputs = self.layout, int(config["num_mel_bins"])
        self.blocks: list[Any] = [TDNNBlock(inputs, channels[0], *first, layout.pads)]
        for before, after, conv in zip(channels, channels[1:-1], blocks, strict=False):
            self.blocks.append(SERes2NetBlock(before, after, config, *conv, layout))
        summed, width = sum(channels[1:-1]), channels[-1]
        self.mfa = TDNNBlock(summed, width, *last, layout.pads, layout.normed)
        attention = int(config["attention_channels"])
        self.asp = self.pooling(width, attention, bool(config["global_context"]))
        self.asp_bn = BatchNorm(2 * width)
        self.fc = Linear(2 * width, self.dimension)
        if config.get("emb_bn"):
            self.bn2 = BatchNorm(self.dimension)
        self._convs = convs
        self._host: Kept[cpu_ecapa.Layers | None] = Kept()

    @property
    def dimension(self) -> int:
        return int(self.config["lin_neurons"])

    def embedded(self, features: mx.array) -> mx.array:
        """(B, T, M) -> (B, E)."""
        if fast.whole_on_cpu() and (host := self._on_cpu()) is not None:
            stats = mx.array(host(np.array(features, dtype=np.float32)))
        else:
            stats = self._stats(features)
        y = self.fc(self.asp_bn(stats))
        y = self.bn2(y) if "bn2" in self else y
        return y.reshape(len(y), -1)

    def _stats(self, features: mx.array) -> mx.array:
        x = features.astype(self.asp_bn.weight.dtype)
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return self.asp(self.mfa(mx.concatenate(found[1:], axis=-1)))

    def _on_cpu(self) -> cpu_ecapa.Layers | None:
        """The same layers in numpy, made anew when a weight was put in another's place."""
        return self._host.of(self.arrays, lambda: cpu_ecapa.of(self))

    @property
    def inner_windows(self) -> tuple[Window, ...]:
        """A dilated kernel reaches as far as a whole one of its size."""
        spans = (1 + (kernel - 1) * dilation for kernel, dilation in self._convs)
        return tuple(Window(span, 1, span // 2) for span in spans)


class SpeechBrainECAPA(ECAPA):
    """What masks leave are samples, as pyannote cuts them for speechbrain's networks."""

    layout = Layout("reflect", first_passes=True, normed=True, flat=False)
    pooling = AttentiveStatisticsPooling

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.mel = MelDecibels(
            int(config["num_mel_bins"]),
            int(config["sample_rate"]),
            int(config.get("n_fft", 400)),
            float(config.get("win_length", 25)),
            float(config.get("hop_length", 10)),
        )
        # As many as give the frames that are reflected at an edge, and one more.
        reflected = max(window.padding for window in self.inner_windows)
        self.fewest_frames = self.mel.frames.hop * reflected

    def frames(self, x: mx.array) -> mx.array:
        """(B, 1, N) or (B, N) -> (B, N)."""
        return as_batch(x)

    def whole(self, frames: mx.array) -> mx.array:
        return self.embedded(self.mel(frames))

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.mel.frames.step, *self.inner_windows)

    @property
    def fewest_samples(self) -> int:
        return self.fewest_frames

    def num_frames(self, num_samples: int) -> int:
        return super().num_frames(num_samples) if num_samples >= self.fewest_samples else 0


class WeSpeakerECAPA(ECAPA, FbankEmbedding):
    """What masks leave are frames of the filterbank, as pyannote cuts them for WeSpeaker's."""

    layout = Layout("zeros", first_passes=False, normed=False, flat=True)
    pooling = ASTP

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        # One frame alone has no unbiased deviation, which the context of each frame holds.
        self.fewest_frames = 2 if self.asp.context else 1

    def frames(self, x: mx.array) -> mx.array:
        """Waveforms or features -> (B, T, M)."""
        return self.features(x)

    def whole(self, frames: mx.array) -> mx.array:
        return self.embedded(frames)

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.fbank.window, *self.inner_windows)

    @property
    def fewest_samples(self) -> int:
        kernel, step, _ = self.fbank.window
        return kernel + (self.fewest_frames - 1) * step

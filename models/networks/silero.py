"""Silero VAD: whether somebody speaks, window by window. It remembers all that it has heard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers import convolution
from mlx.nn.layers.linear import Linear

from samevoice.models import fast
from samevoice.models.fast import cpu
from samevoice.models.fast import silero as cpu_silero
from samevoice.models.layers import Conv1d, Kept, relu
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.lstm import LSTM, as_float32, for_host
from samevoice.models.network import Network, as_batch

STRIDES = (1, 2, 2, 1)  # of the four convolutions, which leave one frame of a window's four
TOGETHER = 512  # windows of a stream that are encoded at once


class SileroVAD(Network):
    """(B, 1, N) or (B, N) -> (B, T, 1): the probability of speech in each window.

    Each call hears its recordings from the beginning; ``stream`` hears one in pieces. The last
    window is filled up with silence.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.window, self.context = int(config["window"]), int(config["context"])
        filters, channels = int(config["filters"]), [int(n) for n in config["channels"]]
        if filters % 2 or len(channels) != len(STRIDES):
            raise ValueError(f"filters {filters}, channels {channels}: an even number, and four")
        size = filters - 2  # real and imaginary parts of size // 2 + 1 bins
        self.stft_conv = convolution.Conv1d(1, filters, size, stride=size // 2, bias=False)
        widths = zip([filters // 2, *channels], channels, STRIDES, strict=False)
        self.convolutions = [f"conv{number}" for number in range(1, len(STRIDES) + 1)]
        for name, (inputs, outputs, stride) in zip(self.convolutions, widths, strict=True):
            self[name] = Conv1d(inputs, outputs, 3, stride, bias=True)
        self.lstm = LSTM(channels[-1], int(config["hidden_size"]))
        self.final_conv = Linear(int(config["hidden_size"]), int(config["num_classes"]))
        self._encoder: Kept[cpu_silero.Encoder | None] = Kept()
        self._gates: Kept[cpu.Gates] = Kept()

    def __call__(self, waveforms: mx.array | np.ndarray) -> mx.array:
        x = as_batch(mx.array(waveforms)).astype(mx.float32)
        count = self.num_frames(x.shape[1])
        if not count:
            raise ValueError("waveforms: no samples")
        missing = count * self.window - x.shape[1]
        x = mx.contiguous(mx.pad(x, [(0, 0), (self.context, missing)]))
        heard = self.context + self.window
        windows = mx.as_strided(x, (len(x), count, heard), (x.shape[1], self.window, 1))
        encoded = self.encoded(windows.reshape(-1, heard))
        return self.scores(self.lstm(encoded.reshape(len(x), count, -1)))

    def encoded(self, windows: mx.array) -> mx.array:
        """(W, context + window) -> (W, C)."""
        if fast.whole_on_cpu() and (host := self._on_cpu()) is not None:
            return mx.array(host(as_float32(windows)))
        size = self.stft_conv.weight.shape[1] // 4
        # Mirrored at the end, without the last sample itself.
        x = mx.concatenate([windows, windows[:, -size - 1 : -1][:, ::-1]], axis=1)[..., None]
        dtype = self.stft_conv.weight.dtype
        # Squares of what is quiet vanish in float16.
        x = self.stft_conv(x.astype(dtype)).astype(mx.float32)
        bins = x.shape[-1] // 2
        x = mx.sqrt(mx.square(x[..., :bins]) + mx.square(x[..., bins:])).astype(dtype)
        for name in self.convolutions:
            x = relu(self[name](x))
        return x.reshape(len(x), -1)

    def scores(self, states: mx.array) -> mx.array:
        """What the LSTM gave, (..., H) -> (..., 1)."""
        return mx.sigmoid(self.final_conv(relu(states)).astype(mx.float32))

    def stream(self) -> Stream:
        """For a recording that comes in pieces."""
        return Stream(self)

    def _on_cpu(self) -> cpu_silero.Encoder | None:
        """The same layers for a CPU, made anew when a weight was put in another's place."""
        return self._encoder.of(self.arrays, lambda: cpu_silero.of(self))

    @property
    def gates(self) -> cpu.Gates:
        return self._gates.of(self.lstm.arrays, lambda: for_host([self.lstm]))

    @property
    def windows(self) -> tuple[Window, ...]:
        return (Window(self.window, self.window),)

    def num_frames(self, num_samples: int) -> int:
        return -(-num_samples // self.window)

    @property
    def fewest_samples(self) -> int:
        return 1


class Stream:
    """One recording in pieces of any length: (N,) -> (T, 1), a row for each window that is full.

    What it heard before is kept between the calls, in a few kilobytes whatever came.
    """

    def __init__(self, network: SileroVAD) -> None:
        self.network = network
        self.rest = np.zeros(network.context, dtype=np.float32)  # and the context before it
        size = network.lstm.Wh.shape[1]
        self.state = tuple(np.zeros((1, 1, size), dtype=np.float32) for _ in range(2))

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        window, context = self.network.window, self.network.context
        held = np.concatenate([self.rest, np.asarray(samples, dtype=np.float32)])
        count = (len(held) - context) // window
        self.rest = held[count * window :].copy()
        if not count:
            return np.zeros((0, 1), dtype=np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(held, context + window)[::window]
        parts = range(0, count, TOGETHER)
        return np.concatenate([self._heard(windows[:count][at : at + TOGETHER]) for at in parts])

    def end(self) -> np.ndarray:
        """The last window, filled up with silence: (1, 1), or (0, 1) where nothing was left."""
        left = len(self.rest) - self.network.context
        return self(np.zeros(self.network.window - left if left else 0))

    def _heard(self, windows: np.ndarray) -> np.ndarray:
        encoded = as_float32(self.network.encoded(mx.array(windows)))
        states = cpu.recur([encoded[:, None]], self.network.gates, self.state)
        return np.array(self.network.scores(mx.array(states[:, 0, 0])))

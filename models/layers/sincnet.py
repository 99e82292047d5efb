"""SincNet: band-pass filters made from two numbers each, then two convolutions."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx.nn.layers.convolution import Conv1d

from samevoice.models.layers import InstanceNorm, Module, as_float64, leaky_relu
from samevoice.models.layers.geometry import Window

KERNEL = 251
FILTERS = 80
CHANNELS = 60
MIN_LOW_HZ = 50.0
MIN_BAND_HZ = 50.0


class SincConv(Module):
    """Eighty band-pass filters: forty even (cosine) ones, then the same bands odd (sine).

    ``window`` and ``time`` are the checkpoint's own buffers, the left halves of a Hamming window
    and of the time axis (times 2 pi), so that a converted model does not depend on how they were
    rounded. Keep all four in float32: a phase of 400 radians needs the digits.
    """

    def __init__(self, stride: int, sample_rate: int) -> None:
        super().__init__()
        half = KERNEL // 2
        mel = np.linspace(_mel(30.0), _mel(sample_rate / 2 - 100.0), FILTERS // 2 + 1)
        hz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
        self.low_hz = mx.array(hz[:-1, None], dtype=mx.float32)
        self.band_hz = mx.array(np.diff(hz)[:, None], dtype=mx.float32)
        self.window = mx.array(np.hamming(KERNEL)[:half], dtype=mx.float32)
        time = 2 * np.pi * np.arange(-half, 0) / sample_rate
        self.time = mx.array(time[None], dtype=mx.float32)
        self.stride = stride
        self.sample_rate = sample_rate
        self._made: tuple[bytes, mx.array] | None = None

    def __call__(self, x: mx.array) -> mx.array:
        """(B, N, 1) -> (B, T, 80)."""
        return mx.conv1d(x, self.filters().astype(x.dtype)[:, :, None], stride=self.stride)

    def filters(self) -> mx.array:
        """(80, 251) in float32, computed in float64 and kept until a weight changes.

        In float32 the sines of large phases lose the last three digits.
        """
        low, band = as_float64(self.low_hz), as_float64(self.band_hz)
        window, time = as_float64(self.window), as_float64(self.time)
        key = b"".join(v.tobytes() for v in (low, band, window, time))
        if self._made is None or self._made[0] != key:
            made = _filters(low, band, window, time, self.sample_rate / 2)
            self._made = key, mx.array(made, dtype=mx.float32)
        return self._made[1]


def _filters(
    low_hz: np.ndarray, band_hz: np.ndarray, window: np.ndarray, time: np.ndarray, nyquist: float
) -> np.ndarray:
    """(40, 1), (40, 1), (125,), (1, 125) -> (80, 251)."""
    low = MIN_LOW_HZ + np.abs(low_hz)
    high = np.clip(low + MIN_BAND_HZ + np.abs(band_hz), MIN_LOW_HZ, nyquist)
    width = 2 * (high - low)
    taper = window / (time / 2)
    even = (np.sin(high @ time) - np.sin(low @ time)) * taper / width
    odd = (np.cos(low @ time) - np.cos(high @ time)) * taper / width
    cosines = np.concatenate([even, np.ones_like(width), even[:, ::-1]], axis=1)
    sines = np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1)
    return np.concatenate([cosines, sines])


def _mel(hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


def max_pool(x: mx.array) -> mx.array:
    """(B, T, C) -> (B, T // 3, C): the largest of each three."""
    steps = x.shape[1] // 3
    return x[:, : 3 * steps].reshape(x.shape[0], steps, 3, x.shape[2]).max(axis=2)


class SincNet(Module):
    """(B, N, 1) -> (B, T, 60)."""

    def __init__(self, stride: int = 10, sample_rate: int = 16000) -> None:
        super().__init__()
        self.stride = stride
        self.wav_norm = InstanceNorm(1)
        self.conv = [
            SincConv(stride, sample_rate),
            Conv1d(FILTERS, CHANNELS, 5),
            Conv1d(CHANNELS, CHANNELS, 5),
        ]
        self.norm = [InstanceNorm(FILTERS), InstanceNorm(CHANNELS), InstanceNorm(CHANNELS)]

    def __call__(self, x: mx.array) -> mx.array:
        # Levels of a waveform differ by 60 dB: only behind the first norm does float16 suffice.
        x = self.wav_norm(x).astype(self.conv[1].weight.dtype)
        for i, (conv, norm) in enumerate(zip(self.conv, self.norm, strict=True)):
            x = conv(x)
            if i == 0:
                x = mx.abs(x)
            x = leaky_relu(norm(max_pool(x)))
        return x


def windows(stride: int) -> tuple[Window, ...]:
    """SincNet's convolutions and poolings along time."""
    pool = Window(3, 3)
    return (Window(KERNEL, stride), pool, Window(5), pool, Window(5), pool)

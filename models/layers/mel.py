"""The mel spectrogram of librosa: powers, no logarithm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import mlx.core as mx
import numpy as np

from samevoice.models.layers import Module
from samevoice.models.layers.geometry import Window

# Slaney's scale: even steps up to 1 kHz, then 27 to each factor of 6.4.
_LINEAR = 200 / 3  # hertz a mel
_CORNER = 1000.0
_STEP = np.log(6.4) / 27


@dataclass(eq=False)
class Mel(Module):
    """``librosa.feature.melspectrogram`` with its defaults: (B, N) -> (B, 1 + N // step, M).

    Periodic Hann windows whose middles lie on each step, silence beyond the ends; triangles of
    equal area on Slaney's scale, from 0 Hz to half the rate. Always float32.
    """

    sample_rate: int = 16000
    bins: int = 40
    size: int = 400  # samples of a window
    step: int = 160

    def __post_init__(self) -> None:
        super().__init__()

    def __call__(self, samples: mx.array) -> mx.array:
        half = self.size // 2
        x = mx.contiguous(mx.pad(samples.astype(mx.float32), [(0, 0), (half, half)]))
        count = 1 + samples.shape[1] // self.step
        frames = mx.as_strided(x, (len(x), count, self.size), (x.shape[1], self.step, 1))
        spectrum = mx.fft.rfft(frames * mx.array(self.taper, dtype=mx.float32))
        power = mx.square(spectrum.real) + mx.square(spectrum.imag)
        return power @ mx.array(self.filters, dtype=mx.float32)

    @property
    def window(self) -> Window:
        return Window(self.size, self.step, self.size // 2)

    @cached_property
    def taper(self) -> np.ndarray:
        """(size,) in float64."""
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.size) / self.size)

    @cached_property
    def filters(self) -> np.ndarray:
        """(size // 2 + 1, M) in float64."""
        edges = _hertz(np.linspace(0, _mels(self.sample_rate / 2), self.bins + 2))
        low, middle, high = edges[:-2], edges[1:-1], edges[2:]
        hertz = np.linspace(0, self.sample_rate / 2, self.size // 2 + 1)[:, None]
        rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
        found: np.ndarray = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
        return found


def _mels(hertz: float) -> float:
    if hertz < _CORNER:
        return hertz / _LINEAR
    return float(_CORNER / _LINEAR + np.log(hertz / _CORNER) / _STEP)


def _hertz(mels: np.ndarray) -> np.ndarray:
    above = np.exp(_STEP * (mels - _CORNER / _LINEAR)) * _CORNER
    return np.where(mels < _CORNER / _LINEAR, mels * _LINEAR, above)

"""The mel spectrogram of librosa: powers, no logarithm."""

from __future__ import annotations

from functools import cached_property

import mlx.core as mx
import numpy as np

from samevoice.models.layers import Module
from samevoice.models.layers.mel import Frames

# Even steps up to 1 kHz, then 27 to each factor of 6.4.
HERTZ_A_MEL = 200 / 3
CORNER = 1000.0
STEP = np.log(6.4) / 27


class MelPowers(Module):
    """``librosa.feature.melspectrogram`` with its defaults: (B, N) -> (B, 1 + N // hop, M).

    Periodic Hann windows, zeros beyond the ends; triangles of equal area on Slaney's scale, from
    0 Hz to half the rate. Always float32.
    """

    def __init__(
        self, mels: int, sample_rate: int = 16000, size: int = 400, hop: int = 160
    ) -> None:
        super().__init__()
        self.frames = Frames(size, size, hop)
        self.mels, self.sample_rate = mels, sample_rate

    def __call__(self, samples: mx.array) -> mx.array:
        powers = self.frames.powers(samples, mx.array(self.window, dtype=mx.float32))
        return powers @ mx.array(self.filters, dtype=mx.float32)

    @cached_property
    def window(self) -> np.ndarray:
        """(W,) in float64."""
        phase = 2 * np.pi * np.arange(self.frames.window) / self.frames.window
        return 0.5 - 0.5 * np.cos(phase)

    @cached_property
    def filters(self) -> np.ndarray:
        """(F, M) in float64."""
        top = self.sample_rate / 2
        corner = CORNER / HERTZ_A_MEL
        edges = np.linspace(0, corner + np.log(top / CORNER) / STEP, self.mels + 2)
        above = CORNER * np.exp(STEP * (edges - corner))
        edges = np.where(edges < corner, edges * HERTZ_A_MEL, above)
        low, middle, high = edges[:-2], edges[1:-1], edges[2:]
        hertz = np.linspace(0, top, self.frames.fft_size // 2 + 1)[:, None]
        rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
        found: np.ndarray = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
        return found

"""Kaldi's log mel filterbank, all frames of a batch in one step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np

from samevoice.models.layers import Module, total
from samevoice.models.layers.geometry import Window, num_frames

FLOOR = float(np.finfo(np.float32).eps)
PRE_EMPHASIS = 0.97
LOW_HZ = 20.0
FULL_SCALE = 32768.0  # Kaldi counts samples as 16-bit integers

# Each of a phase from 0 to 2 pi.
WINDOWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "hamming": lambda phase: 0.54 - 0.46 * np.cos(phase),
    "hanning": lambda phase: 0.5 - 0.5 * np.cos(phase),
    "povey": lambda phase: (0.5 - 0.5 * np.cos(phase)) ** 0.85,
    "rectangular": np.ones_like,
    "blackman": lambda phase: 0.42 - 0.5 * np.cos(phase) + 0.08 * np.cos(2 * phase),
}


@dataclass(eq=False)
class Fbank(Module):
    """The options of ``torchaudio.compliance.kaldi.fbank`` that pyannote passes on, and its scale.

    Always float32: the power of a full-scale sample does not fit float16.
    """

    sample_rate: int = 16000
    num_mel_bins: int = 80
    frame_length: float = 25.0  # in milliseconds
    frame_shift: float = 10.0
    round_to_power_of_two: bool = True
    snip_edges: bool = True
    dither: float = 0.0
    window_type: str = "hamming"
    use_energy: bool = False
    fbank_centering_span: float | None = None  # in seconds; None is all of the input
    full_scale: float = FULL_SCALE  # what the largest sample counts as

    def __post_init__(self) -> None:
        super().__init__()
        if self.window_type not in WINDOWS:
            raise ValueError(f"window_type {self.window_type!r}: one of {', '.join(WINDOWS)}")
        if self.num_mel_bins <= 3:
            raise ValueError(f"num_mel_bins {self.num_mel_bins}: at least 4")
        if self.fft_size % 2:
            raise ValueError(f"frame_length {self.frame_length}: gives an odd FFT size")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Fbank:
        return cls(**{f.name: config[f.name] for f in fields(cls) if f.name in config})

    def __call__(self, waveforms: mx.array) -> mx.array:
        """(B, N) in [-1, 1] -> (B, T, M), centred over time."""
        features = self.log_mel(waveforms.astype(mx.float32) * self.full_scale)
        return features - self.center(features)

    def log_mel(self, samples: mx.array) -> mx.array:
        """(B, N), scaled -> (B, T, M), not centred."""
        frames = self.frames(samples)
        if self.dither:
            frames = frames + self.dither * mx.random.normal(frames.shape)
        frames = frames - (total(frames, 2) / self.window.kernel)[..., None]
        # The sample before a frame's first one is taken to equal it.
        before = mx.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
        tapered = (frames - PRE_EMPHASIS * before) * mx.array(self.taper, dtype=mx.float32)
        spectrum = mx.fft.rfft(tapered, n=self.fft_size)
        power = mx.square(spectrum.real) + mx.square(spectrum.imag)
        energies = power @ mx.array(self.mel_banks)
        features = mx.log(mx.maximum(energies, FLOOR))
        if not self.use_energy:
            return features
        # Raw energy (before pre-emphasis and window), floored at 1: its log at 0.
        energy = mx.log(mx.maximum(mx.square(frames).sum(axis=-1, keepdims=True), 1.0))
        return mx.concatenate([energy, features], axis=-1)

    def frames(self, samples: mx.array) -> mx.array:
        """(B, N) -> (B, T, window)."""
        batch, size = samples.shape
        kernel, shift, _ = self.window
        if size < kernel:
            raise ValueError(f"waveforms: {size} samples, an fbank frame needs {kernel}")
        count = num_frames((self.window,), size)
        if not self.snip_edges:
            # Mirrored with the edge sample twice, Kaldi's way.
            count = (size + shift // 2) // shift
            pad = kernel // 2 - shift // 2
            mirror = samples[:, ::-1]
            head = [mirror[:, size - pad :], samples] if pad > 0 else [samples[:, -pad:]]
            samples = mx.concatenate([*head, mirror], axis=1)
        row = samples.shape[1]
        return mx.as_strided(mx.contiguous(samples), (batch, count, kernel), (row, shift, 1))

    def center(self, features: mx.array) -> mx.array:
        """(B, T, M) -> what to subtract, (B, 1, M) or, for a running mean, (B, T, M)."""
        batch, steps, bins = features.shape
        if self.fbank_centering_span is None:
            return (total(features, 1) / steps)[:, None]
        span = int(self.fbank_centering_span * self.sample_rate)
        half = num_frames((self.window,), span) // 2
        rows = features.transpose(0, 2, 1).reshape(batch * bins, steps, 1)
        sums = mx.conv1d(rows, mx.ones((1, 2 * half + 1, 1)), padding=half)
        index = np.arange(steps)
        # What lies beyond an edge does not count.
        counts = np.minimum(index + half, steps - 1) - np.maximum(index - half, 0) + 1
        means = sums.reshape(batch, bins, steps) / mx.array(counts, dtype=mx.float32)
        return means.transpose(0, 2, 1)

    @property
    def window(self) -> Window:
        """A frame's samples and the step to the next, as a convolution would have them."""
        rate = self.sample_rate * 0.001
        return Window(int(rate * self.frame_length), int(rate * self.frame_shift))

    @property
    def fft_size(self) -> int:
        kernel = self.window.kernel
        return 1 << (kernel - 1).bit_length() if self.round_to_power_of_two else kernel

    @cached_property
    def taper(self) -> np.ndarray:
        """(window,) in float64."""
        size = self.window.kernel
        return WINDOWS[self.window_type](2 * np.pi * np.arange(size) / (size - 1))

    @cached_property
    def mel_banks(self) -> np.ndarray:
        """(fft // 2 + 1, M) in float32: triangles in mel from 20 Hz to Nyquist, which gets none."""
        # torchaudio computes these in float32 whatever the dtype of the audio, and its rounding
        # (1e-5) is larger than all other errors of an fbank: so the same steps in the same dtype.
        one = np.float32(1)
        low, high = _mel(LOW_HZ), _mel(self.sample_rate / 2)
        width = np.float32((high - low) / (self.num_mel_bins + 1))
        index = np.arange(self.num_mel_bins, dtype=np.float32)
        left, centre, right = (np.float32(low) + (index + n * one) * width for n in range(3))
        hz = np.arange(self.fft_size // 2, dtype=np.float32)[:, None]
        ratio = one + hz * np.float32(self.sample_rate / self.fft_size) / np.float32(700)
        mel = np.float32(1127) * np.log(ratio.astype(np.float64)).astype(np.float32)
        rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
        banks = np.maximum(0, np.minimum(rising, falling))
        return np.concatenate([banks, np.zeros((1, self.num_mel_bins), dtype=np.float32)])


def _mel(hz: float) -> float:
    return 1127.0 * math.log(1.0 + hz / 700.0)

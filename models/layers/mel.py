"""Mel spectra of centred frames, in decibels, as torchaudio and speechbrain compute them.

Always float32: powers of a recording do not fit float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np

from samevoice.models.layers import Module, total
from samevoice.models.layers.geometry import Window

LEAST = 1e-10  # of an energy
RANGE = 80.0  # in decibels, from the loudest of a recording down
LOG_OFFSET = 1e-6  # torchaudio's, for a plain logarithm
PAD_MODES = ("constant", "reflect", "replicate", "circular")
_NUMPYS = {"replicate": "edge", "circular": "wrap"}
NORMALIZED = (False, True, "window", "frame_length")


@dataclass(frozen=True)
class Frames:
    """How a recording is cut into frames, each padded to ``fft_size`` samples."""

    fft_size: int
    window: int
    hop: int
    centred: bool = True  # padded, so that frame t lies around sample t * hop
    pad_mode: str = "constant"
    pad: int = 0  # zeros before and behind, before all else

    def __post_init__(self) -> None:
        if self.pad_mode not in PAD_MODES:
            raise ValueError(f"pad_mode {self.pad_mode!r}: one of {', '.join(PAD_MODES)}")
        if not 1 <= self.window <= self.fft_size:
            raise ValueError(f"a window of {self.window} samples does not fit {self.fft_size}")

    @property
    def reach(self) -> int:
        return self.fft_size // 2 if self.centred else 0

    @property
    def step(self) -> Window:
        return Window(self.fft_size, self.hop, self.pad + self.reach)

    @property
    def fewest_samples(self) -> int:
        """What can be reflected, and gives a frame."""
        fewest = self.fft_size - 2 * (self.pad + self.reach)
        mirrored = self.reach + 1 if self.pad_mode == "reflect" else 1
        return max(1, fewest, mirrored - 2 * self.pad)

    def powers(self, samples: mx.array, window: mx.array) -> mx.array:
        """(B, N), (W,) -> (B, T, F): the square of each frequency's magnitude."""
        batch, size = samples.shape
        if size < self.fewest_samples:
            raise ValueError(f"waveforms: {size} samples, a frame needs {self.fewest_samples}")
        index = np.pad(np.arange(size + 2 * self.pad), self.reach, self.numpys_mode)
        x = mx.pad(samples.astype(mx.float32), [(0, 0), (self.pad, self.pad)])
        if self.pad_mode == "constant":
            x = mx.pad(x, [(0, 0), (self.reach, self.reach)])
        else:
            x = x[:, mx.array(index)]
        row = x.shape[1]
        count = 1 + (row - self.fft_size) // self.hop
        frames = mx.as_strided(mx.contiguous(x), (batch, count, self.fft_size), (row, self.hop, 1))
        spectrum = mx.fft.rfft(frames * self._amid(window), axis=-1)
        return mx.square(spectrum.real) + mx.square(spectrum.imag)

    @property
    def numpys_mode(self) -> Any:
        """The same by numpy's name."""
        return _NUMPYS.get(self.pad_mode, self.pad_mode)

    def _amid(self, window: mx.array) -> mx.array:
        """In the middle of so many samples as are transformed."""
        left = (self.fft_size - self.window) // 2
        return mx.pad(window, [(left, self.fft_size - self.window - left)])


def decibels(energies: mx.array) -> mx.array:
    """(B, T, M) -> (B, T, M): nothing lies more than 80 dB below the loudest of its recording."""
    level = 10.0 * mx.log10(mx.maximum(energies, LEAST))
    return mx.maximum(level, level.max(axis=(1, 2), keepdims=True) - RANGE)


class MelDecibels(Module):
    """What speechbrain's ``Fbank`` and sentence-wise mean normalisation give: (B, N) -> (B, T, M).

    A periodic Hamming window, zeros beyond the ends, triangles from 0 Hz to half the sample rate.
    """

    def __init__(
        self,
        mels: int,
        sample_rate: int = 16000,
        fft_size: int = 400,
        window: float = 25.0,  # in milliseconds
        hop: float = 10.0,
    ) -> None:
        super().__init__()
        per_ms = sample_rate / 1000
        self.frames = Frames(fft_size, round(per_ms * window), round(per_ms * hop))
        self.mels, self.sample_rate = mels, sample_rate
        self.log, self.centred = "decibels", True

    def __call__(self, waveforms: mx.array) -> mx.array:
        powers = self.frames.powers(waveforms, mx.array(self.window, dtype=mx.float32))
        features = decibels(powers @ mx.array(self.banks, dtype=mx.float32))
        return features - (total(features, 1) / features.shape[1])[:, None]

    @cached_property
    def window(self) -> np.ndarray:
        """(W,) in float64."""
        phase = 2 * np.pi * np.arange(self.frames.window) / self.frames.window
        return 0.54 - 0.46 * np.cos(phase)

    @cached_property
    def banks(self) -> np.ndarray:
        """(F, M) in float64: triangles of equal width on the mel scale, straight in hertz.

        Each falls as steeply as it rises, though the next one is wider.
        """
        top = 2595.0 * np.log10(1 + (self.sample_rate // 2) / 700.0)
        hz = 700.0 * (10.0 ** (np.linspace(0, top, self.mels + 2) / 2595.0) - 1)
        middle, width = hz[1:-1], np.diff(hz)[:-1]
        at = np.linspace(0, self.sample_rate // 2, self.frames.fft_size // 2 + 1)[:, None]
        return np.maximum(0.0, 1 - np.abs(at - middle) / width)


class MFCC(Module):
    """torchaudio's ``MFCC``: (B, N) or (B, 1, N) -> (B, K, T, 1), as an image.

    Window, mel bank and cosines are the checkpoint's own: none depends on how it was computed.
    """

    centred = False

    def __init__(self, sample_rate: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        said = dict(config.get("melkwargs") or {})
        fft_size = int(said.get("n_fft", 400))
        window = int(said.get("win_length") or fft_size)
        self.power = float(said.get("power", 2.0))
        self.normalized = said.get("normalized", False)
        if self.normalized not in NORMALIZED:
            raise ValueError(
                f"normalized {self.normalized!r}: one of {', '.join(map(str, NORMALIZED))}"
            )
        self.frames = Frames(
            fft_size,
            window,
            int(said.get("hop_length") or window // 2),
            bool(said.get("center", True)),
            str(said.get("pad_mode", "reflect")),
            int(said.get("pad", 0)),
        )
        self.log = "offset" if config.get("log_mels") else "decibels"
        mels, cosines = int(said.get("n_mels", 128)), int(config["n_mfcc"])
        self.window = mx.ones((window,))
        self.banks = mx.ones((fft_size // 2 + 1, mels))
        self.cosines = mx.ones((mels, cosines))
        self.sample_rate = sample_rate

    def __call__(self, waveforms: mx.array) -> mx.array:
        powers = self.frames.powers(waveforms.reshape(len(waveforms), -1), self.window) * self.scale
        spectra = powers if self.power == 2 else powers ** (self.power / 2)
        energies = spectra @ self.banks
        offset = self.log == "offset"
        levels = mx.log(energies + LOG_OFFSET) if offset else decibels(energies)
        return (levels @ self.cosines).swapaxes(1, 2)[..., None]

    @property
    def scale(self) -> mx.array | float:
        """Of the powers."""
        if self.normalized == "frame_length":
            return 1.0 / self.frames.fft_size
        return 1.0 / mx.square(self.window).sum() if self.normalized else 1.0

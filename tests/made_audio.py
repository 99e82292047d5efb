"""Recordings for the tests: tones whose every sample is known, written in whatever way is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
Samples = NDArray[np.float32]


def tone(seconds: float = 1.0, rate: int = RATE, *, pitch: float = 440.0) -> Samples:
    """(N,): a sine at half of full scale."""
    at = np.arange(round(seconds * rate)) / rate
    return np.asarray(0.5 * np.sin(2 * np.pi * pitch * at), np.float32)


def noise(samples: int, channels: int | None = None, seed: int = 0) -> Samples:
    """(N,) or (N, C), well below full scale."""
    shape = (samples,) if channels is None else (samples, channels)
    return np.asarray(0.1 * np.random.default_rng(seed).standard_normal(shape), np.float32)


def recording(
    path: Path, samples: NDArray[Any] | None = None, rate: int = RATE, **options: Any
) -> Path:
    """A file of these samples, (N,) or (N, C); of a second of noise where none are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(rate) if samples is None else samples, rate, **options)
    return path

"""Resemblyzer's voice encoder: whose voice it is, by three LSTM layers over a mel spectrogram."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.nn.layers.linear import Linear

from samevoice.models.layers import relu
from samevoice.models.layers.geometry import Window
from samevoice.models.layers.lstm import LSTM
from samevoice.models.layers.slaney import MelPowers
from samevoice.models.network import CutEmbedding, as_batch

HOP = 160  # samples from one frame to the next
PARTIAL = 160  # frames that the network hears at once: what it was trained on
APART = 77  # frames from one beginning to the next: 1.3 times a second
COVERED = 0.75  # of the last, by sound; with less it is left out


class VoiceEncoder(CutEmbedding):
    """Waveforms (B, 1, N) or (B, N) -> (B, E), as its authors embed a whole utterance.

    Parts of 1.6 s that overlap are heard each for itself; the voice is the direction of their mean.
    A mask cuts samples, as the authors cut silence, and leaves one utterance of what remains.
    """

    fewest_frames = 400  # samples: a window of the spectrogram

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        bins, hidden = int(config["num_mel_bins"]), int(config["hidden_size"])
        self.mel = MelPowers(bins, int(config["sample_rate"]), hop=HOP)
        inputs = [bins, *[hidden] * (int(config["num_layers"]) - 1)]
        self.lstm = [LSTM(size, hidden) for size in inputs]
        self.linear = Linear(hidden, int(config["embedding_size"]))

    def frames(self, x: mx.array) -> mx.array:
        """The samples themselves (B, N): masks cut them."""
        return as_batch(x).astype(mx.float32)

    def whole(self, frames: mx.array) -> mx.array:
        starts = beginnings(frames.shape[1])
        missing = max(0, (starts[-1] + PARTIAL) * HOP - frames.shape[1])
        mel = self.mel(mx.pad(frames, [(0, 0), (0, missing)]))
        parts = mx.stack([mel[:, start : start + PARTIAL] for start in starts], axis=1)
        heard = self.partial(parts.reshape(-1, *parts.shape[2:]))
        return unit(heard.reshape(*parts.shape[:2], -1).mean(axis=1))

    def partial(self, mel: mx.array) -> mx.array:
        """(B, T, M) -> (B, E)."""
        x = mel.astype(self.linear.weight.dtype)
        for layer in self.lstm:
            x = layer(x)
        return unit(relu(self.linear(x[:, -1])).astype(mx.float32))

    @property
    def dimension(self) -> int:
        return int(self.config["embedding_size"])

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.mel.frames.step,)

    @property
    def fewest_samples(self) -> int:
        return self.fewest_frames


def beginnings(samples: int) -> list[int]:
    """The first frame of each part of so many samples."""
    frames = math.ceil((samples + 1) / HOP)
    starts = list(range(0, max(1, frames - PARTIAL + APART + 1), APART))
    too_short = samples - starts[-1] * HOP < COVERED * PARTIAL * HOP
    return starts[:-1] if too_short and len(starts) > 1 else starts


def unit(x: mx.array) -> mx.array:
    """(..., E) of length 1."""
    return x / mx.linalg.norm(x, axis=-1, keepdims=True)

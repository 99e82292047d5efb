"""Silero VAD's encoder for a CPU: its filters and convolutions as products of gathered rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx.nn.layers import convolution

from samevoice.models.fast.cpu import Floats
from samevoice.models.fast.resnet import are_plain
from samevoice.models.layers import Conv1d

WINDOWS = 128  # at once: their rows stay in the cache


@dataclass(frozen=True)
class Conv:
    """A convolution of three taps, padded: (W, T, I) -> (W, ceil(T / stride), O), and a ReLU."""

    weight: Floats  # (3 * I, O)
    bias: Floats
    stride: int

    def __call__(self, x: Floats) -> Floats:
        padded = np.pad(x, [(0, 0), (1, 1), (0, 0)])
        taps = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)[:, :: self.stride]
        rows = taps.swapaxes(2, 3).reshape(-1, len(self.weight))
        y = rows @ self.weight
        y += self.bias
        np.maximum(y, 0, out=y)
        return y.reshape(len(x), -1, y.shape[1])


@dataclass(frozen=True)
class Encoder:
    """(W, context + window) -> (W, C)."""

    filters: Floats  # (samples, 2 * bins)
    convs: tuple[Conv, ...]

    def __call__(self, windows: Floats) -> Floats:
        parts = range(0, len(windows), WINDOWS)
        return np.concatenate([self._encoded(windows[at : at + WINDOWS]) for at in parts])

    def _encoded(self, windows: Floats) -> Floats:
        size, step = len(self.filters), len(self.filters) // 2
        mirrored = windows[:, -size // 4 - 1 : -1][:, ::-1]
        x = np.concatenate([windows, mirrored], axis=1)
        frames = np.lib.stride_tricks.sliding_window_view(x, size, axis=1)[:, ::step]
        spectrum = frames.reshape(-1, size) @ self.filters
        np.square(spectrum, out=spectrum)
        bins = spectrum.shape[1] // 2
        x = np.sqrt(spectrum[:, :bins] + spectrum[:, bins:]).reshape(*frames.shape[:2], bins)
        for conv in self.convs:
            x = conv(x)
        return x.reshape(len(x), -1)


def of(network: Any) -> Encoder | None:
    """The form of a ``networks.silero.SileroVAD``, or None where it would compute otherwise."""
    convs = [network[name] for name in network.convolutions]
    plain = are_plain([network.stft_conv], (convolution.Conv1d,)) and are_plain(convs, (Conv1d,))
    if not plain:
        return None
    return Encoder(
        np.ascontiguousarray(np.array(network.stft_conv.weight)[:, :, 0].T),
        tuple(
            # Laid out as the rows are: tap after tap, each with all its inputs.
            Conv(
                np.array(one.weight).reshape(one.weight.shape[0], -1).T.copy(),
                np.array(one.bias),
                one.stride,
            )
            for one in convs
        ),
    )

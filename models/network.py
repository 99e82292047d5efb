"""What both networks have in common: a config, and frames that lie over samples."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from samevoice.models.layers import Module, geometry
from samevoice.models.layers.geometry import Window

Waveforms = TypeVar("Waveforms", mx.array, np.ndarray)


class Network(Module):
    """Mono audio in; built from a bundle's config, which stays readable as ``config``."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        channels = config.get("num_channels", 1)
        if channels != 1:
            raise ValueError(f"num_channels is {channels}, but the network takes mono audio")
        self._config = MappingProxyType(dict(config))

    @property
    def config(self) -> dict[str, Any]:
        """What the network was built from."""
        return dict(self._config)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The network's steps along time, from the waveform to its frames."""
        raise NotImplementedError

    def num_frames(self, num_samples: int) -> int:
        """How many frames the network gives for so many samples."""
        return geometry.num_frames(self.windows, num_samples)

    def receptive_field_size(self, num_frames: int = 1) -> int:
        """How many samples so many frames were computed from."""
        return geometry.receptive_field_size(self.windows, num_frames)

    def receptive_field_center(self, frame: int = 0) -> int:
        """The sample in the middle of what a frame was computed from."""
        return geometry.receptive_field_center(self.windows, frame)


def as_batch(waveforms: Waveforms) -> Waveforms:
    """(B, 1, N) or (B, N) -> (B, N)."""
    if waveforms.ndim == 3 and waveforms.shape[1] == 1:
        return waveforms[:, 0]
    if waveforms.ndim != 2:
        raise ValueError(f"waveforms: (B, 1, N) or (B, N) wanted, got {waveforms.shape}")
    return waveforms

"""Where chunks and frames lie in time, as pyannote counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samevoice.models.network import Network


@dataclass(frozen=True)
class Frames:
    """Chunks of ``duration`` seconds every ``step``, each cut into frames that overlap."""

    duration: float = 10.0
    step: float = 1.0
    frame_duration: float = 991 / 16000
    frame_step: float = 270 / 16000
    per_chunk: int = 589
    sample_rate: int = 16000

    @classmethod
    def of(cls, network: Network, duration: float, step: float) -> Frames:
        """The frames that a segmentation network gives for such chunks."""
        rate = int(network.config.get("sample_rate", 16000))
        one, two = network.receptive_field_size(1), network.receptive_field_size(2)
        samples = round(duration * rate)
        return cls(
            duration, step, one / rate, (two - one) / rate, network.num_frames(samples), rate
        )

    @property
    def chunk_samples(self) -> int:
        return round(self.duration * self.sample_rate)

    @property
    def step_samples(self) -> int:
        return round(self.step * self.sample_rate)

    def num_chunks(self, samples: int) -> int:
        """Full chunks, and a padded one for a remainder."""
        beyond = samples - self.chunk_samples
        if beyond < 0:
            return 1
        return beyond // self.step_samples + 1 + (beyond % self.step_samples > 0)

    def closest(self, time: float) -> int:
        """The frame whose middle is nearest; halves go to the even one."""
        return int(np.rint((time - 0.5 * self.frame_duration) / self.frame_step))

    def first(self, chunk: int) -> int:
        """The frame of the whole recording at which a chunk's first one lies."""
        return self.closest(chunk * self.step + 0.5 * self.frame_duration)

    def total(self, chunks: int) -> int:
        """How many frames so many chunks span."""
        end = self.duration + (chunks - 1) * self.step
        return self.closest(end + 0.5 * self.frame_duration) + 1

    def middles(self, count: int) -> np.ndarray:
        """(count,): seconds in float64, by the very operations that pyannote.core uses."""
        start = np.arange(count) * self.frame_step
        return 0.5 * (start + (start + self.frame_duration))

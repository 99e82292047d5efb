"""Where chunks and frames lie in time, as pyannote counts them; and audio cut into chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


class Chunks:
    """Audio in blocks of any length -> batches of chunks (B, N), the last one padded with zeros.

    It holds no more than a batch; ``samples`` counts what came. ``apart``: a chunk that was padded
    is a batch of its own, as pyannote has it.
    """

    def __init__(
        self, blocks: Iterable[np.ndarray], frames: Frames, batch: int, *, apart: bool = False
    ) -> None:
        self._blocks, self._frames, self._batch, self._apart = blocks, frames, batch, apart
        self.samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        size, step = self._frames.chunk_samples, self._frames.step_samples
        whole = size + (self._batch - 1) * step  # what a full batch spans
        parts: list[np.ndarray] = []
        held = taken = 0
        for block in self._blocks:
            self.samples += len(block)
            parts.append(np.asarray(block, dtype=np.float32))
            held += len(block)
            if held >= whole:
                audio = np.concatenate(parts)
                while len(audio) >= whole:
                    yield windows(audio[:whole], size, step)
                    taken += self._batch
                    audio = audio[self._batch * step :]
                parts, held = [audio.copy()], len(audio)
        rest = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
        left = self._frames.num_chunks(self.samples) - taken
        if left > 0:
            missing = size + (left - 1) * step - len(rest)
            found = windows(np.pad(rest, (0, max(missing, 0))), size, step)[:left]
            edge = left - 1 if self._apart and missing > 0 else left
            yield from (part for part in (found[:edge], found[edge:]) if len(part))


def windows(audio: np.ndarray, size: int, step: int) -> np.ndarray:
    """(N,) -> (B, size), a view."""
    return np.lib.stride_tricks.sliding_window_view(audio, size)[::step]

"""Audio in blocks of any length -> overlapping chunks, holding no more than a batch of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from samevoice.models.diarization.frames import Frames


class Chunks:
    """Batches of chunks (B, N), the last one padded with zeros; ``samples`` counts what came."""

    def __init__(self, blocks: Iterable[np.ndarray], frames: Frames, batch: int) -> None:
        self._blocks, self._frames, self._batch = blocks, frames, batch
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
            yield windows(np.pad(rest, (0, max(missing, 0))), size, step)[:left]


def windows(audio: np.ndarray, size: int, step: int) -> np.ndarray:
    """(N,) -> (B, size), a view."""
    return np.lib.stride_tricks.sliding_window_view(audio, size)[::step]

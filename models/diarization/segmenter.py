"""A segmentation network on a device: what both kinds of pipeline begin with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from samevoice.models import backend  # isort: split

import mlx.core as mx
import numpy as np

from samevoice.errors import BundleError, DiarizationError
from samevoice.models.diarization import compiled, parts, powerset
from samevoice.models.diarization.frames import Chunks, Frames
from samevoice.models.diarization.memory import available_memory

CHUNK_MEMORY = 96 * 2**20  # what one chunk takes on its way through both networks, at most
LONGEST_CHUNK = 3600.0  # seconds; the networks hold a chunk whole
# Sixteen take seven eighths of eight's time a chunk in the LSTMs' many steps on a CPU; 32 no less.
BATCH, GPU_BATCH = 16, 32  # chunks at once
TOGETHER = 32  # pyannote's own batch, where nothing says another
EPSILON = 1e-5  # of torch's layer norm


class Segmenter:
    """A segmentation network: who is active in each frame of a chunk.

    ``threshold``: above it somebody speaks, where each speaker has a score of its own.
    """

    frames: Frames  # where chunks and frames lie in time

    def __init__(
        self,
        folder: Path,
        device: backend.Choice,
        batch_size: int | None,
        threshold: float | None = None,
    ) -> None:
        self.device, self.batch_size, self.threshold = backend.device(device), batch_size, threshold
        self._segmenting = folder
        with self.on_device():
            self.segmentation: Any = parts.segmentation(folder)
        # (K, S): which speakers each class of a powerset stands for; None where there is no class.
        self.classes: np.ndarray | None = None
        # Such networks take mean and deviation of all chunks that they are given at once. Here they
        # get them level already, however many are heard at once: pyannote's own batches decide.
        self.levels = bool(self.segmentation.config.get("normalize_waveform"))
        self.together = TOGETHER
        if self.levels:
            self.segmentation.normalize_waveform = False
        if not parts.independent(folder, self.segmentation.config):
            self.classes = powerset.mapping(*parts.classes(folder, self.segmentation.config))

    def _frames(
        self, duration: float | None, step: float | None, share: float, shortest: int
    ) -> Frames:
        """``share``: the step where none is asked for, as a share of the network's own chunk."""
        usual = float(self.segmentation.config["specifications"]["duration"])
        duration = usual if duration is None else duration
        step = share * usual if step is None else step
        if not 0 < duration < math.inf or not 0 < step <= duration:
            raise DiarizationError(
                f"chunks of {duration:g} s every {step:g} s: the step must be positive and at most "
                "the chunk's duration"
            )
        if duration > LONGEST_CHUNK:
            raise DiarizationError(f"chunks of {duration:g} s are too long: at most an hour")
        found = Frames.of(self.segmentation, duration, step)
        if found.per_chunk < 2 or found.chunk_samples < shortest or found.step_samples < 1:
            raise DiarizationError(f"chunks of {duration:g} s every {step:g} s are too short")
        return found

    def chunks(self, blocks: Iterable[np.ndarray]) -> Chunks:
        """Audio in blocks of any length -> batches of chunks."""
        usual = self.together if self.levels else self._batch()
        return Chunks(blocks, self.frames, self.batch_size or usual, apart=self.levels)

    def level(self, batch: np.ndarray) -> np.ndarray:
        """(B, N), a batch as ``chunks`` gives it -> what the network is to hear of it."""
        if not self.levels:
            return batch
        mean, variance = batch.mean(dtype=np.float64), batch.var(dtype=np.float64)
        levelled: np.ndarray = ((batch - mean) / np.sqrt(variance + EPSILON)).astype(np.float32)
        return levelled

    def segment(self, waveforms: np.ndarray) -> mx.array:
        """(B, N) -> (B, F, K): the network's scores."""
        size, found = getattr(self.segmentation, "at_once", None) or len(waveforms), []
        for start in range(0, len(waveforms), size):
            found.append(self.segmentation(waveforms[start : start + size]))
            self._refuse_damage(self._segmenting, found[-1:])  # here it is computed
        return mx.concatenate(found) if len(found) > 1 else found[0]

    def decode(self, scores: mx.array) -> mx.array:
        """(B, F, K) -> (B, F, S) of zeros and ones."""
        if self.classes is not None:
            return compiled.powerset_masks(scores, mx.array(self.classes))
        assert self.threshold is not None
        return mx.array(powerset.above(np.array(scores, dtype=np.float32), self.threshold))

    def _refuse_damage(self, part: Path, made: Iterable[Any]) -> None:
        """Whatever the audio, no healthy network gives what is not finite."""
        if not all(mx.isfinite(mx.array(one)).all() for one in made):
            raise BundleError(
                f"{part} gives numbers that are not finite: its weights are damaged, so convert it "
                "again"
            )

    def _batch(self) -> int:
        most = BATCH if self.device == mx.Device(mx.cpu) else GPU_BATCH
        return max(1, min(most, int(available_memory() // (4 * CHUNK_MEMORY))))

    def _seconds(self, samples: int) -> float:
        return samples / self.frames.sample_rate

    def on_device(self) -> AbstractContextManager[None]:
        return backend.using(self.device)

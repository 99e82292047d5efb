"""A made-up talk: what both networks say about it, and pyannote's pipeline made to say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np

from samevoice.models.diarization import powerset
from samevoice.models.diarization.frames import Frames
from samevoice.parity.pipeline.original import ReferencePipeline
from samevoice.parity.pipeline.recordings import Recorded

RATE, SECONDS, SIZE = 16_000, 26, 256
FRAMES = Frames()
# Who speaks from when to when; two voices are near each other, and once two speak at once.
TALK = ((0, 0.0, 5.5), (1, 4.5, 10.0), (2, 10.0, 16.0), (3, 16.0, 22.0), (0, 22.0, 25.5))


@dataclass
class Talk:
    """What both networks say about it: scores (C, F, 7) and a voice a frame (C, F, E)."""

    samples: np.ndarray
    scores: np.ndarray
    voices: np.ndarray

    @property
    def recording(self) -> Recorded:
        return Recorded("talk", self.samples)


def made_up() -> Talk:
    """Chunks know their number by their first sample, so that a stand-in can tell them apart."""
    random = np.random.default_rng(7)
    samples = (0.01 * random.standard_normal(SECONDS * RATE)).astype(np.float32)
    chunks = FRAMES.num_chunks(len(samples))
    samples[: chunks * RATE : RATE] = np.arange(chunks) / 1000
    table = powerset.mapping(3, 2)
    speakers = random.standard_normal((4, SIZE))
    speakers[3] = 0.75 * speakers[2] + 0.6 * speakers[3]
    scores = np.full((chunks, FRAMES.per_chunk, len(table)), -8.0)
    voices = 0.3 * random.standard_normal((chunks, FRAMES.per_chunk, SIZE))
    for chunk in range(chunks):
        times = chunk + np.arange(FRAMES.per_chunk) * FRAMES.frame_step
        slots: dict[tuple[int, bool], int] = {}
        masks = np.zeros((FRAMES.per_chunk, 3))
        for who, start, end in TALK:
            active = (times >= start) & (times < end)
            voices[chunk, active] += speakers[who]
            for late in (False, True):
                # The first chunk takes the first voice for two.
                split = chunk == 0 and who == 0
                here = active & ((times >= 2.5) == late if split else not late)
                if here.any():
                    masks[here, slots.setdefault((who, late), len(slots))] = 1
        classes = (masks[:, None] == table).all(axis=2).argmax(axis=1)
        np.put_along_axis(scores[chunk], classes[:, None], -0.1, axis=1)
    scores -= 0.01 * random.random(scores.shape)
    return Talk(samples, scores, voices)


@contextmanager
def saying(pipeline: ReferencePipeline, talk: Talk) -> Iterator[None]:
    """pyannote's pipeline with its own two networks replaced by what they are to say."""
    import torch

    def numbers(waveforms: Any) -> Any:
        return (waveforms[:, 0, 0] * 1000).round().long()

    def segment(self: Any, waveforms: Any) -> Any:
        del self
        rounded = (
            talk.scores.astype(np.float32) if waveforms.dtype == torch.float32 else talk.scores
        )
        return torch.from_numpy(rounded)[numbers(waveforms)]

    def embed(self: Any, waveforms: Any, weights: Any = None) -> Any:
        self.compute_fbank(waveforms)
        voices = torch.from_numpy(talk.voices).to(weights.dtype)[numbers(waveforms)]
        several = weights if weights.ndim == 3 else weights[:, None]
        mean = several @ voices / (several.sum(dim=-1, keepdim=True) + 1e-8)
        return mean if weights.ndim == 3 else mean[:, 0]

    sides = ((pipeline.segmentation, segment), (pipeline.embedding, embed))
    for reference, forward in sides:
        reference.module.forward = MethodType(forward, reference.module)
        vars(reference).pop("double", None)
    yield
    for reference, _ in sides:
        del reference.module.forward
        vars(reference).pop("double", None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Small products on a busy machine: threads would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

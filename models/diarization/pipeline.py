"""Who spoke when, in MLX, from a bundle and a recording.

A pipeline is a segmentation network, an embedding network and a clustering, each known by what it
gives: frames of speakers; ``frames`` of a chunk and what ``embed`` makes of them under masks;
clusters of embeddings. VBx needs a PLDA beside them, other clusterings do not.

One pass over the audio, a batch of chunks at a time: the segmentation tells who is active, the
embedding network sees each chunk once for all of its speakers. What is kept is a few kilobytes a
chunk. The rest runs on the host in float64.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self

from samevoice.models import backend  # isort: split

import mlx.core as mx
import numpy as np

from samevoice.errors import BundleError
from samevoice.models import fast as forms
from samevoice.models import recorded
from samevoice.models.diarization import compiled, parts, reconstruction
from samevoice.models.diarization.audio import Source, open_audio
from samevoice.models.diarization.clustering import (
    NOBODY,
    Bounds,
    Clustering,
    cluster,
    refuse_unknown_count,
)
from samevoice.models.diarization.crew import Crew, Task
from samevoice.models.diarization.frames import windows
from samevoice.models.diarization.output import Diarization, Turns
from samevoice.models.diarization.plda import Plda
from samevoice.models.diarization.segmenter import Segmenter
from samevoice.models.diarization.settings import (
    LABELS,
    OVERLAP,
    TOGETHER,
    algorithm,
    threshold_fault,
)
from samevoice.models.diarization.shared_trunk import APART, SharedTrunk, shareable
from samevoice.models.fast.sincnet import samples_of

PART = 4  # a multiple of so many chunks is segmented at once: products then round as of all of them


class Hook(Protocol):
    """Told what each stage gave; long ones call with ``completed`` of ``total`` seconds."""

    def __call__(
        self,
        step: str,
        artefact: Any,
        *,
        file: str | None = None,
        total: float | None = None,
        completed: float | None = None,
    ) -> None: ...


@dataclass
class Analysis:
    """What both networks say about a recording."""

    segmentations: np.ndarray  # (C, F, S) of zeros and ones, in uint8
    embeddings: np.ndarray  # (C, S, E) in float32
    samples: int
    scores: np.ndarray | None = None  # (C, F, S) in float32, where each label has its own

    @property
    def votes(self) -> np.ndarray:
        """(C, F, S): what the timeline is made of."""
        return self.segmentations if self.scores is None else self.scores


@dataclass
class Stages:
    """Everything between the audio and the result, for those who compare."""

    analysis: Analysis
    counts: np.ndarray  # (T,)
    clustering: Clustering | None = None  # None where nobody speaks
    discrete: np.ndarray | None = None  # (T, K) of zeros and ones
    exclusive: np.ndarray | None = None  # the same with one speaker at a time


@dataclass
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


class SpeakerDiarizationPipeline(Segmenter):
    """A bundle of a whole pipeline, ready to be called with recordings.

    ``chunk_duration`` and ``step`` in seconds; left out, they are the pipeline's own (10 and 1).
    ``fast`` hears the embeddings' trunk once over the recording instead of once a chunk: other
    embeddings than pyannote's, near them (docs/fast.md).
    """

    def __init__(
        self,
        model_path: str | Path,
        device: backend.Choice = "auto",
        *,
        chunk_duration: float | None = None,
        step: float | None = None,
        batch_size: int | None = None,
        fast: bool = False,
    ) -> None:
        folder = Path(model_path)
        self.config = parts.config(folder)
        self.settings: Mapping[str, Any] = self.config["pipeline"]
        threshold = self.settings.get(LABELS)
        super().__init__(folder / "segmentation", device, batch_size, threshold)
        self.together = self.settings.get(TOGETHER, self.together)
        if wrong := threshold_fault(self.segmentation.config, self.settings):
            raise BundleError(f"{folder / 'config.json'} {wrong}")
        with self.on_device():
            self.embedding: Any = parts.embedding(folder / "embedding", self.segmentation)
        needs_plda = algorithm(self.settings).needs_plda
        self.plda: Any = Plda.load(folder / "plda") if needs_plda else None
        self._folder = folder
        self.fast = fast
        self.apart: float = getattr(self.embedding, "shared_apart", APART)
        if fast:
            shareable(self.embedding)
        share = float(self.settings["segmentation_step"])
        self.frames = self._frames(chunk_duration, step, share, self.embedding.fewest_samples)
        options = {"chunk_duration": chunk_duration, "step": step, "fast": fast}
        self._crew = Crew(self, folder, options)

    @property
    def reference_only(self) -> bool:
        """Whether the weights are made up: good for parity, meaningless as a diarization."""
        return "note" in self.config

    def with_settings(self, **numbers: Any) -> Self:
        """The same networks, with other numbers of the clustering."""
        other = copy.copy(self)
        other.settings = {**self.settings, **numbers}
        other._crew = Crew(other, *self._crew.source)
        return other

    @cached_property
    def embedding_fingerprint(self) -> str:
        """The SHA-256 of what makes an embedding: weights and config."""
        digest = hashlib.sha256()
        folder = self._folder / "embedding"
        names = sorted(file.name for file in folder.glob("*.safetensors"))
        for found in recorded.hashes(folder, names):
            digest.update(bytes.fromhex(found))
        kept = {k: v for k, v in self.embedding.config.items() if k != "note"}
        digest.update(json.dumps(kept, sort_keys=True).encode())
        return digest.hexdigest()

    def __call__(
        self,
        audio: Source,
        *,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        hook: Hook | None = None,
    ) -> Diarization:
        """Who spoke when. Counts of speakers as pyannote takes them: exact, or bounds."""
        bounds = Bounds.of(num_speakers, min_speakers, max_speakers)
        refuse_unknown_count(self.settings, bounds)
        source = open_audio(audio, self.frames.sample_rate)
        clock = Clock()
        tell = partial(hook, file=source.uri) if hook else nobody
        with closing(source.blocks()) as blocks:  # a file, or ffmpeg, ends with it
            analysis = self.analyse(blocks, clock, tell, source.duration)
        stages = self.assign(analysis, bounds, clock, tell)
        found = self.result(stages, source.uri, bounds, clock, tuple(source.notes))
        found.recording = source.at_hand(found.duration)
        return found

    # The networks ---------------------------------------------------------------------------------

    def analyse(
        self,
        blocks: Any,
        clock: Clock | None = None,
        tell: Hook | None = None,
        duration: float | None = None,
    ) -> Analysis:
        """Blocks of mono audio, of whatever length -> what both networks say about each chunk."""
        clock, tell = clock or Clock(), tell or nobody
        chunks = self.chunks(timed(blocks, clock))
        segmentations, voices, scores = [], [], []
        with self.on_device():
            with clock("embeddings"):
                silent = self.silent_embedding()
            self._refuse_unfit(silent)
            shared = self._shared(silent) if self.fast else None
            known = int((duration or 0) * self.frames.sample_rate)
            self._call_others(self.frames.num_chunks(known) if known else 0)
            for batch in chunks:
                with self._crew.together():
                    with clock("segmentation"):
                        found, said = self._said(self.level(batch))
                    with clock("embeddings"):
                        voices += self._voices(batch, found, silent, shared)
                        self._crew.work()
                if not known:
                    self._call_others(len(batch))
                segmentations.append(found.astype(np.uint8))
                scores += [] if said is None else [said]
                done = min(self._seconds(chunks.samples), duration or math.inf)
                tell("reading", None, completed=done, total=duration)
            with clock("embeddings"), self._crew.together():
                voices += shared.rest() if shared else []
                embeddings = self._crew.made(voices)
        return Analysis(
            np.concatenate(segmentations),
            np.concatenate(embeddings),
            chunks.samples,
            np.concatenate(scores) if scores else None,
        )

    def _call_others(self, chunks: int) -> None:
        """So many more chunks will be heard; where answers are compared, this process is alone."""
        if type(self) is SpeakerDiarizationPipeline and forms.whole_on_cpu():
            self._crew.grow(chunks)
        elif self._crew.ready:
            self._crew.close()
            self._crew = Crew(self, *self._crew.source)

    def _said(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(B, N) -> (B, F, S) of zeros and ones, and scores where each label has its own."""
        count = self._crew.ready + 1
        edges = [round(len(batch) * part / count / PART) * PART for part in range(count)]
        edges = sorted({*edges, len(batch)})
        parts = [batch[start:end] for start, end in pairwise(edges)]
        step = self.frames.step_samples
        tasks = [self._crew.add("said", samples_of(part, step), urgent=True) for part in parts]
        masks, scores = zip(*self._crew.made(tasks), strict=True)
        return np.concatenate(masks), None if scores[0] is None else np.concatenate(scores)

    def said(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The same of chunks that lie in (N,)."""
        said = self.segment(windows(samples, self.frames.chunk_samples, self.frames.step_samples))
        scores = np.array(said, dtype=np.float32) if self.classes is None else None
        return np.array(self.decode(said)), scores

    def _voices(
        self, batch: np.ndarray, masks: np.ndarray, silent: np.ndarray, shared: SharedTrunk | None
    ) -> list[Task]:
        """(B, N), (B, F, S) -> (B, S, E) to come; of a shared trunk, of what it has by now."""
        if shared is not None:
            return shared.heard(batch, np.array(self.weights(masks)))
        each = 1 if self._crew.ready else min(len(batch), self._batch())
        parts = [slice(start, start + each) for start in range(0, len(batch), each)]
        return [self._crew.add("voices", batch[one], masks[one], silent) for one in parts]

    def voices(self, waveforms: np.ndarray, masks: np.ndarray, silent: np.ndarray) -> np.ndarray:
        """(B, N), (B, F, S) -> (B, S, E)."""
        made = self.embed(waveforms, masks, silent)
        self._refuse_damage(self._folder / "embedding", [made])
        return made

    def _shared(self, silent: np.ndarray) -> SharedTrunk:
        def hear(*heard: Any) -> list[Task]:
            return [self._crew.add("shared_voices", silent, *heard)]

        return SharedTrunk(self.embedding, self.frames, silent, self.apart, hear)

    def shared_voices(self, silent: np.ndarray, *heard: Any) -> np.ndarray:
        """A group of chunks that a shared trunk hears together -> (B, S, E)."""
        trunk = SharedTrunk(self.embedding, self.frames, silent, self.apart)
        made = np.concatenate(trunk.voices(*heard))
        self._refuse_damage(self._folder / "embedding", [made])
        return made

    def _refuse_unfit(self, voice: np.ndarray) -> None:
        self._refuse_damage(self._folder / "embedding", [voice])
        if self.plda is not None and len(voice) != len(self.plda.mean1):
            raise BundleError(
                f"{self._folder / 'plda'} is made for embeddings of {len(self.plda.mean1)} values, "
                f"and {self._folder / 'embedding'} gives {len(voice)}: convert a pipeline whose "
                "parts belong together"
            )

    def embed(
        self, waveforms: np.ndarray, masks: np.ndarray, silent: np.ndarray | None = None
    ) -> np.ndarray:
        """(B, N), (B, F, S) -> (B, S, E): each chunk once, silent ones not at all."""
        if silent is None:
            silent = self.silent_embedding()
        vectors = np.tile(silent, (len(masks), masks.shape[2], 1))
        speaking = np.flatnonzero(masks.any(axis=(1, 2)))
        if len(speaking):
            frames = self.embedding.frames(mx.array(waveforms[speaking]))
            weights = self.weights(masks[speaking])
            if backend.on_cpu():
                # Chunk by chunk, so that how many there are does not change how sums round.
                pairs = zip(frames, weights, strict=True)
                found = [self.embedding.embed(one[None], mask[None])[0] for one, mask in pairs]
                vectors[speaking] = np.array(mx.stack(found))
            else:
                vectors[speaking] = np.array(self.embedding.embed(frames, weights))
        return vectors

    def weights(self, masks: np.ndarray) -> mx.array:
        """(B, F, S) -> (B, S, F): without overlaps, where enough is left then."""
        if not self.settings[OVERLAP]:
            return mx.array(masks).swapaxes(1, 2)
        return compiled.embedding_weights(mx.array(masks), self.least_frames)

    @property
    def least_frames(self) -> int:
        """A mask without overlaps must have more frames than this, or the whole one is used."""
        needed: int = self.embedding.fewest_samples
        return math.ceil(self.frames.per_chunk * needed / self.frames.chunk_samples)

    def silent_embedding(self) -> np.ndarray:
        """(E,): what the embedding network gives where its mask is empty, whatever the audio."""
        # As nothing of the audio is weighed, the shortest that makes a frame will do.
        frames = self.embedding.frames(mx.zeros((1, self.embedding.fewest_samples)))
        vectors = self.embedding.embed(frames, mx.zeros((1, 1, self.frames.per_chunk)))
        return np.array(vectors[0, 0])

    # The host -------------------------------------------------------------------------------------

    def assign(
        self,
        analysis: Analysis,
        bounds: Bounds | None = None,
        clock: Clock | None = None,
        tell: Hook | None = None,
    ) -> Stages:
        """Counts, clusters and the recording's timeline from what the networks say."""
        bounds, clock, tell = bounds or Bounds(), clock or Clock(), tell or nobody
        segmentations = analysis.segmentations
        tell("segmentation", segmentations)
        with clock("counting"):
            counts = reconstruction.count_speakers(segmentations, self.frames)
        tell("speaker_counting", counts)
        stages = Stages(analysis, counts)
        if not counts.any():
            return stages
        tell("embeddings", analysis.embeddings)
        with clock("clustering"):
            clustering = cluster(
                analysis.embeddings, segmentations, self.plda, self.settings, bounds
            )
        tell("clustering", clustering.hard)
        with clock("reconstruction"):
            stages.clustering = clustering
            stages.discrete, stages.exclusive = self.reconstruct(
                analysis, clustering.hard, np.minimum(counts, bounds.most).astype(np.int64)
            )
        tell("discrete_diarization", stages.discrete)
        return stages

    def reconstruct(
        self, analysis: Analysis, hard: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What was said, (C, S), (T,) -> with overlaps, and with one speaker at a time."""
        hard = np.where(analysis.segmentations.any(axis=1), hard, NOBODY)
        votes = reconstruction.activations(analysis.votes, hard, self.frames)
        whole = reconstruction.discretise(votes, counts)
        return whole, reconstruction.discretise(votes, np.minimum(counts, 1))

    def result(
        self,
        stages: Stages,
        uri: str,
        bounds: Bounds | None = None,
        clock: Clock | None = None,
        notes: tuple[str, ...] = (),
    ) -> Diarization:
        """Turns with names, and a voice for each."""
        bounds, clock = bounds or Bounds(), clock or Clock()
        duration = self._seconds(stages.analysis.samples)
        clustering = stages.clustering
        if clustering is None or stages.discrete is None or stages.exclusive is None:
            nobody = Turns((), uri)
            empty = np.zeros((0, stages.analysis.embeddings.shape[2]))
            return Diarization(uri, nobody, nobody, empty, duration, clock.seconds, notes)
        whole = self._turns(stages.discrete)
        named = reconstruction.names(whole)
        notes = (*notes, *clustering.notes, *_outside(clustering, bounds))
        return Diarization(
            uri,
            _with_names(whole, named, uri),
            _with_names(self._turns(stages.exclusive), named, uri),
            _centroids(clustering.centroids, sorted(named, key=named.__getitem__)),
            duration,
            clock.seconds,
            notes,
        )

    def _turns(self, discrete: np.ndarray) -> list[tuple[float, float, int]]:
        gap = float(self.settings["min_duration_off"])
        return reconstruction.turns(discrete, self.frames, gap)


def _with_names(found: list[tuple[float, float, int]], named: Mapping[int, str], uri: str) -> Turns:
    return Turns.of(((start, end, named[who]) for start, end, who in found), uri)


def _centroids(centroids: np.ndarray, clusters: list[int]) -> np.ndarray:
    """(K, E) -> one row a label; zeros for speakers that were added to fill the count."""
    missing = max(clusters, default=-1) + 1 - len(centroids)
    padded = np.pad(centroids, ((0, max(missing, 0)), (0, 0)))
    return padded[clusters]


def _outside(clustering: Clustering, bounds: Bounds) -> tuple[str, ...]:
    found = int(clustering.hard.max(initial=NOBODY)) + 1
    if bounds.least <= found <= bounds.most:
        return ()
    asked = f"{bounds.least}" if bounds.exactly else f"{bounds.least} to {bounds.most:g}"
    voices = "1 voice was" if found == 1 else f"{found} voices were"
    return (f"{voices} told apart where {asked} were asked for: is there enough speech?",)


def timed(blocks: Any, clock: Clock) -> Iterator[np.ndarray]:
    """The same blocks, with the time that reading them takes."""
    remaining = iter(blocks)
    while True:
        with clock("reading"):
            block = next(remaining, None)
        if block is None:
            return
        yield block


def nobody(step: str, artefact: Any, **_: Any) -> None:
    """A hook that does nothing."""

"""The port on a recording: free-running, then every stage on what pyannote fed it with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from samevoice.models import backend  # isort: split

import mlx.core as mx
import numpy as np

from samevoice.errors import told
from samevoice.models.diarization import clustering, reconstruction, vbx
from samevoice.models.diarization.audio import open_audio
from samevoice.models.diarization.clustering import Bounds, Clustering
from samevoice.models.diarization.pipeline import Analysis, SpeakerDiarizationPipeline, Stages
from samevoice.models.diarization.settings import algorithm
from samevoice.parity.candidate import as_numpy
from samevoice.parity.inputs import RATE
from samevoice.parity.metrics import Array
from samevoice.parity.pipeline import stages
from samevoice.parity.pipeline.original import (
    NOBODY,
    TOLD,
    Clusters,
    Spoke,
    TorchRun,
    Vbx,
    turns_of,
)
from samevoice.parity.pipeline.recordings import Recorded
from samevoice.parity.pipeline.stages import Seams
from samevoice.parity.turns import Turn

Stage: TypeAlias = Callable[[], Seams]


class Listening(SpeakerDiarizationPipeline):
    """A pipeline as people run it; what its segmentation says is kept on the way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scores: list[Array] = []

    @property
    def bounds(self) -> Bounds:
        """What the original is told about the count of speakers, too."""
        must_be_told = algorithm(self.settings).needs_count
        return Bounds(TOLD, TOLD, TOLD) if must_be_told else Bounds()

    def decode(self, scores: mx.array) -> mx.array:
        self.scores.append(as_numpy(scores))
        return super().decode(scores)

    @property
    def device_name(self) -> str:
        """``CPU``, ``Metal`` or ``CUDA``."""
        return backend.device_name(self.device)


@dataclass(frozen=True, eq=False)
class Exact:
    """What the port gives of the same recording when it does not share: voices, and how long."""

    embeddings: Array  # (C, S, E)
    train: tuple[Array, Array]  # chunks (N,), slots (N,) of what is clustered
    turns: tuple[Turn, ...]
    seconds: float


@dataclass
class PortRun:
    """What the port made of a recording: free-running, and stage by stage on pyannote's input."""

    free: Seams = field(default_factory=dict)
    forced: Seams = field(default_factory=dict)
    turns: tuple[Turn, ...] | None = None  # None: it broke off
    exclusive_turns: tuple[Turn, ...] = ()
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = math.inf  # of the free run
    exact: Exact | None = None  # where the free run was in the fast configuration

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """A port that breaks off has diverged, too: its taps are missing, and here is why."""
        try:
            yield
        except Exception as error:
            self.errors[what] = told(error)


def run_port(candidate: Listening, recording: Recorded, original: TorchRun) -> PortRun:
    run = PortRun()
    if candidate.fast:
        with run.attempt("exact"):
            run.exact = _exact(candidate, recording)
    with run.attempt("free"):
        _run_free(candidate, recording, original, run)
    for name, stage in _forced(candidate, original, run):
        with run.attempt(f"{name}, forced"):
            run.forced |= stage()
    return run


# Free ---------------------------------------------------------------------------------------------


def _exact(candidate: Listening, recording: Recorded) -> Exact:
    candidate.fast = False
    try:
        started = time.perf_counter()
        analysis = _analysed(candidate, recording)
        found = candidate.assign(analysis, candidate.bounds)
        made = candidate.result(found, recording.name)
        seconds = time.perf_counter() - started
    finally:
        candidate.fast = True
    nothing = np.zeros(0, dtype=np.int64)
    train = found.clustering.train if found.clustering else (nothing, nothing)
    return Exact(analysis.embeddings, train, turns_of(made.speaker_diarization), seconds)


def _analysed(candidate: Listening, recording: Recorded) -> Analysis:
    candidate.scores.clear()
    source = open_audio(
        {"waveform": recording.samples[None], "sample_rate": RATE, "uri": recording.name}
    )
    return candidate.analyse(source.blocks(), duration=source.duration)


def _run_free(candidate: Listening, recording: Recorded, original: TorchRun, run: PortRun) -> None:
    started = time.perf_counter()
    analysis = _analysed(candidate, recording)
    analysed = time.perf_counter()
    run.free["log_probabilities"] = np.concatenate(candidate.scores)
    run.free["masks"] = analysis.segmentations.astype(np.float32)
    if isinstance(original, Spoke):
        run.free["fbank"] = _fbank(candidate, original.chunks)
    run.free["embeddings"] = analysis.embeddings

    def tell(step: str, artefact: Any, **progress: Any) -> None:
        del progress
        if step == "speaker_counting":  # there even if a later stage breaks off
            run.free["count"] = np.asarray(artefact, dtype=np.int64)

    assigning = time.perf_counter()
    found = candidate.assign(analysis, candidate.bounds, tell=tell)
    made = candidate.result(found, recording.name)
    run.seconds = analysed - started + time.perf_counter() - assigning
    run.free |= _of_stages(candidate, found, original)
    run.turns = turns_of(made.speaker_diarization)
    run.exclusive_turns = turns_of(made.exclusive_speaker_diarization)
    run.free |= _of_result(made)


def _fbank(candidate: Listening, chunks: Array) -> Array:
    with candidate.on_device():
        found = [as_numpy(candidate.embedding.compute_fbank(mx.array(x[None]))) for x in chunks]
    return np.concatenate(found)


def _of_result(made: Any) -> Seams:
    return {
        "turns": stages.turns_array(turns_of(made.speaker_diarization)),
        "exclusive_turns": stages.turns_array(turns_of(made.exclusive_speaker_diarization)),
        "voices": np.asarray(made.speaker_embeddings, dtype=np.float64),
    }


def _of_stages(candidate: Listening, found: Stages, original: TorchRun) -> Seams:
    seams: Seams = {"count": np.asarray(found.counts, dtype=np.int64)}
    if found.clustering is None or found.discrete is None or found.exclusive is None:
        return seams
    seams |= of_clustering(candidate, found.analysis, found.clustering)
    if isinstance(original, Spoke):
        seams |= stages.timelines(original, found.discrete, found.exclusive)
    return seams


def of_clustering(candidate: Listening, analysis: Analysis, found: Clustering) -> Seams:
    """Each step of the port's clustering, as it is compared."""
    steps = None
    if found.steps is not None:
        xvectors = candidate.plda.whiten(analysis.embeddings[found.train])
        steps = Vbx(**vars(found.steps), xvectors=xvectors, phi=candidate.plda.phi)
    made = Clusters(found.hard, found.soft, found.centroids, found.train, steps)
    return stages.of_clusters(made, np.asarray(analysis.segmentations.sum(axis=1) == 0))


# Forced -------------------------------------------------------------------------------------------


def _forced(candidate: Listening, original: TorchRun, run: PortRun) -> Iterator[tuple[str, Stage]]:
    """Every stage alone: its name, and what runs it on pyannote's own input."""
    masks = original.segmentations

    def on_device(compute: Callable[[], mx.array]) -> Array:
        with candidate.on_device():
            return as_numpy(compute())

    # Past the class that listens: these scores are pyannote's.
    decode = super(Listening, candidate).decode
    yield "masks", lambda: {"masks": on_device(lambda: decode(mx.array(original.scores)))}
    yield "count", lambda: {"count": reconstruction.count_speakers(masks, candidate.frames)}
    if isinstance(original, Spoke):
        yield "weights", lambda: {"weights": on_device(lambda: candidate.weights(masks))}
        if candidate.fast or not np.array_equal(run.free.get("masks", ()), masks):
            # With the same masks the free run was fed with nothing else.
            yield "embeddings", lambda: {"embeddings": _embeddings(candidate, original)}
        yield "clustering", lambda: _clustering(candidate, original)
        if steps := original.clusters.steps:
            yield "vbx", lambda: _vbx(steps, candidate.settings)
            yield "assignment", lambda: _assignment(original)
        yield "reconstruction", lambda: _timelines(candidate, original)
    yield "turns", lambda: _turns(candidate, original)


def _embeddings(candidate: Listening, original: Spoke) -> Array:
    size = candidate.batch_size or 8
    starts = range(0, len(original.chunks), size)
    parts = (slice(at, at + size) for at in starts)
    with candidate.on_device():
        found = [candidate.embed(original.chunks[x], original.segmentations[x]) for x in parts]
    return np.concatenate(found)


def _clustering(candidate: Listening, original: Spoke) -> Seams:
    seams = clustered(candidate, original.segmentations.astype(np.uint8), original.embeddings)
    own = ["trained", "ahc", "xvectors", "plda", "centroids"]
    # With nothing to cluster, the assignment is no stage of its own.
    own += ["similarity", "hard"] if original.clusters.steps is None else []
    return {name: seams[name] for name in own if name in seams}


def clustered(candidate: Listening, masks: Array, voices: Array) -> Seams:
    """The port's clustering of pyannote's own embeddings."""
    found = clustering.cluster(voices, masks, candidate.plda, candidate.settings, candidate.bounds)
    return of_clustering(candidate, Analysis(masks, voices, samples=0), found)


def _vbx(steps: Vbx, settings: Mapping[str, Any]) -> Seams:
    fa, fb = float(settings["Fa"]), float(settings["Fb"])
    found = vbx.vbx(steps.ahc, steps.features, steps.phi, fa, fb)
    columns = steps.columns
    return {"gamma": found.gamma[:, columns], "pi": found.pi[columns], "elbo": found.elbo}


def _assignment(original: Spoke) -> Seams:
    plain, empty = original.clusters, original.empty_slots
    soft = clustering.similarities(original.embeddings, plain.centroids)
    found = clustering.constrained(clustering.silenced(plain.soft, original.segmentations))
    return {
        "similarity": stages.of_clusters(replace(plain, soft=soft), empty)["similarity"],
        "hard": stages.canonical(np.where(empty, NOBODY, found)),
    }


def _said(candidate: Listening, original: TorchRun, embeddings: Array) -> Analysis:
    """What pyannote's networks said, in the port's own form."""
    scores = original.scores if candidate.classes is None else None
    masks = original.segmentations.astype(np.uint8)
    return Analysis(masks, embeddings, len(original.waveform), scores)


def _timelines(candidate: Listening, original: Spoke) -> Seams:
    said = _said(candidate, original, original.embeddings)
    made = candidate.reconstruct(said, original.clusters.hard, original.counts)
    return stages.timelines(original, *made)


def _turns(candidate: Listening, original: TorchRun) -> Seams:
    if not isinstance(original, Spoke):
        shape = (*original.segmentations.shape[::2], original.voices.shape[1])
        said = _said(candidate, original, np.zeros(shape, dtype=np.float32))
        return _of_result(candidate.result(Stages(said, original.counts), "recording"))
    said = _said(candidate, original, original.embeddings)
    timelines = original.discrete.speakers, original.exclusive.speakers
    found = Stages(said, original.counts, original.clusters, *timelines)
    return _of_result(candidate.result(found, "recording"))

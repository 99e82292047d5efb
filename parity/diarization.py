"""A whole pipeline against pyannote's own: every stage on the same recordings, and who spoke when.

Each stage is judged twice, as each layer of a network is. "Forced" feeds it with pyannote's own
input of that stage, "free" lets the port run as people run it. In free mode a decision that lies on
the noise floor may fall otherwise on either side; what comes after it says nothing then, is left
out, and counted.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from samevoice.models import backend  # isort: split

import mlx.core as mx
import numpy as np

from samevoice.converters import bundle as bundles
from samevoice.converters import convert
from samevoice.models.diarization import clustering, output, reconstruction, vbx
from samevoice.models.diarization.audio import open_audio
from samevoice.models.diarization.clustering import Clustering
from samevoice.models.diarization.pipeline import Analysis, Stages
from samevoice.parity import inputs as inputs_module
from samevoice.parity import result as results
from samevoice.parity import run as running
from samevoice.parity.candidate import Listening, as_numpy
from samevoice.parity.dumps import write_reproduction
from samevoice.parity.inputs import CHUNK, RATE, Example, InputError, batch
from samevoice.parity.judge import Mode, Tap, Verdict, judge_taps
from samevoice.parity.limits import Limits, Override, limits_for, precision_of
from samevoice.parity.metrics import Array, ShapeMismatchError, row_cosines
from samevoice.parity.reference_pipeline import (
    KEPT,
    NOBODY,
    Clusters,
    Heard,
    ReferencePipeline,
    Truth,
)
from samevoice.parity.result import Artefact, Result
from samevoice.parity.task import Decisions, compare_decisions
from samevoice.parity.turns import Errors, Turn

Seams: TypeAlias = dict[str, Array]  # tap -> array
Stage: TypeAlias = Callable[[], Seams]

OUTPUTS = ("log_probabilities", "turns")
# Every tap in the order in which pyannote comes to it. Stages in float64 have two names, because
# pyannote's own input and embeddings that differ by rounding allow different limits.
ORDER = (
    "log_probabilities",
    "masks",
    "count",
    "weights",
    "fbank",
    "embeddings",
    "trained",
    "ahc",
    *(
        f"{name}{how}"
        for name in ("xvectors", "plda", "gamma", "pi", "elbo")
        for how in ("", ".free")
    ),
    *(f"{name}{how}" for name in ("centroids", "similarity") for how in ("", ".free")),
    "hard",
    "discrete",
    "exclusive",
    "turns",
    "exclusive_turns",
    "voices",
    "voices.free",
)
ROUNDED = {name.removesuffix(".free") for name in ORDER if name.endswith(".free")}
# Of the networks. Their type is part of what they promise; on the host only values count. What
# they say hangs on no decision: where masks differ, embeddings are judged on pyannote's.
TYPED = ("log_probabilities", "fbank", "embeddings")
# Taps that the port gives when it runs as people run it. What it pools over follows from the masks.
FREE = [name for name in ORDER if name not in ROUNDED and name != "weights"]
LABEL = "SPEAKER_"
WAVEFORM = 1000  # pairs of least and largest sample that reports draw


# One recording ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Recorded:
    """A recording that both pipelines are fed with, and who spoke in it, where that is known."""

    name: str
    samples: Array  # (N,) at 16 kHz
    spoken: tuple[Turn, ...] | None = None

    @property
    def example(self) -> Example:
        return Example(self.name, batch([self.samples]), depth="full")

    @property
    def duration(self) -> float:
        return len(self.samples) / RATE


@dataclass
class Ran:
    """What the port made of a recording: free-running, and stage by stage on pyannote's input."""

    free: Seams = field(default_factory=dict)
    forced: Seams = field(default_factory=dict)
    turns: tuple[Turn, ...] | None = None  # None: it broke off
    exclusive_turns: tuple[Turn, ...] = ()
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = math.inf  # of the free run
    exact: Exact | None = None  # where the free run was in the fast configuration


@dataclass(frozen=True, eq=False)
class Exact:
    """What the port gives of the same recording when it does not share: voices, and how long."""

    embeddings: Array  # (C, S, E)
    trained: Array  # (C, S) of 0 and 1: the slots that are clustered
    turns: tuple[Turn, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Compared:
    """One recording on both sides, and what of it can be judged."""

    recording: Recorded
    heard: Heard
    truth: Truth
    ran: Ran
    decisions: Decisions | None  # None where the scores cannot be compared
    near_floor: int
    middles: Array  # (T,): seconds
    rounded: bool  # whether the networks round more coarsely than float32

    @property
    def flips_on_floor(self) -> int:
        return sum(flip.within_noise for flip in self.decisions.flips) if self.decisions else 0

    @property
    def turned(self) -> bool:
        """Whether decisions fell otherwise, and all of them for want of precision."""
        if self.decisions is None or not self.decisions.flips:
            return False
        return self.rounded or self.flips_on_floor == len(self.decisions.flips)

    @property
    def clusters_on_floor(self) -> str | None:
        """The first step of pyannote's clustering that its own rounding decides, if any does."""
        others = (self.truth.clusters, *self.truth.others)
        return _earliest(_first_turned(self.heard.clusters, x) for x in others)

    @property
    def explained(self) -> bool:
        """Whether float32 could not settle who spoke when."""
        return not self.rounded and (self.turned or self.clusters_on_floor is not None)

    @property
    def tied_spans(self) -> list[tuple[float, float]]:
        """Seconds around the tied frames, from the middle before to the middle after."""
        last = len(self.middles) - 1
        found: list[int] = np.flatnonzero(self.tied).tolist()
        return [
            (float(self.middles[max(k - 1, 0)]), float(self.middles[min(k + 1, last)]))
            for k in found
        ]

    @property
    def tied(self) -> Array:
        """(T,): where pyannote's sort, not the votes, chose a speaker."""
        if self.heard.discrete is None or self.heard.exclusive is None:
            return np.zeros(0, dtype=bool)
        found: Array = self.heard.discrete.tied | self.heard.exclusive.tied
        return found

    @property
    def left_out(self) -> dict[str, str]:
        """Free-running taps that say nothing here, and why."""
        if self.ran.exact is not None:
            why = "the fast configuration gives voices near pyannote's, not the same"
            return {"embeddings": why, **_after("trained", why)}
        if self.rounded:
            return _after("masks", "coarse networks decide otherwise at the edges of turns")
        if self.turned:
            return _after(
                "masks", f"{self.flips_on_floor} decisions on the noise floor fell otherwise"
            )
        same = self.ran.turns == self.heard.turns and (
            self.ran.exclusive_turns == self.heard.exclusive_turns
        )
        if not same and (step := self.clusters_on_floor):
            return _after(step, f"rounding decides pyannote's own {step.removesuffix('.free')}")
        left = {}
        if not same and self.tied.any():
            why = f"{self.tied.sum()} frames are tied, and pyannote's sort is not stable"
            left = dict.fromkeys(("turns", "exclusive_turns", "voices.free"), why)
        if step := _first_turned(self.heard.clusters, self.truth.clusters):
            after = _after(step, "there is no truth: float64 leads to other clusters")
            left |= {name: why for name, why in after.items() if name.endswith(".free")}
        return left


def _after(step: str, why: str) -> dict[str, str]:
    """This tap and all after it that hang on a decision, free-running."""
    after = ORDER[ORDER.index(step) :]
    return {name: why for name in after if name in FREE and name not in TYPED}


def _earliest(steps: Iterable[str | None]) -> str | None:
    found = [step for step in steps if step is not None]
    return min(found, key=ORDER.index, default=None)


def _first_turned(plain: Clusters | None, truth: Clusters | None) -> str | None:
    """The first tap at which two clusterings part in more than their last digits."""
    if plain is None or truth is None:
        return None
    if plain.ahc is not None and truth.ahc is not None:
        if not np.array_equal(canonical(plain.ahc), canonical(truth.ahc)):
            return "ahc"
        assert plain.elbo is not None
        assert truth.elbo is not None
        if len(plain.elbo) != len(truth.elbo):
            return "gamma.free"
    if plain.centroids.shape != truth.centroids.shape:
        return "centroids.free"
    same = np.array_equal(canonical(plain.hard), canonical(truth.hard))
    return None if same else "hard"


# Seams --------------------------------------------------------------------------------------------


def canonical(labels: Array) -> Array:
    """Clusters renumbered in the order in which they first come; nobody stays nobody."""
    flat = np.asarray(labels, dtype=np.int64).ravel()
    order = dict.fromkeys(flat[flat != NOBODY].tolist())
    numbers = {label: k for k, label in enumerate(order)} | {NOBODY: NOBODY}
    return np.array([numbers[x] for x in flat.tolist()], dtype=np.int64).reshape(np.shape(labels))


def silent_slots(segmentations: Array) -> Array:
    """(C, F, S) -> (C, S)."""
    return np.asarray(segmentations.sum(axis=1) == 0)


def _by_first(ahc: Array) -> Array:
    """(N,) -> the clusters in the order in which they first come."""
    return np.array(list(dict.fromkeys(np.asarray(ahc).tolist())), dtype=np.int64)


def seams_of_clusters(found: Clusters, silent: Array) -> Seams:
    """Partitions as canonical labels, and everything with a column a cluster in their order."""
    hard = np.where(silent, NOBODY, found.hard)
    seams = {
        "trained": np.asarray(found.trained, dtype=np.int64),
        "hard": canonical(hard),
        "centroids": found.centroids,
        "similarity": found.soft[~silent],
    }
    if found.ahc is None:
        return seams
    assert found.xvectors is not None
    assert found.features is not None
    assert found.gamma is not None
    assert found.pi is not None
    assert found.elbo is not None
    columns = _by_first(found.ahc)
    kept = [k for k in columns if found.pi[k] > KEPT]
    rank = np.searchsorted(np.flatnonzero(found.pi > KEPT), kept)
    if len(rank) == len(found.centroids):
        seams |= {"centroids": found.centroids[rank], "similarity": found.soft[~silent][:, rank]}
    return seams | {
        "ahc": canonical(found.ahc),
        "xvectors": found.xvectors,
        "plda": found.features,
        "gamma": found.gamma[:, columns],
        "pi": found.pi[columns],
        "elbo": found.elbo,
    }


def seams_of_reference(heard: Heard) -> Seams:
    """What pyannote gave at each tap."""
    silent = silent_slots(heard.segmentations)
    seams: Seams = {
        "log_probabilities": heard.scores,
        "masks": heard.segmentations,
        "count": np.asarray(heard.counts, dtype=np.int64),
        "turns": turns_array(heard.turns),
        "exclusive_turns": turns_array(heard.exclusive_turns),
    }
    if heard.clusters is not None:
        assert heard.weights is not None
        assert heard.fbank is not None
        assert heard.embeddings is not None
        assert heard.discrete is not None
        assert heard.exclusive is not None
        seams |= {"weights": heard.weights, "fbank": heard.fbank, "embeddings": heard.embeddings}
        seams |= seams_of_clusters(heard.clusters, silent)
        seams["discrete"] = _untied(heard.discrete.speakers, heard.discrete.tied)
        seams["exclusive"] = _untied(heard.exclusive.speakers, heard.exclusive.tied)
        seams["voices"] = heard.voices
    # Without a slot to cluster, pyannote's centroid is the mean of nothing.
    return {name: x for name, x in seams.items() if np.isfinite(x).all() or name == "embeddings"}


def seams_of_truth(heard: Heard, truth: Truth) -> Seams:
    """The truth where there is one; every decision is pyannote's own."""
    seams = {"log_probabilities": truth.scores}
    if truth.fbank is not None and truth.embeddings is not None and truth.clusters is not None:
        seams |= {"fbank": truth.fbank, "embeddings": truth.embeddings}
        seams |= rounded_seams(heard, truth.clusters)
    return seams


def rounded_seams(heard: Heard, clusters: Clusters) -> Seams:
    """What pyannote's clustering of other embeddings gives where it works with fractions."""
    found = seams_of_clusters(clusters, silent_slots(heard.segmentations))
    seams = {name: found[name] for name in ROUNDED if name in found}
    voices = _voices(heard, clusters)
    return seams if voices is None else seams | {"voices": voices}


def _voices(heard: Heard, clusters: Clusters) -> Array | None:
    """The truth's centroids in the order of pyannote's labels."""
    plain = heard.clusters
    if plain is None or plain.centroids.shape != clusters.centroids.shape:
        return None
    rows = [np.flatnonzero((plain.centroids == voice).all(axis=1)) for voice in heard.voices]
    zero = np.zeros(clusters.centroids.shape[1])
    ranks = _same_order(plain, clusters)
    return np.array([clusters.centroids[ranks[row[0]]] if len(row) else zero for row in rows])


def _same_order(plain: Clusters, other: Clusters) -> Array:
    """Cluster of the one -> cluster of the other, by where they first come."""
    if plain.ahc is None or other.ahc is None:
        return np.arange(len(plain.centroids))
    assert plain.pi is not None
    assert other.pi is not None
    first = [k for k in _by_first(plain.ahc) if plain.pi[k] > KEPT]
    second = [k for k in _by_first(other.ahc) if other.pi[k] > KEPT]
    mine = np.searchsorted(np.flatnonzero(plain.pi > KEPT), first)
    theirs = np.searchsorted(np.flatnonzero(other.pi > KEPT), second)
    found = np.arange(len(plain.centroids))
    if len(mine) == len(theirs) == len(found):
        found[mine] = theirs
    return found


def _untied(speakers: Array, tied: Array) -> Array:
    """(T, K) -> the frames at which the votes decide."""
    if len(speakers) != len(tied):
        return np.asarray(speakers, dtype=np.int64)
    return np.asarray(speakers, dtype=np.int64)[~tied]


def turns_array(turns: Sequence[Turn]) -> Array:
    """(N, 3) in float64: start, end, and the number in the label."""
    rows = [(start, end, float(label.removeprefix(LABEL))) for start, end, label in turns]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


# The port -----------------------------------------------------------------------------------------


def ran_on(candidate: Listening, recording: Recorded, heard: Heard) -> Ran:
    """The port on a recording: free-running, then every stage on what pyannote fed it with."""
    ran = Ran()
    if candidate.fast:
        _tried(ran, "exact", lambda: _run_exact(candidate, recording, ran))
    _tried(ran, "free", lambda: _run_free(candidate, recording, heard, ran))
    for name, stage in _forced(candidate, heard, ran):
        _tried(ran, f"{name}, forced", partial(_keep, ran.forced, stage))
    return ran


def _tried(ran: Ran, what: str, run: Callable[[], None]) -> None:
    """A port that breaks off has diverged, too: its taps are missing, and here is why."""
    try:
        run()
    except Exception as error:
        ran.errors[what] = f"{type(error).__name__}: {' '.join(str(error).split())}"


def _keep(seams: Seams, stage: Stage) -> None:
    seams |= stage()


def _run_exact(candidate: Listening, recording: Recorded, ran: Ran) -> None:
    candidate.fast = False
    try:
        started = time.perf_counter()
        analysis = _analysed(candidate, recording)
        stages = candidate.assign(analysis)
        made = candidate.result(stages, recording.name)
        seconds = time.perf_counter() - started
    finally:
        candidate.fast = True
    trained = np.zeros(analysis.segmentations.shape[::2], dtype=np.int64)
    if stages.clustering is not None:
        trained[stages.clustering.train] = 1
    ran.exact = Exact(analysis.embeddings, trained, turns_of(made.speaker_diarization), seconds)


def _analysed(candidate: Listening, recording: Recorded) -> Analysis:
    candidate.scores.clear()
    source = open_audio(
        {"waveform": recording.samples[None], "sample_rate": RATE, "uri": recording.name}
    )
    return candidate.analyse(source.blocks(), duration=source.duration)


def _run_free(candidate: Listening, recording: Recorded, heard: Heard, ran: Ran) -> None:
    started = time.perf_counter()
    analysis = _analysed(candidate, recording)
    analysed = time.perf_counter()
    ran.free["log_probabilities"] = np.concatenate(candidate.scores)
    ran.free["masks"] = analysis.segmentations.astype(np.float32)
    if heard.fbank is not None:
        ran.free["fbank"] = _fbank(candidate, heard.chunks)
    ran.free["embeddings"] = analysis.embeddings

    def tell(step: str, artefact: Any, **progress: Any) -> None:
        del progress
        if step == "speaker_counting":  # there even if a later stage breaks off
            ran.free["count"] = np.asarray(artefact, dtype=np.int64)

    assigning = time.perf_counter()
    stages = candidate.assign(analysis, tell=tell)
    made = candidate.result(stages, recording.name)
    ran.seconds = analysed - started + time.perf_counter() - assigning
    ran.free |= _seams_of_stages(candidate, stages, heard)
    ran.turns = turns_of(made.speaker_diarization)
    ran.exclusive_turns = turns_of(made.exclusive_speaker_diarization)
    ran.free |= _seams_of_result(made)


def _fbank(candidate: Listening, chunks: Array) -> Array:
    with candidate._on_device():
        found = [as_numpy(candidate.embedding.compute_fbank(mx.array(x[None]))) for x in chunks]
    return np.concatenate(found)


def turns_of(turns: Any) -> tuple[Turn, ...]:
    """The port's turns, as they are compared."""
    return tuple((segment.start, segment.end, who) for segment, who in turns)


def _seams_of_result(made: Any) -> Seams:
    return {
        "turns": turns_array(turns_of(made.speaker_diarization)),
        "exclusive_turns": turns_array(turns_of(made.exclusive_speaker_diarization)),
        "voices": np.asarray(made.speaker_embeddings, dtype=np.float64),
    }


def _seams_of_stages(candidate: Listening, stages: Stages, heard: Heard) -> Seams:
    seams: Seams = {"count": np.asarray(stages.counts, dtype=np.int64)}
    if stages.clustering is None or stages.discrete is None or stages.exclusive is None:
        return seams
    seams |= seams_of_clustering(candidate, stages.analysis, stages.clustering)
    if heard.discrete is not None and heard.exclusive is not None:
        seams["discrete"] = _untied(stages.discrete.speakers, heard.discrete.tied)
        seams["exclusive"] = _untied(stages.exclusive.speakers, heard.exclusive.tied)
    return seams


def seams_of_clustering(candidate: Listening, analysis: Analysis, found: Clustering) -> Seams:
    """Each step of the port's clustering, as it is compared."""
    trained = np.zeros(analysis.segmentations.shape[::2], dtype=np.int64)
    trained[found.train] = 1
    steps: dict[str, Any] = {}
    if found.ahc is not None and found.posterior is not None:
        steps = {
            "ahc": found.ahc,
            "xvectors": candidate.plda.whiten(analysis.embeddings[found.train]),
            "features": found.features,
            **found.posterior._asdict(),
        }
    made = Clusters(trained, found.hard, found.soft, found.centroids, **steps)
    return seams_of_clusters(made, silent_slots(analysis.segmentations))


def _forced(candidate: Listening, heard: Heard, ran: Ran) -> Iterator[tuple[str, Stage]]:
    """Every stage alone: its name, and what runs it on pyannote's own input."""
    settings, plain = candidate.settings, heard.clusters
    masks = heard.segmentations

    def on_device(run: Callable[[], mx.array]) -> Array:
        with candidate._on_device():
            return as_numpy(run())

    # Past the class that listens: these scores are pyannote's.
    decode = super(Listening, candidate).decode
    yield "masks", lambda: {"masks": on_device(lambda: decode(mx.array(heard.scores)))}
    yield "count", lambda: {"count": reconstruction.count_speakers(masks, candidate.frames)}
    if plain is None or heard.weights is None or heard.embeddings is None:
        yield "turns", lambda: _forced_turns(candidate, heard)
        return
    embeddings = heard.embeddings
    yield "weights", lambda: {"weights": on_device(lambda: candidate.weights(masks))}
    if candidate.fast or not np.array_equal(ran.free.get("masks", ()), masks):
        # With the same masks the free run was fed with nothing else.
        yield "embeddings", lambda: {"embeddings": _embeddings(candidate, heard)}
    analysis = Analysis(masks.astype(np.uint8), embeddings, len(heard.waveform))

    def clustered() -> Seams:
        found = clustering.cluster(embeddings, analysis.segmentations, candidate.plda, settings)
        seams = seams_of_clustering(candidate, analysis, found)
        own = ["trained", "ahc", "xvectors", "plda", "centroids"]
        # With nothing to cluster, the assignment is no stage of its own.
        own += ["similarity", "hard"] if plain.ahc is None else []
        return {name: seams[name] for name in own if name in seams}

    yield "clustering", clustered
    if plain.ahc is not None:
        yield "vbx", lambda: _forced_vbx(plain, settings)
        yield "assignment", lambda: _forced_assignment(heard, plain)
    yield "reconstruction", lambda: _forced_timelines(candidate, heard, plain)
    yield "turns", lambda: _forced_turns(candidate, heard)


def _embeddings(candidate: Listening, heard: Heard) -> Array:
    size = candidate.batch_size or 8
    with candidate._on_device():
        return np.concatenate(
            [
                candidate.embed(heard.chunks[at : at + size], heard.segmentations[at : at + size])
                for at in range(0, len(heard.chunks), size)
            ]
        )


def _forced_vbx(plain: Clusters, settings: Mapping[str, Any]) -> Seams:
    assert plain.ahc is not None
    assert plain.features is not None
    assert plain.phi is not None
    fa, fb = float(settings["Fa"]), float(settings["Fb"])
    found = vbx.vbx(plain.ahc, plain.features, plain.phi, fa, fb)
    columns = _by_first(plain.ahc)
    return {"gamma": found.gamma[:, columns], "pi": found.pi[columns], "elbo": found.elbo}


def _forced_assignment(heard: Heard, plain: Clusters) -> Seams:
    assert heard.embeddings is not None
    silent = silent_slots(heard.segmentations)
    soft = clustering.similarities(heard.embeddings, plain.centroids)
    found = clustering.constrained(clustering.silenced(plain.soft, heard.segmentations))
    return {
        "similarity": seams_of_clusters(_with(plain, soft=soft), silent)["similarity"],
        "hard": canonical(np.where(silent, NOBODY, found)),
    }


def _with(plain: Clusters, **changed: Array) -> Clusters:
    return Clusters(**{**vars(plain), **changed})


def _forced_timelines(candidate: Listening, heard: Heard, plain: Clusters) -> Seams:
    assert heard.discrete is not None
    assert heard.exclusive is not None
    whole, single = candidate.reconstruct(
        heard.segmentations.astype(np.uint8),
        np.asarray(plain.hard, dtype=np.int64),
        np.asarray(heard.counts, dtype=np.int64),
    )
    return {
        "discrete": _untied(whole.speakers, heard.discrete.tied),
        "exclusive": _untied(single.speakers, heard.exclusive.tied),
    }


def _forced_turns(candidate: Listening, heard: Heard) -> Seams:
    masks = heard.segmentations.astype(np.uint8)
    plain, embeddings = heard.clusters, heard.embeddings
    if plain is None or heard.discrete is None or heard.exclusive is None or embeddings is None:
        nothing = np.zeros((*masks.shape[::2], heard.voices.shape[1]), dtype=np.float32)
        analysis = Analysis(masks, nothing, len(heard.waveform))
        return _seams_of_result(candidate.result(Stages(analysis, heard.counts), "recording"))
    stages = Stages(
        Analysis(masks, embeddings, len(heard.waveform)),
        np.asarray(heard.counts, dtype=np.int64),
        Clustering(
            np.asarray(plain.hard, dtype=np.int64),
            plain.soft,
            plain.centroids,
            (np.nonzero(plain.trained)[0], np.nonzero(plain.trained)[1]),
        ),
        *(
            reconstruction.Discrete(x.speakers.astype(np.uint8), x.tied)
            for x in (heard.discrete, heard.exclusive)
        ),
    )
    return _seams_of_result(candidate.result(stages, "recording"))


# Taps ---------------------------------------------------------------------------------------------


def taps_of(one: Compared) -> Iterator[Tap]:
    """Every seam of one recording that can be judged."""
    name, plain = one.recording.name, seams_of_reference(one.heard)
    truth = plain | {
        key: x for key, x in seams_of_truth(one.heard, one.truth).items() if key in plain
    }
    left_out = one.left_out
    others = [rounded_seams(one.heard, x) for x in one.truth.others]
    for tap in ORDER:
        seam = tap.removesuffix(".free")
        if seam not in plain:
            continue
        forced = one.ran.forced.get(seam)
        if tap == seam and seam not in TYPED:
            yield _tap(tap, plain[seam], plain[seam], forced, "forced", name)
        if tap == "embeddings" and forced is not None:
            yield _tap(tap, truth[seam], plain[seam], forced, "forced", name)
        elif tap in FREE and tap not in left_out:
            floors = [x[seam] for x in others if seam in x and x[seam].shape == truth[seam].shape]
            yield _tap(tap, truth[seam], plain[seam], one.ran.free.get(seam), "free", name, floors)


def _tap(
    tap: str,
    truth: Array,
    plain: Array,
    got: Array | None,
    mode: Mode,
    name: str,
    floors: Sequence[Array] = (),
) -> Tap:
    if got is not None and tap not in TYPED:
        got, truth, plain = (np.asarray(x, dtype=np.float64) for x in (got, truth, plain))
    return Tap(tap, truth, plain, got, floors, mode, name)


# The whole ----------------------------------------------------------------------------------------


@dataclass
class Whole:
    """Every recording compared: a verdict, and what reports draw."""

    verdict: Verdict
    compared: list[Compared]
    details: dict[str, Any]


def compare(
    reference: ReferencePipeline,
    candidate: Listening,
    recordings: Sequence[Recorded],
    limits: Limits,
    progress: running.Progress | None = None,
) -> Whole:
    """Both pipelines on the same recordings -> a verdict on every stage and on the outcome."""
    tell = progress or (lambda what, done, total: None)
    compared: list[Compared] = []
    for done, recording in enumerate(recordings):
        tell(f"pipeline: {recording.name}", done, len(recordings))
        heard = reference.run(recording.samples)
        truth = reference.truth(heard)
        compared.append(compare_one(recording, heard, truth, candidate, limits))
    tell("", len(recordings), len(recordings))
    return judged(compared, limits)


def compare_one(
    recording: Recorded, heard: Heard, truth: Truth, candidate: Listening, limits: Limits
) -> Compared:
    """One recording of which pyannote's side is known."""
    ran = ran_on(candidate, recording, heard)
    decisions, near = None, 0
    scores = ran.free.get("log_probabilities")
    if scores is not None:
        try:
            decisions = compare_decisions(heard.scores, scores, truth=truth.scores)
        except ShapeMismatchError:
            pass  # the tap says so
        else:
            near = int(np.count_nonzero(margins(heard.scores) <= decisions.noise))
    rounded = precision_of(limits.dtype, limits.device).times_float32 > 1
    middles = candidate.frames.middles(len(heard.counts))
    return Compared(recording, heard, truth, ran, decisions, near, middles, rounded)


def margins(scores: Array) -> Array:
    """(..., K) -> (...): how far the best class is ahead of the next."""
    top = np.partition(np.asarray(scores, dtype=np.float64), -2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2])


def judged(compared: Sequence[Compared], limits: Limits) -> Whole:
    """What was compared -> the verdict, the task's figures, and what reports draw."""
    taps = [tap for one in compared for tap in taps_of(one)]
    came = {tap.name for tap in taps}
    order = [name for name in ORDER if name in came]
    verdict = judge_taps(taps, limits, outputs=OUTPUTS, order=order)
    details = {
        "diarization": {one.recording.name: drawn(one) for one in compared},
        "errors": {
            f"{one.recording.name}, {what}": words
            for one in compared
            for what, words in one.ran.errors.items()
        },
        "left_out": {
            one.recording.name: _reasons(one.left_out) for one in compared if one.left_out
        },
    }
    return Whole(verdict.with_task(task_of(compared)), list(compared), details)


def _reasons(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """Why -> the taps that are left out for it."""
    found: dict[str, list[str]] = {}
    for tap, why in left_out.items():
        found.setdefault(why, []).append(tap)
    return found


# The task -----------------------------------------------------------------------------------------


BROKEN = Errors(math.inf, 1.0)


def errors(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn] | None,
    duration: float,
    without: Sequence[tuple[float, float]] = (),
) -> Errors:
    """pyannote.metrics' DER without a collar, overlaps included; parts may be left out."""
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    if hypothesis is None:
        return BROKEN
    end = max([duration, *(stop for turns in (reference, hypothesis) for _, stop, _ in turns)])
    left_out = Timeline([Segment(*span) for span in without])
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    found = metric(
        annotation_of(reference),
        annotation_of(hypothesis),
        uem=left_out.gaps(support=Segment(0.0, end)),
        detailed=True,
    )
    wrong = sum(found[name] for name in ("confusion", "missed detection", "false alarm"))
    return Errors(float(wrong), float(found["total"]))


def annotation_of(turns: Sequence[Turn]) -> Any:
    """pyannote.core's Annotation of these turns."""
    from pyannote.core import Annotation, Segment

    annotation = Annotation()
    for number, (start, end, label) in enumerate(turns):
        annotation[Segment(start, end), number] = label
    return annotation


@dataclass(frozen=True)
class Outcome:
    """Who spoke when, on both sides of one recording."""

    whole: Errors
    exclusive: Errors
    unexplained: Errors
    against_spoken: tuple[Errors, Errors] | None

    @classmethod
    def of(cls, one: Compared) -> Outcome:
        heard, ran, duration = one.heard, one.ran, one.recording.duration
        whole = errors(heard.turns, ran.turns, duration)
        exclusive = errors(heard.exclusive_turns, ran.turns and ran.exclusive_turns, duration)
        explained = not whole.wrong or (ran.turns is not None and one.explained)
        beside = Errors() if explained else errors(heard.turns, ran.turns, duration, one.tied_spans)
        spoken = one.recording.spoken
        against = None
        if spoken is not None:
            sides = (errors(spoken, turns, duration) for turns in (heard.turns, ran.turns))
            plain, got = sides
            against = (plain, got)
        return cls(whole, exclusive, beside, against)


def task_of(compared: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    """The task's figures over all recordings: decisions, and who spoke when."""
    outcomes = [Outcome.of(one) for one in compared]
    rows = [_row(one, outcome) for one, outcome in zip(compared, outcomes, strict=True)]
    counted = ("turns", "flips", "flips_on_floor", "decisions_near_floor", "tied_frames")
    whole: dict[str, Any] = {
        "der": sum((x.whole for x in outcomes), Errors()).rate,
        "exclusive_der": sum((x.exclusive for x in outcomes), Errors()).rate,
        # Of the worst recording: a good long one does not make up for it.
        "unexplained_der": max((x.unexplained.rate for x in outcomes), default=math.inf),
        **{name: sum(row[name] for row in rows) for name in counted},
        "clusters_on_floor": sum(bool(row["clusters_on_floor"]) for row in rows),
        "recordings": {one.recording.name: row for one, row in zip(compared, rows, strict=True)},
    }
    if given := [x.against_spoken for x in outcomes if x.against_spoken is not None]:
        plain, got = (sum(side, Errors()) for side in zip(*given, strict=True))
        whole |= {"der_reference": plain.rate, "der_candidate": got.rate}
    return {"diarization": whole, **_agreement(compared), **_shared(compared)}


def _shared(compared: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    """What the fast configuration costs and saves, beside the exact one of the same port."""
    both = [(one, one.ran.exact) for one in compared if one.ran.exact is not None]
    if (
        not both
        or len(both) < len(compared)
        or not all(one.ran.turns is not None for one in compared)
    ):
        return {}  # a limit on a figure that is not there is broken
    rows = {one.recording.name: _shared_row(one, exact) for one, exact in both}
    seconds = sum(one.ran.seconds for one, _ in both)
    exactly = sum(exact.seconds for _, exact in both)
    wrong = (errors(x.turns, one.ran.turns, one.recording.duration) for one, x in both)
    return {
        "fast": {
            "shared_cosine_median": min(row["cosine_median"] for row in rows.values()),
            "shared_cosine_min": min(row["cosine_min"] for row in rows.values()),
            "der_exact": sum(wrong, Errors()).rate,
            "seconds": seconds,
            "seconds_exact": exactly,
            "time_ratio": seconds / exactly,
            "recordings": rows,
        }
    }


def _shared_row(one: Compared, exact: Exact) -> dict[str, Any]:
    """Cosines of the voices that are clustered, 1 where none is."""
    spoken = exact.trained.astype(bool)
    found = row_cosines(exact.embeddings[spoken], one.ran.free["embeddings"][spoken])
    return {
        "voices": int(spoken.sum()),
        "cosine_median": float(np.median(found)) if found.size else 1.0,
        "cosine_min": float(found.min()) if found.size else 1.0,
        "seconds": one.ran.seconds,
        "seconds_exact": exact.seconds,
    }


def _row(one: Compared, outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {
        "der": outcome.whole.rate,
        "exclusive_der": outcome.exclusive.rate,
        "unexplained_der": outcome.unexplained.rate,
        "speakers_reference": len({label for *_, label in one.heard.turns}),
        "speakers_candidate": len({label for *_, label in one.ran.turns or ()}),
        "turns": len(one.heard.turns),
        "turns_candidate": len(one.ran.turns or ()),
        "decisions": int(math.prod(one.heard.scores.shape[:-1])),
        "flips": len(one.decisions.flips) if one.decisions else 0,
        "flips_on_floor": one.flips_on_floor,
        "decisions_near_floor": one.near_floor,
        "noise": one.decisions.noise if one.decisions else math.inf,
        "clusters_on_floor": one.clusters_on_floor or "",
        "tied_frames": int(one.tied.sum()),
    }
    if outcome.against_spoken is not None:
        plain, got = outcome.against_spoken
        row |= {"der_reference": plain.rate, "der_candidate": got.rate}
    return row


def _agreement(compared: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    """The decisions of all recordings, as for a segmentation alone."""
    rows = [
        (one.heard.scores, one.ran.free["log_probabilities"], one.truth.scores)
        for one in compared
        if one.decisions is not None
    ]
    if not rows or len(rows) < len(compared):
        return {}  # a limit on a figure that is not there is broken
    columns = zip(*((running.flat(x) for x in row) for row in rows), strict=True)
    plain, got, truth = (np.concatenate(column) for column in columns)
    return compare_decisions(plain, got, truth=truth).sections()


def drawn(one: Compared) -> dict[str, Any]:
    """What reports draw of one recording; the port's labels are pyannote's where they overlap."""
    turns = one.ran.turns or ()
    found: dict[str, Any] = {
        "duration": one.recording.duration,
        "waveform": envelope(one.recording.samples),
        "reference": [list(turn) for turn in one.heard.turns],
        "candidate": [list(turn) for turn in mapped(one.heard.turns, turns)],
        "der": Outcome.of(one).whole.rate,
    }
    if one.recording.spoken is not None:
        found["truth"] = [list(turn) for turn in one.recording.spoken]
    return found


def envelope(samples: Array, most: int = WAVEFORM) -> list[list[float]]:
    """(N,) -> at most so many pairs of least and largest sample, evenly over time."""
    count = min(most, len(samples))
    if not count:
        return []
    edges = np.linspace(0, len(samples), count + 1).astype(np.int64)
    low = np.minimum.reduceat(samples, edges[:-1])
    high = np.maximum.reduceat(samples, edges[:-1])
    return [[round(float(a), 4), round(float(b), 4)] for a, b in zip(low, high, strict=True)]


def mapped(reference: Sequence[Turn], turns: Sequence[Turn]) -> list[Turn]:
    """The same turns with the reference's labels, each given to whoever speaks most at that time.

    Labels without a counterpart stay; one that the reference uses for somebody else gets a mark.
    """
    from pyannote.metrics.diarization import DiarizationErrorRate

    if not turns:
        return []
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants a UEM, which changes nothing here
        names = metric.optimal_mapping(annotation_of(reference), annotation_of(turns))
    taken = {label for *_, label in reference}

    def name(label: str) -> str:
        other = f"{label} (other)" if label in taken else label
        return str(names.get(label, other))

    return [(start, end, name(label)) for start, end, label in turns]


# Recordings ---------------------------------------------------------------------------------------


def recordings_of(
    chosen: inputs_module.Set | Sequence[Recorded | Example],
    audio: Sequence[str | Path] = (),
    references: Sequence[str | Path] = (),
) -> list[Recorded]:
    """The set, then the recordings that are given, each whole."""
    found = list(default_recordings(chosen)) if isinstance(chosen, str) else [*_recorded(chosen)]
    spoken = _spoken(references)
    names = {one.name for one in found}
    for path in audio:
        name = Path(path).name
        count = sum(known == name or known.startswith(f"{name} #") for known in names)
        name = f"{name} #{count + 1}" if count else name
        names.add(name)
        turns = spoken.get(Path(path).stem)
        if turns is None and len(audio) == len(spoken) == 1:
            turns = next(iter(spoken.values()))  # one recording, one reference: these belong
        found.append(Recorded(name, inputs_module.read_audio(path), turns))
    strangers = sorted(set(spoken) - {Path(path).stem for path in audio})
    if strangers and not any(one.spoken is not None for one in found):
        raise InputError(
            f"the references are of {strangers[0]!r}, which is no --input: name the recording so"
        )
    return found


def _recorded(given: Sequence[Recorded | Example]) -> Iterator[Recorded]:
    """Recordings as they are, and each waveform of the networks' examples as one."""
    for one in given:
        if isinstance(one, Recorded):
            yield one
            continue
        for number, waveform in enumerate(one.waveforms[:, 0]):
            several = len(one.waveforms) > 1
            yield Recorded(f"{one.name} {number}" if several else one.name, waveform)


def default_recordings(
    chosen: inputs_module.Set = "quick", speech: Array | None = None
) -> Iterator[Recorded]:
    """The set for a whole pipeline; ``speech`` stands for pyannote.audio's recording."""
    speech = inputs_module.sample() if speech is None else speech
    yield Recorded("sample", speech)
    if chosen == "full":
        said = speech[inputs_module.SPEECH - 2 * RATE :]
        yield Recorded("9.99 seconds", said[: CHUNK - RATE // 100])
        yield Recorded("one sample more than a chunk", said[: CHUNK + 1])
        yield Recorded("silence", np.zeros(12 * RATE, np.float32))
        yield Recorded("two minutes", np.tile(speech, 4))


def _spoken(paths: Sequence[str | Path]) -> dict[str, tuple[Turn, ...]]:
    found: dict[str, list[Turn]] = {}
    for path in paths:
        for uri, turns in read_rttm(path).items():
            found.setdefault(uri, []).extend(turns)
    return {uri: tuple(turns) for uri, turns in found.items()}


def read_rttm(path: str | Path) -> dict[str, tuple[Turn, ...]]:
    """A reference: recording -> turns."""
    found = output.read_rttm(path)
    if not found:
        raise InputError(f"{path} holds no line of a SPEAKER: is it an RTTM?")
    return {
        uri: tuple((segment.start, segment.end, who) for segment, who in turns)
        for uri, turns in found.items()
    }


# A bundle and its source --------------------------------------------------------------------------


def run(
    bundle: str | Path,
    source: str | Path,
    *,
    inputs: inputs_module.Set | Sequence[Recorded | Example] = "quick",
    audio: Sequence[str | Path] = (),
    references: Sequence[str | Path] = (),
    device: backend.Choice = "auto",
    overrides: Iterable[Override] = (),
    progress: running.Progress | None = None,
    output: str | Path | None = None,
    command: Sequence[str] = (),
    revision: str | None = None,
    fast: bool = False,
) -> Result:
    """Compare the bundle of a whole pipeline with pyannote's own on the same recordings.

    ``references`` are RTTM files that say who really spoke in ``audio``. ``fast`` compares the fast
    configuration: its result is of another model type, and no proof of the bundle as it is.
    """
    folder, started = Path(bundle), time.monotonic()
    asked = [one for one in overrides if one.tap is None or one.tap in ORDER]
    planned = _planned(folder, source, revision)
    chosen = recordings_of(inputs, audio, references)
    running.strict_float32()
    candidate = Listening(folder, device, fast=fast)
    kind = results.FAST if fast else "full"
    limits = limits_for(
        kind, running.dtype_of_pipeline(folder), running.device_of(candidate)
    ).overridden(asked)
    reference = ReferencePipeline.load(planned)
    loaded = time.monotonic()
    whole = compare(reference, candidate, chosen, limits, progress)
    seconds = {"load": loaded - started, "compare": time.monotonic() - loaded}
    made = Result.of(
        whole.verdict,
        model_type=kind,
        source=_source(planned),
        bundle=Artefact(running.fingerprint(folder), {"name": folder.resolve().name}),
        versions=running.versions(),
        inputs=[one.example.described() for one in chosen],
        command=command
        or _command(folder, source, inputs, audio, references, device, asked, fast=fast),
        details={
            **whole.details,
            "device": candidate.device_name,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
        },
    )
    if output is None:
        return made
    if not fast:  # what a release replays is the exact configuration
        from samevoice.parity import golden, golden_pipeline

        kept = Path(output) / golden.FOLDER
        # The recordings of the set come first; those that were given are somebody's own.
        shown = whole.compared[: len(chosen) - len(audio)]
        golden_pipeline.save(kept, shown, made.source.sha256, made.versions)
    return _saved(made, whole, Path(output))


def _planned(folder: Path, source: str | Path, revision: str | None) -> convert.Conversion:
    """The source, which must be the one that every part of the bundle was made from."""
    planned = convert.prepare(
        source, model_type="auto", options=convert.Options(), revision=revision
    )
    if planned.pipeline is None:
        raise running.ParityError(
            f"{source} is no whole pipeline, which {folder} is: name the source it was made from"
        )
    said = bundles.read_json(folder / bundles.PROVENANCE)["sources"]
    hashes = {part.family.role: part.source_hashes for part in planned.parts}
    for name, files in {**hashes, "full": convert.hashes_of(planned.pipeline)}.items():
        if convert.fingerprint(files) != said[name]["sha256"]:
            raise running.ParityError(
                f"{folder} was made from another {name} than {source} holds: "
                "name that source, or convert again"
            )
    config = bundles.read_json(folder / bundles.CONFIG)
    running.check_settings(config.get("pipeline", {}), planned.settings, folder)
    for part in planned.parts:
        where = folder / part.folder
        running.check_settings(bundles.read_json(where / bundles.CONFIG), part.config, where)
    return planned


def _source(planned: convert.Conversion) -> Artefact:
    assert planned.pipeline is not None
    source = planned.pipeline
    files = dict(convert.hashes_of(source))
    for part in planned.parts:
        files |= {f"{part.folder}/{name}": digest for name, digest in part.source_hashes.items()}
    notes = {"name": source.name, "kind": source.kind}
    if source.revision:
        notes["revision"] = source.revision
    if planned.note:
        notes["note"] = planned.note
    return Artefact(convert.fingerprint(files), notes)


def _command(
    folder: Path,
    source: str | Path,
    inputs: inputs_module.Set | Sequence[Recorded | Example],
    audio: Sequence[str | Path],
    references: Sequence[str | Path],
    device: str,
    overrides: Iterable[Override],
    *,
    fast: bool,
) -> tuple[str, ...]:
    some = inputs if isinstance(inputs, str) else "quick"
    plain = running.command_of(folder, source, some, audio, device, overrides)
    spoken = [word for path in references for word in ("--reference", str(path))]
    return (*plain, *spoken, "--only", running.PIPELINE, *(["--fast"] if fast else []))


def _saved(made: Result, whole: Whole, folder: Path) -> Result:
    """The result, and of a divergence what stood on both sides of the first wrong stage."""
    if whole.verdict.failed:
        wrong = whole.verdict.failed[0]
        taps = (tap for one in whole.compared for tap in taps_of(one))
        found = next((x for x in taps if (x.name, x.mode, x.input) == wrong.key), None)
        sides = {who: getattr(found, who, None) for who in ("truth", "reference", "candidate")}
        about = {
            "tap": wrong.name,
            "mode": wrong.mode,
            "recording": wrong.input,
            "reasons": list(wrong.reasons),
            "versions": running.versions(),
            "judge": "samevoice judge reference.safetensors candidate.safetensors",
        }
        parts = {who: {} if x is None else {wrong.name: x} for who, x in sides.items()}
        write_reproduction(folder / running.REPRODUCTION, parts, about, overwrite=True)
        made = replace(made, details={**made.details, "reproduction": running.REPRODUCTION})
    results.write(folder / running.RESULT, made)
    return made


def sentence(result: Result) -> str:
    """The outcome in one line."""
    found = result.task["diarization"]
    recordings = len(found["recordings"])
    told: str = (
        f"DER {100 * found['der']:.3g} % between the two over {recordings} "
        f"recording{'s' if recordings != 1 else ''}, {found['flips']} decisions fell otherwise "
        f"({found['flips_on_floor']} on the noise floor), {found['decisions_near_floor']} lie on "
        f"it, {found['tied_frames']} frames are tied"
    )
    if "fast" in result.task:
        told += f"; {cost(result)}"
    if "der_reference" in found:
        told += (
            f"; against the given reference {100 * found['der_candidate']:.3g} %, "
            f"pyannote's own {100 * found['der_reference']:.3g} %"
        )
    return told


def cost(result: Result) -> str:
    """What the fast configuration costs, beside the exact one in the same run."""
    found = result.task["fast"]
    return (
        f"fast: {found['time_ratio']:.2f} of the exact pipeline's time, voices' median cosine "
        f"{found['shared_cosine_median']:.3f}, least {found['shared_cosine_min']:.3f}, "
        f"DER {100 * found['der_exact']:.3g} % against it"
    )

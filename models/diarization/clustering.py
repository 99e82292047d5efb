"""Whose voice each slot of each chunk is: filtering, clustering, assignment.

Three clusterings of pyannote's: VBx, which compares voices in a PLDA's space, the agglomerative
one of its version 3.1, which compares the embeddings themselves, and KMeans, which needs to be told
how many speakers there are.

On the host and in float64; scipy's imports wait until there is something to cluster. C chunks, S
slots a chunk, F frames, E numbers an embedding, K speakers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from samevoice.errors import DiarizationError
from samevoice.models.diarization.kmeans import kmeans
from samevoice.models.diarization.linkage import centroid_tree, cut
from samevoice.models.diarization.plda import Plda, unit
from samevoice.models.diarization.settings import (
    AGGLOMERATIVE,
    CENTROID,
    KMEANS,
    VBX,
    algorithm,
)
from samevoice.models.diarization.vbx import Steps, vbx
from samevoice.models.fast.cpu import one_blas_thread

NOBODY = -2  # the cluster of slots that got none
MIN_ACTIVE = 0.2  # of a chunk, alone: less is too little to tell a voice by
KEPT = 1e-7  # a speaker less likely than that was merged away
EUCLIDEAN = (CENTROID, "median", "ward")  # these linkages know no other distance
EXACT_LINKAGE = 4000  # embeddings; the full distance matrix of so many takes 64 MB
MOST_PAIRED = 30_000  # embeddings whose full distance matrix (4 GB) is made where it must be
BLOCK = 4096  # chunks whose distances are computed at once


@dataclass(frozen=True)
class Bounds:
    """How many speakers there may be."""

    least: int = 1
    most: float = np.inf
    exactly: int | None = None

    @classmethod
    def of(
        cls, num_speakers: int | None, min_speakers: int | None, max_speakers: int | None
    ) -> Bounds:
        """What the caller asked for; a count of speakers overrules both bounds."""
        asked = {"num_speakers": num_speakers, "min_speakers": min_speakers}
        for name, value in {**asked, "max_speakers": max_speakers}.items():
            if value is not None and not _counts(value):
                raise DiarizationError(f"{name} must be a whole number from 1 on, not {value!r}")
        least = num_speakers or min_speakers or 1
        most = num_speakers or max_speakers or np.inf
        if least > most:
            raise DiarizationError(f"min_speakers {least} is more than max_speakers {most}")
        return cls(least, most, int(most) if least == most else None)

    def wanted(self, found: int) -> int | None:
        """The count to force if so many were found, or None where that is fine."""
        target = self.least if found < self.least else self.exactly
        if found > self.most:
            target = int(self.most)
        return None if target in (None, found) else target


def _counts(value: object) -> bool:
    """Whether it is a whole number from 1 on, of Python's or numpy's."""
    whole = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return whole and value % 1 == 0 and value >= 1  # type: ignore[operator]


@dataclass(frozen=True)
class Clustering:
    """Clusters and what led to them; steps that were not taken are None."""

    hard: np.ndarray  # (C, S): cluster, or NOBODY
    soft: np.ndarray  # (C, S, K): 2 minus the cosine distance
    centroids: np.ndarray  # (K, E)
    train: tuple[np.ndarray, np.ndarray]  # chunks (N,), slots (N,) of what was clustered
    steps: Steps | None = None  # of VBx
    forced: np.ndarray | None = None  # (N,): KMeans' labels
    notes: tuple[str, ...] = ()


def cluster(
    embeddings: np.ndarray,
    segmentations: np.ndarray,
    plda: Plda | None,
    settings: Mapping[str, Any],
    bounds: Bounds | None = None,
) -> Clustering:
    """(C, S, E) in float32, (C, F, S) of zeros and ones -> clusters.

    ``settings``: the pipeline's ``clustering`` and its numbers. VBx alone needs a PLDA.
    """
    chosen, bounds = trainable(embeddings, segmentations), bounds or Bounds()
    refuse_unknown_count(settings, bounds)
    # Threads split products in other places; one thread always sums in the same order.
    with one_blas_thread():
        if len(chosen[0]) < 2:
            return _one_speaker(embeddings, chosen)
        if settings.get("clustering", VBX) in FLAT:
            return _flat(embeddings, chosen, settings, bounds)
        return _vbx(embeddings, segmentations, chosen, plda, settings, bounds)


def _vbx(
    embeddings: np.ndarray,
    segmentations: np.ndarray,
    chosen: tuple[np.ndarray, np.ndarray],
    plda: Plda | None,
    settings: Mapping[str, Any],
    bounds: Bounds,
) -> Clustering:
    if plda is None:
        raise DiarizationError(f"{VBX} needs a PLDA, and there is none")
    train = embeddings[chosen]
    normed = unit(train)
    first = ahc(normed, float(settings["threshold"]))
    steps = vbx(first, plda(train), plda.phi, float(settings["Fa"]), float(settings["Fb"]))
    weights = steps.gamma[:, steps.pi > KEPT]
    centroids = weights.T @ train / weights.sum(axis=0)[:, None]
    wanted, forced, notes = bounds.wanted(len(centroids)), None, []
    if wanted is not None:
        if wanted > len(train):
            notes.append(
                f"{wanted} speakers were asked for, but only {len(train)} stretches of speech are "
                f"long enough to tell voices by: {len(train)} speakers at most"
            )
        forced = kmeans(normed, min(wanted, len(train)))
        centroids = means(train, forced)
    soft = similarities(embeddings, centroids)
    # Once a count is forced, two slots of a chunk may be one speaker.
    free = soft.argmax(axis=2)
    hard = constrained(silenced(soft, segmentations)) if forced is None else free
    return Clustering(hard, soft, centroids, chosen, steps, forced, tuple(notes))


def refuse_unknown_count(settings: Mapping[str, Any], bounds: Bounds) -> None:
    """Before anything is heard: some clusterings cannot tell how many speakers there are."""
    if algorithm(settings).needs_count and bounds.exactly is None:
        raise DiarizationError(
            f"{settings['clustering']} must be told how many speakers there are: pass "
            "num_speakers (--num-speakers)"
        )


def _flat(
    embeddings: np.ndarray,
    chosen: tuple[np.ndarray, np.ndarray],
    settings: Mapping[str, Any],
    bounds: Bounds,
) -> Clustering:
    """Each embedding of a slot goes to the nearest mean of the clusters that were found."""
    train = embeddings[chosen]
    labels = np.zeros(len(train), dtype=np.int64)
    if bounds.most > 1:
        labels = FLAT[settings["clustering"]](train, settings, bounds)
    centroids = means(train, labels)
    soft = similarities(embeddings, centroids)
    return Clustering(soft.argmax(axis=2), soft, centroids, chosen)


def _agglomerative(train: np.ndarray, settings: Mapping[str, Any], bounds: Bounds) -> np.ndarray:
    """As pyannote 3.1: large clusters by distance; each small one joins the nearest large one."""
    method = settings.get("method", CENTROID)
    least = min(int(settings["min_cluster_size"]), max(1, round(0.1 * len(train))))
    points = unit(train) if method in EUCLIDEAN else train
    return large_clusters(points, float(settings["threshold"]), least, bounds, method)


def _kmeans(train: np.ndarray, settings: Mapping[str, Any], bounds: Bounds) -> np.ndarray:
    assert bounds.exactly is not None
    return kmeans(unit(train), min(bounds.exactly, len(train)))


# Clusterings that look at the embeddings alone: (N, E) -> (N,), clusters from 0 on.
FLAT = {AGGLOMERATIVE: _agglomerative, KMEANS: _kmeans}


def large_clusters(
    points: np.ndarray,
    threshold: float,
    least: int,
    bounds: Bounds | None = None,
    method: str = CENTROID,
) -> np.ndarray:
    """(N, E) -> (N,): clusters of at least so many, from 0 on.

    The points must have unit length where the method is Euclidean.
    """
    tree = linkage_tree(points, method)
    labels = cut(tree, threshold)
    found = len(_large(labels, least))
    wanted = min((bounds or Bounds()).wanted(found) or found, len(points))
    if wanted != found:
        labels = _nearest_cut(tree, threshold, least, wanted)
    large = _large(labels, least)
    if not len(large):
        return np.zeros(len(points), dtype=np.int64)
    centroids, joined = means(points, labels), np.arange(labels.max() + 1)
    small = np.setdiff1d(joined, large)
    joined[small] = large[cosines(centroids[large], centroids[small]).argmax(axis=0)]
    return np.unique(joined[labels], return_inverse=True)[1]


def _large(labels: np.ndarray, least: int) -> np.ndarray:
    found, counts = np.unique(labels, return_counts=True)
    return found[counts >= least]


def _nearest_cut(tree: np.ndarray, threshold: float, least: int, wanted: int) -> np.ndarray:
    """Of all cuts, from the one nearest the threshold on, the first with so many large clusters.

    Where none has, the first of those that come nearest to it.
    """
    count, merges = len(tree) + 1, np.arange(len(tree))
    large = np.concatenate([np.ones(count), tree[:, 3]]) >= least
    gained = large[count:].astype(np.int64) - large[tree[:, :2].astype(np.int64)].sum(axis=1)
    apart = np.abs(large[:count].sum() + np.cumsum(gained) - wanted)  # behind each merge
    order = np.argsort(np.abs(tree[:, 2] - threshold))
    order = order[large[count + order]]  # by no other merge does a cluster become large
    best = order[apart[order].argmin()] if len(order) else len(merges)
    if not len(order) or apart[best] >= abs(1 - wanted):
        return np.zeros(count, dtype=np.int64)
    by_merge = np.column_stack([tree[:, :2], merges, tree[:, 3]])
    return cut(by_merge, best)


def means(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, E), (N,) -> (K, E): of each cluster."""
    order, ends = np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))
    return np.stack([rows.mean(axis=0) for rows in np.split(x[order], ends[:-1])])


def trainable(embeddings: np.ndarray, segmentations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The slots that speak alone for long enough, and were heard: chunks (N,), slots (N,)."""
    alone = segmentations.sum(axis=2, keepdims=True) == 1
    clean = (segmentations * alone).sum(axis=1, dtype=np.int64)
    active = clean >= MIN_ACTIVE * segmentations.shape[1]
    valid = embeddings.any(axis=2) & ~np.isnan(embeddings).any(axis=2)
    chunks, slots = np.nonzero(active & valid)
    return chunks, slots


def _one_speaker(embeddings: np.ndarray, chosen: tuple[np.ndarray, np.ndarray]) -> Clustering:
    """Nothing to cluster: all speech is one speaker's, whatever count was asked for."""
    train, (chunks, slots, size) = embeddings[chosen], embeddings.shape
    centroid = train[0] if len(train) else np.full(size, np.nan)
    note = "too little speech to tell voices: only those who speak at once differ"
    return Clustering(
        hard=np.zeros((chunks, slots), dtype=np.int64),
        soft=np.ones((chunks, slots, 1)),
        centroids=centroid[None],
        train=chosen,
        notes=(note,) if not len(train) else (),
    )


def ahc(normed: np.ndarray, threshold: float) -> np.ndarray:
    """(N, E) of unit length -> (N,): clusters whose centroids lie nearer than the threshold."""
    return cut(linkage_tree(normed), threshold)


def linkage_tree(points: np.ndarray, method: str = CENTROID) -> np.ndarray:
    """(N, E) -> (N - 1, 4): which clusters merge, how far apart, how large then."""
    if method == CENTROID:
        return centroid_tree(points)
    metric = "euclidean" if method in EUCLIDEAN else "cosine"
    if len(points) <= EXACT_LINKAGE:
        from scipy.cluster.hierarchy import linkage

        return np.asarray(linkage(points, method=method, metric=metric))
    import fastcluster

    if method in (*EUCLIDEAN, "single"):
        # The same tree without the matrix of all distances (67 GB for a day of audio).
        return np.asarray(fastcluster.linkage_vector(points, method=method, metric=metric))
    from scipy.spatial.distance import pdist

    if len(points) > MOST_PAIRED:
        raise DiarizationError(
            f"method {method!r} compares all of {len(points)} stretches of speech with each other, "
            f"which takes too much memory from {MOST_PAIRED} on: cut the recording, or convert "
            f"with method: {CENTROID}"
        )
    distances = pdist(points, metric)
    return np.asarray(fastcluster.linkage(distances, method, preserve_input=False))


def similarities(embeddings: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(C, S, E), (K, E) -> (C, S, K): 2 minus the cosine distance, in float64."""
    found = np.empty((*embeddings.shape[:2], len(centroids)))
    for start in range(0, len(embeddings), BLOCK):
        rows = embeddings[start : start + BLOCK]
        near = cosines(rows.reshape(-1, rows.shape[-1]), centroids)
        found[start : start + BLOCK] = 1 + near.reshape(*rows.shape[:2], -1)
    return found


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, E), (K, E) -> (N, K) in float64; NaN where a vector is zero."""
    with np.errstate(invalid="ignore"):
        near: np.ndarray = unit(x.astype(np.float64)) @ unit(y.astype(np.float64)).T
    return np.clip(near, -1, 1, out=near)


def silenced(soft: np.ndarray, segmentations: np.ndarray) -> np.ndarray:
    """Silent slots get less than any other, so that they take no speaker away."""
    kept = soft.copy()
    kept[~segmentations.any(axis=1)] = soft.min() - 1
    return kept


def constrained(soft: np.ndarray) -> np.ndarray:
    """(C, S, K) -> (C, S): the best clusters such that no two slots of a chunk share one.

    Slots that hear nothing take the first clusters that are left, as scipy's solution has it.
    """
    known = np.nan_to_num(soft, nan=np.nanmin(soft))
    silent = (known == known.min()).all(axis=2)
    hard = np.where(silent, NOBODY, known.argmax(axis=2))
    slots = np.arange(soft.shape[1])
    apart = np.sort(np.where(silent, NOBODY - 1 - slots, hard), axis=1)
    competing = (np.diff(apart, axis=1) == 0).any(axis=1)
    # Two silent slots before one that speaks, or among too many, get others than the first.
    too_many = soft.shape[1] > soft.shape[2]
    competing |= ((too_many | ~silent) & (silent.cumsum(axis=1) > 1)).any(axis=1)
    left = (hard[:, :, None] != np.arange(soft.shape[2])).all(axis=1)
    for slot in slots:
        chunks = np.flatnonzero(silent[:, slot] & left.any(axis=1))
        hard[chunks, slot] = first = left[chunks].argmax(axis=1)
        left[chunks, first] = False
    if competing.any():
        hard[competing] = _assigned(known[competing])
    return hard


def _assigned(scores: np.ndarray) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment  # takes as long as half a second of audio

    hard = np.full(scores.shape[:2], NOBODY)
    for row, one in zip(hard, scores, strict=True):
        slots, clusters = linear_sum_assignment(one, maximize=True)
        row[slots] = clusters
    return hard

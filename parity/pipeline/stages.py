"""The stages of a pipeline as taps: one table, and what either side gave at each.

Partitions become labels in the order in which they first come, and everything with a column a
cluster follows that order, so that a mere renumbering is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from samevoice.parity.metrics import Array
from samevoice.parity.pipeline.original import NOBODY, Clusters, Spoke, SpokenTruth, TorchRun, Truth
from samevoice.parity.turns import Turn

Seams: TypeAlias = dict[str, Array]  # tap -> array

# What a stage gives: of a network (its type is part of what it promises); a decision; fractions in
# float64; or what the networks are given, which is never free.
NETWORK, DECIDED, FRACTIONS, GIVEN = "network", "decided", "fractions", "given"
# In the order in which pyannote comes to them.
TABLE: Mapping[str, str] = {
    "log_probabilities": NETWORK,
    "masks": DECIDED,
    "count": DECIDED,
    "weights": GIVEN,
    "fbank": NETWORK,
    "embeddings": NETWORK,
    "trained": DECIDED,
    "ahc": DECIDED,
    "xvectors": FRACTIONS,
    "plda": FRACTIONS,
    "gamma": FRACTIONS,
    "pi": FRACTIONS,
    "elbo": FRACTIONS,
    "centroids": FRACTIONS,
    "similarity": FRACTIONS,
    "hard": DECIDED,
    "discrete": DECIDED,
    "exclusive": DECIDED,
    "turns": DECIDED,
    "exclusive_turns": DECIDED,
    "voices": FRACTIONS,
}
OUTPUTS = ("log_probabilities", "turns")
# Where two runs of pyannote's clustering can part by rounding.
AHC, GAMMA, CENTROIDS, HARD = "ahc", "gamma.free", "centroids.free", "hard"


def free_name(stage: str) -> str:
    """The tap of a stage that runs freely.

    Fractions have a name of their own there: pyannote's own input and embeddings that differ by
    rounding allow different limits.
    """
    return f"{stage}.free" if TABLE[stage] == FRACTIONS else stage


ORDER = tuple(tap for stage in TABLE for tap in dict.fromkeys((stage, free_name(stage))))
FREE = {free_name(stage) for stage, kind in TABLE.items() if kind != GIVEN}
LABEL = "SPEAKER_"


def after(tap: str, why: str) -> dict[str, str]:
    """This tap and all after it that hang on a decision, running freely.

    What the networks say hangs on none: where masks differ, embeddings are judged on pyannote's.
    """
    names = ORDER[ORDER.index(tap) :]
    return {name: why for name in names if name in FREE and TABLE.get(name) != NETWORK}


# Seams --------------------------------------------------------------------------------------------


def canonical(labels: Array) -> Array:
    """Clusters renumbered in the order in which they first come; nobody stays nobody."""
    flat = np.asarray(labels, dtype=np.int64).ravel()
    order = dict.fromkeys(flat[flat != NOBODY].tolist())
    numbers = {label: k for k, label in enumerate(order)} | {NOBODY: NOBODY}
    return np.array([numbers[x] for x in flat.tolist()], dtype=np.int64).reshape(np.shape(labels))


def of_clusters(found: Clusters, empty: Array) -> Seams:
    """A clustering, and its steps where there are any; ``empty`` slots belong to nobody."""
    ranks, soft = found.ranks, found.soft[~empty]
    trained = np.zeros(empty.shape, dtype=np.int64)
    trained[found.train] = 1
    seams = {
        "trained": trained,
        "hard": canonical(np.where(empty, NOBODY, found.hard)),
        "centroids": found.centroids[ranks],
        "similarity": soft[:, ranks],
    }
    steps = found.steps
    if steps is None:
        return seams
    return seams | {
        "ahc": canonical(steps.ahc),
        "xvectors": steps.xvectors,
        "plda": steps.features,
        "gamma": steps.gamma[:, steps.columns],
        "pi": steps.pi[steps.columns],
        "elbo": steps.elbo,
    }


def of_original(run: TorchRun) -> Seams:
    """What pyannote gave at each tap."""
    seams: Seams = {
        "log_probabilities": run.scores,
        "masks": run.segmentations,
        "count": run.counts,
        "turns": turns_array(run.turns),
        "exclusive_turns": turns_array(run.exclusive_turns),
    }
    if isinstance(run, Spoke):
        seams |= {"weights": run.weights, "fbank": run.fbank, "embeddings": run.embeddings}
        seams |= of_clusters(run.clusters, run.empty_slots)
        seams |= timelines(run, run.discrete.speakers, run.exclusive.speakers)
        seams["voices"] = run.voices
    # Without a slot to cluster, pyannote's centroid is the mean of nothing.
    return {name: x for name, x in seams.items() if np.isfinite(x).all() or name == "embeddings"}


def of_truth(run: TorchRun, truth: Truth) -> Seams:
    """The truth where there is one; every decision is pyannote's own."""
    seams = {"log_probabilities": truth.scores}
    if isinstance(run, Spoke) and isinstance(truth, SpokenTruth):
        seams |= {"fbank": truth.fbank, "embeddings": truth.embeddings}
        seams |= fractions(run, truth.clusters)
    return seams


def fractions(run: Spoke, clusters: Clusters) -> Seams:
    """What pyannote's clustering of other embeddings gives where it works with fractions."""
    found = of_clusters(clusters, run.empty_slots)
    seams = {name: x for name, x in found.items() if TABLE[name] == FRACTIONS}
    voices = _voices(run, clusters)
    return seams if voices is None else seams | {"voices": voices}


def _voices(run: Spoke, clusters: Clusters) -> Array | None:
    """Other centroids in the order of pyannote's labels."""
    plain = run.clusters
    if plain.centroids.shape != clusters.centroids.shape:
        return None
    same = np.arange(len(plain.centroids))
    if plain.steps and clusters.steps:
        same[plain.ranks] = clusters.ranks
    rows = [np.flatnonzero((plain.centroids == voice).all(axis=1)) for voice in run.voices]
    zero = np.zeros(clusters.centroids.shape[1])
    return np.array([clusters.centroids[same[row[0]]] if len(row) else zero for row in rows])


def first_difference(plain: Clusters, other: Clusters) -> str | None:
    """The first tap at which two clusterings part in more than their last digits."""
    if plain.steps and other.steps:
        if not np.array_equal(canonical(plain.steps.ahc), canonical(other.steps.ahc)):
            return AHC
        if len(plain.steps.elbo) != len(other.steps.elbo):
            return GAMMA
    if plain.centroids.shape != other.centroids.shape:
        return CENTROIDS
    return None if np.array_equal(canonical(plain.hard), canonical(other.hard)) else HARD


def timelines(run: Spoke, discrete: Array, exclusive: Array) -> Seams:
    """Either side's (T, K), at the frames at which pyannote's votes decide."""
    sides = {"discrete": (discrete, run.discrete), "exclusive": (exclusive, run.exclusive)}
    return {name: _untied(one, plain.tied) for name, (one, plain) in sides.items()}


def _untied(speakers: Array, tied: Array) -> Array:
    speakers = np.asarray(speakers, dtype=np.int64)
    return speakers if len(speakers) != len(tied) else speakers[~tied]


def turns_array(turns: Sequence[Turn]) -> Array:
    """(N, 3) in float64: start, end, and the number in the label."""
    rows = [(start, end, float(label.removeprefix(LABEL))) for start, end, label in turns]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)

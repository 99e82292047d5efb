"""Clustering by hand, against pyannote's VBxClustering."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.errors import DiarizationError
from samevoice.models.diarization import clustering
from samevoice.models.diarization.clustering import NOBODY, Bounds, cluster, constrained
from samevoice.models.diarization.plda import Plda

SETTINGS = {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}


@pytest.fixture(scope="module")
def plda(references: dict[str, Path]) -> Plda:
    """A PLDA of the real size, from the reference pipeline."""
    folder = references["full"] / "plda"
    arrays: dict[str, np.ndarray] = {}
    for name in ("plda", "xvec_transform"):
        with np.load(folder / f"{name}.npz") as found:
            arrays |= {f"{name.removesuffix('_transform')}.{k}": v for k, v in found.items()}
    return Plda.of(arrays)


def voices(speakers: int, chunks: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(C, 3, 256), (C, 589, 3): in each chunk two of the speakers one after the other."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((speakers, 256)).astype(np.float32)
    embeddings = 0.02 * random.standard_normal((chunks, 3, 256)).astype(np.float32)
    segmentations = np.zeros((chunks, 589, 3), dtype=np.uint8)
    for chunk in range(chunks):
        a, b = (chunk % speakers, (chunk + 1) % speakers)
        embeddings[chunk, 0] += centres[a]
        embeddings[chunk, 1] += centres[b]
        segmentations[chunk, :250, 0] = 1
        segmentations[chunk, 250:500, 1] = speakers > 1
    return embeddings, segmentations


def theirs(plda: Plda, embeddings: np.ndarray, segmentations: np.ndarray, **bounds: Any) -> Any:
    from pyannote.audio.pipelines.clustering import VBxClustering

    model = VBxClustering(plda, metric="cosine")
    model.threshold, model.Fa, model.Fb = SETTINGS.values()
    found = {"num_clusters": None, "min_clusters": 1, "max_clusters": np.inf, **bounds}
    data = SimpleNamespace(data=segmentations.astype(np.float32))
    return model(embeddings.copy(), data, **found)


AGGLOMERATIVE = {
    "clustering": "AgglomerativeClustering",
    "method": "centroid",
    "min_cluster_size": 12,
    "threshold": 0.7045654963945799,
}


@pytest.mark.parametrize("noise", [0.02, 0.3, 0.6])
@pytest.mark.parametrize(
    "asked", [(None, None, None), (2, None, None), (None, 9, None), (1, None, None)]
)
@pytest.mark.parametrize(("speakers", "chunks"), [(1, 30), (5, 60), (4, 9), (3, 1)])
def test_pyannotes_agglomerative_clusters(
    speakers: int, chunks: int, asked: Any, noise: float, pyannote: None
) -> None:
    from pyannote.audio.pipelines.clustering import AgglomerativeClustering

    embeddings, segmentations = voices(speakers, chunks, seed=2)
    random = np.random.default_rng(3)
    embeddings += noise * random.standard_normal(embeddings.shape).astype(np.float32)
    model = AgglomerativeClustering(metric="cosine")
    model.method, model.min_cluster_size, model.threshold = "centroid", 12, 0.7045654963945799
    data = SimpleNamespace(data=segmentations.astype(np.float32))
    names = ("num_clusters", "min_clusters", "max_clusters")
    hard, _, centroids = model(embeddings.copy(), data, **dict(zip(names, asked, strict=True)))
    ours = cluster(embeddings, segmentations, None, AGGLOMERATIVE, Bounds.of(*asked))
    assert ours.hard.tolist() == hard.tolist()
    np.testing.assert_allclose(ours.centroids, centroids, atol=1e-6)


def test_a_small_cluster_joins_the_nearest_large_one() -> None:
    normed = np.array([[1, 0, 0]] * 4 + [[0, 1, 0]] * 4 + [[0.1, 0.995, 0.0]] + [[0.6, 0, 0.8]])
    found = clustering.large_clusters(normed, 0.15, 3)
    assert sorted({*found.tolist()}) == [0, 1]
    assert np.flatnonzero(found == found[0]).tolist() == [0, 1, 2, 3, 9]
    assert not clustering.large_clusters(normed[-2:], 0.05, 3).any()  # none is large: one speaker


@pytest.mark.parametrize("speakers", [1, 2, 5, 12])
def test_pyannotes_clusters(speakers: int, plda: Plda, pyannote: None) -> None:
    embeddings, segmentations = voices(speakers, 30 * speakers)
    hard, _, centroids = theirs(plda, embeddings, segmentations)
    ours = cluster(embeddings, segmentations, plda, SETTINGS)
    assert ours.hard.tolist() == hard.tolist()
    np.testing.assert_allclose(ours.centroids, centroids, atol=1e-6)
    assert len(centroids) == speakers


@pytest.mark.parametrize(
    ("bounds", "asked"),
    [
        ((2, None, None), {"num_clusters": 2, "min_clusters": 2, "max_clusters": 2}),
        ((None, None, 2), {"max_clusters": 2}),
        ((None, 6, None), {"min_clusters": 6}),
        ((None, 3, 3), {"num_clusters": 3, "min_clusters": 3, "max_clusters": 3}),
    ],
)
def test_pyannotes_forced_counts(bounds: Any, asked: Any, plda: Plda, pyannote: None) -> None:
    embeddings, segmentations = voices(4, 30, seed=1)
    hard, _, centroids = theirs(plda, embeddings, segmentations, **asked)
    ours = cluster(embeddings, segmentations, plda, SETTINGS, Bounds.of(*bounds))
    assert ours.forced is not None
    assert ours.hard.tolist() == hard.tolist()
    np.testing.assert_allclose(ours.centroids, centroids, atol=1e-6)


def test_more_speakers_than_speech_are_capped_and_said(plda: Plda) -> None:
    embeddings, segmentations = voices(2, 2)
    ours = cluster(embeddings, segmentations, plda, SETTINGS, Bounds.of(50, None, None))
    assert len(ours.centroids) == 4
    assert "only 4 stretches" in ours.notes[0]


def test_fewer_than_two_stretches_are_one_speaker(plda: Plda) -> None:
    embeddings, segmentations = voices(1, 1)
    ours = cluster(embeddings, segmentations, plda, SETTINGS, Bounds.of(3, None, None))
    assert ours.hard.tolist() == [[0, 0, 0]]
    assert ours.centroids.shape == (1, 256)


def test_an_embedding_that_is_nan_is_not_clustered(plda: Plda, pyannote: None) -> None:
    embeddings, segmentations = voices(3, 20)
    embeddings[4, 1] = np.nan
    hard, _, _ = theirs(plda, embeddings, segmentations)
    ours = cluster(embeddings, segmentations, plda, SETTINGS)
    assert ours.hard.tolist() == hard.tolist()
    assert (4, 1) not in zip(*(index.tolist() for index in ours.train), strict=True)


def test_the_same_bytes_whatever_the_threads(plda: Plda) -> None:
    control = pytest.importorskip("threadpoolctl")
    embeddings, segmentations = voices(7, 60)
    found = []
    for threads in (1, 2):
        with control.threadpool_limits(threads):
            ours = cluster(embeddings, segmentations, plda, SETTINGS)
        assert ours.steps is not None
        found.append((ours.soft.tobytes(), ours.steps.gamma.tobytes(), ours.hard.tobytes()))
    assert found[0] == found[1]


# --- the small parts ----------------------------------------------------------------------------


def test_a_slot_must_speak_alone_for_a_fifth_of_the_chunk() -> None:
    segmentations = np.zeros((1, 589, 3), dtype=np.uint8)
    segmentations[0, :118, 0] = 1  # 0.2 * 589 = 117.8
    segmentations[0, 200:317, 1] = 1  # 117: too few
    segmentations[0, 400:589, 2] = 1
    segmentations[0, 400:589, 0] = 1  # all of the third's speech is overlapped
    chunks, slots = clustering.trainable(np.ones((1, 3, 4)), segmentations)
    assert (chunks.tolist(), slots.tolist()) == ([0], [0])


@pytest.mark.parametrize("unheard", [0.0, np.nan])
def test_a_voice_that_was_not_heard_is_left_out(unheard: float) -> None:
    segmentations = np.zeros((2, 10, 1), dtype=np.uint8)
    segmentations[:, :5] = 1
    embeddings = np.ones((2, 1, 4))
    embeddings[0] = unheard
    chunks, slots = clustering.trainable(embeddings, segmentations)
    assert (chunks.tolist(), slots.tolist()) == ([1], [0])


def test_no_two_slots_of_a_chunk_share_a_cluster() -> None:
    soft = np.array([[[1.0, 0.9], [0.95, 0.1], [0.2, 0.3]]])
    # Alone, slots 0 and 1 would both take cluster 0; together 0.9 + 0.95 is best.
    assert constrained(soft).tolist() == [[1, 0, NOBODY]]


@given(
    seed=st.integers(0, 10_000),
    slots=st.integers(1, 4),
    clusters=st.integers(1, 7),
    silence=st.sampled_from([0, 0.3, 0.6]),
)
@settings(max_examples=300, deadline=None)
def test_scipys_assignment(seed: int, slots: int, clusters: int, silence: float) -> None:
    from scipy.optimize import linear_sum_assignment

    random = np.random.default_rng(seed)
    soft = random.uniform(0, 2, (40, slots, clusters))
    segmentations = (random.random((40, 1, slots)) >= silence).astype(np.uint8)
    scores = clustering.silenced(soft, segmentations)
    wanted = np.full((40, slots), NOBODY)
    for row, one in zip(wanted, scores, strict=True):
        chosen, whose = linear_sum_assignment(one, maximize=True)
        row[chosen] = whose
    assert constrained(scores).tolist() == wanted.tolist()


def test_where_no_slots_compete_nothing_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    """scipy is a long import."""
    monkeypatch.setattr(clustering, "_assigned", None)
    speaks, other, silent = [1.0, 0.9, 0.2], [0.1, 0.95, 0.2], [-1.0, -1.0, -1.0]
    soft = np.array([[speaks, other, silent], [other, silent, silent], [silent, other, speaks]])
    assert constrained(soft).tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0]]
    assert constrained(soft[:1, :, :2]).tolist() == [[0, 1, NOBODY]]


def test_scipys_eigenvectors(plda: Plda) -> None:
    """Signs included: the features are pyannote's as they stand."""
    from scipy.linalg import eigh

    values, vectors = eigh(plda.between, plda.within)
    np.testing.assert_allclose(plda.phi, values[::-1], rtol=1e-12)
    np.testing.assert_allclose(plda.basis, vectors.T[::-1], atol=1e-10 * np.abs(vectors).max())


def test_silent_slots_take_nobody_away() -> None:
    soft = np.array([[[1.0, 0.2], [1.5, 0.1]]])
    segmentations = np.ones((1, 5, 2), dtype=np.uint8)
    segmentations[0, :, 1] = 0
    silenced = clustering.silenced(soft, segmentations)
    assert silenced[0, 1].tolist() == [-0.9, -0.9]
    assert constrained(silenced)[0, 0] == 0


@pytest.mark.parametrize(
    ("asked", "bounds"),
    [
        ((None, None, None), Bounds(1, np.inf, None)),
        ((3, 1, 9), Bounds(3, 3, 3)),
        ((None, 2, 5), Bounds(2, 5, None)),
        ((None, 4, 4), Bounds(4, 4, 4)),
    ],
)
def test_what_bounds_mean(asked: Any, bounds: Bounds) -> None:
    assert Bounds.of(*asked) == bounds


@pytest.mark.parametrize("asked", [(0, None, None), (-1, None, None), (None, 3, 2), (1.5, 1, 1)])
def test_bounds_that_mean_nothing(asked: Any) -> None:
    with pytest.raises(DiarizationError, match=r"speakers"):
        Bounds.of(*asked)


@pytest.mark.parametrize(
    ("bounds", "found", "wanted"),
    [
        (Bounds(), 5, None),
        (Bounds(2, 4), 5, 4),
        (Bounds(2, 4), 1, 2),
        (Bounds(2, 4), 3, None),
        (Bounds(3, 3, 3), 3, None),
        (Bounds(3, 3, 3), 1, 3),
    ],
)
def test_which_count_is_forced(bounds: Bounds, found: int, wanted: int | None) -> None:
    assert bounds.wanted(found) == wanted

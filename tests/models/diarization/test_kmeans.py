"""KMeans: the very labels of scikit-learn with the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from samevoice.models.diarization.kmeans import kmeans


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 8), st.booleans())
@example(6, 19, 7, True)  # two points far from all others: equal but for rounding
@example(1867, 22, 6, True)
@example(479, 59, 6, False)
@example(2681, 21, 8, False)
@settings(max_examples=25, deadline=None)
def test_scikit_learns_labels(seed: int, count: int, clusters: int, wide: bool) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    random = np.random.default_rng(seed)
    points = random.standard_normal((count, 12)) + 2 * random.integers(0, 3, count)[:, None]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = points.astype(np.float64 if wide else np.float32)
    wanted = min(clusters, count)
    theirs = cluster.KMeans(wanted, n_init=3, random_state=42).fit_predict(points.copy())
    assert kmeans(points, wanted).tolist() == theirs.tolist()


def test_three_heaps() -> None:
    random = np.random.default_rng(1)
    centres = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 10, axis=0)
    labels = kmeans(centres + random.normal(0, 0.1, centres.shape), 3)
    assert [len(set(labels[k : k + 10])) for k in (0, 10, 20)] == [1, 1, 1]
    assert len(set(labels)) == 3


def test_as_many_clusters_as_points() -> None:
    assert sorted(kmeans(np.eye(4), 4)) == [0, 1, 2, 3]


def test_points_that_are_all_alike() -> None:
    assert len(kmeans(np.ones((5, 3)), 2)) == 5

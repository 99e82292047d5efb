"""Agglomerative clustering by every linkage, and KMeans, beside pyannote's own classes."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.errors import DiarizationError
from samevoice.models.diarization import clustering
from samevoice.models.diarization.clustering import Bounds, cluster, large_clusters
from samevoice.models.diarization.plda import unit
from samevoice.models.diarization.settings import METHODS, OVERLAP, fault

NAMES = ("num_clusters", "min_clusters", "max_clusters")
WHOLE = {OVERLAP: True, "min_duration_off": 0.0, "segmentation_step": 0.1}


def heard(
    seed: int, speakers: int, chunks: int, noise: float, damaged: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(C, 3, 16), (C, 60, 3): voices around so many centres; some slots silent, short or NaN."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((speakers, 16))
    who = random.integers(0, speakers, (chunks, 3))
    embeddings = centres[who] + noise * random.standard_normal((chunks, 3, 16))
    segmentations = np.zeros((chunks, 60, 3), dtype=np.uint8)
    for slot in range(3):
        for chunk in range(chunks):
            spoken = random.choice([0, 4, 20, 20, 20])
            segmentations[chunk, 20 * slot : 20 * slot + spoken, slot] = 1
    if damaged:
        embeddings[random.random((chunks, 3)) < 0.1] = np.nan
    return embeddings.astype(np.float32), segmentations


def theirs(model: Any, embeddings: np.ndarray, masks: np.ndarray, asked: Any) -> Any:
    data = SimpleNamespace(data=masks.astype(np.float32))
    return model(embeddings.copy(), data, **dict(zip(NAMES, asked, strict=True)))


ASKED = st.sampled_from(
    [
        (None, None, None),
        (1, None, None),
        (2, None, None),
        (7, None, None),
        (90, None, None),
        (None, 3, None),
        (None, 5, 8),
        (None, None, 2),
        (None, None, 1),
        (None, 60, None),
    ]
)


@pytest.mark.parametrize("method", METHODS)
@given(
    seed=st.integers(0, 10_000),
    speakers=st.integers(1, 6),
    chunks=st.integers(1, 25),
    noise=st.sampled_from([0.05, 0.3, 0.8]),
    damaged=st.booleans(),
    asked=ASKED,
    least=st.integers(1, 20),
    threshold=st.floats(0.05, 1.5),
)
@settings(max_examples=40, deadline=None)
def test_pyannotes_agglomerative_clusters(
    method: str,
    seed: int,
    speakers: int,
    chunks: int,
    noise: float,
    damaged: bool,
    asked: Any,
    least: int,
    threshold: float,
    pyannote: None,
) -> None:
    from pyannote.audio.pipelines.clustering import AgglomerativeClustering

    embeddings, masks = heard(seed, speakers, chunks, noise, damaged)
    model = AgglomerativeClustering(metric="cosine")
    model.method, model.min_cluster_size, model.threshold = method, least, threshold
    numbers = {"method": method, "min_cluster_size": least, "threshold": threshold}
    chosen = {"clustering": "AgglomerativeClustering", **numbers}
    ours = cluster(embeddings, masks, None, chosen, Bounds.of(*asked))
    if not len(ours.train[0]):  # pyannote takes the mean of nothing, with a warning
        assert not ours.hard.any()
        return
    hard, _, centroids = theirs(model, embeddings, masks, asked)
    assert ours.hard.tolist() == hard.tolist()
    np.testing.assert_allclose(ours.centroids, centroids, atol=1e-6)


@given(
    seed=st.integers(0, 10_000),
    speakers=st.integers(1, 6),
    chunks=st.integers(2, 25),
    damaged=st.booleans(),
    wanted=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_pyannotes_kmeans_clusters(
    seed: int, speakers: int, chunks: int, damaged: bool, wanted: int, pyannote: None
) -> None:
    pytest.importorskip("sklearn.cluster")
    from pyannote.audio.pipelines.clustering import KMeansClustering

    embeddings, masks = heard(seed, speakers, chunks, 0.3, damaged)
    chosen = {"clustering": "KMeansClustering"}
    ours = cluster(embeddings, masks, None, chosen, Bounds.of(wanted, None, None))
    if not len(ours.train[0]):
        return
    asked = (wanted, None, None)
    hard, _, centroids = theirs(KMeansClustering(metric="cosine"), embeddings, masks, asked)
    assert ours.hard.tolist() == hard.tolist()
    np.testing.assert_allclose(ours.centroids, centroids, atol=1e-6)


@pytest.mark.parametrize("asked", [(None, None, None), (None, 2, None), (None, 2, 5)])
def test_kmeans_must_be_told_how_many_speakers_there_are(asked: Any) -> None:
    embeddings, masks = heard(0, 3, 20, 0.1, damaged=False)
    with pytest.raises(DiarizationError, match=r"KMeansClustering must be told .*num_speakers"):
        cluster(embeddings, masks, None, {"clustering": "KMeansClustering"}, Bounds.of(*asked))


def test_bounds_that_leave_one_count_tell_it() -> None:
    embeddings, masks = heard(0, 3, 20, 0.1, damaged=False)
    settings = {"clustering": "KMeansClustering"}
    found = cluster(embeddings, masks, None, settings, Bounds.of(None, 3, 3))
    assert len(found.centroids) == 3


@pytest.mark.parametrize("method", METHODS)
def test_long_recordings_are_clustered_alike(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    points = np.repeat(random.standard_normal((9, 64)), 30, axis=0)
    points = unit(points + random.normal(0, 0.35, points.shape))
    usual = large_clusters(points, 0.5, 5, Bounds(), method)
    monkeypatch.setattr(clustering, "EXACT_LINKAGE", 0)
    assert large_clusters(points, 0.5, 5, Bounds(), method).tolist() == usual.tolist()
    assert len(set(usual.tolist())) > 1


def test_what_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "EXACT_LINKAGE", 0)
    monkeypatch.setattr(clustering, "MOST_PAIRED", 3)
    with pytest.raises(DiarizationError, match="'average' compares all of 4 stretches"):
        clustering.linkage_tree(np.eye(4), "average")
    assert len(clustering.linkage_tree(np.eye(4), "single")) == 3


@pytest.mark.parametrize("method", METHODS)
def test_every_method_may_be_asked_for(method: str) -> None:
    asked = {"clustering": "AgglomerativeClustering", "method": method}
    assert not fault(WHOLE | asked | {"min_cluster_size": 12, "threshold": 0.7})
    assert not fault(WHOLE | {"clustering": "KMeansClustering"})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("method", "pool", "asks for method 'pool'; supported: average, centroid"),
        ("method", ["ward"], r"asks for method \['ward'\]"),
        ("method", None, "asks for method None"),
        ("min_cluster_size", 1.5, "as 1.5: it must be a whole number from 1 on"),
        ("min_cluster_size", 0, "as 0: it must be a whole number from 1 on"),
        ("min_cluster_size", "12", "as '12', which is no number"),
        ("threshold", float("nan"), "as nan, which is no number"),
    ],
)
def test_what_may_not_be_asked_for(name: str, value: Any, said: str) -> None:
    asked = {"clustering": "AgglomerativeClustering", "method": "ward", "threshold": 0.7}
    found = fault(WHOLE | asked | {"min_cluster_size": 12} | {name: value})
    assert re.search(said, found)
    assert "\n" not in found

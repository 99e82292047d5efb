"""Centroid linkage and cuts of trees, beside scipy's and fastcluster's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.models.diarization import linkage
from samevoice.models.diarization.linkage import centroid_tree, cut

fastcluster = pytest.importorskip("fastcluster")
hierarchy = pytest.importorskip("scipy.cluster.hierarchy")


def points(kind: str, count: int, size: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, size))
    centres = random.standard_normal((max(2, count // 20), size))
    whose = np.sort(random.integers(0, len(centres), count))
    if kind == "clustered":
        return centres[whose] + 0.3 * noise
    if kind == "walks":  # each close to the one before, as overlapping chunks are
        return centres[whose] + 0.05 * np.cumsum(noise, axis=0)
    if kind == "duplicates":
        return noise[random.integers(0, max(1, count // 3), count)]
    if kind == "inverted":  # all about as far from each other: each merge is nearer than the last
        return np.eye(count) + 1e-3 * random.standard_normal((count, count))
    return noise


KINDS = ("noise", "clustered", "walks", "duplicates", "inverted")


def assert_same_partitions(ours: np.ndarray, theirs: np.ndarray) -> None:
    """At thresholds that no merge comes near to; both cut by scipy."""
    heights = np.unique(theirs[:, 2])
    wide = np.flatnonzero(np.diff(heights) > 1e-7)
    middles = (heights[wide] + heights[wide + 1]) / 2
    for threshold in [*middles[:: max(1, len(middles) // 9)], heights[-1] + 1]:
        a, b = (hierarchy.fcluster(one, threshold, "distance") for one in (ours, theirs))
        pairs = set(zip(a.tolist(), b.tolist(), strict=True))
        assert len(pairs) == a.max() == b.max()


# So few rows, and so small products, that small inputs go every way of large ones.
SMALL = {"ROWS": 5, "TILE": 16, "ROOM": 8}


def in_small_steps(given_points: np.ndarray) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(linkage, name, value)
        return centroid_tree(given_points)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", [centroid_tree, in_small_steps])
@given(
    count=st.integers(2, 200),
    size=st.sampled_from([1, 2, 3, 16, 64]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25, deadline=None)
def test_scipys_and_fastclusters_partitions(
    made: Callable[[np.ndarray], np.ndarray], kind: str, count: int, size: int, seed: int
) -> None:
    given_points = points(kind, count, size, seed)
    ours = made(given_points)
    theirs = fastcluster.linkage_vector(given_points, method="centroid")
    assert ours[-1, 3] == count
    assert_same_partitions(ours, theirs)
    assert_same_partitions(ours, hierarchy.linkage(given_points, "centroid"))
    if kind in ("noise", "clustered"):  # without ties the trees are the same, node by node
        assert ours[:, [0, 1, 3]].tolist() == theirs[:, [0, 1, 3]].tolist()
        np.testing.assert_allclose(ours[:, 2], theirs[:, 2], rtol=1e-9)


@pytest.mark.long
def test_the_partition_of_an_hour_of_made_up_voices() -> None:
    """Each cluster grows point by point, ever nearer: the merges in between are inversions."""
    random = np.random.default_rng(0)
    voices = random.standard_normal((6, 256))[random.integers(0, 6, 5400)]
    made = (voices + 0.5 * random.standard_normal(voices.shape)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    ours, theirs = centroid_tree(made), fastcluster.linkage_vector(made, method="centroid")
    assert (np.diff(theirs[:, 2]) < 0).sum() > 1000
    assert len(set(cut(ours, 0.6))) == 6
    for threshold in (0.45, 0.5, 0.55, 0.6):
        labels = hierarchy.fcluster(theirs, threshold, "distance") - 1
        assert cut(ours, threshold).tolist() == labels.tolist()


@pytest.mark.parametrize("count", [2, 40, 700])
def test_nothing_but_one_point_over_and_over(count: int) -> None:
    tree = in_small_steps(np.tile([0.3, 0.4, 0.5], (count, 1)))
    assert tree[:, 2].max() < 1e-15
    assert tree[-1, 3] == count
    assert not cut(tree, 1e-9).any()


def test_the_same_bytes_on_one_core_and_on_two(monkeypatch: pytest.MonkeyPatch) -> None:
    given_points = points("walks", 3000, 32, seed=1)
    found = []
    for number in (1, 2):
        monkeypatch.setattr(linkage, "cores", lambda number=number: number)
        found.append(centroid_tree(given_points).tobytes())
    assert found[0] == found[1]


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        centroid_tree(np.array([[0.0, 1.0], [np.nan, 0.0]]))


def test_one_point_is_one_cluster() -> None:
    assert cut(np.empty((0, 4)), 0.5).tolist() == [0]


@pytest.mark.parametrize("method", ["centroid", "median", "single", "average"])
@given(seed=st.integers(0, 10_000), count=st.integers(2, 60), share=st.floats(0, 1.1))
@settings(max_examples=50, deadline=None)
def test_scipys_cut(method: str, seed: int, count: int, share: float) -> None:
    """Clusters and their numbers; inversions are cut by the highest merge below a node."""
    tree = hierarchy.linkage(points("noise", count, 3, seed), method)
    for threshold in (share * tree[:, 2].max(), tree[len(tree) // 2, 2]):
        theirs = hierarchy.fcluster(tree, threshold, "distance") - 1
        assert cut(tree, threshold).tolist() == theirs.tolist()

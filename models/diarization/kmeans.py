"""k-means++ and Lloyd, with scikit-learn's draws: the same seed gives the same clusters.

scikit-learn itself would be a heavy dependency for the one case in which a count of speakers is
forced on a recording.
"""

from __future__ import annotations

import numpy as np

RUNS = 3
SEED = 42
ITERATIONS = 300
TOLERANCE = 1e-4


def kmeans(points: np.ndarray, clusters: int) -> np.ndarray:
    """(N, D) -> (N,): the best of three runs."""
    random = np.random.RandomState(SEED)
    # In the points' own precision: the draws depend on it.
    centred = points - points.mean(axis=0)
    tolerance = float(np.mean(np.var(points, axis=0))) * TOLERANCE
    best: tuple[float, np.ndarray] | None = None
    for _ in range(RUNS):
        centres = _plusplus(centred, clusters, random)
        labels, inertia = _lloyd(centred, centres, tolerance)
        if best is None or (inertia < best[0] and not _same(labels, best[1])):
            best = (inertia, labels)
    assert best is not None
    return best[1]


def _plusplus(points: np.ndarray, clusters: int, random: np.random.RandomState) -> np.ndarray:
    """(K, D): each next centre the best of a few points drawn by their distance to the last."""
    count = len(points)
    trials = 2 + int(np.log(clusters))
    weights = np.ones(count, dtype=points.dtype)
    chosen = [int(random.choice(count, p=weights / weights.sum()))]
    closest = _distances(points[chosen], points)[0]
    for _ in range(1, clusters):
        drawn = random.uniform(size=trials) * float(closest @ weights)
        candidates = np.searchsorted(np.cumsum(weights * closest), drawn)
        np.clip(candidates, None, count - 1, out=candidates)
        nearer = np.minimum(closest, _distances(points[candidates], points))
        # Two points far from all others tie but for rounding, so even the product is of one shape
        # with scikit-learn's.
        winner = int(np.argmin(nearer @ weights[:, None]))
        closest = nearer[winner]
        chosen.append(int(candidates[winner]))
    centres: np.ndarray = points[chosen]
    return centres


def _distances(centres: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(K, D), (N, D) -> (K, N): squared distances, none below zero."""
    wide, all_points = centres.astype(np.float64), points.astype(np.float64)
    found: np.ndarray = -2 * (wide @ all_points.T)
    found += np.einsum("kd,kd->k", wide, wide)[:, None]
    found += np.einsum("nd,nd->n", all_points, all_points)
    distances: np.ndarray = np.maximum(found.astype(points.dtype), 0)
    return distances


def _lloyd(points: np.ndarray, centres: np.ndarray, tolerance: float) -> tuple[np.ndarray, float]:
    labels = np.full(len(points), -1)
    for _ in range(ITERATIONS):
        before = labels
        labels = _nearest(points, centres)
        moved = _means(points, centres, labels)
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if np.array_equal(labels, before):
            break
        if shift <= tolerance:
            labels = _nearest(points, centres)
            break
    return labels, float(((points - centres[labels]) ** 2).sum())


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    # |x|^2 is the same for all centres.
    scores = (centres**2).sum(axis=1) - 2 * points @ centres.T
    nearest: np.ndarray = scores.argmin(axis=1)
    return nearest


def _means(points: np.ndarray, centres: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each cluster's mean; an empty one takes the point that lies farthest from its own."""
    clusters = len(centres)
    counts = np.bincount(labels, minlength=clusters).astype(points.dtype)
    sums = np.zeros_like(centres)
    np.add.at(sums, labels, points)
    empty = np.flatnonzero(counts == 0)
    apart = ((points - centres[labels]) ** 2).sum(axis=1)
    if len(empty) and apart.max() > 0:
        # Several are taken in the order in which a partial sort leaves them, as scikit-learn does.
        far = np.argpartition(apart, -len(empty))[: -len(empty) - 1 : -1]
        for cluster, point in zip(empty, far, strict=True):
            sums[labels[point]] -= points[point]
            counts[labels[point]] -= 1
            sums[cluster], counts[cluster] = points[point], 1
    means: np.ndarray = sums / np.maximum(counts, 1)[:, None]
    return means


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether each cluster of the one lies within a cluster of the other."""
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len({one for one, _ in pairs})

"""VBx against pyannote's own, and what it is for: merging clusters of one voice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.models.diarization.vbx import ITERATIONS, vbx


def made_up(seed: int, count: int, clusters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    features = random.standard_normal((count, 16)) + 3 * random.standard_normal((1, 16))
    phi = np.sort(random.uniform(0.1, 30, 16))[::-1].copy()
    labels = random.integers(0, clusters, count)
    _, labels = np.unique(labels, return_inverse=True)
    return labels, features, phi


@pytest.mark.usefixtures("pyannote")
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_pyannotes_posterior(seed: int, count: int, clusters: int) -> None:
    from pyannote.audio.utils.vbx import cluster_vbx

    labels, features, phi = made_up(seed, count, clusters)
    gamma, pi = cluster_vbx(labels, features, phi, Fa=0.07, Fb=0.8)
    ours = vbx(labels, features, phi, 0.07, 0.8)
    np.testing.assert_allclose(ours.gamma, gamma, atol=1e-10)
    np.testing.assert_allclose(ours.pi, pi, atol=1e-10)


def test_two_clusters_of_one_voice_become_one() -> None:
    random = np.random.default_rng(0)
    voices = np.repeat(10 * np.eye(2, 8), 40, axis=0) + 0.1 * random.standard_normal((80, 8))
    labels = np.concatenate([np.arange(40) % 2, np.full(40, 2)])  # the first voice split in two
    found = vbx(labels, voices, np.full(8, 20.0), 0.3, 5.0)
    assert (found.pi > 1e-7).sum() == 2
    assert len(found.elbo) <= ITERATIONS
    best = found.gamma.argmax(axis=1)
    assert len(set(best[:40])) == 1
    assert best[0] != best[-1]


def test_the_bound_rises_until_it_stops() -> None:
    labels, features, phi = made_up(3, 50, 5)
    elbo = vbx(labels, features, phi, 0.07, 0.8).elbo
    assert (np.diff(elbo)[:-1] >= 1e-4).all()

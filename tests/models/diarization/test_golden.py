"""Real captures of community-1, step by step: each stage from the very input it had there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from samevoice.models.diarization import reconstruction
from samevoice.models.diarization.clustering import Clustering, cluster, silenced
from samevoice.models.diarization.frames import Frames
from samevoice.models.diarization.plda import Plda

SETTINGS = {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}
CLIPS = ("02_pyannote_sample", "03_dual_speaker", "04_three_speaker")
FRAMES = Frames()


def load(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as found:
        return dict(found)


@pytest.fixture(scope="module")
def plda(golden: Path) -> Plda:
    tensors = {f"plda.{k}": v for k, v in load(golden / "plda" / "plda.npz").items()}
    xvec = load(golden / "plda" / "xvec_transform.npz")
    return Plda.of(tensors | {f"xvec.{k}": v for k, v in xvec.items()})


@pytest.fixture(scope="module", params=CLIPS)
def clip(request: pytest.FixtureRequest, golden: Path) -> Path:
    return golden / "clips" / str(request.param)


@pytest.fixture(scope="module")
def segmentations(clip: Path) -> np.ndarray:
    return load(clip / "segmentations.npz")["segmentations"].astype(np.uint8)


@pytest.fixture(scope="module")
def ours(clip: Path, segmentations: np.ndarray, plda: Plda) -> Clustering:
    embeddings = load(clip / "raw_embeddings.npz")["embeddings"]
    return cluster(embeddings, segmentations, plda, SETTINGS)


def test_the_same_slots_are_clustered(clip: Path, ours: Clustering) -> None:
    captured = load(clip / "plda_embeddings.npz")
    assert ours.train[0].tolist() == captured["train_chunk_idx"].tolist()
    assert ours.train[1].tolist() == captured["train_speaker_idx"].tolist()


def test_ahc_equals_as_labels(clip: Path, ours: Clustering) -> None:
    assert ours.steps is not None
    assert ours.steps.ahc.tolist() == np.load(clip / "ahc_init_labels.npy").tolist()


def test_plda(clip: Path, ours: Clustering, plda: Plda) -> None:
    captured = load(clip / "plda_embeddings.npz")
    embeddings = load(clip / "raw_embeddings.npz")["embeddings"][ours.train]
    np.testing.assert_allclose(plda.phi, captured["phi"], atol=1e-9)
    np.testing.assert_allclose(plda.whiten(embeddings), captured["post_xvec"], atol=1e-9)
    # Eigenvectors have no sign of their own.
    assert ours.steps is not None
    signs = np.sign((ours.steps.features * captured["post_plda"]).sum(axis=0))
    np.testing.assert_allclose(ours.steps.features * signs, captured["post_plda"], atol=1e-9)


def test_vbx(clip: Path, ours: Clustering) -> None:
    captured = load(clip / "vbx_state.npz")
    assert ours.steps is not None
    np.testing.assert_allclose(ours.steps.gamma, captured["q_final"], atol=1e-12)
    np.testing.assert_allclose(ours.steps.pi, captured["sp_final"], atol=1e-9)
    np.testing.assert_allclose(
        ours.steps.elbo, captured["elbo_trajectory"].ravel(), atol=1e-9, rtol=0
    )


def test_assignment(clip: Path, ours: Clustering, segmentations: np.ndarray) -> None:
    captured = load(clip / "clustering.npz")
    assert ours.hard.tolist() == captured["hard_clusters"].tolist()
    np.testing.assert_allclose(ours.centroids, captured["centroids"], atol=1e-9)
    soft = silenced(ours.soft, segmentations)
    np.testing.assert_allclose(soft, captured["soft_clusters"], atol=1e-9)


def captured_rttm(clip: Path) -> list[tuple[str, ...]]:
    lines = (clip / "reference.rttm").read_text().splitlines()
    return [tuple(line.split()[k] for k in (3, 4, 7)) for line in lines]


def test_the_timeline_and_the_rttm_to_the_millisecond(
    clip: Path, ours: Clustering, segmentations: np.ndarray
) -> None:
    captured: Mapping[str, np.ndarray] = load(clip / "reconstruction.npz")
    counts = reconstruction.count_speakers(segmentations, FRAMES)
    assert counts.tolist() == captured["count"].ravel().tolist()
    hard = np.where(segmentations.any(axis=1), ours.hard, -2)
    votes = reconstruction.activations(segmentations, hard, FRAMES)
    discrete = reconstruction.discretise(votes, counts)
    assert discrete.tolist() == captured["discrete_diarization"].tolist()
    turns = reconstruction.turns(discrete, FRAMES)
    names = reconstruction.names(turns)
    said = [(f"{start:.3f}", f"{end - start:.3f}", names[who]) for start, end, who in turns]
    assert said == captured_rttm(clip)

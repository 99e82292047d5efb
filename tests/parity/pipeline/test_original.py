"""pyannote's pipeline is listened to without being changed, and its truth is what it says it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_talk import Talk, saying

from samevoice.converters import convert
from samevoice.parity.listening import ReferenceError
from samevoice.parity.pipeline.original import (
    ReferencePipeline,
    Silent,
    Spoke,
    SpokenTruth,
    Truth,
    _check_same,
    as_far_off,
    tied,
)


@pytest.mark.parametrize(
    ("votes", "count", "expected"),
    [
        ([3, 2, 1], 1, False),
        ([3, 3, 1], 1, True),
        ([3, 3, 1], 2, False),
        ([1, 3, 1], 2, True),
        ([2, 2, 2], 3, False),  # everybody is in
        ([0, 0, 0], 0, False),  # nobody is
        ([5], 1, False),
    ],
)
def test_a_frame_is_tied_where_the_last_one_in_equals_the_first_one_out(
    votes: list[int], count: int, expected: bool
) -> None:
    found = tied(np.array([votes], np.float32), np.array([count]))
    assert found.tolist() == [expected]


def test_no_speaker_at_all_is_no_tie() -> None:
    assert tied(np.zeros((2, 0), np.float32), np.array([0, 1])).tolist() == [False, False]


def test_everything_on_the_way_is_heard(heard: tuple[Spoke, SpokenTruth], talk: Talk) -> None:
    found, truth = heard
    chunks, frames, slots = found.segmentations.shape
    assert np.array_equal(found.scores, talk.scores.astype(np.float32))
    assert np.array_equal(found.chunks[1], talk.samples[16_000:176_000])
    assert found.weights.shape == (chunks, slots, frames)
    assert found.fbank.shape == (chunks, 998, 80)
    # The truth is nearer to itself than float32 can be, and near enough to be of the same.
    gap = np.abs(found.embeddings - truth.embeddings).max()
    assert 1e-9 < gap < 1e-5
    assert truth.fbank.dtype == truth.embeddings.dtype == truth.scores.dtype == np.float64
    clusters = found.clusters
    assert clusters.steps is not None
    assert len(clusters.steps.elbo) > 1
    assert np.allclose(clusters.steps.gamma.sum(axis=1), 1)
    assert clusters.hard.min() >= -2
    assert (
        found.discrete.speakers.sum(axis=1) == found.counts[: len(found.discrete.speakers)]
    ).all()
    assert found.exclusive.speakers.sum(axis=1).max() == 1
    assert [turn[0] for turn in found.turns] == sorted(turn[0] for turn in found.turns)


def test_a_silent_recording_stops_at_the_count(reference: ReferencePipeline, talk: Talk) -> None:
    from dataclasses import replace

    silent = np.full_like(talk.scores, -9.0)
    silent[:, :, 0] = 0.0
    with saying(reference, replace(talk, scores=silent)):
        found = reference.run(talk.samples)
        truth = reference.truth(found)
    assert found.turns == found.exclusive_turns == ()
    assert type(found) is Silent
    assert not found.counts.any()
    assert type(truth) is Truth
    assert truth.scores.shape == found.scores.shape


def test_listening_leaves_pyannote_as_it_was(
    reference: ReferencePipeline, heard: tuple[Spoke, SpokenTruth]
) -> None:
    from pyannote.audio.core.inference import Inference
    from pyannote.audio.pipelines import clustering
    from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
    from pyannote.audio.utils import vbx

    del heard
    assert isinstance(vars(Inference)["aggregate"], staticmethod)
    assert clustering.cluster_vbx is vbx.cluster_vbx
    assert vbx.VBx.__name__ == "VBx"
    assert SpeakerDiarization.reconstruct.__name__ == "reconstruct"
    assert "filter_embeddings" not in vars(clustering.VBxClustering)
    for module in (reference.segmentation.module, reference.embedding.module):
        assert not module._forward_hooks
        assert not {"compute_fbank", "forward"} & vars(module).keys()


def test_errors_are_dealt_out_to_slots_that_speak(heard: tuple[Spoke, SpokenTruth]) -> None:
    found, truth = heard
    speaking = found.segmentations.any(axis=1)
    own = np.sort(np.linalg.norm((found.embeddings - truth.embeddings)[speaking], axis=1))
    made = list(as_far_off(truth.embeddings, found))
    assert len(made) == len(truth.others) == 8
    for one in made:
        assert np.array_equal(one[~speaking], truth.embeddings[~speaking])
        dealt = np.sort(np.linalg.norm((one - truth.embeddings)[speaking], axis=1))
        assert np.allclose(dealt, own, rtol=1e-6, atol=1e-12)
    assert not np.array_equal(made[0], made[1])


def test_other_weights_than_the_checkpoints_are_refused(reference: ReferencePipeline) -> None:
    from copy import deepcopy

    import torch

    other: Any = deepcopy(reference.segmentation.module)
    _check_same("segmentation", other, reference.segmentation.module)
    with torch.no_grad():
        other.classifier.bias[0] += 1e-3
    with pytest.raises(ReferenceError, match=r"another segmentation: classifier\.bias differs"):
        _check_same("segmentation", other, reference.segmentation.module)


@pytest.mark.parametrize("clip", ["02_pyannote_sample", "03_dual_speaker", "04_three_speaker"])
def test_what_is_heard_of_the_clustering_is_what_others_captured(
    clip: str, fitted: ReferencePipeline, golden: Path
) -> None:
    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(golden / "clips" / clip / f"{name}.npz") as found:
            return dict(found)

    raw, masks = load("raw_embeddings")["embeddings"], load("segmentations")["segmentations"]
    found = fitted.cluster(raw, masks)
    assert found.steps is not None
    plda, vbx, said = load("plda_embeddings"), load("vbx_state"), load("clustering")
    assert found.train[0].tolist() == plda["train_chunk_idx"].tolist()
    assert found.train[1].tolist() == plda["train_speaker_idx"].tolist()
    for got, wanted, within in (
        (found.steps.ahc, np.load(golden / "clips" / clip / "ahc_init_labels.npy"), 0),
        (found.steps.xvectors, plda["post_xvec"], 1e-5),
        (found.steps.features, plda["post_plda"], 1e-4),
        (found.steps.gamma, vbx["q_final"], 1e-9),
        (found.steps.pi, vbx["sp_final"], 1e-9),
        (found.hard, said["hard_clusters"], 0),
        (found.centroids, said["centroids"], 1e-6),
    ):
        assert got is not None
        assert np.abs(got - wanted).max() <= within


@pytest.fixture(scope="module")
def fitted(golden: Path, pyannote: Any) -> ReferencePipeline:
    del pyannote
    folder = golden / "checkpoints" / "community-1-fitted"
    return ReferencePipeline.load(
        convert.prepare(folder, model_type="auto", options=convert.Options())
    )

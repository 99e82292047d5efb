"""The fast tier: chunks that share a pass of the trunk, and when each gets what it gives alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.errors import DiarizationError
from samevoice.models.diarization.frames import Frames, windows
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline
from samevoice.models.diarization.shared_trunk import LONGEST, Features, Grid, Group, SharedTrunk
from samevoice.models.layers.fbank import FULL_SCALE, Fbank

RATE, SLOTS = 16_000, 3
SILENT = np.full(256, 7, dtype=np.float32)


class Counted:
    """A network whose trunk's inputs are counted, in frames of the filterbank."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> None:
        self.sizes: list[int] = []
        plain = type(pipeline.embedding.resnet).frames

        def frames(resnet: Any, fbank: mx.array, *args: Any, **options: Any) -> mx.array:
            self.sizes.append(fbank.shape[1])
            found: mx.array = plain(resnet, fbank, *args, **options)
            return found

        monkeypatch.setattr(type(pipeline.embedding.resnet), "frames", frames)


def masks_of(chunks: int, *spoken: int) -> np.ndarray:
    """(C, S, F): one speaker in the middle of each chunk that is named."""
    masks = np.zeros((chunks, SLOTS, 589), dtype=np.float32)
    masks[list(spoken), 0, 200:390] = 1
    return masks


def shared(
    pipeline: SpeakerDiarizationPipeline,
    samples: np.ndarray,
    masks: np.ndarray,
    batch: int = 8,
    **options: Any,
) -> np.ndarray:
    """(N,), (C, S, F) -> (C, S, E)."""
    trunk = SharedTrunk(pipeline.embedding, pipeline.frames, SILENT, **options)
    chunks = windows(samples, 10 * RATE, RATE)
    found: list[np.ndarray] = []
    for at in range(0, len(chunks), batch):
        found += trunk.heard(chunks[at : at + batch], masks[at : at + batch])
    return np.concatenate([*found, *trunk.rest()])


def alone(
    pipeline: SpeakerDiarizationPipeline, samples: np.ndarray, masks: np.ndarray
) -> np.ndarray:
    """The same from each chunk alone, as the exact pipeline has it."""
    found = []
    for chunk, mask in zip(windows(samples, 10 * RATE, RATE), masks, strict=True):
        frames = pipeline.embedding.frames(mx.array(chunk[None]))
        found.append(np.array(pipeline.embedding.embed(frames, mx.array(mask[None]))[0]))
    return np.stack(found)


def near(got: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


# --- chunks and frames --------------------------------------------------------------------------


def test_a_chunk_begins_midway_between_two_frames_of_the_trunk(
    pipeline: SpeakerDiarizationPipeline,
) -> None:
    grid = Grid.of(pipeline.embedding, pipeline.frames)
    assert (grid.heard, grid.pooled, grid.stride, grid.every) == (998, 125, 4, 2)
    assert grid.span(2, 3) == slice(200, 1298)
    # A second is 100 frames of the filterbank, 12.5 of the trunk, 25 with those between.
    assert [grid.taken(0, chunk) for chunk in (0, 1, 2)] == [
        slice(0, 250, 2),
        slice(25, 275, 2),
        slice(50, 300, 2),
    ]
    assert grid.taken(7, 8) == grid.taken(0, 1)


@pytest.mark.parametrize(("step", "every"), [(0.8, 1), (0.96, 1), (1.0, 2), (0.5, 2)])
def test_frames_between_are_made_only_where_a_chunk_begins_there(
    pipeline: SpeakerDiarizationPipeline, step: float, every: int
) -> None:
    frames = Frames.of(pipeline.segmentation, 10.0, step)
    assert Grid.of(pipeline.embedding, frames).every == every


@pytest.mark.parametrize("odd", [{"snip_edges": False}, {"fbank_centering_span": 3.0}])
def test_an_embedding_that_cannot_share_is_refused(
    pipeline: SpeakerDiarizationPipeline, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any]
) -> None:
    monkeypatch.setitem(pipeline.embedding, "fbank", replace(pipeline.embedding.fbank, **odd))
    with pytest.raises(DiarizationError, match="leave fast off"):
        Grid.of(pipeline.embedding, pipeline.frames)


def test_the_filterbank_is_the_same_however_the_audio_comes(talk: np.ndarray) -> None:
    fbank = Fbank()
    whole, parts = Features(fbank), Features(fbank)
    whole.add(talk, last=True)
    for part in np.array_split(talk, [7, 399, 50_000, 50_001]):
        parts.add(part)
    parts.add(talk[:0], last=True)
    assert whole.end == parts.end == 1198
    every = slice(0, 1198)
    assert whole[every].tobytes() == parts[every].tobytes()
    at_once = np.array(fbank.log_mel(mx.array(talk[None] * FULL_SCALE))[0])
    np.testing.assert_allclose(whole[every], at_once, atol=1e-4)
    whole.forget(1000)
    assert whole[slice(1000, 1198)].tobytes() == parts[slice(1000, 1198)].tobytes()


def test_the_centre_lies_between_the_least_and_the_largest_mean() -> None:
    group, masks = Group(), np.ones((SLOTS, 4))
    for chunk, mean in enumerate(([0.0, 2.0], [1.0, 5.0], [0.5, -1.0])):
        group = group.with_one(chunk, masks, np.array(mean))
    group = group.with_one(3, 0 * masks, None)
    assert group.centre.tolist() == [0.5, 2.0]
    assert group.apart == pytest.approx(np.sqrt((0.25 + 9.0) / 2))
    assert (group.spoken, list(group.masks)) == ((0, 1, 2), [0, 1, 2, 3])


# --- embeddings ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def steady() -> np.ndarray:
    """A tone in noise for 16 s that repeats every second: all chunks have one mean."""
    random = np.random.default_rng(5)
    time = np.arange(RATE) / RATE
    second = 0.1 * np.sin(2 * np.pi * 300 * time) + 0.02 * random.standard_normal(RATE)
    return np.tile(second, 16).astype(np.float32)


def test_together_chunks_of_one_mean_give_what_each_gives_alone(
    pipeline: SpeakerDiarizationPipeline, steady: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a chunk nothing is heard of what lies beyond its edges: odd ones, too."""
    masks = masks_of(7, *range(7))
    wanted = alone(pipeline, steady, masks)
    counted = Counted(monkeypatch, pipeline)
    found = shared(pipeline, steady, masks)
    assert counted.sizes == [1198, 1298]  # the last group in two halves
    near(found[:, 0], wanted[:, 0])


def test_centred_by_its_own_mean_a_chunk_in_a_group_is_exact(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = masks_of(3, 0, 1, 2)
    wanted = alone(pipeline, talk, masks)
    features = Features(pipeline.embedding.fbank)
    features.add(talk, last=True)
    for chunk in range(3):
        own = features[slice(100 * chunk, 100 * chunk + 998)].mean(axis=0, dtype=np.float64)
        monkeypatch.setattr(Group, "centre", own)
        near(shared(pipeline, talk, masks, apart=np.inf)[chunk, 0], wanted[chunk, 0])


@pytest.mark.parametrize("seconds", [10, 12])
def test_no_difference_allowed_is_the_exact_pipeline(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, seconds: int
) -> None:
    samples = talk[: seconds * RATE]
    chunks = seconds - 9
    masks = np.ones((chunks, SLOTS, 589), dtype=np.float32)
    masks[:, 1, :300] = masks[:, 2] = 0
    found = shared(pipeline, samples, masks, apart=0)
    near(found, alone(pipeline, samples, masks))


def test_a_recording_of_one_chunk_is_exact(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunk is padded with zeros, and their mean is the chunk's, too."""
    wanted = pipeline.analyse([talk[: 7 * RATE]])
    monkeypatch.setattr(pipeline, "fast", True)
    found = pipeline.analyse([talk[: 7 * RATE]])
    assert found.segmentations.tobytes() == wanted.segmentations.tobytes()
    near(found.embeddings, wanted.embeddings)


def test_chunks_with_other_means_go_apart(
    pipeline: SpeakerDiarizationPipeline, steady: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = steady.copy()
    samples[12 * RATE :] *= 0.001
    counted = Counted(monkeypatch, pipeline)
    shared(pipeline, samples, masks_of(7, *range(7)))
    # The chunks that end before it grows quiet, and some that hold as much of what follows.
    assert len(counted.sizes) > 1
    assert sum(counted.sizes) > 1198 + 1298
    counted.sizes.clear()
    shared(pipeline, samples, masks_of(7, *range(7)), apart=np.inf)
    assert counted.sizes == [1198, 1298]  # the last group in two halves


# --- silence, length, batches -------------------------------------------------------------------


def test_where_nobody_speaks_the_trunk_rests(
    pipeline: SpeakerDiarizationPipeline, steady: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch, pipeline)
    found = shared(pipeline, steady, masks_of(7))
    assert not counted.sizes
    assert (found == SILENT).all()
    assert found.shape == (7, SLOTS, 256)


def test_chunks_stay_in_their_order_around_silent_ones(
    pipeline: SpeakerDiarizationPipeline, steady: np.ndarray
) -> None:
    masks = masks_of(7, 1, 2, 5)
    found = shared(pipeline, steady, masks, batch=2)
    wanted = alone(pipeline, steady, masks)
    near(found[[1, 2, 5], 0], wanted[[1, 2, 5], 0])
    assert (found[[0, 3, 4, 6]] == SILENT).all()


def test_long_silence_between_two_chunks_is_not_heard(
    pipeline: SpeakerDiarizationPipeline, steady: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch, pipeline)
    shared(pipeline, np.tile(steady, 2), masks_of(23, 0, 1, 12))
    assert counted.sizes == [1098, 998]


def test_a_stream_of_any_length_is_held_for_one_group_only(
    pipeline: SpeakerDiarizationPipeline, steady: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = SharedTrunk(pipeline.embedding, pipeline.frames, SILENT)
    sizes: list[int] = []

    def frames(resnet: Any, fbank: mx.array, *, between: bool) -> mx.array:
        sizes.append(fbank.shape[1])
        return mx.zeros((1, 10, 800, 32))

    monkeypatch.setattr(type(pipeline.embedding.resnet), "frames", frames)
    held, given = [], 0
    chunks = windows(np.tile(steady, 8), 10 * RATE, RATE)
    for at in range(0, 112, 8):
        batch = masks_of(8, *range(8)) if at < 80 else masks_of(8)
        given += len(trunk.heard(chunks[at : at + 8], batch))
        held.append(trunk._features.end - trunk._features.first)
        assert at + 8 - given <= 10 * LONGEST + 8
    assert max(held) <= LONGEST * 1000 + 1000
    assert held[-1] <= 2000
    assert max(sizes) <= LONGEST * 1000
    assert given + len(trunk.rest()) == 112


@pytest.mark.parametrize("batch", [1, 3])
def test_the_same_bytes_whatever_the_batch(
    pipeline: SpeakerDiarizationPipeline, steady: np.ndarray, batch: int
) -> None:
    masks = masks_of(7, 0, 2, 3, 4)
    assert shared(pipeline, steady, masks, batch).tobytes() == (
        shared(pipeline, steady, masks).tobytes()
    )


@pytest.mark.parametrize(("duration", "step"), [(4.0, 1.0), (5.0, 0.7), (3.0, 3.0), (2.0, 0.333)])
def test_chunks_of_other_lengths_and_steps(
    bundle: Any, talk: np.ndarray, duration: float, step: float
) -> None:
    both = [
        SpeakerDiarizationPipeline(bundle, chunk_duration=duration, step=step, fast=fast)
        for fast in (False, True)
    ]
    exact, fast = (pipeline.analyse([talk]) for pipeline in both)
    assert exact.segmentations.tobytes() == fast.segmentations.tobytes()
    assert exact.embeddings.shape == fast.embeddings.shape
    spoken = exact.segmentations.sum(axis=1) > 20
    x, y = exact.embeddings[spoken], fast.embeddings[spoken]
    cosines = (x * y).sum(axis=-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    assert np.median(cosines) > 0.97


def test_fast_is_off_unless_asked_for(bundle: Any) -> None:
    assert not SpeakerDiarizationPipeline(bundle).fast
    assert SpeakerDiarizationPipeline(bundle, fast=True).fast

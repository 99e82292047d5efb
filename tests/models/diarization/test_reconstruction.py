"""Counting, voting and turns: by hand, and against pyannote's own steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from samevoice.models.diarization import reconstruction
from samevoice.models.diarization.clustering import NOBODY
from samevoice.models.diarization.frames import Frames
from samevoice.parity.pipeline.original import tied

TINY = Frames(duration=0.4, step=0.2, frame_duration=0.1, frame_step=0.1, per_chunk=4)


def test_counts_are_rounded_to_even() -> None:
    segmentations = np.zeros((2, 4, 3), dtype=np.uint8)
    segmentations[0, 2:, 0] = 1  # frames 2 and 3 of the recording, seen by both chunks
    segmentations[1, 1, :2] = 1  # frame 3: 1 and 2 speakers, 1.5 on average
    counts = reconstruction.count_speakers(segmentations, TINY)
    assert counts[:4].tolist() == [0, 0, 0, 2]  # 0.5 is 0, 1.5 is 2


def test_votes_take_the_largest_of_a_clusters_slots() -> None:
    segmentations = np.ones((1, 4, 3), dtype=np.uint8)
    segmentations[0, :2, 0] = 0
    votes = reconstruction.activations(segmentations, np.array([[0, 0, NOBODY]]), TINY)
    assert votes[:4, 0].tolist() == [1, 1, 1, 1]
    assert votes.shape[1] == 1


def test_of_equal_votes_the_lower_number_wins_and_the_tie_is_known() -> None:
    votes = np.array([[3, 3, 1], [1, 2, 2], [2, 1, 0], [5, 5, 5]])
    found = reconstruction.discretise(votes, np.array([1, 2, 1, 3]))
    assert found.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1]]


def test_more_speakers_than_clusters_get_columns_of_their_own() -> None:
    found = reconstruction.discretise(np.array([[1], [0]]), np.array([2, 0]))
    assert found.tolist() == [[1, 1], [0, 0]]


def test_nobody_at_all() -> None:
    found = reconstruction.discretise(np.zeros((3, 0), dtype=np.int32), np.zeros(3, dtype=int))
    assert found.shape == (3, 0)
    assert reconstruction.turns(found, TINY) == []


def test_turns_lie_between_the_middles_of_frames() -> None:
    active = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]])
    turns = reconstruction.turns(active, TINY)
    assert [(round(a, 6), round(b, 6), who) for a, b, who in turns] == [
        (0.05, 0.25, 0),
        (0.25, 0.45, 1),
    ]


def test_a_turn_that_begins_with_the_last_frame_has_no_length() -> None:
    assert reconstruction.turns(np.array([[0], [0], [1]]), TINY) == []


def test_short_gaps_are_closed() -> None:
    active = np.array([[1], [0], [1], [0], [0], [1], [1]])
    assert len(reconstruction.turns(active, TINY)) == 3
    assert len(reconstruction.turns(active, TINY, min_duration_off=0.15)) == 2


def test_clusters_are_named_as_strings_sort() -> None:
    turns = [(0.0, 1.0, cluster) for cluster in range(12)]
    names = reconstruction.names(turns)
    assert [names[c] for c in (0, 1, 10, 11, 2)] == [f"SPEAKER_{k:02d}" for k in range(5)]


def test_tracks_are_lettered_as_pyannote_core_does() -> None:
    generator = pytest.importorskip("pyannote.core.utils.generators")
    theirs = generator.string_generator()
    assert [reconstruction.track(k) for k in range(60)] == [next(theirs) for _ in range(60)]


# --- pyannote's own steps ------------------------------------------------------------------------


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(589), st.just(3)), elements=st.just(0)),
    st.integers(0, 10_000),
)
@settings(max_examples=15, deadline=None)
def test_pyannotes_reconstruction(pyannote: Any, empty: np.ndarray, seed: int) -> None:
    del pyannote
    from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
    from pyannote.core import SlidingWindow, SlidingWindowFeature

    random = np.random.default_rng(seed)
    chunks = len(empty)
    # Runs of speech, as a segmentation gives them.
    flips = random.random((chunks, 589, 3)) < 0.02
    segmentations = (np.cumsum(flips, axis=1) % 2).astype(np.uint8)
    hard = np.stack([random.permutation(3) for _ in range(chunks)])
    hard[random.random(hard.shape) < 0.1] = NOBODY
    hard[0, 0] = 0
    frames = Frames()
    window = SlidingWindow(start=0.0, duration=frames.frame_duration, step=frames.frame_step)
    feature = SlidingWindowFeature(
        segmentations.astype(np.float32), SlidingWindow(start=0.0, duration=10.0, step=1.0)
    )
    count = SpeakerDiarization.speaker_count(feature, window, warm_up=(0.0, 0.0))
    counts = reconstruction.count_speakers(segmentations, frames)
    assert counts.tolist() == count.data.ravel().tolist()

    votes = reconstruction.activations(segmentations, hard, frames)
    ours = reconstruction.discretise(votes, counts)
    count.data = count.data.astype(np.int8)
    theirs = SpeakerDiarization.reconstruct(_Bare(), feature, hard, count)
    apart = (ours != theirs.data).any(axis=1)
    assert not (
        apart & ~tied(votes, counts)
    ).any()  # tied frames are left to an unstable sort there

    annotation = SpeakerDiarization.to_annotation(theirs)
    spans = [(s.start, s.end, k) for s, _, k in annotation.itertracks(yield_label=True)]
    assert reconstruction.turns(theirs.data.astype(np.uint8), frames) == spans
    collared = SpeakerDiarization.to_annotation(theirs, min_duration_off=0.3)
    spans = [(s.start, s.end, k) for s, _, k in collared.itertracks(yield_label=True)]
    assert reconstruction.turns(theirs.data.astype(np.uint8), frames, 0.3) == spans


@pytest.mark.parametrize("gap", [0.0, 0.15])
def test_pyannotes_order_of_equal_segments(gap: float, pyannote: Any) -> None:
    """With gaps closed, tracks are lettered anew, turn by turn."""
    del pyannote
    from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
    from pyannote.core import SlidingWindow, SlidingWindowFeature

    active = np.zeros((200, 12), dtype=np.uint8)
    active[2:180:6] = active[3:180:6] = 1
    active[190:195, [10, 2]] = 1
    window = SlidingWindow(start=0.0, duration=TINY.frame_duration, step=TINY.frame_step)
    found = SpeakerDiarization.to_annotation(
        SlidingWindowFeature(active.astype(np.float32), window), min_duration_off=gap
    )
    spans = [(s.start, s.end, k) for s, _, k in found.itertracks(yield_label=True)]
    assert reconstruction.turns(active, TINY, gap) == spans


class _Bare:
    """As much of a pipeline as ``reconstruct`` asks for."""

    @staticmethod
    def to_diarization(segmentations: Any, count: Any) -> Any:
        from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization

        return SpeakerDiarization.to_diarization(segmentations, count)

"""Powerset classes and single labels against pyannote's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.models.diarization.powerset import above, decode, mapping


def test_three_speakers_two_at_once() -> None:
    sets = [np.flatnonzero(row).tolist() for row in mapping(3, 2)]
    assert sets == [[], [0], [1], [2], [0, 1], [0, 2], [1, 2]]


@pytest.mark.parametrize(("speakers", "largest"), [(1, 1), (3, 2), (4, 3), (5, 5)])
def test_pyannotes_order(speakers: int, largest: int, pyannote: None) -> None:
    from pyannote.audio.utils.powerset import Powerset

    theirs = Powerset(speakers, largest).mapping.numpy()
    assert mapping(speakers, largest).tolist() == theirs.tolist()


def test_of_equal_scores_the_first_class_counts() -> None:
    table = mapping(3, 2)
    scores = np.zeros((2, 7))
    scores[1, [4, 6]] = 1
    assert decode(scores, table).tolist() == [[0, 0, 0], [1, 1, 0]]


# --- single labels ------------------------------------------------------------------------------


def test_a_label_is_decided_by_the_threshold() -> None:
    scores = np.array([[0.6, 0.2], [0.5, 0.5], [0.4, 0.9], [0.5, 0.5]], dtype=np.float32)
    wanted = [[1, 0], [1, 0], [0, 1], [0, 1]]  # on the threshold a label stays as it was
    assert above(scores, 0.5).tolist() == wanted
    assert above(scores[1:2], 0.5).tolist() == [[0, 0]]


@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 4)),
    threshold=st.sampled_from([0.25, 0.5, 0.7]),
)
@settings(max_examples=50, deadline=None)
def test_labels_are_decided_as_pyannote_does(
    seed: int, shape: tuple[int, int, int], threshold: float
) -> None:
    signal = pytest.importorskip("pyannote.audio.utils.signal")
    core = pytest.importorskip("pyannote.core")
    scores = np.random.default_rng(seed).integers(0, 5, shape) / 4  # many lie on a threshold
    feature = core.SlidingWindowFeature(scores, core.SlidingWindow())
    theirs = signal.binarize(feature, onset=threshold, initial_state=False)
    np.testing.assert_array_equal(above(scores, threshold), theirs.data)

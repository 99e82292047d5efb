"""Powerset classes against pyannote's own."""

from __future__ import annotations

import numpy as np
import pytest

from samevoice.models.diarization.powerset import decode, mapping


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

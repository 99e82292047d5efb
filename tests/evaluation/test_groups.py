"""Shares of overlap that were worked out by hand, and which recordings belong together."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samevoice.evaluation import groups
from samevoice.models.diarization.output import Turns

# Ana 0 to 4, Bob 3 to 8, Eve 3.5 to 4.5: two or more from 3 to 4.5 s, of 8 s.
TALK = Turns.of([(0, 4, "ana"), (3, 8, "bob"), (3.5, 4.5, "eve")])


def test_a_second_in_which_several_speak_counts_once() -> None:
    assert groups.overlap(TALK, ((0, 20),)) == pytest.approx(1.5 / 8)


def test_only_what_is_scored_counts() -> None:
    assert groups.overlap(TALK, ((0, 3.25), (6, 7))) == pytest.approx(0.25 / 4.25)
    assert groups.overlap(TALK, ((10, 20),)) == 0.0


def test_one_speaker_does_not_overlap_with_herself() -> None:
    assert groups.overlap(Turns.of([(0, 4, "ana"), (3, 5, "ana")]), ((0, 5),)) == 0.0


TURN = st.tuples(st.integers(0, 40), st.integers(1, 12), st.sampled_from("abc"))


@given(st.lists(TURN, max_size=8))
def test_it_is_what_pyannote_counts(found: list[tuple[int, int, str]]) -> None:
    core = pytest.importorskip("pyannote.core")
    turns = Turns.of((start / 4, (start + length) / 4, who) for start, length, who in found)
    there = turns.to_annotation().crop(core.Timeline([core.Segment(1, 5), core.Segment(6, 9)]))
    speech = there.get_timeline().support().duration()
    share = there.get_overlap().duration() / speech if speech else 0.0
    assert groups.overlap(turns, ((1, 5), (6, 9))) == pytest.approx(share)


def test_a_bound_belongs_to_the_group_above() -> None:
    shares = [0.0, 0.049, *[0.05] * 5, 0.149, *[0.15] * 4, 1.0]
    found = dict(groups.places(shares, groups.OVERLAP))
    assert found == {"5-15 %": [2, 3, 4, 5, 6, 7], "15 %+": [8, 9, 10, 11, 12]}
    counts = [1] * 4 + [2] * 5 + [3, 3, 3, 4, 4, 5, 5, 5, 99, 6]
    found = dict(groups.places(counts, groups.SPEAKERS))
    assert {name: len(rows) for name, rows in found.items()} == {"2": 5, "3-4": 5, "5+": 5}
    assert max(most for _, most in groups.OVERLAP.values()) == math.inf

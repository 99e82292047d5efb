"""Figures that were worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.evaluation.scores import Jaccard, Score, Scores, added, judge, score
from samevoice.models.diarization.output import Turns

pytest.importorskip("pyannote.metrics")

REFERENCE = Turns.of([(0, 4, "ana"), (4, 8, "bob")])
SHIFTED = Turns.of([(1, 5, "x"), (5, 9, "y")])


def test_each_kind_of_error() -> None:
    # Missed 0 to 1; Bob taken for Ana 4 to 5; nobody speaks 8 to 9.
    found = score(REFERENCE, SHIFTED, ((0, 10),))
    assert found == Score(missed=1, false_alarm=1, confusion=1, total=8)
    assert found.wrong == 3
    assert found.der == 3 / 8


def test_only_the_regions_are_scored() -> None:
    assert score(REFERENCE, SHIFTED, ((0, 5),)) == Score(1, 0, 1, 5)
    assert score(REFERENCE, SHIFTED, ((0, 0.5), (8.5, 10))) == Score(0.5, 0.5, 0, 0.5)


def test_overlap_is_scored_and_so_are_the_edges() -> None:
    both = Turns.of([(0, 4, "ana"), (2, 4, "bob")])
    assert score(both, Turns.of([(0, 4, "x")]), ((0, 4),)) == Score(2, 0, 0, 6)
    # No collar: a tenth of a second too early is a tenth too many.
    early = Turns.of([(0.9, 2, "x")])
    assert score(Turns.of([(1, 2, "a")]), early, ((0, 2),)).false_alarm == pytest.approx(0.1)


def test_recordings_add_up_by_their_seconds() -> None:
    whole = added([Score(1, 0, 0, 1), Score(0, 0, 0, 9)])
    assert (whole, whole.der) == (Score(1, 0, 0, 10), 0.1)


def test_speech_where_there_is_none_counts_in_full() -> None:
    silent = score(Turns(), Turns.of([(0, 1, "x")]), ((0, 2),))
    assert (silent, silent.der) == (Score(0, 1, 0, 0), 1.0)
    assert score(Turns(), Turns(), ((0, 2),)).der == 0.0


# By every measure ---------------------------------------------------------------------------------


def test_a_collar_is_left_out_on_each_side_of_a_boundary() -> None:
    # md-eval's 0.25 s. Of 1 to 3 s, 1.25 to 2.75 s are scored; x speaks from 1.5 s on.
    found = judge(Turns.of([(1, 3, "ana")]), Turns.of([(1.5, 3.5, "x")]), ((0, 4),))
    assert found.strict == Score(missed=0.5, false_alarm=0.5, total=2)
    assert found.lenient == Score(missed=0.25, false_alarm=0.25, total=1.5)


def test_every_reference_speaker_weighs_the_same_in_jer() -> None:
    # Ana's 8 s: x says 6 of them. Bob's 2 s: nobody is left to pair him with.
    reference = Turns.of([(0, 8, "ana"), (8, 10, "bob")])
    found = judge(reference, Turns.of([(0, 6, "x")]), ((0, 10),))
    assert found.jaccard == Jaccard(error=2 / 8 + 1, speakers=2)
    assert found.jaccard.jer == 0.625
    assert found.strict.der == 0.4


def test_only_who_speaks_where_it_is_scored_is_counted() -> None:
    found = judge(REFERENCE, SHIFTED, ((0, 4),))
    assert (found.speakers, found.found) == (1, 1)
    found = judge(REFERENCE, SHIFTED, ((0, 2), (6, 7)))
    assert (found.speakers, found.found) == (2, 2)
    assert judge(Turns(), Turns(), ((0, 2),)).found == 0


def test_scores_come_back_as_they_were() -> None:
    found = judge(REFERENCE, SHIFTED, ((0, 7),))
    assert Scores.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    damages: list[Any] = [None, [], {}, {**found.as_dict(), "jer": {"jer": 0.0}}]
    for damaged in damages:
        with pytest.raises((KeyError, TypeError)):
            Scores.from_dict(damaged)


TIMES = st.tuples(st.integers(0, 40), st.integers(1, 12), st.sampled_from("abc"))
SIDE = st.lists(TIMES, max_size=6).map(
    lambda turns: Turns.of((start / 4, (start + length) / 4, who) for start, length, who in turns)
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=3))
def test_sums_are_what_pyannote_accumulates(pairs: list[tuple[Turns, Turns]]) -> None:
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

    uem = Timeline([Segment(1, 12)])
    theirs = DiarizationErrorRate(), DiarizationErrorRate(collar=0.5), JaccardErrorRate()
    for metric in theirs:
        for reference, got in pairs:
            metric(reference.to_annotation(), got.to_annotation(), uem=uem)
    ours = [judge(reference, got, ((1, 12),)) for reference, got in pairs]
    strict, lenient = (added(getattr(x, name) for x in ours) for name in ("strict", "lenient"))
    jaccard = Jaccard(sum(x.jaccard.error for x in ours), sum(x.jaccard.speakers for x in ours))
    for metric, rate in zip(theirs, (strict.der, lenient.der, jaccard.jer), strict=True):
        assert rate == pytest.approx(abs(metric))

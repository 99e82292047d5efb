"""Figures that were worked out by hand."""

from __future__ import annotations

import pytest

from samevoice.evaluation.scores import Score, added, score
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

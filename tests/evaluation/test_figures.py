"""Figures over recordings, on made-up numbers that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from samevoice.evaluation import figures
from samevoice.evaluation.figures import Figure, Rates, changes, means, resampled
from samevoice.evaluation.scores import Jaccard, Score


def rates(*pairs: tuple[float, float]) -> Rates:
    return Rates.of_scores([Score(missed=wrong, total=total) for wrong, total in pairs])


def test_micro_counts_seconds_and_macro_counts_recordings() -> None:
    micro, macro = means(rates((1, 1), (0, 9)))
    assert (micro.value, macro.value) == (0.1, 0.5)


def test_where_there_is_nothing_to_find() -> None:
    micro, macro = means(rates((0, 0), (2, 0)))
    assert (micro.value, macro.value) == (1.0, 0.5)
    micro, macro = means(Rates.of_jaccards([Jaccard(0, 0), Jaccard(1, 4)]))
    assert (micro.value, macro.value) == (0.25, 0.625)


def test_one_recording_has_no_interval() -> None:
    assert means(rates((1, 4))) == (Figure(0.25), Figure(0.25))
    assert changes(rates((1, 4)), rates((2, 4))) == (Figure(0.25), Figure(0.25))


def test_recordings_that_are_alike_leave_no_doubt() -> None:
    assert means(rates((1, 4), (1, 4), (1, 4))) == (Figure(0.25, 0.25, 0.25),) * 2


def test_the_interval_is_that_of_all_draws() -> None:
    # Of two recordings, 0 and 100 %: a draw gives 0, 50 or 100 %, in a quarter, half and quarter.
    micro, _ = means(rates((0, 1), (1, 1)))
    assert (micro.low, micro.high) == (0.0, 1.0)
    # Of ten with one all wrong, their number in a draw is binomial: at most 3 in 98.7 %.
    micro, _ = means(rates((1, 1), *[(0, 1)] * 9))
    assert micro.low == 0
    assert micro.high == pytest.approx(0.3)
    sums = resampled(np.eye(10))
    assert sums.shape == (figures.RESAMPLINGS, 10)
    assert (sums.sum(axis=1) == 10).all()
    assert (sums[:, 0] == 0).mean() == pytest.approx(0.9**10, abs=0.03)


def test_many_recordings_make_the_textbook_interval() -> None:
    random = np.random.default_rng(3)
    values = random.normal(0.2, 0.05, size=400)
    _, macro = means(rates(*((value, 1.0) for value in values)))
    half = 1.96 * values.std() / 20
    assert macro.low == pytest.approx(values.mean() - half, abs=half / 10)
    assert macro.high == pytest.approx(values.mean() + half, abs=half / 10)


def test_a_difference_is_paired() -> None:
    # Recordings differ by 90 points, B from A by one on each: no doubt about that one.
    before = rates((5, 100), (95, 100), (50, 100))
    after = rates((6, 100), (96, 100), (51, 100))
    for found in changes(before, after):
        assert (found.value, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    (alone, _) = means(after)
    assert alone.high is not None
    assert alone.low is not None
    assert alone.high - alone.low > 0.5


def test_the_same_numbers_give_the_same_interval() -> None:
    found = [means(rates((1, 3), (2, 5), (0, 4))) for _ in range(2)]
    assert found[0] == found[1]

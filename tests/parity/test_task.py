"""Similarity, ranking, error rates and decisions, by hand and by property."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.parity import task as t
from samevoice.parity.metrics import ShapeMismatchError

Array = npt.NDArray[Any]
VOICES = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])


def tau(x: npt.ArrayLike, y: npt.ArrayLike, noise: float = 0.0) -> float:
    return t.kendall_tau(t.concordance(x, y, noise))


def random_voices(n: int = 12, d: int = 16) -> Array:
    return np.random.default_rng(n).normal(size=(n, d))


def test_similarities_are_cosines() -> None:
    assert t.similarity(VOICES) == pytest.approx(
        np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.8], [0.0, 0.8, 1.0]])
    )


def test_zero_and_broken_embeddings_follow_the_conventions() -> None:
    table = t.similarity(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [np.nan, 1.0]]))
    assert table[0, 1] == 1.0
    assert table[0, 2] == 0.0
    assert np.isnan(table[3]).all()
    assert np.isnan(table[:, 3]).all()
    assert np.isfinite(table[:3, :3]).all()
    assert t.similarity(np.zeros((0, 4))).shape == (0, 0)
    assert t.similarity(np.zeros((2, 0))).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_kendall_tau_of_a_hand_worked_ranking() -> None:
    assert tau([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert tau([1, 2, 3, 4], [4, 3, 2, 1]) == -1.0
    assert tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)  # one of six turned


def test_ties_count_only_where_one_side_can_tell_apart() -> None:
    assert t.concordance([1, 1, 2], [5, 5, 9]).tolist() == [2, 0, 0]
    assert t.concordance([1, 1, 2], [5, 6, 9]).tolist() == [2, 0, 1]
    # A ranking that collapsed to one value must not pass for the same.
    assert tau([1, 2, 3], [7, 7, 7]) == 0.0
    assert tau([7, 7, 7], [7, 7, 7]) == 1.0


def test_flips_within_the_noise_are_no_flips() -> None:
    x, y = np.array([0.0, 1e-7, 1.0]), np.array([1e-7, 0.0, 1.0])
    assert tau(x, y) == pytest.approx(1 / 3)
    assert tau(x, y, noise=2e-7) == 1.0
    assert tau([0.0, 1.0], [1.0, 0.0], noise=2e-7) == -1.0


def test_rankings_need_numbers_of_one_shape() -> None:
    with pytest.raises(t.TaskError, match="not defined"):
        tau([1.0, math.nan], [1.0, 2.0])
    with pytest.raises(ShapeMismatchError):
        tau([1, 2, 3], [1, 2])
    with pytest.raises(ShapeMismatchError):
        tau(np.ones((2, 2)), np.ones((2, 2)))


@settings(deadline=None)
@given(st.permutations(range(9)), st.permutations(range(9)))
def test_without_ties_it_is_scipys(x: list[int], y: list[int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_tau_is_symmetric_and_bounded(points: list[tuple[int, int]]) -> None:
    x, y = [p[0] for p in points], [p[1] for p in points]
    assert tau(x, y) == tau(y, x)
    assert -1.0 <= tau(x, y) <= tau(x, x) == 1.0


def test_the_same_embeddings_agree_in_everything() -> None:
    voices = random_voices()
    same = t.compare_embeddings(voices.astype(np.float32), voices, truth=voices)
    assert same.embedding_cosine_min == pytest.approx(1.0, abs=1e-12)
    assert same.similarity_gap < 1e-6
    assert same.kendall_tau == same.neighbour_agreement == same.nearest_agreement == 1.0
    assert same.error_rates() is None


def test_a_scale_changes_no_ranking_and_a_shuffle_all_of_them() -> None:
    voices = random_voices()
    assert t.compare_embeddings(voices, 1.5 * voices).kendall_tau == 1.0
    shuffled = t.compare_embeddings(voices, voices[::-1])
    assert shuffled.kendall_tau < 0.5
    assert shuffled.neighbour_agreement < 1.0
    assert shuffled.nearest_agreement < 1.0
    assert shuffled.embedding_cosine_min < 0.9


def test_dead_embeddings_do_not_pass_for_the_same_ranking() -> None:
    dead = t.compare_embeddings(random_voices(), np.ones((12, 16)))
    assert dead.kendall_tau == 0.0
    assert dead.neighbour_agreement == 0.0


def test_one_broken_embedding_breaks_every_figure() -> None:
    voices = random_voices()
    broken = voices.copy()
    broken[3, 0] = np.nan
    found = t.compare_embeddings(voices, broken)
    assert found.similarity_gap == math.inf
    assert found.kendall_tau == found.embedding_cosine_min == -math.inf
    assert found.neighbour_agreement == found.nearest_agreement == -math.inf


def test_the_noise_is_measured_against_the_truth() -> None:
    voices = random_voices()
    rough = voices + 1e-3 * random_voices(12, 16)[::-1]
    error = np.abs(t.similarity(voices) - t.similarity(rough)).max()
    assert t.similarity_noise(rough, voices) == pytest.approx(4 * error)
    assert t.similarity_noise(voices) == 8 * 2.0**-24
    assert t.similarity_noise(voices, np.full_like(voices, np.nan)) == 8 * 2.0**-24


def test_no_embeddings_and_one_are_not_wrong() -> None:
    for n in (0, 1):
        found = t.compare_embeddings(np.ones((n, 4)), np.ones((n, 4)), labels=["a"] * n)
        assert found.kendall_tau == found.neighbour_agreement == found.nearest_agreement == 1.0
        assert found.embedding_cosine_min == 1.0
        assert found.similarity_gap == 0.0
        assert found.error_rates() is None


def test_embeddings_are_checked() -> None:
    with pytest.raises(ShapeMismatchError):
        t.compare_embeddings(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(t.TaskError, match="must be"):
        t.compare_embeddings(np.ones(3), np.ones(3))
    with pytest.raises(t.TaskError, match="labels"):
        t.compare_embeddings(np.ones((2, 3)), np.ones((2, 3)), labels=["a"])


def test_equal_error_rates_of_hand_worked_scores() -> None:
    assert t.equal_error_rate([0.9, 0.8, 0.2, 0.1], [True, True, False, False]) == 0.0
    assert t.equal_error_rate([0.9, 0.8, 0.2, 0.1], [False, False, True, True]) == 1.0
    # One of two speakers below one of two impostors.
    assert t.equal_error_rate([0.9, 0.3, 0.6, 0.1], [True, False, False, True]) == 0.5
    assert t.equal_error_rate([0.9, 0.3, 0.6, 0.1], [True, True, False, False]) == 0.5
    # Equal scores cannot be told apart: chance.
    assert t.equal_error_rate([0.5] * 4, [True, True, False, False]) == pytest.approx(0.5)
    # One of three each: refusing below 0.5 loses one speaker and lets in one impostor.
    scores, same = [0.9, 0.8, 0.4, 0.5, 0.2, 0.1], [True] * 3 + [False] * 3
    assert t.equal_error_rate(scores, same) == pytest.approx(1 / 3)


def test_an_equal_error_rate_needs_both_kinds_and_numbers() -> None:
    with pytest.raises(t.TaskError):
        t.equal_error_rate([0.1, 0.2], [True, True])
    with pytest.raises(ShapeMismatchError):
        t.equal_error_rate([0.1, 0.2], [True])
    assert t.equal_error_rate([0.1, math.nan], [True, False]) == math.inf


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.booleans()), min_size=2, max_size=30))
def test_the_error_rate_is_a_share_and_ignores_the_scale(pairs: list[tuple[int, bool]]) -> None:
    scores, same = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    if same.all() or not same.any():
        return
    rate = t.equal_error_rate(scores, same)
    assert 0.0 <= rate <= 1.0
    assert t.equal_error_rate(scores * 2.0 + 7, same) == rate


def test_error_rates_and_sections_of_labelled_embeddings() -> None:
    voices = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    found = t.compare_embeddings(voices, voices, labels=["a", "a", "b", "b"])
    assert found.error_rates() == (0.0, 0.0)
    sections = found.sections()
    assert sections["similarity"]["eer_gap"] == 0.0
    assert sections["ranking"]["kendall_tau"] == 1.0
    assert sections["similarity"]["embedding_cosine_min"] == 1.0


SCORES = np.array([[0.9, 0.1], [0.49, 0.51], [0.2, 0.8]])
OTHERS = np.array([[0.9, 0.1], [0.51, 0.49], [0.9, 0.1]])


def test_powerset_decisions_and_their_flips() -> None:
    found = t.compare_decisions(SCORES, OTHERS, truth=SCORES + 0.0125)
    assert found.agreement == pytest.approx(1 / 3)
    assert found.agreement_beyond_noise == pytest.approx(2 / 3)
    assert [(flip.index, flip.within_noise) for flip in found.flips] == [
        ((1,), True),
        ((2,), False),
    ]
    assert found.flips[0].margin == pytest.approx(0.02)
    assert found.confusion.tolist() == [[1, 0], [2, 0]]
    assert found.sections()["agreement"]["flips"] == 2


def test_a_result_names_the_first_hundred_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t, "LISTED", 1)
    section = t.compare_decisions(SCORES, OTHERS).sections()["agreement"]
    assert section["flips"] == 2
    assert len(section["flips_listed"]) == 1


def test_threshold_decisions() -> None:
    found = t.compare_decisions(SCORES, OTHERS, threshold=0.5)
    assert found.agreement == pytest.approx(2 / 6)
    assert found.flips[0].index == (1, 0)
    assert (found.flips[0].reference, found.flips[0].candidate) == (0, 1)
    assert found.confusion.tolist() == [[1, 2], [2, 1]]


def test_the_noise_of_decisions_is_four_errors_of_the_reference() -> None:
    assert t.compare_decisions(SCORES, OTHERS, truth=SCORES + 0.01).noise == pytest.approx(0.04)
    assert t.compare_decisions(SCORES, OTHERS).noise == 0.0
    assert t.compare_decisions(SCORES, OTHERS, truth=SCORES * np.nan).noise == 0.0


def test_broken_scores_agree_in_nothing() -> None:
    found = t.compare_decisions(SCORES, OTHERS * np.nan)
    assert found.agreement == found.agreement_beyond_noise == -math.inf
    assert found.sections()["agreement"]["decision_agreement"] == -math.inf


def test_decisions_are_checked() -> None:
    with pytest.raises(t.TaskError, match="class"):
        t.compare_decisions(np.ones((3, 0)), np.ones((3, 0)))
    with pytest.raises(t.TaskError, match="threshold"):
        t.compare_decisions(SCORES, OTHERS, threshold=math.nan)
    with pytest.raises(ShapeMismatchError):
        t.compare_decisions(SCORES, SCORES[:1])
    assert t.compare_decisions(np.ones((0, 3)), np.ones((0, 3))).agreement == 1.0
    assert t.compare_decisions(np.ones((3, 1)), np.ones((3, 1))).agreement == 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_agreement_is_one_minus_flips(frames: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, frames, classes))
    found = t.compare_decisions(a, b)
    assert found.agreement == pytest.approx(float((a.argmax(1) == b.argmax(1)).mean()))
    assert int(np.trace(found.confusion)) == frames - len(found.flips)

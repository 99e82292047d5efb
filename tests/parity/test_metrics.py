"""Hand-worked figures for every metric, and what must hold for all arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samevoice.parity import metrics as m
from samevoice.parity.task import compare_decisions

Array = npt.NDArray[Any]
TRUTH = np.array([[3.0, 4.0], [0.0, 2.0]])
GOT = np.array([[3.0, 5.0], [0.0, 0.0]])  # gaps 0, 1, 0, 2

GAPS = ("max_abs", "mean_abs", "rms", "p99")
SMALLER_IS_BETTER = (*GAPS, "nmse", "norm_ratio")
COSINES = ("cosine_min", "cosine_mean")


def figures(names: Sequence[str], truth: npt.ArrayLike, got: npt.ArrayLike) -> list[float]:
    pair = m.Pair(truth, got)
    return [getattr(pair, name) for name in names]


values = st.floats(-1e3, 1e3, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
shapes = hnp.array_shapes(max_dims=3, max_side=5)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array]:
    shape = draw(shapes)
    return tuple(draw(hnp.arrays(np.float64, shape, elements=values)) for _ in range(2))  # type: ignore[return-value]


def test_hand_worked_gaps() -> None:
    assert m.Pair(TRUTH, GOT).max_abs == 2.0
    assert m.Pair(TRUTH, GOT).mean_abs == 0.75
    assert m.rms(TRUTH, GOT) == pytest.approx(math.sqrt(5 / 4))
    assert m.Pair(TRUTH, GOT).nmse == pytest.approx(5 / 29)
    assert m.Pair(TRUTH, GOT).norm_ratio == pytest.approx(math.sqrt(34 / 29))
    assert m.Pair(TRUTH, GOT).p99 == pytest.approx(
        1 + 0.97
    )  # sorted 0 0 1 2, place 0.99 * 3 = 2.97


def test_hand_worked_cosines() -> None:
    rows = m.row_cosines(TRUTH, np.array([[4.0, 3.0], [0.0, 1.0]]))
    assert rows == pytest.approx([24 / 25, 1.0])
    found = m.Pair(TRUTH, np.array([[4.0, 3.0], [0.0, 1.0]]))
    assert found.cosine_min == pytest.approx(24 / 25)
    assert found.cosine_mean == pytest.approx(49 / 50)
    assert m.Pair(TRUTH, -TRUTH).cosine_min == -1.0
    assert figures(COSINES, np.float64(2.0), np.float64(-3.0)) == [-1.0, -1.0]


def test_zeros_follow_the_stated_conventions() -> None:
    zero, other = np.zeros(3), np.array([0.0, 1.0, 0.0])
    assert m.Pair(zero, zero).cosine_min == 1.0
    assert m.Pair(zero, other).cosine_min == m.Pair(other, zero).cosine_min == 0.0
    assert (m.Pair(zero, zero).nmse, m.Pair(zero, other).nmse) == (0.0, math.inf)
    assert (m.Pair(zero, zero).norm_ratio, m.Pair(zero, other).norm_ratio) == (1.0, math.inf)
    assert m.Pair(other, zero).norm_ratio == 0.0
    assert m.noise_ratio(zero, zero, zero) == 0.0
    assert m.noise_ratio(zero, zero, other) > 1e30
    # What a device may flush to zero is zero.
    assert m.Pair(zero, np.full(3, 1e-40)).nmse == 0.0
    assert m.noise_ratio(zero, zero, np.full(3, 1e-40)) < 1.0


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_nothing_holds_no_error(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    assert m.Pair(x, x).max_abs == m.Pair(x, x).mean_abs == m.rms(x, x) == m.Pair(x, x).p99 == 0.0
    assert m.Pair(x, x).nmse == m.noise_ratio(x, x, x) == 0.0
    assert m.Pair(x, x).norm_ratio == m.Pair(x, x).argmax_agreement == 1.0
    assert figures(COSINES, x, x) == [1.0, 1.0]
    assert m.Pair(x, x).worst is None
    assert sum(m.Pair(x, x).histogram) == 0


def test_a_scale_of_one_and_a_half_passes_cosine_and_nothing_else() -> None:
    truth = np.random.default_rng(0).normal(size=(8, 16))
    reference = truth.astype(np.float32)
    assert m.Pair(truth, 1.5 * truth).cosine_min == pytest.approx(1.0, abs=1e-12)
    assert m.Pair(truth, 1.5 * truth).norm_ratio == pytest.approx(1.5)
    assert m.Pair(truth, 1.5 * truth).nmse == pytest.approx(0.25)
    assert m.noise_ratio(truth, reference, 1.5 * reference) > 1e6


def test_noise_ratio_of_hand_worked_errors() -> None:
    truth = np.zeros(4) + 1.0
    reference, candidate = truth + 1e-3, truth - 2e-3
    assert m.noise_ratio(truth, reference, candidate) == pytest.approx(2.0)
    assert m.noise_ratio(truth, reference, reference) == 1.0


def test_an_exact_reference_leaves_the_rounding_of_float32() -> None:
    truth = np.random.default_rng(0).normal(size=100_000)
    floor = m.floor_of(m.root_mean_square(truth))
    assert floor == pytest.approx(2.0**-24 / math.sqrt(3), rel=0.01)
    assert m.noise_ratio(truth, truth, truth) == 0.0
    assert 0.5 < m.noise_ratio(truth, truth, truth.astype(np.float32)) <= 1.0
    assert m.noise_ratio(truth, truth, truth * 1.001) > 1000
    # As much for a layer that only copies float32 values.
    copied = truth.astype(np.float32)
    assert m.noise_ratio(copied, copied, copied) == 0.0
    assert m.noise_ratio(copied, copied, np.roll(copied, 1)) > 1000


def test_a_reference_that_is_not_finite_proves_nothing() -> None:
    truth = np.ones(3)
    broken = np.array([1.0, np.inf, 1.0])
    assert m.noise_ratio(truth, broken, truth) == math.inf
    assert m.noise_ratio(np.full(2, -1e308), np.full(2, 1e308), np.zeros(2)) == math.inf


def test_the_measured_floor_is_the_largest_of_valid_evaluations() -> None:
    truth = np.ones(4)
    evaluations = [truth + 1e-6, truth - 3e-6, truth]
    pair = m.Pair(truth, truth + 6e-6)
    assert m.measured_floor(pair, evaluations) == pytest.approx(3e-6)
    assert m.measured_floor(pair, [truth]) == m.floor_of(1.0)
    assert m.measured_floor(pair, [truth * np.nan]) == math.inf
    assert m.ratio_of(pair.rms, 3e-6, 1.0) == pytest.approx(2.0)
    assert m.ratio_of(pair.rms, math.inf, 1.0) == math.inf


def test_agreements_of_hand_worked_rows() -> None:
    a = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5], [0.3, 0.7]])
    b = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1], [0.2, 0.8]])
    assert m.Pair(a, b).argmax_agreement == 0.75  # of equals the first: row 2 agrees
    assert compare_decisions(a, b).agreement == 0.75
    assert compare_decisions(a, b, threshold=0.5).agreement == 5 / 8  # 0.5 is not above 0.5
    assert compare_decisions(a, a, threshold=0.5).agreement == 1.0


def test_bfloat16_and_its_kin_are_measured_in_float64() -> None:
    truth = np.array([1.0, 257.0])  # bfloat16 has no 257, and its neighbours are 256 and 258
    got = truth.astype(ml_dtypes.bfloat16)
    assert m.Pair(truth, got).max_abs == 1.0
    assert m.as_float64(got).dtype == np.float64
    # In float16 this gap would be infinite, in uint8 it would wrap around.
    half = np.array([6e4], np.float16)
    assert m.Pair(half, -half).max_abs == pytest.approx(1.2e5, rel=1e-3)
    assert m.Pair(np.array([1], np.uint8), np.array([2], np.uint8)).max_abs == 1.0
    assert m.Pair(np.array([True]), np.array([False])).max_abs == 1.0


@pytest.mark.parametrize("x", [np.array(["a"]), np.array([1j]), np.array([None]), b"ab"])
def test_what_has_no_distance_is_refused(x: Any) -> None:
    with pytest.raises(m.NotNumericError):
        m.Pair(x, x)


@pytest.mark.parametrize("shape", [(1, 4), (4,), (4, 1), ()])
def test_shapes_never_broadcast(shape: Any) -> None:
    with pytest.raises(m.ShapeMismatchError, match="never broadcast"):
        m.Pair(np.ones((4, 4)), np.ones(shape))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@settings(deadline=None)
@given(pair=pairs(), data=st.data())
def test_one_value_that_is_not_finite_is_infinitely_wrong(
    bad: float, pair: tuple[Array, Array], data: st.DataObject
) -> None:
    sides = [side.copy() for side in pair]
    spoiled = data.draw(st.sampled_from([(0,), (1,), (0, 1)]))
    at = data.draw(st.integers(0, pair[0].size - 1))
    for side in spoiled:
        sides[side].flat[at] = bad
    assert figures(SMALLER_IS_BETTER, *sides) == [math.inf] * 6
    assert figures(COSINES, *sides) == [-math.inf] * 2
    assert m.Pair(*sides).argmax_agreement == -math.inf
    assert compare_decisions(*sides, threshold=0.5).agreement == -math.inf
    assert m.noise_ratio(sides[0], pair[0], sides[1]) == math.inf
    worst = m.Pair(*sides).worst
    assert worst is not None
    assert worst == tuple(int(i) for i in np.unravel_index(at, pair[0].shape))
    assert sum(m.Pair(*sides).histogram) == pair[0].size


@settings(deadline=None)
@given(pairs())
def test_gaps_and_cosine_do_not_mind_who_is_who(pair: tuple[Array, Array]) -> None:
    names = (*GAPS, *COSINES, "argmax_agreement")
    assert figures(names, *pair) == figures(names, *pair[::-1])


@settings(deadline=None)
@given(pairs(), st.integers(-20, 20))
def test_scale_changes_gaps_in_proportion_and_ratios_not_at_all(
    pair: tuple[Array, Array], power: int
) -> None:
    scale = 2.0**power
    scaled = (pair[0] * scale, pair[1] * scale)
    for gap, before in zip(figures(GAPS, *scaled), figures(GAPS, *pair), strict=True):
        assert gap == pytest.approx(before * scale, rel=1e-12)
    ratios = ("nmse", "norm_ratio")
    assert figures(ratios, *scaled) == pytest.approx(figures(ratios, *pair), rel=1e-12)
    assert m.Pair(*scaled).cosine_min == pytest.approx(m.Pair(*pair).cosine_min, abs=1e-12)
    noise = [m.noise_ratio(t, t + t / 1024, g) for t, g in (pair, scaled)]
    assert noise[0] == pytest.approx(noise[1], rel=1e-12) or not pair[0].any()


@settings(deadline=None)
@given(pairs())
def test_gaps_are_ordered_and_vanish_only_for_equals(pair: tuple[Array, Array]) -> None:
    tiny = 1e-9
    assert m.Pair(*pair).mean_abs <= m.rms(*pair) * (1 + tiny)
    assert m.rms(*pair) <= m.Pair(*pair).max_abs * (1 + tiny)
    assert m.Pair(*pair).p99 <= m.Pair(*pair).max_abs
    assert (m.Pair(*pair).max_abs == 0.0) == bool(np.array_equal(*pair))
    assert figures(COSINES, pair[0], pair[0]) == [1.0, 1.0]
    assert -1.0 <= m.Pair(*pair).cosine_min <= m.Pair(*pair).cosine_mean + tiny <= 1.0 + 2 * tiny


@settings(deadline=None)
@given(pairs())
def test_the_histogram_counts_every_element_once(pair: tuple[Array, Array]) -> None:
    counts = m.Pair(*pair).histogram
    assert len(counts) == m.HISTOGRAM_BINS
    assert sum(counts) == pair[0].size
    assert counts[0] == np.count_nonzero(pair[0] == pair[1])


def test_the_histogram_is_exact_at_its_edges() -> None:
    edges = np.array(m.HISTOGRAM_EDGES)
    at, below = m.Pair(0 * edges, edges), m.Pair(0 * edges, np.nextafter(edges, 0))
    assert at.histogram == (0, 0, *[1] * len(edges))
    assert below.histogram == (0, *[1] * len(edges), 0)
    assert m.HISTOGRAM_EDGES[0] == pytest.approx(1e-12)
    assert m.HISTOGRAM_EDGES[-1] == pytest.approx(1e4)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
def test_extreme_scales_neither_overflow_nor_vanish(scale: float) -> None:
    truth, got = np.array([3.0, 4.0]) * scale, np.array([3.0, 5.0]) * scale
    assert m.rms(truth, got) == pytest.approx(math.sqrt(0.5) * scale)
    assert m.Pair(truth, got).max_abs == pytest.approx(scale)
    if scale > 1:  # smaller ones are zero by convention
        assert m.Pair(truth, got).cosine_min == pytest.approx(29 / math.sqrt(25 * 34))
        assert m.Pair(truth, got).nmse == pytest.approx(1 / 25)


def test_a_gap_too_large_for_float64_is_infinite() -> None:
    truth, got = np.array([-1e308] * 3), np.array([1e308] * 3)
    assert m.Pair(truth, got).max_abs == m.rms(truth, got) == m.Pair(truth, got).p99 == math.inf
    assert m.Pair(np.array([1e-30]), np.array([1e300])).nmse == math.inf


def test_the_worst_place_is_the_first_of_equals() -> None:
    assert m.Pair(TRUTH, GOT).worst == (1, 1)
    assert m.Pair(np.zeros((2, 2)), np.ones((2, 2))).worst == (0, 0)


def test_a_nan_that_signals_is_a_nan_without_a_word() -> None:
    """Whatever bits a damaged file holds; numpy warns of this kind."""
    signals = np.array([0x7FA00000], np.uint32).view(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(m.as_float64(signals)).all()

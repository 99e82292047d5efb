"""Numbers that say how far two arrays lie apart; what they may be is for limits.py to say.

Every figure follows the same four conventions.

* Arithmetic is float64, whatever comes in: integers, float16, bfloat16, float32.
* Shapes never broadcast: two shapes are one ``ShapeMismatchError``.
* NaN or infinity on either side, even the same on both, is infinitely wrong: ``inf`` where smaller
  is better, ``-inf`` where larger is better.
* An array without elements holds no error: gaps are 0, cosine, ratio and agreement are 1.

Zeros: two zero rows have cosine 1, a zero row and another have 0; NMSE and norm ratio against a
zero truth are 0 and 1 if the other is zero too, else infinite. For these a norm or RMS below the
smallest normal float32 counts as zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from samevoice.errors import SamevoiceError

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]

FLOAT32_ROUNDOFF = 2.0**-24
# Below the smallest normal float32, devices may flush to zero: nothing there is meaningful.
FLOAT32_TINY = 2.0**-126
# Uniform rounding of x errs by up to 2^-24 |x|, so its RMS is that over the root of three.
FLOAT32_NOISE = FLOAT32_ROUNDOFF / math.sqrt(3.0)

# Bins of |error|: exactly zero, below 1e-12, half decades up to 1e4, and everything above.
# What is not finite stands in the last one.
HISTOGRAM_EDGES: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-24, 9))
HISTOGRAM_BINS = len(HISTOGRAM_EDGES) + 2


class ShapeMismatchError(SamevoiceError):
    """Two arrays that should hold the same things have different shapes."""


class NotNumericError(SamevoiceError):
    """An array holds something that has no distance: complex numbers, text, objects."""


def as_float64(x: npt.ArrayLike) -> Floats:
    """The same values in float64; complex numbers, text and objects are refused."""
    array = np.asarray(x)
    if array.dtype == np.float64:
        return array
    if not is_numeric(array.dtype):
        raise NotNumericError(f"dtype {array.dtype} holds no real numbers: convert it to float32")
    # A long double too large for float64 becomes infinite; a NaN may be of the kind that signals.
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float64)


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Whether values of this type have a distance; bfloat16 and its kin included."""
    # Kind V is what numpy calls ml_dtypes' types and raw bytes alike: only the first can be cast.
    return dtype.kind in "biuf" or (dtype.kind == "V" and np.can_cast(dtype, np.float64))


def root_mean_square(x: npt.ArrayLike) -> float:
    """RMS of the values; safe from overflow and underflow of the squares."""
    values = as_float64(x).ravel()
    if values.size == 0:
        return 0.0
    return _norm(values) / math.sqrt(values.size)


def _norm(flat: Floats) -> float:
    """Euclidean norm of (N,): infinite if a value is NaN or infinite."""
    square = _square_sum(flat)
    if 1e-200 < square < 1e200:
        return math.sqrt(square)
    largest = _largest(flat)
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(_square_sum(flat / largest))


def _square_sum(flat: Floats) -> float:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return float(np.einsum("i,i->", flat, flat))


def _largest(flat: Floats) -> float:
    """Largest magnitude of (N,); NaN counts as infinite."""
    if flat.size == 0:
        return 0.0
    low, high = float(flat.min()), float(flat.max())
    return math.inf if math.isnan(low) or math.isnan(high) else max(high, -low)


class Pair:
    """What was hoped for and what came, in float64, with everything that is computed only once."""

    def __init__(self, truth: npt.ArrayLike, got: npt.ArrayLike) -> None:
        self.truth, self.got = as_float64(truth), as_float64(got)
        if self.truth.shape != self.got.shape:
            raise ShapeMismatchError(
                f"shapes {self.truth.shape} and {self.got.shape} differ: shapes never broadcast"
            )

    @cached_property
    def finite(self) -> bool:
        return bool(np.isfinite(self.truth).all() and np.isfinite(self.got).all())

    @cached_property
    def gap(self) -> Floats:
        """|got - truth|, flat; only meaningful if both are finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            gap = np.subtract(self.got, self.truth).ravel()
        return np.abs(gap, out=gap)

    @cached_property
    def rms(self) -> float:
        if not self.finite:
            return math.inf
        return root_mean_square(self.gap)

    @cached_property
    def truth_rms(self) -> float:
        return root_mean_square(self.truth)

    @cached_property
    def row_cosines(self) -> Floats:
        """(..., D) -> the cosine of each row of D; -inf for all if anything is not finite."""
        truth, got = _rows(self.truth), _rows(self.got)
        if not self.finite:
            return np.full(len(truth), -math.inf)
        truth, truth_scale = _tamed(truth)
        got, got_scale = _tamed(got)
        tt = np.einsum("nd,nd->n", truth, truth)
        gg = np.einsum("nd,nd->n", got, got)
        zero_t = np.sqrt(tt) * truth_scale < FLOAT32_TINY
        zero_g = np.sqrt(gg) * got_scale < FLOAT32_TINY
        with np.errstate(invalid="ignore", divide="ignore"):
            # The root of the product, not the product of roots: equal rows give exactly 1.
            cosines = np.einsum("nd,nd->n", truth, got) / np.sqrt(tt * gg)
        cosines = np.where(zero_t | zero_g, (zero_t & zero_g).astype(np.float64), cosines)
        clipped: Floats = np.clip(cosines, -1.0, 1.0)
        return clipped

    @property
    def cosine_min(self) -> float:
        return float(self.row_cosines.min(initial=1.0))

    @property
    def cosine_mean(self) -> float:
        return float(self.row_cosines.mean()) if self.row_cosines.size else 1.0

    @property
    def max_abs(self) -> float:
        """Largest elementwise gap; a NaN on either side is an infinite gap."""
        return _largest(self.gap) if self.finite else math.inf

    @property
    def mean_abs(self) -> float:
        if not self.finite:
            return math.inf
        with np.errstate(over="ignore"):
            return float(self.gap.mean()) if self.gap.size else 0.0

    @property
    def p99(self) -> float:
        """The gap that 99 % of the elements stay below, interpolated between neighbours."""
        if not self.finite:
            return math.inf
        if self.gap.size == 0:
            return 0.0
        with np.errstate(invalid="ignore"):
            p99 = float(np.percentile(self.gap, 99))
        return math.inf if math.isnan(p99) else p99  # between two infinite gaps numpy says NaN

    @property
    def nmse(self) -> float:
        """Energy of the error over energy of the truth."""
        if not self.finite:
            return math.inf
        relative = _quotient(self.rms, self.truth_rms, both_zero=0.0)
        return relative * relative

    @property
    def norm_ratio(self) -> float:
        """|got| / |truth|: 1.5 where all came out half as large again, which cosine misses."""
        if not self.finite:
            return math.inf
        return _quotient(root_mean_square(self.got), self.truth_rms, both_zero=1.0)

    @property
    def argmax_agreement(self) -> float:
        """Share of rows with the same largest entry; of equals the first counts."""
        if not self.finite:
            return -math.inf
        truth, got = _rows(self.truth), _rows(self.got)
        return float(np.mean(truth.argmax(axis=1) == got.argmax(axis=1))) if truth.size else 1.0

    @property
    def histogram(self) -> tuple[int, ...]:
        """How many |errors| lie in each bin; see HISTOGRAM_EDGES."""
        finite = np.isfinite(self.gap)
        counts = _histogram(self.gap if finite.all() else self.gap[finite])
        counts[-1] += self.gap.size - int(counts.sum())
        return tuple(int(n) for n in counts)

    @property
    def worst(self) -> tuple[int, ...] | None:
        """Where the largest gap is, the first that is not finite before all; None without any."""
        if self.gap.size == 0:
            return None
        if self.finite:
            at = int(self.gap.argmax())
        else:
            at = int((~(np.isfinite(self.truth) & np.isfinite(self.got))).argmax())
        return tuple(int(i) for i in np.unravel_index(at, self.truth.shape))


def _histogram(gap: Floats) -> npt.NDArray[np.int64]:
    # A search among the edges is exact but slow, a float32 logarithm the other way round: so the
    # logarithm finds the bin, and the search settles what lies close to an edge.
    with np.errstate(divide="ignore", under="ignore", over="ignore"):
        place = np.log10(gap.astype(np.float32))
    place = np.clip(place * 2 + 24, -1.0, len(HISTOGRAM_EDGES) - 1.0)
    bins = np.floor(place).astype(np.int64) + 2
    unsure = np.flatnonzero(np.abs(place - np.rint(place)) < 1e-3)
    bins[unsure] = np.searchsorted(np.asarray(HISTOGRAM_EDGES), gap[unsure], side="right") + 1
    bins[gap == 0.0] = 0
    return np.bincount(bins, minlength=HISTOGRAM_BINS).astype(np.int64)


def _quotient(over: float, under: float, *, both_zero: float) -> float:
    if under < FLOAT32_TINY:
        return both_zero if over < FLOAT32_TINY else math.inf
    return over / under


def _rows(x: Floats) -> Floats:
    """(..., D) -> (N, D); a scalar is one row of one."""
    if x.ndim == 0:
        return x.reshape(1, 1)
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _tamed(x: Floats) -> tuple[Floats, float]:
    """x over a power of two, and that power, so that fourth powers neither overflow nor vanish."""
    largest = _largest(x.ravel())
    if largest == 0.0 or 1e-30 < largest < 1e60:
        return x, 1.0
    scale = math.ldexp(1.0, min(math.frexp(largest)[1], 1023))
    return x / scale, scale


def rms(truth: npt.ArrayLike, got: npt.ArrayLike) -> float:
    """Root of the mean squared gap."""
    return Pair(truth, got).rms


def row_cosines(truth: npt.ArrayLike, got: npt.ArrayLike) -> Floats:
    """(..., D), (..., D) -> (N,): cosine of each row of D."""
    return Pair(truth, got).row_cosines


def floor_of(truth_rms: float) -> float:
    """RMS error that storing the truth in float32 costs: RMS of truth times 2^-24 / sqrt(3).

    At least the smallest normal float32, below which devices flush to zero.
    """
    return max(truth_rms * FLOAT32_NOISE, FLOAT32_TINY)


def noise_ratio(truth: npt.ArrayLike, reference: npt.ArrayLike, candidate: npt.ArrayLike) -> float:
    """RMS error of the candidate over RMS error of the reference, both against the truth."""
    ours, theirs = Pair(truth, candidate), Pair(truth, reference)
    return ratio_of(ours.rms, theirs.rms, theirs.truth_rms)


def ratio_of(candidate_rms: float, reference_rms: float, truth_rms: float) -> float:
    """The noise ratio from the RMS errors of both and the RMS of the truth.

    The reference's error counts as no less than ``floor_of`` the truth: a reference that happens
    to be exact leaves the candidate the rounding of float32, and one that is wrong still gets
    thousands. Nothing divides by zero. A reference that is not finite proves nothing: infinite.
    """
    if not (math.isfinite(candidate_rms) and math.isfinite(reference_rms)):
        return math.inf
    return candidate_rms / max(reference_rms, floor_of(truth_rms))


def measured_floor(pair: Pair, evaluations: Iterable[npt.ArrayLike]) -> float:
    """The largest RMS error among equally valid evaluations of the pair's truth.

    What PyTorch does to itself, over threads, batch orders and memory layouts; never less than
    the rounding of float32. Infinite if one of them is not finite.
    """
    return max([floor_of(pair.truth_rms), *(rms(pair.truth, one) for one in evaluations)])

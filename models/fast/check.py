"""A fast form held against the plain one that it stands for, both against the truth in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from samevoice.models.layers import as_float64

# The LSTM kernel's arithmetic in numpy measured 0.2 to 1.2 over 1 to 256 units, three types and two
# to five seeds; with the rows of Wh moved on by one 30 in bfloat16, 300 in float16, a million in
# float32.
LIMIT = 4.0
ROUNDING = 2.0**-24 / math.sqrt(3)  # what rounding to float32 alone errs by, RMS
TINY = 2.0**-126  # the smallest normal float32


@dataclass(frozen=True)
class CheckResult:
    """RMS errors: the fast form's over the plain one's, and the plain one's over the truth's RMS.

    ``fault`` says why the fast form must not be used, or nothing.
    """

    ratio: float
    plain: float
    fault: str = ""


def check(
    truth: np.ndarray, plain: Callable[[], mx.array], fast: Callable[[], mx.array]
) -> CheckResult:
    """Run both. Never one against the other alone: on a GPU the plain form may round to TF32."""
    known, loudness = _rms(as_float64(plain()) - truth), _rms(truth)
    relative = known / max(loudness, TINY)
    try:
        found = as_float64(fast())
    except Exception as error:  # whatever a compiler or a driver says
        return CheckResult(math.inf, relative, first_line(error))
    if found.shape != truth.shape:
        return CheckResult(math.inf, relative, f"it gave {found.shape} instead of {truth.shape}")
    if not np.isfinite(found).all():
        return CheckResult(math.inf, relative, "it gave values that are no finite numbers")
    ratio = _rms(found - truth) / max(known, loudness * ROUNDING, TINY)
    fault = "" if ratio <= LIMIT else f"it errs {ratio:.2g} times as much as the plain graph"
    return CheckResult(ratio, relative, fault)


def _rms(x: np.ndarray) -> float:
    """The root of the mean square, infinite where a value is not finite."""
    return float(np.sqrt(np.square(x).mean())) if np.isfinite(x).all() else math.inf


def first_line(error: Exception) -> str:
    """An error's kind and the first line of its message."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:200].removesuffix(": ")

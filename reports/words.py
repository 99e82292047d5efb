"""Figures and limits in words, which never round to more than is true."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from samevoice.parity.judge import TapVerdict
from samevoice.parity.limits import Limits

UNSAID = "–"


def number(value: float, digits: int = 3) -> str:
    """A figure for people: 3 digits, powers of ten where they are shorter."""
    if math.isnan(value):
        return UNSAID
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    small, large = 10.0 ** -max(2, digits - 3), 10.0 ** max(4, digits)
    if not small <= abs(value) < large:
        return f"{value:.2e}"
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def ratio(value: float) -> str:
    """A noise ratio: two decimals where it is about 1, so that a column of them lines up."""
    if value == 0.0 or not 0.01 <= value < 1e5:
        return number(value)
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def times(value: float) -> str:
    return f"{ratio(value)}×"


def percent(share: float) -> str:
    """A share of one; what is not all of it never rounds to 100 %."""
    if not math.isfinite(share):
        return UNSAID
    if share in (0.0, 1.0):
        return f"{100 * share:.0f} %"
    for digits in (0, 1, 2, 3, 4, 6):
        said = float(f"{100 * share:.{digits}f}")
        if said not in (0.0, 100.0) and (digits >= 2 or said == 100 * share):
            return f"{said:.{digits}f} %"
    return f"almost {100 * share:.0f} %"


def cosine(value: float) -> str:
    """A cosine whose distance from 1 is not rounded away."""
    gap = 1.0 - value
    if abs(gap) < 1e-14:
        return "1"  # float64's own rounding
    return f"1−{gap:.0e}" if 0.0 < gap < 1e-4 else number(value, 6)


def shape(sizes: Iterable[int]) -> str:
    return "×".join(str(n) for n in sizes) or "scalar"


def counted(value: Any) -> str:
    return f"{value:,}" if type(value) is int else UNSAID


def several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def bound_of(limits: Limits, tap: TapVerdict, metric: str = "noise_ratio") -> float | None:
    limit = tap.held(limits).get(metric)
    return None if limit is None or not math.isfinite(limit.bound) else limit.bound


def limit_words(limits: Limits, tap: TapVerdict) -> str:
    """Every limit that holds at a tap, short: the noise ratio's bound bare, others by name."""
    held = tap.held(limits)
    bounds = {name: one.bound for name, one in held.items()}
    first = bounds.pop("noise_ratio", None)
    words = [] if first is None else [number(first)]
    words += [f"{name} {bound:g}" for name, bound in bounds.items()]
    return ", ".join(words) or UNSAID

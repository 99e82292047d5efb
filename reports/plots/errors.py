"""How large the errors are, and MLX's outputs over PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.parity.judge import TapVerdict
from samevoice.parity.metrics import HISTOGRAM_BINS, HISTOGRAM_EDGES
from samevoice.parity.result import Result
from samevoice.reports.canvas import (
    NothingToDrawError,
    dots,
    drawing,
    figure_of,
    label,
    legend_above,
)
from samevoice.reports.details import mapping, sequence
from samevoice.reports.style import MLX, MUTED, TORCH, WRONG
from samevoice.reports.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 1200  # of a cloud: more are thinned, the worst kept


@drawing("histogram", "Size of the errors")
def histogram(result: Result) -> tuple[Figure, str, str]:
    """How large the errors are, at the output and where it first went wrong."""
    outputs = [tap for tap in result.taps if tap.output and any(tap.histogram)]
    chosen = outputs or [tap for tap in result.taps if any(tap.histogram)]
    if not chosen:
        raise NothingToDrawError("no error was measured")
    if all(tap.max_abs == 0.0 for tap in chosen):
        raise NothingToDrawError("every value is exact: there is no error to show")
    where = "the output, all inputs together" if outputs else "all taps together"
    shares = _shares(chosen)
    error = _typical(tap.reference_rms for tap in chosen)
    figure = figure_of(2.9)
    _draw_bars(figure.subplots(), result, shares, error, where)
    count = sum(sum(tap.histogram) for tap in chosen)
    top = int(np.argmax(shares))
    return (
        figure,
        f"Errors of {count:,} values at {where}, against float64. Look at where the hill ends: a "
        "correct port has hardly anything to the right of PyTorch's own RMS error, which the "
        "largest errors make; a hill beyond it, or bars at the far right, are values that are "
        "simply wrong.",
        f"Histogram of absolute errors of {count:,} values: most, {shares[top]:.0f} %, lie "
        f"{_bin_words(top)}. PyTorch's RMS error is {number(error)}.",
    )


def _draw_bars(axes: Axes, result: Result, shares: Any, error: float, where: str) -> None:
    axes.bar(range(HISTOGRAM_BINS), shares, width=0.86, color=MLX, label=f"MLX at {where}")
    used = list(shares)
    first = next((tap for tap in result.verdict.failed if any(tap.histogram)), None)
    if first is not None:
        used += list(_shares([first]))
        if not first.output:
            edges = np.arange(HISTOGRAM_BINS + 1) - 0.5
            said = f"MLX at {label(first.label, 50)}"
            axes.stairs(_shares([first]), edges, color=WRONG, lw=1.4, label=said)
    if error > 0:
        axes.axvline(_bin_place(error), color=TORCH, ls="--", label="PyTorch's RMS error")
    axes.set_xticks(*_decades())
    axes.set_xlabel("absolute error of a value, in the output's unit, half decades")
    axes.set_ylabel("share of values, %")
    axes.grid(visible=False, axis="x")
    axes.set_xlim(*_filled(used, _bin_place(error)))
    legend_above(axes, ncols=3)


def _shares(taps: Sequence[TapVerdict]) -> Any:
    counts = np.sum([tap.histogram for tap in taps], axis=0, dtype=np.float64)
    return 100.0 * counts / max(counts.sum(), 1.0)


def _typical(errors: Iterable[float]) -> float:
    finite = [x for x in errors if math.isfinite(x)]
    return math.sqrt(sum(x * x for x in finite) / len(finite)) if finite else 0.0


def _bin_place(error: float) -> float:
    """Where an error lies on the axis of bins: bin 2 begins at 1e-12."""
    place = 1.5 + 2.0 * (math.log10(max(error, 1e-13)) + 12.0)
    return float(np.clip(place, 0.0, HISTOGRAM_BINS - 1.0))


def _decades() -> tuple[list[float], list[str]]:
    places = [0.0, *(_bin_place(10.0**k) for k in range(-12, 5, 2)), HISTOGRAM_BINS - 1.0]
    labels = ["exact", *(f"1e{k}" for k in range(-12, 3, 2)), "", "more,\nor NaN"]
    return places, labels


def _filled(shares: Sequence[float], place: float) -> tuple[float, float]:
    used = [k % HISTOGRAM_BINS for k, share in enumerate(shares) if share > 0]
    low, high = min([*used, place]), max([*used, place])
    return max(low - 2.5, -0.7), min(max(high + 2.5, low + 12), HISTOGRAM_BINS - 0.3)


def _bin_words(k: int) -> str:
    if k == 0:
        return "at exactly zero"
    if k == 1:
        return f"below {HISTOGRAM_EDGES[0]:.0e}"
    if k == HISTOGRAM_BINS - 1:
        return f"above {HISTOGRAM_EDGES[-1]:.0e}, or are not finite"
    return f"between {HISTOGRAM_EDGES[k - 2]:.1e} and {HISTOGRAM_EDGES[k - 1]:.1e}"


@drawing("scatter", "PyTorch against MLX")
def scatter(result: Result) -> tuple[Figure, str, str]:
    """Values of both frameworks against each other, and their difference."""
    pairs = [
        (float(pair[0]), float(pair[1]))
        for one in mapping(result.details.get("scatter")).values()
        for pair in sequence(one)
    ]
    finite = np.array([pair for pair in pairs if all(map(math.isfinite, pair))]).reshape(-1, 2)
    if not len(finite):
        raise NothingToDrawError("the result holds no samples of its outputs")
    gap = np.abs(finite[:, 1] - finite[:, 0])
    worst = finite[np.argsort(-gap, kind="stable")[:20]]
    x, y = np.concatenate([finite[:: -(-len(finite) // POINTS)], worst]).T
    figure = figure_of(3.1)
    left, right = figure.subplots(1, 2)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    left.plot([low, high], [low, high], color=MUTED, lw=0.8)
    right.axhline(0.0, color=MUTED, lw=0.8)
    _cloud(left, x, y, "Value by value", "MLX")
    _cloud(right, x, y - x, "Their difference", "MLX − PyTorch")
    lost = len(pairs) - len(finite)
    note = f" {lost} samples that are not finite are left out." if lost else ""
    return (
        figure,
        f"{len(x):,} values of the output, in the output's own unit, the furthest apart "
        "included. At the left all points must lie on the line. At the right look for a shape: "
        f"noise is a cloud around zero; a slope is a wrong scale, an offset a lost bias.{note}",
        f"Two scatter plots of {len(x):,} output values: MLX over PyTorch, and their difference, "
        f"which is at most {number(float(gap.max()))}.",
    )


def _cloud(axes: Axes, x: Any, y: Any, title: str, what: str) -> None:
    dots(axes, x, y, MLX)
    axes.autoscale_view()
    for values, limits in ((x, axes.set_xlim), (y, axes.set_ylim)):
        low, high = float(np.min(values)), float(np.max(values))
        margin = 0.05 * (high - low) or max(abs(high) * 0.1, 1e-9)
        limits(low - margin, high + margin)
    axes.set_title(title)
    axes.set_xlabel("PyTorch float32")
    axes.set_ylabel(what)

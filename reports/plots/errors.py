"""How large the errors are: tap by tap, value by value, and MLX's outputs over PyTorch's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

# Before matplotlib itself: it says what to install where there is none.
from samevoice.reports.canvas import (  # isort: split
    NothingToDrawError,
    dots,
    drawing,
    figure_of,
    label,
    legend_above,
    rows_of,
)

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from samevoice.parity.judge import TapVerdict
from samevoice.parity.metrics import FLOAT32_TINY, HISTOGRAM_BINS, HISTOGRAM_EDGES, floor_of
from samevoice.parity.result import Result
from samevoice.reports.details import mapping, sequence
from samevoice.reports.style import LIMIT, LINES, MLX, MUTED, PALETTE, TORCH, WRONG
from samevoice.reports.text import visible
from samevoice.reports.view import View
from samevoice.reports.words import bound_of, number

MOST_MODULES = 16  # named under a plot whose taps are too many
NAMED = 48  # taps whose names fit under a plot
POINTS = 1200  # of a line: more are thinned, the worst kept
TITLES = {
    "free": "Free-running: errors add up from the input on",
    "forced": "Teacher-forced: each layer alone, on PyTorch's own input",
}


@drawing("ladder", "Error ladder")
def ladder(result: Result) -> tuple[Figure, str, str]:
    """Each tap from waveform to output: both frameworks' error against float64."""
    name = _shown_input(result)
    taps = [tap for tap in result.taps if tap.input == name]
    if not taps:
        raise NothingToDrawError("no tap was compared")
    if all(tap.max_abs == 0.0 and tap.reference_max_abs == 0.0 for tap in taps):
        raise NothingToDrawError("every value is exact: there is no error to show")
    names = list(dict.fromkeys(tap.name for tap in taps))
    modes = [mode for mode in TITLES if any(tap.mode == mode for tap in taps)]
    figure, rows = rows_of(len(modes), 2.5, _room_for(names), sharex=True)
    for axes, mode in zip(rows, modes, strict=True):
        _draw_ladder(axes, result, {tap.name: tap for tap in taps if tap.mode == mode}, names)
        axes.set_title(TITLES[mode])
        axes.set_ylabel("RMS error / RMS of truth")
    _name_taps(rows[-1], names)
    pairs = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in rows)
    labelled = {said: handle for found in pairs for handle, said in found}
    legend_above(rows[0], 1.16, handles=labelled.values(), ncols=4, columnspacing=1.4)
    where = f" on the input {visible(name)!r}" if name else ""
    first = result.first_divergence
    marked = f" The first divergence, at {visible(first)}, is marked." if first else ""
    return (
        figure,
        f"Relative error against float64 at each tap{where}, from the waveform at the left to the "
        "output at the right. Look for the place where MLX leaves PyTorch and crosses the dashed "
        "limit: a correct port stays with PyTorch all the way, a wrong one jumps by powers of ten "
        f"at the layer that is wrong. A gap in a line is a tap without any error.{marked}",
        f"Line plot of {len(names)} taps{where}: relative RMS error of PyTorch float32 and MLX "
        f"on a logarithmic scale. {_in_words(taps)}{marked}",
    )


def _shown_input(result: Result) -> str:
    """Where it went wrong first, else the input that was looked at most closely."""
    counts = Counter(tap.input for tap in result.taps)
    if failed := result.verdict.failed:
        return next((tap.input for tap in failed if counts[tap.input] > 2), failed[0].input)
    return max(counts, key=lambda name: counts[name], default="")


def _in_words(taps: Sequence[TapVerdict]) -> str:
    failed = [tap for tap in taps if not tap.passed]
    if failed:
        count = f"{len(failed)} of these figures break" if len(failed) > 1 else "One figure breaks"
        return f"{count} the limit, first {visible(failed[0].label)}."
    worst = max(taps, key=lambda tap: tap.judged_ratio)
    return (
        f"Both lines lie together: MLX's error is at most {number(worst.judged_ratio)} times "
        f"PyTorch's, at {visible(worst.label)}."
    )


# Each line of a plot, in the order of ``_heights``: name, colour, stroke, marker, width.
LADDER_LINES = (
    ("limit", LIMIT, "--", "", 1.0),
    ("PyTorch float32", TORCH, "-", "s", 1.3),
    ("MLX", MLX, "-", "o", 1.3),
)


def _heights(result: Result, tap: TapVerdict) -> list[float]:
    """What its limit allows and both errors, relative to the scale of the truth."""
    bound, unit = bound_of(result.limits, tap), max(tap.reference_rms, floor_of(tap.truth_rms))
    if tap.times_floor is not None:
        unit = max(unit, tap.noise_floor)
    allowed = math.nan if bound is None else bound * unit
    return [_relative(x, tap.truth_rms) for x in (allowed, tap.reference_rms, tap.rms)]


def _relative(error: float, scale: float) -> float:
    if scale < FLOAT32_TINY:
        return 0.0 if error < FLOAT32_TINY else math.inf
    return error / scale if math.isfinite(scale) else math.inf


def _draw_ladder(
    axes: Axes, result: Result, taps: Mapping[str, TapVerdict], names: Sequence[str]
) -> None:
    """Each tap at the place of its name."""
    places = [k for k, name in enumerate(names) if name in taps]
    found = [taps[names[k]] for k in places]
    xs, heights = np.array(places, float), np.array([_heights(result, tap) for tap in found])
    low, high = _logarithmic(axes, heights.flat)
    axes.set_xlim(-0.7, max(len(names) - 0.3, 1.0))
    for values, (said, colour, line, marker, width) in zip(heights.T, LADDER_LINES, strict=True):
        ys = np.where(values > 0, values, math.nan)  # an exact value has no height
        at, kept = thinned(xs, np.clip(ys, low, high))
        shown = marker if len(at) <= 80 else ""
        axes.plot(at, kept, line, color=colour, marker=shown, label=said, lw=width)
    wrong = np.array([not tap.passed for tap in found])
    if wrong.any():
        ys = np.clip(np.nan_to_num(heights[wrong, 2], nan=high), low, high)
        at, ys = thinned(xs[wrong], ys)
        axes.plot(at, ys, "X", color=WRONG, ms=5.5, mew=0, label="breaks its limit")
    first = result.first_divergence
    if first is not None and first in names:
        _mark_first(axes, names.index(first), len(names), first)


def _mark_first(axes: Axes, x: int, count: int, name: str) -> None:
    left = x > count / 2
    axes.axvline(x, color=WRONG, lw=1.0, zorder=1.5)
    axes.annotate(
        f"first divergence: {label(name, 40)}",
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, -2),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        color=WRONG,
        fontsize=7.5,
    )


def thinned(xs: Any, ys: Any) -> tuple[Any, Any]:
    """At most ``POINTS`` points: of neighbours the largest stays."""
    if len(xs) <= POINTS:
        return xs, ys
    groups = np.array_split(np.arange(len(xs)), POINTS)
    kept = [group[int(np.argmax(np.nan_to_num(ys[group], nan=-math.inf)))] for group in groups]
    return xs[kept], ys[kept]


def _logarithmic(axes: Axes, values: Iterable[float]) -> tuple[float, float]:
    """Decades around what can be shown; infinities lie on the upper edge."""
    shown = [value for value in values if math.isfinite(value) and value > 1e-30]
    low = 10.0 ** (math.floor(math.log10(min(shown, default=1e-9))) - 0.3)
    high = 10.0 ** (math.ceil(math.log10(max(shown, default=1e-6))) + 0.8)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"1e{round(math.log10(y))}"))
    axes.grid(visible=False, axis="x")
    return low, high


# Names under a plot -------------------------------------------------------------------------------


def _room_for(names: Sequence[str]) -> float:
    return 0.9 if len(names) <= NAMED else 0.35


def _name_taps(axes: Axes, names: Sequence[str]) -> None:
    """Names under a plot; where they are too many, those of the modules they belong to."""
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), [label(x) for x in names], rotation=90)
        axes.tick_params(axis="x", labelsize=6.0, length=2)
        return
    spans = _modules(names)
    axes.set_xticks([start - 0.5 for start, _, _ in spans[1:]], [""] * (len(spans) - 1))
    for start, end, name in spans:
        if end - start >= len(names) / 40 or 0 in (start, len(names) - end):
            axes.text(
                (start + end - 1) / 2,
                -0.04,
                label(name),
                rotation=30,
                ha="right",
                va="top",
                fontsize=6.5,
                color=MUTED,
                transform=axes.get_xaxis_transform(),
                rotation_mode="anchor",
            )


def _modules(names: Sequence[str]) -> list[tuple[int, int, str]]:
    """(start, end, name) of runs of taps in one module, as deep as ``MOST_MODULES`` runs allow."""
    found = [(0, len(names), "taps")]
    for depth in range(1, 5):
        prefixes = [".".join(name.split(".")[:depth]) for name in names]
        runs, at = [], 0
        for prefix, group in groupby(prefixes):
            size = len(list(group))
            runs.append((at, at + size, prefix))
            at += size
        if len(runs) > MOST_MODULES:
            break
        found = runs
    return found


# Several results ----------------------------------------------------------------------------------


@drawing("comparison", "Noise ratio by tap")
def comparison(views: Sequence[View]) -> tuple[Figure, str, str]:
    """Several results over the taps that they share: noise ratio by tap."""
    tables = [_worst_by_name(one.result) for one in views]
    counts = Counter(name for table in tables for name in table)
    names = [name for name, count in counts.items() if count > 1]
    if not names:
        raise NothingToDrawError("these results share no tap")
    figure = figure_of(3.2 + _room_for(names))
    axes = figure.subplots()
    low, high = _logarithmic(axes, (table[x] for table in tables for x in names if x in table))
    for k, (one, table) in enumerate(zip(views, tables, strict=True)):
        ys = np.clip([table.get(name, math.nan) for name in names], low, high)
        xs, kept = thinned(np.arange(len(names), dtype=np.float64), ys)
        colour, line = PALETTE[k % len(PALETTE)], LINES[k // len(PALETTE) % len(LINES)]
        marker = "osD^vP*X"[k % 8] if len(xs) <= 80 else ""
        axes.plot(xs, kept, line, color=colour, marker=marker, label=label(one.name, 40))
    axes.axhline(1.0, color=MUTED, lw=0.8)
    axes.set_ylabel("noise ratio, worst of all inputs")
    _name_taps(axes, names)
    legend_above(axes, ncols=3)
    said = ", ".join(visible(one.name) for one in views)
    return (
        figure,
        "Each port's error as a multiple of PyTorch's own float32 error, worst of all inputs, at "
        "each tap that the results share. Look for the tap where one line leaves the others. A "
        "correct float32 port stays about 1; coarser types lie higher, but as one flat band.",
        f"Line plot of the noise ratio at {len(names)} taps, on a logarithmic scale, for {said}.",
    )


def _worst_by_name(result: Result) -> dict[str, float]:
    worst: dict[str, float] = {}
    for tap in result.taps:
        worst[tap.name] = max(worst.get(tap.name, 0.0), tap.judged_ratio)
    return worst


# Values -------------------------------------------------------------------------------------------


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

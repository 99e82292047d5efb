"""Pictures of a result, as SVG: what to look for stands in each one's caption.

Every function takes a result and gives one ``Plot``, or raises ``NothingToDrawError`` with the
reason. The same result always gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

# Before matplotlib itself: it says what to install where there is none.
from samevoice.reports.canvas import Plot, figure_of, plot_of, styled  # isort: split

from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, MaxNLocator

from samevoice.errors import SamevoiceError
from samevoice.parity.judge import TapVerdict
from samevoice.parity.metrics import FLOAT32_TINY, HISTOGRAM_BINS, HISTOGRAM_EDGES, floor_of
from samevoice.parity.result import Result
from samevoice.reports.style import (
    GRID,
    INK,
    LIMIT,
    LINES,
    MLX,
    MUTED,
    PALETTE,
    SOFT,
    TORCH,
    WRONG,
)
from samevoice.reports.text import visible
from samevoice.reports.view import (
    View,
    bound_of,
    class_names,
    mapping,
    number,
    section,
    sequence,
    text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 48  # taps whose names fit under a plot
POINTS = 1200  # of a line or a cloud: more are thinned, the worst kept
ITEMS = 6  # recordings drawn in one plot
MOST_FRAMES = 10_000_000  # of one recording: two days
FEW = 34  # voices whose matrix still has names

Runs: TypeAlias = list[tuple[int, int]]


class NothingToDrawError(SamevoiceError):
    """This result does not hold what the plot shows."""


@dataclass(frozen=True)
class Undrawn:
    """A plot that there is no data for, or whose data are not what they should be."""

    key: str
    title: str
    why: str


def plots(result: Result) -> tuple[Plot | Undrawn, ...]:
    """All that this kind of result should show, in the order of the page."""
    return tuple(_tried(key, title, draw, result) for key, title, draw in _wanted(result))


def _wanted(result: Result) -> list[tuple[str, str, Callable[[Result], Plot]]]:
    chosen: list[tuple[str, str, Callable[[Result], Plot]]]
    chosen = [("ladder", "Error ladder", ladder), ("histogram", "Size of the errors", histogram)]
    if "scatter" in result.details:
        chosen.append(("scatter", "PyTorch against MLX", scatter))
    if "similarity" in result.task:
        chosen.append(("similarities", "Who sounds like whom", similarities))
    if "timelines" in result.details:
        chosen.append(("timelines", "Decisions over time", timelines))
    if "agreement" in result.task:
        chosen.append(("confusion", "Class confusion", confusion))
    if "diarization" in result.details:
        chosen.append(("diarizations", "Who speaks when", diarizations))
    return chosen


def _tried(key: str, title: str, draw: Callable[[Result], Plot], result: Result) -> Plot | Undrawn:
    try:
        return draw(result)
    except NothingToDrawError as error:
        return Undrawn(key, title, str(error))
    except Exception as error:
        # Details are free and decide nothing: whatever is wrong in them costs its picture only.
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return Undrawn(key, title, f"what the result holds for it cannot be drawn ({said})")


# The error ladder ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rung:
    """A tap's errors relative to the scale of the truth, and what its limit allows."""

    name: str
    reference: float
    candidate: float
    allowed: float
    passed: bool


@styled
def ladder(result: Result) -> Plot:
    """Each tap from waveform to output: both frameworks' error against float64."""
    name = _shown_input(result)
    taps = [tap for tap in result.taps if tap.input == name]
    if not taps:
        raise NothingToDrawError("no tap was compared")
    if all(tap.max_abs == 0.0 and tap.reference_max_abs == 0.0 for tap in taps):
        raise NothingToDrawError("every value is exact: there is no error to show")
    names = list(dict.fromkeys(tap.name for tap in taps))
    modes = [mode for mode in ("free", "forced") if any(tap.mode == mode for tap in taps)]
    figure = figure_of(2.5 * len(modes) + (0.9 if len(names) <= NAMED else 0.35))
    rows = figure.subplots(len(modes), 1, sharex=True, squeeze=False)[:, 0]
    titles = {
        "free": "Free-running: errors add up from the waveform on",
        "forced": "Teacher-forced: each layer alone, on PyTorch's own input",
    }
    for axes, mode in zip(rows, modes, strict=True):
        rungs = {tap.name: _rung(result, tap) for tap in taps if tap.mode == mode}
        _draw_rungs(axes, [rungs.get(one) for one in names], result.first_divergence, names)
        axes.set_title(titles[mode])
        axes.set_ylabel("RMS error / RMS of truth")
    _name_taps(rows[-1], names)
    labelled = {
        label: handle
        for axes in rows
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    rows[0].legend(
        labelled.values(),
        labelled,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.16),
        ncols=4,
        borderaxespad=0,
        columnspacing=1.4,
    )
    where = f" on the input {visible(name)!r}" if name else ""
    first = result.first_divergence
    marked = f" The first divergence, at {visible(first)}, is marked." if first else ""
    return plot_of(
        figure,
        "ladder",
        "Error ladder",
        f"Relative error against float64 at each tap{where}, waveform at the left, output at the "
        "right. Look for the place where MLX leaves PyTorch and crosses the dashed limit: a right "
        "port stays with PyTorch all the way, a wrong one jumps by powers of ten at the layer that "
        f"is wrong. A gap in a line is a tap without any error.{marked}",
        f"Line plot of {len(names)} taps{where}: relative RMS error of PyTorch float32 and MLX "
        f"on a logarithmic scale. {_ladder_in_words(taps)}{marked}",
    )


def _shown_input(result: Result) -> str:
    """Where it went wrong first, else the input that was looked at most closely."""
    if failed := result.verdict.failed:
        deep = [tap.input for tap in failed if _count(result, tap.input) > 2]
        return (deep or [failed[0].input])[0]
    inputs = dict.fromkeys(tap.input for tap in result.taps)
    return max(inputs, key=lambda name: _count(result, name), default="")


def _count(result: Result, name: str) -> int:
    return sum(tap.input == name for tap in result.taps)


def _rung(result: Result, tap: TapVerdict) -> Rung:
    bound, unit = bound_of(result.limits, tap), max(tap.reference_rms, floor_of(tap.truth_rms))
    if tap.times_floor is not None:
        unit = max(unit, tap.noise_floor)
    allowed = math.nan if bound is None else bound * unit
    reference, candidate, limit = (
        _relative(x, tap.truth_rms) for x in (tap.reference_rms, tap.rms, allowed)
    )
    return Rung(tap.name, reference, candidate, limit, tap.passed)


def _relative(error: float, scale: float) -> float:
    if scale < FLOAT32_TINY:
        return 0.0 if error < FLOAT32_TINY else math.inf
    return error / scale if math.isfinite(scale) else math.inf


def _draw_rungs(
    axes: Axes, rungs: Sequence[Rung | None], first: str | None, names: Sequence[str]
) -> None:
    found = [(x, rung) for x, rung in enumerate(rungs) if rung is not None]
    low, high = _log_range(y for _, r in found for y in (r.reference, r.candidate, r.allowed))
    _logarithmic(axes, low, high)
    axes.set_xlim(-0.7, max(len(names) - 0.3, 1.0))
    series = (
        ("limit", [r.allowed for _, r in found], LIMIT, "--", "", 1.0),
        ("PyTorch float32", [r.reference for _, r in found], TORCH, "-", "s", 1.3),
        ("MLX", [r.candidate for _, r in found], MLX, "-", "o", 1.3),
    )
    xs = np.array([x for x, _ in found], dtype=np.float64)
    for label, values, colour, line, marker, width in series:
        ys = np.array([x if x > 0 else math.nan for x in values])  # an exact value has no height
        ys = np.clip(ys, low, high)
        at, kept = _thinned(xs, ys)
        few = len(at) <= 80
        axes.plot(at, kept, line, color=colour, marker=marker if few else "", label=label, lw=width)
    wrong = [(x, r) for x, r in found if not r.passed]
    if wrong:
        at, ys = _thinned(
            np.array([x for x, _ in wrong], dtype=np.float64),
            np.clip(np.nan_to_num([r.candidate for _, r in wrong], nan=high), low, high),
        )
        axes.plot(at, ys, "X", color=WRONG, ms=5.5, mew=0, label="breaks its limit")
    if first is not None and first in names:
        _mark_first(axes, names.index(first), len(names), visible(first))


def _mark_first(axes: Axes, x: int, count: int, name: str) -> None:
    left = x > count / 2
    axes.axvline(x, color=WRONG, lw=1.0, zorder=1.5)
    axes.annotate(
        f"first divergence: {_short(name, 40)}",
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, -2),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        color=WRONG,
        fontsize=7.5,
    )


def _thinned(xs: Any, ys: Any) -> tuple[Any, Any]:
    """At most ``POINTS`` points: of neighbours the largest stays."""
    if len(xs) <= POINTS:
        return xs, ys
    groups = np.array_split(np.arange(len(xs)), POINTS)
    kept = [group[int(np.argmax(np.nan_to_num(ys[group], nan=-math.inf)))] for group in groups]
    return xs[kept], ys[kept]


def _log_range(values: Iterable[float]) -> tuple[float, float]:
    """Decades around what can be shown; infinities lie on the upper edge."""
    shown = [value for value in values if math.isfinite(value) and value > 1e-30]
    low, high = min(shown, default=1e-9), max(shown, default=1e-6)
    return 10.0 ** (math.floor(math.log10(low)) - 0.3), 10.0 ** (math.ceil(math.log10(high)) + 0.8)


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"1e{round(math.log10(y))}"))
    axes.grid(visible=False, axis="x")


def _name_taps(axes: Axes, names: Sequence[str]) -> None:
    """Names under a plot; where they are too many, those of the modules they belong to."""
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), [_short(visible(x)) for x in names], rotation=90)
        axes.tick_params(axis="x", labelsize=6.0, length=2)
        return
    spans = _modules(names)
    axes.set_xticks([start - 0.5 for start, _, _ in spans[1:]], [""] * (len(spans) - 1))
    for start, end, name in spans:
        if end - start >= len(names) / 40 or 0 in (start, len(names) - end):
            axes.text(
                (start + end - 1) / 2,
                -0.04,
                _short(visible(name)),
                rotation=30,
                ha="right",
                va="top",
                fontsize=6.5,
                color=MUTED,
                transform=axes.get_xaxis_transform(),
                rotation_mode="anchor",
            )


def _modules(names: Sequence[str], most: int = 16) -> list[tuple[int, int, str]]:
    """(start, end, name) of runs of taps in one module, as deep as ``most`` runs allow."""
    found = [(0, len(names), "taps")]
    for depth in range(1, 5):
        prefixes = [".".join(name.split(".")[:depth]) for name in names]
        runs, at = [], 0
        for prefix, group in groupby(prefixes):
            size = len(list(group))
            runs.append((at, at + size, prefix))
            at += size
        if len(runs) > most:
            break
        found = runs
    return found


def _ladder_in_words(taps: Sequence[TapVerdict]) -> str:
    failed = [tap for tap in taps if not tap.passed]
    if failed:
        count = f"{len(failed)} of these figures break" if len(failed) > 1 else "One figure breaks"
        return f"{count} the limit, first {visible(failed[0].label)}."
    worst = max(taps, key=lambda tap: tap.judged_ratio)
    return (
        f"Both lines lie together: MLX's error is at most {number(worst.judged_ratio)} times "
        f"PyTorch's, at {visible(worst.label)}."
    )


@styled
def comparison(views: Sequence[View]) -> Plot:
    """Several results over the taps that they share: noise ratio by tap."""
    names = _shared_names(views)
    if not names:
        raise NothingToDrawError("these results share no tap")
    figure = figure_of(3.2 + (0.9 if len(names) <= NAMED else 0.35))
    axes = figure.subplots()
    tables = [_worst_by_name(one.result) for one in views]
    low, high = _log_range(table[name] for table in tables for name in names if name in table)
    _logarithmic(axes, low, high)
    for k, (one, table) in enumerate(zip(views, tables, strict=True)):
        ys = np.array([table.get(name, math.nan) for name in names])
        xs, kept = _thinned(np.arange(len(names), dtype=np.float64), np.clip(ys, low, high))
        colour, line = PALETTE[k % len(PALETTE)], LINES[k // len(PALETTE) % len(LINES)]
        marker = "osD^vP*X"[k % 8] if len(xs) <= 80 else ""
        axes.plot(xs, kept, line, color=colour, marker=marker, label=_short(visible(one.name), 40))
    axes.axhline(1.0, color=MUTED, lw=0.8)
    axes.set_ylabel("noise ratio, worst of all inputs")
    _name_taps(axes, names)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=3, borderaxespad=0)
    said = ", ".join(visible(one.name) for one in views)
    return plot_of(
        figure,
        "comparison",
        "Noise ratio by tap",
        "How many times PyTorch's own float32 error each port makes, worst of all inputs, at each "
        "tap that the results share. Look for the tap where one line leaves the others. A right "
        "float32 port stays about 1; coarser types lie higher, but as one flat band.",
        f"Line plot of the noise ratio at {len(names)} taps, on a logarithmic scale, for {said}.",
    )


def _shared_names(views: Sequence[View]) -> list[str]:
    found: dict[str, int] = {}
    for one in views:
        for name in dict.fromkeys(tap.name for tap in one.result.taps):
            found[name] = found.get(name, 0) + 1
    return [name for name, count in found.items() if count > 1]


def _worst_by_name(result: Result) -> dict[str, float]:
    worst: dict[str, float] = {}
    for tap in result.taps:
        worst[tap.name] = max(worst.get(tap.name, 0.0), tap.judged_ratio)
    return worst


# Errors -------------------------------------------------------------------------------------------


@styled
def histogram(result: Result) -> Plot:
    """How large the errors are, at the output and where it first went wrong."""
    outputs = [tap for tap in result.taps if tap.output and any(tap.histogram)]
    chosen = outputs or [tap for tap in result.taps if any(tap.histogram)]
    if not chosen:
        raise NothingToDrawError("no error was measured")
    if all(tap.max_abs == 0.0 for tap in chosen):
        raise NothingToDrawError("every value is exact: there is no error to show")
    where = "the output, all inputs together" if outputs else "all taps together"
    shares = _shares(chosen)
    figure = figure_of(2.9)
    axes = figure.subplots()
    axes.bar(range(HISTOGRAM_BINS), shares, width=0.86, color=MLX, label=f"MLX at {where}")
    first = next((tap for tap in result.verdict.failed if any(tap.histogram)), None)
    if first is not None and not first.output:
        edges = np.arange(HISTOGRAM_BINS + 1) - 0.5
        label = f"MLX at {_short(visible(first.label), 50)}"
        axes.stairs(_shares([first]), edges, color=WRONG, lw=1.4, label=label)
    error = _typical(tap.reference_rms for tap in chosen)
    if error > 0:
        axes.axvline(_bin_place(error), color=TORCH, ls="--", label="PyTorch's RMS error")
    axes.set_xticks(*_decades())
    axes.set_xlabel("absolute error of a value, in the output's unit, half decades")
    axes.set_ylabel("share of values, %")
    axes.grid(visible=False, axis="x")
    axes.set_xlim(*_filled([*shares, *(_shares([first]) if first else [])], _bin_place(error)))
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=3, borderaxespad=0)
    count = sum(sum(tap.histogram) for tap in chosen)
    top = int(np.argmax(shares))
    return plot_of(
        figure,
        "histogram",
        "Size of the errors",
        f"Errors of {count:,} values at {where}, against float64. Look at where the hill ends: a "
        "right port's has hardly anything to the right of PyTorch's own RMS error, which the "
        "largest errors make; a hill beyond it, or bars at the far right, are values that are "
        "simply wrong.",
        f"Histogram of absolute errors of {count:,} values: most, {shares[top]:.0f} %, lie "
        f"{_bin_words(top)}. PyTorch's RMS error is {number(error)}.",
    )


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


# Outputs ------------------------------------------------------------------------------------------


@styled
def scatter(result: Result) -> Plot:
    """Values of both frameworks against each other, and their difference."""
    pairs = [
        (float(pair[0]), float(pair[1]))
        for one in mapping(result.details.get("scatter")).values()
        for pair in sequence(one)
    ]
    finite = np.array([pair for pair in pairs if all(map(math.isfinite, pair))]).reshape(-1, 2)
    if not len(finite):
        raise NothingToDrawError("the result holds no samples of its outputs")
    x, y = finite[:: -(-len(finite) // POINTS)].T
    gap = np.abs(finite[:, 1] - finite[:, 0])
    worst = finite[np.argsort(-gap, kind="stable")[:20]]
    x, y = np.concatenate([x, worst[:, 0]]), np.concatenate([y, worst[:, 1]])
    figure = figure_of(3.1)
    left, right = figure.subplots(1, 2)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    left.plot([low, high], [low, high], color=MUTED, lw=0.8)
    _cloud(left, x, y)
    left.set_title("Value by value")
    left.set_ylabel("MLX")
    right.axhline(0.0, color=MUTED, lw=0.8)
    _cloud(right, x, y - x)
    right.set_title("Their difference")
    right.set_ylabel("MLX − PyTorch")
    for axes in (left, right):
        axes.set_xlabel("PyTorch float32")
    lost = len(pairs) - len(finite)
    note = f" {lost} samples that are not finite are left out." if lost else ""
    return plot_of(
        figure,
        "scatter",
        "PyTorch against MLX",
        f"{len(x):,} values of the output, in the output's own unit, the furthest apart "
        "included. At the left all points must lie on the line. At the right look for a shape: "
        f"noise is a cloud around zero; a slope is a wrong scale, an offset a lost bias.{note}",
        f"Two scatter plots of {len(x):,} output values: MLX over PyTorch, and their difference, "
        f"which is at most {number(float(gap.max()))}.",
    )


def _cloud(axes: Axes, x: Any, y: Any) -> None:
    """Dots as one path of empty strokes with round ends: a tenth of the size of markers."""
    points = np.repeat(np.column_stack([x, y]), 2, axis=0)
    outline = Outline(points, [Outline.MOVETO, Outline.LINETO] * len(x))
    outline.should_simplify = False
    axes.add_patch(
        PathPatch(outline, edgecolor=MLX, facecolor="none", lw=2.2, capstyle="round", alpha=0.55)
    )
    axes.autoscale_view()
    for values, limits in ((x, axes.set_xlim), (y, axes.set_ylim)):
        low, high = float(np.min(values)), float(np.max(values))
        margin = 0.05 * (high - low) or max(abs(high) * 0.1, 1e-9)
        limits(low - margin, high + margin)


@styled
def similarities(result: Result) -> Plot:
    """Both frameworks' similarity matrices, and what became of them."""
    found = section(result, "similarity")
    if "reference" not in found or "candidate" not in found:
        raise NothingToDrawError("no voices were compared")
    both = [np.array(found[side], dtype=np.float64) for side in ("reference", "candidate")]
    if both[0].ndim != 2 or both[0].shape != both[1].shape or not both[0].size:
        raise NothingToDrawError("the similarity matrices do not fit each other")
    difference = both[1] - both[0]
    shown = [x[np.isfinite(x)] for x in (*both, difference)]
    low = float(min((x.min() for x in shown[:2] if x.size), default=-1.0))
    gap = float(np.abs(shown[2]).max()) if shown[2].size else 0.0
    figure = figure_of(2.75)
    titles = ("PyTorch", "MLX", "MLX − PyTorch")
    for axes, title, table in zip(figure.subplots(1, 3), titles, (*both, difference), strict=True):
        third = title == titles[2]
        image = axes.imshow(
            table,
            cmap="PuOr" if third else "cividis",
            vmin=-(gap or 1e-9) if third else low,
            vmax=(gap or 1e-9) if third else 1.0,
            interpolation="none",
        )
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.9, aspect=28, pad=0.1)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=6, length=2)
        bar.ax.xaxis.set_major_locator(MaxNLocator(3))
        bar.ax.xaxis.get_offset_text().set_fontsize(6)
        axes.set_title(title)
        axes.grid(visible=False)
        axes.tick_params(labelsize=6, length=2)
        for spine in axes.spines.values():
            spine.set_visible(False)
    tau = section(result, "ranking").get("kendall_tau")
    said = f"; Kendall's tau is {number(float(tau), 8)}" if isinstance(tau, int | float) else ""
    return plot_of(
        figure,
        "similarities",
        "Who sounds like whom",
        f"Cosine similarity of every two of {len(both[0])} voices. The two left matrices must look "
        f"the same; the right one shows what changed, at most {number(gap)}. Stripes there are "
        "single voices that moved, blocks are whole recordings. What counts is the order of each "
        f"row, which decides who is whose nearest{said}.",
        f"Three matrices of {len(both[0])} by {len(both[0])} cosine similarities: PyTorch, MLX and "
        f"their difference, which is at most {number(gap)}{said}.",
    )


# Decisions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timeline:
    """Decisions on one recording: runs of (class, frames) of both frameworks."""

    name: str
    step: float
    start: float
    classes: tuple[str, ...]
    reference: Runs
    candidate: Runs

    @property
    def differences(self) -> Runs:
        """Runs of (1 where the two differ, frames)."""
        both = [np.repeat(*np.array(x).T) for x in (self.reference, self.candidate)]
        size = min(map(len, both))
        return _runs((both[0][:size] != both[1][:size]).astype(np.int64))

    @property
    def frames(self) -> int:
        return sum(length for _, length in self.reference)


def _timelines(details: Mapping[str, Any]) -> list[Timeline]:
    found = []
    for name, one in mapping(details.get("timelines")).items():
        classes = tuple(text(x) for x in sequence(one["classes"]))
        sides = [
            [(int(kind), int(length)) for kind, length in one[side]]
            for side in ("reference", "candidate")
        ]
        fits = all(
            0 <= kind < len(classes) and length > 0 for side in sides for kind, length in side
        )
        longest = max(sum(length for _, length in side) for side in sides)
        if not fits or not all(sides) or longest > MOST_FRAMES:
            raise NothingToDrawError(f"the decisions on {name!r} do not fit their classes")
        found.append(Timeline(name, float(one["step"]), float(one["start"]), classes, *sides))
    return found


@styled
def timelines(result: Result) -> Plot:
    """What both frameworks decide over time, differences marked."""
    found = _timelines(result.details)
    if not found:
        raise NothingToDrawError("the result holds no decisions over time")
    found.sort(key=lambda one: one.reference == one.candidate)
    drawn = found[:ITEMS]
    figure = figure_of(0.75 * len(drawn) + 0.85)
    rows = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    classes = drawn[0].classes
    colours = [SOFT, *(PALETTE[k % len(PALETTE)] for k in range(len(classes) - 1))]
    if classes and classes[0] != "none":
        colours = [PALETTE[k % len(PALETTE)] for k in range(len(classes))]
    for axes, one in zip(rows, drawn, strict=True):
        _draw_timeline(axes, one, colours)
    rows[-1].set_xlabel("time, s")
    used = sorted({kind for one in drawn for kind, _ in (*one.reference, *one.candidate)})
    handles = [Patch(facecolor=colours[k], label=visible(classes[k])) for k in used[:16]]
    handles.append(Patch(facecolor=WRONG, label="they differ"))
    rows[0].legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.3),
        ncols=8,
        borderaxespad=0,
        handlelength=1.2,
        columnspacing=1.2,
    )
    wrong = {one.name: sum(n for k, n in one.differences if k) for one in found}
    total, where = sum(wrong.values()), [name for name, n in wrong.items() if n]
    less = f" {len(found) - len(drawn)} more are left out." if len(found) > len(drawn) else ""
    said = (
        f"{total:,} frames differ, in {len(where)} of {len(found)} recordings."
        if total
        else "No frame differs."
    )
    return plot_of(
        figure,
        "timelines",
        "Decisions over time",
        "Who speaks, frame by frame, as each framework decides; classes are sets of local "
        "speakers. Both strips of a recording must be the same; marks between them are frames "
        f"that differ. Single frames at the edge of a turn are noise, whole turns are not. "
        f"{said}{less}",
        f"Timelines of {len(drawn)} recordings, PyTorch above MLX. {said}",
    )


def _draw_timeline(axes: Axes, one: Timeline, colours: Sequence[str]) -> None:
    for y, runs in ((1.1, one.reference), (0.0, one.candidate)):
        for kind in sorted({kind for kind, _ in runs}):
            _blocks(axes, one, runs, kind, (y, 0.72), colours[kind])
    _blocks(axes, one, one.differences, 1, (0.72, 0.38), WRONG, lw=1.2)
    axes.set_yticks([1.46, 0.36], ["PyTorch", "MLX"])
    axes.set_ylim(-0.08, 1.9)
    begin = one.start - one.step / 2
    axes.set_xlim(begin, begin + one.frames * one.step)
    axes.set_title(_short(visible(one.name), 60), fontsize=7.5, fontweight="normal", pad=3)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _blocks(
    axes: Axes,
    one: Timeline,
    runs: Runs,
    kind: int,
    place: tuple[float, float],
    colour: str,
    **more: Any,
) -> None:
    """All runs of a class as one path."""
    edges = one.start - one.step / 2 + one.step * np.cumsum([0, *(n for _, n in runs)])
    spans = [(a, b) for (a, b), (k, _) in zip(pairwise(edges), runs, strict=True) if k == kind]
    _boxes(axes, spans, place, colour, **more)


def _boxes(
    axes: Axes,
    spans: Sequence[tuple[float, float]],
    place: tuple[float, float],
    colour: str,
    **more: Any,
) -> None:
    if not spans:
        return
    y, height = place
    points = [
        corner
        for a, b in spans
        for corner in ((a, y), (b, y), (b, y + height), (a, y + height), (a, y))
    ]
    box = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    outline = Outline(points, box * len(spans))
    outline.should_simplify = False
    # A hairline of the same colour, so that a single frame in an hour is still seen.
    axes.add_patch(PathPatch(outline, facecolor=colour, edgecolor=colour, **{"lw": 0.3, **more}))


def _runs(values: Any) -> Runs:
    changes = np.flatnonzero(np.diff(values)) + 1
    edges = [0, *changes.tolist(), len(values)]
    return [(int(values[a]), b - a) for a, b in pairwise(edges) if b > a]


@styled
def confusion(result: Result) -> Plot:
    """How often PyTorch decided for the row and MLX for the column."""
    found = section(result, "agreement").get("confusion")
    table = np.array(found if found else [[]], dtype=np.float64)
    size = len(table)
    if table.shape != (size, size) or not size or size > 64 or not np.isfinite(table).all():
        raise NothingToDrawError("no decisions were compared")
    names = class_names(result)
    labels = [visible(names.get(k, str(k))) for k in range(size)]
    figure = figure_of(3.4, width=4.6)
    axes = figure.subplots()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    off = ~np.eye(size, dtype=bool)
    axes.imshow(np.zeros_like(table), cmap="gray", alpha=0.0)
    for row, column in np.argwhere(table > 0):
        wrong = bool(off[row, column])
        place = (float(column) - 0.46, float(column) + 0.46)
        strength = 0.18 + 0.62 * float(shares[row, column])
        _boxes(axes, [place], (row - 0.46, 0.92), WRONG if wrong else TORCH, alpha=strength * 0.5)
        axes.text(
            column,
            row,
            f"{int(table[row, column]):,}",
            ha="center",
            va="center",
            fontsize=7 if size <= 8 else 5,
            color=WRONG if wrong else INK,
            fontweight="bold" if wrong else "normal",
        )
    axes.set_xticks(range(size), labels, rotation=0 if size <= 8 else 90)
    axes.set_yticks(range(size), labels)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(visible=False)
    axes.grid(visible=True, which="minor", color=GRID, lw=0.5)
    axes.set_xlabel("MLX decides for")
    axes.set_ylabel("PyTorch decides for")
    total, wrong_count = int(table.sum()), int(table[off].sum())
    return plot_of(
        figure,
        "confusion",
        "Class confusion",
        f"{total:,} frames by class; off the diagonal the two decide otherwise: {wrong_count:,} "
        "frames. Two classes that change places wholesale are a permuted powerset; a thin spread "
        "along the edges of turns is noise.",
        f"Table of {size} by {size} classes: {total - wrong_count:,} of {total:,} frames lie on "
        "the diagonal, where both frameworks agree.",
    )


# Whole pipelines ----------------------------------------------------------------------------------

Turns: TypeAlias = list[tuple[float, float, str]]


@styled
def diarizations(result: Result) -> Plot:
    """Both diarizations over the waveform, differences marked."""
    found = list(mapping(result.details.get("diarization")).items())[:ITEMS]
    if not found:
        raise NothingToDrawError("the result holds no diarization")
    figure = figure_of(1.75 * len(found) + 0.5)
    rows = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    said = [
        _draw_diarization(axes, visible(name), one)
        for axes, (name, one) in zip(rows, found, strict=True)
    ]
    rows[-1].set_xlabel("time, s")
    return plot_of(
        figure,
        "diarizations",
        "Who speaks when",
        "The speakers that each framework finds, over the waveform; one colour and one letter is "
        "one speaker. Both strips must show the same turns; where they differ is marked below "
        "them. Slivers at the edges of turns are harmless, whole turns are not.",
        "Diarizations of PyTorch and MLX over the waveform. " + " ".join(said),
    )


def _draw_diarization(axes: Axes, name: str, one: Any) -> str:
    duration = float(one["duration"])
    if not 0 < duration < 1e7:
        raise NothingToDrawError(f"a duration of {duration:g} s cannot be drawn")
    sides = {side: _turns(one[side]) for side in ("reference", "candidate")}
    named = _matched(sides["reference"], sides["candidate"])
    sides["candidate"] = [(a, b, named[who]) for a, b, who in sides["candidate"]]
    if "truth" in one:
        truth = _turns(one["truth"])
        back = _matched(sides["reference"], truth)
        sides["truth"] = [(a, b, back[who]) for a, b, who in truth]
    speakers = list(dict.fromkeys(who for turns in sides.values() for _, _, who in turns))
    colours = {who: PALETTE[k % len(PALETTE)] for k, who in enumerate(speakers)}
    _draw_waveform(axes, sequence(one.get("waveform")), duration)
    titles = {"truth": "truth", "reference": "PyTorch", "candidate": "MLX"}
    rows = [side for side in titles if side in sides]
    for k, side in enumerate(rows):
        _draw_turns(axes, sides[side], colours, (-0.55 - 0.5 * k, 0.4))
        _letter(axes, sides[side], speakers, -0.35 - 0.5 * k, duration)
    bottom = -0.35 - 0.5 * (len(rows) - 1)
    spans = _differing(sides["reference"], sides["candidate"])
    _boxes(axes, spans, (bottom - 0.42, 0.14), WRONG)
    ticks = [0.5, *(-0.35 - 0.5 * k for k in range(len(rows))), bottom - 0.35]
    axes.set_yticks(ticks, ["waveform", *(titles[side] for side in rows), "they differ"])
    axes.set_xlim(0.0, duration)
    axes.set_ylim(bottom - 0.5, 1.05)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    apart = sum(b - a for a, b in spans)
    rate = one.get("der")
    der = f", error rate {100 * float(rate):.2f} %" if isinstance(rate, int | float) else ""
    axes.set_title(f"{_short(name, 50)}{der}", fontsize=7.5, fontweight="normal", pad=3)
    return f"{name}: {len(speakers)} speakers, {apart:.2f} s of {duration:.1f} s differ{der}."


def _draw_turns(
    axes: Axes, turns: Turns, colours: Mapping[str, str], place: tuple[float, float]
) -> None:
    """One strip; where several speak at once they share its height."""
    bottom, height = place
    boxes: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
    for a, b, active in _stretches(turns):
        heard = [who for who in colours if who in active]
        for lane, who in enumerate(heard):
            boxes.setdefault((who, lane, len(heard)), []).append((a, b))
    for (who, lane, count), spans in boxes.items():
        share = height / count
        _boxes(axes, spans, (bottom + height - (lane + 1) * share, share), colours[who])


def _stretches(*sides: Turns) -> list[tuple[Any, ...]]:
    """(start, end, who speaks on each side), between all edges of turns."""
    edges = sorted({x for turns in sides for a, b, _ in turns for x in (a, b)})
    starts = sorted((a, b, who, k) for k, turns in enumerate(sides) for a, b, who in turns)
    found: list[tuple[Any, ...]] = []
    active: list[tuple[float, str, int]] = []
    at = 0
    for a, b in pairwise(edges):
        while at < len(starts) and starts[at][0] <= a:
            active.append(starts[at][1:])
            at += 1
        active = [one for one in active if one[0] > a]
        found.append(
            (a, b, *({w for _, w, k in active if k == side} for side in range(len(sides))))
        )
    return found


def _draw_waveform(axes: Axes, waveform: Sequence[Any], duration: float) -> None:
    if not waveform:
        return
    pairs = np.clip(np.array([[float(a), float(b)] for a, b in waveform[:2000]]), -1.0, 1.0)
    x = (np.arange(len(pairs)) + 0.5) * duration / len(pairs)
    low, high = (0.5 + 0.5 * pairs[:, k] for k in (0, 1))
    axes.fill_between(x, low, high, color=MUTED, lw=0, alpha=0.7)


def _turns(found: Any) -> Turns:
    turns = [(float(a), float(b), text(who)) for a, b, who in found]
    return [turn for turn in turns if 0 <= turn[0] < turn[1] < 1e7]


def _matched(reference: Turns, candidate: Turns) -> dict[str, str]:
    """Candidate's speaker -> the reference's with whom it shares most time."""
    shared: dict[tuple[str, str], float] = {}
    for a, b, ours, theirs in _stretches(reference, candidate):
        for pair in product(ours, theirs):
            shared[pair] = shared.get(pair, 0.0) + b - a
    named: dict[str, str] = {}
    for (ours, theirs), _ in sorted(shared.items(), key=lambda one: (-one[1], one[0])):
        if theirs not in named and ours not in named.values():
            named[theirs] = ours
    for _, _, theirs in candidate:
        named.setdefault(theirs, f"{theirs} (only here)" if theirs else "only here")
    return named


def _differing(reference: Turns, candidate: Turns) -> list[tuple[float, float]]:
    """Stretches in which not the same speakers are active."""
    spans: list[tuple[float, float]] = []
    for a, b, ours, theirs in _stretches(reference, candidate):
        if ours != theirs:
            joined = spans and spans[-1][1] == a
            spans[-1 if joined else len(spans) :] = [(spans[-1][0] if joined else a, b)]
    return spans


def _letter(axes: Axes, turns: Turns, speakers: Sequence[str], y: float, duration: float) -> None:
    """A letter in each turn that is wide enough: colour alone does not say who it is."""
    for a, b, who in turns:
        if b - a > 0.03 * duration:
            letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[speakers.index(who) % 26]
            axes.text(
                (a + b) / 2, y, letter, ha="center", va="center", fontsize=6.5, color="#000000"
            )


# Drawing ------------------------------------------------------------------------------------------


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"

"""What the errors mean for the task: decisions, turns, and who sounds like whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, TypeAlias

import numpy as np

# Before matplotlib itself: it says what to install where there is none.
from samevoice.reports.canvas import (  # isort: split
    NothingToDrawError,
    Runs,
    as_strips,
    boxes,
    drawing,
    figure_of,
    label,
    legend_above,
    rows_of,
    runs_of,
)

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from samevoice.parity.result import Result
from samevoice.reports.details import class_names, mapping, section, sequence, text
from samevoice.reports.style import GRID, INK, MUTED, PALETTE, SOFT, TORCH, WRONG
from samevoice.reports.text import visible
from samevoice.reports.words import number

RECORDINGS = 6  # drawn in one plot
MOST_FRAMES = 10_000_000  # of one recording: two days
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TITLES = {"truth": "truth", "reference": "PyTorch", "candidate": "MLX"}

Turns: TypeAlias = list[tuple[float, float, str]]


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
        return runs_of((both[0][:size] != both[1][:size]).astype(np.int64))

    @property
    def begin(self) -> float:
        return self.start - self.step / 2

    @property
    def end(self) -> float:
        return self.begin + self.step * sum(length for _, length in self.reference)


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


@drawing("timelines", "Decisions over time")
def timelines(result: Result) -> tuple[Figure, str, str]:
    """What both frameworks decide over time, differences marked."""
    found = _timelines(result.details)
    if not found:
        raise NothingToDrawError("the result holds no decisions over time")
    found.sort(key=lambda one: one.reference == one.candidate)
    drawn = found[:RECORDINGS]
    figure, rows = rows_of(len(drawn), 0.75, 0.85)
    colours = _colours(drawn[0].classes)
    for axes, one in zip(rows, drawn, strict=True):
        _draw_timeline(axes, one, colours)
    rows[-1].set_xlabel("time, s")
    used = sorted({kind for one in drawn for kind, _ in (*one.reference, *one.candidate)})
    handles = [Patch(facecolor=colours[k], label=visible(drawn[0].classes[k])) for k in used[:16]]
    handles.append(Patch(facecolor=WRONG, label="they differ"))
    legend_above(rows[0], 1.3, handles=handles, ncols=8, handlelength=1.2, columnspacing=1.2)
    wrong = [sum(n for differ, n in one.differences if differ) for one in found]
    where = f"{sum(map(bool, wrong))} of {len(found)} recordings"
    less = f" {len(found) - len(drawn)} more are left out." if len(found) > len(drawn) else ""
    said = f"{sum(wrong):,} frames differ, in {where}." if any(wrong) else "No frame differs."
    return (
        figure,
        "Who speaks, frame by frame, as each framework decides; classes are sets of local "
        "speakers. Both strips of a recording must be the same; marks between them are frames "
        f"that differ. Single frames at the edge of a turn are noise, whole turns are not. "
        f"{said}{less}",
        f"Timelines of {len(drawn)} recordings, PyTorch above MLX. {said}",
    )


def _colours(classes: Sequence[str]) -> list[str]:
    speaking = [PALETTE[k % len(PALETTE)] for k in range(len(classes))]
    return [SOFT, *speaking] if classes and classes[0] == "none" else speaking


def _draw_timeline(axes: Axes, one: Timeline, colours: Sequence[str]) -> None:
    as_strips(axes, label(one.name, 60), {1.46: "PyTorch", 0.36: "MLX"})
    for y, runs in ((1.1, one.reference), (0.0, one.candidate)):
        for kind in sorted({kind for kind, _ in runs}):
            boxes(axes, _spans(one, runs, kind), (y, 0.72), colours[kind])
    boxes(axes, _spans(one, one.differences, 1), (0.72, 0.38), WRONG, lw=1.2)
    axes.set_ylim(-0.08, 1.9)
    axes.set_xlim(one.begin, one.end)


def _spans(one: Timeline, runs: Runs, kind: int) -> list[tuple[float, float]]:
    """When a class was decided for, in seconds."""
    edges = one.begin + one.step * np.cumsum([0, *(n for _, n in runs)])
    return [(a, b) for (a, b), (k, _) in zip(pairwise(edges), runs, strict=True) if k == kind]


@drawing("confusion", "Class confusion")
def confusion(result: Result) -> tuple[Figure, str, str]:
    """How often PyTorch decided for the row and MLX for the column."""
    found = section(result, "agreement").get("confusion")
    table = np.array(found if found else [[]], dtype=np.float64)
    size = len(table)
    if table.shape != (size, size) or not size or size > 64 or not np.isfinite(table).all():
        raise NothingToDrawError("no decisions were compared")
    names = class_names(result)
    figure = figure_of(3.4, width=4.6)
    _draw_table(figure.subplots(), table, [visible(names.get(k, str(k))) for k in range(size)])
    total, differ = int(table.sum()), int(table.sum() - np.trace(table))
    return (
        figure,
        f"{total:,} frames by class; off the diagonal are the {differ:,} frames on which the two "
        "differ. Two classes that change places wholesale are a permuted powerset; a thin spread "
        "along the edges of turns is noise.",
        f"Table of {size} by {size} classes: {total - differ:,} of {total:,} frames lie on "
        "the diagonal, where both frameworks agree.",
    )


def _draw_table(axes: Axes, table: Any, labels: Sequence[str]) -> None:
    size = len(table)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    axes.imshow(np.zeros_like(table), cmap="gray", alpha=0.0)
    for row, column in np.argwhere(table > 0):
        wrong = row != column
        place = (float(column) - 0.46, float(column) + 0.46)
        strength = 0.18 + 0.62 * float(shares[row, column])
        boxes(axes, [place], (row - 0.46, 0.92), WRONG if wrong else TORCH, alpha=strength * 0.5)
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


# Diarizations -------------------------------------------------------------------------------------


@drawing("diarizations", "Who speaks when")
def diarizations(result: Result) -> tuple[Figure, str, str]:
    """Both diarizations over the waveform, differences marked."""
    found = list(mapping(result.details.get("diarization")).items())[:RECORDINGS]
    if not found:
        raise NothingToDrawError("the result holds no diarization")
    figure, rows = rows_of(len(found), 1.75, 0.5)
    said = [_draw(axes, visible(name), one) for axes, (name, one) in zip(rows, found, strict=True)]
    rows[-1].set_xlabel("time, s")
    return (
        figure,
        "The speakers that each framework finds, over the waveform; one colour and one letter is "
        "one speaker. Both strips must show the same turns; where they differ is marked below "
        "them. Slivers at the edges of turns are harmless, whole turns are not.",
        "Diarizations of PyTorch and MLX over the waveform. " + " ".join(said),
    )


def _draw(axes: Axes, name: str, one: Any) -> str:
    """One recording; what is to be seen in words."""
    duration = float(one["duration"])
    if not 0 < duration < 1e7:
        raise NothingToDrawError(f"a duration of {duration:g} s cannot be drawn")
    sides = {side: _turns(one[side]) for side in TITLES if side in one or side != "truth"}
    spans = _name_alike(sides)
    speakers = list(dict.fromkeys(who for turns in sides.values() for _, _, who in turns))
    _draw_waveform(axes, sequence(one.get("waveform")), duration)
    middles = {side: -0.35 - 0.5 * k for k, side in enumerate(sides)}
    for side, y in middles.items():
        draw_turns(axes, sides[side], speakers, y, duration)
    bottom = min(middles.values())
    boxes(axes, spans, (bottom - 0.42, 0.14), WRONG)
    rate = one.get("der")
    der = f", error rate {100 * float(rate):.2f} %" if isinstance(rate, int | float) else ""
    strips = {0.5: "waveform", **{y: TITLES[side] for side, y in middles.items()}}
    as_strips(axes, f"{label(name, 50)}{der}", {**strips, bottom - 0.35: "they differ"})
    axes.set_xlim(0.0, duration)
    axes.set_ylim(bottom - 0.5, 1.05)
    apart = sum(b - a for a, b in spans)
    return f"{name}: {len(speakers)} speakers, {apart:.2f} s of {duration:.1f} s differ{der}."


def _turns(found: Any) -> Turns:
    turns = [(float(a), float(b), text(who)) for a, b, who in found]
    return [turn for turn in turns if 0 <= turn[0] < turn[1] < 1e7]


def _name_alike(sides: dict[str, Turns]) -> list[tuple[float, float]]:
    """Name every side's speakers as the reference does; when the two frameworks differ."""
    for side in sides.keys() - {"reference"}:
        named = matched(sides["reference"], sides[side])
        sides[side] = [(a, b, named[who]) for a, b, who in sides[side]]
    return differing(sides["reference"], sides["candidate"])


def draw_turns(
    axes: Axes, turns: Turns, speakers: Sequence[str], middle: float, duration: float
) -> None:
    """One strip; where several speak at once they share its height."""
    found: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
    for a, b, active in _stretches(turns):
        heard = [who for who in speakers if who in active]
        for lane, who in enumerate(heard):
            found.setdefault((who, lane, len(heard)), []).append((a, b))
    for (who, lane, count), spans in found.items():
        share = 0.4 / count
        number, y = speakers.index(who), middle + 0.2 - (lane + 1) * share
        boxes(axes, spans, (y, share), PALETTE[number % len(PALETTE)])
        if count <= 2:
            wide = [(a + b) / 2 for a, b in spans if b - a > 0.03 * duration]
            _letters(axes, LETTERS[number % 26], wide, y + share / 2, 6.5 / count**0.4)


def _letters(axes: Axes, letter: str, xs: Sequence[float], y: float, size: float) -> None:
    """In each stretch that is wide enough: colour alone does not say who it is."""
    for x in xs:
        axes.text(x, y, letter, fontsize=size, color="#000000", ha="center", va="center_baseline")


def _draw_waveform(axes: Axes, waveform: Sequence[Any], duration: float) -> None:
    if not waveform:
        return
    pairs = np.clip(np.array([[float(a), float(b)] for a, b in waveform[:2000]]), -1.0, 1.0)
    x = (np.arange(len(pairs)) + 0.5) * duration / len(pairs)
    low, high = (0.5 + 0.5 * pairs[:, k] for k in (0, 1))
    axes.fill_between(x, low, high, color=MUTED, lw=0, alpha=0.7)


# Turns of several sides ---------------------------------------------------------------------------


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
        who = ({w for _, w, k in active if k == side} for side in range(len(sides)))
        found.append((a, b, *who))
    return found


def matched(reference: Turns, candidate: Turns) -> Mapping[str, str]:
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


def differing(reference: Turns, candidate: Turns) -> list[tuple[float, float]]:
    """Stretches in which not the same speakers are active."""
    spans: list[tuple[float, float]] = []
    for a, b, ours, theirs in _stretches(reference, candidate):
        if ours == theirs:
            continue
        if spans and spans[-1][1] == a:
            a = spans.pop()[0]
        spans.append((a, b))
    return spans


# Voices -------------------------------------------------------------------------------------------


@drawing("similarities", "Who sounds like whom")
def similarities(result: Result) -> tuple[Figure, str, str]:
    """Both frameworks' similarity matrices, and what became of them."""
    found = section(result, "similarity")
    if "reference" not in found or "candidate" not in found:
        raise NothingToDrawError("no voices were compared")
    ours, theirs = (np.array(found[x], dtype=np.float64) for x in ("reference", "candidate"))
    if ours.ndim != 2 or ours.shape != theirs.shape or not ours.size:
        raise NothingToDrawError("the similarity matrices do not fit each other")
    values, changes = (x[np.isfinite(x)] for x in (np.array([ours, theirs]), theirs - ours))
    low, gap = float(values.min(initial=1.0)), float(np.abs(changes).max(initial=0.0))
    figure = figure_of(2.75)
    first, second, third = figure.subplots(1, 3)
    _matrix(figure, first, "PyTorch", ours, "cividis", low, 1.0)
    _matrix(figure, second, "MLX", theirs, "cividis", low, 1.0)
    _matrix(figure, third, "MLX − PyTorch", theirs - ours, "PuOr", -(gap or 1e-9), gap or 1e-9)
    tau = section(result, "ranking").get("kendall_tau")
    said = f"; Kendall's tau is {number(float(tau), 8)}" if isinstance(tau, int | float) else ""
    return (
        figure,
        f"Cosine similarity of every two of {len(ours)} voices. The two left matrices must look "
        f"the same; the right one shows what changed, at most {number(gap)}. Stripes there are "
        "single voices that moved, blocks are whole recordings. What counts is the order of each "
        f"row, which decides who is whose nearest{said}.",
        f"Three matrices of {len(ours)} by {len(ours)} cosine similarities: PyTorch, MLX and "
        f"their difference, which is at most {number(gap)}{said}.",
    )


def _matrix(
    figure: Figure, axes: Axes, title: str, table: Any, colours: str, low: float, high: float
) -> None:
    image = axes.imshow(table, cmap=colours, vmin=low, vmax=high, interpolation="none")
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

"""What both frameworks decide, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

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

from matplotlib.patches import Patch

from samevoice.parity.result import Result
from samevoice.reports.details import class_names, mapping, section, sequence, text
from samevoice.reports.style import GRID, INK, PALETTE, SOFT, TORCH, WRONG
from samevoice.reports.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECORDINGS = 6  # drawn in one plot
MOST_FRAMES = 10_000_000  # of one recording: two days


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

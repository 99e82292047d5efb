"""The ratios of a benchmark as a picture: left of 1 samevoice is the faster one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from samevoice.bench.rows import Row
from samevoice.reports.canvas import drawing, figure_of
from samevoice.reports.style import INK, LIMIT, MLX, MUTED, WRONG

from matplotlib.ticker import FuncFormatter  # isort: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.2  # inches


def drawable(rows: Sequence[Row]) -> list[Row]:
    """Those with a ratio; a pipeline's stages are left to the table."""
    return [row for row in rows if row.ratios and not row.is_stage]


@drawing("bench", "Ratios")
def ratios(rows: Sequence[Row]) -> tuple[Figure, str, str]:
    """One line a row: the runs from least to most, their median, and the target."""
    figure = figure_of(LINE * len(rows) + 0.8)
    axes = figure.subplots()
    names = [f"{row.part}: {row.what}, beside {row.theirs.who}" for row in rows if row.theirs]
    for at, row in enumerate(rows):
        _draw(axes, at, row)
    axes.axvline(1, color=MUTED, linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("samevoice's time / the other's; | is the target")
    met = sum(row.met is True for row in rows)
    missed = [row for row in rows if row.met is False]
    return (
        figure,
        "Time beside the other contender, on a logarithmic scale: dots are medians, lines reach "
        "from the least to the most of the runs, bars are targets. A target missed is red.",
        f"{len(rows)} ratios of time, from {min(row.ratio or 0 for row in rows):.3g} to "
        f"{max(row.ratio or 0 for row in rows):.3g}; {met} targets met, {len(missed)} missed"
        + "".join(f", {row.what} beside {row.theirs.who}" for row in missed if row.theirs)
        + ".",
    )


def _draw(axes: Axes, at: int, row: Row) -> None:
    colour = WRONG if row.met is False else MLX
    axes.plot([min(row.ratios), max(row.ratios)], [at, at], color=colour)
    axes.plot([median(row.ratios)], [at], "o", color=colour, markersize=4)
    axes.annotate(
        f"{median(row.ratios):.2g}",
        (max(row.ratios), at),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=INK,
        fontsize=7,
    )
    if row.target is not None and row.target.kind == "ratio":
        axes.plot([row.target.most], [at], "|", color=LIMIT, markersize=9, markeredgewidth=1.6)

"""The DER of systems over many runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

# Before matplotlib itself: it says what to install where there is none.
from samevoice.reports.canvas import (  # isort: split
    drawing,
    figure_of,
    label,
    legend_above,
)

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samevoice.reports.style import LINES, MUTED, PALETTE
from samevoice.reports.text import visible

if TYPE_CHECKING:
    from samevoice.reports.history import Series

NAMED = 24  # runs that are all named
APART = 0.06  # of a step, between two systems in one run
CHANGED = " At a dotted line a version, the bundle or the corpus changed; the table says which."


@drawing("history", "DER run by run")
def ders(series: Sequence[Series], names: Sequence[str]) -> tuple[Figure, str, str]:
    """A line a system over all runs, with intervals; a dotted line where something else changed."""
    figure = figure_of(3.4)
    axes = figure.subplots()
    for k, one in enumerate(series):
        middle = APART * (k - (len(series) - 1) / 2)
        _line(axes, one, [names.index(step.run.name) + middle for step in one.steps], k)
    changed = {step.run.name for one in series for step in one.steps if step.changed}
    for name in changed:
        axes.axvline(names.index(name) - 0.5, color=MUTED, lw=0.8, ls=":")
    _named(axes, names)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("DER, %")
    legend_above(axes, ncols=2)
    how = "Bars are 95% intervals over the recordings."
    how += CHANGED if changed else ""
    said = "; ".join(map(_said, series))
    return figure, how, f"DER over {len(names)} runs: {said}."


def _line(axes: Axes, one: Series, places: Sequence[float], k: int) -> None:
    rates = [step.run.der for step in one.steps]
    # An interval alone: one recording has none.
    ends = [(x.value if x.low is None else x.low, x.value if x.high is None else x.high)
            for x in rates]  # fmt: skip
    colour = PALETTE[k % len(PALETTE)]
    values = [100 * x.value for x in rates]
    name = f"{label(one.system)} on {label(one.corpus)}"
    axes.plot(
        places,
        values,
        color=colour,
        ls=LINES[k % len(LINES)],
        marker="o",
        ms=4,
        label=name,
        clip_on=False,
    )
    axes.vlines(places, [100 * a for a, _ in ends], [100 * b for _, b in ends], colour, lw=0.9)


def _named(axes: Axes, names: Sequence[str]) -> None:
    """As many runs as have room."""
    shown = range(0, len(names), -(-len(names) // NAMED))
    axes.set_xticks(list(shown), [label(names[at], 18) for at in shown])
    if len(shown) > 6:
        for text in axes.get_xticklabels():
            text.set(rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)


def _said(one: Series) -> str:
    first, last = (step.run.der.value for step in (one.steps[0], one.steps[-1]))
    name = f"{visible(one.system)} on {visible(one.corpus)}"
    return f"{name} from {first:.1%} to {last:.1%} in {len(one.steps)} runs"

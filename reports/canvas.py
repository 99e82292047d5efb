"""The paper that every picture is drawn on: one look, as SVG, the same bytes every time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias

import numpy as np

from samevoice.errors import MissingExtraError, SamevoiceError
from samevoice.reports.rendering import TEMPLATES
from samevoice.reports.style import RC, moved, standalone, themed
from samevoice.reports.text import visible

try:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline
except ImportError:
    raise MissingExtraError("matplotlib, which draws the reports,", "parity") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 7.2  # inches; the SVG is scaled to the page

P = ParamSpec("P")
Runs: TypeAlias = list[tuple[int, int]]  # (value, how often in a row)


class NothingToDrawError(SamevoiceError):
    """This result does not hold what the plot shows."""


@dataclass(frozen=True)
class Plot:
    """A picture for a page, and in words what it shows and what to look for."""

    key: str
    title: str
    svg: str
    caption: str
    alt: str

    @property
    def file(self) -> str:
        """The same picture as a file of its own."""
        return standalone(self.svg)

    def within(self, place: str) -> Plot:
        """The same picture for a page that holds several of its kind: its ids begin otherwise."""
        return replace(self, key=f"{place}-{self.key}", svg=moved(self.svg, self.key, place))


@dataclass(frozen=True)
class Undrawn:
    """A plot that there is no data for, or whose data are not what they should be."""

    key: str
    title: str
    why: str


@dataclass(frozen=True)
class Drawing(Generic[P]):
    """How a plot is drawn; ``draw`` gives the figure, its caption, and its description."""

    key: str
    title: str
    draw: Callable[P, tuple[Figure, str, str]]

    def __call__(self, *given: P.args, **named: P.kwargs) -> Plot:
        """Draw in the one style, and leave matplotlib's settings as they were."""
        look: Any = dict(RC)
        with matplotlib.rc_context(look, TEMPLATES / "plots.mplstyle"):
            return plot_of(*self.draw(*given, **named), key=self.key, title=self.title)

    def tried(self, *given: P.args, **named: P.kwargs) -> Plot | Undrawn:
        try:
            return self(*given, **named)
        except NothingToDrawError as error:
            return Undrawn(self.key, self.title, str(error))
        except Exception as error:
            # Details are free and decide nothing: whatever is wrong in them costs its picture only.
            said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            return Undrawn(self.key, self.title, f"the result's data for it are unusable ({said})")


def drawing(key: str, title: str) -> Callable[[Callable[P, tuple[Figure, str, str]]], Drawing[P]]:
    return lambda draw: Drawing(key, title, draw)


def figure_of(height: float, width: float = WIDTH) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def rows_of(count: int, each: float, more: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` plots below each other."""
    figure = figure_of(each * count + more)
    return figure, list(figure.subplots(count, 1, squeeze=False, **options)[:, 0])


def plot_of(figure: Figure, caption: str, alt: str, *, key: str, title: str) -> Plot:
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    # Figures from a file may leave no room for a plot; matplotlib says so on the terminal.
    with io.StringIO() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(file, format="svg", metadata=nothing)
        svg = file.getvalue()
    return Plot(key, title, themed(svg, key, alt), caption, alt)


# Strokes ------------------------------------------------------------------------------------------


def legend_above(axes: Axes, height: float = 1.02, **options: Any) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, height), borderaxespad=0, **options)


def as_strips(axes: Axes, title: str, strips: dict[float, str]) -> None:
    """A plot of named strips over time, with neither grid nor frame."""
    axes.set_yticks(list(strips), list(strips.values()))
    axes.set_title(title, fontsize=7.5, fontweight="normal", pad=3)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def boxes(
    axes: Axes,
    spans: Sequence[tuple[float, float]],
    place: tuple[float, float],
    colour: str,
    **more: Any,
) -> None:
    """Boxes over these spans as one path; ``place`` is where they begin, and their height."""
    if not spans:
        return
    y, height = place
    points = [
        corner
        for a, b in spans
        for corner in ((a, y), (b, y), (b, y + height), (a, y + height), (a, y))
    ]
    box = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    # A hairline of the same colour, so that a single frame in an hour is still seen.
    _patch(
        axes, points, box * len(spans), facecolor=colour, edgecolor=colour, **{"lw": 0.3, **more}
    )


def dots(axes: Axes, x: Any, y: Any, colour: str) -> None:
    """One path of empty strokes with round ends: a tenth of the size of markers."""
    points = np.repeat(np.column_stack([x, y]), 2, axis=0)
    strokes = [Outline.MOVETO, Outline.LINETO] * len(x)
    look = {"edgecolor": colour, "facecolor": "none", "lw": 2.2, "capstyle": "round", "alpha": 0.55}
    _patch(axes, points, strokes, **look)


def _patch(axes: Axes, points: Any, codes: Any, **look: Any) -> None:
    outline = Outline(points, codes)
    outline.should_simplify = False
    axes.add_patch(PathPatch(outline, **look))


def runs_of(values: Any) -> Runs:
    """[2, 2, 2, 0] -> [(2, 3), (0, 1)]."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(int(values[a]), b - a) for a, b in pairwise(edges) if b > a]


def label(name: str, most: int = 28) -> str:
    """A name from outside, as it stands in a plot."""
    name = visible(name)
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"

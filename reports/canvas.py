"""The paper that every picture is drawn on: one look, as SVG, the same bytes every time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ParamSpec

from samevoice.errors import MissingExtraError
from samevoice.reports.style import RC, moved, standalone, themed

try:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
except ImportError:
    raise MissingExtraError("matplotlib, which draws the reports,", "parity") from None

WIDTH = 7.2  # inches; the SVG is scaled to the page

P = ParamSpec("P")


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


def styled(draw: Callable[P, Plot]) -> Callable[P, Plot]:
    """Draw in the one style, and leave matplotlib's settings as they were."""

    @wraps(draw)
    def drawing(*given: P.args, **named: P.kwargs) -> Plot:
        look: Any = dict(RC)
        with matplotlib.rc_context(look):
            return draw(*given, **named)

    return drawing


def figure_of(height: float, width: float = WIDTH) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def plot_of(figure: Figure, key: str, title: str, caption: str, alt: str) -> Plot:
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    # Figures from a file may leave no room for a plot; matplotlib says so on the terminal.
    with io.StringIO() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(file, format="svg", metadata=nothing)
        svg = file.getvalue()
    return Plot(key, title, themed(svg, key, alt), caption, alt)

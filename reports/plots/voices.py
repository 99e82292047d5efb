"""Who sounds like whom, to each framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

# Before matplotlib itself: it says what to install where there is none.
from samevoice.reports.canvas import NothingToDrawError, drawing, figure_of  # isort: split

from matplotlib.ticker import MaxNLocator

from samevoice.parity.result import Result
from samevoice.reports.details import section
from samevoice.reports.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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

"""What precision was found: size against what it costs, and each layer in each type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

# Before matplotlib itself: it says what to install where there is none.
from samevoice.reports.canvas import (  # isort: split
    NothingToDrawError,
    drawing,
    label,
    legend_above,
    rows_of,
)

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samevoice.converters.recipe import TYPES, type_name
from samevoice.evaluation.figures import Figure as Rate
from samevoice.parity.metrics import Array
from samevoice.precision.found import FOUND, FoundPart, Precision, Rung
from samevoice.reports.style import INK, LIMIT, MLX, TORCH

FAR = 24  # times what the limit allows: whatever is further off is drawn there
NAMED = 60  # layers that are drawn with their names


# Size against what it costs -----------------------------------------------------------------------


@drawing("pareto", "Size, and what it costs the task")
def pareto(made: Precision) -> tuple[Figure, str, str]:
    """A plot a part: the ladder, mixtures on the way, the one that was found, and the limit."""
    figure, rows = rows_of(len(made.parts), 2.0, 0.5)
    for axes, part in zip(rows, made.parts, strict=True):
        _draw_part(axes, part)
    rows[-1].set_xlabel("size of the weights, MB")
    legend_above(rows[0], 1.12, ncols=4)
    said = " ".join(
        f"{part.title}: {_megabytes(part.found):.2f} MB of {_megabytes(part.ladder[0]):.2f} MB."
        for part in made.parts
    )
    return (
        figure,
        "Left is smaller, higher is better. Dots are the whole network in one type, crosses "
        "mixtures that the search measured. What lies below the dashed line breaks the limit, and "
        "what lies far below is drawn at the edge; other limits may bind before it.",
        f"Size against the task's figure. {said}",
    )


def _draw_part(axes: Axes, part: FoundPart) -> None:
    metric = part.telling

    bound = part.limits.for_task[metric].bound
    lowest = bound - FAR * (part.ladder[0].figures.task[metric] - bound)

    def places(rungs: Sequence[Rung]) -> tuple[list[float], list[float]]:
        figures = [max(x.figures.task[metric], lowest) for x in rungs]
        return [_megabytes(x) for x in rungs], figures

    axes.axhline(bound, color=LIMIT, lw=0.8, ls="--", label="limit")
    axes.plot(*places(part.tried), "x", color=TORCH, ms=4, alpha=0.8, label="mixtures")
    axes.plot(*places(part.ladder), "o", color=TORCH, ms=4.5, label="one type for all")
    axes.plot(*places([part.found]), "D", color=MLX, ms=6.5, label="found")
    _name(axes, part.ladder, *places(part.ladder))
    axes.set_title(part.title)
    axes.set_ylabel(metric.replace("_", " "))
    axes.margins(x=0.08, y=0.18)


def _megabytes(rung: Rung) -> float:
    return rung.nbytes / 1e6


def _name(axes: Axes, rungs: Sequence[Rung], x: Sequence[float], y: Sequence[float]) -> None:
    """Names beside the dots; of two that lie upon each other one above and one below."""
    for at, rung in enumerate(rungs):
        below = not at % 2
        axes.annotate(
            type_name(rung.name),
            (x[at], y[at]),
            xytext=(0, -11 if below else 6),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color=INK,
        )


@drawing("ders", "Size, and DER over the corpus")
def ders(made: Precision) -> tuple[Figure, str, str]:
    """The whole pipeline in each type and in the mixture, with intervals."""
    if made.heard is None:
        raise NothingToDrawError("no corpus was heard")
    figure, (axes,) = rows_of(1, 2.4, 0.4)
    found = {name: made.heard.der(name) for name in made.names}
    for at, (name, der) in enumerate(found.items()):
        size, colour = made.nbytes(name) / 1e6, MLX if name == FOUND else TORCH
        low, high = _ends(der)
        axes.plot([size, size], [low, high], color=colour, lw=1.0, alpha=0.6)
        axes.plot([size], [100 * der.value], "D" if name == FOUND else "o", color=colour, ms=5)
        axes.annotate(
            type_name(name),
            (size, high if at % 2 else low),
            xytext=(0, 4 if at % 2 else -10),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color=INK,
        )
    axes.set_xlabel("size of the weights, MB")
    axes.set_ylabel("DER, %")
    axes.margins(x=0.08, y=0.15)
    return (
        figure,
        "Left is smaller, lower is better. Lines are the 95% intervals of each alone; they are "
        "wide where recordings differ. What a type changes, recording by recording, stands in the "
        "table.",
        "DER by size: "
        + ", ".join(f"{type_name(x)} {y.value:.1%}" for x, y in found.items())
        + ".",
    )


def _ends(rate: Rate) -> tuple[float, float]:
    low = rate.value if rate.low is None else rate.low
    high = rate.value if rate.high is None else rate.high
    return 100 * low, 100 * high


# Layers -------------------------------------------------------------------------------------------


@drawing("layers", "What each layer loses")
def layers(made: Precision) -> tuple[Figure, str, str]:
    """A heat map a part: layers by types, coloured by the error that each makes alone."""
    sizes = [len(part.layers) for part in made.parts]
    tall = [max(1.0, 0.135 * size) if size <= NAMED else 7.0 for size in sizes]
    figure, rows = rows_of(len(sizes), sum(tall) / len(sizes), 0.9, height_ratios=tall)
    tables = [_table(part) for part in made.parts]
    every = np.concatenate([table.ravel() for table in tables])
    known = every[np.isfinite(every)]
    low, high = float(known.min(initial=-6.0)), float(known.max(initial=-1.0))
    for axes, part, table in zip(rows, made.parts, tables, strict=True):
        image = axes.imshow(
            table, cmap="cividis", vmin=low, vmax=high, aspect="auto", interpolation="none"
        )
        _frame(axes, part)
    bar = figure.colorbar(image, ax=rows, location="bottom", shrink=0.6, aspect=40, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.set_label("relative error at the output, power of ten")
    worst = [f"{part.title}: {_worst(part)}" for part in made.parts]
    return (
        figure,
        "One layer at a time in each type, all others in float32. Bright layers need more bits. "
        "A square marks the type that the recipe gives a layer; a layer without one stays float32. "
        "White cells do not exist: the layer's rows fit no group.",
        f"Heat map of layers by types. Most sensitive in 4 bits: {'; '.join(worst)}.",
    )


def _table(part: FoundPart) -> Array:
    """(L, T): the powers of ten of the errors; NaN where a layer has no such type."""
    rows = [
        [one.figures[type_].error if type_ in one.figures else np.nan for type_ in TYPES[1:]]
        for one in part.layers
    ]
    return np.asarray(np.log10(np.maximum(np.array(rows, dtype=np.float64), 1e-12)))


def _frame(axes: Axes, part: FoundPart) -> None:
    axes.set_title(part.title)
    axes.grid(visible=False)
    axes.set_xticks(range(len(TYPES) - 1), [type_name(one) for one in TYPES[1:]])
    step = -(-len(part.layers) // NAMED)
    shown = range(0, len(part.layers), step)
    axes.set_yticks(list(shown), [label(part.layers[k].name, 44) for k in shown])
    axes.tick_params(length=0, labelsize=5.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    chosen = [(x, y) for y, x in _chosen(part)]
    if chosen:
        axes.plot(*zip(*chosen, strict=True), "s", mfc="none", mec="#ffffff", ms=4, mew=0.9)


def _chosen(part: FoundPart) -> Iterator[tuple[int, int]]:
    """Row and column of what the recipe gives each layer."""
    for row, layer in enumerate(part.layers):
        type_ = part.type_of(layer)
        if type_ in layer.figures:
            yield row, TYPES.index(type_) - 1


def _worst(part: FoundPart) -> str:
    errors = {one.name: one.figures["4"].error for one in part.layers if "4" in one.figures}
    return max(errors, key=errors.__getitem__) if errors else "none"

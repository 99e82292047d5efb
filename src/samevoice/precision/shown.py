"""What was found in words, for terminals, pages and pull requests alike."""

from __future__ import annotations

from samevoice.converters.recipe import type_name
from samevoice.evaluation.figures import Figure
from samevoice.precision.found import FoundPart, Layer, Precision, megabytes, points

HEARD = ("size", "DER", "less float32's")
Rows = list[list[str]]  # the name first, then a cell a column


def ladder(part: FoundPart) -> Rows:
    """Size and task of each type for all layers, and of the mixture."""
    return [
        [
            type_name(rung.name),
            megabytes(rung.nbytes),
            *(value(name, rung.figures.task[name]) for name in part.limits.for_task),
            "yes" if rung.figures.kept else "no",
        ]
        for rung in (*part.ladder, part.found)
    ]


def heard(made: Precision) -> Rows:
    """The DER of each, and its difference from that of float32."""
    if made.heard is None:
        return []
    rows = []
    for name in made.names:
        der, change = made.heard.der(name), made.heard.change(name)
        rows.append(
            [
                type_name(name),
                megabytes(made.nbytes(name)),
                f"{der.value:.2%}{_ends(der, '{:.1f}')}",
                f"{points(change.value)}{_ends(change, '{:+.2f}')}",
            ]
        )
    return rows


def _ends(figure: Figure, form: str) -> str:
    if figure.low is None or figure.high is None:
        return ""
    low, high = (form.format(100 * x) for x in (figure.low, figure.high))
    return f" ({low} to {high})"


def layers(part: FoundPart) -> Rows:
    """Each layer: its values, what it became, and the error in each type, relative."""
    return [
        [
            one.name,
            f"{one.values:,}",
            type_name(part.type_of(one)),
            *(_error(one, rung.name) for rung in part.ladder[1:]),
        ]
        for one in part.layers
    ]


def _error(layer: Layer, type_: str) -> str:
    found = layer.figures.get(type_)
    return f"{found.error:.1e}" if found else ""


def value(metric: str, figure: float) -> str:
    """Five digits, so that what a limit cuts off is seen."""
    return f"{figure:.5f}"

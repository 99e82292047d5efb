"""What precision was found, as a page and as Markdown: the same answer and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from samevoice.converters.recipe import type_name
from samevoice.parity.bounds import METRICS
from samevoice.precision import shown
from samevoice.precision.found import FOUND, FoundPart, Precision, megabytes, points
from samevoice.reports.details import Fact, Facts
from samevoice.reports.page import framed
from samevoice.reports.plots.precision import ders, layers, pareto
from samevoice.reports.rendering import rendered

SHORT = 8  # layers in the Markdown


def html(made: Precision) -> str:
    """The page, which needs nothing else."""
    plots = [pareto.tried(made), *([ders.tried(made)] if made.heard else [])]
    return framed(
        "precision.html", plots=plots, heat=layers.tried(made), **_content(made, most=None)
    )


def markdown(made: Precision) -> str:
    return rendered("precision.md", **_content(made, most=SHORT))


def _content(made: Precision, most: int | None) -> dict[str, Any]:
    """What both forms say; ``most``: of so many layers, the most sensitive."""
    return {
        "headline": made.answer.partition(", ")[0],
        "because": made.answer.partition(", ")[2],
        "bundle": made.bundle,
        "source": made.source,
        "tiles": list(_tiles(made)),
        "found": [_part(part, most) for part in made.parts],
        "heard": shown.heard(made),
        "heads": ["", *shown.HEARD],
        "corpus": made.heard.corpus if made.heard else "",
        "count": len(made.heard.uris) if made.heard else 0,
        "recipe": made.recipe.strip().splitlines(),
        "newline": "\n",
        "facts": list(_facts(made)),
    }


def _tiles(made: Precision) -> Iterator[Mapping[str, Any]]:
    """The figures at the top: size, each part's task, and DER."""
    small, large = made.nbytes(FOUND), made.nbytes(made.names[0])
    yield _tile("size", megabytes(small), f"{small / large:.0%} of float32's {megabytes(large)}")
    for part in made.parts:
        name = part.telling
        figure, bound = part.found.figures.task[name], part.limits.for_task[name].bound
        means = f"{METRICS[name].sense} {bound:g} is allowed"
        yield _tile(f"{part.title}: {name.replace('_', ' ')}", f"{figure:.4f}", means)
    if made.heard:
        change = made.heard.change(FOUND)
        ends = (change.low, change.high)
        means = "against float32"
        if ends[0] is not None and ends[1] is not None:
            means = f"against float32, 95% interval {points(ends[0])} to {points(ends[1])}"
        yield _tile("DER", f"{points(change.value)} points", means)


def _tile(name: str, value: str, means: str) -> Mapping[str, Any]:
    return {"name": name, "value": value, "means": means, "good": True}


def _part(part: FoundPart, most: int | None) -> Mapping[str, Any]:
    rows = shown.layers(part)
    order = sorted(range(len(rows)), key=lambda at: -_sensitivity(part, at))
    return {
        "title": part.title,
        "ladder_heads": ["", "size", *(x.replace("_", " ") for x in part.limits.for_task), "kept"],
        "ladder": shown.ladder(part),
        "layer_heads": [
            "layer",
            "values",
            "recipe",
            *(type_name(rung.name) for rung in part.ladder[1:]),
        ],
        "layers": [rows[at] for at in (order[:most] if most else range(len(rows)))],
        "count": len(rows),
        "floor": f"{part.ladder[0].figures.error:.0e}",
    }


def _sensitivity(part: FoundPart, at: int) -> float:
    return max((one.error for one in part.layers[at].figures.values()), default=0.0)


def _facts(made: Precision) -> Iterator[Facts]:
    yield Facts(
        "Bundle",
        (
            Fact("name", made.bundle, True),
            Fact("sha256", made.fingerprint[:12], True),
            Fact("source", made.source, True),
        ),
    )
    for part in made.parts:
        limits = part.limits.for_task.items()
        facts = (
            Fact(name.replace("_", " "), f"{METRICS[name].sense} {one.bound:g}")
            for name, one in limits
        )
        yield Facts(f"Limits of the {part.title}", tuple(facts))
    if made.heard:
        yield Facts(
            "Corpus",
            (
                Fact("name", made.heard.corpus),
                Fact("recordings", str(len(made.heard.uris))),
                Fact("DER", "no collar, overlap scored"),
            ),
        )

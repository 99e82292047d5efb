"""Several evaluations as one page, and as Markdown: a line a system and corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.evaluation import several
from samevoice.evaluation.evaluated import LABELS, Evaluation
from samevoice.reports import evaluation
from samevoice.reports.junit import suites_of
from samevoice.reports.page import framed
from samevoice.reports.plots.evaluation import beside
from samevoice.reports.rendering import rendered


def html(found: Mapping[str, Evaluation]) -> str:
    """Each by its name; of one evaluation its own page."""
    if len(found) == 1:
        return evaluation.html(*found.values())
    plot = beside.tried(several.lines(list(found.values())))
    return framed("evaluations.html", plot=plot, **_content(found))


def markdown(found: Mapping[str, Evaluation]) -> str:
    if len(found) == 1:
        return evaluation.markdown(*found.values())
    return rendered("evaluations.md", **_content(found))


def junit(found: Mapping[str, Evaluation]) -> str:
    return suites_of(evaluation.suite(made) for made in found.values())


def _content(found: Mapping[str, Evaluation]) -> dict[str, Any]:
    made = list(found.values())
    return {
        "headline": several.headline(made),
        "best": several.best(made),
        "differing": several.differing(made),
        "heads": several.HEADS,
        "lines": several.lines(made),
        "answers": [
            (name, one.corpus.name, list(zip(LABELS, _names(one), strict=False)), one.answer)
            for name, one in found.items()
        ],
    }


def _names(made: Evaluation) -> list[str]:
    return [one.name for one in made.systems]

"""A result, or several side by side, as one HTML file that needs nothing else.

Whatever stands in a result may come from outside. The template engine escapes all of it, what
cannot be seen is written as its escape, and the page's own policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import samevoice
from samevoice.reports import plots, style
from samevoice.reports.canvas import Plot, Undrawn
from samevoice.reports.rendering import file_text, rendered
from samevoice.reports.verdict import State
from samevoice.reports.view import View, shared_taps
from samevoice.reports.words import ratio

ALWAYS = ("mlx", "torch", "pyannote.audio", "blas")  # versions shown even where all agree
TASK_PLOTS = ("similarities", "timelines", "confusion", "diarizations")

# Words and grounds of the three verdicts; the plots' colours are style.py's.
LIGHT = {
    "good": "#0a6b39",
    "good-tint": "#eef8f2",
    "care": "#7d5200",
    "care-tint": "#fff7e6",
    "bad-tint": "#fdf0f4",
}
DARK = {
    "good": "#63d297",
    "good-tint": "#13241b",
    "care": "#f2bd4b",
    "care-tint": "#2a2212",
    "bad-tint": "#301720",
}


def html(
    views: View | Sequence[View], *, drawn: Sequence[Sequence[Plot | Undrawn]] | None = None
) -> str:
    """One result -> its report; several -> one page that compares them.

    ``drawn`` holds the plots of each result where they have been made already.
    """
    chosen = [views] if isinstance(views, View) else list(views)
    pictures = drawn if drawn is not None else [plots.plots(one.result) for one in chosen]
    if len(chosen) == 1:
        return _one(chosen[0], pictures[0])
    return _several(chosen, pictures)


def _one(view: View, drawn: Sequence[Plot | Undrawn]) -> str:
    task = [one for one in drawn if one.key in TASK_PLOTS]
    sections = (
        ("why", "What went wrong", view.state == "bad"),
        ("errors", "Where the errors are", True),
        ("taps", "Every tap", True),
        ("task", "The task", bool(view.task or task)),
        ("compared", "What was compared", True),
        ("limits", "Limits", True),
        ("tensors", "Tensors", view.tensors is not None),
        ("gallery", "Gallery", bool(view.gallery)),
    )
    contents = [(key, name) for key, name, there in sections if there]
    return framed("result.html", view=view, plots=drawn, task_plots=task, contents=contents)


# Several ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Beside:
    """One figure of each result."""

    name: str
    cells: tuple[str, ...]
    code: bool = False

    @property
    def differs(self) -> bool:
        return len(set(self.cells)) > 1


def _several(views: Sequence[View], drawn: Sequence[Sequence[Plot | Undrawn]]) -> str:
    trusted = sum(view.state == "good" for view in views)
    states: set[State] = {view.state for view in views}
    state: State = next(one for one in ("bad", "care", "good") if one in states)
    every = "Both" if len(views) == 2 else f"All {len(views)}"
    some = f"{trusted} of {len(views)} ports may be trusted."
    ladders = [
        one.within(f"r{k + 1}") if isinstance(one, Plot) else one
        for k, found in enumerate(drawn)
        for one in found
        if one.key == "ladder"
    ]
    return framed(
        "several.html",
        views=views,
        state=state,
        headline=f"{every} ports may be trusted." if trusted == len(views) else some,
        rows=_beside(views),
        overlay=plots.comparison.tried(views),
        ladders=ladders,
        shared=shared_taps(views),
    )


def _beside(views: Sequence[View]) -> list[Beside]:
    results = [view.result for view in views]
    rows = [
        Beside(name, tuple(_figure(view, name) for view in views))
        for name in dict.fromkeys(figure.name for view in views for figure in view.figures)
    ]
    rows += [
        Beside(
            "worst noise ratio",
            tuple(ratio(max((x.judged_ratio for x in r.taps), default=0.0)) for r in results),
        ),
        Beside("first divergence", tuple(r.first_divergence or "none" for r in results), code=True),
        Beside("loosened limits", tuple(str(len(r.loosened)) for r in results)),
        Beside("kind", tuple(r.model_type for r in results)),
        Beside("weights", tuple(r.dtype for r in results)),
        Beside("device", tuple(r.device for r in results)),
        Beside("source", tuple(r.source.notes.get("name", "–") for r in results)),
        Beside("source sha256", tuple(r.source.sha256[:12] or "–" for r in results), code=True),
        Beside("bundle sha256", tuple(r.bundle.sha256[:12] or "–" for r in results), code=True),
    ]
    names = dict.fromkeys(name for r in results for name in r.versions)
    versions = [Beside(name, tuple(r.versions.get(name, "–") for r in results)) for name in names]
    return rows + [one for one in versions if one.differs or one.name in ALWAYS]


def _figure(view: View, name: str) -> str:
    return next((one.value for one in view.figures if one.name == name), "–")


# The frame ----------------------------------------------------------------------------------------


def framed(template: str, **content: Any) -> str:
    """A template of this package in the pages' common frame."""
    script = file_text("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    light = style.variables({**style.LIGHT, **LIGHT})
    dark = style.variables({**style.DARK, **DARK})
    colours = f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return rendered(
        template,
        style=colours + file_text("report.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        version=samevoice.__version__,
        **content,
    )

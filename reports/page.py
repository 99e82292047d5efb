"""A result, or several side by side, as one HTML file that needs nothing else.

Whatever stands in a result may come from outside. The template engine escapes all of it, what
cannot be seen is written as its escape, and the page's own policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import samevoice
from samevoice.parity.result import Result
from samevoice.reports import plots, style
from samevoice.reports.canvas import Plot, Undrawn
from samevoice.reports.rendering import file_text, rendered
from samevoice.reports.verdict import worst_of
from samevoice.reports.view import View, shared_taps
from samevoice.reports.words import UNSAID, ratio

ALWAYS = ("mlx", "torch", "pyannote.audio", "blas")  # versions shown even where all agree
TASK_PLOTS = ("similarities", "timelines", "confusion", "diarizations")


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


# Name, what each result has there, and whether that is code.
BESIDE: tuple[tuple[str, Callable[[Result], str], bool], ...] = (
    ("worst noise ratio", lambda r: ratio(max((x.judged_ratio for x in r.taps), default=0)), False),
    ("first divergence", lambda r: r.first_divergence or "none", True),
    ("loosened limits", lambda r: str(len(r.loosened)), False),
    ("kind", lambda r: r.model_type, False),
    ("weights", lambda r: r.dtype, False),
    ("device", lambda r: r.device, False),
    ("source", lambda r: r.source.notes.get("name", UNSAID), False),
    ("source sha256", lambda r: r.source.sha256[:12] or UNSAID, True),
    ("bundle sha256", lambda r: r.bundle.sha256[:12] or UNSAID, True),
)


def _several(views: Sequence[View], drawn: Sequence[Sequence[Plot | Undrawn]]) -> str:
    trusted = sum(view.state == "good" for view in views)
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
        state=worst_of(view.state for view in views),
        headline=f"{every} ports may be trusted." if trusted == len(views) else some,
        rows=list(_beside(views)),
        overlay=plots.comparison.tried(views),
        ladders=ladders,
        shared=shared_taps(views),
    )


def _beside(views: Sequence[View]) -> Iterator[tuple[str, list[str], bool]]:
    """Each figure of all results."""
    figures = [{one.name: one.value for one in view.figures} for view in views]
    for name in dict.fromkeys(name for found in figures for name in found):
        yield name, [found.get(name, UNSAID) for found in figures], False
    results = [view.result for view in views]
    for name, tell, is_code in BESIDE:
        yield name, [tell(result) for result in results], is_code
    for name in dict.fromkeys(name for result in results for name in result.versions):
        versions = [result.versions.get(name, UNSAID) for result in results]
        if len(set(versions)) > 1 or name in ALWAYS:
            yield name, versions, False


# The frame ----------------------------------------------------------------------------------------


def framed(template: str, **content: Any) -> str:
    """A template of this package in the pages' common frame."""
    script = file_text("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return rendered(
        template,
        style=styles(),
        script=script,
        script_hash=f"sha256-{digest}",
        version=samevoice.__version__,
        **content,
    )


def styles() -> str:
    """What every page looks like, on light and on dark."""
    light, dark = style.variables(style.LIGHT), style.variables(style.DARK)
    colours = f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return colours + file_text("report.css")

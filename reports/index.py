"""One page that links every result below a folder, with verdicts and figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from samevoice.errors import SamevoiceError
from samevoice.outputs import write
from samevoice.parity.result import read
from samevoice.reports.page import framed
from samevoice.reports.verdict import worst_of
from samevoice.reports.view import View, view
from samevoice.reports.write import ReportError

RESULT, REPORT, INDEX = "result.json", "report.html", "index.html"


def write_index(folder: Path, left_out: Sequence[str] = ()) -> Path:
    """Find every result.json below the folder; what cannot be read is listed with its reason.

    ``left_out``: a line for each thing that was not compared.
    """
    if not folder.is_dir():
        raise ReportError(f"--index {folder}: no such folder")
    links: dict[str, str] = {}
    views: list[View] = []
    refused: dict[str, str] = {}
    for path in sorted(folder.rglob(RESULT)):
        place = path.parent.relative_to(folder)
        name = place.as_posix() if place.parts else folder.resolve().name
        page = path.with_name(REPORT)
        try:
            views.append(view(read(path), name))
            links[name] = _link(page if page.exists() else path, folder)
        except SamevoiceError as error:
            refused[path.relative_to(folder).as_posix()] = str(error)
    path = folder / INDEX
    write({path: _rendered(views, links, refused, left_out)})
    return path


def _rendered(
    views: Sequence[View],
    links: dict[str, str],
    refused: dict[str, str],
    left_out: Sequence[str],
) -> str:
    """The page for these results, the failed ones first in each group."""
    ordered = sorted(views, key=lambda one: (one.result.model_type, one.passed, one.name))
    groups = [(kind, list(x)) for kind, x in groupby(ordered, lambda one: one.result.model_type)]
    count = len(views) + len(refused)
    headline = f"{sum(one.passed for one in views)} of {count} results passed"
    headline += f", {len(refused)} could not be read." if refused else "."
    return framed(
        "index.html",
        state="bad" if refused or not views else worst_of(one.state for one in views),
        headline=headline if count else "Nothing was compared.",
        count=count,
        groups=groups,
        links=links,
        refused=refused,
        left_out=left_out,
    )


def _link(path: Path, folder: Path) -> str:
    # A colon is quoted, too, so that no name can be read as a scheme.
    return quote(os.fsencode(path.relative_to(folder).as_posix()), safe="/")

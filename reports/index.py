"""One page that links every result below a folder, with verdicts and figures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from samevoice.errors import SamevoiceError
from samevoice.parity.result import read
from samevoice.reports.verdict import State
from samevoice.reports.view import View, view
from samevoice.reports.words import UNSAID
from samevoice.reports.write import write_text

RESULT, REPORT, INDEX = "result.json", "report.html", "index.html"


class IndexPageError(SamevoiceError):
    """The index cannot be written."""


@dataclass(frozen=True)
class Row:
    """A result, and the page that it leads to."""

    name: str
    link: str
    view: View

    def cells(self, figures: Sequence[str]) -> list[tuple[str, bool]]:
        """Value and whether it is good, by the names of figures."""
        own = {one.name: (one.value, one.good) for one in self.view.figures}
        return [own.get(name, (UNSAID, True)) for name in figures]


@dataclass(frozen=True)
class Refused:
    """A result that cannot be read, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Group:
    """The results of one kind of model."""

    model_type: str
    rows: tuple[Row, ...]

    @property
    def figures(self) -> list[str]:
        names = (one.name for row in self.rows for one in row.view.figures)
        return list(dict.fromkeys(names))


def write_index(folder: Path) -> Path:
    """Find every result.json below the folder; what cannot be read is listed with its reason."""
    found = list(_found(folder))
    rows = [one for one in found if isinstance(one, Row)]
    text = render(rows, [one for one in found if isinstance(one, Refused)])
    path = folder / INDEX
    try:
        write_text(path, text)
    except OSError as error:
        raise IndexPageError(f"cannot write {path}: {error.strerror}") from None
    return path


def render(rows: Sequence[Row], refused: Sequence[Refused]) -> str:
    """The page for these results, the failed ones first in each group."""
    from samevoice.reports.page import framed

    ordered = sorted(rows, key=lambda row: (row.view.result.model_type, row.view.passed, row.name))
    groups = groupby(ordered, key=lambda row: row.view.result.model_type)
    return framed(
        "index.html",
        state=_state(rows, refused),
        headline=_headline(rows, refused),
        count=len(rows) + len(refused),
        groups=[Group(kind, tuple(found)) for kind, found in groups],
        refused=refused,
    )


def _state(rows: Sequence[Row], refused: Sequence[Refused]) -> State:
    states = {row.view.state for row in rows} | ({"bad"} if refused or not rows else set())
    order: tuple[State, ...] = ("bad", "care", "good")
    return next(one for one in order if one in states)


def _headline(rows: Sequence[Row], refused: Sequence[Refused]) -> str:
    if not rows and not refused:
        return "Nothing was compared."
    passed = sum(row.view.passed for row in rows)
    said = f"{passed} of {len(rows) + len(refused)} results passed"
    return f"{said}, {len(refused)} could not be read." if refused else f"{said}."


def _found(folder: Path) -> Iterator[Row | Refused]:
    for path in sorted(folder.rglob(RESULT)):
        place = path.parent.relative_to(folder)
        try:
            shown = view(read(path), place.as_posix() if place.parts else folder.resolve().name)
        except SamevoiceError as error:
            yield Refused(path.relative_to(folder).as_posix(), str(error))
            continue
        page = path.with_name(REPORT)
        yield Row(shown.name, _link(page if page.exists() else path, folder), shown)


def _link(path: Path, folder: Path) -> str:
    # A colon is quoted, too, so that no name can be read as a scheme.
    return quote(os.fsencode(path.relative_to(folder).as_posix()), safe="/")

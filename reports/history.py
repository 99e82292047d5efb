"""Many evaluations on one page: the DER run by run, and what changed when it moved.

A run is a folder below the one that is named, and runs are in the order of their folders' names:
nothing in an evaluation says when it was made, so that the same work gives the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from samevoice.errors import SamevoiceError
from samevoice.evaluation import baseline, figures, gate, shown
from samevoice.evaluation.evaluated import points
from samevoice.evaluation.figures import Figure, Rates, rates_of
from samevoice.evaluation.gate import Evaluated
from samevoice.evaluation.scores import JACCARD, STRICT, Scores
from samevoice.outputs import write
from samevoice.reports.page import framed
from samevoice.reports.plots import history as plots
from samevoice.reports.write import ReportError

NOTHING = Figure(0.0, 0.0, 0.0)
EVALUATION, PAGE, HISTORY = "evaluation.json", "evaluation.html", "history.html"


@dataclass(frozen=True)
class Run:
    """One system of one evaluation; the recordings of ``rates`` are in the order of their names."""

    name: str
    link: str
    system: str
    made_of: Mapping[str, Any]
    corpus: str
    sha256: str
    rates: Mapping[str, Rates]

    @property
    def recordings(self) -> int:
        return len(self.rates[STRICT].total)

    @cached_property
    def der(self) -> Figure:
        return figures.means(self.rates[STRICT])[0]

    @cached_property
    def jer(self) -> Figure:
        return figures.means(self.rates[JACCARD])[0]


@dataclass(frozen=True)
class Step:
    """A run beside the one before it: the change of the DER, if the corpus is the same."""

    run: Run
    change: Figure | None = None
    changed: tuple[str, ...] = ()  # beside the DER

    @classmethod
    def between(cls, before: Run, run: Run) -> Step:
        changed = baseline.differences(before.made_of, run.made_of)
        if before.sha256 != run.sha256:
            return cls(run, None, (*changed, "the corpus"))
        change, _ = figures.changes(before.rates[STRICT], run.rates[STRICT])
        return cls(run, change, tuple(changed))

    @property
    def state(self) -> str:
        """``bad`` or ``good`` only where the whole interval lies on one side of zero."""
        one = self.change
        if one is None or one.low is None or one.high is None:
            return "even"
        if one == NOTHING:
            return "good"
        return "bad" if one.low > 0 else "good" if one.high < 0 else "even"


@dataclass(frozen=True)
class Series:
    """All runs of a system on a corpus of that name, the latest last."""

    system: str
    corpus: str
    steps: tuple[Step, ...]

    @property
    def last(self) -> Step:
        return self.steps[-1]


def write_history(folder: Path) -> Path:
    """Find every evaluation.json below the folder; what is left out is listed with its reason."""
    if not folder.is_dir():
        raise ReportError(f"--history {folder}: no such folder")
    runs: list[Run] = []
    left_out: dict[str, str] = {}
    for path in sorted(folder.rglob(EVALUATION), key=_in_order):
        name = path.parent.relative_to(folder).as_posix()
        try:
            runs += _runs(gate.read(path), name, _link(path, folder))
        except SamevoiceError as error:
            left_out[name] = str(error)
    if not runs:
        why = next(iter(left_out.values()), "run samevoice evaluate with --output below it first")
        raise ReportError(f"no evaluation below {folder} can be drawn: {why}")
    path = folder / HISTORY
    write({path: html(runs, left_out)})
    return path


def _in_order(path: Path) -> list[tuple[int, str]]:
    """``run-2`` before ``run-10``."""
    words = re.split(r"(\d+)", path.parent.as_posix())
    return [(int(word), "") if word.isdecimal() else (0, word) for word in words]


def _link(path: Path, folder: Path) -> str:
    page = path.with_name(PAGE)
    target = page if page.exists() else path
    return quote(os.fsencode(target.relative_to(folder).as_posix()), safe="/")


def _runs(found: Evaluated, name: str, link: str) -> list[Run]:
    """A baseline's turns are those of an earlier run, and are left out."""
    if not found.referenced:
        raise ReportError("it has no references, and so no DER")
    rows = sorted(found.rows, key=lambda row: str(row["uri"]))
    corpus, sha256 = str(found.corpus["name"]), str(found.corpus["sha256"])
    systems = zip(found.labels, found.said["systems"], found.made_of, strict=True)
    return [
        Run(name, link, str(said["name"]), made_of, corpus, sha256, _rates(rows, label))
        for label, said, made_of in systems
        if made_of.get("kind") != baseline.KIND
    ]


def _rates(rows: Iterable[Mapping[str, Any]], label: str) -> Mapping[str, Rates]:
    return rates_of([Scores.from_dict(row[label]) for row in rows])


def series_of(runs: Sequence[Run]) -> list[Series]:
    found: dict[tuple[str, str], list[Run]] = {}
    for one in runs:
        found.setdefault((one.system, one.corpus), []).append(one)
    return [
        Series(*key, (Step(same[0]), *(Step.between(*two) for two in pairwise(same))))
        for key, same in found.items()
    ]


# The page -----------------------------------------------------------------------------------------


def html(runs: Sequence[Run], left_out: Mapping[str, str]) -> str:
    series = series_of(runs)
    worst = min(series, key=lambda one: (_rank(one.last), -_size(one.last)))
    names = list(dict.fromkeys(one.name for one in runs))
    return framed(
        "history.html",
        state=worst.last.state if len(worst.steps) > 1 else "even",
        headline=_headline(worst),
        because=_because(worst.last),
        runs=len(names),
        plot=plots.ders.tried(series, names),
        series=[(one, [_cells(step) for step in reversed(one.steps)]) for one in series],
        left_out=left_out,
    )


def _rank(step: Step) -> int:
    return ("bad", "even", "good").index(step.state)


def _size(step: Step) -> float:
    return abs(step.change.value) if step.change else 0.0


def _headline(one: Series) -> str:
    step, who = one.last, f"{one.system} on {one.corpus}"
    if len(one.steps) == 1:
        return f"The first run of {who}: a DER of {step.run.der.value:.1%}."
    if step.change is None:
        return f"The last run of {who} has another corpus than the run before."
    if step.change == NOTHING:
        return "Nothing moved in the last run."
    by = f"the DER of {who} {'rose' if step.change.value > 0 else 'fell'} by "
    by += f"{points(abs(step.change.value)).lstrip('+')} points"
    sure = "" if step.state != "even" else ", which may be chance"
    return f"In the last run {by}{sure}."


def _because(step: Step) -> str:
    """How sure that is, and what else changed."""
    said, one = [], step.change
    if one and one != NOTHING and one.low is not None and one.high is not None:
        said.append(f"95% interval {points(one.low)} to {points(one.high)} points.")
    if step.changed:
        said.append(f"Changed since the run before: {', '.join(step.changed)}.")
    return " ".join(said)


def _cells(step: Step) -> dict[str, Any]:
    run = step.run
    return {
        "run": run.name,
        "link": run.link,
        "der": shown.rate(run.der.as_dict()),
        "change": shown.change(step.change.as_dict()) if step.change else "",
        "state": step.state if step.change else "even",
        "jer": shown.rate(run.jer.as_dict()),
        "recordings": run.recordings,
        "changed": step.changed,
    }

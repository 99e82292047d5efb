"""The figures of an evaluation in words, for terminals, pages and pull requests alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samevoice.evaluation.evaluated import LABELS, Evaluation, points
from samevoice.evaluation.scores import JACCARD, LENIENT, STRICT

NAMES = {STRICT: "DER", LENIENT: "DER, 0.25 s collar", JACCARD: "JER"}
Rows = list[list[str]]  # the name first, then a cell a column


def columns(made: Evaluation) -> list[str]:
    """A, and for a pair B and the difference."""
    return [*LABELS[: len(made.systems)], *["B - A"] * made.is_pair]


def figures(made: Evaluation) -> Rows:
    """Rates with their intervals, what they come from, and what the work took."""
    rows = [*_rates(made), *_parts(made)] if made.corpus.referenced else []
    rows += _costs(made)
    if made.pair:
        rows.append(["B scored against A", "", rate(made.pair["disagreement"]["micro"])])
    return rows


def _rates(made: Evaluation) -> Rows:
    moved = made.pair["change"] if made.pair else None
    return [
        [
            shown if mean == "micro" else "  macro",
            *(rate(one[name][mean]) for one in made.by_system),
            *([change(moved[name][mean])] if moved else []),
        ]
        for name, shown in NAMES.items()
        for mean in ("micro", "macro")
    ]


def _parts(made: Evaluation) -> Rows:
    rows = []
    for part in ("missed", "false_alarm", "confusion"):
        # Where a UEM leaves all speech out there is none.
        of_total = [one[STRICT][part] / (one[STRICT]["total"] or 1.0) for one in made.by_system]
        rows.append([part.replace("_", " "), *(f"{one:.1%}" for one in of_total)])
    right = [f"{one['speakers_right']} of {one['recordings']}" for one in made.by_system]
    return [*rows, ["speakers right", *right]]


def _costs(made: Evaluation) -> Rows:
    """Without what nothing is known of, as of written turns."""
    costs = {
        "real-time factor": [
            "" if x is None else f"{x:.3f}" for x in _of(made, "real_time_factor")
        ],
        "peak memory": ["" if x is None else f"{x / 1e9:.2f} GB" for x in _of(made, "peak_memory")],
    }
    return [[name, *cells] for name, cells in costs.items() if any(cells)]


def _of(made: Evaluation, name: str) -> list[Any]:
    return [one[name] for one in made.by_system]


@dataclass(frozen=True)
class Groups:
    """``rows``: the group, how many recordings, and each system's DER."""

    by: str
    means: str
    name: str
    rows: Rows


def groups(made: Evaluation) -> list[Groups]:
    """None where there is but one group."""
    kinds = (
        ("number of speakers", "with so many speakers in the reference", "speakers"),
        ("share of overlap", "by how much of the reference's speech is overlapped", "overlap"),
    )
    found = zip(kinds, (made.by_speakers, made.by_overlap), strict=True)
    return [
        Groups(by, means, name, [_group(one, name) for one in rows])
        for (by, means, name), rows in found
        if len(rows) > 1
    ]


def _group(said: Mapping[str, Any], name: str) -> list[str]:
    ders = (rate(one[STRICT]["micro"]) for one in said["systems"])
    return [said[name], str(said["recordings"]), *ders]


def rate(said: Mapping[str, Any]) -> str:
    if said["low"] is None:
        return f"{said['value']:.1%}"
    return f"{said['value']:.1%} ({100 * said['low']:.1f}-{100 * said['high']:.1f})"


def change(said: Mapping[str, Any]) -> str:
    if said["low"] is None:
        return points(said["value"])
    return f"{points(said['value'])} ({points(said['low'])}, {points(said['high'])})"

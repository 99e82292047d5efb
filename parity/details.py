"""What reports draw of a run: samples of the outputs, decisions over time, what became of tensors.

All of it goes into a result's ``details``, small enough to be read by people, and decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from samevoice.parity.metrics import Array, as_float64

SAMPLES = 1000  # pairs of values kept of one input
ALL_SAMPLES = 6000  # and of all inputs together
TIMELINES = 8  # recordings whose decisions are kept
EXTREMES = 20  # largest gaps that are never left out


def scatter(outputs: Mapping[str, tuple[Array, Array]]) -> dict[str, list[list[float]]]:
    """Input -> pairs (reference, candidate): evenly spread over the output, extremes included."""
    each = min(SAMPLES, ALL_SAMPLES // max(len(outputs), 1))
    pairs = {
        name: sampled(reference, candidate, each)
        for name, (reference, candidate) in outputs.items()
        if reference.shape == candidate.shape
    }
    return {name: found for name, found in pairs.items() if found}


def sampled(reference: Array, candidate: Array, most: int) -> list[list[float]]:
    """At most ``most`` pairs, in the order of the arrays; the same arrays give the same pairs."""
    x, y = as_float64(reference).ravel(), as_float64(candidate).ravel()
    if not x.size:
        return []
    with np.errstate(invalid="ignore"):
        gaps = np.nan_to_num(np.abs(y - x), nan=np.inf, posinf=np.inf)
    largest = np.argsort(-gaps, kind="stable")[: min(EXTREMES, most // 4)]
    ends = [int(np.nanargmin(x)), int(np.nanargmax(x))] if not np.isnan(x).all() else []
    kept = np.unique(np.concatenate([largest, np.array(ends, dtype=np.int64)]))
    spread = np.linspace(0, x.size - 1, min(x.size, most - kept.size)).astype(np.int64)
    chosen = np.union1d(kept, spread)
    return [[_short(x[k]), _short(y[k])] for k in chosen]


def _short(value: float) -> float:
    """Nine digits tell any two float32 apart."""
    return float(f"{value:.9g}")


# Decisions ----------------------------------------------------------------------------------------


def timelines(
    outputs: Mapping[str, tuple[Array, Array]],
    *,
    step: float,
    start: float,
    classes: Sequence[str],
    threshold: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Input -> decisions (B, F, K) of both sides as runs; a batch gives one entry an item.

    Items on which the two decide otherwise come first, then the longest.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, (reference, candidate) in outputs.items():
        if reference.ndim != 3 or reference.shape != candidate.shape or not reference.size:
            continue
        if not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
            continue
        for item, (ours, theirs) in enumerate(zip(reference, candidate, strict=True)):
            title = name if len(reference) == 1 else f"{name}, item {item + 1}"
            both = [decided(x, threshold) for x in (ours, theirs)]
            found[title] = {
                "step": step,
                "start": start,
                "classes": list(classes),
                "reference": runs(both[0]),
                "candidate": runs(both[1]),
            }
    order = sorted(found, key=lambda name: _importance(found[name]))
    return {name: found[name] for name in order[:TIMELINES]}


def _importance(one: Mapping[str, Any]) -> tuple[bool, int]:
    same = one["reference"] == one["candidate"]
    return (same, -sum(length for _, length in one["reference"]))


def decided(scores: Array, threshold: float | None) -> Array:
    """(F, K) -> (F): the largest class, or under a threshold the set of those above it."""
    if threshold is None:
        return np.asarray(scores.argmax(axis=-1))
    places = {chosen: k for k, chosen in enumerate(_combined(scores.shape[-1]))}
    rows = [tuple(np.flatnonzero(row > threshold).tolist()) for row in scores]
    return np.array([places.get(row, len(places)) for row in rows], dtype=np.int64)


def runs(decisions: Array) -> list[list[int]]:
    """[2, 2, 2, 0] -> [[2, 3], [0, 1]]: class, and for how many frames."""
    changes = np.flatnonzero(np.diff(decisions)) + 1
    edges = [0, *changes.tolist(), len(decisions)]
    return [[int(decisions[a]), b - a] for a, b in pairwise(edges) if b > a]


def class_names(
    speakers: int, at_once: int | None, columns: int, threshold: float | None
) -> list[str]:
    """What the columns mean: none, 1, 2, 3, 1+2, 1+3, 2+3; plain numbers where that is unknown."""
    if threshold is not None:
        return [*(_named(chosen) for chosen in _combined(columns)), "more"]
    if at_once is not None:
        sizes = range(at_once + 1)
        names = [_named(c) for size in sizes for c in combinations(range(speakers), size)]
        if len(names) == columns:
            return names
    return [str(k) for k in range(columns)]


def _combined(columns: int) -> list[tuple[int, ...]]:
    """Every set of independent speakers, up to three at once: more are drawn as one class."""
    sizes = range(min(columns, 3) + 1)
    return [chosen for size in sizes for chosen in combinations(range(columns), size)]


def _named(chosen: Sequence[int]) -> str:
    return "+".join(str(k + 1) for k in chosen) or "none"


# Tensors ------------------------------------------------------------------------------------------


def tensors(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The tally of a bundle's provenance: counts, what was derived, what was dropped and why."""
    rows = [row for row in provenance.get("tensors", []) if isinstance(row, Mapping)]
    dropped: dict[str, list[str]] = {}
    for row in rows:
        if row.get("fate") == "dropped":
            dropped.setdefault(str(row.get("why", "")), []).append(str(row.get("source", "")))
    return {
        "counts": dict(Counter(str(row.get("fate", "")) for row in rows)),
        "rules": dict(Counter(str(row.get("rule", "")) for row in rows)),
        "derived": [
            [str(row.get(key, "")) for key in ("source", "rule", "target")]
            for row in rows
            if row.get("fate") == "derived"
        ],
        "dropped": [{"why": why, "names": names} for why, names in dropped.items()],
        "assumed": [str(note) for note in provenance.get("notes", [])],
    }

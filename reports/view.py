"""A result -> what a reader is told, in plain values that every format shares."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from samevoice.parity.bounds import METRICS, Limit
from samevoice.parity.judge import TapVerdict
from samevoice.parity.limits import Loosened
from samevoice.parity.result import Result
from samevoice.reports import details, verdict
from samevoice.reports.details import Fact, Facts, mapping, text
from samevoice.reports.diagnose import diagnose
from samevoice.reports.tree import tree
from samevoice.reports.words import number, shape

WORST = 12  # taps in a short list


def compared(result: Result) -> str:
    return f"{result.model_type}, {result.dtype} on {result.device}"


def provenance(result: Result) -> tuple[Facts, ...]:
    versions = dict(result.versions)
    machine = [
        Fact("device", _device(text(result.details.get("device")), result.device)),
        Fact("weights", result.dtype),
        Fact("TF32 in MLX", _tf32(versions.pop("MLX_ENABLE_TF32", ""))),
        Fact("BLAS beneath MLX", versions.pop("blas", "")),
        Fact("platform", versions.pop("platform", "")),
        Fact("torch threads", text(result.details.get("torch_threads"))),
        *(
            Fact(f"seconds to {k}", number(details.real(v)))
            for k, v in details.items(result.details.get("seconds"))
        ),
    ]
    found = (
        Facts("Source", _artefact(result.source.notes, result.source.sha256)),
        Facts("Bundle", _artefact(result.bundle.notes, result.bundle.sha256)),
        Facts("Machine", tuple(machine)),
        Facts("Versions", tuple(Fact(name, version) for name, version in versions.items())),
    )
    kept = (Facts(one.title, tuple(x for x in one.facts if x.value)) for one in found)
    return tuple(one for one in kept if one.facts)


def _artefact(notes: Mapping[str, str], sha256: str) -> tuple[Fact, ...]:
    named = tuple(Fact(name, value, name != "note") for name, value in sorted(notes.items()))
    return (*named, Fact("sha256", sha256 or "none: compared in memory", bool(sha256)))


def _device(name: str, kind: str) -> str:
    return kind if name.lower() in ("", kind) else f"{name} ({kind})"


def _tf32(setting: str) -> str:
    return {"0": "off", "1": "on", "unset": "not set", "": ""}.get(setting, setting)


def input_lines(result: Result) -> Iterator[dict[str, Any]]:
    """What was fed, and how that went."""
    errors = mapping(result.details.get("errors"))
    by_input: dict[str, list[TapVerdict]] = {}
    for tap in result.taps:
        by_input.setdefault(tap.input, []).append(tap)
    for one in result.inputs:
        taps = by_input.get(one.name, [])
        yield {
            "name": one.name,
            "shape": shape(one.shape),
            "notes": ", ".join(f"{key} {value}" for key, value in sorted(one.notes.items())),
            "sha256": one.sha256,
            "taps": len(taps),
            "failed": sum(not tap.passed for tap in taps),
            "worst": max((tap.judged_ratio for tap in taps), default=math.nan),
            "error": "; ".join(text(v) for k, v in errors.items() if k.split(",")[0] == one.name),
        }


def limit_lines(result: Result) -> Iterator[tuple[Limit, Loosened | None]]:
    """Each limit as it was used, and how it was loosened; at the end those that were removed."""
    loose = {(x.metric, x.where, x.tap): x for x in result.loosened}
    for limit in result.limits.limits:
        yield limit, loose.pop((limit.metric, limit.where, limit.tap), None)
    for gone in loose.values():
        bound = METRICS[gone.metric].no_limit
        yield Limit(gone.metric, bound, "removed", gone.where, gone.tap), gone


def worst(result: Result) -> tuple[TapVerdict, ...]:
    """The failed taps in order, then those that came nearest to it."""
    passing = [tap for tap in result.taps if tap.passed]
    nearest = sorted(passing, key=lambda tap: -tap.judged_ratio)
    return (*result.verdict.failed, *nearest)[:WORST]


def beside_taps(result: Result) -> tuple[str, ...]:
    """What failed that is no tap."""
    nothing = () if result.taps else ("no tap was compared",)
    return (*nothing, *result.verdict.task_reasons)


# All that there is to say -------------------------------------------------------------------------

T = TypeVar("T")


def _of(tell: Callable[[Result], T]) -> cached_property[T]:
    """What a function tells of the view's result."""
    return cached_property(lambda view: tell(view.result))


def _all_of(tell: Callable[[Result], Iterable[T]]) -> cached_property[tuple[T, ...]]:
    return cached_property(lambda view: tuple(tell(view.result)))


@dataclass(frozen=True)
class View:
    """Everything that a report says of one result; ``bugs`` replace its own gallery."""

    name: str
    result: Result
    bugs: Sequence[Any] | None = None

    passed = _of(lambda result: result.passed)
    state = _of(verdict.state_of)
    word = _of(verdict.word)
    headline = _of(verdict.headline)
    because = _of(verdict.because)
    compared = _of(compared)
    command = _of(lambda result: shlex.join(result.command))
    reproduction = _of(lambda result: text(result.details.get("reproduction")))
    loosened = _all_of(lambda result: map(str, result.loosened))
    figures = _all_of(verdict.figures)
    failed = _all_of(lambda result: result.verdict.failed)
    doubtful = _all_of(lambda result: result.verdict.doubtful)
    beside_taps = _all_of(beside_taps)
    worst = _all_of(worst)
    tree = _all_of(tree)  # every tap, in the order of the run, under its modules
    provenance = _all_of(provenance)
    limits = _all_of(limit_lines)
    inputs = _all_of(input_lines)
    task = _all_of(details.task_facts)
    flips = _all_of(details.flip_lines)
    rankings = _all_of(details.nearest)
    tensors = _of(lambda result: details.tensors(result.details.get("tensors")))
    diagnoses = _all_of(diagnose)

    @cached_property
    def gallery(self) -> tuple[dict[str, Any], ...]:
        own = self.result.details.get("gallery")
        return tuple(details.bug_lines(own if self.bugs is None else self.bugs))


def view(
    result: Result, name: str | Path | None = None, *, gallery: Sequence[Any] | None = None
) -> View:
    """A checked result -> all that there is to say of it; ``gallery`` replaces its own."""
    named = result.bundle.notes.get("name") or result.model_type if name is None else str(name)
    return View(named, result, gallery)


# Several results ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shared:
    """One tap in several results: noise ratio and whether it passed, None where it is missing."""

    label: str
    found: tuple[tuple[float, bool] | None, ...]

    @property
    def failed(self) -> bool:
        return any(one is not None and not one[1] for one in self.found)


def shared_taps(views: Sequence[View]) -> tuple[Shared, ...]:
    """The taps that at least two of the results hold, in the order of the first that has them."""
    tables = [{tap.key: tap for tap in one.result.taps} for one in views]
    labels = {key: tap.label for table in tables for key, tap in table.items()}
    rows = []
    for key, label in labels.items():
        taps = [table.get(key) for table in tables]
        if sum(tap is not None for tap in taps) > 1:
            found = [None if tap is None else (tap.judged_ratio, tap.passed) for tap in taps]
            rows.append(Shared(label, tuple(found)))
    return tuple(rows)

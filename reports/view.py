"""A result -> what a reader is told, in plain values that every format shares."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from samevoice.parity.bounds import METRICS, Limit
from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import FAST, Result
from samevoice.reports import details, verdict
from samevoice.reports.details import BugLine, Fact, Facts, Flip, Nearest, Tensors, mapping, text
from samevoice.reports.diagnose import Diagnosis, diagnose
from samevoice.reports.tree import Branch, Line, tree
from samevoice.reports.verdict import FAST_HEADLINES, HEADLINES, WORDS, Figure, State
from samevoice.reports.words import number, shape

WORST = 12  # taps in a short list


@dataclass(frozen=True)
class LimitLine:
    """A limit as it was used, and the default where it was set looser."""

    limit: Limit
    place: str
    default: float | None = None

    @property
    def loosened(self) -> bool:
        return self.default is not None


@dataclass(frozen=True)
class InputLine:
    """What was fed, and how that went."""

    name: str
    shape: str
    notes: str
    sha256: str
    taps: int
    failed: int
    worst: float
    error: str = ""


@dataclass(frozen=True)
class View:
    """Everything that a report says of one result; ``bugs`` replace its own gallery."""

    name: str
    result: Result
    bugs: Sequence[Any] | None = None

    @property
    def passed(self) -> bool:
        return self.result.passed

    @property
    def state(self) -> State:
        return verdict.state_of(self.result)

    @property
    def headline(self) -> str:
        return (FAST_HEADLINES if self.result.model_type == FAST else HEADLINES)[self.state]

    @property
    def word(self) -> str:
        return WORDS[self.state]

    @property
    def title(self) -> str:
        """What was compared, in one line."""
        return f"{self.name}: {compared(self.result)}"

    @property
    def loosened(self) -> tuple[str, ...]:
        return tuple(str(one) for one in self.result.loosened)

    @property
    def command(self) -> str:
        return shlex.join(self.result.command)

    @property
    def reproduction(self) -> str:
        return text(self.result.details.get("reproduction"))

    @cached_property
    def because(self) -> str:
        return verdict.because(self.result)

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        return verdict.figures(self.result)

    @cached_property
    def failed(self) -> tuple[TapVerdict, ...]:
        return self.result.verdict.failed

    @cached_property
    def doubtful(self) -> tuple[TapVerdict, ...]:
        return self.result.verdict.doubtful

    @cached_property
    def worst(self) -> tuple[TapVerdict, ...]:
        """The failed taps in order, then those that came nearest to it."""
        passing = [tap for tap in self.result.taps if tap.passed]
        nearest = sorted(passing, key=lambda tap: -tap.judged_ratio)
        return (*self.failed, *nearest)[:WORST]

    @cached_property
    def tree(self) -> tuple[Branch | Line, ...]:
        """Every tap, in the order of the run, under the modules that it belongs to."""
        return tuple(tree(self.result))

    @cached_property
    def provenance(self) -> tuple[Facts, ...]:
        return provenance(self.result)

    @cached_property
    def limits(self) -> tuple[LimitLine, ...]:
        return tuple(limit_lines(self.result))

    @cached_property
    def inputs(self) -> tuple[InputLine, ...]:
        return tuple(input_lines(self.result))

    @cached_property
    def task(self) -> tuple[Facts, ...]:
        return tuple(details.task_facts(self.result))

    @cached_property
    def flips(self) -> tuple[Flip, ...]:
        return tuple(details.flip_lines(self.result))

    @cached_property
    def rankings(self) -> tuple[Nearest, ...]:
        return tuple(details.nearest(self.result))

    @cached_property
    def tensors(self) -> Tensors | None:
        return details.tensors(self.result.details.get("tensors"))

    @cached_property
    def gallery(self) -> tuple[BugLine, ...]:
        own = self.result.details.get("gallery")
        return tuple(details.bug_lines(own if self.bugs is None else self.bugs))

    @cached_property
    def diagnoses(self) -> tuple[Diagnosis, ...]:
        return tuple(diagnose(self.result))


def view(
    result: Result, name: str | Path | None = None, *, gallery: Sequence[Any] | None = None
) -> View:
    """A checked result -> all that there is to say of it; ``gallery`` replaces its own."""
    named = result.bundle.notes.get("name") or result.model_type if name is None else str(name)
    return View(named, result, gallery)


def compared(result: Result) -> str:
    return f"{result.model_type}, {result.dtype} on {result.device}"


# What was compared --------------------------------------------------------------------------------


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


def input_lines(result: Result) -> Iterator[InputLine]:
    errors = mapping(result.details.get("errors"))
    by_input: dict[str, list[TapVerdict]] = {}
    for tap in result.taps:
        by_input.setdefault(tap.input, []).append(tap)
    for one in result.inputs:
        taps = by_input.get(one.name, [])
        yield InputLine(
            name=one.name,
            shape=shape(one.shape),
            notes=", ".join(f"{key} {value}" for key, value in sorted(one.notes.items())),
            sha256=one.sha256,
            taps=len(taps),
            failed=sum(not tap.passed for tap in taps),
            worst=max((tap.judged_ratio for tap in taps), default=math.nan),
            error="; ".join(text(v) for k, v in errors.items() if k.split(",")[0] == one.name),
        )


def limit_lines(result: Result) -> Iterator[LimitLine]:
    default = {(x.metric, x.where, x.tap): x.default for x in result.loosened}
    places = {"tap": "every tap", "output": "the outputs", "task": "the task"}
    for limit in result.limits.limits:
        place = places[limit.where] if limit.tap is None else limit.tap
        yield LimitLine(limit, place, default.pop((limit.metric, limit.where, limit.tap), None))
    for (metric, where, tap), was in default.items():
        gone = Limit(metric, METRICS[metric].no_limit, "removed", where, tap)
        yield LimitLine(gone, tap or places[where], was)


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

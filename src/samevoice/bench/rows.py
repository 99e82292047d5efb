"""What was measured: runs, the ratio between two contenders with its spread, and a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

Kind = Literal["ratio", "over", "seconds", "memory"]


@dataclass(frozen=True)
class Series:
    """One contender's runs; a gigabyte is 1e9 bytes."""

    who: str
    seconds: tuple[float, ...]
    processor: tuple[float, ...] = ()  # seconds of all threads
    peak_gb: float | None = None  # the most that was ever resident, where that was looked at
    found: Mapping[str, Any] = field(default_factory=dict)  # by the last run

    @property
    def middle(self) -> float:
        return median(self.seconds)

    @property
    def stages(self) -> Mapping[str, float]:
        """Seconds of the last run, by stage."""
        found: Mapping[str, float] = self.found.get("stages", {})
        return found


@dataclass(frozen=True)
class Target:
    """The most that ours may take.

    ``ratio``: of the other's time; ``over``: seconds more than the other; ``seconds`` and
    ``memory`` (GB): by itself.
    """

    kind: Kind
    most: float

    def __str__(self) -> str:
        unit = {"ratio": "", "over": " s", "seconds": " s", "memory": " GB"}[self.kind]
        return f"≤ {'+' if self.kind == 'over' else ''}{self.most:g}{unit}"


@dataclass(frozen=True)
class Machine:
    """The most that it can do in a second: operations in float32, and bytes copied."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """What a row's time was spent on, at least: operations and bytes of the plain network."""

    flop: float
    nbytes: float
    share: float | None = None  # of the whole
    machine: Machine | None = None

    def bound(self, seconds: float) -> tuple[str, float] | None:
        """What keeps it from being faster, and how much of the time that alone would take."""
        if self.machine is None or not seconds or not (self.flop or self.nbytes):
            return None
        compute = self.flop / self.machine.flops / seconds
        memory = self.nbytes / self.machine.bandwidth / seconds
        return ("compute", compute) if compute >= memory else ("memory", memory)


@dataclass(frozen=True)
class Left:
    """Something that was not measured, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Row:
    """One thing, by samevoice and, where there is something to set it beside, by another."""

    part: str
    what: str
    ours: Series
    theirs: Series | None = None
    target: Target | None = None
    said: str = ""  # what the two agree on, or what takes most of it
    work: Work | None = None

    @property
    def is_stage(self) -> bool:
        """Part of what the row above it is about."""
        return self.what.startswith(" ")

    @property
    def ratios(self) -> tuple[float, ...]:
        """Run by run, since what else the machine did in a round fell on both."""
        if self.theirs is None:
            return ()
        pairs = zip(self.ours.seconds, self.theirs.seconds, strict=True)
        return tuple(ours / theirs for ours, theirs in pairs)

    @property
    def ratio(self) -> float | None:
        return median(self.ratios) if self.ratios else None

    @property
    def figure(self) -> float | None:
        """What the target is about, or None where that was not measured."""
        if self.target is None:
            return None
        if self.target.kind == "over":
            return None if self.theirs is None else self.ours.middle - self.theirs.middle
        figures = {"ratio": self.ratio, "seconds": self.ours.middle, "memory": self.ours.peak_gb}
        return figures[self.target.kind]

    @property
    def met(self) -> bool | None:
        """None where there is no target, or nothing to hold against it."""
        if self.target is None or self.figure is None:
            return None
        return self.figure <= self.target.most

    def as_dict(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "what": self.what,
            "samevoice": _series(self.ours),
            "beside": None if self.theirs is None else _series(self.theirs),
            "ratio": self.ratio,
            "ratios": list(self.ratios),
            "target": None if self.target is None else vars(self.target) | {"met": self.met},
            "said": self.said,
            "work": None if self.work is None else asdict(self.work),
        }


def _series(one: Series) -> dict[str, Any]:
    return {
        "who": one.who,
        "seconds": list(one.seconds),
        "median": one.middle,
        "processor": list(one.processor),
        "peak_gb": one.peak_gb,
        "stages": dict(one.stages),
    }

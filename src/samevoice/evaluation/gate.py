"""The gate over a corpus: whether an evaluation keeps its limits, and whether it can tell.

A limit holds when the upper end of the interval keeps it. Where the figure itself keeps it and the
upper end does not, there are not enough recordings to say. All figures are computed again from the
recordings' own: what was changed by hand does not pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samevoice.converters.bundle import understood
from samevoice.errors import SamevoiceError
from samevoice.evaluation import figures
from samevoice.evaluation.evaluated import hash_of_corpus
from samevoice.evaluation.figures import Figure, Rates, rates_of
from samevoice.evaluation.scores import JACCARD, LENIENT, STRICT, Scores
from samevoice.files import parse_json, read_text

RISE = "_increase"
RATES = (STRICT, LENIENT, JACCARD)
NAMES = (*RATES, *(f"{name}{RISE}" for name in RATES))
_SAME = 1e-9  # of figures that were computed twice


class GateError(SamevoiceError):
    """No evaluation, or no limit that it could keep."""


@dataclass(frozen=True)
class Limit:
    """``most``: points of per cent."""

    name: str
    most: float

    @classmethod
    def of(cls, word: str) -> Limit:
        """``der_increase=0.2``."""
        name, _, text = word.partition("=")
        try:
            most = float(text)
        except ValueError:
            most = math.nan
        if name not in NAMES or not math.isfinite(most):
            raise GateError(
                f"--limit {word!r:.60} is not NAME=POINTS, such as der_increase=0.2; names: "
                f"{', '.join(NAMES)}"
            )
        return cls(name, most)


@dataclass(frozen=True)
class Answer:
    """``wanted``: recordings that it would take to say, where there are too few."""

    limit: Limit
    figure: Figure  # in points
    recordings: int
    kept: bool
    wanted: int | None = None

    @property
    def sentence(self) -> str:
        found, most = self.figure, f"{self.limit.most:g} allowed"
        said = f"{self.limit.name} is {found.value:.2f} points"
        if found.low is not None:
            said += f" (95% interval {found.low:.2f} to {found.high:.2f})"
        if self.kept or self.wanted is None:
            return f"{said}, at most {most}"
        return (
            f"{said}, at most {most}: {self.recordings} recordings are not enough to say, about "
            f"{self.wanted} would be"
        )


class Evaluated:
    """What an evaluation.json says of each recording."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.said = said
        self.corpus: Mapping[str, Any] = said["corpus"]
        self.made_of: list[Mapping[str, Any]] = [dict(one["made_of"]) for one in said["systems"]]
        self.rows: list[Mapping[str, Any]] = list(said["recordings"])
        self.labels = [str(one["label"]) for one in said["systems"]]
        self.answer = str(said["answer"])
        self.failed = [str(one["uri"]) for one in said["failed"]]
        self.referenced = bool(self.corpus["references"])
        if not self.rows or self.labels not in (["A"], ["A", "B"]):
            raise ValueError("it names no recordings, or no systems")
        if self.corpus["sha256"] != hash_of_corpus(self.rows):
            raise ValueError("the hash of its corpus is not that of its recordings")
        if len({row["uri"] for row in self.rows}) < len(self.rows):
            raise ValueError("it names a recording twice")
        self.rates: dict[str, dict[str, Rates]] = {}
        for label, system in zip(self.labels, said["systems"], strict=True):
            if self.referenced:
                self.rates[label] = rates_of([Scores.from_dict(row[label]) for row in self.rows])
            for name, rates in self.rates.get(label, {}).items():
                micro, _ = figures.means(rates)
                if abs(micro.value - float(system[name]["micro"]["value"])) > _SAME:
                    raise ValueError(f"its {name} of {label} is not that of its recordings")

    def figure(self, name: str) -> Figure:
        """Of B, or of A alone; an increase is B's less A's. In points of per cent."""
        if name.endswith(RISE):
            both = (self.rates[label][name.removesuffix(RISE)] for label in self.labels)
            micro, _ = figures.changes(*both)
        else:
            micro, _ = figures.means(self.rates[self.labels[-1]][name])
        ends = (None if x is None else 100 * x for x in (micro.low, micro.high))
        return Figure(100 * micro.value, *ends)


def read(path: Path) -> Evaluated:
    with understood(f"{path} is no evaluation: it", GateError):
        said = parse_json(read_text(path, GateError))
        return Evaluated(said)


def answers(found: Evaluated, limits: Iterable[Limit]) -> Sequence[Answer]:
    return [_answer(found, limit) for limit in limits]


def _answer(found: Evaluated, limit: Limit) -> Answer:
    if not found.referenced:
        raise GateError(f"{limit.name} needs references, which this evaluation was made without")
    if limit.name.endswith(RISE) and len(found.labels) < 2:
        raise GateError(f"{limit.name} needs an evaluation of two systems (--against)")
    figure, count = found.figure(limit.name), len(found.rows)
    if figure.high is None:
        kept, wanted = False, None if figure.value > limit.most else 2
    else:
        kept = figure.high <= limit.most
        wanted = None
        if not kept and figure.value < limit.most:
            # An interval's half shrinks with the root of the number of recordings.
            times = (figure.high - figure.value) / (limit.most - figure.value)
            wanted = math.ceil(count * times**2 - _SAME)
    return Answer(limit, figure, count, kept, wanted)

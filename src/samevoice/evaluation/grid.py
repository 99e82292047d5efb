"""Which numbers of a pipeline are tried: a grid over its clustering's own, and its step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import product
from math import prod
from typing import Any

from samevoice.errors import SamevoiceError
from samevoice.models.diarization.settings import AGGLOMERATIVE, VBX, algorithm, fault

STEP, METHOD = "step", "method"
MOST = 1000  # candidates; more would fit the recordings, and take hours
# What is tried where nothing else is asked for, beside the pipeline's own value.
USUAL: Mapping[str, Mapping[str, str]] = {
    AGGLOMERATIVE: {METHOD: "", "min_cluster_size": "4,8,12", "threshold": "0.5:0.9:0.05"},
    VBX: {"threshold": "0.5:0.7:0.05", "Fa": "0.05,0.07,0.1", "Fb": "0.6,0.8,1"},
}
Value = float | str
Numbers = Mapping[str, Value]


class GridError(SamevoiceError):
    """What is to be tried cannot be."""


@dataclass(frozen=True)
class Grid:
    """The values of each number, and the pipeline's own numbers."""

    axes: Mapping[str, tuple[Value, ...]]
    own: Numbers
    duration: float = 10.0  # of a chunk, in seconds

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(len, self.axes.values()))

    @property
    def candidates(self) -> list[Numbers]:
        """Every combination, the last number changing first."""
        return [
            dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())
        ]

    @property
    def own_at(self) -> tuple[int | None, ...]:
        """Where each of the pipeline's own numbers stands on its axis, if it does."""
        return tuple(
            values.index(self.own[name]) if self.own[name] in values else None
            for name, values in self.axes.items()
        )

    def numbers(self, at: tuple[int, ...]) -> Numbers:
        return {name: values[k] for (name, values), k in zip(self.axes.items(), at, strict=True)}

    def only(self, step: Value) -> Grid:
        """The part of it with that step."""
        return Grid({**self.axes, STEP: (step,)}, self.own, self.duration)


def grid_of(settings: Mapping[str, Any], duration: float, asked: Mapping[str, str | None]) -> Grid:
    """``asked``: the values of each number as they were typed, or None for the usual ones.

    ``duration``: of a chunk in seconds, which the step is a share of.
    """
    clustering = settings.get("clustering", VBX)
    if algorithm(settings).needs_count:
        raise GridError(
            f"{clustering} has no numbers to tune: it is told how many speakers there are"
        )
    usual = {STEP: "", **USUAL[clustering]}
    own = {name: settings[name] for name in usual if name != STEP}
    own = {STEP: settings["segmentation_step"] * duration, **own}
    axes = {}
    for name, text in asked.items():
        if text is not None and name not in usual:
            has = ", ".join(one for one in usual if one != STEP)
            raise GridError(f"{clustering} has no {name}: its numbers are {has}")
    for name, default in usual.items():
        text = asked.get(name)
        tried = _values(name, default if text is None else text)
        axes[name] = tuple(sorted({*tried, own[name]})) if text is None else tried
        if not axes[name]:
            raise GridError(f"{name} names no value to try")
        for value in axes[name]:
            _refuse_odd(name, value, settings, duration)
    if (count := prod(map(len, axes.values()))) > MOST:
        raise GridError(f"the grid has {count} candidates: at most {MOST}, so name fewer values")
    return Grid(axes, own, duration)


def _values(name: str, text: str) -> tuple[Value, ...]:
    if name == METHOD:
        return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    found = values(text) if text else ()
    return tuple(int(x) if name == "min_cluster_size" and not x % 1 else x for x in found)


def _refuse_odd(name: str, value: Value, settings: Mapping[str, Any], duration: float) -> None:
    if isinstance(value, int | float) and value <= 0:
        raise GridError(f"{name} {value:g} cannot be: it must be more than 0")
    if name == STEP:
        if isinstance(value, float) and value > duration:
            raise GridError(f"step {value:g} is more than a chunk's {duration:g} s")
    elif wrong := fault({**settings, name: value}):
        raise GridError(f"the grid {wrong}")


def values(text: str) -> tuple[float, ...]:
    """``0.5:0.9:0.05``, its end included, or ``4,8,12``, or several of both: sorted, each once."""
    found: set[Decimal] = set()
    for part in text.split(","):
        bounds = [_decimal(word, text) for word in part.split(":")]
        if len(bounds) == 1:
            found.add(bounds[0])
            continue
        if len(bounds) != 3 or bounds[2] <= 0 or bounds[0] > bounds[1]:
            raise GridError(f"{part[:40]!r} is no range: write it as FIRST:LAST:STEP")
        first, last, step = bounds
        if (last - first) / step >= MOST:
            raise GridError(f"{part[:40]!r} has more than {MOST} values: name fewer")
        found |= {first + k * step for k in range(int((last - first) / step) + 1)}
    return tuple(sorted({float(one) for one in found}))


def _decimal(word: str, text: str) -> Decimal:
    """Decimals, as 0.5 and 0.05 are typed: steps of floats would miss the end."""
    try:
        found = Decimal(word.strip())
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite() or abs(found.adjusted()) > 12:
        raise GridError(
            f"{text[:40]!r} holds {word[:20]!r}, which is no number: write 0.5:0.9:0.05"
        )
    return found

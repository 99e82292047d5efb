"""Bounds that someone asks for, on a command line or in a TOML file, and what they loosen."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samevoice.files import read_named
from samevoice.parity.bounds import (
    METRICS,
    Limit,
    LimitsError,
    Override,
    Sense,
    Where,
    checked_bound,
)
from samevoice.parity.limits import Limits, limits_for


def parse_override(text: str) -> Override:
    """``noise_ratio=5`` or ``lstm.0:noise_ratio=5``, as typed on a command line."""
    place, equals, number = text.rpartition("=")
    if not equals:
        raise LimitsError(f"limit {text!r} has no '=': write noise_ratio=5 or lstm.0:noise_ratio=5")
    tap, colon, metric = place.rpartition(":")
    if colon and not tap.strip():
        raise LimitsError(f"limit {text!r} names no tap before its ':'")
    try:
        bound = float(number)
    except ValueError:
        raise LimitsError(f"limit {text!r}: {number.strip()!r} is not a number") from None
    return _made(metric.strip(), bound, tap.strip() or None, f"set by {text!r}")


def overrides_from(table: Mapping[str, Any], origin: str = "set by hand") -> list[Override]:
    """``{"noise_ratio": 5, "taps": {"lstm.0": {"noise_ratio": 10}}}`` -> overrides."""
    taps = table.get("taps", {})
    if not isinstance(taps, Mapping):
        raise LimitsError(f"taps in {origin} must be a table of taps, not {taps!r}")
    general = {metric: bound for metric, bound in table.items() if metric != "taps"}
    found = [_made(metric, bound, None, origin) for metric, bound in general.items()]
    for tap, bounds in taps.items():
        if not isinstance(bounds, Mapping) or any(isinstance(x, Mapping) for x in bounds.values()):
            raise LimitsError(
                f"tap {tap!r} in {origin} must be a table such as {{noise_ratio = 10}}: "
                "quote a tap's name if it holds dots"
            )
        found += [_made(metric, bound, tap, origin) for metric, bound in bounds.items()]
    return found


def read_overrides(path: Path) -> list[Override]:
    """The ``[limits]`` table of a TOML file."""
    text = read_named(path, LimitsError)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise LimitsError(f"{path} is not TOML: {error}") from None
    if not isinstance(document.get("limits"), dict):
        raise LimitsError(f"{path} has no [limits] table")
    if strangers := sorted(document.keys() - {"limits"}):
        raise LimitsError(f"{path} holds {strangers[0]!r} beside [limits]: only [limits] is read")
    return overrides_from(document["limits"], str(path))


def _made(metric: str, bound: object, tap: str | None, origin: str) -> Override:
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        raise LimitsError(f"limit {metric} in {origin} must be a number, not {bound!r}")
    override = Override(metric, checked_bound(metric, bound), tap, origin)
    if tap is not None and METRICS[metric].task_section is not None:
        raise LimitsError(f"{metric} is measured for the whole task, not at tap {tap!r}")
    return override


# What was loosened --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loosened:
    """A limit that allows more than the default does."""

    metric: str
    where: Where
    tap: str | None
    default: float
    bound: float

    def __str__(self) -> str:
        place = {"tap": "every tap", "output": "the outputs", "task": "the task"}[self.where]
        place = place if self.tap is None else f"tap {self.tap}"
        return f"{self.metric} at {place}: {self.bound:g} instead of {self.default:g}"


def loosened(limits: Limits, outputs: Collection[str] | None = None) -> tuple[Loosened, ...]:
    """Every limit looser than the default, one that was removed included.

    A named tap is held against the default of an output if it is one of ``outputs``. Not knowing
    the outputs, it is held against the strictest default of the metric.
    """
    default = limits_for(limits.family, limits.dtype, limits.device)
    found = [x for old in default.limits if (x := _general_loosening(limits, old))]
    named = {(one.metric, one.tap) for one in default.limits}
    for new in limits.limits:
        known = new.tap is None or (new.metric, new.tap) in named
        if not known and (x := _tap_loosening(default, new, outputs)):
            found.append(x)
    return tuple(found)


def _general_loosening(limits: Limits, old: Limit) -> Loosened | None:
    metric, place = METRICS[old.metric], (old.metric, old.where, old.tap)
    same = [x for x in limits.limits if (x.metric, x.where, x.tap) == place]
    bound = same[-1].bound if same else metric.no_limit
    if not metric.looser(bound, old.bound):
        return None
    return Loosened(old.metric, old.where, old.tap, old.bound, bound)


def _tap_loosening(default: Limits, new: Limit, outputs: Collection[str] | None) -> Loosened | None:
    assert new.tap is not None
    metric = METRICS[new.metric]
    sides = (False, True) if outputs is None else (new.tap in outputs,)
    held = [default.at(new.tap, output=side).get(new.metric) for side in sides]
    for old in held:
        if old is not None and metric.looser(new.bound, old.bound):
            strictest = min if metric.sense is not Sense.AT_LEAST else max
            bound = strictest(x.bound for x in held if x is not None)
            return Loosened(new.metric, "tap", new.tap, bound, new.bound)
    return None

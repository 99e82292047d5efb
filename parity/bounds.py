"""What is measured, and a bound on one figure: on which side it is good, and what replaces it.

What is not finite violates every limit, an infinite bound included.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from samevoice.errors import SamevoiceError
from samevoice.files import read_named

Where: TypeAlias = Literal["tap", "output", "task"]


class LimitsError(SamevoiceError):
    """A limit that cannot be meant: an unknown metric, no number, a tap that does not exist."""


# Which side of its bound a figure has to stay on.
Sense: TypeAlias = Literal["at most", "at least", "within a factor of"]
AT_MOST: Sense = "at most"
AT_LEAST: Sense = "at least"
WITHIN_FACTOR: Sense = "within a factor of"


@dataclass(frozen=True)
class Metric:
    """How a figure is read: on which side it is good, what a bound may be, whose figure it is."""

    sense: Sense
    low: float = 0.0
    high: float = math.inf
    task_section: str | None = None  # a figure of the task stands in this section of the result

    def holds(self, value: float, bound: float) -> bool:
        if not math.isfinite(value):
            return False
        match self.sense:
            case "at most":
                return value <= bound
            case "at least":
                return value >= bound
            case "within a factor of":
                return value > 0.0 and max(value, 1.0 / value) <= bound

    def looser(self, new: float, old: float) -> bool:
        return new < old if self.sense == AT_LEAST else new > old

    @property
    def no_limit(self) -> float:
        return -math.inf if self.sense == AT_LEAST else math.inf


METRICS: Mapping[str, Metric] = {
    **dict.fromkeys(
        ("noise_ratio", "times_floor", "max_abs", "mean_abs", "rms", "p99", "nmse"),
        Metric(AT_MOST),
    ),
    **dict.fromkeys(("cosine_min", "cosine_mean"), Metric(AT_LEAST, low=-1.0, high=1.0)),
    "norm_ratio": Metric(WITHIN_FACTOR, low=1.0),
    "argmax_agreement": Metric(AT_LEAST, high=1.0),
    "decision_agreement": Metric(AT_LEAST, high=1.0, task_section="agreement"),
    "agreement_beyond_noise": Metric(AT_LEAST, high=1.0, task_section="agreement"),
    "kendall_tau": Metric(AT_LEAST, low=-1.0, high=1.0, task_section="ranking"),
    "embedding_cosine_min": Metric(AT_LEAST, low=-1.0, high=1.0, task_section="similarity"),
    "similarity_gap": Metric(AT_MOST, task_section="similarity"),
    "eer_gap": Metric(AT_MOST, high=1.0, task_section="similarity"),
    "shared_cosine_median": Metric(AT_LEAST, low=-1.0, high=1.0, task_section="fast"),
    "shared_cosine_min": Metric(AT_LEAST, low=-1.0, high=1.0, task_section="fast"),
    "der": Metric(AT_MOST, task_section="diarization"),
    "unexplained_der": Metric(AT_MOST, task_section="diarization"),
}


def checked_bound(metric: str, bound: float) -> float:
    if metric not in METRICS:
        raise LimitsError(f"unknown metric {metric!r}: one of {', '.join(METRICS)}")
    known = METRICS[metric]
    try:
        value = float(bound)
    except OverflowError:
        raise LimitsError(f"limit {metric} is too large for a number") from None
    if math.isnan(value):
        raise LimitsError(f"limit {metric} is NaN, which nothing could violate or keep")
    if not known.low <= value <= known.high and value != known.no_limit:
        raise LimitsError(
            f"limit {metric}={value:g} makes no sense: it lies from {known.low:g} to {known.high:g}"
        )
    return value


# The RMS of n random errors scatters by 1 / sqrt(2n) of itself, so the logarithm of the ratio of
# two by 1 / sqrt(n). Four times that is allowed, which one right port in thousands exceeds; with
# many values the limit's own room is larger.
LUCK, MANY = 4.0, 1000
# An error of four times the reference's, as a noise ratio of few values may be, costs a cosine
# sixteen times as much: it is 1 - r^2 / 2 for a relative error r.
WITHIN_NOISE = 16.0


@dataclass(frozen=True)
class Limit:
    """One bound, why it is that, and where it holds; ``tap`` narrows it to one tap by name."""

    metric: str
    bound: float
    why: str
    where: Where = "tap"
    tap: str | None = None

    def __post_init__(self) -> None:
        checked_bound(self.metric, self.bound)

    def violation(self, value: float | None) -> str | None:
        """What is wrong with this figure, in words; None if nothing is."""
        if value is None:
            return f"{self.metric} was not measured, but must be {self.demand}"
        if METRICS[self.metric].holds(value, self.bound):
            return None
        return f"{self.metric} is {value:.6g}, but must be {self.demand}"

    @property
    def place(self) -> tuple[str, str, str | None, float]:
        """What it holds, where, and how much, whatever the reason."""
        return (self.metric, self.where, self.tap, self.bound)

    def for_values(self, values: int) -> Limit:
        """The limit of a tap with so many values: of few, a noise ratio is partly luck."""
        if self.metric != "noise_ratio" or values >= MANY:
            return self
        wider = math.exp(LUCK / math.sqrt(max(values, 1)))
        why = f"{self.why}; {wider:.3g} times as much for {values} values"
        return replace(self, bound=self.bound * wider, why=why)

    def where_noise_costs(self, lost: float) -> Limit:
        """The limit of a cosine where the reference's own to the truth has lost so much.

        A network that magnifies rounding does so on both sides. How they compare is for the noise
        ratio to say; a cosine catches one bad row among many.
        """
        if not self.metric.endswith("cosine_min") or not 0.0 < lost < math.inf:
            return self
        why = f"{self.why}; less {WITHIN_NOISE:g} times what the reference's own error costs"
        return replace(self, bound=max(-1.0, self.bound - WITHIN_NOISE * lost), why=why)

    @property
    def demand(self) -> str:
        sense = METRICS[self.metric].sense
        return f"{sense} {self.bound:g}" + (" of 1" if sense == WITHIN_FACTOR else "")


@dataclass(frozen=True)
class Override:
    """A bound that someone asked for: everywhere, or at one tap."""

    metric: str
    bound: float
    tap: str | None = None
    origin: str = "set by hand"


# As somebody writes them --------------------------------------------------------------------------


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

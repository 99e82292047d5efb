"""The verdict in words, and the three figures that matter.

Nothing here decides: the verdict is the result's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from samevoice.parity.judge import TapVerdict, task_violations
from samevoice.parity.limits import limits_for
from samevoice.parity.result import FAST, Result
from samevoice.reports.details import error_rates, real, section
from samevoice.reports.words import (
    UNSAID,
    bound_of,
    cosine,
    counted,
    number,
    percent,
    ratio,
    times,
)

State: TypeAlias = Literal["good", "care", "bad"]

WORDS: Mapping[State, str] = {"good": "passed", "care": "passed with care", "bad": "failed"}
HEADLINES: Mapping[State, str] = {
    "good": "This port may be trusted.",
    "care": "This port passes, but its limits were loosened.",
    "bad": "This port may not be trusted.",
}
# Of the fast configuration nothing of this is said: it is near the exact one, and no proof of it.
FAST_HEADLINES: Mapping[State, str] = {
    "good": "The fast configuration costs no more than it may.",
    "care": "The fast configuration passes, but its limits were loosened.",
    "bad": "The fast configuration costs more than it may.",
}
AS_CLOSE = 3.0  # noise ratio up to which two float32 evaluations of one network differ


@dataclass(frozen=True)
class Figure:
    """One of the three figures that matter, and what it means."""

    name: str
    value: str
    means: str
    good: bool = True


def state_of(result: Result) -> State:
    if not result.passed:
        return "bad"
    return "care" if result.loosened else "good"


def worst_of(states: Iterable[State]) -> State:
    return min(states, key=("bad", "care", "good").index)


def word(result: Result) -> str:
    return WORDS[state_of(result)]


def headline(result: Result) -> str:
    return (FAST_HEADLINES if result.model_type == FAST else HEADLINES)[state_of(result)]


def because(result: Result) -> str:
    """Why the verdict is what it is, in a sentence or two."""
    verdict = result.verdict
    if not result.taps:
        return "Nothing was compared, so nothing is proven."
    if result.model_type == FAST and not verdict.reasons:
        return (
            "This is the fast configuration, which shares passes of the embedding network. "
            "Everything before and after that is as close as the exact one must be, and the voices "
            "are near the exact ones. It proves nothing about the exact configuration."
        )
    if verdict.failed:
        first, count = verdict.failed[0], len(verdict.failed)
        said = f"{count:,} of {len(result.taps):,} taps" if count > 1 else "One tap"
        verb = "break their limits" if count > 1 else "breaks its limits"
        return (
            f"MLX leaves PyTorch first at {first.label}: {_reason(result, first)}. "
            f"{said} {verb}; what comes after the first may only follow from it."
        )
    if verdict.task_reasons:
        return f"Every tap passes, but the task does not: {verdict.task_reasons[0]}."
    return _agreeing(result) + (_with_defaults(result) if result.loosened else "")


def _reason(result: Result, tap: TapVerdict) -> str:
    """Why a tap fails, in words that need no glossary where it is the noise ratio."""
    bound = bound_of(result.limits, tap)
    if bound is None or not tap.reasons[0].startswith("noise_ratio is"):
        return tap.reasons[0]
    found = ratio(tap.judged_ratio)
    return f"its error is {found} times PyTorch's own there, and at most {number(bound)} is allowed"


def _with_defaults(result: Result) -> str:
    """What the verdict is worth, where limits were set looser."""
    default = limits_for(result.limits.family, result.limits.dtype, result.limits.device)
    broken = [tap for tap in result.taps if tap.violations(default)]
    task = task_violations(result.task, default)
    if not broken and not task:
        return " It would pass with the default limits, too."
    said = [f"{len(broken):,} taps"] * bool(broken) + ["the task"] * bool(task)
    first = f", first {broken[0].label}" if broken else ""
    return f" With the default limits {' and '.join(said)} would fail{first}."


def _agreeing(result: Result) -> str:
    taps = result.taps
    if all(tap.max_abs == 0.0 for tap in taps):
        return f"All {len(taps):,} arrays are the source's, to the last bit."
    worst = max(tap.judged_ratio for tap in taps)
    outputs = [tap.judged_ratio for tap in taps if tap.output]
    said = f", and at most {ratio(max(outputs))} times at the output" if outputs else ""
    close = worst <= AS_CLOSE
    how = (
        "is as close to the exact values as PyTorch's own float32"
        if close
        else "is within the limits"
    )
    coarse = "" if close or result.dtype == "float32" else f" for {result.dtype} weights"
    return (
        f"At all {len(taps):,} taps MLX {how}{coarse}: "
        f"its error is at most {ratio(worst)} times PyTorch's{said}."
    )


def figures(result: Result) -> tuple[Figure, ...]:
    """The three figures that matter for this kind of model."""
    if fast := section(result, FAST):
        return tuple(_cost_figures(fast, not result.verdict.task_reasons))
    return (_output_figure(result), _taps_figure(result), _task_figure(result))


def _output_figure(result: Result) -> Figure:
    taps = [tap for tap in result.taps if tap.output] or list(result.taps)
    where = "at the output" if any(tap.output for tap in taps) else "at worst"
    if not taps:
        return Figure(f"Error {where}", UNSAID, "nothing was compared", good=False)
    worst = max(taps, key=lambda tap: tap.judged_ratio)
    if bound_of(result.limits, worst, "max_abs") == 0.0:
        gap = max(tap.max_abs for tap in taps)
        means = "of arrays that are copied; none is allowed"
        return Figure("Largest error", number(gap), means, all(tap.passed for tap in taps))
    limit = bound_of(result.limits, worst)
    allowed = f"; at most {number(limit)}× is allowed" if limit is not None else ""
    good = all(tap.passed for tap in taps)
    value = times(worst.judged_ratio)
    return Figure(f"Error {where}", value, f"PyTorch's own float32 error{allowed}", good)


def _taps_figure(result: Result) -> Figure:
    failed, count = len(result.verdict.failed), len(result.taps)
    inputs = len(result.inputs)
    means = f"over {inputs:,} input{'s' * (inputs > 1)}" if inputs else "arrays, one by one"
    agreeing = f"{count - failed:,} of {count:,}"
    return Figure("Taps that agree", agreeing, means, good=bool(count) and not failed)


def _cost_figures(fast: Mapping[str, Any], good: bool) -> Iterator[Figure]:
    """What the fast configuration costs, and what for."""
    yield Figure(
        "Diarization that differs",
        percent(real(fast.get("der_exact"))),
        "of the speech, from the exact configuration's",
        good,
    )
    least = cosine(real(fast.get("shared_cosine_min")))
    yield Figure(
        "Likeness of voices",
        cosine(real(fast.get("shared_cosine_median"))),
        f"median cosine to the exact ones; least {least}",
        good,
    )
    spent, exactly = real(fast.get("seconds")), real(fast.get("seconds_exact"))
    yield Figure(
        "Time",
        times(real(fast.get("time_ratio"))),
        f"the exact configuration's: {number(spent)} s, not {number(exactly)} s",
    )


def _task_figure(result: Result) -> Figure:
    broken = not result.verdict.task_reasons
    agreement = section(result, "agreement")
    ranking, similarity = section(result, "ranking"), section(result, "similarity")
    rates = list(error_rates(result.details))
    if rates:
        return Figure(
            "Diarization that differs", percent(max(rates)), "of the speech, PyTorch as truth"
        )
    if "decision_agreement" in agreement:
        flips, count = counted(agreement.get("flips")), counted(agreement.get("decisions"))
        noise = agreement.get("flips_within_noise")
        within = ", all within float32 noise" if noise and noise == agreement.get("flips") else ""
        share = real(agreement.get("decision_agreement"))
        return Figure(
            "Frames decided alike", percent(share), f"{flips} of {count} differ{within}", broken
        )
    if "neighbour_agreement" in ranking:
        share = real(ranking.get("neighbour_agreement"))
        worst = cosine(real(similarity.get("embedding_cosine_min")))
        means = f"every voice's ranking of the others; least cosine {worst}"
        return Figure("Voices ranked alike", percent(share), means, broken)
    least = min((tap.cosine_min for tap in result.taps), default=-math.inf)
    good = all(tap.passed for tap in result.taps)
    return Figure("Least cosine", cosine(least), "of any row with its truth", good)

"""What went wrong: the proven cause, where parity could prove one; else what the figures show.

Only signs that hold for any network are read: an error that shows none of them is unexplained.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import Cause, Result
from samevoice.reports.details import mapping, text

MOST = 3
INTO = ".input"
OTHER_SHAPE = re.compile(r"the candidate has shape \(([\d, ]*)\), not ")


@dataclass(frozen=True)
class Diagnosis:
    """One likely cause: what it looks like, why one may think so, what to do next, and where."""

    headline: str
    why: str
    next_step: str
    tap: str


@dataclass(frozen=True)
class Signs:
    """What a result shows at its first divergence."""

    result: Result
    name: str

    @cached_property
    def tap(self) -> TapVerdict:
        """The failed tap that says most: the layer alone, and with figures, if there is one."""
        failed = [tap for tap in self.result.verdict.failed if tap.name == self.name]
        return min(failed, key=lambda tap: (not math.isfinite(tap.rms), tap.mode != "forced"))

    @cached_property
    def reasons(self) -> str:
        here = (tap for tap in self.result.taps if tap.name == self.name)
        return "\n".join(words for tap in here for words in tap.reasons)

    @property
    def error(self) -> float:
        """RMS of the error over RMS of the truth; NaN where there is no figure."""
        return math.sqrt(self.tap.nmse) if math.isfinite(self.tap.nmse) else math.nan

    @property
    def missing(self) -> bool:
        return "missing in the candidate" in self.tap.reasons

    @property
    def scaled(self) -> bool:
        """All of the error is one factor: the direction of every row is right."""
        off = abs(self.tap.norm_ratio - 1)
        return off > 1e-6 and math.isclose(self.error, off, rel_tol=5e-3)

    @property
    def permuted(self) -> bool:
        """The same values, elsewhere: their norm is right to the last digits."""
        # An error that owes nothing to a permutation moves the norm by half its square.
        within = min(max(1e-3 * self.tap.nmse, 1e-8), 1e-5)
        return self.error > 1e-3 and abs(self.tap.norm_ratio - 1) < within

    @property
    def adds_up(self) -> bool:
        """Layers were tried alone, and each of them is right."""
        forced = [tap for tap in self.result.taps if tap.mode == "forced"]
        return not math.isnan(self.error) and bool(forced) and all(tap.passed for tap in forced)

    @cached_property
    def axes_swapped(self) -> bool | None:
        """Whether the candidate's shape has the same axes in another order; None if it is right."""
        found = OTHER_SHAPE.search("\n".join(self.tap.reasons))
        if found is None:
            return None
        return sorted(int(n) for n in found[1].split(",") if n.strip()) == sorted(self.tap.shape)


@dataclass(frozen=True)
class Signature:
    """A kind of error, and what it looks like in any network."""

    headline: str  # {tap}: where it starts
    shows: Callable[[Signs], bool]
    why: str
    next_step: str


# The likeliest first: what fits narrowly stands before what fits widely.
SIGNATURES = (
    Signature(
        "The port has nothing at {tap}",
        lambda x: x.missing,
        "The original has a tap of this name, the port does not.",
        "Give the port's layer the name that the original's has, or add the layer.",
    ),
    Signature(
        "{tap} is not the source's array",
        lambda x: not x.result.inputs,
        "These arrays are only copied, so they must be equal to the last bit.",
        "Convert again; if that does not help, look at the array's rule in its family.",
    ),
    Signature(
        "{tap} has its axes in another order",
        lambda x: x.axes_swapped is True,
        "The port's shape has the same axes as the original's, in another order.",
        "Look for a transpose that is missing or done twice; MLX takes channels last.",
    ),
    Signature(
        "{tap} has another shape",
        lambda x: x.axes_swapped is False,
        "The port's array has other sizes than the original's.",
        "Compare this layer's sizes, stride and padding with the original's.",
    ),
    Signature(
        "{tap} has another dtype",
        lambda x: any(words.startswith("the candidate is ") for words in x.tap.reasons),
        "The port's array has another type than the original's.",
        "Look for a cast before this layer.",
    ),
    Signature(
        "{tap} holds NaN or infinity",
        lambda x: "the candidate holds" in x.reasons and "NaN or infinite" in x.reasons,
        "The original's array is finite there.",
        "Look at this layer's divisions, roots and exponentials, and at its dtype's range.",
    ),
    Signature(
        "The errors add up to {tap}, but no layer alone is wrong",
        lambda x: x.adds_up,
        "Each layer stays within its limits when it gets the original's own input.",
        "Look at what the run does between layers, and at layers that no tap shows.",
    ),
    Signature(
        "Everything from {tap} on is off by one factor",
        lambda x: x.scaled,
        "The direction of every row is right; only the scale is wrong.",
        "Look for a scale or a normalisation that is missing or done twice.",
    ),
    Signature(
        "{tap} has the right values in other places",
        lambda x: x.permuted,
        "The norm of every row is right to the last digits, but the values are not.",
        "Look for a reshape, a flattening or an order of channels before this tap.",
    ),
    Signature(
        "The error starts between two layers, before {tap}",
        lambda x: x.name.endswith(INTO),
        "The layer before is right when its input is right, but the input of this one is wrong.",
        "Compare what both do between these two layers, such as activations and transposes.",
    ),
)


def diagnose(result: Result) -> list[Diagnosis]:
    """A red result -> its proven cause, or up to three things that it looks like."""
    if result.passed:
        return []
    if not result.taps:
        return [_nothing_compared()]
    if result.first_divergence is None:
        return [_only_the_task(result)]
    if result.cause is not None:
        found = [_proven(result.cause)]
    else:
        found = list(_hints(Signs(result, result.first_divergence)))[:MOST]
    return [_with_reproduction(found[0], result), *found[1:]]


def _hints(signs: Signs) -> Iterator[Diagnosis]:
    where = signs.name
    errors = map(text, mapping(signs.result.details.get("errors")).values())
    stopped = next(filter(None, errors), "")
    if stopped and signs.missing:
        yield Diagnosis(
            f"The port stopped with an error before {where}",
            _sentence(f"It said: {stopped}"),
            "Run the port alone on this input, and fix that error.",
            where,
        )
        return
    fitting = [one for one in SIGNATURES if one.shows(signs)]
    for one in fitting:
        yield Diagnosis(one.headline.format(tap=where), one.why, one.next_step, where)
    if not fitting:
        yield Diagnosis(
            f"The error starts at {where} and is unexplained: no single known bug causes it",
            _sentence(signs.tap.reasons[0]),
            "Compare this layer's weights and its code with the original's.",
            where,
        )


def _proven(cause: Cause) -> Diagnosis:
    before = f"{cause.ratio_before:.3g}" if math.isfinite(cause.ratio_before) else "infinite"
    return Diagnosis(
        f"Proven cause at {cause.tap}: {cause.bug}",
        f"With this bug corrected, the layer's own noise ratio is {cause.ratio_after:.3g} instead "
        f"of {before}.",
        f"Correct this in {cause.tap}, then compare again: it may hide a second fault.",
        cause.tap,
    )


def _nothing_compared() -> Diagnosis:
    return Diagnosis(
        "Nothing was compared",
        "The result has no taps, so nothing is proven.",
        "Run samevoice parity again, with inputs.",
        "",
    )


def _only_the_task(result: Result) -> Diagnosis:
    return Diagnosis(
        "Every layer stays within its limits, but the task does not",
        _sentence(result.verdict.task_reasons[0]),
        "Look at which decisions differ: near ties change within the noise, and coarse weights "
        "change more of them. Then tighten the limits of the taps, or keep more bits.",
        "",
    )


def _with_reproduction(one: Diagnosis, result: Result) -> Diagnosis:
    """The same, and how to compare this layer alone."""
    folder = text(result.details.get("reproduction"))
    if not folder or not one.tap:
        return one
    files = " ".join(f"{folder}/{side}.safetensors" for side in ("reference", "candidate"))
    return replace(
        one, next_step=f"{one.next_step} To compare its outputs: samevoice judge {files}"
    )


def _sentence(words: str) -> str:
    # The name of a figure keeps its small letter.
    first = words.partition(" ")[0]
    start = words[:1] if "_" in first else words[:1].upper()
    return start + words[1:] + ("" if words.endswith(".") else ".")

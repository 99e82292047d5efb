"""What went wrong: the proven cause, where parity could prove one; else what the figures show.

An error that no known bug explains is only described: where it starts and what it looks like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import Cause, Result

MOST = 3
INTO = ".input"
CANDIDATE_SHAPE = re.compile(r"the candidate has shape \(([\d, ]*)\), not ")


@dataclass(frozen=True)
class Diagnosis:
    """One likely cause: what it looks like, why one may think so, what to do next, and where."""

    headline: str
    why: str
    next_step: str
    tap: str


# What the figures show ----------------------------------------------------------------------------

NORM = re.compile(r"(^|\.)(bn\d*|\w*norm(\.\d+)?|shortcut\.1)$")


@dataclass(frozen=True)
class Signs:
    """What a result shows at its first divergence, and how far that is true elsewhere."""

    result: Result
    name: str

    @cached_property
    def here(self) -> tuple[TapVerdict, ...]:
        return tuple(tap for tap in self.result.taps if tap.name == self.name)

    @cached_property
    def tap(self) -> TapVerdict:
        """The failed tap that says most: the layer alone, and with figures, if there is one."""
        failed = [tap for tap in self.here if not tap.passed]
        return min(failed, key=lambda tap: (not math.isfinite(tap.rms), tap.mode != "forced"))

    @cached_property
    def free(self) -> tuple[TapVerdict, ...]:
        """The same seam with every input, in the run as people run it."""
        return tuple(tap for tap in self.here if tap.mode == "free")

    @property
    def seam(self) -> bool:
        """Between two layers: what goes into the second is wrong, with the first one right."""
        return self.name.endswith(INTO)

    @cached_property
    def wrong_alone(self) -> tuple[str, ...]:
        """Layers that are wrong on the reference's own input, so not through those before."""
        taps = (tap for tap in self.result.verdict.failed if tap.mode == "forced")
        return tuple(dict.fromkeys(tap.name for tap in taps if not tap.name.endswith(INTO)))

    @property
    def adds_up(self) -> bool:
        """Layers were tried alone, and each of them is right."""
        forced = [tap for tap in self.result.taps if tap.mode == "forced"]
        return bool(forced) and all(tap.passed for tap in forced)

    @cached_property
    def reasons(self) -> str:
        return "\n".join(words for tap in self.here for words in tap.reasons)

    # -- the error's size and form

    @property
    def error(self) -> float:
        """RMS of the error over RMS of the truth."""
        return math.sqrt(self.tap.nmse)

    @property
    def scale(self) -> float:
        return self.tap.norm_ratio

    @property
    def finite(self) -> bool:
        return math.isfinite(self.tap.rms) and math.isfinite(self.tap.nmse)

    @property
    def scaled(self) -> bool:
        """All of the error is one factor: the direction of every row is right."""
        off = abs(self.scale - 1)
        return self.finite and off > 1e-6 and math.isclose(self.error, off, rel_tol=5e-3)

    @property
    def permuted(self) -> bool:
        """The same values, elsewhere: their norm is right to the last digits."""
        # An error that owes nothing to a permutation moves the norm by half its square.
        within = max(1e-3 * self.tap.nmse, 1e-8)
        return self.finite and self.error > 1e-3 and abs(self.scale - 1) < min(within, 1e-5)

    @property
    def turned(self) -> bool:
        """Every row points the other way."""
        return self.finite and self.tap.cosine_mean < -0.99

    @property
    def faint(self) -> bool:
        """So small that numbers were rounded, or a constant is a little off."""
        return self.finite and self.error < 5e-3

    @property
    def rounded(self) -> bool:
        """Faint errors in layers that have little in common."""
        taps = [
            tap for tap in self.result.taps if tap.mode == "forced" and tap.name in self.wrong_alone
        ]
        errors = [math.sqrt(tap.nmse) for tap in taps if math.isfinite(tap.nmse)]
        return len(taps) > 2 and len(errors) == len(taps) and median(errors) < 5e-3

    @property
    def constant(self) -> bool:
        """The same error whatever goes in, as an offset makes."""
        gaps = [tap.max_abs for tap in self.free if not tap.passed]
        return len(gaps) > 1 and max(gaps) < 1.02 * min(gaps)

    # -- what makes figures impossible

    @property
    def missing(self) -> bool:
        return "missing in the candidate" in self.tap.reasons

    @property
    def not_finite(self) -> bool:
        return "the candidate holds" in self.reasons and "NaN or infinite" in self.reasons

    @property
    def other_type(self) -> bool:
        return any(words.startswith("the candidate is ") for words in self.tap.reasons)

    @cached_property
    def shape(self) -> tuple[int, ...] | None:
        """The candidate's shape where it is another."""
        found = CANDIDATE_SHAPE.search("\n".join(self.tap.reasons))
        return tuple(int(n) for n in found[1].split(",") if n.strip()) if found else None

    @property
    def axes_swapped(self) -> bool:
        return self.shape is not None and sorted(self.shape) == sorted(self.tap.shape)

    @property
    def stopped(self) -> str:
        """With what message the port broke off."""
        errors = self.result.details.get("errors")
        messages = errors.values() if isinstance(errors, dict) else ()
        return next((str(words) for words in messages if isinstance(words, str)), "")

    @property
    def tf32(self) -> bool:
        return self.result.device != "cpu" and self.result.versions.get("MLX_ENABLE_TF32") != "0"


# The signatures -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """A cause, and what its error looks like."""

    looks_like: str
    shows: Callable[[Signs], bool]
    why: str
    next_step: str


RULES = "the family's table of rules in converters/"

# The likeliest first: what fits narrowly stands before what fits widely.
SIGNATURES: tuple[Signature, ...] = (
    # Numbers in too few bits, found in layers of every kind.
    Signature(
        "TF32 products",
        lambda x: x.tf32 and x.rounded and not any(map(NORM.search, x.wrong_alone)),
        "many layers err by a few parts in ten thousand, normalisations do not, and the device "
        "multiplies in TF32 unless told otherwise",
        "Set MLX_ENABLE_TF32=0 before the first product, and compare again.",
    ),
    Signature(
        "weights or arithmetic in half precision that are called float32",
        lambda x: x.rounded,
        "many layers are each wrong by a few parts in ten thousand, which is what 11 "
        "significant bits leave",
        "See in which dtype the tensors were stored: samevoice inspect names it; no cast belongs "
        "between checkpoint and bundle unless --dtype asks for it.",
    ),
    # Shapes.
    Signature(
        "two axes swapped",
        lambda x: x.axes_swapped,
        "the port has the same axes in another order",
        "Look for a transpose that is missing or stands twice; MLX takes channels last.",
    ),
    Signature(
        "a layer of another size, or a wrong stride or padding",
        lambda x: x.shape is not None,
        "the port's shape is another",
        "Compare this layer's sizes in config.json with the checkpoint's, then stride and padding.",
    ),
    Signature(
        "another dtype",
        lambda x: x.other_type,
        "the port's array has another type than the reference's",
        "Look for a cast before this layer, and whether --dtype was meant.",
    ),
    # NaN.
    Signature(
        "a division by zero, a root of a negative number, or an overflow",
        lambda x: x.not_finite,
        "the port's array holds NaN or infinity that the reference's does not",
        "Look at this layer's divisions, roots and exponentials, and at its dtype's range.",
    ),
    # Any layer.
    Signature(
        "a wrong factor",
        lambda x: x.scaled,
        "the direction is right, and everything is off by one and the same factor",
        "Look for a scale, a temperature or a normalisation that is missing or stands twice.",
    ),
    Signature(
        "a wrong sign",
        lambda x: x.turned and math.isclose(x.scale, 1, rel_tol=1e-3),
        "every value has the other sign",
        "Look for a minus that is missing or stands twice in this layer.",
    ),
    Signature(
        "values that stand elsewhere: an order of rows or channels",
        lambda x: x.permuted,
        "the values are right but stand elsewhere: their norm is the same to the last digits",
        "Look for a reshape, a flattening or a permutation of rows before this tap.",
    ),
    Signature(
        "something between two layers: an activation, a pooling, a padding or the order of axes",
        lambda x: x.seam,
        "the layer before is right when it is fed with the right input, what reaches this one is "
        "not",
        "Read the reference's forward between these two layers, line by line.",
    ),
    Signature(
        "arithmetic in fewer bits in this layer",
        lambda x: (
            x.faint
            and x.name in x.wrong_alone
            and not (x.rounded or x.scaled or x.permuted or x.constant)
        ),
        "this layer alone is wrong, by so little that its numbers may be rounded",
        "Look for a cast, an approximation or another eps in this layer.",
    ),
)


# The diagnosis ------------------------------------------------------------------------------------


def diagnose(result: Result) -> list[Diagnosis]:
    """A red result -> its proven cause, or up to three things that it looks like."""
    if result.passed:
        return []
    if not result.taps:
        return [_nothing_compared()]
    if result.first_divergence is None:
        return [_only_the_task(result)]
    signs = Signs(result, result.first_divergence)
    if result.cause is not None:
        return [_tried(_proven(result.cause), signs)]
    likeliest, *others = [*_special(signs), *_fitting(signs)] or [_unknown(signs)]
    return [_tried(likeliest, signs), *others][:MOST]


def _fitting(signs: Signs) -> Iterator[Diagnosis]:
    seen = set()
    for one in SIGNATURES:
        if one.looks_like not in seen and _shows(one, signs):
            seen.add(one.looks_like)
            headline = f"The error starts at {signs.name} and looks like {one.looks_like}"
            yield Diagnosis(headline, _sentence(one.why), one.next_step, signs.name)


def _shows(one: Signature, signs: Signs) -> bool:
    """A figure that is not there shows nothing."""
    try:
        return one.shows(signs)
    except (ArithmeticError, ValueError):
        return False


def _special(signs: Signs) -> Iterator[Diagnosis]:
    """What is told by where it fails and where not."""
    where = signs.name
    if signs.missing:
        yield _missing(signs)
    elif not signs.result.inputs:
        yield Diagnosis(
            f"{where} is not the source's array",
            "These arrays are only copied, so that they must be equal to the last bit.",
            "Convert again; if that does not help, see its rule in converters/families/plda.py.",
            where,
        )
    elif where.startswith("output.") and not signs.wrong_alone:
        yield Diagnosis(
            f"Only {where} differs: two forms of the same network disagree",
            "The output of the plain run is right, this one is not.",
            "Compare the fast form of each layer with the one that is recorded.",
            where,
        )
    elif signs.finite and signs.adds_up:
        yield Diagnosis(
            f"From {where} on the errors add up, but no layer alone is wrong",
            "Each layer that was fed with the reference's own input keeps its limits.",
            "Compare with more inputs; then look at what the run does between layers, and at "
            "layers that no tap shows.",
            where,
        )


def _missing(signs: Signs) -> Diagnosis:
    where = signs.name
    if signs.stopped:
        return Diagnosis(
            f"The port broke off before {where}",
            f"It said: {signs.stopped}",
            "Run the port alone on this input, and mend what it says.",
            where,
        )
    return Diagnosis(
        f"The port has nothing at {where}",
        "The reference has a tap of this name, the port does not.",
        "Give the port's layer the name that the reference's has, or add the layer.",
        where,
    )


def _proven(cause: Cause) -> Diagnosis:
    before = f"{cause.ratio_before:.3g}" if math.isfinite(cause.ratio_before) else "infinite"
    return Diagnosis(
        f"Proven cause at {cause.tap}: {cause.bug}",
        f"With this put right the layer's own noise ratio is {cause.ratio_after:.3g} instead of "
        f"{before}.",
        f"Correct this in {cause.tap}, then compare again: a second fault may lie behind it.",
        cause.tap,
    )


def _nothing_compared() -> Diagnosis:
    return Diagnosis(
        "Nothing was compared",
        "The result holds no tap, so nothing is proven.",
        "Run samevoice parity again, with inputs.",
        "",
    )


def _only_the_task(result: Result) -> Diagnosis:
    return Diagnosis(
        "Every layer keeps its limits, but the task does not",
        _sentence(result.verdict.task_reasons[0]),
        "Look at which decisions differ: near ties turn within the noise, and coarse weights turn "
        "more of them; then tighten the limits of the taps, or keep more bits.",
        "",
    )


def _unknown(signs: Signs) -> Diagnosis:
    return Diagnosis(
        f"The error starts at {signs.name} and is unexplained: no single known bug makes it",
        _sentence(signs.tap.reasons[0]),
        f"See this layer's rules in {RULES} and its code in models/.",
        signs.name,
    )


def _tried(one: Diagnosis, signs: Signs) -> Diagnosis:
    """The same, and how to see this layer alone; once is enough."""
    folder = signs.result.details.get("reproduction")
    if not isinstance(folder, str) or not folder:
        return one
    files: Sequence[str] = [f"{folder}/{side}.safetensors" for side in ("reference", "candidate")]
    step = f"{one.next_step} What came out here on both sides: samevoice judge {' '.join(files)}"
    return replace(one, next_step=step)


def _sentence(text: str) -> str:
    # The name of a figure keeps its small letter.
    first = text.partition(" ")[0]
    start = text[:1] if "_" in first else text[:1].upper()
    return start + text[1:] + ("" if text.endswith(".") else ".")

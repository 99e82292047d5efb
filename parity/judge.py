"""From taps to a verdict: every figure of every tap, whether it passes, and in words why not.

A tap is one seam of the network with three arrays: the truth (the reference module in float64),
the reference (as people run it) and the candidate (the port). What is absent, shaped otherwise or
of another type is infinitely wrong, so that the figures alone always tell the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from samevoice.errors import SamevoiceError
from samevoice.family import named_object
from samevoice.parity.bounds import METRICS, Limit, LimitsError
from samevoice.parity.limits import ALL_DTYPES, Dtype, Limits, Loosened, limits_for, loosened
from samevoice.parity.metrics import (
    HISTOGRAM_BINS,
    Array,
    Pair,
    is_numeric,
    measured_floor,
    ratio_of,
)

Mode: TypeAlias = Literal["free", "forced"]
# The task's figures and what reports draw of them: section -> name -> number, list or table.
Task: TypeAlias = Mapping[str, Mapping[str, Any]]

# A float32 evaluation that errs by a hundredth of its scale has lost all but two digits.
DOUBT = 0.01

SIDES = ("truth", "reference", "candidate")
# Figures of a tap that the pair of the truth and the candidate has by the same names.
AGAINST_TRUTH = (
    *("max_abs", "mean_abs", "rms", "p99", "nmse", "cosine_min", "cosine_mean", "norm_ratio"),
    *("truth_rms", "histogram"),
)

# Types that a candidate's tap may have besides the reference's own. Weights in few bits leave the
# activations as they are, and these may be halved.
ALSO_ALLOWED: Mapping[Dtype, tuple[str, ...]] = {
    **dict.fromkeys(ALL_DTYPES, ("float16", "bfloat16")),
    "float32": (),
    "float16": ("float16",),
    "bfloat16": ("bfloat16",),
}


class JudgeError(SamevoiceError):
    """The comparison itself is ill-posed: one tap given twice, for example."""


@dataclass(frozen=True, eq=False)
class Tap:
    """One seam, as measured; None stands for an array that did not come.

    ``floors`` holds other equally valid evaluations of the reference, to measure the noise floor.
    ``mode`` is "free" where errors add up from the input on, "forced" where the layer was fed with
    the reference's own input. ``input`` names what the network was fed.
    """

    name: str
    truth: Array | None
    reference: Array | None
    candidate: Array | None
    floors: Sequence[Array] = ()
    mode: Mode = "free"
    input: str = ""

    @property
    def arrays(self) -> dict[str, Array]:
        """What came, by whose it is."""
        sides = {who: getattr(self, who) for who in SIDES}
        return {who: array for who, array in sides.items() if array is not None}


@dataclass(frozen=True)
class Worst:
    """Where a tap is furthest off, and the values there."""

    index: tuple[int, ...]
    truth: float
    reference: float
    candidate: float


@dataclass(frozen=True)
class TapVerdict:
    """All figures of one tap. The defaults are those of a tap that could not be compared."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    mode: Mode = "free"
    input: str = ""
    output: bool = False
    # Against the truth.
    max_abs: float = math.inf
    mean_abs: float = math.inf
    rms: float = math.inf
    p99: float = math.inf
    nmse: float = math.inf
    cosine_min: float = -math.inf
    cosine_mean: float = -math.inf
    norm_ratio: float = math.inf
    # What the reference's own error leaves of it: results before this was measured have none.
    reference_cosine_min: float = 1.0
    # Candidate's RMS error over the reference's, and over the largest of equally valid references.
    noise_ratio: float = math.inf
    times_floor: float | None = None
    # Against the reference.
    argmax_agreement: float = -math.inf
    # What the figures above are made from: scale of the truth, errors of the reference.
    truth_rms: float = math.inf
    reference_rms: float = math.inf
    reference_max_abs: float = math.inf
    noise_floor: float = math.inf
    histogram: tuple[int, ...] = (0,) * HISTOGRAM_BINS
    worst: Worst | None = None
    passed: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name, mode and input, for people: ``lstm.0 (forced, silence)``."""
        notes = [note for note in (self.mode if self.mode != "free" else "", self.input) if note]
        return f"{self.name} ({', '.join(notes)})" if notes else self.name

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.name, self.mode, self.input)

    def held(self, limits: Limits) -> dict[str, Limit]:
        """Metric -> the limit that holds here."""
        lost, values = 1 - self.reference_cosine_min, math.prod(self.shape)
        return limits.at(self.name, output=self.output, values=values, lost=lost)

    def violations(self, limits: Limits) -> tuple[str, ...]:
        """In words, every limit that these figures break; what is not finite always breaks one."""
        held = self.held(limits).values()
        found = [limit.violation(self._limited(limit.metric)) for limit in held]
        broken = [words for words in found if words is not None]
        if not broken and not all(math.isfinite(value) for value in self.figures.values()):
            broken.append("a figure is not finite")
        return tuple(broken)

    @property
    def judged_ratio(self) -> float:
        """The noise ratio that limits hold: what the reference does to itself counts.

        One evaluation of the reference may be lucky. Where others, as valid, were measured, the
        noisiest of them is the unit.
        """
        if self.times_floor is None:
            return self.noise_ratio
        return min(self.noise_ratio, self.times_floor)

    def _limited(self, metric: str) -> float | None:
        """The figure that a limit of this metric holds."""
        if metric == "noise_ratio":
            return self.judged_ratio
        figure: float | None = getattr(self, metric)
        return figure

    @property
    def figures(self) -> dict[str, float]:
        """Metric -> figure, of those that were measured."""
        figures = {name: getattr(self, name) for name in TAP_METRICS}
        return {name: value for name, value in figures.items() if value is not None}


TAP_METRICS = tuple(name for name, metric in METRICS.items() if metric.task_section is None)


@dataclass(frozen=True)
class Verdict:
    """Every tap in the reference's order, the task, and the limits that they were judged by."""

    taps: tuple[TapVerdict, ...]
    limits: Limits
    task: Task = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Nothing compared is nothing proven."""
        return bool(self.taps) and not self.failed and not self.task_reasons

    @property
    def failed(self) -> tuple[TapVerdict, ...]:
        return tuple(tap for tap in self.taps if not tap.passed)

    @property
    def task_reasons(self) -> tuple[str, ...]:
        return task_violations(self.task, self.limits)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that speaks against the port, in order."""
        nothing = () if self.taps else ("no tap was compared",)
        taps = tuple(f"{tap.label}: {words}" for tap in self.failed for words in tap.reasons)
        return (*nothing, *taps, *self.task_reasons)

    @property
    def first_divergence(self) -> str | None:
        """The first failing tap in the order in which the reference computes them."""
        return self.failed[0].name if self.failed else None

    @property
    def doubtful(self) -> tuple[TapVerdict, ...]:
        """Passing taps at which the reference is itself far from the truth.

        There a noise_ratio of 1 says little: the input drives the layer into noise (a constant
        through InstanceNorm), or truth and reference are not the same network.
        """
        return tuple(
            tap for tap in self.taps if tap.passed and tap.reference_rms > DOUBT * tap.truth_rms
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tap.name for tap in self.taps if tap.output))

    @property
    def loosened(self) -> tuple[Loosened, ...]:
        return loosened(self.limits, self.outputs)

    def with_task(self, task: Task) -> Verdict:
        return replace(self, task=task)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return str(named_object("samevoice.reports.notebook:of_verdict")(self))


def judge(
    truth: Mapping[str, Array],
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    limits: Limits,
    *,
    outputs: Collection[str] = (),
    order: Sequence[str] | None = None,
    floors: Sequence[Mapping[str, Array]] = (),
    input: str = "",
) -> Verdict:
    """Arrays by name -> verdict; a name that one of the three lacks is a failed tap.

    The order is the reference's own unless given; names that it lacks come last. Mappings may read
    their arrays lazily: one tap at a time is held.
    """
    names = dict.fromkeys([*reference, *truth, *candidate])
    taps = (
        Tap(
            name,
            truth.get(name),
            reference.get(name),
            candidate.get(name),
            [floor[name] for floor in floors if name in floor],
            input=input,
        )
        for name in names
    )
    return judge_taps(taps, limits, outputs=outputs, order=order)


def judge_pair(
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    limits: Limits | None = None,
    *,
    outputs: Collection[str] = (),
    order: Sequence[str] | None = None,
) -> Verdict:
    """Two dumps and no truth: the reference is taken for the truth.

    Its error is then zero, so that noise_ratio counts roundings of the reference to float32; the
    default limits of the family "dump" say how many are right.
    """
    limits = limits or limits_for("dump", "float32", "cpu")
    return judge(reference, reference, candidate, limits, outputs=outputs, order=order)


def judge_taps(
    taps: Iterable[Tap],
    limits: Limits,
    *,
    outputs: Collection[str] = (),
    order: Sequence[str] | None = None,
) -> Verdict:
    """Taps of any inputs and modes, one at a time, -> verdict.

    The order is that in which names first come unless given. An output or a limited tap that never
    comes is not passed over: the one fails, the other is an error.
    """
    judged = [judge_tap(tap, limits, output=tap.name in outputs) for tap in taps]
    seen: set[tuple[str, str, str]] = set()
    for tap in judged:
        if tap.key in seen:
            raise JudgeError(f"tap {tap.label!r} was given twice: name the inputs apart")
        seen.add(tap.key)
    usual = limits_for(limits.family, limits.dtype, limits.device).named_taps
    if strangers := sorted(limits.named_taps - usual - {tap.name for tap in judged}):
        raise LimitsError(f"limits name the tap {strangers[0]!r}, which was not compared")
    absent = _never_came(judged, outputs, order or ())
    judged += [judge_tap(tap, limits, output=tap.name in outputs) for tap in absent]
    return Verdict(_in_order(judged, order), limits)


def _never_came(
    judged: list[TapVerdict], outputs: Collection[str], order: Sequence[str]
) -> list[Tap]:
    """Outputs that some input lacks, and names of the order that none has."""
    inputs = dict.fromkeys(tap.input for tap in judged) or {"": None}
    came = {(tap.name, tap.input) for tap in judged}
    names = {tap.name for tap in judged} | set(outputs)
    absent = [(name, x) for name in outputs for x in inputs if (name, x) not in came]
    absent += [(name, "") for name in dict.fromkeys(order) if name not in names]
    return [Tap(name, None, None, None, input=x) for name, x in absent]


def _in_order(taps: list[TapVerdict], order: Sequence[str] | None) -> tuple[TapVerdict, ...]:
    names = dict.fromkeys([*(order or ()), *(tap.name for tap in taps)])
    place = {name: k for k, name in enumerate(names)}
    return tuple(sorted(taps, key=lambda tap: place[tap.name]))


def judge_tap(tap: Tap, limits: Limits, *, output: bool = False) -> TapVerdict:
    """One tap -> its figures and verdict."""
    faults = tuple(_faults(tap, limits.dtype))
    arrays = tap.arrays
    first = next(iter(arrays.values()), None)
    held = arrays.get("candidate", first)
    verdict = TapVerdict(
        tap.name,
        shape=() if first is None else first.shape,
        dtype="" if held is None else str(held.dtype),
        mode=tap.mode,
        input=tap.input,
        output=output,
    )
    if faults:
        return replace(verdict, reasons=faults)
    verdict = _measured(verdict, tap)
    reasons = (*_not_finite(tap), *verdict.violations(limits))
    return replace(verdict, passed=not reasons, reasons=reasons)


def _faults(tap: Tap, dtype: Dtype) -> Iterable[str]:
    """What makes figures impossible: absence, another shape, another type."""
    arrays = tap.arrays
    if not arrays:
        yield "was expected, but neither side has it"
        return
    if absent := [who for who in SIDES if who not in arrays]:
        extra = " (extra in the candidate)" if [*arrays] == ["candidate"] else ""
        yield f"missing in the {' and the '.join(absent)}{extra}"
        return
    shape = arrays["truth"].shape
    for who, array in (arrays | {f"floor {k}": one for k, one in enumerate(tap.floors)}).items():
        if array.shape != shape:
            yield f"the {who} has shape {array.shape}, not {shape}"
        if not is_numeric(array.dtype):
            yield f"the {who} is {array.dtype}, which holds no real numbers"
    ours, theirs = arrays["candidate"].dtype, arrays["reference"].dtype
    if ours != theirs and str(ours) not in ALSO_ALLOWED[dtype]:
        yield f"the candidate is {ours}, the reference {theirs}"


def _measured(verdict: TapVerdict, tap: Tap) -> TapVerdict:
    arrays = tap.arrays
    reference = Pair(arrays["truth"], arrays["reference"])
    candidate = Pair(reference.truth, arrays["candidate"])
    floor = measured_floor(reference, tap.floors)

    def times(error: float) -> float:
        return ratio_of(candidate.rms, error, reference.truth_rms)

    return replace(
        verdict,
        **{name: getattr(candidate, name) for name in AGAINST_TRUTH},
        noise_ratio=times(reference.rms),
        times_floor=times(floor) if tap.floors else None,
        argmax_agreement=Pair(reference.got, candidate.got).argmax_agreement,
        reference_rms=reference.rms,
        reference_max_abs=reference.max_abs,
        reference_cosine_min=reference.cosine_min,
        noise_floor=floor,
        worst=_worst(reference, candidate),
    )


def _worst(reference: Pair, candidate: Pair) -> Worst | None:
    index = candidate.worst if reference.finite else reference.worst
    if index is None:
        return None
    truth, got, other = reference.truth, reference.got, candidate.got
    return Worst(index, float(truth[index]), float(got[index]), float(other[index]))


def _not_finite(tap: Tap) -> Iterable[str]:
    """Who holds NaN or infinity, and how many: the figures alone would only say "infinite"."""
    for who, array in tap.arrays.items():
        if array.dtype.kind in "biu":
            continue
        count = int(array.size - np.count_nonzero(np.isfinite(array)))
        if count:
            yield f"the {who} holds {count} values that are NaN or infinite"


def _number(value: object) -> float | None:
    """A figure from a file; an integer of hundreds of digits is as good as infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def task_violations(task: Task, limits: Limits) -> tuple[str, ...]:
    """In words, every limit on the task that its figures break; a figure that is absent does."""
    found = []
    lost = _number(task.get("similarity", {}).get("embedding_cosine_noise")) or 0.0
    for name, limit in limits.of_task(lost).items():
        value = task.get(METRICS[name].task_section or "", {}).get(name)
        found.append(limit.violation(_number(value)))
    return tuple(words for words in found if words is not None)

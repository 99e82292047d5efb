"""A result -> what a reader is told, in plain values that every format shares.

Nothing here decides: the verdict is the result's own. A result's ``details`` are free, so whatever
is taken from them is checked first, and left out where it is not what it should be.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeAlias

from samevoice.parity.judge import TapVerdict, task_violations
from samevoice.parity.limits import METRICS, Limit, Limits, limits_for
from samevoice.parity.result import FAST, Result
from samevoice.reports.diagnose import Diagnosis, diagnose

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
WORST = 12  # taps in a short list
MOST_VOICES = 200  # whose nearest neighbours are listed
UNSAID = "–"
# What became of tensors, where the bundle's own word for it says too little.
FATES: Mapping[str, str] = {"identity": "without a tensor (layers that do nothing)"}
AS_CLOSE = 3.0  # noise ratio up to which two float32 evaluations of one network differ


@dataclass(frozen=True)
class Figure:
    """One of the three figures that matter, and what it means."""

    name: str
    value: str
    means: str
    good: bool = True


@dataclass(frozen=True)
class Fact:
    """Something that was compared, or that it was compared with; ``code`` is for hashes, names."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Facts:
    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Line:
    """A tap as a row of the table; ``depth`` is its place in the tree of modules."""

    tap: TapVerdict
    limit: str
    depth: int = 0
    doubtful: bool = False

    @property
    def verdict(self) -> str:
        if not self.tap.passed:
            return "failed"
        return "doubtful" if self.doubtful else "passed"


@dataclass(frozen=True)
class Branch:
    """A module in the tree, over the taps below it."""

    path: str
    depth: int
    taps: int
    failed: int
    worst: float


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
class Dropped:
    why: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Tensors:
    """What became of the checkpoint's tensors."""

    counts: tuple[tuple[str, int], ...]
    derived: tuple[tuple[str, str, str], ...]
    dropped: tuple[Dropped, ...]
    assumed: tuple[str, ...]

    @property
    def said(self) -> str:
        return ", ".join(f"{count:,} {FATES.get(fate, fate)}" for fate, count in self.counts)


@dataclass(frozen=True)
class BugLine:
    """One injected bug, and whether the harness found it."""

    bug: str
    effect: str
    where: str
    found: str
    noise_ratio: float
    right: bool


@dataclass(frozen=True)
class Nearest:
    """Whom a voice sounds most like, to each framework."""

    voice: str
    reference: str
    reference_similarity: float
    candidate: str
    candidate_similarity: float
    same: bool


@dataclass(frozen=True)
class Flip:
    """A frame that the two frameworks decide otherwise."""

    place: str
    reference: str
    candidate: str
    margin: float
    within_noise: bool


@dataclass(frozen=True)
class View:
    """Everything that a report says of one result."""

    name: str
    result: Result
    state: State
    because: str
    figures: tuple[Figure, ...]
    provenance: tuple[Facts, ...]
    command: str
    limits: tuple[LimitLine, ...]
    inputs: tuple[InputLine, ...]
    task: tuple[Facts, ...]
    flips: tuple[Flip, ...]
    rankings: tuple[Nearest, ...]
    tensors: Tensors | None
    gallery: tuple[BugLine, ...]
    diagnoses: tuple[Diagnosis, ...]
    reproduction: str
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return self.result.passed

    @property
    def headline(self) -> str:
        return (FAST_HEADLINES if self.result.model_type == FAST else HEADLINES)[self.state]

    @property
    def word(self) -> str:
        return WORDS[self.state]

    @property
    def title(self) -> str:
        """What was compared, in one line."""
        result = self.result
        return f"{self.name}: {result.model_type}, {result.dtype} on {result.device}"

    @property
    def loosened(self) -> tuple[str, ...]:
        return tuple(str(one) for one in self.result.loosened)

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


def view(
    result: Result, name: str | Path | None = None, *, gallery: Sequence[Any] | None = None
) -> View:
    """A checked result -> all that there is to say of it; ``gallery`` replaces its own."""
    details = result.details
    return View(
        name=str(name if name is not None else named(result)),
        result=result,
        state=state_of(result),
        because=because(result),
        figures=figures(result),
        provenance=provenance(result),
        command=shlex.join(result.command),
        limits=tuple(limit_lines(result)),
        inputs=tuple(input_lines(result)),
        task=tuple(task_facts(result)),
        flips=tuple(flip_lines(result)),
        rankings=tuple(nearest(result)),
        tensors=tensors(details.get("tensors")),
        gallery=tuple(bug_lines(gallery if gallery is not None else details.get("gallery"))),
        diagnoses=tuple(diagnose(result)),
        reproduction=text(details.get("reproduction")),
    )


def named(result: Result) -> str:
    return result.bundle.notes.get("name") or result.model_type


# The verdict --------------------------------------------------------------------------------------


def state_of(result: Result) -> State:
    if not result.passed:
        return "bad"
    return "care" if result.loosened else "good"


def because(result: Result) -> str:
    """Why the verdict is what it is, in a sentence or two."""
    verdict = result.verdict
    if not result.taps:
        return "Nothing was compared, so nothing is proven."
    if result.model_type == FAST and not verdict.reasons:
        return (
            "This is the fast configuration, which shares passes of the embeddings' trunk: what is "
            "before and behind it is as close as the exact one must be, and the voices are near "
            "the exact ones. It proves nothing of the exact configuration."
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
        "is as close to the exact values as PyTorch's own float32" if close else "keeps its limits"
    )
    coarse = "" if close or result.dtype == "float32" else f" of {result.dtype} weights"
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
        percent(_real(fast.get("der_exact"))),
        "of the speech, from the exact configuration's",
        good,
    )
    least = cosine(_real(fast.get("shared_cosine_min")))
    yield Figure(
        "Likeness of voices",
        cosine(_real(fast.get("shared_cosine_median"))),
        f"median cosine to the exact ones; least {least}",
        good,
    )
    spent, exactly = _real(fast.get("seconds")), _real(fast.get("seconds_exact"))
    yield Figure(
        "Time",
        times(_real(fast.get("time_ratio"))),
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
        flips, count = _counted(agreement.get("flips")), _counted(agreement.get("decisions"))
        share = _real(agreement.get("decision_agreement"))
        return Figure("Frames decided alike", percent(share), f"{flips} of {count} differ", broken)
    if "neighbour_agreement" in ranking:
        share = _real(ranking.get("neighbour_agreement"))
        worst = cosine(_real(similarity.get("embedding_cosine_min")))
        means = f"every voice's ranking of the others; least cosine {worst}"
        return Figure("Voices ranked alike", percent(share), means, broken)
    least = min((tap.cosine_min for tap in result.taps), default=-math.inf)
    good = all(tap.passed for tap in result.taps)
    return Figure("Least cosine", cosine(least), "of any row with its truth", good)


def error_rates(details: Mapping[str, Any]) -> Iterator[float]:
    """The diarization error rates in a whole pipeline's result."""
    for one in mapping(details.get("diarization")).values():
        rate = _real(mapping(one).get("der"))
        if not math.isnan(rate):
            yield rate


# What was compared --------------------------------------------------------------------------------


def provenance(result: Result) -> tuple[Facts, ...]:
    versions = dict(result.versions)
    details = result.details
    machine = [
        Fact("device", _device(text(details.get("device")), result.device)),
        Fact("weights", result.dtype),
        Fact("TF32 in MLX", _tf32(versions.pop("MLX_ENABLE_TF32", ""))),
        Fact("BLAS beneath MLX", versions.pop("blas", "")),
        Fact("platform", versions.pop("platform", "")),
        Fact("torch threads", text(details.get("torch_threads"))),
        *(Fact(f"seconds to {k}", number(_real(v))) for k, v in _items(details.get("seconds"))),
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
        gone = Limit(metric, _none_of(metric), "removed", where, tap)
        yield LimitLine(gone, tap or places[where], was)


def _none_of(metric: str) -> float:
    return METRICS[metric].no_limit


def tensors(found: Any) -> Tensors | None:
    """``details["tensors"]``, or nothing if it is not what it should be."""
    said = mapping(found)
    counts = {str(k): v for k, v in _items(said.get("counts")) if type(v) is int}
    if not counts:
        return None
    fates: list[str] = [
        fate for fate in ("used", "derived", "dropped", "identity") if fate in counts
    ]
    fates += [fate for fate in counts if fate not in fates]
    derived = [[text(x) for x in row] for row in sequence(said.get("derived")) if sequence(row)]
    dropped = [mapping(one) for one in sequence(said.get("dropped"))]
    return Tensors(
        tuple((fate, counts[fate]) for fate in fates),
        tuple((row[0], row[1], row[2]) for row in derived if len(row) == 3),
        tuple(
            Dropped(text(one.get("why")), tuple(text(x) for x in sequence(one.get("names"))))
            for one in dropped
            if one
        ),
        tuple(text(note) for note in sequence(said.get("assumed"))),
    )


def bug_lines(found: Any) -> Iterator[BugLine]:
    for one in map(mapping, sequence(found)):
        if not text(one.get("bug")):
            continue
        yield BugLine(
            bug=text(one.get("bug")),
            effect=text(one.get("effect")),
            where=text(one.get("where")),
            found=text(one.get("found")),
            noise_ratio=_real(one.get("noise_ratio")),
            right=one.get("right") is True,
        )


# The task -----------------------------------------------------------------------------------------

# Figures that say something in a line; tables are drawn instead.
TASK_NAMES: Mapping[str, str] = {
    "decision_agreement": "frames decided alike",
    "agreement_beyond_noise": "decided alike, apart from noise",
    "decisions": "frames",
    "flips": "frames that differ",
    "flips_within_noise": "of these within the noise",
    "embedding_cosine_min": "least cosine of a voice with itself",
    "similarity_gap": "largest change of a similarity",
    "eer_reference": "equal-error rate of PyTorch",
    "eer_candidate": "equal-error rate of MLX",
    "eer_gap": "difference of the equal-error rates",
    "kendall_tau": "Kendall's tau over all rankings",
    "neighbour_agreement": "voices whose ranking is the same",
    "nearest_agreement": "voices with the same nearest neighbour",
    "noise": "gaps below this are noise",
}


SHARES = frozenset(
    ("decision_agreement", "agreement_beyond_noise", "neighbour_agreement", "nearest_agreement")
)
NEAR_ONE = frozenset(("embedding_cosine_min", "kendall_tau"))


def task_facts(result: Result) -> Iterator[Facts]:
    place = {name: k for k, name in enumerate(TASK_NAMES)}
    for title, found in result.task.items():
        facts = [
            Fact(
                TASK_NAMES.get(name, name.replace("_", " ")),
                _formatted(name)(_real(found[name])),
            )
            for name in sorted(found, key=lambda name: (place.get(name, len(place)), name))
            if type(found[name]) in (int, float)
        ]
        if facts:
            yield Facts(title.replace("_", " ").capitalize(), tuple(facts))


def _formatted(name: str) -> Callable[[float], str]:
    """How a figure of the task is written: what is all but 1 must not become 1."""
    return percent if name in SHARES else cosine if name in NEAR_ONE else number


def flip_lines(result: Result) -> Iterator[Flip]:
    names = class_names(result)

    def named(value: Any) -> str:
        return names.get(value, str(value)) if type(value) is int else text(value)

    for one in map(mapping, sequence(section(result, "agreement").get("flips_listed"))):
        if not one:
            continue
        yield Flip(
            place=", ".join(text(k) for k in sequence(one.get("index"))),
            reference=named(one.get("reference")),
            candidate=named(one.get("candidate")),
            margin=_real(one.get("margin")),
            within_noise=one.get("within_noise") is True,
        )


def class_names(result: Result) -> dict[Any, str]:
    """Class -> its name, where the timelines' classes are those that were counted."""
    lines = list(mapping(result.details.get("timelines")).values())
    names = [text(x) for x in sequence(mapping(lines[0] if lines else None).get("classes"))]
    counted = sequence(section(result, "agreement").get("confusion"))
    return dict(enumerate(names)) if len(names) == len(counted) else {}


def nearest(result: Result) -> Iterator[Nearest]:
    """Each voice's nearest neighbour, where the similarity matrices are what they should be."""
    found, noise = section(result, "similarity"), section(result, "ranking").get("noise")
    sides = [_matrix(found.get(side)) for side in ("reference", "candidate")]
    size = len(sides[0])
    if size < 2 or size != len(sides[1]) or size > MOST_VOICES:
        return
    voices = [text(one) for one in sequence(result.details.get("voices"))]
    names = [f"{k}: {voices[k]}" if len(voices) == size else str(k) for k in range(size)]
    for k in range(size):
        others = [j for j in range(size) if j != k]
        ours, theirs = (max(others, key=lambda j: _low(table[k][j])) for table in sides)
        gap = _low(sides[0][k][ours]) - _low(sides[0][k][theirs])
        yield Nearest(
            names[k],
            names[ours],
            sides[0][k][ours],
            names[theirs],
            sides[1][k][theirs],
            ours == theirs or gap <= (_real(noise) if _real(noise) > 0 else 0.0),
        )


def _matrix(found: Any) -> list[list[float]]:
    """A square table of numbers, or nothing."""
    rows = [[_real(x) for x in sequence(row)] for row in sequence(found)]
    return rows if all(len(row) == len(rows) for row in rows) else []


def _low(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def section(result: Result, name: str) -> Mapping[str, Any]:
    return mapping(result.task.get(name))


# The tree of modules ------------------------------------------------------------------------------


def tree(result: Result) -> Iterator[Branch | Line]:
    """Branches and taps in the order of the run: a module that comes back has two branches."""
    doubtful = {tap.key for tap in result.verdict.doubtful}
    limit_of: dict[tuple[str, bool], str] = {}
    lines = []
    for tap in result.taps:
        where = (tap.name, tap.output)
        if where not in limit_of:
            limit_of[where] = limit_words(result.limits, tap)
        lines.append(Line(tap, limit_of[where], doubtful=tap.key in doubtful))
    yield from _branches([(line.tap.name.split("."), line) for line in lines], 0, 0)


Placed: TypeAlias = tuple[list[str], Line]


def _branches(placed: Sequence[Placed], taken: int, depth: int) -> Iterator[Branch | Line]:
    """``taken`` parts of the names are said by the branches above."""

    def part(one: Placed) -> str:
        return one[0][taken] if len(one[0]) > taken else ""

    for name, found in groupby(placed, part):
        group = list(found)
        shared = _shared([parts for parts, _ in group]) if name else 0
        if len(group) == 1 or shared <= taken or depth >= 12:
            for _, line in group:
                yield Line(line.tap, line.limit, depth, line.doubtful)
            continue
        yield _branch(group, shared, depth)
        yield from _branches(group, shared, depth + 1)


def _shared(names: Sequence[list[str]]) -> int:
    """How many first parts all names have in common."""
    first, last = min(names), max(names)
    same = (k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return next(same, min(len(first), len(last)))


def _branch(group: Sequence[Placed], shared: int, depth: int) -> Branch:
    taps = [line.tap for _, line in group]
    failed = sum(not tap.passed for tap in taps)
    worst = max(tap.judged_ratio for tap in taps)
    return Branch(".".join(group[0][0][:shared]), depth, len(taps), failed, worst)


def bound_of(limits: Limits, tap: TapVerdict, metric: str = "noise_ratio") -> float | None:
    limit = tap.held(limits).get(metric)
    return None if limit is None or not math.isfinite(limit.bound) else limit.bound


def limit_words(limits: Limits, tap: TapVerdict) -> str:
    """Every limit that holds at a tap, short: the noise ratio's bound bare, others by name."""
    held = tap.held(limits)
    bounds = {name: one.bound for name, one in held.items()}
    first = bounds.pop("noise_ratio", None)
    words = [] if first is None else [number(first)]
    words += [f"{name} {bound:g}" for name, bound in bounds.items()]
    return ", ".join(words) or UNSAID


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


# Words and numbers --------------------------------------------------------------------------------


def number(value: float, digits: int = 3) -> str:
    """A figure for people: 3 digits, powers of ten where they are shorter."""
    if math.isnan(value):
        return UNSAID
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    small, large = 10.0 ** -max(2, digits - 3), 10.0 ** max(4, digits)
    if not small <= abs(value) < large:
        return f"{value:.2e}"
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def ratio(value: float) -> str:
    """A noise ratio: two decimals where it is about 1, so that a column of them lines up."""
    if value == 0.0 or not 0.01 <= value < 1e5:
        return number(value)
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def times(value: float) -> str:
    return f"{ratio(value)}×"


def percent(share: float) -> str:
    """A share of one; what is not all of it never rounds to 100 %."""
    if not math.isfinite(share):
        return UNSAID
    if share in (0.0, 1.0):
        return f"{100 * share:.0f} %"
    for digits in (0, 1, 2, 3, 4, 6):
        said = float(f"{100 * share:.{digits}f}")
        if said not in (0.0, 100.0) and (digits >= 2 or said == 100 * share):
            return f"{said:.{digits}f} %"
    return f"almost {100 * share:.0f} %"


def cosine(value: float) -> str:
    """A cosine whose distance from 1 is not rounded away."""
    gap = 1.0 - value
    if abs(gap) < 1e-14:
        return "1"  # float64's own rounding
    return f"1−{gap:.0e}" if 0.0 < gap < 1e-4 else number(value, 6)


def shape(sizes: Iterable[int]) -> str:
    return "×".join(str(n) for n in sizes) or "scalar"


def text(value: Any) -> str:
    """Words and numbers as they are; nothing of what else may stand in a free part."""
    return str(value) if isinstance(value, str | int | float) and value is not True else ""


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(mapping(value).items())


def _real(value: Any) -> float:
    """A number, or NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _counted(value: Any) -> str:
    return f"{value:,}" if type(value) is int else UNSAID

"""The bugs that ports make, injected one by one into a right port: each must be found where it is.

A gate that has never been seen to fail proves nothing. Which bugs there are follows from the
network's own layers (bugs.py). A bug that truly changes nothing stands here too, and is shown to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.models.layers import taps
from samevoice.parity import causes, roles, spoiling
from samevoice.parity.bugs import Case
from samevoice.parity.engine import compare_traces, order_of, trace
from samevoice.parity.identity import ParityError
from samevoice.parity.limits import limits_for
from samevoice.parity.metrics import Array, Pair, measured_floor, rms
from samevoice.parity.result import Cause
from samevoice.parity.textbook import Layer, compute

if TYPE_CHECKING:
    from samevoice.parity.judge import Verdict

Progress = Callable[[str, int, int], None]

# What a bug changes counts from twice PyTorch's own float32 error on; below, nobody could tell.
FAINT = 2.0


@dataclass(frozen=True)
class Finding:
    """What the harness said of one bug, and of its cause where that was asked for."""

    bug: str
    effect: str  # what users see of it
    family: str
    architecture: str
    where: str  # the tap at which it must show first; "" where it changes nothing
    found: str  # the first tap that failed, "" if none did
    noise_ratio: float  # there, or the largest of all where nothing failed
    cause: Cause | None = None

    @property
    def right(self) -> bool:
        """Caught at the tap where it sits; or, where it changes nothing, not called a bug."""
        return self.found == self.where

    @property
    def named(self) -> bool:
        """Whether the proven cause is this very bug, or one that is the same in this layer."""
        said = self.cause.bug.split(" or ") if self.cause else ()
        return any(self.bug.endswith(name) for name in said)


class Spoiler:
    """A network at a source, ported rightly, and what its reference says on the examples."""

    def __init__(self, source: str | Path) -> None:
        from samevoice.converters.convert import Options, convert, prepare
        from samevoice.parity.candidate import Candidate
        from samevoice.parity.reference import Reference

        part = prepare(source, model_type="auto", options=Options()).parts[0]
        self.role = roles.named(part.family.role)
        self.architecture = str(part.config["architecture"])
        self.reference, self.source = Reference.load(part), causes.Source(part)
        with TemporaryDirectory() as folder:
            convert(source, Path(folder) / "port")
            self.candidate = Candidate.load(Path(folder) / "port", "cpu")
        chosen = roles.examples(self.candidate.network, roles.BRIEF)
        self.traces = [trace(self.reference, one) for one in chosen]
        self.order = order_of(self.reference, chosen[:1])  # which has all that a voice's run has
        self.layers = spoiling.layers_of(self.candidate.network)
        self.limits = limits_for(self.role.name, "float32", "cpu")
        if failed := self.verdict().failed:
            name = failed[0].name
            raise ParityError(
                f"the port fails at {name!r} before any bug was injected: mend it first"
            )

    def cases(self) -> list[Case]:
        """The bugs of its layers, and of the functions between them."""
        plain = self.traces[0].plain
        seams = (tap for tap in plain.order if tap.endswith(".input") or tap == "output")
        between = (spoiling.function_at(tap, plain.order, plain.taps) for tap in seams)
        found = spoiling.gallery_of(self.candidate.network)
        return [*found, *spoiling.function_cases([one for one in between if one is not None])]

    def verdict(self) -> Verdict:
        return compare_traces(self.traces, self.candidate, self.limits, order=self.order)

    def spoilt(self, *cases: Case, prove: bool = False) -> Finding:
        """The verdict on the candidate with these bugs in it."""
        network = self.candidate.network
        with spoiling.installed(network, *((case.layer, case.wrong) for case in cases)):
            verdict = self.verdict()
            cause = self.cause(verdict) if prove else None
        first = verdict.failed[0] if verdict.failed else None
        ratio = first.judged_ratio if first else max(tap.judged_ratio for tap in verdict.taps)
        found = first.name if first else ("task" if verdict.task_reasons else "")
        places = {where: case for case in cases if (where := self.where(case))}
        where = min(places, key=self.order.index, default="")
        case = places.get(where, cases[0])
        named = (case.name, case.bug.effect, self.role.name, self.architecture)
        return Finding(*named, where, found, ratio, cause)

    def cause(self, verdict: Verdict) -> Cause | None:
        return causes.proven(verdict, self.traces, self.reference, self.candidate, self.source)

    def decided(self) -> Iterator[Finding]:
        """What goes wrong behind the network, in its role's own decisions."""
        if self.role.decisions is None:
            return
        outputs = np.concatenate([one.plain.outputs["output"] for one in self.traces])
        for name, effect, count in self.role.decisions(outputs):
            where, named = "decisions" if count else "", (self.role.name, self.architecture)
            yield Finding(name, effect, *named, where, where, float(count))

    def where(self, case: Case) -> str:
        """The first tap that the bug must show at; "" where it changes nothing."""
        for tap in self.order:
            layer, wrong = self._at(tap, case)
            if layer is not None and self._effect(tap, layer, wrong) > FAINT:
                return tap
        return ""

    def _at(self, tap: str, case: Case) -> tuple[Layer | None, Layer]:
        """The layer at a tap, and what the bug makes of it; of a group its parts."""
        tap = tap if tap.endswith(".input") else taps.path_of(tap)
        if tap == case.layer.path:
            return case.layer, case.wrong
        below = f"{case.layer.path}." if case.layer.path else ""
        part = self.layers.get(tap)
        if part is None or not tap.startswith(below) or case.layer.kind == "function":
            return None, case.wrong
        rest = tap.removeprefix(below)
        held = {
            name: case.wrong.tensors.get(f"{rest}.{name}", x) for name, x in part.tensors.items()
        }
        return part, part.with_tensors(**held)

    def _effect(self, tap: str, layer: Layer, wrong: Layer) -> float:
        """The largest error that the bug makes here, in float32 errors of the reference."""
        found = 0.0
        for one in self.traces:
            example, plain, exact = one.example, one.plain.taps, (one.local or one.truth).taps
            if tap not in plain:
                continue
            before = str(layer.settings.get("before", f"{tap}.input"))
            x = plain.get(before, example.first)
            right, made = (compute(side, x, example.masks) for side in (layer, wrong))
            if right is None or made is None:
                same = all(np.array_equal(wrong.tensors[n], t) for n, t in layer.tensors.items())
                return 0.0 if same else math.inf
            found = max(found, _times(right, made, exact.get(tap), plain.get(tap)))
        return found


def _times(right: Array, made: Array, exact: Array | None, plain: Array | None) -> float:
    if right.shape != made.shape or not np.array_equal(np.isfinite(right), np.isfinite(made)):
        return math.inf
    if exact is None or plain is None or np.array_equal(right, made, equal_nan=True):
        return 0.0
    return rms(right, made) / measured_floor(Pair(exact, plain), [plain])


def examine(
    source: str | Path, *, prove: bool = False, progress: Progress = lambda *_: None
) -> list[Finding]:
    """Port the network at ``source``, see that the port is right, then spoil it bug by bug."""
    spoiler = Spoiler(source)
    cases, found = spoiler.cases(), []
    for done, case in enumerate(cases):
        progress(case.name, done, len(cases))
        found.append(spoiler.spoilt(case, prove=prove))
    progress("", len(cases), len(cases))
    return [*found, *spoiler.decided()]


def examine_pairs(
    source: str | Path, *, most: int = 40, progress: Progress = lambda *_: None
) -> list[Finding]:
    """Two bugs at once, in different layers: the first must be found and proven all the same."""
    spoiler = Spoiler(source)
    cases = [case for case in spoiler.cases() if spoiler.where(case) and case.layer.path]
    pairs = [pair for pair in combinations(cases, 2) if pair[0].layer.path != pair[1].layer.path]
    chosen = [pairs[k] for k in np.random.default_rng(0).permutation(len(pairs))[:most]]
    found = []
    for done, pair in enumerate(chosen):
        progress(pair[0].name, done, len(chosen))
        found.append(spoiler.spoilt(*pair, prove=True))
    return found


def known(config: Mapping[str, Any]) -> list[Case]:
    """The bugs that a gallery of such a network must hold: those of its layers."""
    from samevoice.models import registry

    # The gallery is made of the network as it is before it is quantised.
    whole = {name: value for name, value in config.items() if name != "quantization"}
    return spoiling.gallery_of(registry.build(whole))


def may_show(case: Case, where: str) -> bool:
    """Whether a bug can be looked for at this tap: in its layer; nowhere if it may be idle."""
    path = case.layer.path
    if not where:
        return case.bug.may_idle
    return not path or where == path or where.startswith(f"{path}.")

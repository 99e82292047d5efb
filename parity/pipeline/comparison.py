"""Both pipelines on the same recordings: a verdict on every stage, and on who spoke when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from samevoice.parity.judge import Mode, Tap, Verdict, judge_taps
from samevoice.parity.limits import Limits, precision_of
from samevoice.parity.metrics import Array, ShapeMismatchError, row_cosines
from samevoice.parity.pipeline import outcome, stages
from samevoice.parity.pipeline.original import (
    ReferencePipeline,
    Spoke,
    SpokenTruth,
    TorchRun,
    Truth,
)
from samevoice.parity.pipeline.port import Exact, Listening, PortRun, run_port
from samevoice.parity.pipeline.recordings import Recorded
from samevoice.parity.pipeline.stages import FREE, NETWORK, ORDER, OUTPUTS, TABLE, after
from samevoice.parity.task import Decisions, columns, compare_decisions
from samevoice.parity.turns import Errors, Turn

SCORES = "log_probabilities"


@dataclass(frozen=True, eq=False)
class Compared:
    """One recording on both sides, and what of it can be judged."""

    recording: Recorded
    original: TorchRun
    truth: Truth
    port: PortRun
    middles: Array  # (T,): seconds
    rounded: bool  # whether the networks round more coarsely than float32
    threshold: float | None = None  # of scores of single labels

    @cached_property
    def decisions(self) -> Decisions | None:
        """None where the scores cannot be compared; their tap says so."""
        scores = self.port.free.get(SCORES)
        if scores is None:
            return None
        try:
            return compare_decisions(
                self.original.scores, scores, threshold=self.threshold, truth=self.truth.scores
            )
        except ShapeMismatchError:
            return None

    @property
    def near_floor(self) -> int:
        """How many decisions are so close that float32 noise could turn them."""
        return self.decisions.near if self.decisions else 0

    @property
    def flips_on_floor(self) -> int:
        return sum(flip.within_noise for flip in self.decisions.flips) if self.decisions else 0

    @property
    def turned(self) -> bool:
        """Whether decisions differ, and all of them for want of precision."""
        if self.decisions is None or not self.decisions.flips:
            return False
        return self.rounded or self.flips_on_floor == len(self.decisions.flips)

    @cached_property
    def clusterings(self) -> tuple[str | None, ...]:
        """Where pyannote's clustering parts from itself: in float64, then with errors dealt out."""
        run, truth = self.original, self.truth
        if not isinstance(run, Spoke) or not isinstance(truth, SpokenTruth):
            return ()
        others = (truth.clusters, *truth.others)
        return tuple(stages.first_difference(run.clusters, one) for one in others)

    @property
    def clusters_on_floor(self) -> str | None:
        """The first step of pyannote's clustering that its own rounding decides, if any does."""
        found = [step for step in self.clusterings if step is not None]
        return min(found, key=ORDER.index, default=None)

    @property
    def explained(self) -> bool:
        """Whether float32 could not settle who spoke when."""
        return not self.rounded and (self.turned or self.clusters_on_floor is not None)

    @property
    def tied_spans(self) -> list[outcome.Span]:
        """Seconds around the tied frames, from the middle before to the middle after."""
        last = len(self.middles) - 1
        found: list[int] = np.flatnonzero(self.original.tied).tolist()
        return [
            (float(self.middles[max(k - 1, 0)]), float(self.middles[min(k + 1, last)]))
            for k in found
        ]

    def _errors(self, spoken: Sequence[Turn], got: Sequence[Turn] | None) -> Errors:
        return outcome.errors(spoken, got, self.recording.duration)

    @cached_property
    def der(self) -> Errors:
        return self._errors(self.original.turns, self.port.turns)

    @cached_property
    def exclusive_der(self) -> Errors:
        got = self.port.turns and self.port.exclusive_turns
        return self._errors(self.original.exclusive_turns, got)

    @cached_property
    def unexplained_der(self) -> Errors:
        """What is left of it where float32 settled who spoke when, tied frames left out."""
        plain, got = self.original.turns, self.port.turns
        if not self.der.wrong or (got is not None and self.explained):
            return Errors()
        return outcome.errors(plain, got, self.recording.duration, self.tied_spans)

    @cached_property
    def against_spoken(self) -> tuple[Errors, Errors] | None:
        """pyannote's and the port's errors, where it is known who really spoke."""
        spoken = self.recording.spoken
        if spoken is None:
            return None
        return self._errors(spoken, self.original.turns), self._errors(spoken, self.port.turns)

    @property
    def drawn(self) -> dict[str, Any]:
        """What reports draw; the port's labels are pyannote's where they overlap."""
        plain, spoken = self.original.turns, self.recording.spoken
        found: dict[str, Any] = {
            "duration": self.recording.duration,
            "waveform": outcome.envelope(self.recording.samples),
            "reference": [list(turn) for turn in plain],
            "candidate": [list(turn) for turn in outcome.mapped(plain, self.port.turns or ())],
            "der": self.der.rate,
        }
        return found if spoken is None else found | {"truth": [list(turn) for turn in spoken]}

    @property
    def left_out(self) -> dict[str, str]:
        """Free-running taps that say nothing here, and why."""
        if self.port.exact is None:
            return self._undecided
        why = "the fast configuration gives voices near pyannote's, not the same"
        return {"embeddings": why, **after("trained", why), **self._undecided}

    @property
    def _undecided(self) -> dict[str, str]:
        """Those that hang on what rounding decides."""
        if self.rounded:
            return after("masks", "coarse networks decide differently at the edges of turns")
        if self.turned:
            count = self.flips_on_floor
            return after("masks", f"{count} decisions within float32 noise differ")
        same = self.port.turns == self.original.turns and (
            self.port.exclusive_turns == self.original.exclusive_turns
        )
        if not same and (step := self.clusters_on_floor):
            return after(step, f"rounding decides pyannote's own {step.removesuffix('.free')}")
        left, tied = {}, self.original.tied
        if not same and tied.any():
            why = f"{tied.sum()} frames are tied, and pyannote's sort is not stable"
            left = dict.fromkeys(("turns", "exclusive_turns", "voices.free"), why)
        if self.clusterings and (step := self.clusterings[0]):
            silent = after(step, "there is no truth: float64 leads to other clusters")
            left |= {name: why for name, why in silent.items() if name.endswith(".free")}
        return left


# Taps ---------------------------------------------------------------------------------------------


def taps_of(one: Compared) -> Iterator[Tap]:
    """Every seam of one recording that can be judged."""
    name, plain = one.recording.name, stages.of_original(one.original)
    truth = plain | {
        k: x for k, x in stages.of_truth(one.original, one.truth).items() if k in plain
    }
    others: list[stages.Seams] = []
    if isinstance(one.original, Spoke) and isinstance(one.truth, SpokenTruth):
        others = [stages.fractions(one.original, x) for x in one.truth.others]
    left_out = one.left_out
    for tap in ORDER:
        stage = tap.removesuffix(".free")
        if stage not in plain:
            continue
        forced = one.port.forced.get(stage)
        if tap == stage and TABLE[stage] != NETWORK:
            yield _tap(tap, plain[stage], plain[stage], forced, "forced", name)
        if tap == "embeddings" and forced is not None:
            yield _tap(tap, truth[stage], plain[stage], forced, "forced", name)
        elif tap in FREE and tap not in left_out:
            right = truth[stage]
            floors = [x[stage] for x in others if stage in x and x[stage].shape == right.shape]
            yield _tap(tap, right, plain[stage], one.port.free.get(stage), "free", name, floors)


def _tap(
    tap: str,
    truth: Array,
    plain: Array,
    got: Array | None,
    mode: Mode,
    name: str,
    floors: Sequence[Array] = (),
) -> Tap:
    """On the host only values count; of a network the type is part of what it promises."""
    if got is not None and TABLE.get(tap) != NETWORK:
        got, truth, plain = (np.asarray(x, dtype=np.float64) for x in (got, truth, plain))
    return Tap(tap, truth, plain, got, floors, mode, name)


# The verdict --------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """Every recording compared: a verdict, and what reports draw."""

    verdict: Verdict
    compared: list[Compared]
    details: dict[str, Any]


def compare(
    reference: ReferencePipeline,
    candidate: Listening,
    recordings: Sequence[Recorded],
    limits: Limits,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Comparison:
    """Both pipelines on the same recordings -> a verdict on every stage and on the outcome."""
    compared: list[Compared] = []
    for done, recording in enumerate(recordings):
        progress(f"pipeline: {recording.name}", done, len(recordings))
        original = reference.run(recording.samples)
        truth = reference.truth(original)
        compared.append(compare_one(recording, original, truth, candidate, limits))
    progress("", len(recordings), len(recordings))
    return judged(compared, limits)


def compare_one(
    recording: Recorded, original: TorchRun, truth: Truth, candidate: Listening, limits: Limits
) -> Compared:
    """One recording of which pyannote's side is known."""
    port = run_port(candidate, recording, original)
    rounded = precision_of(limits.dtype, limits.device).times_float32 > 1
    middles = candidate.frames.middles(len(original.counts))
    return Compared(recording, original, truth, port, middles, rounded, candidate.threshold)


def judged(compared: Sequence[Compared], limits: Limits) -> Comparison:
    """What was compared -> the verdict, the task's figures, and what reports draw."""
    taps = [tap for one in compared for tap in taps_of(one)]
    came = {tap.name for tap in taps}
    order = [name for name in ORDER if name in came]
    verdict = judge_taps(taps, limits, outputs=OUTPUTS, order=order)
    details = {
        "diarization": {one.recording.name: one.drawn for one in compared},
        "errors": {
            f"{one.recording.name}, {what}": words
            for one in compared
            for what, words in one.port.errors.items()
        },
        "left_out": {
            one.recording.name: _reasons(one.left_out) for one in compared if one.left_out
        },
    }
    return Comparison(verdict.with_task(task_of(compared)), list(compared), details)


def _reasons(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """Why -> the taps that are left out for it."""
    found: dict[str, list[str]] = {}
    for tap, why in left_out.items():
        found.setdefault(why, []).append(tap)
    return found


# The task -----------------------------------------------------------------------------------------


def task_of(compared: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    """The task's figures over all recordings: decisions, and who spoke when."""
    rows = {one.recording.name: _row(one) for one in compared}
    counted = ("turns", "flips", "flips_on_floor", "decisions_near_floor", "tied_frames")
    whole: dict[str, Any] = {
        "der": _total(one.der for one in compared),
        "exclusive_der": _total(one.exclusive_der for one in compared),
        # Of the worst recording: a good long one does not make up for it.
        "unexplained_der": max((x.unexplained_der.rate for x in compared), default=math.inf),
        **{name: sum(row[name] for row in rows.values()) for name in counted},
        "clusters_on_floor": sum(bool(row["clusters_on_floor"]) for row in rows.values()),
        "recordings": rows,
    }
    if given := [x.against_spoken for x in compared if x.against_spoken is not None]:
        plain, got = map(_total, zip(*given, strict=True))
        whole |= {"der_reference": plain, "der_candidate": got}
    return {"diarization": whole, **_agreement(compared), **_shared(compared)}


def _total(found: Iterable[Errors]) -> float:
    return sum(found, Errors()).rate


def _row(one: Compared) -> dict[str, Any]:
    turns = one.port.turns or ()
    row: dict[str, Any] = {
        "der": one.der.rate,
        "exclusive_der": one.exclusive_der.rate,
        "unexplained_der": one.unexplained_der.rate,
        "speakers_reference": len({label for *_, label in one.original.turns}),
        "speakers_candidate": len({label for *_, label in turns}),
        "turns": len(one.original.turns),
        "turns_candidate": len(turns),
        "decisions": int(one.decisions.reference.size) if one.decisions else 0,
        "flips": len(one.decisions.flips) if one.decisions else 0,
        "flips_on_floor": one.flips_on_floor,
        "decisions_near_floor": one.near_floor,
        "noise": one.decisions.noise if one.decisions else math.inf,
        "clusters_on_floor": one.clusters_on_floor or "",
        "tied_frames": int(one.original.tied.sum()),
    }
    if one.against_spoken is not None:
        plain, got = one.against_spoken
        row |= {"der_reference": plain.rate, "der_candidate": got.rate}
    return row


def _agreement(compared: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    """The decisions of all recordings, as for a segmentation alone."""
    if not compared or any(one.decisions is None for one in compared):
        return {}  # a limit on a figure that is not there is broken
    plain, got, truth = columns(
        (one.original.scores, one.port.free[SCORES], one.truth.scores) for one in compared
    )
    threshold = compared[0].threshold
    return compare_decisions(plain, got, threshold=threshold, truth=truth).sections()


# The fast configuration ---------------------------------------------------------------------------


def _shared(compared: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    """What the fast configuration costs and saves, beside the exact one of the same port."""
    both = [(one, one.port.exact) for one in compared if one.port.exact is not None]
    if not both or len(both) < len(compared) or any(one.port.turns is None for one, _ in both):
        return {}  # a limit on a figure that is not there is broken
    rows = {one.recording.name: _shared_row(one, exact) for one, exact in both}
    seconds = sum(one.port.seconds for one, _ in both)
    exactly = sum(exact.seconds for _, exact in both)
    wrong = (
        outcome.errors(exact.turns, one.port.turns, one.recording.duration) for one, exact in both
    )
    return {
        "fast": {
            "shared_cosine_median": min(row["cosine_median"] for row in rows.values()),
            "shared_cosine_min": min(row["cosine_min"] for row in rows.values()),
            "der_exact": _total(wrong),
            "seconds": seconds,
            "seconds_exact": exactly,
            "time_ratio": seconds / exactly,
            "recordings": rows,
        }
    }


def _shared_row(one: Compared, exact: Exact) -> dict[str, Any]:
    """Cosines of the voices that are clustered, 1 where none is."""
    found = row_cosines(exact.embeddings[exact.train], one.port.free["embeddings"][exact.train])
    return {
        "voices": len(exact.train[0]),
        "cosine_median": float(np.median(found)) if found.size else 1.0,
        "cosine_min": float(found.min()) if found.size else 1.0,
        "seconds": one.port.seconds,
        "seconds_exact": exact.seconds,
    }

"""Choosing a pipeline's numbers on recordings with references, and what that is worth.

The networks hear each recording once a step. What they say is clustered with every candidate and
scored. The best numbers on the recordings that they were chosen on look better than they are, so
the choice is repeated without some recordings and scored on those alone: cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samevoice.errors import SamevoiceError
from samevoice.evaluation.corpus import Recording, Regions
from samevoice.evaluation.grid import METHOD, STEP, Grid, Numbers, Value
from samevoice.evaluation.run import at_hand
from samevoice.evaluation.scores import Score, added, score
from samevoice.models.diarization.output import Turns

SAME = 0.001  # of DER: candidates that are nearer than what is printed are equals
ROUNDING = 1e-6  # seconds of errors
Progress = Callable[[int, Recording], AbstractContextManager[Callable[..., None]]]
At = tuple[int, ...]  # where a candidate stands on each axis of the grid


class TuningError(SamevoiceError):
    """These recordings cannot decide."""


# Scores -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """The score of each recording with each candidate, (*axes, R), and with the own numbers."""

    scores: np.ndarray
    own: tuple[Score, ...]
    regions: tuple[Regions, ...]


def hear(
    recordings: Sequence[Recording], grid: Grid, pipelines: Mapping[Value, Any], progress: Progress
) -> Heard:
    """``pipelines``: one with each step of the grid, and with the step of its own numbers."""
    tried = [*grid.candidates, grid.own]
    scores = np.empty((len(tried), len(recordings)), dtype=object)
    regions = []
    for column, recording in enumerate(recordings):
        with progress(column, recording) as hook:
            for step, pipeline in pipelines.items():
                rows = [row for row, numbers in enumerate(tried) if numbers[STEP] == step]
                found, scored = _scores(recording, pipeline, [tried[row] for row in rows], hook)
                scores[rows, column] = found
        regions.append(scored)
    by_grid = scores[:-1].reshape(*grid.shape, len(recordings))
    return Heard(by_grid, tuple(scores[-1]), tuple(regions))


def _scores(
    recording: Recording, pipeline: Any, tried: Iterable[Numbers], hook: Callable[..., None]
) -> tuple[list[Score], Regions]:
    """Many candidates give the same turns, which are scored once."""
    from samevoice.models.diarization.audio import open_audio

    with ExitStack() as stack:
        here = stack.enter_context(at_hand(recording.audio))
        audio = open_audio(here, pipeline.frames.sample_rate)
        blocks = stack.enter_context(closing(audio.blocks()))
        analysis = pipeline.analyse(blocks, tell=hook, duration=audio.duration)
    scored = recording.regions(analysis.samples / pipeline.frames.sample_rate)
    hook("scoring", None)
    known: dict[Turns, Score] = {}
    found = []
    for numbers in tried:
        one = pipeline.with_settings(**{k: v for k, v in numbers.items() if k != STEP})
        turns = one.result(one.assign(analysis), recording.uri).speaker_diarization
        if turns not in known:
            known[turns] = score(recording.reference, turns, scored)
        found.append(known[turns])
    return found, scored


# The choice ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fold:
    """What was chosen without the recordings that were kept aside."""

    kept: tuple[int, ...]
    chosen: At


@dataclass(frozen=True)
class Tuning:
    """``chosen`` from all recordings; ``folds`` say what that procedure is worth."""

    grid: Grid
    scores: np.ndarray = field(repr=False)  # (*axes, R)
    chosen: At
    folds: tuple[Fold, ...]

    def of(self, at: At) -> Score:
        """Of all recordings with one candidate."""
        return added(self.scores[at])

    @property
    def cross_validated(self) -> Score:
        """Of each recording with the numbers that were chosen without it."""
        return added(self.scores[fold.chosen][k] for fold in self.folds for k in fold.kept)

    def with_step(self, number: int, folds: int | None) -> Tuning:
        """The same among candidates with one step of the grid alone."""
        step = self.grid.axes[STEP][number]
        return tune(self.grid.only(step), self.scores[number : number + 1], folds)

    @property
    def idle(self) -> tuple[str, ...]:
        """The numbers that change nothing on any recording, whatever the others are."""
        still = idle(_wrong(self.scores))
        return tuple(name for name, is_idle in zip(self.grid.axes, still, strict=True) if is_idle)

    @property
    def edges(self) -> dict[str, str]:
        """The numbers that stand at an end of what was tried, and might be better beyond it."""
        found = {}
        for (name, values), at in zip(self.grid.axes.items(), self.chosen, strict=True):
            if _is_ordered(name) and len(values) > 2 and at in (0, len(values) - 1):
                found[name] = "largest" if at else "smallest"
        return {name: end for name, end in found.items() if name not in self.idle}

    def ranked(self) -> list[At]:
        """All candidates, the best first; among equals as the grid goes."""
        return sorted(np.ndindex(self.grid.shape), key=lambda at: round(self.of(at).wrong, 6))


def parts(count: int, folds: int | None) -> list[list[int]]:
    """Which recordings are kept aside together; ``folds`` None keeps each aside alone.

    Neighbours, who may be pieces of one meeting, stay together.
    """
    if count < 2:
        raise TuningError(
            "one recording decides nothing: cross-validation needs two with references, or more"
        )
    if folds is not None and not 2 <= folds <= count:
        raise TuningError(f"{folds} folds of {count} recordings cannot be: 2 to {count}")
    return [part.tolist() for part in np.array_split(np.arange(count), folds or count)]


def tune(grid: Grid, scores: np.ndarray, folds: int | None = None) -> Tuning:
    """The best of the grid, and what is best without each part of the recordings."""
    wrong = _wrong(scores)
    speech = np.array([one.total for one in scores[(0,) * len(grid.shape)]])
    ordered = [_is_ordered(name) for name in grid.axes]

    def best(without: list[int]) -> At:
        near = SAME * float(np.delete(speech, without).sum())
        return choose(np.delete(wrong, without, axis=-1), grid.own_at, ordered, near)

    found = [Fold(tuple(part), best(part)) for part in parts(scores.shape[-1], folds)]
    return Tuning(grid, scores, best([]), tuple(found))


def _is_ordered(name: str) -> bool:
    """Whether neighbours on the axis are alike; each step hears other chunks."""
    return name not in (STEP, METHOD)


def _wrong(scores: np.ndarray) -> np.ndarray:
    """Seconds of errors of each score."""
    return np.array([one.wrong for one in scores.flat]).reshape(scores.shape)


def idle(wrong: np.ndarray) -> list[bool]:
    """(*axes, R) -> of each axis, whether it has several values and changes nothing."""
    return [
        count > 1 and bool(np.ptp(wrong, axis=axis).max() <= ROUNDING)
        for axis, count in enumerate(wrong.shape[:-1])
    ]


def choose(
    wrong: np.ndarray, own: Sequence[int | None], ordered: Sequence[bool], near: float = 0.0
) -> At:
    """(*axes, R) seconds of errors -> the candidate with the fewest, amid its equals.

    Up to ``near`` seconds more are no difference. A number that changes nothing on any recording
    stays as it is. Equals that are neighbours on ``ordered`` axes are one plateau; of the largest,
    the one nearest to all of its others.
    """
    from scipy.ndimage import generate_binary_structure, label
    from scipy.spatial.distance import cdist

    total = wrong.sum(axis=-1)
    best = total <= total.min() + max(near, ROUNDING)
    beside = generate_binary_structure(best.ndim, 1)
    for axis, (at, is_idle) in enumerate(zip(own, idle(wrong), strict=True)):
        if at is not None and is_idle:
            best &= np.indices(best.shape)[axis] == at
        if not ordered[axis]:
            beside &= np.indices(beside.shape)[axis] == 1
    plateaus, _ = label(best, beside)
    largest = np.bincount(plateaus[best]).argmax()
    inside = np.argwhere(plateaus == largest)
    distances = cdist(inside, inside, "cityblock").sum(axis=1)
    return tuple(int(k) for k in inside[distances.argmin()])

"""Who spoke when, on both sides: diarization errors, and the turns that reports draw."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from samevoice.parity.metrics import Array
from samevoice.parity.pipeline.original import TorchRun
from samevoice.parity.pipeline.recordings import Recorded
from samevoice.parity.turns import Errors, Turn

BROKEN = Errors(math.inf, 1.0)
WAVEFORM = 1000  # pairs of least and largest sample that reports draw
Span = tuple[float, float]


def errors(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn] | None,
    duration: float,
    without: Sequence[Span] = (),
) -> Errors:
    """pyannote.metrics' DER without a collar, overlaps included; parts may be left out."""
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    if hypothesis is None:
        return BROKEN
    end = max([duration, *(stop for turns in (reference, hypothesis) for _, stop, _ in turns)])
    left_out = Timeline([Segment(*span) for span in without])
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    found = metric(
        annotation_of(reference),
        annotation_of(hypothesis),
        uem=left_out.gaps(support=Segment(0.0, end)),
        detailed=True,
    )
    wrong = sum(found[name] for name in ("confusion", "missed detection", "false alarm"))
    return Errors(float(wrong), float(found["total"]))


def annotation_of(turns: Sequence[Turn]) -> Any:
    """pyannote.core's Annotation of these turns."""
    from pyannote.core import Annotation, Segment

    annotation = Annotation()
    for number, (start, end, label) in enumerate(turns):
        annotation[Segment(start, end), number] = label
    return annotation


@dataclass(frozen=True)
class Outcome:
    """Who spoke when, on both sides of one recording."""

    whole: Errors
    exclusive: Errors
    unexplained: Errors
    against_spoken: tuple[Errors, Errors] | None

    @classmethod
    def of(
        cls,
        recording: Recorded,
        original: TorchRun,
        turns: tuple[Turn, ...] | None,
        exclusive_turns: tuple[Turn, ...],
        *,
        explained: bool,
        tied: Sequence[Span],
    ) -> Self:
        """``explained``: float32 could not settle who spoke when; ``tied``: nor when exactly."""
        duration, spoken = recording.duration, recording.spoken
        whole = errors(original.turns, turns, duration)
        exclusive = errors(original.exclusive_turns, turns and exclusive_turns, duration)
        settled = not whole.wrong or (turns is not None and explained)
        beside = Errors() if settled else errors(original.turns, turns, duration, tied)
        against = None
        if spoken is not None:
            against = errors(spoken, original.turns, duration), errors(spoken, turns, duration)
        return cls(whole, exclusive, beside, against)


# What reports draw --------------------------------------------------------------------------------


def drawn(
    recording: Recorded, original: TorchRun, turns: Sequence[Turn], outcome: Outcome
) -> dict[str, Any]:
    """One recording; the port's labels are pyannote's where they overlap."""
    found: dict[str, Any] = {
        "duration": recording.duration,
        "waveform": envelope(recording.samples),
        "reference": [list(turn) for turn in original.turns],
        "candidate": [list(turn) for turn in mapped(original.turns, turns)],
        "der": outcome.whole.rate,
    }
    if recording.spoken is not None:
        found["truth"] = [list(turn) for turn in recording.spoken]
    return found


def envelope(samples: Array, most: int = WAVEFORM) -> list[list[float]]:
    """(N,) -> at most so many pairs of least and largest sample, evenly over time."""
    count = min(most, len(samples))
    if not count:
        return []
    edges = np.linspace(0, len(samples), count + 1).astype(np.int64)
    low = np.minimum.reduceat(samples, edges[:-1])
    high = np.maximum.reduceat(samples, edges[:-1])
    return [[round(float(a), 4), round(float(b), 4)] for a, b in zip(low, high, strict=True)]


def mapped(reference: Sequence[Turn], turns: Sequence[Turn]) -> list[Turn]:
    """The same turns with the reference's labels, each given to whoever speaks most at that time.

    Labels without a counterpart stay; one that the reference uses for somebody else gets a mark.
    """
    from pyannote.metrics.diarization import DiarizationErrorRate

    if not turns:
        return []
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants a UEM, which changes nothing here
        names = metric.optimal_mapping(annotation_of(reference), annotation_of(turns))
    taken = {label for *_, label in reference}

    def name(label: str) -> str:
        other = f"{label} (other)" if label in taken else label
        return str(names.get(label, other))

    return [(start, end, name(label)) for start, end, label in turns]

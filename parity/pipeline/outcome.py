"""Diarization errors, and what reports draw of a recording."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from samevoice.parity.metrics import Array
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

"""How far a diarization is from its reference, in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from samevoice.errors import MissingExtraError
from samevoice.evaluation.corpus import Regions
from samevoice.models.diarization.output import Turns


@dataclass(frozen=True)
class Score:
    """Seconds of each kind of error, and of reference speech; scores of recordings add up."""

    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0
    total: float = 0.0

    @property
    def wrong(self) -> float:
        return self.missed + self.false_alarm + self.confusion

    @property
    def der(self) -> float:
        """The diarization error rate; speech where there is none counts in full."""
        return self.wrong / self.total if self.total else float(self.wrong > 0)

    def __add__(self, other: Score) -> Score:
        return Score(
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
            self.total + other.total,
        )

    def as_dict(self) -> dict[str, float]:
        return {"der": self.der, **asdict(self)}


def added(scores: Iterable[Score]) -> Score:
    """Of all recordings together: each second counts once, so long ones count for more."""
    return sum(scores, Score())


def metrics() -> Any:
    """pyannote.metrics; asked for early, so that no work is done in vain where it is missing."""
    try:
        import pyannote.metrics.diarization
    except ImportError as error:
        raise MissingExtraError("pyannote.metrics, which scores,", "evaluate") from error
    return pyannote.metrics


def score(reference: Turns, got: Turns, scored: Regions) -> Score:
    """pyannote.metrics' figures: no collar, overlap scored, labels paired for the least error."""
    rate = metrics().diarization.DiarizationErrorRate()
    from pyannote.core import Segment, Timeline

    uem = Timeline([Segment(start, end) for start, end in scored])
    found = rate.compute_components(reference.to_annotation(), got.to_annotation(), uem=uem)
    names = ("missed detection", "false alarm", "confusion", "total")
    return Score(*(float(found[name]) for name in names))

"""How far a diarization is from its reference, in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from samevoice.errors import MissingExtraError
from samevoice.evaluation.corpus import Regions
from samevoice.models.diarization.output import Turns

COLLAR = 0.25  # seconds on each side of a reference's boundary, as md-eval counts it
STRICT, LENIENT, JACCARD = "der", "der_collar", "jer"


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

    @classmethod
    def from_dict(cls, said: Any) -> Score:
        return cls(*(float(said[one.name]) for one in fields(cls)))


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


def score(reference: Turns, got: Turns, scored: Regions, collar: float = 0.0) -> Score:
    """pyannote.metrics' figures: overlap scored, labels paired for the least error.

    ``collar``: seconds on each side of every boundary that are not scored.
    """
    # What pyannote.metrics calls a collar is both sides together.
    rate = metrics().diarization.DiarizationErrorRate(collar=2 * collar)
    found = _components(rate, reference, got, scored)
    names = ("missed detection", "false alarm", "confusion", "total")
    return Score(*(float(found[name]) for name in names))


def _components(metric: Any, reference: Turns, got: Turns, scored: Regions) -> Any:
    from pyannote.core import Segment, Timeline

    uem = Timeline([Segment(start, end) for start, end in scored])
    return metric.compute_components(reference.to_annotation(), got.to_annotation(), uem=uem)


# By every measure ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Jaccard:
    """The sum of the reference speakers' Jaccard errors, and how many there are."""

    error: float = 0.0
    speakers: int = 0

    @property
    def jer(self) -> float:
        """As pyannote.metrics has it: 1 where the reference has no speaker."""
        return self.error / self.speakers if self.speakers else 1.0


@dataclass(frozen=True)
class Scores:
    """What one recording is judged by; speakers are those who speak where it is scored."""

    strict: Score
    lenient: Score  # with COLLAR
    jaccard: Jaccard
    found: int  # speakers

    @property
    def speakers(self) -> int:
        """Of the reference."""
        return self.jaccard.speakers

    def as_dict(self) -> dict[str, Any]:
        return {
            STRICT: self.strict.as_dict(),
            LENIENT: self.lenient.as_dict(),
            JACCARD: {JACCARD: self.jaccard.jer, **asdict(self.jaccard)},
            "speakers": self.found,
        }

    @classmethod
    def from_dict(cls, said: Any) -> Scores:
        """What ``as_dict`` gave; KeyError or TypeError where it is not that."""
        strict, lenient = (Score.from_dict(said[name]) for name in (STRICT, LENIENT))
        jaccard = Jaccard(float(said[JACCARD]["error"]), int(said[JACCARD]["speakers"]))
        return cls(strict, lenient, jaccard, int(said["speakers"]))


def judge(reference: Turns, got: Turns, scored: Regions) -> Scores:
    """Every figure of one recording."""
    jaccard = _components(metrics().diarization.JaccardErrorRate(), reference, got, scored)
    return Scores(
        score(reference, got, scored),
        score(reference, got, scored, COLLAR),
        Jaccard(float(jaccard["speaker error"]), int(jaccard["speaker count"])),
        len({who for start, end in scored for who in got.crop(start, end).labels()}),
    )

"""An evaluation as its evaluation.json tells it: all that a page needs is in there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from samevoice.converters.bundle import understood
from samevoice.errors import SamevoiceError
from samevoice.evaluation.corpus import Corpus, Recording, Regions
from samevoice.evaluation.evaluated import LABELS, SCHEMA, Evaluation
from samevoice.evaluation.run import Result
from samevoice.evaluation.scores import Score, Scores
from samevoice.evaluation.systems import Written
from samevoice.files import read_versioned
from samevoice.models.diarization.output import Turns

Drawn = Mapping[tuple[str, str], Turns]  # by recording and side


class SavedError(SamevoiceError):
    """A file is no evaluation."""


@dataclass(frozen=True)
class Saved(Evaluation):
    """Turns are only those of its timelines, so that what else came of turns is told.

    ``shares``: of overlap; ``counts``: of speakers, of each recording by each system.
    """

    shares: list[float]
    counts: list[dict[str, int]]
    sums: list[str]  # of the recordings

    @cached_property
    def overlaps(self) -> list[float]:
        return self.shares

    @cached_property
    def hashes(self) -> list[str]:
        return self.sums

    def _found(self, label: str, at: int) -> int:
        return self.counts[at][label]


def read(path: Path) -> Saved:
    """Its figures are computed again from those of the recordings."""
    said = read_versioned(path, SCHEMA, SavedError, "is no evaluation.json of this version")
    with understood(f"{path} is no evaluation: it", SavedError):
        return _evaluation(said)


def _evaluation(said: Mapping[str, Any]) -> Saved:
    rows = list(said["recordings"])
    systems = tuple(Written(str(x["name"]), dict(x["made_of"]), {}) for x in said["systems"])
    labels = LABELS[: len(systems)]
    if said["command"] != "evaluate" or not rows or len(systems) not in (1, 2):
        raise ValueError("it names no recordings, or no systems")
    referenced = bool(said["corpus"]["references"])
    drawn = {
        (str(one["uri"]), side): _turns(one[side])
        for one in said["timelines"]
        for side in ("reference", *labels)
    }
    failed = {str(one["uri"]): str(one["why"]) for one in said["failed"]}
    recordings = [_recording(row, drawn) for row in rows]
    recordings += [Recording(uri, "", Turns()) for uri in failed]
    if len({one.uri for one in recordings}) < len(rows) + len(failed):
        raise ValueError("a recording stands there twice")
    results = {
        str(row["uri"]): tuple(_result(row, label, drawn, referenced) for label in labels)
        for row in rows
    }
    corpus = Corpus(str(said["corpus"]["name"]), tuple(recordings), referenced)
    shares = [float(row["overlap"]) for row in rows] if referenced else []
    counts = [{label: int(row[label]["speakers"]) for label in labels} for row in rows]
    sums = [str(row["sha256"]) for row in rows]
    return Saved(corpus, systems, results, failed, shares, counts, sums)


def _recording(row: Mapping[str, Any], drawn: Drawn) -> Recording:
    uri, regions = str(row["uri"]), _regions(row) if row["uem"] else None
    return Recording(uri, str(row["audio"]), drawn.get((uri, "reference"), Turns()), regions)


def _result(row: Mapping[str, Any], label: str, drawn: Drawn, referenced: bool) -> Result:
    one, turns = row[label], drawn.get((str(row["uri"]), label), Turns())
    apart = Score.from_dict(row["disagreement"]) if label != LABELS[0] else None
    scores = Scores.from_dict(one) if referenced else None
    seconds, peak = one["seconds"], one["peak_memory"]
    return Result(
        lambda: turns,
        float(row["duration"]),
        _regions(row),
        scores,
        None if seconds is None else float(seconds),
        None if peak is None else int(peak),
        apart,
    )


def _regions(row: Mapping[str, Any]) -> Regions:
    return tuple((float(start), float(end)) for start, end in row["scored"])


def _turns(spans: Iterable[Any]) -> Turns:
    return Turns.of((float(start), float(end), str(who)) for start, end, who in spans)

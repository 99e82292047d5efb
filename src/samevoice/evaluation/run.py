"""One recording through one system: its turns and scores, kept so that nothing is done twice.

Below the output, ``SYSTEM/URI.rttm`` holds the turns and ``SYSTEM/URI.json`` what they were made of
and how good they are. The second is written last: where it is there and fits, the work is done.
"""

from __future__ import annotations

import hashlib
import re
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samevoice import outputs
from samevoice.evaluation.corpus import CorpusError, Recording, Regions
from samevoice.evaluation.scores import COLLAR, Scores, judge
from samevoice.evaluation.systems import Hook, System
from samevoice.files import parse_json, read_text, sha256
from samevoice.models.diarization.formats import json_text
from samevoice.models.diarization.output import Turns, read_rttm

SCHEMA = 1
KIND = "evaluated"  # of a recording's JSON, for ``outputs``


@dataclass(frozen=True)
class Result:
    """``scores``: None where the recording has no reference. ``peak``: bytes."""

    turns: Turns
    duration: float
    scored: Regions
    scores: Scores | None
    seconds: float | None = None
    peak: int | None = None


@dataclass(frozen=True)
class Kept:
    """What a recording's JSON says."""

    made_of: Mapping[str, Any]
    rttm: str  # its hash
    duration: float
    seconds: float | None
    peak: int | None
    scored_by: str
    scores: Scores | None

    def as_dict(self, uri: str) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "command": "evaluate",
            "uri": uri,
            "made_of": dict(self.made_of),
            "rttm": self.rttm,
            "duration": self.duration,
            "seconds": self.seconds,
            "peak_memory": self.peak,
            "scored_by": self.scored_by,
            "scores": self.scores.as_dict() if self.scores else None,
        }

    @classmethod
    def read(cls, path: Path) -> Kept | None:
        """None where the file is not there, or damaged."""
        try:
            said = parse_json(read_text(path, CorpusError))
            return cls(
                dict(said["made_of"]),
                str(said["rttm"]),
                float(said["duration"]),
                None if said["seconds"] is None else float(said["seconds"]),
                None if said["peak_memory"] is None else int(said["peak_memory"]),
                str(said["scored_by"]),
                None if said["scores"] is None else Scores.from_dict(said["scores"]),
            )
        except (OSError, CorpusError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Work:
    """``audio``: the SHA-256 of the recording."""

    recording: Recording
    system: System
    folder: Path
    audio: str
    referenced: bool

    def result(self, hook: Hook) -> Result:
        """What is kept, as far as it fits; what does not is made now, and kept."""
        rttm, about = files(self.folder, self.system.name, self.recording.uri)
        found = kept = self._fitting(Kept.read(about), rttm)
        if found is None:
            found = self._run(rttm, hook)
        turns = next(iter(read_rttm(rttm).values()), Turns())
        scored = self.recording.regions(found.duration)
        if found.scored_by != self._scored_by:
            hook("scoring", None)
            # The turns are scored as they stand in the file.
            scores = judge(self.recording.reference, turns, scored) if self.referenced else None
            found = replace(found, scored_by=self._scored_by, scores=scores)
        if found is not kept:
            outputs.write({about: json_text(found.as_dict(self.recording.uri))})
        return Result(turns, found.duration, scored, found.scores, found.seconds, found.peak)

    def _fitting(self, kept: Kept | None, rttm: Path) -> Kept | None:
        """None unless it is about these very bytes."""
        fits = kept and kept.made_of == self._made_of and kept.rttm == _hash_of(rttm)
        return kept if fits else None

    def _run(self, rttm: Path, hook: Hook) -> Kept:
        _forget_peak()
        heard = self.system.hear(self.recording, hook)
        peak = None if heard.seconds is None else _peak()
        outputs.write({rttm: heard.turns.to_rttm()})
        made = self._made_of, _hash_of(rttm), heard.duration, heard.seconds, peak
        return Kept(*made, scored_by="", scores=None)

    @property
    def _made_of(self) -> dict[str, Any]:
        return {"audio": self.audio, **self.system.made_of}

    @property
    def _scored_by(self) -> str:
        """One hash for the reference, the regions and the way to score."""
        said = (self.recording.reference.spans, self.recording.scored, COLLAR, self.referenced)
        return hashlib.sha256(repr(said).encode("utf-8", "backslashreplace")).hexdigest()


# Files --------------------------------------------------------------------------------------------


def files(folder: Path, system: str, uri: str) -> tuple[Path, Path]:
    """Where a recording's turns go, and what is known of them; no two names become one."""
    plain = re.sub(r"[%/\\:\x00-\x1f]", lambda odd: f"%{ord(odd[0]):02X}", uri)
    return folder / system / f"{plain}.rttm", folder / system / f"{plain}.json"


def hash_of_audio(recording: Recording) -> str:
    return sha256(recording.audio, CorpusError)


def _hash_of(rttm: Path) -> str:
    """Empty where there is none."""
    try:
        return sha256(rttm, CorpusError)
    except OSError:
        return ""


# Memory -------------------------------------------------------------------------------------------


def _forget_peak() -> None:
    """So that the next peak is that of the next recording; only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most memory of this process, in bytes."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most

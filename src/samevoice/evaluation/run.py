"""One recording through the systems: turns and scores, kept so that nothing is done twice.

Below the output, ``SYSTEM/URI.rttm`` holds the turns and ``SYSTEM/URI.json`` what they were made of
and how good they are. The second is written last: where it is there and fits, the work is done.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from samevoice import machine, outputs
from samevoice.errors import MissingExtraError
from samevoice.evaluation.corpus import CorpusError, Recording, Regions
from samevoice.evaluation.scores import COLLAR, Score, Scores, judge, score
from samevoice.evaluation.systems import EvaluationError, Hear, Merged, System
from samevoice.files import parse_json, read_text, sha256, sha256_of
from samevoice.models.diarization import formats
from samevoice.models.diarization.formats import json_text
from samevoice.models.diarization.output import Turns, read_rttm
from samevoice.workers.engine import Hook

SCHEMA = 1
KIND = "evaluated"  # of a recording's JSON, for ``outputs``


@dataclass(frozen=True)
class Kept:
    """What one system made of a recording. ``text``: the turns as RTTM; ``peak``: bytes.

    ``scored_by`` is a hash; ``scores`` are None where the recording has no reference.
    """

    made_of: Mapping[str, Any]
    text: str
    duration: float
    seconds: float | None
    peak: int | None
    scored_by: str = ""
    scores: Scores | None = None

    @property
    def turns(self) -> Turns:
        """As they stand in the file."""
        spans = formats.spans_in(self.text, "the RTTM")
        return next((Turns.of(found) for found in spans.values()), Turns())

    def as_dict(self, uri: str) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "command": "evaluate",
            "uri": uri,
            "made_of": dict(self.made_of),
            "rttm": sha256_of(self.text),
            "duration": self.duration,
            "seconds": self.seconds,
            "peak_memory": self.peak,
            "scored_by": self.scored_by,
            "scores": self.scores.as_dict() if self.scores else None,
        }

    @classmethod
    def read(cls, rttm: Path, about: Path) -> Kept | None:
        """None where one of the files is not there, damaged, or not about the other."""
        try:
            said = parse_json(read_text(about, CorpusError))
            text = read_text(rttm, CorpusError)
            if str(said["rttm"]) != sha256_of(text):
                return None
            return cls(
                dict(said["made_of"]),
                text,
                float(said["duration"]),
                None if said["seconds"] is None else float(said["seconds"]),
                None if said["peak_memory"] is None else int(said["peak_memory"]),
                str(said["scored_by"]),
                None if said["scores"] is None else Scores.from_dict(said["scores"]),
            )
        except (OSError, CorpusError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Result:
    """What an evaluation says of a recording and a system; ``apart``: scored against A's.

    ``audio`` is the recording's SHA-256. ``read`` gives the turns: those of all recordings at once
    would take much memory.
    """

    read: Callable[[], Turns]
    duration: float
    scored: Regions
    scores: Scores | None
    seconds: float | None = None
    peak: int | None = None
    apart: Score | None = None
    audio: str = ""

    @property
    def turns(self) -> Turns:
        return self.read()


def kept_system(folder: Path, name: str, recordings: Iterable[Recording]) -> Merged:
    """What the results below the output were made by, as the first of them says."""
    for one in recordings:
        if kept := Kept.read(*files(folder, name, one.uri)):
            made_of = {key: value for key, value in kept.made_of.items() if key != "audio"}
            return Merged(name, made_of)
    raise EvaluationError(f"{folder / name} holds no result of this corpus: run its shards first")


def turns_in(rttm: Path) -> Turns:
    """Of the only recording that it names."""
    return next(iter(read_rttm(rttm).values()), Turns())


# In a worker --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """``before``: of each system what the output holds."""

    recording: Recording
    before: tuple[Kept | None, ...]


@dataclass(frozen=True)
class Made:
    """Of each system what there is now; ``apart``: B's turns scored against A's."""

    kept: tuple[Kept, ...]
    apart: Score | None


@dataclass(frozen=True)
class Evaluating:
    """The job: what is kept, as far as it fits; what does not is made.

    ``merging``: what is kept is taken without a look at the recordings, which may lie elsewhere.
    """

    systems: tuple[System, ...]
    referenced: bool
    merging: bool = False

    def start(self) -> Callable[[Task, Hook], Made]:
        return partial(self._do, [one.open() for one in self.systems])

    def _do(self, ears: Sequence[Hear], task: Task, hook: Hook) -> Made:
        recording, digest = task.recording, None
        with ExitStack() as stack:
            if not self.merging:
                audio = stack.enter_context(at_hand(recording.audio))
                recording, digest = replace(recording, audio=audio), sha256(audio, CorpusError)
            kept = tuple(
                self._scored(recording, self._kept(recording, *one, digest, hook), hook)
                for one in zip(self.systems, ears, task.before, strict=True)
            )
        first, *others = kept
        scored = recording.regions(first.duration)
        apart = [score(first.turns, other.turns, scored) for other in others]
        return Made(kept, *apart) if apart else Made(kept, None)

    def _kept(
        self,
        recording: Recording,
        system: System,
        hear: Hear,
        before: Kept | None,
        digest: str | None,
        hook: Hook,
    ) -> Kept:
        known = digest or (before.made_of.get("audio") if before else None)
        made_of = {"audio": known, **system.made_of}
        if before and before.made_of == made_of:
            return before
        machine.forget_peak()
        heard = hear(recording, hook)
        peak = None if heard.seconds is None else machine.peak_memory()
        return Kept(made_of, heard.turns.to_rttm(), heard.duration, heard.seconds, peak)

    def _scored(self, recording: Recording, kept: Kept, hook: Hook) -> Kept:
        said = (recording.reference.spans, recording.scored, COLLAR, self.referenced)
        by = sha256_of(repr(said))
        if kept.scored_by == by:
            return kept
        hook("scoring", None)
        regions = recording.regions(kept.duration)
        scores = judge(recording.reference, kept.turns, regions) if self.referenced else None
        return replace(kept, scored_by=by, scores=scores)


# Where the results are kept -----------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """The output's folder, of these systems."""

    folder: Path
    systems: tuple[System, ...]

    def files(self, recording: Recording) -> list[tuple[Path, Path]]:
        return [files(self.folder, one.name, recording.uri) for one in self.systems]

    def task(self, recording: Recording) -> Task:
        return Task(recording, tuple(Kept.read(*pair) for pair in self.files(recording)))

    def keep(self, task: Task, made: Made) -> tuple[Result, ...]:
        """What is new is written aside and renamed, the turns first."""
        recording, found = task.recording, []
        apart = (None, made.apart)
        for pair, before, kept, far in zip(
            self.files(recording), task.before, made.kept, apart, strict=False
        ):
            if kept != before:
                rttm, about = pair
                if before is None or kept.text != before.text:
                    outputs.write({rttm: kept.text})
                outputs.write({about: json_text(kept.as_dict(recording.uri))})
            scored = recording.regions(kept.duration)
            rest = kept.scores, kept.seconds, kept.peak, far, str(kept.made_of["audio"])
            found.append(Result(partial(turns_in, pair[0]), kept.duration, scored, *rest))
        return tuple(found)


# Files --------------------------------------------------------------------------------------------


def files(folder: Path, system: str, uri: str) -> tuple[Path, Path]:
    """Where a recording's turns go, and what is known of them; no two names become one."""
    plain = re.sub(r"[%/\\:\x00-\x1f]", lambda odd: f"%{ord(odd[0]):02X}", uri)
    return folder / system / f"{plain}.rttm", folder / system / f"{plain}.json"


@contextmanager
def at_hand(audio: str | Path) -> Iterator[Path]:
    """The recording as a file: what a URL names is fetched, and removed behind the work."""
    if "://" not in str(audio):
        yield Path(audio)
        return
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec, which reads URLs,", "cluster") from error
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, Path(str(audio)).name)
        try:
            with fsspec.open(str(audio), "rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except Exception as error:  # whatever its store raises
            said = " ".join(str(error).split()) or type(error).__name__
            raise CorpusError(f"{audio} cannot be fetched: {said[:200]}") from error
        yield path

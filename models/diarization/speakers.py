"""Known voices on disk: enrolled once, and named in every recording from then on."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samevoice.models.diarization.speaker_files import INDEX, described, locked, put, read, write
from samevoice.models.diarization.voices import (
    UNKNOWN,
    Array,
    Calibration,
    Match,
    Recording,
    Speaker,
    SpeakersError,
    State,
    assign,
    calibration,
    checked_name,
    checked_rows,
    checked_seconds,
    cosine_distances,
    from_the_rest,
    printable,
    with_recordings,
)

if TYPE_CHECKING:
    from samevoice.models.diarization.output import Diarization

PLACE = "SAMEVOICE_SPEAKERS"
# Measured on community-1's own embeddings of three recordings: the halves of one voice are 0.12 to
# 0.33 apart, two voices 0.53 to 1.05. Just below the closest strangers: a voice that stays unknown
# does less harm than one with a wrong name. Other microphones and rooms move both: calibrate.
DEFAULT_THRESHOLD = 0.5


class Database:
    """Known voices of one embedding model; every change is on disk when its method returns."""

    def __init__(self, path: Path, state: State | None, fingerprint: str | None) -> None:
        self.path = path
        self._fingerprint = fingerprint
        self._state = self._checked(state)

    @classmethod
    def open(
        cls, path: str | Path, fingerprint: str | None = None, *, create: bool = False
    ) -> Database:
        """The database at ``path``, which must be of the embedding model with ``fingerprint``.

        Without a fingerprint it can be listed and cut, not asked about voices. With ``create`` it
        need not be there, and comes to be with the first voice.
        """
        folder = Path(os.path.realpath(Path(path).expanduser()))
        state = read(folder)
        if state is None and not create:
            raise SpeakersError(
                f"{path} holds no speaker database: samevoice speakers enroll makes one"
            )
        return cls(folder, state, fingerprint)

    def _checked(self, state: State | None) -> State:
        if state is None:
            return State(self._fingerprint or "")
        if self._fingerprint not in (None, state.fingerprint):
            raise SpeakersError(
                f"{self.path} holds voices of embedding model {state.fingerprint[:12]}, and this "
                f"is {str(self._fingerprint)[:12]}: voices of two models cannot be compared, so "
                "enrol again into another database"
            )
        return state

    @property
    def speakers(self) -> tuple[Speaker, ...]:
        """In order of their names."""
        return self._state.speakers

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(speaker.name for speaker in self.speakers)

    @property
    def fingerprint(self) -> str:
        return self._state.fingerprint

    @property
    def threshold(self) -> float:
        """The cosine distance from which on a voice is unknown."""
        return self.calibration.threshold if self.calibration else DEFAULT_THRESHOLD

    @property
    def calibration(self) -> Calibration | None:
        """Where the threshold comes from; None for the default."""
        return self._state.calibration

    def enroll(
        self, name: str, embeddings: Array, sources: Sequence[str], seconds: Sequence[float]
    ) -> Speaker:
        """Add (N, D) recordings of ``name``, new or known; one that is there already is skipped."""
        name = checked_name(name)
        rows = checked_rows(embeddings, f"the voice of {name!r}")
        recordings = [
            Recording(printable(source), checked_seconds(length))
            for source, length in zip(sources, seconds, strict=True)
        ]
        if len(recordings) != len(rows) or not recordings:
            raise ValueError(f"{len(rows)} embeddings came with {len(recordings)} sources")

        def added(state: State) -> State:
            if state.dimension not in (None, rows.shape[1]):
                raise SpeakersError(
                    f"{self.path} holds voices of {state.dimension} values, not {rows.shape[1]}"
                )
            return with_recordings(state, name, recordings, rows)

        self._change(added)
        return self[name]

    def remove(self, name: str) -> None:
        """Forget a speaker, on disk too."""
        name = checked_name(name)

        def cut(state: State) -> State:
            self._find(state, name)
            left = tuple(speaker for speaker in state.speakers if speaker.name != name)
            return replace(state, speakers=left)

        self._change(cut)

    def __getitem__(self, name: str) -> Speaker:
        return self._find(self._state, checked_name(name))

    def _find(self, state: State, name: str) -> Speaker:
        for speaker in state.speakers:
            if speaker.name == name:
                return speaker
        known = ", ".join(speaker.name for speaker in state.speakers[:5]) or "nobody"
        more = f" and {len(state.speakers) - 5} more" if len(state.speakers) > 5 else ""
        raise SpeakersError(f"{name!r} is not in {self.path}; enrolled: {known}{more}")

    def identify(self, embeddings: Array) -> list[Match]:
        """(S, D), the voices of one recording -> who each is; a name goes to one voice at most."""
        vectors = np.asarray(embeddings, dtype=np.float64)
        known = self._state.dimension
        if not len(vectors):
            return []
        if vectors.ndim != 2 or known not in (None, vectors.shape[1]):
            raise SpeakersError(f"voices of shape {vectors.shape} do not fit {self.path}")
        # Nothing is known of a voice that is zero or not finite, so it is nobody's.
        usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
        distances = np.full((len(vectors), len(self.speakers)), np.inf)
        centroids = self._centroids(vectors.shape[1])
        distances[usable] = cosine_distances(vectors[usable], centroids)
        chosen = assign(distances, self.threshold)
        return [self._match(row, k) for row, k in zip(distances, chosen, strict=True)]

    def _centroids(self, dimension: int) -> Array:
        voices = [speaker.centroid for speaker in self.speakers]
        return np.array(voices).reshape(len(voices), dimension)

    def _match(self, distances: Array, chosen: int | None) -> Match:
        order = [int(k) for k in np.argsort(distances, kind="stable") if np.isfinite(distances[k])]
        nearest = order[0] if order else None
        shown = nearest if chosen is None else chosen
        other = next((k for k in order if k != shown), None)

        def at(k: int | None) -> tuple[str | None, float]:
            return (None, math.inf) if k is None else (self.names[k], float(distances[k]))

        return Match(at(chosen)[0], at(shown)[1], at(nearest)[0], *at(other))

    def renaming(self, labels: Sequence[str], embeddings: Array) -> dict[str, str]:
        """Labels of a recording, with the (S, D) voice of each -> known names, or unknown."""
        renamed: dict[str, str] = {}
        strangers = 0
        for label, match in zip(labels, self.identify(embeddings), strict=True):
            strangers += match.name is None
            renamed[label] = match.name or (UNKNOWN if strangers == 1 else f"{UNKNOWN}_{strangers}")
        return renamed

    def named(self, result: Diarization) -> Diarization:
        """The same turns, with the names of known voices; others become unknown, unknown_2, ..."""
        return result.renamed(self.renaming(result.labels, result.speaker_embeddings))

    def doubts(self, name: str) -> list[str]:
        """What speaks against the recordings of a speaker being of one voice, and of this one."""
        speaker, found = self[name], []
        others = [other for other in self.speakers if other.name != speaker.name]
        for i, recording in enumerate(speaker.recordings):
            row = speaker.embeddings[i : i + 1]
            if len(speaker.recordings) > 1:
                apart = from_the_rest(speaker.embeddings, i)
                if apart >= self.threshold:
                    found.append(
                        f"{recording.source} is {apart:.2f} from the other recordings of "
                        f"{speaker.name}, beyond the threshold of {self.threshold:.2f}"
                    )
            for other in others:
                near = cosine_distances(row, other.centroid[None])[0, 0]
                if near < self.threshold:
                    found.append(
                        f"{recording.source} is {near:.2f} from {other.name}, who is known, too"
                    )
        return found

    def calibrate(self, recordings: Mapping[str, Array] | None = None) -> Calibration:
        """Find the threshold on labelled recordings, (N, D) a name, and keep it.

        Without ``recordings``, on those that are enrolled.
        """

        def calibrated(state: State) -> State:
            voices = {speaker.name: speaker.embeddings for speaker in state.speakers}
            origin = "enrolled" if recordings is None else "recordings"
            found = calibration(voices if recordings is None else recordings, origin)
            return replace(state, calibration=found)

        self._change(calibrated)
        assert self.calibration is not None
        return self.calibration

    def _change(self, change: Callable[[State], State]) -> None:
        """Apply ``change`` to what is on disk now, whoever wrote it since."""
        if read(self.path) is None and not self._fingerprint:
            raise SpeakersError(f"{self.path} is gone, or was never there")
        with locked(self.path):
            before = read(self.path)
            if before is None:
                # Voices are never on disk without the index: where it is lost, that can be said.
                before = self._checked(None)
                put(self.path / INDEX, described(before, None))
            after = change(self._checked(before))
            write(self.path, after)
            self._state = after


# --- what may be enrolled -----------------------------------------------------------------------

MUCH = 0.2  # of the speech: a second voice with more leaves it open whose recording it is
LITTLE = 1.0  # seconds: less speech than this is no voice to know anybody by


@dataclass(frozen=True)
class Voice:
    """The voice that a recording is of."""

    source: str
    seconds: float  # of its speech
    share: float  # of all speech
    embedding: Array = field(repr=False, compare=False)  # (D,)


def main_voice(result: Diarization, source: str, *, main_speaker: bool = False) -> Voice:
    """The voice that speaks most; refused where another has much of the speech as well.

    With ``main_speaker`` it is taken all the same.
    """
    spoken = {label: result.speaker_diarization.seconds(label) for label in result.labels}
    if not spoken:
        raise SpeakersError(f"{source}: nobody speaks in it")
    whole = sum(spoken.values())
    first, *others = sorted(spoken, key=lambda label: -spoken[label])
    if others and spoken[others[0]] > MUCH * whole and not main_speaker:
        shares = " and ".join(f"{spoken[label] / whole:.0%}" for label in (first, others[0]))
        raise SpeakersError(
            f"{source}: {len(spoken)} voices speak, the first two {shares} of the speech: give a "
            "recording of one, or --main-speaker to take the first"
        )
    row = np.asarray(result.speaker_embeddings[result.labels.index(first)], dtype=np.float32)
    if spoken[first] < LITTLE or not np.isfinite(row).all() or not row.any():
        raise SpeakersError(
            f"{source}: {spoken[first]:.1f} s of one voice alone is too little to know it by"
        )
    return Voice(source, spoken[first], spoken[first] / whole, row)


def default_place() -> Path:
    """$SAMEVOICE_SPEAKERS, or the user's own data folder."""
    if chosen := os.environ.get(PLACE):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "samevoice" / "speakers"

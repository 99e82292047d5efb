"""Known voices, and how far apart voices are: distances, thresholds, who is whom."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from samevoice.errors import SamevoiceError

Array = np.ndarray[Any, np.dtype[Any]]

UNKNOWN = "unknown"
LONGEST_NAME = 200


class SpeakersError(SamevoiceError):
    """A speaker database cannot be read, written or asked for this."""


@dataclass(frozen=True)
class Recording:
    """What one row of a speaker's voice was made from."""

    source: str
    seconds: float  # of this speaker's speech


@dataclass(frozen=True)
class Speaker:
    """A known voice."""

    name: str
    recordings: tuple[Recording, ...]
    embeddings: Array = field(repr=False, compare=False)  # (N, D) float32, a row a recording

    @property
    def seconds(self) -> float:
        return sum(recording.seconds for recording in self.recordings)

    @property
    def centroid(self) -> Array:
        """(D,): the direction with the least cosine distance to all recordings together.

        That is the mean of the unit vectors. An embedding's length depends on the audio, not on
        who speaks, so without the unit a loud recording would outvote the others.
        """
        return np.asarray(unit(self.embeddings).mean(axis=0))


@dataclass(frozen=True)
class Match:
    """Who a voice is, and how sure that is; distances are cosine distances, 0 to 2."""

    name: str | None  # None: nobody known
    distance: float  # to ``name``, or to the nearest known voice; infinite where there is none
    nearest: str | None
    runner_up: str | None  # the nearest of all others
    runner_up_distance: float


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what it was found on."""

    threshold: float
    error_rate: float  # wrong names, and own voices not known, at the threshold
    same: int  # how many distances between recordings of one speaker were seen
    different: int
    speakers: int
    recordings: int
    origin: str  # no names or files: they would outlive a speaker who is removed


@dataclass(frozen=True)
class State:
    """Everything a database says at one moment."""

    fingerprint: str
    speakers: tuple[Speaker, ...] = ()
    calibration: Calibration | None = None

    @property
    def dimension(self) -> int | None:
        return self.speakers[0].embeddings.shape[1] if self.speakers else None


def unit(x: Array) -> Array:
    """(N, D) -> (N, D) of length 1 in float64; a zero vector stays one."""
    wide = np.asarray(x, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths == 0, 1, lengths))


def cosine_distances(x: Array, y: Array) -> Array:
    """(S, D), (K, D) -> (S, K) in float64, between 0 and 2; 1 where a vector is zero."""
    return np.asarray(np.clip(1 - unit(x) @ unit(y).T, 0, 2))


def assign(distances: Array, threshold: float) -> list[int | None]:
    """(S, K) -> for each voice a known one, or None; each known one at most once.

    Where two voices of a recording sound like the same person, one of them is somebody else. The
    choice with the least sum is taken, where a voice without a name costs the threshold: so a
    good match is never given up to name one voice more.
    """
    from scipy.optimize import linear_sum_assignment

    chosen: list[int | None] = [None] * len(distances)
    for s, k in zip(*linear_sum_assignment(np.minimum(distances, threshold)), strict=True):
        if distances[s, k] < threshold:
            chosen[s] = int(k)
    return chosen


def calibration(recordings: Mapping[str, Array], origin: str) -> Calibration:
    """(N, D) a name -> the threshold at which both kinds of error are equally frequent.

    Each recording is held against its own speaker's others, and against every other speaker, as
    a new recording would be.
    """
    # The same recording twice would be a distance of 0 that says nothing.
    rows = {name: np.unique(checked_rows(x, name), axis=0) for name, x in recordings.items()}
    repeated = [name for name, x in rows.items() if len(x) > 1]
    if len(repeated) < 2:
        raise SpeakersError(
            f"{len(repeated)} of {len(rows)} speakers have two or more recordings: calibration "
            "needs two such speakers, better ten"
        )
    if len({x.shape[1] for x in rows.values()}) > 1:
        raise ValueError("recordings: embeddings of several sizes")
    same, different = distances_of(rows)
    threshold, error_rate = equal_error(same, different)
    if error_rate >= 0.5:
        raise SpeakersError(
            "these recordings do not tell the speakers apart: is each under the right name?"
        )
    total = sum(map(len, rows.values()))
    counts = (len(same), len(different), len(rows), total)
    return Calibration(threshold, error_rate, *counts, origin)


def distances_of(rows: Mapping[str, Array]) -> tuple[Array, Array]:
    """(N, D) a name -> distances to the rest of the own recordings, and to other speakers."""
    centroids = {name: unit(x).mean(axis=0, keepdims=True) for name, x in rows.items()}
    same: list[float] = []
    different = []
    for name, x in rows.items():
        others = [c for other, c in centroids.items() if other != name]
        different.append(cosine_distances(x, np.concatenate(others)).ravel())
        same += [from_the_rest(x, i) for i in range(len(x) if len(x) > 1 else 0)]
    return np.array(same), np.concatenate(different)


def from_the_rest(rows: Array, number: int) -> float:
    """(N, D) -> how far one recording of a speaker is from the others together."""
    rest = unit(np.delete(rows, number, axis=0)).mean(axis=0, keepdims=True)
    return float(cosine_distances(rows[number : number + 1], rest)[0, 0])


def equal_error(same: Array, different: Array) -> tuple[float, float]:
    """The threshold between two neighbouring distances where the errors are equal, and their rate.

    Of several as good, the smallest: rather unknown than the wrong name.
    """
    seen = np.unique(np.concatenate([same, different]))
    between = (seen[1:] + seen[:-1]) / 2
    if not len(between):
        return float(seen[0]), 0.5
    missed = 1 - np.searchsorted(np.sort(same), between) / len(same)
    mistaken = np.searchsorted(np.sort(different), between) / len(different)
    best = np.lexsort((between, missed + mistaken, np.abs(missed - mistaken)))[0]
    return float(between[best]), float((missed[best] + mistaken[best]) / 2)


def with_recordings(state: State, name: str, recordings: Sequence[Recording], rows: Array) -> State:
    """The state with more rows for ``name``; one that it has is skipped, another's is refused."""
    speakers = {speaker.name: speaker for speaker in state.speakers}
    owners = {row.tobytes(): s.name for s in state.speakers for row in s.embeddings}
    known = speakers.get(name)
    kept, voices = list(known.recordings if known else ()), list(known.embeddings if known else ())
    for recording, row in zip(recordings, rows, strict=True):
        owner = owners.setdefault(row.tobytes(), name)
        if owner != name:
            raise SpeakersError(
                f"{recording.source} is enrolled as {owner!r} already: remove that one first"
            )
        if not any(np.array_equal(row, voice) for voice in voices):
            kept.append(recording)
            voices.append(row)
    speakers[name] = Speaker(name, tuple(kept), np.array(voices, dtype=np.float32))
    return replace(state, speakers=tuple(speakers[key] for key in sorted(speakers)))


BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def checked_name(name: str) -> str:
    """Trimmed, and composed: é typed on a Mac is the é that is typed elsewhere."""
    found = unicodedata.normalize("NFC", name.strip())
    if not found:
        raise SpeakersError("a speaker's name must not be empty")
    if len(found) > LONGEST_NAME:
        raise SpeakersError(f"a speaker's name may have {LONGEST_NAME} letters, not {len(found)}")
    for letter in found:
        if letter in BIDI or unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):
            raise SpeakersError(
                f"the name {printable(found)!r} holds the control character U+{ord(letter):04X}"
            )
    if re.fullmatch(rf"{UNKNOWN}(_\d+)?", found):
        raise SpeakersError(f"{found!r} is what voices are called that nobody enrolled")
    return found


def checked_rows(embeddings: Array, whose: str) -> Array:
    """(N, D) in float32, all of them finite and not zero."""
    rows = np.asarray(embeddings, dtype=np.float32)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"{whose}: (N, D) embeddings wanted, got {rows.shape}")
    if not np.isfinite(rows).all() or not rows.any(axis=1).all():
        raise SpeakersError(f"{whose} holds an embedding that is zero or not finite")
    return rows


def checked_seconds(seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} seconds of speech")
    return round(float(seconds), 3)


def printable(text: str) -> str:
    """A file name may hold bytes that are no text, and JSON may not."""
    return text.encode("utf-8", "backslashreplace").decode()

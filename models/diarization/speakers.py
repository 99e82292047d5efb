"""Known voices on disk: enrolled once, and named in every recording from then on.

A database is a folder. ``speakers.json`` says who was enrolled from what, and names the safetensors
file beside it that holds the voices, an array (N, D) a speaker with a row for each recording. Two
files cannot be renamed at once, so the second is called after its own hash and never changes:
whoever reads finds what the JSON of that moment names. A change is written aside and takes effect
when the new JSON is renamed into place; a process that is killed leaves the state before or after.
Changes wait for each other behind a lock, and each starts from what the one before left.

Voice prints are personal data: the folder is readable by its owner alone, and what is removed is
gone from the disk when ``remove`` returns.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.errors import SamevoiceError
from samevoice.files import parse_json, refuse_special

if TYPE_CHECKING:
    from samevoice.models.diarization.output import Diarization

Array = np.ndarray[Any, np.dtype[Any]]

KIND = "samevoice speakers"
SCHEMA = 1
INDEX = "speakers.json"
LOCK = ".lock"
VOICES = re.compile(r"voices-[0-9a-f]{16}\.safetensors")
PARTIAL = ".partial"
PLACE = "SAMEVOICE_SPEAKERS"
UNKNOWN = "unknown"

# Measured on community-1's own embeddings of three recordings: the halves of one voice are 0.12 to
# 0.33 apart, two voices 0.53 to 1.05. Just below the closest strangers: a voice that stays unknown
# does less harm than one with a wrong name. Other microphones and rooms move both: calibrate.
DEFAULT_THRESHOLD = 0.5
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

    @property
    def calibrated(self) -> bool:
        return self.calibration is not None

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
                rest = unit(np.delete(speaker.embeddings, i, axis=0)).mean(axis=0, keepdims=True)
                apart = cosine_distances(row, rest)[0, 0]
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
        if recordings is not None:
            found = calibration(recordings, "recordings")
            self._change(lambda state: replace(state, calibration=found))
            return found

        def on_enrolled(state: State) -> State:
            voices = {speaker.name: speaker.embeddings for speaker in state.speakers}
            return replace(state, calibration=calibration(voices, "enrolled"))

        self._change(on_enrolled)
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


# --- voices and distances -----------------------------------------------------------------------


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
    same, different = [], []
    for name, x in rows.items():
        others = [c for other, c in centroids.items() if other != name]
        different.append(cosine_distances(x, np.concatenate(others)).ravel())
        for i in range(len(x) if len(x) > 1 else 0):
            rest = unit(np.delete(x, i, axis=0)).mean(axis=0, keepdims=True)
            same.append(cosine_distances(x[i : i + 1], rest)[0, 0])
    return np.array(same), np.concatenate(different)


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


# --- on disk ------------------------------------------------------------------------------------


def default_place() -> Path:
    """$SAMEVOICE_SPEAKERS, or the user's own data folder."""
    if chosen := os.environ.get(PLACE):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "samevoice" / "speakers"


def read(folder: Path) -> State | None:
    """What the database says now; None where there is none yet."""
    previous = None
    while True:
        text = index_text(folder)
        if text is None:
            return None
        with understood(folder / INDEX):
            index = parsed(text, folder)
            arrays = voices_of(folder, index)
            if arrays is not None:
                return state_of(index, arrays)
        # Another process replaced both between our two looks; or else it is really gone.
        if text == previous:
            raise SpeakersError(
                f"{folder}: the voices that {INDEX} names are not there: restore the folder"
            )
        previous = text


def index_text(folder: Path) -> bytes | None:
    refuse_special(folder / INDEX, SpeakersError)
    try:
        return (folder / INDEX).read_bytes()
    except FileNotFoundError:
        pass
    except NotADirectoryError as error:
        raise SpeakersError(f"{folder} is no folder, so no speaker database") from error
    except OSError as error:
        raise SpeakersError(f"{folder / INDEX} cannot be read: {error.strerror}") from error
    try:
        others = [path.name for path in folder.iterdir() if not is_scratch(path.name)]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpeakersError(f"{folder} cannot be read: {error.strerror}") from error
    if others and (folder / INDEX).exists():
        return index_text(folder)  # it came while we looked
    if others:
        raise SpeakersError(
            f"{folder} holds {sorted(others)[0]!r} and no {INDEX}: it is no speaker database"
        )
    return None


def is_scratch(name: str) -> bool:
    return name == LOCK or (name.startswith(".") and name.endswith(PARTIAL))


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """A file that was edited or damaged is one sentence."""
    try:
        yield
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
        RecursionError,
    ) as error:
        said = f"{type(error).__name__}: {error}"
        raise SpeakersError(f"{path} is damaged ({said}): restore it, or enrol again") from error


def parsed(text: bytes, folder: Path) -> dict[str, Any]:
    index = parse_json(text.decode("utf-8"))
    if index.get("kind") != KIND:
        raise SpeakersError(f"{folder / INDEX} is no speaker database of samevoice's")
    schema = int(index["schema"])
    if schema > SCHEMA:
        raise SpeakersError(
            f"{folder} was written by a newer samevoice (schema {schema}, this one reads "
            f"{SCHEMA}): upgrade samevoice"
        )
    return index


def voices_of(folder: Path, index: Mapping[str, Any]) -> dict[str, Array] | None:
    """Arrays by speaker id; None where the file is not there (any more)."""
    if index["voices"] is None:
        return {}
    name, digest = str(index["voices"]["file"]), index["voices"]["sha256"]
    if not VOICES.fullmatch(name):
        raise ValueError(f"voices cannot be in {name!r}")
    refuse_special(folder / name, SpeakersError)
    try:
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpeakersError(f"{folder / name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise SpeakersError(
            f"{folder / name} is not as it was written, or was cut off: restore it, or enrol again"
        )
    from safetensors.numpy import load

    return dict(load(data))


def state_of(index: Mapping[str, Any], arrays: Mapping[str, Array]) -> State:
    fingerprint = index["fingerprint"]
    if not isinstance(fingerprint, str):
        raise ValueError("the fingerprint is no text")
    speakers = [speaker_of(entry, arrays[entry["id"]]) for entry in index["speakers"]]
    if len({speaker.name for speaker in speakers}) != len(speakers):
        raise ValueError("a name stands there twice")
    if len({speaker.embeddings.shape[1] for speaker in speakers}) > 1:
        raise ValueError("voices are of several sizes")
    ordered = tuple(sorted(speakers, key=lambda speaker: speaker.name))
    return State(fingerprint, ordered, calibration_of(index["calibration"]))


def speaker_of(entry: Mapping[str, Any], rows: Array) -> Speaker:
    recordings = tuple(
        Recording(str(one["source"]), checked_seconds(one["seconds"]))
        for one in entry["recordings"]
    )
    try:
        name = checked_name(entry["name"])
        checked_rows(rows, repr(name))
    except SpeakersError as error:
        raise ValueError(str(error)) from error
    if len(recordings) != len(rows):
        raise ValueError(f"{name!r} has {len(recordings)} recordings and {len(rows)} voices")
    return Speaker(name, recordings, rows)


def calibration_of(entry: Mapping[str, Any] | None) -> Calibration | None:
    if entry is None:
        return None
    found = Calibration(**entry)
    if not 0 <= found.threshold <= 2 or not 0 <= found.error_rate <= 1:
        raise ValueError(f"a threshold of {found.threshold}")
    return found


def write(folder: Path, state: State) -> None:
    """Voices first, then the index that names them, then what it names no more is deleted."""
    from safetensors.numpy import save

    try:
        voices = None
        if state.speakers:
            ids = (f"{number:05d}" for number in range(1, len(state.speakers) + 1))
            data = save(dict(zip(ids, (s.embeddings for s in state.speakers), strict=True)))
            digest = hashlib.sha256(data).hexdigest()
            voices = {"file": f"voices-{digest[:16]}.safetensors", "sha256": digest}
            put(folder / voices["file"], data)
        put(folder / INDEX, described(state, voices))
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        sweep(folder)


def sweep(folder: Path) -> None:
    """Delete the voices that the index does not name (any more), and what killed runs left."""
    try:
        named = json.loads((folder / INDEX).read_bytes())["voices"] or {}
        for path in folder.iterdir():
            old = VOICES.fullmatch(path.name) and path.name != named.get("file")
            if old or (is_scratch(path.name) and path.name != LOCK):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise SpeakersError(
            f"old voices in {folder} cannot be deleted: {error.strerror}; delete what "
            f"{INDEX} does not name"
        ) from error


def described(state: State, voices: Mapping[str, str] | None) -> bytes:
    """The index; the same state always gives the same bytes."""
    index = {
        "kind": KIND,
        "schema": SCHEMA,
        "fingerprint": state.fingerprint,
        "calibration": asdict(state.calibration) if state.calibration else None,
        "voices": voices,
        "speakers": [
            {
                "id": f"{number:05d}",
                "name": speaker.name,
                "recordings": [asdict(recording) for recording in speaker.recordings],
            }
            for number, speaker in enumerate(state.speakers, start=1)
        ],
    }
    return (json.dumps(index, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def put(path: Path, data: bytes) -> None:
    """Aside, onto the disk, then into place: the name holds all of it or what it held before."""
    aside = path.with_name(f".{path.name}{PARTIAL}")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or the new name may be lost with the power
    finally:
        os.close(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One change at a time; the system frees the lock of a process that dies."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        os.close(handle)


def unwritable(folder: Path, error: OSError) -> SpeakersError:
    reason = error.strerror or str(error)
    return SpeakersError(f"{folder} cannot be written: {reason}; nothing was changed")

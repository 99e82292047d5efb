"""A speaker database on disk.

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
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from samevoice.files import parse_json, refuse_special
from samevoice.models.diarization.voices import (
    Array,
    Calibration,
    Recording,
    Speaker,
    SpeakersError,
    State,
    checked_name,
    checked_rows,
    checked_seconds,
)

KIND = "samevoice speakers"
SCHEMA = 1
INDEX = "speakers.json"
LOCK = ".lock"
VOICES = re.compile(r"voices-[0-9a-f]{16}\.safetensors")
PARTIAL = ".partial"
# What taking a damaged file for a whole one raises.
_DAMAGED = LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError


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
    except _DAMAGED as error:
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

"""A folder: recordings, and RTTM and UEM files that name them, one beside each or one for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from samevoice.evaluation.corpus import (
    CorpusError,
    Recording,
    Regions,
    once,
    read_uem,
    said_below,
)
from samevoice.files import RECORDINGS, below
from samevoice.models.diarization.formats import field
from samevoice.models.diarization.output import Turns, read_rttm

T = TypeVar("T")


def read(folder: Path, insist: bool) -> tuple[list[Recording], bool]:
    audio = once((field(path.stem), path) for path in below(folder, RECORDINGS, CorpusError))
    if not audio:
        raise CorpusError(f"{folder} holds no recordings (.wav, .flac, .mp3 and so on)")
    turns = _by_uri(folder, ".rttm", read_rttm, audio, Turns())
    scored: dict[str, Regions] = _by_uri(folder, ".uem", read_uem, audio, ())
    if turns or insist:
        _refuse_gaps(folder, "RTTM", audio, turns)
    if scored:
        _refuse_gaps(folder, "UEM", audio, scored)
    found = [
        Recording(uri, path, turns.get(uri, Turns()), scored.get(uri))
        for uri, path in audio.items()
    ]
    return found, bool(turns)


def _refuse_gaps(
    folder: Path, what: str, audio: Mapping[str, Path], found: Mapping[str, object]
) -> None:
    for uri, path in audio.items():
        if uri not in found:
            wanted = path.with_suffix(f".{what.lower()}").name
            raise CorpusError(f"no {what} below {folder} names {path}: write {wanted}")


def _by_uri(
    folder: Path,
    suffix: str,
    reader: Callable[[Path], Mapping[str, T]],
    audio: Mapping[str, Path],
    nothing: T,
) -> dict[str, T]:
    """What is said of each recording; of others nothing may be."""
    found = said_below(folder, suffix, reader, nothing)
    for uri, (_, path) in found.items():
        if uri not in audio:
            raise CorpusError(f"{path} names {uri!r}, and {folder} holds no such recording")
    return {uri: value for uri, (value, _) in found.items()}

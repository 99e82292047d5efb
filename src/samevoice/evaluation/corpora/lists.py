"""A list: the path of one recording a line, and those of its RTTM and UEM where they lie elsewhere.

Paths are relative to the list's folder, and tabs stand between them, or spaces where no path holds
any. A recording may also be a URL. Empty lines and those that begin with # are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import isfile  # False for any name, however long
from pathlib import Path
from typing import TypeVar

from samevoice.evaluation.corpus import CorpusError, Recording, Regions, once, read_uem
from samevoice.files import read_named
from samevoice.models.diarization.formats import field
from samevoice.models.diarization.output import Turns, read_rttm

SUFFIXES = (".lst", ".txt")
COLUMNS = ("recording", "RTTM", "UEM")
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """``rttm``, ``uem``: None where none was named, and none lies beside the recording."""

    audio: Path | str
    rttm: Path | None
    uem: Path | None

    @property
    def uri(self) -> str:
        return field(Path(self.audio).stem)


def read(path: Path, insist: bool) -> tuple[list[Recording], bool]:
    rows = list(_rows(path))
    if not rows:
        raise CorpusError(f"{path} names no recordings: write one path a line")
    once((row.uri, row.audio) for row in rows)
    turns = _said(path, "RTTM", [row.rttm for row in rows], rows, read_rttm, insist, Turns())
    scored: dict[str, Regions] = _said(
        path, "UEM", [row.uem for row in rows], rows, read_uem, False, ()
    )
    found = [
        Recording(row.uri, row.audio, turns.get(row.uri, Turns()), scored.get(row.uri))
        for row in rows
    ]
    return found, bool(turns)


def _rows(path: Path) -> Iterator[Row]:
    lines = read_named(path, CorpusError).removeprefix("\ufeff").split("\n")
    for number, line in enumerate(lines, start=1):
        text, where = line.strip(" \r"), f"{path}, line {number}"
        if not text.strip() or text.startswith("#"):
            continue
        words = [word.strip() for word in text.split("\t")]
        if len(words) == 1 and not isfile(path.parent / text):
            words = text.split()
        if len(words) > len(COLUMNS):
            raise CorpusError(
                f"{where}: a line is a recording, its RTTM and its UEM, but this one has "
                f"{len(words)} columns: put tabs between paths with spaces"
            )
        if not words[0]:
            raise CorpusError(f"{where}: the recording is missing before the first tab")
        paths = [path.parent / word if word else None for word in words]
        is_url = "://" in words[0]
        for what, one in list(zip(COLUMNS, paths, strict=False))[is_url:]:
            if one and not isfile(one):
                raise CorpusError(
                    f"{where}: there is no {what} {one}; paths are relative to the list's folder"
                )
        file, rttm, uem = (*paths, None, None)[:3]
        audio = words[0] if is_url or file is None else file
        yield Row(audio, rttm or _beside(audio, ".rttm"), uem or _beside(audio, ".uem"))


def _beside(audio: Path | str, suffix: str) -> Path | None:
    """What lies beside a URL must be named."""
    found = Path(audio).with_suffix(suffix)
    return found if isinstance(audio, Path) and isfile(found) else None


def _said(
    path: Path,
    what: str,
    files: Sequence[Path | None],
    rows: Sequence[Row],
    reader: Callable[[Path], Mapping[str, T]],
    insist: bool,
    nothing: T,
) -> dict[str, T]:
    """What the files say of each recording; all have one, or none where one need not insist."""
    if not insist and not any(files):
        return {}
    known: dict[Path, Mapping[str, T]] = {}
    found = {}
    for row, file in zip(rows, files, strict=True):
        if file is None:
            wanted = Path(row.audio).with_suffix(f".{what.lower()}").name
            raise CorpusError(
                f"{path} has no {what} of {row.audio}: write {wanted} beside it, or name one"
            )
        if file not in known:
            known[file] = reader(file)
        # An empty file is about whom it was named for.
        if known[file] and row.uri not in known[file]:
            raise CorpusError(f"{file} does not name {row.uri!r}, as {path} says it does")
        found[row.uri] = known[file].get(row.uri, nothing)
    return found

"""Recordings with references: who speaks when, and which regions of each are scored.

``corpora`` reads them in the forms that people have them in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from samevoice.errors import SamevoiceError
from samevoice.files import below, read_named
from samevoice.models.diarization.formats import composed, field
from samevoice.models.diarization.output import Turns

LATE = 1.0  # seconds that a reference may go on behind the recording's end: it was rounded
Regions = tuple[tuple[float, float], ...]  # start and end in seconds
T = TypeVar("T")
P = TypeVar("P", Path, "Path | str")


class CorpusError(SamevoiceError):
    """Recordings and references do not fit each other."""


@dataclass(frozen=True)
class Recording:
    """``scored``: the regions that a UEM names, or None where there is no UEM.

    ``audio``: a URL is a text, which no path can hold.
    """

    uri: str
    audio: Path | str
    reference: Turns
    scored: Regions | None = None

    def regions(self, duration: float) -> Regions:
        """What is scored: the UEM's regions, or all of the recording, so many seconds."""
        ends = [end for _, end in self.scored or ()] or [end for _, end, _ in self.reference.spans]
        if max(ends, default=0.0) > duration + LATE:
            what = "UEM" if self.scored else "reference"
            raise CorpusError(
                f"{self.audio} ends at {duration:.1f} s, but its {what} goes on to "
                f"{max(ends):.1f} s: do they belong together, and is the recording complete?"
            )
        return self.scored or ((0.0, duration),)


@dataclass(frozen=True)
class Corpus:
    """``name``: a folder's own, or the protocol's with its subset; never a path."""

    name: str
    recordings: tuple[Recording, ...]
    referenced: bool = True


def once(pairs: Iterable[tuple[str, P]]) -> dict[str, P]:
    """Recordings by their uri; two of one name would share a reference."""
    found: dict[str, P] = {}
    for uri, path in pairs:
        if uri in found:
            raise CorpusError(f"{found[uri]} and {path} have the same name: rename one")
        found[uri] = path
    return found


def said_below(
    folder: Path, suffix: str, read: Callable[[Path], Mapping[str, T]], nothing: T
) -> dict[str, tuple[T, Path]]:
    """What all files of a kind say by uri, and which does; an empty one is about its namesake."""
    found: dict[str, tuple[T, Path]] = {}
    for path in below(folder, (suffix,), CorpusError):
        for uri, value in (read(path) or {field(path.stem): nothing}).items():
            if uri in found:
                raise CorpusError(f"{found[uri][1]} and {path} both name {uri!r}: remove one")
            found[uri] = value, path
    return found


def read_uem(path: Path) -> Mapping[str, Regions]:
    """Each recording's regions by its uri; comments are passed over."""
    found: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(read_named(path, CorpusError).split("\n"), start=1):
        words = line.split()
        if not words or words[0].startswith(";"):
            continue
        where = f"{path}, line {number}"
        if len(words) != 4:
            raise CorpusError(f"{where}: a line of a UEM is a name, a channel, a start and an end")
        try:
            start, end = float(words[2]), float(words[3])
        except ValueError:
            raise CorpusError(
                f"{where}: {words[2][:20]!r} to {words[3][:20]!r} are no times"
            ) from None
        found.setdefault(composed(words[0]), []).append((start, end))
    if not found:
        raise CorpusError(f"{path} names no regions")
    return {uri: regions_of(spans, f"{path}, {uri}") for uri, spans in found.items()}


def regions_of(spans: Sequence[tuple[float, float]], where: str) -> Regions:
    """In order; a second that stood in two regions would count twice, or once, as tools like."""
    before = 0.0
    for start, end in sorted(spans):
        if not 0 <= start < end < math.inf:
            raise CorpusError(f"{where}: {start:g} to {end:g} s is no region")
        if start < before:
            raise CorpusError(f"{where}: two regions overlap at {start:g} s: merge them")
        before = end
    return tuple(sorted(spans))

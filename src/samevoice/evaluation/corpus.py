"""Recordings with references: who speaks when, and which regions of each are scored.

A corpus is a subset of a protocol that pyannote.database knows, or a folder: recordings, and RTTM
and UEM files that name them, one beside each or one for all. Two pipelines can also be compared
where no recording has a reference.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from samevoice.errors import MissingExtraError, SamevoiceError
from samevoice.files import RECORDINGS, below, read_named
from samevoice.models.diarization.formats import field
from samevoice.models.diarization.output import Turns, read_rttm

SUBSETS = ("train", "development", "test")
LATE = 1.0  # seconds that a reference may go on behind the recording's end: it was rounded
Regions = tuple[tuple[float, float], ...]  # start and end in seconds
T = TypeVar("T")


class CorpusError(SamevoiceError):
    """Recordings and references do not fit each other."""


@dataclass(frozen=True)
class Recording:
    """``scored``: the regions that a UEM names, or None where there is no UEM."""

    uri: str
    audio: Path
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


def read(word: str, *, insist: bool = True) -> Corpus:
    """The corpus of that name: ``FILE.yml:Database.Task.Protocol.subset``, or a folder.

    Unless one must ``insist`` on references, all recordings may be without.
    """
    if Path(word).is_dir():
        name = Path(word).resolve().name
        found, referenced = _folder(Path(word), insist)
    elif ".yml:" in word or ".yaml:" in word:
        name = word.rpartition(":")[2]
        found, referenced = _protocol(word, insist)
    else:
        raise CorpusError(
            f"{word} is no corpus: name a folder of recordings with RTTM files, or a protocol as "
            "database.yml:Database.SpeakerDiarization.Protocol.test"
        )
    if referenced and not any(len(one.reference) for one in found):
        raise CorpusError(f"nobody speaks in any reference of {word}: there is nothing to score")
    return Corpus(name, tuple(found), referenced)


def _once(pairs: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Recordings by their uri; two of one name would share a reference."""
    found: dict[str, Path] = {}
    for uri, path in pairs:
        if uri in found:
            raise CorpusError(f"{found[uri]} and {path} have the same name: rename one")
        found[uri] = path
    return found


# A folder -----------------------------------------------------------------------------------------


def _folder(folder: Path, insist: bool) -> tuple[list[Recording], bool]:
    audio = _once((field(path.stem), path) for path in below(folder, RECORDINGS, CorpusError))
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
    read: Callable[[Path], Mapping[str, T]],
    audio: Mapping[str, Path],
    nothing: T,
) -> dict[str, T]:
    """What is said of each recording; of others nothing may be."""
    found = said_below(folder, suffix, read, nothing)
    for uri, (_, path) in found.items():
        if uri not in audio:
            raise CorpusError(f"{path} names {uri!r}, and {folder} holds no such recording")
    return {uri: value for uri, (value, _) in found.items()}


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
        found.setdefault(words[0], []).append((start, end))
    if not found:
        raise CorpusError(f"{path} names no regions")
    return {uri: _regions(spans, f"{path}, {uri}") for uri, spans in found.items()}


def _regions(spans: Sequence[tuple[float, float]], where: str) -> Regions:
    """In order; a second that stood in two regions would count twice, or once, as tools like."""
    before = 0.0
    for start, end in sorted(spans):
        if not 0 <= start < end < math.inf:
            raise CorpusError(f"{where}: {start:g} to {end:g} s is no region")
        if start < before:
            raise CorpusError(f"{where}: two regions overlap at {start:g} s: merge them")
        before = end
    return tuple(sorted(spans))


# A protocol ---------------------------------------------------------------------------------------


def _protocol(word: str, insist: bool) -> tuple[list[Recording], bool]:
    file, _, name = word.rpartition(":")
    *protocol, subset = name.split(".")
    if len(protocol) != 3 or subset not in SUBSETS:
        raise CorpusError(
            f"{name!r} is no subset: name it as Database.SpeakerDiarization.Protocol.test, with "
            f"one of {', '.join(SUBSETS)} at the end"
        )
    try:
        from pyannote.database import FileFinder, registry
    except ImportError as error:
        raise MissingExtraError("pyannote.database, which reads protocols,", "evaluate") from error
    try:
        # It prints what it assumes where a scope is not said, which makes no difference here.
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            registry.load_database(file)
            found = registry.get_protocol(".".join(protocol), {"audio": FileFinder()})
            files = list(getattr(found, subset)())
            referenced = insist or any(one.get("annotation") for one in files)
            recordings = [_of_protocol(one, word, referenced) for one in files]
    except (SamevoiceError, MemoryError):
        raise
    # Loaders may be anybody's, and raise what they like where a file is not as they want it.
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(f"{word} cannot be read: {said}") from error
    _once((one.uri, one.audio) for one in recordings)
    return recordings, referenced


def _of_protocol(one: Any, word: str, referenced: bool) -> Recording:
    uri, annotation, annotated = str(one["uri"]), one.get("annotation"), one.get("annotated")
    # pyannote.database gives an empty annotation where the RTTM does not name a recording.
    if referenced and not annotation:
        raise CorpusError(f"{word} has no turn of {uri!r}: leave it out of the list, or add turns")
    turns = Turns.from_annotation(annotation) if annotation else Turns()
    if annotated is None:
        return Recording(uri, Path(one["audio"]), turns)
    spans = [(float(region.start), float(region.end)) for region in annotated]
    if not spans:
        raise CorpusError(f"{word} has a UEM that does not name {uri!r}: add its regions")
    return Recording(uri, Path(one["audio"]), turns, _regions(spans, f"{word}, {uri}"))

"""A Lhotse manifest, JSON lines: recordings with the supervisions beside them, or cuts.

Lhotse itself, which needs torch, is not asked.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from os.path import isfile  # False for any name, however long
from pathlib import Path
from typing import Any

from samevoice.converters.bundle import understood
from samevoice.evaluation.corpus import CorpusError, Recording, Regions, once, regions_of
from samevoice.files import LARGEST, parse_json, refuse_special
from samevoice.models.diarization.formats import Span, field
from samevoice.models.diarization.output import Turns

SUFFIXES = (".jsonl", ".jsonl.gz")
AUDIO, SPEECH = "recordings", "supervisions"  # in the files' names
CUTS = ("MonoCut", "MultiCut")
DIGITS = 8  # to which Lhotse rounds times
Lines = Iterable[tuple[str, Mapping[str, Any]]]  # where it stands, and what it says


def name_of(path: Path) -> str:
    """``ami_recordings_test.jsonl.gz`` -> ``ami_test``; else the folder's name."""
    stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
    plain = re.sub(rf"[_.-]?({AUDIO}|cuts)", "", stem).strip("_.-")
    return plain or path.resolve().parent.name


def read(path: Path, insist: bool) -> tuple[list[Recording], bool]:
    lines = list(_lines(path))
    if not lines:
        raise CorpusError(f"{path} is empty: it names no recordings")
    where, first = lines[0]
    if "sources" in first:
        return _of_recordings(path, lines, insist)
    if first.get("type") in CUTS:
        return _of_cuts(path, lines, insist)
    raise CorpusError(
        f"{where}: this is no recording and no MonoCut or MultiCut: name a manifest of recordings "
        "with its supervisions beside it, or one of cuts"
    )


# Recordings and supervisions ----------------------------------------------------------------------


def _of_recordings(path: Path, lines: Lines, insist: bool) -> tuple[list[Recording], bool]:
    pairs = []
    for where, said in lines:
        with understood(where, CorpusError):
            pairs.append((field(str(said["id"])), _audio(said, path, where)))
    audio = once(pairs)
    beside = _supervisions(path)
    if beside is None and insist:
        raise CorpusError(
            f"{path} has no manifest of supervisions beside it: write "
            f"{path.name.replace(AUDIO, SPEECH)}"
        )
    spans = {uri: Turns.of(one) for uri, one in _spoken(beside, audio, path).items()}
    return [
        Recording(uri, file, spans.get(uri, Turns())) for uri, file in audio.items()
    ], beside is not None


def _supervisions(path: Path) -> Path | None:
    """That of ``ami_recordings_test.jsonl.gz`` is ``ami_supervisions_test.jsonl.gz``."""
    if AUDIO not in path.name:
        raise CorpusError(
            f"{path} has no {AUDIO!r} in its name, so that its supervisions are not found: rename "
            "it as lhotse prepare does"
        )
    plain = path.name.replace(AUDIO, SPEECH).removesuffix(".gz")
    places = (path.with_name(name) for name in (f"{plain}.gz", plain))
    return next((place for place in places if isfile(place)), None)


def _spoken(beside: Path | None, audio: Iterable[str], path: Path) -> dict[str, set[Span]]:
    """The turns of every recording, if there is a manifest of them."""
    if beside is None:
        return {}
    found: dict[str, set[Span]] = {uri: set() for uri in audio}
    for where, said in _lines(beside):
        with understood(where, CorpusError):
            uri = field(str(said["recording_id"]))
            if uri not in found:
                raise CorpusError(f"{where}: {path} has no recording {said['recording_id']!r}")
            found[uri].add(_span(said, where))
    for uri, spans in found.items():
        if not spans:
            raise CorpusError(f"{beside} has no supervision of {uri!r}: leave it out, or add some")
    return found


# Cuts ---------------------------------------------------------------------------------------------


def _of_cuts(path: Path, lines: Lines, insist: bool) -> tuple[list[Recording], bool]:
    """Several cuts of one recording are one recording, of which only they are scored."""
    files: set[tuple[str, Path | str]] = set()
    spans: dict[str, set[Span]] = defaultdict(set)
    parts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    whole: dict[str, float] = {}
    for where, said in lines:
        with understood(where, CorpusError):
            if said["type"] not in CUTS:
                raise CorpusError(f"{where}: a {said['type']} is not supported: name {CUTS[0]}s")
            uri, start = field(str(said["recording"]["id"])), float(said["start"])
            files.add((uri, _audio(said["recording"], path, where)))
            whole[uri] = float(said["recording"]["duration"])
            parts[uri].append(_rounded(start, start + float(said["duration"])))
            spans[uri] |= {_span(one, where, start) for one in said["supervisions"]}
    return [
        Recording(uri, file, Turns.of(spans[uri]), _scored(parts[uri], whole[uri], path, uri))
        for uri, file in once(sorted(files, key=str)).items()
    ], insist or any(spans.values())


def _scored(parts: list[tuple[float, float]], whole: float, path: Path, uri: str) -> Regions | None:
    """None where all is: a cut of the whole is no UEM."""
    regions = regions_of(parts, f"{path}, cuts of {uri}")
    return None if regions == (_rounded(0.0, whole),) else regions


# Lines --------------------------------------------------------------------------------------------


def _span(said: Mapping[str, Any], where: str, offset: float = 0.0) -> Span:
    """A turn in the recording's own time; a set of them holds what two cuts share once."""
    start = offset + float(said["start"])
    found = _rounded(start, start + float(said["duration"]))
    if said.get("speaker") is None:
        raise CorpusError(f"{where}: the supervision {said['id']!r} names no speaker")
    if not 0 <= found[0] < found[1]:
        raise CorpusError(
            f"{where}: the supervision {said['id']!r} is from {found[0]:g} to {found[1]:g} s"
        )
    return (*found, str(said["speaker"]))


def _rounded(start: float, end: float) -> tuple[float, float]:
    return round(start, DIGITS), round(end, DIGITS)


def _audio(said: Mapping[str, Any], path: Path, where: str) -> Path | str:
    """Relative paths are the current folder's, as Lhotse has it, or else the manifest's."""
    sources = said["sources"]
    if len(sources) != 1 or sources[0]["type"] not in ("file", "url"):
        kinds = ", ".join(str(one["type"]) for one in sources)
        raise CorpusError(
            f"{where}: {said['id']!r} must have one source, a file or a URL, and has "
            f"{len(sources)} ({kinds:.60})"
        )
    if said.get("transforms"):
        raise CorpusError(f"{where}: {said['id']!r} has transforms: save the recording as it is")
    if sources[0]["type"] == "url":
        return str(sources[0]["source"])
    named = Path(sources[0]["source"])
    for found in (named, path.parent / named):
        if isfile(found):
            return found
    raise CorpusError(f"{where}: {named}, of {said['id']!r}, is not there")


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                yield where, parse_json(line)
            except ValueError as error:
                raise CorpusError(f"{where}: this line is damaged: {error}") from None


def _text(path: Path) -> str:
    refuse_special(path, CorpusError)
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.GzipFile(fileobj=BytesIO(data)).read(LARGEST + 1)
        if len(data) > LARGEST:
            raise CorpusError(f"{path} is larger than {LARGEST >> 20} MiB: split it")
        return data.decode("utf-8")
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}") from None

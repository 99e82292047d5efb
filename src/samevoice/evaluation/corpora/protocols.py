"""A subset of a protocol that pyannote.database knows."""

from __future__ import annotations

import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from samevoice.errors import MissingExtraError, SamevoiceError
from samevoice.evaluation.corpus import CorpusError, Recording, once, regions_of
from samevoice.models.diarization.output import Turns

SUBSETS = ("train", "development", "test")


def read(word: str, insist: bool) -> tuple[list[Recording], bool]:
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
    once((one.uri, one.audio) for one in recordings)
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
    return Recording(uri, Path(one["audio"]), turns, regions_of(spans, f"{word}, {uri}"))

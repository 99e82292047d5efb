"""What is evaluated: a pipeline, or turns that somebody wrote down."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from samevoice.errors import SamevoiceError
from samevoice.evaluation.corpus import Recording, said_below
from samevoice.files import below, sha256_of
from samevoice.models.backend import Choice
from samevoice.models.diarization import formats
from samevoice.models.diarization.output import Turns, read_rttm
from samevoice.workers.engine import Hook

RATE = 16_000  # at which a recording's length is counted, as pipelines count it


class EvaluationError(SamevoiceError):
    """This cannot be evaluated."""


@dataclass(frozen=True)
class Heard:
    """The turns of one recording, its length, and what they took; None where nothing ran."""

    turns: Turns
    duration: float
    seconds: float | None = None


Hear = Callable[[Recording, Hook], Heard]


class System(Protocol):
    """``made_of``: all that its turns depend on beside the recording."""

    @property
    def name(self) -> str: ...
    @property
    def made_of(self) -> Mapping[str, Any]: ...
    def open(self) -> Hear:
        """In a worker: what it needs to hear is made ready."""
        ...


@dataclass(frozen=True)
class Pipeline:
    """A bundle's pipeline, as ``samevoice diarize`` runs it."""

    name: str
    made_of: Mapping[str, Any]
    folder: Path
    device: Choice
    fast: bool

    def open(self) -> Hear:
        from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

        pipeline = SpeakerDiarizationPipeline(self.folder, self.device, fast=self.fast)

        def hear(recording: Recording, hook: Hook) -> Heard:
            source = {"audio": recording.audio, "uri": recording.uri}
            found = pipeline(source, hook=hook)
            return Heard(found.speaker_diarization, found.duration, sum(found.seconds.values()))

        return hear


def of_bundle(name: str, folder: Path, device: Choice, *, fast: bool = False) -> Pipeline:
    from importlib.metadata import version

    from samevoice import __version__
    from samevoice.models import backend
    from samevoice.parity.identity import dtype_of_pipeline, fingerprint, is_tf32

    where = backend.device_name(backend.device(device))
    made_of = {
        "kind": "bundle",
        "fingerprint": fingerprint(folder),
        **_parts(folder),
        "dtype": dtype_of_pipeline(folder),
        "fast": fast,
        "device": f"{where}-tf32" if is_tf32(where) else where,
        "samevoice": __version__,
        "mlx": version("mlx"),
    }
    return Pipeline(name, made_of, folder.resolve(), device, fast)


def _parts(folder: Path) -> dict[str, Any]:
    """Each part's fingerprint, and one hash that all precisions and modes of a pipeline share."""
    from samevoice.converters.bundle import CONFIG, components, read_json
    from samevoice.parity.identity import fingerprint, source_of

    config = read_json(folder / CONFIG)
    said = f"{source_of(folder)}\n{json.dumps(config.get('pipeline'), sort_keys=True)}"
    return {
        "origin": sha256_of(said),
        "parts": {name: fingerprint(folder / name) for name in components(config)},
    }


def blocks_of(recording: Recording, step: str, hook: Hook) -> Iterator[np.ndarray]:
    """All samples; the hook is told how far they are read."""
    from samevoice.models.diarization.audio import open_audio

    audio = open_audio(recording.audio, RATE)
    samples = 0
    with closing(audio.blocks()) as blocks:
        for block in blocks:
            samples += len(block)
            hook(step, None, completed=samples / RATE, total=audio.duration)
            yield block


# Turns that somebody wrote down -------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """RTTMs by anybody, each recording's turns by its uri."""

    name: str
    made_of: Mapping[str, Any]
    turns: Mapping[str, Turns] = field(repr=False)

    def open(self) -> Hear:
        return self._hear

    def _hear(self, recording: Recording, hook: Hook) -> Heard:
        samples = sum(len(block) for block in blocks_of(recording, "measuring", hook))
        return Heard(self.turns[formats.field(recording.uri)], samples / RATE)


def is_rttms(folder: Path) -> bool:
    """Whether it holds RTTMs, and is no bundle."""
    from samevoice.converters.bundle import is_bundle

    is_other = not folder.is_dir() or is_bundle(folder)
    return not is_other and bool(below(folder, (".rttm",), EvaluationError))


def of_rttms(name: str, folder: Path, recordings: Iterable[Recording]) -> Written:
    """Every recording must be named, and be it by an empty file; others may be, too."""
    found = said_below(folder, ".rttm", read_rttm, Turns())
    turns = {uri: one for uri, (one, _) in found.items()}
    digest = hashlib.sha256()
    for uri in sorted(turns):
        digest.update(f"{uri}\n{turns[uri].spans}\n".encode("utf-8", "backslashreplace"))
    for recording in recordings:
        if formats.field(recording.uri) not in turns:
            raise EvaluationError(
                f"no RTTM below {folder} names {recording.uri!r}: add its turns, or an "
                f"empty {recording.uri}.rttm where nobody speaks"
            )
    return Written(name, {"kind": "rttm", "fingerprint": digest.hexdigest()}, turns)


def name_of(word: str, *others: str) -> str:
    """A folder's name for a bundle, a model or RTTMs, other than those that are taken."""
    plain = Path(word).absolute().name if Path(word).is_dir() else word
    name = re.sub(r"[^\w.-]+", "-", plain).strip("-.") or "model"
    while name.casefold() in {other.casefold() for other in others}:
        name += "-b"
    return name


# Results of others --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Merged:
    """A system whose results are all there, or should be."""

    name: str
    made_of: Mapping[str, Any]

    def open(self) -> Hear:
        return self._hear

    def _hear(self, recording: Recording, hook: Hook) -> Heard:
        raise EvaluationError(
            f"{recording.uri}: {self.name} has no result of it that was made as the others: run "
            "its shard"
        )

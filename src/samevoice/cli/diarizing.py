"""One recording through diarize's pipeline: the texts that are written, and what is shown of it.

This is what a worker does. Below an output folder a journal holds what is done, so that a run that
was stopped goes on, and what is done for these very bytes is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.cli import detection, paths, pipeline_options
from samevoice.cli.options import Device
from samevoice.cli.paths import STANDARD
from samevoice.errors import SamevoiceError
from samevoice.files import sha256, sha256_of

if TYPE_CHECKING:
    from samevoice.models.diarization.output import Diarization
    from samevoice.workers.engine import Hook

JOURNAL = ".samevoice.jsonl"


@dataclass(frozen=True)
class Wanted:
    """``before``: what the results there were made of, if they are as they were written."""

    name: str
    targets: tuple[Path, ...]
    before: str


@dataclass(frozen=True)
class Heard:
    """``texts``: one a format; ``made_of``: one hash of all that they depend on."""

    made_of: str
    texts: tuple[str, ...]
    drawing: str
    duration: float
    real_time_factor: float
    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    speakers: int
    turns: int
    spoken: float  # seconds


@dataclass(frozen=True)
class Diarizing:
    """The job: a pipeline, and what each result is turned into.

    ``quiet``: the user was warned; ``made_of``: empty where nothing is kept to go on from.
    """

    folder: Path
    device: Device
    task: detection.Task
    counts: Mapping[str, int | None]
    of_regions: Mapping[str, Any]
    chunks: Mapping[str, float | None]
    fast: bool
    speakers: Path | None
    formats: tuple[str, ...]
    exclusive: bool
    embed_audio: bool
    embeddings: bool
    timing: bool
    draws: bool
    min_duration: float
    stdin: Any = None
    quiet: bool = False
    made_of: str = ""

    def start(self) -> Callable[[Wanted, Hook], Heard | None]:
        options: dict[str, Any] = {**self.chunks, "quiet": self.quiet}
        model = str(self.folder)
        if self.task == detection.DIARIZATION:
            pipeline = pipeline_options.load(model, self.device, fast=self.fast, **options)
        else:
            pipeline = detection.load(self.task, model, self.device, self.of_regions, **options)
        return _One(self, self.made_of, pipeline, _database(self.speakers, pipeline)).do

    def with_hash(self) -> Diarizing:
        """``made_of``: one hash of the bundle, the versions and the options with what they name."""
        from importlib.metadata import version

        from samevoice import __version__
        from samevoice.converters.bundle import file_hashes
        from samevoice.models import backend
        from samevoice.parity.identity import fingerprint

        beside = ("folder", "device", "speakers", "stdin", "quiet", "made_of")
        said: dict[str, Any] = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in beside
        }
        said["bundle"] = fingerprint(self.folder)
        said["device"] = backend.device_name(backend.device(self.device))
        said["versions"] = [__version__, version("mlx")]
        said["speakers"] = self.speakers and file_hashes(self.speakers)
        return replace(self, made_of=sha256_of(json.dumps(said, sort_keys=True)))


def _database(path: Path | None, pipeline: Any) -> Any:
    if path is None:
        return None
    from samevoice.models.diarization.speakers import Database

    return Database.open(path, pipeline.embedding_fingerprint)


@dataclass(frozen=True)
class _One:
    """``known``: a database of speakers, or None."""

    job: Diarizing
    made_of: str
    pipeline: Any
    known: Any

    def do(self, wanted: Wanted, hook: Hook) -> Heard | None:
        """None where the results that are there are of these very bytes."""
        name = wanted.name
        made_of = self._made_of(name)
        if made_of and made_of == wanted.before:
            return None
        source = {"audio": self.job.stdin, "uri": paths.stem(name)} if name == STANDARD else name
        result: Diarization = self.pipeline(source, hook=hook, **self.job.counts)
        if self.known is not None:
            result = self.known.named(result)
        if self.job.min_duration:
            result = result.at_least(self.job.min_duration)
        targets = wanted.targets or (Path(STANDARD),)
        goals = zip(targets, self.job.formats, strict=True)
        return self._heard(
            result,
            made_of,
            tuple(self._text(result, kind, name, path) for path, kind in goals),
            self._drawing(source, result) if self.job.draws else "",
        )

    def _made_of(self, name: str) -> str:
        """Empty for what is not kept, and what cannot be read, of which the pipeline says why."""
        if self.made_of:
            with suppress(OSError, SamevoiceError):
                return sha256_of(self.made_of + sha256(Path(name), SamevoiceError))
        return ""

    def _heard(
        self, result: Diarization, made_of: str, texts: tuple[str, ...], drawing: str
    ) -> Heard:
        turns = result.turns(self.job.exclusive)
        return Heard(
            made_of,
            texts,
            drawing,
            result.duration,
            result.real_time_factor,
            result.seconds,
            result.notes,
            speakers=len(result.labels),
            turns=len(turns),
            spoken=sum(segment.duration for segment, _ in turns),
        )

    def _text(self, result: Diarization, kind: str, name: str, target: Path) -> str:
        if kind == "html":
            return self._page(result, Path(name), target)
        if kind != "json":
            return str(getattr(result, f"to_{kind}")(self.job.exclusive))
        return result.to_json(
            embeddings=self.job.embeddings, timing=self.job.timing, model=self._model()
        )

    def _page(self, result: Diarization, recording: Path, target: Path) -> str:
        from samevoice.models.diarization import page
        from samevoice.models.diarization.audio import open_audio
        from samevoice.models.diarization.drawing import envelope

        blocks = open_audio(recording).blocks()
        loudness = envelope(blocks, result.duration, columns=page.COLUMNS)
        inside = self.job.embed_audio
        audio = page.inside(recording) if inside else page.beside(recording, target)
        turns = result.turns(self.job.exclusive)
        return page.page(turns, loudness, result.duration, recording.name, audio)

    def _drawing(self, source: Any, result: Diarization) -> str:
        from samevoice.models.diarization.audio import open_audio
        from samevoice.models.diarization.drawing import draw, envelope

        loudness = envelope(open_audio(source).blocks(), result.duration)
        return draw(result.turns(self.job.exclusive), loudness, result.duration)

    def _model(self) -> dict[str, Any]:
        """What made a result: enough to make it again, and the same on every machine."""
        from samevoice import __version__

        config = self.pipeline.config
        found = {
            "samevoice": __version__,
            "architecture": config.get("architecture"),
            "dtype": config.get("dtype"),
        }
        if self.job.task == detection.DIARIZATION:
            found["embedding"] = self.pipeline.embedding_fingerprint
        else:
            found |= self.pipeline.made_with
        if self.pipeline.fast:
            found["fast"] = True
        if self.pipeline.reference_only:
            found["reference_only"] = True
        asked = {**self.job.chunks, **self.job.counts}
        return found | {name: value for name, value in asked.items() if value is not None}


# What is done -------------------------------------------------------------------------------------


class Journal:
    """A line for each result below the folder: its recording, what it was made of, its files."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self.said: dict[str, Mapping[str, Any]] = {}
        with suppress(OSError):
            for line in self.path.read_text(encoding="utf-8").split("\n"):
                with suppress(ValueError, KeyError, TypeError):  # cut off, or empty
                    one = json.loads(line)
                    self.said[str(one["recording"])] = dict(one["files"], made_of=one["made_of"])

    def before(self, name: str, targets: Iterable[Path]) -> str:
        """What the files there were made of; empty unless they are as they were written."""
        said = self.said.get(name, {})
        with suppress(OSError, SamevoiceError):
            if all(said.get(path.name) == sha256(path, SamevoiceError) for path in targets):
                return str(said.get("made_of", ""))
        return ""

    def add(self, name: str, heard: Heard, targets: Iterable[Path]) -> None:
        hashes = (sha256_of(text) for text in heard.texts)
        files = {path.name: one for path, one in zip(targets, hashes, strict=True)}
        line = json.dumps({"recording": name, "made_of": heard.made_of, "files": files})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}")  # behind whatever a run that was killed left of its last

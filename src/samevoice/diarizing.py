"""The command that says who spoke when: recordings in, RTTM, JSON or subtitles out."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samevoice import hearing, outputs, places, streams
from samevoice.comparing import Device, Overwrite, UsageError
from samevoice.errors import SamevoiceError
from samevoice.places import FORMATS, STANDARD

if TYPE_CHECKING:
    from rich.console import Console

    from samevoice.models.diarization.output import Diarization

MOST_SPEAKERS = 10_000
LONG_RUN = 60.0  # seconds of work from which on the stages are told without being asked for


def diarize(
    audio: Annotated[
        list[str],
        typer.Argument(
            metavar="AUDIO...", help="Recordings, folders of them, or - for standard input."
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="A whole pipeline, as convert makes it."),
    ] = None,
    output: Annotated[
        str,
        typer.Option(metavar="PATH", help="A file, or a folder for several; - is standard output."),
    ] = STANDARD,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="F,F",
            help="Of rttm, json, srt, vtt. [dim]\\[default: PATH's suffix, or rttm][/]",
        ),
    ] = None,
    num_speakers: Annotated[
        int | None, typer.Option(metavar="N", help="So many speakers, where that is known.")
    ] = None,
    min_speakers: Annotated[int | None, typer.Option(metavar="N", help="At least so many.")] = None,
    max_speakers: Annotated[int | None, typer.Option(metavar="N", help="At most so many.")] = None,
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="One speaker at a time; JSON holds both.")
    ] = False,
    min_duration: Annotated[
        float, typer.Option(metavar="S", help="Leave out turns shorter than S seconds.")
    ] = 0.0,
    chunk_duration: Annotated[
        float | None,
        typer.Option(metavar="S", help="Hear S seconds at once. [dim]\\[default: the model's][/]"),
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(metavar="S", help="Begin every S seconds. [dim]\\[default: the model's][/]"),
    ] = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="In about half the time; voices near the exact ones (docs/fast.md)."
        ),
    ] = False,
    device: Annotated[Device, typer.Option(help="What MLX runs on.")] = Device.auto,
    speakers: Annotated[
        Path | None, typer.Option(metavar="DB", help="Name the voices that are known there.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the turns of one recording.")
    ] = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Put each speaker's voice into the JSON.")
    ] = False,
    timing: Annotated[
        bool, typer.Option("--timing", help="Tell each stage's time, in the JSON, too.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Say who speaks when in recordings of any length, rate and number of channels."""
    counts = _counts(num_speakers, min_speakers, max_speakers)
    _refuse_odd_durations(min_duration, chunk_duration, step)
    asked = _formats(formats, output)
    if model is None:
        raise SamevoiceError(hearing.NO_MODEL)
    recordings = places.recordings(audio)
    targets = places.targets(recordings, asked, output, audio)
    _refuse_plot(plot, recordings)
    written = [(path, "turns") for paths in targets.values() for path in paths]
    drawn = [(plot, "drawing")] if plot is not None else []
    read: list[str | Path] = [*recordings, model]
    if speakers is not None:
        read.append(speakers)
    outputs.refuse([*written, *drawn], inputs=read, overwrite=overwrite)
    writing = Writing(targets, asked, exclusive, embeddings, timing, plot, min_duration)
    with _standard_input(audio) as stdin:
        pipeline = hearing.load(model, device, chunk_duration=chunk_duration, step=step, fast=fast)
        known = _database(speakers, pipeline)
        run = Run(pipeline, counts, known, writing, stdin, to_stdout=output == STANDARD)
        run.all(recordings)


# What was asked for ------------------------------------------------------------------------------


def _counts(exact: int | None, least: int | None, most: int | None) -> dict[str, int | None]:
    flags = {"--num-speakers": exact, "--min-speakers": least, "--max-speakers": most}
    for flag, count in flags.items():
        if count is not None and not 1 <= count <= MOST_SPEAKERS:
            raise UsageError(f"{flag} is {count}: it must be from 1 to {MOST_SPEAKERS}")
    if exact is not None and (least is not None or most is not None):
        raise UsageError("--num-speakers leaves nothing to --min-speakers and --max-speakers")
    if least is not None and most is not None and least > most:
        raise UsageError(f"--min-speakers is {least}, more than --max-speakers, which is {most}")
    return {"num_speakers": exact, "min_speakers": least, "max_speakers": most}


def _refuse_odd_durations(
    min_duration: float, chunk_duration: float | None, step: float | None
) -> None:
    if not 0 <= min_duration < math.inf:
        raise UsageError(f"--min-duration is {min_duration:g}: it must be 0 or more seconds")
    for flag, seconds in {"--chunk-duration": chunk_duration, "--step": step}.items():
        if seconds is not None and not 0 < seconds < math.inf:
            raise UsageError(f"{flag} is {seconds:g}: it must be more than 0 seconds")
    if chunk_duration is not None and step is not None and step > chunk_duration:
        raise UsageError(f"--step is {step:g}, more than --chunk-duration, which is the most")


def _formats(given: str | None, output: str) -> list[str]:
    """Each format once, in the order given."""
    suffix = "" if output == STANDARD else Path(output).suffix[1:].lower()
    if given is None:
        return [suffix if suffix in FORMATS else "rttm"]
    asked = list(dict.fromkeys(name.strip().lower() for name in given.split(",")))
    for name in asked:
        if name not in FORMATS:
            raise UsageError(f"--format {name!r} is not one of {', '.join(FORMATS)}")
    if len(asked) == 1 and suffix in FORMATS and suffix not in asked and not Path(output).is_dir():
        raise UsageError(f"--output ends in .{suffix}, but --format says {asked[0]}")
    return asked


def _refuse_plot(plot: Path | None, recordings: Sequence[str]) -> None:
    if plot is None:
        return
    if len(recordings) > 1:
        raise UsageError(f"--plot draws one recording, not {len(recordings)}")
    if plot.suffix.lower() != ".svg":
        raise UsageError(f"--plot {plot} must end in .svg")


# What it takes -----------------------------------------------------------------------------------


def _database(path: Path | None, pipeline: Any) -> Any:
    if path is None:
        return None
    from samevoice.models.diarization.speakers import Database

    return Database.open(path, pipeline.embedding_fingerprint)


@contextmanager
def _standard_input(given: Sequence[str]) -> Iterator[Any]:
    """Its bytes in a temporary file, or nothing where it was not asked for."""
    if STANDARD not in given:
        yield None
        return
    if sys.stdin is None:
        raise UsageError("- reads a recording from standard input, which is closed: pipe one in")
    if sys.stdin.isatty():
        raise UsageError(
            "- reads a recording from standard input, which is a terminal: pipe one in"
        )
    with tempfile.TemporaryFile() as kept:
        while piece := sys.stdin.buffer.read(1 << 20):
            try:
                kept.write(piece)
            except OSError as error:
                raise places.OutputError(
                    f"standard input cannot be kept in {tempfile.gettempdir()}: {error.strerror}; "
                    "name another folder in TMPDIR"
                ) from error
        yield kept


# The work ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writing:
    """What becomes of a result."""

    targets: Mapping[str, list[Path]]
    formats: Sequence[str]
    exclusive: bool
    embeddings: bool
    timing: bool
    plot: Path | None
    min_duration: float

    def text(self, result: Diarization, kind: str, model: Mapping[str, Any]) -> str:
        if kind == "json":
            return result.to_json(embeddings=self.embeddings, timing=self.timing, model=model)
        return str(getattr(result, f"to_{kind}")(self.exclusive))


@dataclass
class Run:
    """One pipeline, one recording after the other."""

    pipeline: Any
    counts: Mapping[str, int | None]
    known: Any  # a database of speakers, or None
    writing: Writing
    stdin: Any
    to_stdout: bool

    def all(self, recordings: Sequence[str]) -> None:
        """A recording that fails is told at once, and again at the end; the rest goes on."""
        from samevoice import terminal

        # Standard output may be where the result goes, and then nothing else does.
        console = terminal.stderr() if self.to_stdout else terminal.console()
        hearing.warn(self.pipeline)
        failures = hearing.Failures(len(recordings))
        started = time.perf_counter()
        heard = 0.0
        for number, name in enumerate(recordings, start=1):
            place = f"{number}/{len(recordings)} " if len(recordings) > 1 else ""
            try:
                heard += self.one(name, console, place)
            except (BrokenPipeError, streams.StandardOutputError):
                raise  # the next result would not go there either
            except Exception as error:
                failures.add(name, error)
        if len(recordings) > 1:
            done = len(recordings) - len(failures)
            _whole(console, done, heard, time.perf_counter() - started)
        failures.refuse()

    def one(self, name: str, console: Console, place: str) -> float:
        """The seconds that were heard, once all of its results are written."""
        source: Any = name
        if name == STANDARD:
            source = {"audio": self.stdin, "uri": places.stem(name)}
        with hearing.progress(f"{place}{places.stem(name)}") as hook:
            result: Diarization = self.pipeline(source, hook=hook, **self.counts)
        if self.known is not None:
            result = self.known.named(result)
        if self.writing.min_duration:
            result = result.at_least(self.writing.min_duration)
        self._write(name, result)
        if self.writing.plot is not None:
            self._draw(source, result, self.writing.plot)
        _show(console, name, result, self.writing)
        return result.duration

    def _write(self, name: str, result: Diarization) -> None:
        kinds = self.writing.formats
        texts = [self.writing.text(result, kind, self._model()) for kind in kinds]
        if self.to_stdout:
            streams.echo_utf8(texts[0])
        else:
            places.write(dict(zip(self.writing.targets[name], texts, strict=True)))

    def _draw(self, source: Any, result: Diarization, path: Path) -> None:
        from samevoice.models.diarization.audio import open_audio
        from samevoice.models.diarization.drawing import draw, envelope

        blocks = open_audio(source).blocks()
        turns = result.turns(self.writing.exclusive)
        places.write({path: draw(turns, envelope(blocks, result.duration), result.duration)})

    def _model(self) -> dict[str, Any]:
        """What made a result: enough to make it again, and the same on every machine."""
        from samevoice import __version__

        config = self.pipeline.config
        found = {
            "samevoice": __version__,
            "architecture": config.get("architecture"),
            "dtype": config.get("dtype"),
            "embedding": self.pipeline.embedding_fingerprint,
        }
        asked = {flag: count for flag, count in self.counts.items() if count is not None}
        if self.pipeline.fast:
            found["fast"] = True
        if self.pipeline.reference_only:
            found["reference_only"] = True
        return found | asked


# What is shown -----------------------------------------------------------------------------------


def _show(console: Console, name: str, result: Diarization, writing: Writing) -> None:
    """One line a recording, and below it what to know."""
    from samevoice import terminal

    speakers = terminal.many(len(result.labels), "speaker")
    turns = terminal.many(len(result.turns(writing.exclusive)), "turn")
    terminal.say(
        console,
        f"{name}  {_length(result.duration)}, {speakers}, {turns}, "
        f"real-time factor {result.real_time_factor:.3f}",
    )
    for path in (*writing.targets[name], *([writing.plot] if writing.plot else [])):
        terminal.say(console, f"  {path}")
    for note in result.notes:
        terminal.note(console, note)
    if writing.timing or sum(result.seconds.values()) >= LONG_RUN:
        _stages(console, result.seconds)


def _stages(console: Console, seconds: Mapping[str, float]) -> None:
    whole = sum(seconds.values()) or 1.0
    width = max(map(len, seconds), default=0)
    for stage, spent in seconds.items():
        line = f"  {stage.replace('_', ' '):<{width}}  {spent:8.2f} s  {spent / whole:4.0%}"
        console.print(line, style="dim", markup=False)


def _whole(console: Console, done: int, heard: float, spent: float) -> None:
    from samevoice import terminal

    factor = f", real-time factor {spent / heard:.3f}" if heard else ""
    console.print(
        f"{terminal.many(done, 'recording')}, {_length(heard)} in {_length(spent)}{factor}"
    )


def _length(seconds: float) -> str:
    from samevoice import terminal

    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{terminal.clock(seconds)} {'min' if seconds < 3600 else 'h'}"

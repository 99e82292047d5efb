"""diarize: recordings in, who spoke when as RTTM, JSON, subtitles or a page out."""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from samevoice import outputs
from samevoice.cli import detection, paths, pipeline_options, streams, terminal
from samevoice.cli.options import (
    OnDevice,
    Overwrite,
    Pipeline,
    UsageError,
    argument,
    choice,
    flag,
    option,
)
from samevoice.cli.paths import FORMATS, STANDARD

if TYPE_CHECKING:
    from rich.console import Console

    from samevoice.models.diarization.output import Diarization

MOST_SPEAKERS = 10_000
LONG_RUN = 60.0  # seconds of work from which the stages are shown without being asked for


def diarize(
    audio: Annotated[
        list[str], argument("AUDIO...", "Recordings, folders of them, or - for standard input.")
    ],
    model: Pipeline = None,
    output: Annotated[
        str, option("PATH", "A file, or a folder for several; - is standard output.")
    ] = STANDARD,
    formats: Annotated[
        str | None,
        option(
            "F,F",
            "Any of rttm, json, srt, vtt, html.",
            "--format",
            default="PATH's suffix, or rttm",
        ),
    ] = None,
    num_speakers: Annotated[int | None, option("N", "Exact number of speakers.")] = None,
    min_speakers: Annotated[int | None, option("N", "Smallest number of speakers.")] = None,
    max_speakers: Annotated[int | None, option("N", "Largest number of speakers.")] = None,
    exclusive: Annotated[
        bool, flag("--exclusive", "Only one speaker at a time; JSON always holds both forms.")
    ] = False,
    min_duration: Annotated[
        float | None, option("S", "Drop turns shorter than S seconds.", default="0")
    ] = None,
    chunk_duration: Annotated[
        float | None, option("S", "Chunk length in seconds.", default="the model's")
    ] = None,
    step: Annotated[
        float | None, option("S", "Chunk step in seconds.", default="the model's")
    ] = None,
    fast: Annotated[
        bool, flag("--fast", "Faster, with nearly the same voices (docs/fast.md).")
    ] = False,
    device: OnDevice = "auto",
    speakers: Annotated[
        Path | None, option("DB", "Name the voices that are enrolled in DB.")
    ] = None,
    plot: Annotated[Path | None, option("FILE.svg", "Draw the turns of one recording.")] = None,
    embed_audio: Annotated[
        bool, flag("--embed-audio", "Put the recording into the HTML page, up to 50 MB.")
    ] = False,
    embeddings: Annotated[
        bool, flag("--embeddings", "Add each speaker's embedding to the JSON.")
    ] = False,
    timing: Annotated[
        bool, flag("--timing", "Show the time of each stage, and add it to the JSON.")
    ] = False,
    task: Annotated[
        detection.Task, choice("Who speaks when, where anybody speaks, or where several do.")
    ] = detection.DIARIZATION,
    onset: Annotated[
        float | None, option("X", "A region begins above this score (--task).", default="0.5")
    ] = None,
    offset: Annotated[
        float | None, option("X", "A region ends below this score (--task).", default="the onset")
    ] = None,
    min_duration_off: Annotated[
        float | None, option("S", "Close gaps shorter than S seconds (--task).", default="0")
    ] = None,
    scores: Annotated[
        bool, flag("--scores", "Add each frame's score to the JSON (--task).")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Find who speaks when in recordings of any length, rate and number of channels."""
    counts = _counts(num_speakers, min_speakers, max_speakers)
    of_speakers: dict[str, Any] = {
        f"--{name.replace('_', '-')}": count for name, count in counts.items()
    }
    of_speakers |= {"--exclusive": exclusive, "--fast": fast, "--speakers": speakers}
    of_speakers |= {"--plot": plot, "--embeddings": embeddings}
    of_regions: dict[str, Any] = {
        "--onset": onset,
        "--offset": offset,
        "--min-duration-off": min_duration_off,
    }
    of_regions |= {"--scores": scores or None}
    _refuse_odd_durations(min_duration, chunk_duration, step)
    asked = _formats(formats, output)
    detection.refuse(task, of_speakers | {"--format html": "html" in asked}, of_regions)
    if (scores or embeddings) and "json" not in asked:
        raise UsageError(f"{'--scores' if scores else '--embeddings'} goes with --format json")
    recordings = paths.recordings(audio)
    targets = paths.targets(recordings, asked, output, audio)
    _refuse_unplayable(asked, recordings, output, embed_audio)
    _refuse_plot(plot, recordings)
    written = [(path, "turns") for targets_of_one in targets.values() for path in targets_of_one]
    drawn = [(plot, "drawing")] if plot else []
    read: list[str | Path] = [*recordings, *(path for path in (model, speakers) if path)]
    outputs.refuse([*written, *drawn], inputs=read, overwrite=overwrite)
    pipeline_options.refuse_before_fetching(model, recordings)
    with _standard_input(audio) as stdin:
        chunks: dict[str, Any] = {"chunk_duration": chunk_duration, "step": step}
        if task == detection.DIARIZATION:
            pipeline = pipeline_options.load(model, device, **chunks, fast=fast)
        else:
            of_regions["--min-duration-on"] = min_duration
            pipeline = detection.load(task, model, device, of_regions, **chunks)
        run = Run(
            pipeline,
            task=task,
            counts=counts if task == detection.DIARIZATION else {},
            known=_database(speakers, pipeline),
            stdin=stdin,
            targets=targets,
            formats=asked,
            to_stdout=output == STANDARD,
            exclusive=exclusive,
            embed_audio=embed_audio,
            embeddings=embeddings,
            timing=timing,
            chunks=chunks,
            plot=plot,
            min_duration=(min_duration or 0.0) if task == detection.DIARIZATION else 0.0,
        )
        run.all(recordings)


# What was asked for ------------------------------------------------------------------------------


def _counts(exact: int | None, least: int | None, most: int | None) -> dict[str, int | None]:
    flags = {"--num-speakers": exact, "--min-speakers": least, "--max-speakers": most}
    for name, count in flags.items():
        if count is not None and not 1 <= count <= MOST_SPEAKERS:
            raise UsageError(f"{name} is {count}: it must be from 1 to {MOST_SPEAKERS}")
    if exact is not None and (least is not None or most is not None):
        raise UsageError("--num-speakers does not go with --min-speakers or --max-speakers")
    if least is not None and most is not None and least > most:
        raise UsageError(f"--min-speakers is {least}, more than --max-speakers, which is {most}")
    return {"num_speakers": exact, "min_speakers": least, "max_speakers": most}


def _refuse_odd_durations(
    min_duration: float | None, chunk_duration: float | None, step: float | None
) -> None:
    if min_duration is not None and not 0 <= min_duration < math.inf:
        raise UsageError(f"--min-duration is {min_duration:g}: it must be 0 or more seconds")
    for name, seconds in {"--chunk-duration": chunk_duration, "--step": step}.items():
        if seconds is not None and not 0 < seconds < math.inf:
            raise UsageError(f"{name} is {seconds:g}: it must be more than 0 seconds")
    if chunk_duration is not None and step is not None and step > chunk_duration:
        raise UsageError(f"--step is {step:g}, more than --chunk-duration ({chunk_duration:g})")


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


def _refuse_unplayable(
    asked: Sequence[str], recordings: Sequence[str], output: str, embed_audio: bool
) -> None:
    """A page plays its recording: from where it lies, or from inside the page."""
    if "html" not in asked:
        if embed_audio:
            raise UsageError("--embed-audio goes with --format html")
        return
    if output == STANDARD and not embed_audio:
        raise UsageError(
            "a page on standard output cannot say where its recording is: name a file with "
            "--output, or pass --embed-audio"
        )
    from samevoice.models.diarization.page import LARGEST_INSIDE

    for name in recordings:
        if name == STANDARD or (os.path.exists(name) and not os.path.isfile(name)):
            raise UsageError(f"{name} is no file that a page could play: name a recording's file")
        size = os.path.getsize(name) if embed_audio and os.path.exists(name) else 0
        if size > LARGEST_INSIDE:
            raise UsageError(
                f"{name} has {size / 1e6:,.0f} MB, and --embed-audio takes up to "
                f"{LARGEST_INSIDE / 1e6:.0f}: leave it out, and the page plays the file"
            )


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
                raise outputs.OutputError(
                    f"standard input cannot be kept in {tempfile.gettempdir()}: {error.strerror}; "
                    "name another folder in TMPDIR"
                ) from error
        yield kept


# The work ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One pipeline, one recording after the other; what each result is turned into, and where."""

    pipeline: Any
    task: detection.Task
    counts: Mapping[str, int | None]
    known: Any  # a database of speakers, or None
    stdin: Any
    targets: Mapping[str, list[Path]]
    formats: Sequence[str]
    to_stdout: bool
    exclusive: bool
    embed_audio: bool
    embeddings: bool
    timing: bool
    chunks: Mapping[str, float | None]
    plot: Path | None
    min_duration: float

    def all(self, recordings: Sequence[str]) -> None:
        """A recording that fails is reported at once and at the end; the others go on."""
        # Standard output may be where the result goes, and then nothing else does.
        console = terminal.stderr() if self.to_stdout else terminal.console()
        failures = pipeline_options.Failures(len(recordings))
        started, heard = time.perf_counter(), 0.0
        for number, name in enumerate(recordings, start=1):
            place = f"{number}/{len(recordings)} " if len(recordings) > 1 else ""
            with failures.of(name):
                result = self.one(name, f"{place}{paths.stem(name)}")
                self.show(console, name, result)
                heard += result.duration
        if len(recordings) > 1:
            spent = time.perf_counter() - started
            done = terminal.many(len(recordings) - len(failures), "recording")
            factor = f", real-time factor {spent / heard:.3f}" if heard else ""
            console.print(f"{done}, {_length(heard)} in {_length(spent)}{factor}")
        failures.refuse()

    def one(self, name: str, title: str) -> Diarization:
        """The result, once all of it is written."""
        source = {"audio": self.stdin, "uri": paths.stem(name)} if name == STANDARD else name
        with pipeline_options.progress(title) as hook:
            result: Diarization = self.pipeline(source, hook=hook, **self.counts)
        if self.known is not None:
            result = self.known.named(result)
        if self.min_duration:
            result = result.at_least(self.min_duration)
        if self.to_stdout:
            streams.echo_utf8(self._text(result, self.formats[0], name, Path(STANDARD)))
        else:
            goals = zip(self.targets[name], self.formats, strict=True)
            outputs.write({path: self._text(result, kind, name, path) for path, kind in goals})
        if self.plot is not None:
            outputs.write({self.plot: self._drawing(source, result)})
        return result

    def show(self, console: Console, name: str, result: Diarization) -> None:
        """One line a recording, and below it the files, notes and times."""
        length, factor = _length(result.duration), f"{result.real_time_factor:.3f}"
        found = self._counted(result)
        terminal.say(f"{name}  {length}, {found}, real-time factor {factor}", console)
        for path in (*self.targets[name], *([self.plot] if self.plot else [])):
            terminal.say(f"  {path}", console)
        for note in result.notes:
            terminal.note(note, console)
        total = sum(result.seconds.values())
        if self.timing or total >= LONG_RUN:
            width = max(map(len, result.seconds), default=0)
            for stage, spent in result.seconds.items():
                share = spent / (total or 1.0)
                line = f"  {stage.replace('_', ' '):<{width}}  {spent:8.2f} s  {share:4.0%}"
                console.print(line, style="dim", markup=False)

    def _counted(self, result: Diarization) -> str:
        turns = result.turns(self.exclusive)
        if self.task != detection.DIARIZATION:
            seconds = sum(segment.duration for segment, _ in turns)
            what = "speech" if self.task == "voice-activity" else "overlap"
            return f"{_length(seconds)} of {what} in {terminal.many(len(turns), 'region')}"
        speakers = terminal.many(len(result.labels), "speaker")
        return f"{speakers}, {terminal.many(len(turns), 'turn')}"

    def _text(self, result: Diarization, kind: str, name: str, target: Path) -> str:
        if kind == "html":
            return self._page(result, Path(name), target)
        if kind != "json":
            return str(getattr(result, f"to_{kind}")(self.exclusive))
        model = self._model()
        return result.to_json(embeddings=self.embeddings, timing=self.timing, model=model)

    def _page(self, result: Diarization, recording: Path, target: Path) -> str:
        from samevoice.models.diarization import page
        from samevoice.models.diarization.audio import open_audio
        from samevoice.models.diarization.drawing import envelope

        blocks = open_audio(recording).blocks()
        loudness = envelope(blocks, result.duration, columns=page.COLUMNS)
        inside = self.embed_audio
        audio = page.inside(recording) if inside else page.beside(recording, target)
        turns = result.turns(self.exclusive)
        return page.page(turns, loudness, result.duration, recording.name, audio)

    def _drawing(self, source: Any, result: Diarization) -> str:
        from samevoice.models.diarization.audio import open_audio
        from samevoice.models.diarization.drawing import draw, envelope

        loudness = envelope(open_audio(source).blocks(), result.duration)
        return draw(result.turns(self.exclusive), loudness, result.duration)

    def _model(self) -> dict[str, Any]:
        """What made a result: enough to make it again, and the same on every machine."""
        from samevoice import __version__

        config = self.pipeline.config
        found = {
            "samevoice": __version__,
            "architecture": config.get("architecture"),
            "dtype": config.get("dtype"),
        }
        if self.task == detection.DIARIZATION:
            found["embedding"] = self.pipeline.embedding_fingerprint
        else:
            found |= self.pipeline.made_with
        if self.pipeline.fast:
            found["fast"] = True
        if self.pipeline.reference_only:
            found["reference_only"] = True
        asked = {**self.chunks, **self.counts}
        return found | {name: value for name, value in asked.items() if value is not None}


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{terminal.clock(seconds)} {'min' if seconds < 3600 else 'h'}"

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
from samevoice.cli.diarizing import Diarizing, Heard, Journal, Wanted
from samevoice.cli.options import (
    Device,
    OnCluster,
    OnDevice,
    Overwrite,
    Pipeline,
    UsageError,
    Workers,
    argument,
    choice,
    flag,
    option,
)
from samevoice.cli.paths import FORMATS, STANDARD

if TYPE_CHECKING:
    from rich.console import Console

    from samevoice.workers.engine import Engine

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
    workers: Workers = None,
    cluster: OnCluster = None,
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
    to_stdout = output == STANDARD
    engine = _engine(workers, cluster, device, recordings, to_stdout)
    is_diarization = task == detection.DIARIZATION
    with _standard_input(audio) as stdin:
        job = Diarizing(
            pipeline_options.bundle(model or (None if is_diarization else detection.DEFAULT)),
            device,
            task=task,
            counts=counts if is_diarization else {},
            of_regions=of_regions | ({} if is_diarization else {"--min-duration-on": min_duration}),
            chunks={"chunk_duration": chunk_duration, "step": step},
            fast=fast,
            speakers=speakers,
            formats=tuple(asked),
            exclusive=exclusive,
            embed_audio=embed_audio,
            embeddings=embeddings,
            timing=timing,
            draws=plot is not None,
            min_duration=(min_duration or 0.0) if is_diarization else 0.0,
            stdin=stdin,
            quiet=not engine.watched,
        )
        if job.quiet:
            pipeline_options.warn_of_made_up(job.folder)
        kept = None if to_stdout or len(recordings) == 1 else Journal(Path(output))
        if kept:
            job = job.with_hash()
        Run(job, engine, targets, to_stdout, plot, kept).all(recordings)


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


def _engine(
    workers: int | None,
    cluster: str | None,
    device: Device,
    recordings: Sequence[str],
    to_stdout: bool,
) -> Engine:
    """In turn where results follow each other on standard output, unless others are asked for."""
    if STANDARD in recordings and (cluster or (workers or 1) > 1):
        raise UsageError("standard input is read by one process: leave out --workers, --cluster")
    if to_stdout and cluster is None:
        workers = workers or 1
    return pipeline_options.engine(workers, cluster, device, recordings)


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
    """The recordings on their way: what each comes to, and where that goes."""

    job: Diarizing
    engine: Engine
    targets: Mapping[str, list[Path]]
    to_stdout: bool
    plot: Path | None
    kept: Journal | None

    def all(self, recordings: Sequence[str]) -> None:
        """A recording that fails is reported at once and at the end; the others go on."""
        # Standard output may be where the result goes, and then nothing else does.
        console = terminal.stderr() if self.to_stdout else terminal.console()
        failures = pipeline_options.Failures(len(recordings))
        started, heard, before = time.perf_counter(), 0.0, 0
        many = pipeline_options.Many(self.engine, [(paths.stem(x), x) for x in recordings])
        for done in many.run(self.job, map(self._wanted, recordings)):
            name = recordings[done.at]
            with failures.of(name):
                if done.error:
                    raise done.error
                if done.value is None:
                    before += 1
                    terminal.say(f"{name}  done before", console)
                    continue
                self._write(name, done.value)
                self.show(console, name, done.value)
                heard += done.value.duration
        if len(recordings) > 1:
            spent = time.perf_counter() - started
            count = terminal.many(len(recordings) - len(failures), "recording")
            old = f" ({before} done before)" if before else ""
            factor = f", real-time factor {spent / heard:.3f}" if heard else ""
            console.print(f"{count}{old}, {_length(heard)} in {_length(spent)}{factor}")
        failures.refuse()

    def _wanted(self, name: str) -> Wanted:
        targets = tuple(self.targets[name])
        return Wanted(name, targets, self.kept.before(name, targets) if self.kept else "")

    def _write(self, name: str, heard: Heard) -> None:
        if self.to_stdout:
            streams.echo_utf8(heard.texts[0])
        else:
            outputs.write(dict(zip(self.targets[name], heard.texts, strict=True)))
        if self.plot is not None:
            outputs.write({self.plot: heard.drawing})
        if self.kept:
            self.kept.add(name, heard, self.targets[name])

    def show(self, console: Console, name: str, heard: Heard) -> None:
        """One line a recording, and below it the files, notes and times."""
        total = sum(heard.seconds.values())
        length, factor = _length(heard.duration), f"{heard.real_time_factor:.3f}"
        terminal.say(f"{name}  {length}, {self._found(heard)}, real-time factor {factor}", console)
        for path in (*self.targets[name], *([self.plot] if self.plot else [])):
            terminal.say(f"  {path}", console)
        for note in heard.notes:
            terminal.note(note, console)
        if self.job.timing or total >= LONG_RUN:
            width = max(map(len, heard.seconds), default=0)
            for stage, spent in heard.seconds.items():
                share = spent / (total or 1.0)
                line = f"  {stage.replace('_', ' '):<{width}}  {spent:8.2f} s  {share:4.0%}"
                console.print(line, style="dim", markup=False)

    def _found(self, heard: Heard) -> str:
        if self.job.task != detection.DIARIZATION:
            what = "speech" if self.job.task == "voice-activity" else "overlap"
            return f"{_length(heard.spoken)} of {what} in {terminal.many(heard.turns, 'region')}"
        speakers = terminal.many(heard.speakers, "speaker")
        return f"{speakers}, {terminal.many(heard.turns, 'turn')}"


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{terminal.clock(seconds)} {'min' if seconds < 3600 else 'h'}"

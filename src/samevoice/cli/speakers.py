"""samevoice speakers: enroll, list, remove, identify and calibrate known voices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samevoice import outputs
from samevoice.cli import paths, pipeline_options, streams, terminal
from samevoice.cli.examples import examples, shown
from samevoice.cli.options import (
    AsJson,
    OnDevice,
    Pipeline,
    UsageError,
    argument,
    flag,
    option,
)

if TYPE_CHECKING:
    from samevoice.models.diarization.output import Diarization
    from samevoice.models.diarization.speakers import Database
    from samevoice.models.diarization.voices import Calibration, Match, Speaker

app = typer.Typer(
    help="Give voices names: enroll them, and diarize --speakers uses the names.",
    epilog=shown(
        "speakers enroll Ana ana.wav --model full",
        "speakers identify meeting.wav --model full",
        "speakers calibrate --db voices",
    ),
)


@app.callback(invoke_without_command=True)
def speakers(context: typer.Context) -> None:
    # Not no_args_is_help: it ends as bad usage, without a word on what was bad.
    if context.invoked_subcommand is None:
        streams.echo(context.get_help())


Folder = Annotated[
    Path | None,
    option(
        "DB",
        "The folder of the voices.",
        "--db",
        default="$SAMEVOICE_SPEAKERS, or ~/.local/share/samevoice/speakers",
    ),
]
Name = Annotated[str, argument("NAME", "Whose voice it is.")]
MainSpeaker = Annotated[
    bool, flag("--main-speaker", "Take the voice that speaks most, even if others speak too.")
]


@app.command(epilog=examples("speakers enroll"))
def enroll(
    name: Name,
    audio: Annotated[
        list[Path], argument("AUDIO...", "Recordings of this voice, or folders of them.")
    ],
    model: Pipeline = None,
    db: Folder = None,
    main_speaker: MainSpeaker = False,
    device: OnDevice = "auto",
) -> None:
    """Add recordings of a voice; if one is refused, none is added."""
    import numpy as np

    from samevoice.models.diarization.speakers import main_voice
    from samevoice.models.diarization.voices import checked_name

    name = checked_name(name)
    recordings = _recordings(audio)
    pipeline_options.refuse_before_fetching(model, recordings)
    pipeline = pipeline_options.load(model, device)
    database = _open(db, pipeline.embedding_fingerprint, create=True)
    heard = _heard(pipeline, recordings)
    voices = [main_voice(result, str(p), main_speaker=main_speaker) for p, result in heard]
    rows = np.stack([voice.embedding for voice in voices])
    sources, seconds = [v.source for v in voices], [v.seconds for v in voices]
    speaker = database.enroll(name, rows, sources, seconds)
    for voice in voices:
        share = "" if voice.share > 0.995 else f", {voice.share:.0%} of the speech"
        terminal.say(f"{voice.source}  {voice.seconds:.1f} s of speech{share}")
    for doubt in database.doubts(name):
        terminal.note(doubt)
    known = terminal.many(len(database.speakers), "speaker")
    terminal.say(f"{name}: {_counted(speaker)}; {known} known")
    terminal.say(f"  {database.path}")


@app.command("list", epilog=examples("speakers list"))
def show(db: Folder = None, as_json: AsJson = False) -> None:
    """Show who is enrolled, from which recordings, and the threshold."""
    database = _open(db)
    if as_json:
        streams.echo_json(_described(database))
        return
    if database.speakers:
        _table(("name", "recordings", "speech", "from"), map(_row, database.speakers))
    else:
        terminal.say("nobody is known yet")
    said = "the default; samevoice speakers calibrate fits it to your recordings"
    if database.calibration is not None:
        said = _basis(database.calibration)
    terminal.say(f"threshold {database.threshold:.3f}, {said}")


def _described(database: Database) -> dict[str, Any]:
    found = database.calibration
    return {
        "path": str(database.path),
        "fingerprint": database.fingerprint,
        "threshold": database.threshold,
        "calibration": None if found is None else asdict(found),
        "speakers": [
            {
                "name": speaker.name,
                "seconds": round(speaker.seconds, 3),
                "recordings": [asdict(recording) for recording in speaker.recordings],
            }
            for speaker in database.speakers
        ],
    }


def _row(speaker: Speaker) -> tuple[str, ...]:
    count = len(speaker.recordings)
    more = f" and {count - 1} more" if count > 1 else ""
    source = speaker.recordings[0].source + more
    return speaker.name, str(count), f"{speaker.seconds:.1f} s", source


def _basis(found: Calibration) -> str:
    what = "enrolled recordings" if found.origin == "enrolled" else "recordings"
    return (
        f"calibrated on {found.recordings} {what} of {found.speakers} speakers: "
        f"{found.error_rate:.1%} errors"
    )


@app.command(epilog=examples("speakers remove"))
def remove(name: Name, db: Folder = None) -> None:
    """Forget a voice and delete all that was stored of it."""
    database = _open(db)
    speaker = database[name]
    database.remove(name)
    terminal.say(f"{speaker.name}: removed, with {_counted(speaker)}")


@app.command(epilog=examples("speakers identify"))
def identify(
    audio: Annotated[list[Path], argument("AUDIO...", "Recordings, or folders of them.")],
    model: Pipeline = None,
    db: Folder = None,
    as_json: AsJson = False,
    device: OnDevice = "auto",
) -> None:
    """Find the enrolled voices in recordings, with the distance and the next nearest."""
    recordings = _recordings(audio)
    pipeline_options.refuse_before_fetching(model, recordings)
    _open(db)  # one that is not there is told now
    pipeline = pipeline_options.load(model, device)
    database = _open(db, pipeline.embedding_fingerprint)
    found: list[dict[str, Any]] = []
    failures = pipeline_options.Failures(len(recordings))
    for number, path in enumerate(recordings, start=1):
        with failures.of(str(path)):
            result = _hear(pipeline, path, number, len(recordings))
            matches = database.identify(result.speaker_embeddings)
            if as_json:
                found.append(_identified(path, result, matches))
            else:
                _show_matches(path, result, matches)
    if as_json:
        streams.echo_json(found)
    failures.refuse()


def _identified(path: Path, result: Diarization, matches: Sequence[Match]) -> dict[str, Any]:
    voices = []
    for label, match in zip(result.labels, matches, strict=True):
        spoken = round(result.speaker_diarization.seconds(label), 3)
        numbers = {k: v if v != math.inf else None for k, v in asdict(match).items()}
        voices.append({"label": label, "seconds": spoken, **numbers})
    return {"audio": str(path), "duration": round(result.duration, 3), "voices": voices}


def _show_matches(path: Path, result: Diarization, matches: Sequence[Match]) -> None:
    terminal.say(str(path))
    if not matches:
        terminal.say("  nobody speaks in it")
        return
    rows = []
    for label, match in zip(result.labels, matches, strict=True):
        spoken = f"{result.speaker_diarization.seconds(label):.1f} s"
        distance, other = "", _near(match.nearest, match.distance)
        if match.name is not None:
            distance = f"{match.distance:.3f}"
            other = _near(match.runner_up, match.runner_up_distance)
        rows.append((f"  {label}", spoken, match.name or "unknown", distance, other))
    _table(("  voice", "speech", "name", "distance", "next"), rows)


def _near(name: str | None, distance: float) -> str:
    return "" if name is None else f"{name} {distance:.3f}"


@app.command(epilog=examples("speakers calibrate"))
def calibrate(
    recordings: Annotated[
        list[str] | None,
        argument(
            "[RECORDINGS]...",
            "NAME=AUDIO, NAME=FOLDER, or a folder with one folder for each speaker.",
            default="the enrolled recordings",
        ),
    ] = None,
    model: Pipeline = None,
    db: Folder = None,
    main_speaker: MainSpeaker = False,
    device: OnDevice = "auto",
) -> None:
    """Fit the threshold between known and unknown voices to your recordings."""
    if not recordings:
        database, voices = _open(db), None
    else:
        labelled = _labelled(recordings)
        pipeline = pipeline_options.load(model, device)
        database = _open(db, pipeline.embedding_fingerprint, create=True)
        voices = _voices(pipeline, labelled, main_speaker)
    before = database.threshold
    found = database.calibrate(voices)
    terminal.say(f"threshold {found.threshold:.3f} (before: {before:.3f}), {_basis(found)}")
    terminal.say(f"  {found.same} distances within speakers, {found.different} between them")
    terminal.say(f"  {database.path}")


def _labelled(words: Sequence[str]) -> list[tuple[str, Path]]:
    """Every recording with the name of its speaker."""
    from samevoice.models.diarization.voices import checked_name

    found: list[tuple[str, Path]] = []
    for word in words:
        folder = Path(word)
        if folder.is_dir():
            inside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
            if not inside:
                raise UsageError(f"{word} holds no folders: one a speaker, with recordings in it")
            pairs = [(path.name, path) for path in inside if not path.name.startswith(".")]
        elif "=" in word:
            name, _, path = word.partition("=")
            pairs = [(name, Path(path))]
        else:
            raise UsageError(f"{word!r} is neither NAME=AUDIO nor a folder of speakers")
        found += [
            (checked_name(name), file) for name, path in pairs for file in _recordings([path])
        ]
    return found


def _voices(pipeline: Any, labelled: Sequence[tuple[str, Path]], main_speaker: bool) -> Any:
    """(N, D) a name."""
    import numpy as np

    from samevoice.models.diarization.speakers import main_voice

    rows: dict[str, list[Any]] = {}
    heard = _heard(pipeline, [path for _, path in labelled])
    for (name, _), (path, result) in zip(labelled, heard, strict=True):
        voice = main_voice(result, str(path), main_speaker=main_speaker)
        rows.setdefault(name, []).append(voice.embedding)
    return {name: np.stack(voices) for name, voices in rows.items()}


# What they share ---------------------------------------------------------------------------------


def _open(db: Path | None, fingerprint: str | None = None, *, create: bool = False) -> Database:
    from samevoice.models.diarization.speakers import Database, default_place

    database = Database.open(db or default_place(), fingerprint, create=create)
    if create:
        outputs.refuse_unwritable(database.path)
    return database


def _recordings(given: Iterable[Path]) -> list[Path]:
    """Every file, folders searched through; each once."""
    found = paths.recordings([str(path) for path in given])
    return [Path(name) for name in dict.fromkeys(found)]


def _heard(pipeline: Any, recordings: Sequence[Path]) -> Iterator[tuple[Path, Diarization]]:
    """Each recording and who speaks in it, one after the other."""
    for number, path in enumerate(recordings, start=1):
        yield path, _hear(pipeline, path, number, len(recordings))


def _hear(pipeline: Any, path: Path, number: int, count: int) -> Diarization:
    title = f"{number}/{count} {path.stem}" if count > 1 else path.stem
    with pipeline_options.progress(title) as hook:
        result: Diarization = pipeline(path, hook=hook)
    return result


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.text import Text

    numbers = ("recordings", "speech", "distance")
    table = terminal.table()
    for heading in headings:
        right, folds = heading.strip() in numbers, heading.strip() in ("name", "from", "next")
        table.add_column(heading, justify="right" if right else "left", no_wrap=not folds)
    for row in rows:
        table.add_row(*(Text(terminal.plain(cell)) for cell in row))
    terminal.console().print(table)


def _counted(speaker: Speaker) -> str:
    count = terminal.many(len(speaker.recordings), "recording")
    return f"{count}, {speaker.seconds:.1f} s of speech"

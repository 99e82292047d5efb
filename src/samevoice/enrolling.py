"""The commands about known voices: enroll, list, remove, identify, calibrate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samevoice import hearing, outputs, places, streams
from samevoice.comparing import Device, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from samevoice.models.diarization.output import Diarization
    from samevoice.models.diarization.speakers import Database, Voice
    from samevoice.models.diarization.voices import Calibration, Match, Speaker

app = typer.Typer(
    help="Know voices by name: enroll them once, and diarize --speakers names them.",
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice speakers enroll Ana ana.wav --model full\n\n"
    "samevoice speakers identify meeting.wav --model full\n\n"
    "samevoice speakers calibrate --db voices",
)


@app.callback(invoke_without_command=True)
def speakers(context: typer.Context) -> None:
    # Not no_args_is_help: it ends as bad usage, without a word on what was bad.
    if context.invoked_subcommand is None:
        streams.echo(context.get_help())


Place = Annotated[
    Path | None,
    typer.Option(
        "--db",
        metavar="DB",
        help="The folder of the voices. [dim]\\[default: $SAMEVOICE_SPEAKERS, or "
        "~/.local/share/samevoice/speakers][/]",
    ),
]
Model = Annotated[
    Path | None, typer.Option(metavar="BUNDLE", help="A whole pipeline, as convert makes it.")
]
On = Annotated[Device, typer.Option(help="What MLX runs on.")]
MainSpeaker = Annotated[
    bool,
    typer.Option("--main-speaker", help="Take the voice that speaks most, whoever else speaks."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice speakers enroll Ana ana.wav --model full\n\n"
    'samevoice speakers enroll "Ana María" recordings/ana --model full --db voices'
)
def enroll(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose voice it is.")],
    audio: Annotated[
        list[Path],
        typer.Argument(metavar="AUDIO...", help="Recordings of this voice, or folders of them."),
    ],
    model: Model = None,
    db: Place = None,
    main_speaker: MainSpeaker = False,
    device: On = Device.auto,
) -> None:
    """Add recordings of a voice; all of them, or none where one is refused."""
    from samevoice import terminal
    from samevoice.models.diarization.speakers import main_voice
    from samevoice.models.diarization.voices import checked_name

    name = checked_name(name)
    recordings = _recordings(audio)
    pipeline = _pipeline(model, device)
    database = _open(db, pipeline.embedding_fingerprint, create=True)
    heard = _heard(pipeline, recordings)
    voices = [main_voice(result, str(p), main_speaker=main_speaker) for p, result in heard]
    speaker = _enrolled(database, name, voices)
    console = terminal.console()
    for voice in voices:
        share = "" if voice.share > 0.995 else f", {voice.share:.0%} of what is spoken"
        terminal.say(console, f"{voice.source}  {voice.seconds:.1f} s of speech{share}")
    for doubt in database.doubts(name):
        terminal.note(console, doubt)
    terminal.say(
        console,
        f"{name}: {_counted(speaker)}; {terminal.many(len(database.speakers), 'speaker')} known",
    )
    terminal.say(console, f"  {database.path}")


def _enrolled(database: Database, name: str, voices: Sequence[Voice]) -> Speaker:
    import numpy as np

    rows = np.stack([voice.embedding for voice in voices])
    sources, seconds = [v.source for v in voices], [v.seconds for v in voices]
    return database.enroll(name, rows, sources, seconds)


@app.command(
    "list",
    epilog="[bold]Examples[/bold]\n\nsamevoice speakers list\n\n"
    "samevoice speakers list --db voices --json",
)
def show(db: Place = None, as_json: AsJson = False) -> None:
    """Show who is known, from which recordings, and the threshold."""
    from samevoice import terminal

    database = _open(db)
    if as_json:
        streams.echo(json.dumps(_described(database), indent=2))
        return
    console = terminal.console()
    if database.speakers:
        _table(console, ("name", "recordings", "speech", "from"), map(_row, database.speakers))
    else:
        terminal.say(console, "nobody is known yet")
    terminal.say(console, _threshold(database))


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


def _threshold(database: Database) -> str:
    if database.calibration is None:
        said = "the default; samevoice speakers calibrate fits it to your recordings"
    else:
        said = _basis(database.calibration)
    return f"threshold {database.threshold:.3f}, {said}"


def _basis(found: Calibration) -> str:
    what = "enrolled recordings" if found.origin == "enrolled" else "recordings"
    return (
        f"calibrated on {found.recordings} {what} of {found.speakers} speakers: "
        f"{found.error_rate:.1%} errors"
    )


@app.command(epilog="[bold]Example[/bold]\n\nsamevoice speakers remove Ana --db voices")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose voice is to be forgotten.")],
    db: Place = None,
) -> None:
    """Forget a voice; nothing of it stays on disk."""
    from samevoice import terminal

    database = _open(db)
    speaker = database[name]
    database.remove(name)
    terminal.say(terminal.console(), f"{speaker.name}: removed, with {_counted(speaker)}")


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice speakers identify meeting.wav --model full\n\n"
    "samevoice speakers identify recordings --model full --db voices --json",
)
def identify(
    audio: Annotated[
        list[Path], typer.Argument(metavar="AUDIO...", help="Recordings, or folders of them.")
    ],
    model: Model = None,
    db: Place = None,
    as_json: AsJson = False,
    device: On = Device.auto,
) -> None:
    """Say which known voices speak in recordings, how near they are, and who comes next."""
    from samevoice import terminal

    recordings = _recordings(audio)
    pipeline = _pipeline(model, device)
    database = _open(db, pipeline.embedding_fingerprint)
    console = terminal.console()
    found: list[dict[str, Any]] = []
    failures = hearing.Failures(len(recordings))
    for number, path in enumerate(recordings, start=1):
        try:
            result = _hear(pipeline, path, number, len(recordings))
        except Exception as error:
            failures.add(str(path), error)
            continue
        matches = database.identify(result.speaker_embeddings)
        if as_json:
            found.append(_identified(path, result, matches))
        else:
            _show_matches(console, path, result, matches)
    if as_json:
        streams.echo(json.dumps(found, indent=2))
    failures.refuse()


def _identified(path: Path, result: Diarization, matches: Sequence[Match]) -> dict[str, Any]:
    voices = []
    for label, match in zip(result.labels, matches, strict=True):
        spoken = round(result.speaker_diarization.seconds(label), 3)
        numbers = {k: v if v != math.inf else None for k, v in asdict(match).items()}
        voices.append({"label": label, "seconds": spoken, **numbers})
    return {"audio": str(path), "duration": round(result.duration, 3), "voices": voices}


def _show_matches(
    console: Console, path: Path, result: Diarization, matches: Sequence[Match]
) -> None:
    from samevoice import terminal

    terminal.say(console, str(path))
    if not matches:
        terminal.say(console, "  nobody speaks in it")
        return
    rows = []
    for label, match in zip(result.labels, matches, strict=True):
        spoken = f"{result.speaker_diarization.seconds(label):.1f} s"
        known = match.name is not None
        other = _near(match.runner_up, match.runner_up_distance)
        if not known:
            other = _near(match.nearest, match.distance)
        distance = f"{match.distance:.3f}" if known else ""
        rows.append((f"  {label}", spoken, match.name or "unknown", distance, other))
    _table(console, ("  voice", "speech", "name", "distance", "next"), rows)


def _near(name: str | None, distance: float) -> str:
    return "" if name is None else f"{name} {distance:.3f}"


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "samevoice speakers calibrate --db voices\n\n"
    "samevoice speakers calibrate recordings --model full\n\n"
    "samevoice speakers calibrate Ana=a.wav Ana=b.wav Bob=c Bob=d --model full",
)
def calibrate(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECORDINGS]...",
            help="NAME=AUDIO, NAME=FOLDER, or a folder that holds one folder a speaker. "
            "[dim]\\[default: what is enrolled][/]",
        ),
    ] = None,
    model: Model = None,
    db: Place = None,
    main_speaker: MainSpeaker = False,
    device: On = Device.auto,
) -> None:
    """Find the threshold between known and unknown on your own recordings, and keep it."""
    from samevoice import terminal

    if not recordings:
        database = _open(db)
        before = database.threshold
        found = database.calibrate()
    else:
        labelled = _labelled(recordings)
        pipeline = _pipeline(model, device)
        database = _open(db, pipeline.embedding_fingerprint, create=True)
        before = database.threshold
        found = database.calibrate(_voices(pipeline, labelled, main_speaker))
    console = terminal.console()
    terminal.say(
        console, f"threshold {found.threshold:.3f} (before: {before:.3f}), {_basis(found)}"
    )
    terminal.say(
        console, f"  {found.same} distances within speakers, {found.different} between them"
    )
    terminal.say(console, f"  {database.path}")


def _labelled(words: Sequence[str]) -> list[tuple[str, Path]]:
    """Every recording with its speaker's name."""
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


def _pipeline(model: Path | None, device: Device) -> Any:
    pipeline = hearing.load(model, device)
    hearing.warn(pipeline)
    return pipeline


def _recordings(given: Iterable[Path]) -> list[Path]:
    """Every file, folders searched through; each once."""
    found = places.recordings([str(path) for path in given])
    return [Path(name) for name in dict.fromkeys(found)]


def _heard(pipeline: Any, recordings: Sequence[Path]) -> Iterator[tuple[Path, Diarization]]:
    """Each with who speaks there, one after the other."""
    for number, path in enumerate(recordings, start=1):
        yield path, _hear(pipeline, path, number, len(recordings))


def _hear(pipeline: Any, path: Path, number: int, count: int) -> Diarization:
    with hearing.progress(f"{number}/{count} {path.stem}" if count > 1 else path.stem) as hook:
        result: Diarization = pipeline(path, hook=hook)
    return result


def _table(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from samevoice import terminal

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        right = heading.strip() in ("recordings", "speech", "distance")
        short = heading.strip() not in ("name", "from", "next")
        table.add_column(heading, justify="right" if right else "left", no_wrap=short)
    for row in rows:
        table.add_row(*(Text(terminal.plain(cell)) for cell in row))
    console.print(table)


def _counted(speaker: Speaker) -> str:
    from samevoice import terminal

    return (
        f"{terminal.many(len(speaker.recordings), 'recording')}, {speaker.seconds:.1f} s of speech"
    )

"""evaluate: how well a pipeline does on a corpus, and whether two hear the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Column

from samevoice import outputs
from samevoice.cli import pipeline_options, terminal
from samevoice.cli.options import Device, OnDevice, Overwrite, UsageError, argument, option

if TYPE_CHECKING:
    from samevoice.evaluation.corpus import Corpus, Recording
    from samevoice.evaluation.evaluated import Evaluation
    from samevoice.evaluation.run import Result
    from samevoice.evaluation.scores import Score
    from samevoice.evaluation.systems import System

WIDTH = 80
FEW = 20  # recordings below which an interval is rough
SHOWN = 5  # of the recordings that moved most
JSON, CSV = "evaluation.json", "evaluation.csv"
_NAMES = {"der": "DER", "der_collar": "DER, 0.25 s collar", "jer": "JER"}


def evaluate(
    corpus: Annotated[
        str,
        argument("CORPUS", "A folder of recordings with RTTM files, or FILE.yml:PROTOCOL.SUBSET."),
    ],
    model: Annotated[
        str | None,
        option(
            "A",
            "A bundle, a hub id, an open model, or a folder of RTTM files.",
            "--model",
            default="open:diarization",
        ),
    ] = None,
    against: Annotated[
        str | None, option("B", "Compare with another such, or with A's own fast mode: fast.")
    ] = None,
    output: Annotated[
        Path | None,
        option("DIR", "Where every result is kept, to go on from.", default="CORPUS-evaluation"),
    ] = None,
    device: OnDevice = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure how well a pipeline does on a corpus, or whether two hear the same."""
    from samevoice.evaluation import corpus as corpora
    from samevoice.evaluation import scores
    from samevoice.evaluation.evaluated import Evaluation
    from samevoice.models.diarization.formats import json_text

    scores.metrics()
    found = corpora.read(corpus, insist=against is None)
    systems = _systems(found, model, against, device)
    where = output or Path(f"{found.name}-evaluation")
    _refuse(where, found, systems, [corpus, *filter(None, (model, against))], overwrite)
    failures = pipeline_options.Failures(len(found.recordings))
    results = _results(found, systems, where, failures)
    if results:
        made = Evaluation(found, systems, results, failures.said)
        texts = {where / JSON: json_text(made.as_dict()), where / CSV: made.to_csv()}
        outputs.write(texts)
        _show(made)
        for path in texts:
            terminal.say(f"  {path}")
    failures.refuse()


# What was asked for -------------------------------------------------------------------------------


def _systems(
    found: Corpus, model: str | None, against: str | None, device: Device
) -> tuple[System, ...]:
    from samevoice.converters.cached import DEFAULT
    from samevoice.evaluation import systems

    word = model or DEFAULT
    first = _system(found, word, device, systems.name_of(word))
    if against is None:
        return (first,)
    if against != systems.FAST:
        other = systems.name_of(against, first.name)
        second = _system(found, against, device, other)
    elif isinstance(first, systems.Pipeline):
        second = _system(found, word, device, f"{first.name}-fast", fast=True)
    else:
        raise UsageError(f"--against fast needs a pipeline, and {word} holds RTTM files")
    if first.made_of == second.made_of:
        raise UsageError(f"{word} and {against} are the same: name two that differ")
    return first, second


def _system(found: Corpus, word: str, device: Device, name: str, **options: Any) -> System:
    from samevoice.evaluation import systems

    if systems.is_rttms(Path(word)):
        return systems.of_rttms(name, Path(word), found.recordings)
    folder = pipeline_options.bundle(word)
    return systems.of_bundle(name, folder, pipeline_options.load(str(folder), device, **options))


def _refuse(
    where: Path,
    found: Corpus,
    systems: Iterable[System],
    read: Sequence[str],
    overwrite: bool,
) -> None:
    """Turns below the corpus would be its references the next time."""
    from samevoice.evaluation.run import KIND, files

    places = [Path(one) for one in read if Path(one).is_dir()]
    for folder in [where, *(where / one.name for one in systems)]:
        for place in places:
            if folder.resolve().is_relative_to(place.resolve()):
                raise UsageError(f"{folder} would lie in {place}, which is read: choose --output")
    targets = [(where / JSON, JSON), (where / CSV, CSV)]
    for system in systems:
        for one in found.recordings:
            rttm, about = files(where, system.name, one.uri)
            targets += [(rttm, "turns"), (about, KIND)]
    outputs.refuse(targets, inputs=read, overwrite=overwrite)


# The work -----------------------------------------------------------------------------------------


def _results(
    found: Corpus,
    systems: Sequence[System],
    where: Path,
    failures: pipeline_options.Failures,
) -> dict[str, tuple[Result, ...]]:
    """Of each recording that every system has heard; the others are reported."""
    from samevoice.evaluation.scores import Score

    results: dict[str, tuple[Result, ...]] = {}
    running = [Score() for _ in systems]
    count = len(found.recordings)
    for number, recording in enumerate(found.recordings, start=1):
        place = f"{number}/{count} {recording.uri}"
        with failures.of(recording.uri):
            title = f"{place}{_ders(running)}"
            heard = _heard(recording, systems, where, found.referenced, title)
            results[recording.uri] = heard
            scores = [one.scores.strict if one.scores else Score() for one in heard]
            running = [sum(pair, Score()) for pair in zip(running, scores, strict=True)]
            terminal.say(f"{place}{_ders(running)}", terminal.stderr())
    return results


def _heard(
    recording: Recording, systems: Sequence[System], where: Path, referenced: bool, title: str
) -> tuple[Result, ...]:
    from samevoice.evaluation.run import Work, hash_of_audio

    audio = hash_of_audio(recording)
    found = []
    for one in systems:
        with pipeline_options.progress(title) as hook:
            found.append(Work(recording, one, where, audio, referenced).result(hook))
    return tuple(found)


def _ders(running: Sequence[Score]) -> str:
    """The DER of each system up to here; none without references."""
    if not any(one.total for one in running):
        return ""
    shown = (f"{label} {one.der:.1%}" for label, one in zip("AB", running, strict=False))
    return f"  DER {', '.join(shown)}"


# What is printed ----------------------------------------------------------------------------------


def _show(made: Evaluation) -> None:
    from samevoice.evaluation.evaluated import LABELS

    for line in wrap(made.answer, WIDTH):
        terminal.say(line)
    for label, system in zip(LABELS, made.systems, strict=False):
        terminal.say(f"{label}  {_cut(system.name)}")
    _show_figures(made)
    _show_groups(made)
    _show_moved(made)
    _show_notes(made)


def _cut(name: str, most: int = WIDTH - 3) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."


def _show_figures(made: Evaluation) -> None:
    table = _table("", *"AB"[: len(made.systems)], *["B - A"] * made.is_pair)
    change = made.pair["change"] if made.pair else None
    for name, shown in _NAMES.items() if made.corpus.referenced else ():
        for mean in ("micro", "macro"):
            cells = [_rate(one[name][mean]) for one in made.by_system]
            changed = [_change(change[name][mean])] if change else []
            table.add_row(shown if mean == "micro" else "  macro", *cells, *changed)
    if made.corpus.referenced:
        for part in ("missed", "false_alarm", "confusion"):
            of_total = [one["der"][part] / one["der"]["total"] for one in made.by_system]
            table.add_row(part.replace("_", " "), *(f"{rate:.1%}" for rate in of_total))
        right = [f"{one['speakers_right']} of {one['recordings']}" for one in made.by_system]
        table.add_row("speakers right", *right)
    factors = [one["real_time_factor"] for one in made.by_system]
    table.add_row("real-time factor", *("" if x is None else f"{x:.3f}" for x in factors))
    peaks = [one["peak_memory"] for one in made.by_system]
    table.add_row("peak memory", *("" if x is None else f"{x / 1e9:.2f} GB" for x in peaks))
    if made.pair:
        table.add_row("B scored against A", "", _rate(made.pair["disagreement"]["micro"]))
    terminal.console().print(table)


def _table(first: str, *others: str) -> Any:
    return terminal.table(
        Column(first, no_wrap=True), *(Column(name, justify="right") for name in others)
    )


def _rate(said: Mapping[str, Any]) -> str:
    if said["low"] is None:
        return f"{said['value']:.1%}"
    return f"{said['value']:.1%} ({100 * said['low']:.1f}-{100 * said['high']:.1f})"


def _change(said: Mapping[str, Any]) -> str:
    from samevoice.evaluation.evaluated import points

    if said["low"] is None:
        return points(said["value"])
    return f"{points(said['value'])} ({points(said['low'])}, {points(said['high'])})"


def _show_groups(made: Evaluation) -> None:
    if len(made.by_speakers) < 2:
        return
    table = _table("speakers", "recordings", *(f"DER {x}" for x in "AB"[: len(made.systems)]))
    for one in made.by_speakers:
        ders = [_rate(found["der"]["micro"]) for found in one["systems"]]
        table.add_row(one["speakers"], str(one["recordings"]), *ders)
    terminal.console().print(table)


def _show_moved(made: Evaluation) -> None:
    from samevoice.evaluation.evaluated import points

    if not made.pair or not made.pair["moved"]:
        return
    table = _table("moved most", *["DER B - A"] * made.corpus.referenced, "B against A")
    for one in made.pair["moved"][:SHOWN]:
        change = [] if one["change"] is None else [points(one["change"])]
        name = _cut(terminal.plain(one["uri"]), WIDTH // 2)
        table.add_row(name, *change, f"{one['disagreement']:.1%}")
    terminal.console().print(table)


def _show_notes(made: Evaluation) -> None:
    count = len(made.recordings)
    whole = sum(one.scored is None for one in made.recordings)
    if whole and made.corpus.referenced:
        terminal.note(f"{whole} of {count} without UEM: all of each was scored")
    if 1 < count < FEW:
        terminal.note(f"{count} recordings are few: their intervals are rough")
    if made.failed:
        terminal.note(
            f"{len(made.failed)} of {len(made.corpus.recordings)} failed, and are left out"
        )

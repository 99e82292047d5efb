"""evaluate, score: how well a pipeline does on a corpus, and whether two hear the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from samevoice import outputs
from samevoice.cli import evaluated, pipeline_options, terminal
from samevoice.cli.options import (
    CorpusName,
    Device,
    OnCluster,
    OnDevice,
    Overwrite,
    UsageError,
    Workers,
    option,
)

if TYPE_CHECKING:
    from samevoice.evaluation.corpus import Corpus
    from samevoice.evaluation.run import Result, Task
    from samevoice.evaluation.scores import Score
    from samevoice.evaluation.systems import System
    from samevoice.workers.engine import Engine


def evaluate(
    corpus: CorpusName,
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
    workers: Workers = None,
    cluster: OnCluster = None,
    output: Annotated[
        Path | None,
        option("DIR", "Where every result is kept, to go on from.", default="CORPUS-evaluation"),
    ] = None,
    device: OnDevice = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure how well a pipeline does on a corpus, or whether two hear the same."""
    from samevoice.evaluation import corpora, scores

    scores.metrics()
    found = corpora.read(corpus, insist=against is None)
    engine = pipeline_options.engine(workers, cluster, device, [x.audio for x in found.recordings])
    systems = _systems(found, model, against, device)
    where = output or Path(f"{found.name}-evaluation")
    read = [corpus, *filter(None, (model, against))]
    _carry_out(found, systems, where, engine, read, overwrite)


def score(
    corpus: CorpusName,
    turns: Annotated[
        list[Path] | None,
        option("DIR", "A folder of RTTM files; give two of them to compare them.", "--turns"),
    ] = None,
    workers: Workers = None,
    output: Annotated[
        Path | None, option("DIR", "Where the figures go.", default="CORPUS-scores")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score turns that are written down, without running anything again."""
    from samevoice.evaluation import corpora, scores, systems

    folders = [str(one) for one in turns or ()]
    if not 1 <= len(folders) <= 2:
        raise UsageError("score needs --turns DIR, once or twice: folders of RTTM files")
    if len({Path(one).resolve() for one in folders}) < len(folders):
        raise UsageError(f"{folders[0]} is named twice: name two folders that differ")
    scores.metrics()
    found = corpora.read(corpus, insist=len(folders) == 1)
    engine = pipeline_options.engine(workers, None, "cpu", [x.audio for x in found.recordings])
    sides: list[System] = []
    for folder in folders:
        if not systems.is_rttms(Path(folder)):
            raise UsageError(f"{folder} is no folder of RTTM files; evaluate runs pipelines")
        name = systems.name_of(folder, *(one.name for one in sides))
        sides.append(systems.of_rttms(name, Path(folder), found.recordings))
    where = output or Path(f"{found.name}-scores")
    _carry_out(found, tuple(sides), where, engine, [corpus, *folders], overwrite)


def _carry_out(
    found: Corpus,
    systems: tuple[System, ...],
    where: Path,
    engine: Engine,
    read: Sequence[str],
    overwrite: bool,
) -> None:
    from samevoice.evaluation.evaluated import Evaluation

    _refuse(where, found, systems, read, overwrite)
    failures = pipeline_options.Failures(len(found.recordings))
    results = _results(found, systems, where, engine, failures)
    if results:
        made = Evaluation(found, systems, results, failures.said)
        texts = evaluated.write(made, where)
        evaluated.show(made)
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
    pipeline_options.warn_of_made_up(folder)
    return systems.of_bundle(name, folder, device, **options)


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
    targets = evaluated.targets(where)
    for system in systems:
        for one in found.recordings:
            rttm, about = files(where, system.name, one.uri)
            targets += [(rttm, "turns"), (about, KIND)]
    outputs.refuse(targets, inputs=read, overwrite=overwrite)


# The work -----------------------------------------------------------------------------------------


def _results(
    found: Corpus,
    systems: tuple[System, ...],
    where: Path,
    engine: Engine,
    failures: pipeline_options.Failures,
) -> dict[str, tuple[Result, ...]]:
    """Of each recording that every system has heard; the others are reported."""
    from samevoice.evaluation.run import Evaluating, Store
    from samevoice.evaluation.scores import Score

    store, results = Store(where, systems), {}
    running = [Score() for _ in systems]
    recordings, waiting = found.recordings, {}

    def tasks() -> Iterator[Task]:
        for at, recording in enumerate(recordings):
            waiting[at] = store.task(recording)
            yield waiting[at]

    many = pipeline_options.Many(engine, [(one.uri, one.audio) for one in recordings])
    job = Evaluating(systems, found.referenced)
    for done in many.run(job, tasks()):
        task = waiting.pop(done.at)
        with failures.of(task.recording.uri):
            if done.error:
                raise done.error
            results[task.recording.uri] = kept = store.keep(task, done.value)
            scores = [one.scores.strict if one.scores else Score() for one in kept]
            running = [sum(pair, Score()) for pair in zip(running, scores, strict=True)]
            many.say(done.at, _ders(running))
    return results


def _ders(running: Sequence[Score]) -> str:
    """The DER of each system up to here; none without references."""
    if not any(one.total for one in running):
        return ""
    shown = (f"{label} {one.der:.1%}" for label, one in zip("AB", running, strict=False))
    return f"  DER {', '.join(shown)}"

"""evaluate, score: how well a pipeline does on a corpus, and whether two hear the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    flag,
    option,
)

if TYPE_CHECKING:
    from samevoice.evaluation.baseline import Baseline
    from samevoice.evaluation.corpus import Corpus
    from samevoice.evaluation.evaluated import Evaluation
    from samevoice.evaluation.run import Evaluating, Result, Task
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
        str | None,
        option("B", "Another such, or A as fast, float16, bfloat16, 8bit, 4bit or pyannote."),
    ] = None,
    source: Annotated[
        str | None,
        option("SOURCE", "What A was made from, for its other forms.", default="A's name"),
    ] = None,
    baseline: Annotated[
        Path | None,
        option("FILE", "Compare with the turns that A of an earlier evaluation.json kept."),
    ] = None,
    workers: Workers = None,
    cluster: OnCluster = None,
    shard: Annotated[
        str | None, option("K/N", "Only each N-th recording from the K-th on, to be merged later.")
    ] = None,
    merge: Annotated[
        bool, flag("--merge", "Run nothing: evaluate what the shards have left in DIR.")
    ] = False,
    output: Annotated[
        Path | None,
        option("DIR", "Where every result is kept, to go on from.", default="CORPUS-evaluation"),
    ] = None,
    device: OnDevice = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure how well a pipeline does on a corpus, or whether two hear the same."""
    from samevoice.evaluation import corpora, scores
    from samevoice.evaluation.evaluated import Evaluation
    from samevoice.evaluation.forms import split
    from samevoice.evaluation.run import Evaluating

    scores.metrics()
    found = corpora.read(corpus, insist=against is None and baseline is None)
    before = _baseline(baseline, against)
    where = output or Path(f"{found.name}-evaluation")
    part = _shard(shard, merge, found)
    engine = pipeline_options.engine(workers, cluster, device, [x.audio for x in part.recordings])
    if merge:
        systems = _merged(found, model, before or against, where)
    else:
        systems = _systems(found, model, before or against, source, device)
    pages = () if shard else evaluated.FILES
    read = [corpus, model, split(against or "")[0], before and str(before.path.parent)]
    _refuse(where, part, systems, pages, [one for one in read if one], overwrite)
    failures = pipeline_options.Failures(len(part.recordings))
    results = _results(Evaluating(systems, found.referenced, merge), part, where, engine, failures)
    if shard:
        terminal.say(
            f"{terminal.many(len(results), 'recording')} done; when all shards are: --merge"
        )
    elif results:
        _finish(Evaluation(found, systems, results, failures.said), where, before)
    failures.refuse()


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
    from samevoice.evaluation.evaluated import Evaluation
    from samevoice.evaluation.run import Evaluating

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
    _refuse(where, found, sides, evaluated.FILES, [corpus, *folders], overwrite)
    failures = pipeline_options.Failures(len(found.recordings))
    job = Evaluating(tuple(sides), found.referenced)
    results = _results(job, found, where, engine, failures)
    if results:
        _finish(Evaluation(found, job.systems, results, failures.said), where)
    failures.refuse()


def _finish(made: Evaluation, where: Path, before: Baseline | None = None) -> None:
    texts = evaluated.write(made, where)
    evaluated.show(made)
    for line in before.notes(made) if before else ():
        terminal.note(line)
    for path in texts:
        terminal.say(f"  {path}")


# What was asked for -------------------------------------------------------------------------------


def _baseline(path: Path | None, against: str | None) -> Baseline | None:
    if path is None:
        return None
    if against is not None:
        raise UsageError("evaluate takes --against B or --baseline FILE, not both")
    from samevoice.evaluation import baseline

    return baseline.read(path / evaluated.JSON if path.is_dir() else path)


def _systems(
    found: Corpus,
    model: str | None,
    against: str | Baseline | None,
    source: str | None,
    device: Device,
) -> tuple[System, ...]:
    from samevoice.converters.cached import DEFAULT
    from samevoice.evaluation import forms, systems

    word = model or DEFAULT
    if against is not None and not isinstance(against, str):
        kept = against.system(found)
        return kept, _system(found, word, device, systems.name_of(word, kept.name))
    first = _system(found, word, device, systems.name_of(word))
    if against is None:
        return (first,)
    plain, form = forms.split(against)
    base = _system(found, plain, device, systems.name_of(plain, first.name)) if plain else first
    second = _formed(base, form, plain or word, source) if form else base
    if first.made_of == second.made_of:
        raise UsageError(f"{word} and {against} are the same: name two that differ")
    return first, second


def _formed(one: System, form: str, word: str, source: str | None) -> System:
    from samevoice.converters.reading.sources import is_name
    from samevoice.evaluation import forms, systems

    if not isinstance(one, systems.Pipeline):
        raise UsageError(f"--against {form} needs a pipeline, and {word} holds RTTM files")
    source = source or (word if is_name(word) and not Path(word).is_dir() else None)
    return forms.form_of(one, form, source, pipeline_options.announced)


def _merged(
    found: Corpus, model: str | None, against: str | Baseline | None, where: Path
) -> tuple[System, ...]:
    """The same systems as far as their results tell."""
    from samevoice.converters.cached import DEFAULT
    from samevoice.evaluation import forms, systems
    from samevoice.evaluation.run import kept_system

    word = model or DEFAULT
    names = [systems.name_of(word)]
    if isinstance(against, str):
        plain, form = forms.split(against)
        base = systems.name_of(plain, *names) if plain else names[0]
        names.append(forms.name_of(base, form) if form else base)
    elif against is not None:
        names = [against.system_name, systems.name_of(word, against.system_name)]
    return tuple(kept_system(where, name, found.recordings) for name in names)


def _shard(word: str | None, merge: bool, found: Corpus) -> Corpus:
    """Every N-th recording, so that each shard has some of all kinds."""
    if word is None:
        return found
    if merge:
        raise UsageError("--shard does not go with --merge, which takes the results of all shards")
    k, of, n = word.partition("/")
    if not (of and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise UsageError(f"--shard {word!r:.40} is not K/N, such as 3/8")
    return replace(found, recordings=found.recordings[int(k) - 1 :: int(n)])


def _system(found: Corpus, word: str, device: Device, name: str) -> System:
    from samevoice.evaluation import systems

    if systems.is_rttms(Path(word)):
        return systems.of_rttms(name, Path(word), found.recordings)
    folder = pipeline_options.bundle(word)
    pipeline_options.warn_of_made_up(folder)
    return systems.of_bundle(name, folder, device)


def _refuse(
    where: Path,
    found: Corpus,
    systems: Iterable[System],
    pages: Iterable[str],
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
    targets = [(where / name, name) for name in pages]
    for system in systems:
        for one in found.recordings:
            rttm, about = files(where, system.name, one.uri)
            targets += [(rttm, "turns"), (about, KIND)]
    outputs.refuse(targets, inputs=read, overwrite=overwrite)


# The work -----------------------------------------------------------------------------------------


def _results(
    job: Evaluating,
    found: Corpus,
    where: Path,
    engine: Engine,
    failures: pipeline_options.Failures,
) -> dict[str, tuple[Result, ...]]:
    """Of each recording that every system has heard; the others are reported."""
    from samevoice.evaluation.run import Store
    from samevoice.evaluation.scores import Score

    store, results = Store(where, job.systems), {}
    running = [Score() for _ in job.systems]
    recordings, waiting = found.recordings, {}

    def tasks() -> Iterator[Task]:
        for at, recording in enumerate(recordings):
            waiting[at] = store.task(recording)
            yield waiting[at]

    many = pipeline_options.Many(engine, [(one.uri, one.audio) for one in recordings])
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

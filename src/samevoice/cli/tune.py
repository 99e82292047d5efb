"""tune: a pipeline's numbers, chosen on recordings with references and cross-validated."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Column

from samevoice import outputs
from samevoice.cli import pipeline_options, terminal
from samevoice.cli.options import CorpusName, OnDevice, Overwrite, Pipeline, option

if TYPE_CHECKING:
    from samevoice.evaluation.corpus import Recording
    from samevoice.evaluation.document import Tuned
    from samevoice.evaluation.grid import Value
    from samevoice.evaluation.scores import Score

SHOWN = 8  # of the grid's candidates
FIGURES = ("DER", "missed", "false alarm", "confusion")
_WORDS = {"min_cluster_size": "cluster size"}  # for headings


def _values(what: str, name: str, default: str) -> Any:
    return option("V,V", f"{what} to try.", name, default=default)


def tune(
    corpus: CorpusName,
    model: Pipeline = None,
    threshold: Annotated[
        str | None, _values("Thresholds", "--threshold", "0.5:0.9:0.05, of VBx to 0.7")
    ] = None,
    min_cluster_size: Annotated[
        str | None, _values("Smallest clusters", "--min-cluster-size", "4,8,12")
    ] = None,
    method: Annotated[
        str | None,
        option("M,M", "Linkages to try: centroid,average.", "--method", default="the model's"),
    ] = None,
    fa: Annotated[str | None, _values("Fa of VBx", "--fa", "0.05,0.07,0.1")] = None,
    fb: Annotated[str | None, _values("Fb of VBx", "--fb", "0.6,0.8,1")] = None,
    step: Annotated[
        str | None, _values("Chunk steps, in seconds,", "--step", "the model's")
    ] = None,
    folds: Annotated[
        int | None,
        option("K", "Keep recordings aside in K groups.", default="one at a time"),
    ] = None,
    device: OnDevice = "auto",
    output: Annotated[
        Path | None, option("FILE.json", "Save every figure (docs/models.md).")
    ] = None,
    mlx_path: Annotated[
        Path | None, option("DIR", "Write a copy of the bundle with the chosen numbers.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Choose a pipeline's clustering numbers on recordings with references, and cross-validate."""
    from samevoice.converters import cached, retune
    from samevoice.evaluation import corpora, scores, tuning
    from samevoice.evaluation.document import Tuned
    from samevoice.evaluation.grid import STEP, grid_of

    if output:
        file = corpus if Path(corpus).exists() else corpus.rpartition(":")[0]
        read = [one for one in (file, model) if one]
        outputs.refuse([(output, "tune.json")], inputs=read, overwrite=overwrite)
    scores.metrics()
    found = corpora.read(corpus)
    tuning.parts(len(found.recordings), folds)
    folder = pipeline_options.bundle(model)
    if mlx_path:
        retune.refuse(folder, mlx_path, overwrite=overwrite)
    pipeline = pipeline_options.load(str(folder), device)
    asked = {"threshold": threshold, "min_cluster_size": min_cluster_size, "method": method}
    asked |= {"Fa": fa, "Fb": fb, STEP: step}
    grid = grid_of(pipeline.settings, pipeline.frames.duration, asked)
    pipelines = {grid.own[STEP]: pipeline}
    for one in grid.axes[STEP]:
        if one not in pipelines:
            pipelines[one] = type(pipeline)(folder, device, step=one)
    heard = tuning.hear(found.recordings, grid, pipelines, _progress(len(found.recordings)))
    whole = tuning.tune(grid, heard.scores, folds)
    steps = [whole.with_step(number, folds) for number in range(len(grid.axes[STEP]))]
    name = model or cached.DEFAULT
    made = Tuned(name, pipeline.embedding_fingerprint, found, heard, whole, steps)
    _show(made)
    if output:
        from samevoice.models.diarization.formats import json_text

        outputs.write({output: json_text(made.as_dict())})
        terminal.say(f"  {output}")
    if mlx_path:
        said = {"numbers": made.settings(), "note": made.note, "corpus": found.name}
        retune.retuned(folder, mlx_path, made.settings(), said, made.note, overwrite=overwrite)
        terminal.marked("[green]done[/green]  ", f"{mlx_path}, with the chosen numbers")


def _progress(count: int) -> Callable[[int, Recording], AbstractContextManager[Any]]:
    return lambda at, one: pipeline_options.progress(f"{at + 1}/{count} {one.uri}")


# What is printed ----------------------------------------------------------------------------------


def _show(made: Tuned) -> None:
    seconds = sum(end - start for regions in made.heard.regions for start, end in regions)
    recordings = terminal.many(len(made.heard.own), "recording")
    terminal.say(
        f"{made.model} on {recordings}, {terminal.clock(seconds)} min scored, no collar, overlap "
        "included"
    )
    if whole := sum(one.scored is None for one in made.corpus.recordings):
        terminal.note(f"{whole} of {recordings} without UEM: all of each was scored")
    _show_grid(made)
    if len(made.steps) > 1:
        _show_steps(made)
    _show_choice(made)


def _telling(made: Tuned) -> list[str]:
    """The numbers that have several values and change something: each has a column."""
    tried = made.tuning.grid.axes
    return [name for name in tried if len(tried[name]) > 1 and name not in made.tuning.idle]


def _show_grid(made: Tuned) -> None:
    """The best of the grid, each only once."""
    tuning, grid = made.tuning, made.tuning.grid
    names = _telling(made)
    table = _table("", *names, *FIGURES)
    seen: set[tuple[str, ...]] = set()
    for at in (tuning.chosen, *tuning.ranked()):
        numbers = grid.numbers(at)
        cells = [_cell(numbers[name]) for name in names]
        if tuple(cells) not in seen and len(seen) < SHOWN:
            _row(table, ["" if seen else "chosen", *cells], tuning.of(at))
        seen.add(tuple(cells))
    _row(table, ["as it is", *(_cell(grid.own[name]) for name in names)], made.own)
    terminal.console().print(table)


def _show_steps(made: Tuned) -> None:
    """What each step comes to with the best numbers of its own."""
    names = _telling(made)
    table = _table(*names, "DER", "cross-validated")
    for one in made.steps:
        numbers = one.grid.numbers(one.chosen)
        ders = (one.of(one.chosen).der, one.cross_validated.der)
        table.add_row(*(_cell(numbers[name]) for name in names), *(f"{der:.1%}" for der in ders))
    terminal.console().print(table)


def _table(*names: str) -> Any:
    return terminal.table(*(Column(_WORDS.get(name, name), justify="right") for name in names))


def _cell(value: Value) -> str:
    return f"{value:g}" if isinstance(value, int | float) else value


def _row(table: Any, cells: list[str], score: Score) -> None:
    parts = (score.missed, score.false_alarm, score.confusion)
    rates = [f"{part / (score.total or 1):.1%}" for part in parts]
    table.add_row(*cells, f"{score.der:.1%}", *rates)


def _show_choice(made: Tuned) -> None:
    from samevoice.evaluation.document import said

    tuning = made.tuning
    chosen, expected = tuning.of(tuning.chosen).der, tuning.cross_validated.der
    terminal.say(f"chosen         {said(made.numbers)}")
    terminal.say(f"DER as it is   {made.own.der:.1%}")
    terminal.say(f"DER chosen     {chosen:.1%} on the recordings that it was chosen on")
    terminal.say(f"DER expected   {expected:.1%} on others like them, by cross-validation")
    for name in tuning.idle:
        terminal.note(f"{name} changes nothing on these recordings")
    for name in tuning.edges:
        terminal.note(f"the chosen {name} is the {tuning.edges[name]} tried: try more values")
    if expected >= made.own.der:
        terminal.note("cross-validation does not show that this is better than as it is")

"""precision: which type each layer needs, and the smallest bundle that keeps its limits."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

from samevoice import outputs
from samevoice.cli import terminal
from samevoice.cli.options import Bundle, OnDevice, Overwrite, option
from samevoice.errors import MissingExtraError

if TYPE_CHECKING:
    from samevoice.precision.found import FoundPart, Precision

WIDTH = 80
JSON, RECIPE = "precision.json", "recipe.toml"
HTML, MARKDOWN = "precision.html", "precision.md"


def precision(
    bundle: Bundle,
    source: Annotated[str, option("SOURCE", "The checkpoint that the bundle was made from.")],
    corpus: Annotated[
        str | None,
        option("CORPUS", "Recordings with references: the DER of each precision, of a pipeline."),
    ] = None,
    output: Annotated[
        Path | None,
        option("DIR", "Folder for the figures and the recipe.", default="BUNDLE-precision"),
    ] = None,
    limit: Annotated[
        list[str] | None, option("M=X", "A limit of the task: decision_agreement=0.999.", "--limit")
    ] = None,
    device: OnDevice = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Round each layer alone, and find the smallest mixed precision that keeps its limits."""
    from samevoice.evaluation import corpora, scores
    from samevoice.models.diarization.formats import json_text
    from samevoice.parity.bounds import parse_override
    from samevoice.precision.run import run

    where = output or bundle.parent / f"{bundle.name}-precision"
    targets = [(where / name, name) for name in (JSON, RECIPE, HTML, MARKDOWN)]
    read: list[str | Path] = [bundle, source, *([corpus] if corpus else [])]
    outputs.refuse(targets, inputs=read, overwrite=overwrite)
    overrides = [parse_override(one) for one in limit or ()]
    if corpus:
        scores.metrics()
    recordings = corpora.read(corpus) if corpus else None
    with terminal.progress("rounding") as advance:
        made = run(
            bundle,
            source,
            corpus=recordings,
            overrides=overrides,
            device=device,
            progress=advance,
        )
    texts = {where / JSON: json_text(made.as_dict()), where / RECIPE: made.recipe}
    texts |= _pages(made, where)
    outputs.write(texts)
    _show(made)
    for path in texts:
        terminal.say(f"  {path}")


def _pages(made: Precision, where: Path) -> dict[Path, str]:
    """The page and its Markdown; without the extra that draws them, a line that says so."""
    try:
        from samevoice.reports.precision import html, markdown
    except MissingExtraError as missing:
        terminal.say(f"no page: {missing}", terminal.stderr())
        return {}
    return {where / HTML: html(made), where / MARKDOWN: markdown(made)}


# What is printed ----------------------------------------------------------------------------------


def _show(made: Precision) -> None:
    for line in wrap(made.answer, WIDTH):
        terminal.say(line)
    for part in made.parts:
        _show_part(part)
    if made.heard:
        _show_heard(made)


def _show_part(part: FoundPart) -> None:
    from samevoice.precision import shown

    table = terminal.figures(part.title, "size", *part.limits.for_task, "kept")
    for row in shown.ladder(part):
        table.add_row(*row)
    terminal.console().print(table)


def _show_heard(made: Precision) -> None:
    from samevoice.precision import shown

    table = terminal.figures("", *shown.HEARD)
    for row in shown.heard(made):
        table.add_row(*row)
    terminal.console().print(table)

"""An evaluation on its way out: its files, and what is printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.table import Column
from rich.text import Text

from samevoice import outputs
from samevoice.cli import terminal
from samevoice.errors import MissingExtraError

if TYPE_CHECKING:
    from samevoice.evaluation.evaluated import Evaluation

WIDTH = 80
FEW = 20  # recordings below which an interval is rough
BRIEF = ("DER", "JER", "speakers", "RTF", "memory")  # several.HEADS in few letters
SHOWN = 5  # of the recordings that moved most
JSON, CSV = "evaluation.json", "evaluation.csv"
PAGES = ("evaluation.html", "evaluation.md", "junit.xml")
FILES = (JSON, CSV, *PAGES)


def write(made: Evaluation, where: Path) -> Iterable[Path]:
    from samevoice.models.diarization.formats import json_text

    texts = {where / JSON: json_text(made.as_dict()), where / CSV: made.to_csv()}
    try:
        texts |= pages({made.corpus.name: made}, where)
    except MissingExtraError as missing:
        terminal.say(f"no page: {missing}", terminal.stderr())
    outputs.write(texts)
    return texts


def pages(found: Mapping[str, Evaluation], where: Path) -> dict[Path, str]:
    """The page, Markdown and JUnit of one evaluation, or of several side by side."""
    from samevoice.reports.evaluations import html, junit, markdown

    makers = zip(PAGES, (html, markdown, junit), strict=True)
    return {where / name: make(found) for name, make in makers}


# What is printed ----------------------------------------------------------------------------------


def show(made: Evaluation) -> None:
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
    from samevoice.evaluation import shown

    table = terminal.figures("", *shown.columns(made))
    for row in shown.figures(made):
        table.add_row(*row)
    terminal.console().print(table)


def _show_groups(made: Evaluation) -> None:
    from samevoice.evaluation import shown

    for one in shown.groups(made):
        heads = (f"DER {label}" for label in "AB"[: len(made.systems)])
        table = terminal.figures(one.name, "recordings", *heads)
        for row in one.rows:
            table.add_row(*row)
        terminal.console().print(table)


def _show_moved(made: Evaluation) -> None:
    from samevoice.evaluation.evaluated import points

    if not made.pair or not made.pair["moved"]:
        return
    table = terminal.figures("moved most", *["DER B - A"] * made.corpus.referenced, "B against A")
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


def show_several(found: Sequence[Evaluation]) -> None:
    """A table a corpus, a line a system; without the columns of which nothing is known."""
    from samevoice.evaluation import several

    lines = several.lines(found)
    for corpus in dict.fromkeys(line.corpus for line in lines):
        these = [line for line in lines if line.corpus == corpus]
        known = [at for at in range(len(BRIEF)) if any(line.cells[at] for line in these)]
        table = terminal.table(
            Column("system", overflow="fold"),
            *(Column(BRIEF[at], justify="right", no_wrap=True) for at in known),
        )
        for line in these:
            cells = [line.cells[at] for at in known]
            table.add_row(Text(terminal.plain(line.system)), *cells)
        terminal.say(f"{corpus}, {terminal.many(these[0].recordings, 'recording')}")
        terminal.console().print(table)
    for corpus in several.differing(found):
        terminal.note(f"not all scored the same on {corpus}: its lines cannot be compared")

"""What the commands print: lines, tables, bars and summaries, at any width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from samevoice.converters.convert import Conversion
    from samevoice.converters.inspect import Inspection
    from samevoice.converters.rules import Row, Shape
    from samevoice.doctor import Check
    from samevoice.selftest import Finding

T = TypeVar("T")
_STYLES = {"used": "green", "derived": "cyan", "dropped": "yellow", "identity": "dim"}


def console() -> Console:
    return Console(highlight=False)


def stderr() -> Console:
    return Console(stderr=True, highlight=False)


def plain(text: str) -> str:
    """A name from a file, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def say(line: str, on: Console | None = None) -> None:
    """One line, however long, of names that may hold anything."""
    (on or console()).print(plain(line), markup=False, soft_wrap=True)


def marked(mark: str, line: str, on: Console | None = None) -> None:
    """A mark in colour, and behind it a line as ``say`` prints it."""
    on = on or console()
    on.print(mark, end="")
    say(line, on)


def note(line: str, on: Console | None = None) -> None:
    marked("[yellow]note[/]  ", line, on)


def table(*columns: Column | str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def figures(first: str, *others: str) -> Table:
    """A name, then figures to the right of it."""
    return table(Column(first, no_wrap=True), *(Column(name, justify="right") for name in others))


def many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@contextmanager
def progress(verb: str, *, in_bytes: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error while it is a terminal; call what is yielded to move it.

    One ``in_bytes`` appears with the first of them: a download before it shows a bar of its own.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    shown = stderr()
    bar = Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)
    task = bar.add_task(verb, total=None)

    def advance(what: str, done: int, total: int) -> None:
        bar.start()
        bar.update(task, description=f"{verb} {what}", completed=done, total=total)

    try:
        if not in_bytes:
            bar.start()
        yield advance
    finally:
        bar.stop()


def tensors(inspection: Inspection, on: Console | None = None) -> None:
    """Every tensor: name, shape and dtype on both sides, and the rule between them."""
    shown = on or console()
    for part, rows in inspection.tallies.items():
        shown.print(f"\n[bold]{escape(part)}[/bold]")
        wide = _wide(rows)
        wanted = shown.measure(wide, options=shown.options.update(max_width=10_000)).maximum
        if wanted <= shown.width:
            shown.print(wide)
        else:
            _narrow(shown, rows)


def _wide(rows: Iterable[Row]) -> Table:
    headings = ("PyTorch", "shape", "dtype", "rule", "MLX", "shape", "dtype")
    wide = table(*(Column(heading, no_wrap=True) for heading in headings))
    for row in rows:
        wide.add_row(
            Text(plain(row.source)),
            _shape(row.source_shape),
            row.source_dtype,
            Text(row.rule, _STYLES[row.fate]),
            Text(plain(row.target or row.why)),
            _shape(row.target_shape),
            row.target_dtype,
        )
    return wide


def _narrow(shown: Console, rows: Iterable[Row]) -> None:
    """Two lines a tensor, for terminals where seven columns do not fit."""
    for row in rows:
        size = f"{_shape(row.source_shape)} {row.source_dtype}".strip()
        shown.print(_spread(plain(row.source), size, shown.width))
        size = f"{_shape(row.target_shape)} {row.target_dtype}".strip()
        arrow = f"{row.rule} → {row.target}" if row.target else f"{row.rule}: {row.why}"
        line = Text("  ") + _spread(plain(arrow), size, shown.width - 2)
        line.stylize(_STYLES[row.fate], 2, 2 + len(row.rule))
        shown.print(line)


def _spread(left: str, right: str, width: int) -> Text:
    """``left`` and ``right`` at the two ends of a line."""
    return Text(left + " " * max(1, width - len(left) - len(right)) + right if right else left)


def _shape(shape: Shape | None) -> str:
    return "" if shape is None else "×".join(map(str, shape)) or "()"


def summary(inspection: Inspection, made: Conversion | None = None) -> None:
    """The last lines: what became of how many tensors, what to know, where the bundle is."""
    from samevoice.converters.inspect import values
    from samevoice.converters.rules import count

    shown = console()
    shown.print()
    for part, rows in inspection.tallies.items():
        counts, sizes = count(rows), values(rows)
        total = sum(counts.values()) - counts["identity"]
        shown.print(
            f"[bold]{escape(part)}[/bold]  {total} tensors, {sum(sizes.values()):,} values: "
            + _fates(counts)
        )
    for one in (*inspection.notes, *([inspection.note] if inspection.note else [])):
        note(one, shown)
    if made is not None and made.path is None:
        shown.print("dry run: nothing was written")
    elif made is not None:
        size = sum(part.nbytes for part in made.parts) / 1e6
        marked(
            "[green]done[/green]  ",
            f"{made.path}, {size:.1f} MB, written, read back and compared bit for bit",
            shown,
        )
    elif inspection.kind == "bundle" and inspection.checked and not inspection.changed:
        shown.print("[green]good[/green]  no file was changed after the conversion")


def _fates(counts: Mapping[str, int]) -> str:
    named = ("used", "derived", "dropped")
    parts = [f"[{_STYLES[fate]}]{counts[fate]} {fate}[/]" for fate in named if counts.get(fate)]
    if counts.get("identity"):
        parts.append(f"[dim]{counts['identity']} Identity[/]")
    return ", ".join(parts)


MARKS = {"good": "[green]✓[/] ", "missing": "[yellow]–[/] ", "broken": "[red]✗[/] "}


def check(found: Check) -> None:
    """One line; below it, where something is missing or broken, the command that fixes it."""
    marked(MARKS[found.state], f"{found.name:<18} {found.found}")
    if found.mend:
        say(f"  {'':<18} → {found.mend}")


def each(found: Iterable[T], show: Callable[[T], object], *, as_json: bool) -> list[T]:
    """All of them; each is shown as it comes, unless JSON is asked for."""
    kept = []
    for one in found:
        kept.append(one)
        if not as_json:
            show(one)
    return kept


def finding(found: Finding) -> None:
    marked(MARKS[found.state], f"{found.device:<5} {found.name:<14} {found.found}")

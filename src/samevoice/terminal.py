"""What the command prints: tallies, summaries and the doctor's findings, at any width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from samevoice.converters.convert import Conversion
    from samevoice.converters.inspect import Inspection
    from samevoice.converters.rules import Row, Shape
    from samevoice.doctor import Check
    from samevoice.selftest import Tried

_STYLES = {"used": "green", "derived": "cyan", "dropped": "yellow", "identity": "dim"}


def console() -> Console:
    return Console(highlight=False)


def stderr() -> Console:
    return Console(stderr=True, highlight=False)


def say(console: Console, line: str) -> None:
    """One line, however long, of names that may hold anything."""
    console.print(plain(line), markup=False, soft_wrap=True)


def note(console: Console, line: str) -> None:
    console.print("[yellow]note[/]  ", end="")
    say(console, line)


def many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@contextmanager
def progress(verb: str, *, in_bytes: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error while it is a terminal; call what is yielded to move it."""
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
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task(verb, total=None)

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"{verb} {what}", completed=done, total=total)

        yield advance


def tally(console: Console, inspection: Inspection) -> None:
    """Every tensor: name, shape and dtype on both sides, and the rule between them."""
    for part, rows in inspection.tallies.items():
        console.print(f"\n[bold]{escape(part)}[/bold]")
        table = _wide(rows)
        wanted = console.measure(table, options=console.options.update(max_width=10_000)).maximum
        if wanted <= console.width:
            console.print(table)
        else:
            _narrow(console, rows)


def _wide(rows: Iterable[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("PyTorch", "shape", "dtype", "rule", "MLX", "shape", "dtype"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        target = row.target or row.why
        table.add_row(
            Text(plain(row.source)),
            _shape(row.source_shape),
            row.source_dtype,
            Text(row.rule, _STYLES[row.fate]),
            Text(plain(target)),
            _shape(row.target_shape),
            row.target_dtype,
        )
    return table


def _narrow(console: Console, rows: Iterable[Row]) -> None:
    """Two lines a tensor, for terminals where seven columns do not fit."""
    for row in rows:
        size = f"{_shape(row.source_shape)} {row.source_dtype}".strip()
        console.print(_spread(plain(row.source), size, console.width))
        size = f"{_shape(row.target_shape)} {row.target_dtype}".strip()
        arrow = f"{row.rule} → {row.target}" if row.target else f"{row.rule}: {row.why}"
        line = Text("  ") + _spread(plain(arrow), size, console.width - 2)
        line.stylize(_STYLES[row.fate], 2, 2 + len(row.rule))
        console.print(line)


def _spread(left: str, right: str, width: int) -> Text:
    """``left`` and ``right`` at the two ends of a line."""
    return Text(left + " " * max(1, width - len(left) - len(right)) + right if right else left)


def plain(text: str) -> str:
    """A name from a file, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _shape(shape: Shape | None) -> str:
    if shape is None:
        return ""
    return "×".join(map(str, shape)) or "()"


def summary(console: Console, inspection: Inspection, made: Conversion | None = None) -> None:
    """The last lines: how many tensors met which fate, what to know, where the bundle is."""
    from samevoice.converters.inspect import values
    from samevoice.converters.rules import count

    console.print()
    for part, rows in inspection.tallies.items():
        counts, sizes = count(rows), values(rows)
        tensors = sum(counts.values()) - counts["identity"]
        console.print(
            f"[bold]{escape(part)}[/bold]  {tensors} tensors, {sum(sizes.values()):,} values: "
            + _fates(counts)
        )
    for note in (*inspection.notes, *([inspection.note] if inspection.note else [])):
        console.print(f"[yellow]note[/yellow]  {escape(plain(note))}", soft_wrap=True)
    if made is not None:
        if made.path is None:
            console.print("dry run: nothing was written")
        else:
            size = sum(part.nbytes for part in made.parts) / 1e6
            console.print(
                f"[green]done[/green]  {escape(str(made.path))}, {size:.1f} MB, "
                "written, read back and compared bit for bit",
                soft_wrap=True,
            )
    elif inspection.kind == "bundle" and inspection.checked and not inspection.changed:
        console.print("[green]good[/green]  every file is as it was written")


def _fates(counts: Mapping[str, int]) -> str:
    named = ("used", "derived", "dropped")
    parts = [f"[{_STYLES[fate]}]{counts[fate]} {fate}[/]" for fate in named if counts.get(fate)]
    if counts.get("identity"):
        parts.append(f"[dim]{counts['identity']} Identity[/]")
    return ", ".join(parts)


MARKS = {"good": "[green]✓[/]", "missing": "[yellow]–[/]", "broken": "[red]✗[/]"}


def doctor(console: Console, checks: Iterable[Check]) -> None:
    """One line a check; under each that is not good, the command that mends it."""
    for check in checks:
        console.print(
            f"{MARKS[check.state]} {escape(check.name):<18} {escape(check.found)}", soft_wrap=True
        )
        if check.mend:
            console.print(f"  {'':<18} [dim]→[/] {escape(check.mend)}", soft_wrap=True)


def tried(console: Console, one: Tried) -> None:
    """A line of the self-test: device, what, and what was found."""
    console.print(f"{MARKS[one.state]} {one.device:<5} ", end="")
    say(console, f"{one.name:<14} {one.found}")

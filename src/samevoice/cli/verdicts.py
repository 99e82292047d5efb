"""A verdict on the terminal: one line first, then the taps that are worst."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column

from samevoice.cli import terminal

if TYPE_CHECKING:
    from samevoice.parity.gallery import Finding
    from samevoice.parity.judge import TapVerdict, Verdict
    from samevoice.parity.result import Cause, Result

WORST = 12  # taps shown; the result holds them all
_MARKS = {True: "[green]✓[/]", False: "[red]✗[/]"}


def show(verdict: Verdict, title: str, *, details: bool = True, cause: Cause | None = None) -> None:
    """The verdict, the proven cause, the worst taps, and what was loosened."""
    ratios = [tap.judged_ratio for tap in verdict.taps]
    ends = [tap.judged_ratio for tap in verdict.taps if tap.output]
    figures = f"{len(ratios)} taps, noise ratio at most {_number(max(ratios, default=math.inf))}"
    terminal.marked("[green]passed[/]  " if verdict.passed else "[red]failed[/]  ", title)
    terminal.say(f"  {figures}" + (f", {_number(max(ends))} at the output" if ends else ""))
    if verdict.first_divergence:
        terminal.marked("  first divergence: ", verdict.first_divergence)
    if cause is not None:
        terminal.marked("  [bold]proven cause[/]  ", cause.sentence)
    if details:
        _table(verdict.taps)
    for reason in verdict.task_reasons:
        terminal.marked("  [red]task[/]  ", reason)
    for one in verdict.loosened:
        terminal.marked("  [red]loosened[/]  ", str(one))


def _table(taps: Iterable[TapVerdict]) -> None:
    figures = (
        Column(x, justify="right", no_wrap=True) for x in ("noise ratio", "max abs", "cosine")
    )
    table = terminal.table(
        Column("tap", overflow="fold", ratio=1),
        Column("input", overflow="ellipsis", no_wrap=True, max_width=16),
        *figures,
        Column(no_wrap=True),
    )
    for tap in sorted(taps, key=lambda tap: (tap.passed, -tap.judged_ratio))[:WORST]:
        name = f"{tap.name} (forced)" if tap.mode == "forced" else tap.name
        cosine = f"{tap.cosine_min:.7f}" if math.isfinite(tap.cosine_min) else "-"
        shown = (escape(terminal.plain(text)) for text in (name, tap.input))
        numbers = (_number(tap.judged_ratio), _number(tap.max_abs), cosine)
        table.add_row(*shown, *numbers, _MARKS[tap.passed])
    terminal.console().print(table)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "-"
    if value >= 1000 or 0 < value < 0.01:
        return f"{value:.1e}"
    return f"{value:.2f}"


def line(path: Path, result: Result) -> str:
    """Show a result that was read from a file; what it failed for comes back."""
    what = f"{path}: {result.model_type}, {result.dtype} on {result.device}"
    show(result.verdict, what, details=not result.passed, cause=result.cause)
    return "" if result.passed else result.verdict.reasons[0]


def evaluation(path: Path, limits: Iterable[str]) -> list[str]:
    """Show how an evaluation keeps these limits; what it failed for comes back."""
    from samevoice.evaluation.gate import Limit, answers, read

    found = read(path)
    answered = answers(found, map(Limit.of, limits))
    refused = [f"{path}: {one.sentence}" for one in answered if not one.kept]
    if found.failed:
        count = terminal.many(len(found.failed), "recording")
        refused.append(f"{path}: {count} failed: {', '.join(found.failed[:3])}")
    terminal.marked("[red]failed[/]  " if refused else "[green]passed[/]  ", str(path))
    terminal.say(f"  {found.answer}")
    for one in answered:
        mark = "[green]✓[/]  " if one.kept else "[red]✗[/]  "
        terminal.marked(f"  {mark}", one.sentence)
    return refused


def gallery(source: str, findings: Sequence[Finding], pairs: Sequence[Finding] | None) -> None:
    """What became of each bug; with ``pairs``, how many causes were proven."""
    table = terminal.table(
        Column("bug", overflow="fold", ratio=1),
        Column("found at", overflow="fold"),
        Column("noise ratio", justify="right", no_wrap=True),
        Column(no_wrap=True),
    )
    for one in findings:
        found = one.found or "[dim]changes nothing[/]"
        table.add_row(escape(one.bug), found, _number(one.noise_ratio), _MARKS[one.right])
    console = terminal.console()
    console.print(f"\n[bold]{escape(source)}[/]")
    console.print(table)
    console.print(tallied(findings))
    if pairs is not None:
        console.print(proven(findings, "bugs"))
        console.print(proven(pairs, "pairs of bugs"))


def tallied(findings: Sequence[Finding]) -> str:
    """How many were caught, how many of them where they sit, how many change nothing."""
    real = [one for one in findings if one.where]
    caught = sum(bool(one.found) for one in real)
    located = sum(one.right for one in real)
    idle = sum(one.right for one in findings if not one.where)
    return (
        f"{caught} of {len(real)} bugs caught, {located} located where they sit; "
        f"{idle} of {len(findings) - len(real)} shown to change nothing"
    )


def proven(findings: Sequence[Finding], what: str) -> str:
    """Of how many bugs in layers the cause was proven, and of how many another one."""
    real = [one for one in findings if one.where not in ("", "decisions")]
    right = sum(one.right and one.named for one in real)
    wrong = sum(one.cause is not None and not one.named for one in real)
    return f"{what}: the cause of {right} of {len(real)} proven, {wrong} wrongly"


def gallery_markdown(
    findings: Mapping[str, Sequence[Finding]], pairs: Mapping[str, Sequence[Finding]]
) -> str:
    """A table a source; ``pairs`` are there where causes were proven."""
    from samevoice.reports.rendering import rendered

    causes = {
        source: f"{proven(findings[source], 'Bugs')}. {proven(found, 'Pairs of bugs')}."
        for source, found in pairs.items()
    }
    return rendered("gallery.md", findings=findings, causes=causes, tallied=tallied, number=_number)

"""A verdict on the terminal: one line first, then the taps that are worst."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from samevoice import terminal

if TYPE_CHECKING:
    from samevoice.parity.gallery import Finding
    from samevoice.parity.judge import TapVerdict, Verdict
    from samevoice.parity.result import Cause, Result

WORST = 12  # taps shown; the result holds them all


def show(
    console: Console,
    verdict: Verdict,
    title: str,
    *,
    details: bool = True,
    cause: Cause | None = None,
) -> None:
    """The verdict, the proven cause, the worst taps, and what was loosened."""
    mark = "[green]passed[/]" if verdict.passed else "[red]failed[/]"
    console.print(f"{mark}  [bold]{_shown(title)}[/]", soft_wrap=True)
    console.print(f"  {_figures(verdict)}", soft_wrap=True)
    if verdict.first_divergence:
        console.print(f"  first divergence: [bold]{_shown(verdict.first_divergence)}[/]")
    if cause is not None:
        console.print(f"  [bold]proven cause[/]  {_shown(cause.sentence)}", soft_wrap=True)
    if details:
        console.print(_table(_worst(verdict.taps)))
    for reason in verdict.task_reasons:
        console.print(f"  [red]task[/]  {_shown(reason)}", soft_wrap=True)
    for one in verdict.loosened:
        console.print(f"  [red]loosened[/]  {_shown(str(one))}", soft_wrap=True)


def _shown(text: str) -> str:
    """A name from a file: neither markup nor what a terminal would obey, or could not show."""
    return escape(terminal.plain(text))


def _figures(verdict: Verdict) -> str:
    """The figures that matter: how many taps, the worst ratio, the worst at an output."""
    ratios = [tap.judged_ratio for tap in verdict.taps]
    outputs = [tap.judged_ratio for tap in verdict.taps if tap.output]
    said = f"{len(ratios)} taps, noise ratio at most {_number(max(ratios, default=math.inf))}"
    return said + (f", {_number(max(outputs))} at the output" if outputs else "")


def _worst(taps: Iterable[TapVerdict]) -> list[TapVerdict]:
    ranked = sorted(taps, key=lambda tap: (tap.passed, -tap.judged_ratio))
    return ranked[:WORST]


def _table(taps: Iterable[TapVerdict]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    table.add_column("tap", overflow="fold", ratio=1)
    table.add_column("input", overflow="ellipsis", no_wrap=True, max_width=16)
    for heading in ("noise ratio", "max abs", "cosine"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for tap in taps:
        name = f"{tap.name} (forced)" if tap.mode == "forced" else tap.name
        mark = "[green]✓[/]" if tap.passed else "[red]✗[/]"
        cosine = f"{tap.cosine_min:.7f}" if math.isfinite(tap.cosine_min) else "-"
        figures = (_number(tap.judged_ratio), _number(tap.max_abs), cosine)
        table.add_row(_shown(name), _shown(tap.input), *figures, mark)
    return table


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "-"
    if value >= 1000 or 0 < value < 0.01:
        return f"{value:.1e}"
    return f"{value:.2f}"


def line(console: Console, path: Path, result: Result) -> str:
    """One line for a result that was read from a file; what it failed for comes back."""
    what = f"{path}: {result.model_type}, {result.dtype} on {result.device}"
    show(console, result.verdict, what, details=not result.passed, cause=result.cause)
    return "" if result.passed else result.verdict.reasons[0]


def gallery(console: Console, source: str, findings: Sequence[Finding]) -> None:
    """What became of each bug."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    table.add_column("bug", overflow="fold", ratio=1)
    table.add_column("found at", overflow="fold")
    table.add_column("noise ratio", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in findings:
        mark = "[green]✓[/]" if one.right else "[red]✗[/]"
        found = one.found or "[dim]changes nothing[/]"
        table.add_row(escape(one.bug), found, _number(one.noise_ratio), mark)
    console.print(f"\n[bold]{escape(source)}[/]")
    console.print(table)
    console.print(tallied(findings))


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


def proofs(findings: Sequence[Finding], what: str) -> str:
    """Of how many bugs in layers the cause was proven, and of how many another one."""
    real = [one for one in findings if one.where not in ("", "decisions")]
    right = sum(one.right and one.named for one in real)
    wrong = sum(one.cause is not None and not one.named for one in real)
    return f"{what}: the cause of {right} of {len(real)} proven, {wrong} wrongly"


def gallery_markdown(
    findings: Mapping[str, Sequence[Finding]], pairs: Mapping[str, Sequence[Finding]]
) -> str:
    """A table a source; ``pairs`` are there where causes were proven."""
    lines = []
    for source, found in findings.items():
        lines += [f"### {source}", "", tallied(found) + ".", ""]
        if source in pairs:
            proven = (proofs(found, "Bugs"), proofs(pairs[source], "Pairs of bugs"))
            lines += [f"{'. '.join(proven)}.", ""]
        lines += ["| bug | found at | noise ratio | what it does |", "| --- | --- | ---: | --- |"]
        for one in found:
            where = f"`{one.found}`" if one.found else "changes nothing"
            wrong = "" if one.right else f" (expected `{one.where or 'nothing'}`)"
            ratio = _number(one.noise_ratio)
            lines.append(f"| {one.bug} | {where}{wrong} | {ratio} | {one.effect} |")
        lines.append("")
    return "\n".join(lines)

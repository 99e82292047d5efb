"""The command that measures: what samevoice costs here, beside what people use today."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samevoice import outputs
from samevoice.comparing import Overwrite, UsageError
from samevoice.errors import MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console

    from samevoice.bench.parts import Plan, Size
    from samevoice.bench.record import Record
    from samevoice.bench.rows import Row

# Beyond these a measurement never ends, or its recording fits no WAV file.
MOST_RUNS, MOST_MINUTES, MOST_HOURS, MOST_CHUNKS = 10_000, 2_000, 1_000, 4_096
PARTS = "start, conversion, networks, pipeline, parity, growth, memory"


class HowMuch(StrEnum):
    quick = "quick"
    usual = "usual"
    long = "long"


class On(StrEnum):
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Dtype(StrEnum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


def bench(
    part: Annotated[
        list[str] | None,
        typer.Argument(metavar="PART", help=f"Of {PARTS}. [dim]\\[default: all][/]"),
    ] = None,
    size: Annotated[
        HowMuch,
        typer.Option(help="Minutes, most of an hour, or most of a day."),
    ] = HowMuch.usual,
    runs: Annotated[int | None, typer.Option(metavar="N", help="Timed runs of each.")] = None,
    minutes: Annotated[
        str | None,
        typer.Option(metavar="M,M", help="Recordings beside pyannote.audio: 0.5,10."),
    ] = None,
    growth: Annotated[
        str | None, typer.Option(metavar="M,M", help="Recordings by samevoice alone: 1,10,60.")
    ] = None,
    hours: Annotated[
        str | None,
        typer.Option(metavar="H,H", help="Made-up voices for what follows the networks: 1,24."),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="B,B", help="Chunks at once for the networks: 1,8,32.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="A whole pipeline. [dim]\\[default: the reference][/]"),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The PyTorch pipeline that it is set beside."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(metavar="AUDIO", help="What is looped. [dim]\\[default: a sample][/]"),
    ] = None,
    device: Annotated[On, typer.Option(help="What both frameworks run on.")] = On.cpu,
    dtype: Annotated[Dtype, typer.Option(help="What the weights become.")] = Dtype.float32,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Where bench.json, .md and .svg go.")
    ] = Path("out/bench"),
    overwrite: Overwrite = False,
) -> None:
    """Measure samevoice beside torch and pyannote.audio, interleaved, on this machine."""
    from samevoice.bench import parts

    chosen = _size(parts.SIZES[size.value], runs, minutes, growth, hours, batch)
    named = _parts(part or [], chosen)
    if source is not None and not (source / "config.yaml").is_file():
        raise UsageError(f"--source {source}: no folder of a pipeline, with its config.yaml")
    if model is not None and not (model / "config.json").is_file():
        raise UsageError(f"--model {model}: no bundle of a whole pipeline")
    if audio is not None and not audio.is_file():
        raise UsageError(f"--audio {audio}: no such file")
    read = [path for path in (model, source, audio) if path is not None]
    names = ("bench.json", "bench.md", "bench.svg")
    outputs.refuse([(output / name, name) for name in names], inputs=read, overwrite=overwrite)
    with _plan(chosen, model, source, audio, device, dtype) as plan:
        _measure(plan, named, output)


def _parts(named: Sequence[str], size: Size) -> tuple[str, ...]:
    from samevoice.bench import parts

    unknown = [name for name in named if name not in parts.PARTS]
    if unknown:
        raise UsageError(f"there is no part {unknown[0]!r}: {PARTS}")
    return parts.chosen(named, size)


def _size(
    usual: Size,
    runs: int | None,
    minutes: str | None,
    growth: str | None,
    hours: str | None,
    batch: str | None,
) -> Size:
    given: dict[str, Any] = {
        "runs": runs,
        "minutes": _numbers("--minutes", minutes, MOST_MINUTES),
        "growth": _numbers("--growth", growth, MOST_MINUTES),
        "hours": _numbers("--hours", hours, MOST_HOURS),
        "batches": _numbers("--batch", batch, MOST_CHUNKS, whole=True),
    }
    if runs is not None and not 1 <= runs <= MOST_RUNS:
        raise UsageError(f"--runs is {runs}: it must be from 1 to {MOST_RUNS}")
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


def _numbers(
    flag: str, given: str | None, most: int, *, whole: bool = False
) -> tuple[float, ...] | None:
    """``1,10`` -> (1, 10); nothing between the commas is nothing to measure."""
    if given is None:
        return None
    words = [word.strip() for word in given.split(",") if word.strip()]
    try:
        numbers = tuple(int(word) if whole else float(word) for word in words)
    except ValueError:
        kind = "whole numbers" if whole else "numbers"
        raise UsageError(f"{flag} is {given!r}: {kind} with commas between them") from None
    if not all(0 < number <= most for number in numbers):
        raise UsageError(f"{flag} is {given!r}: every number must be more than 0, at most {most}")
    return numbers


@contextmanager
def _plan(
    size: Size,
    model: Path | None,
    source: Path | None,
    audio: Path | None,
    device: On,
    dtype: Dtype,
) -> Iterator[Plan]:
    from samevoice.bench.material import Material
    from samevoice.bench.parts import Plan

    if model is not None and dtype is not Dtype.float32:
        raise UsageError("--dtype rounds what is converted here: it does not go with --model")
    with tempfile.TemporaryDirectory(prefix="samevoice-bench-") as folder:
        material = Material(Path(folder), model, source, audio, dtype.value)
        yield Plan(size, material, device.value)


def _measure(plan: Plan, names: Sequence[str], output: Path) -> None:
    from samevoice import terminal
    from samevoice.bench import parts
    from samevoice.bench.record import Record, machine

    console = terminal.console()
    options = {
        "pipeline": str(plan.material.model or plan.material.source),
        "size": vars(plan.size),
        "device": plan.device,
        "dtype": plan.material.dtype,
    }
    record = Record(machine(plan.device), options)
    record.write(output)  # before anything is measured: it must be possible
    plan.material.prepare()
    terminal.say(console, record.sentence())
    for name in names:
        one = parts.PARTS[name]
        if one.needs and plan.material.source is None:
            record.left_out[name] = "it needs pyannote.audio and a PyTorch pipeline (--source)"
            terminal.note(console, f"{name}: {record.left_out[name]}")
            continue
        _part(console, record, plan, name, output)
    _draw(console, record, output)
    terminal.say(console, f"{output / 'bench.json'}, bench.md")


def _part(console: Console, record: Record, plan: Plan, name: str, output: Path) -> None:
    """Its rows are on disk as soon as they are measured, and on the screen when all are."""
    from samevoice import terminal
    from samevoice.bench import parts

    rows: list[Row] = []
    with terminal.stderr().status(f"{name}: {parts.PARTS[name].what}"):
        for row in parts.PARTS[name].rows(plan):
            rows.append(row)
            record.rows.append(row)
            record.write(output)
    _show(console, name, rows)


def _show(console: Console, name: str, rows: Sequence[Row]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from samevoice.bench import parts
    from samevoice.bench.record import HEADS, cells, notes, used

    console.print(f"\n[bold]{name}[/]: {parts.PARTS[name].what}")
    lines = [cells(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = used(lines)
    for k in columns:
        is_name = HEADS[k] in ("", "beside")
        table.add_column(HEADS[k], justify="left" if is_name else "right", no_wrap=not is_name)
    for row, line in zip(rows, lines, strict=True):
        style = {True: "green", False: "red", None: ""}[row.met]
        words = [escape(line[k]) for k in columns]
        if style:
            at = columns.index(HEADS.index("target"))
            words[at] = f"[{style}]{words[at]}[/]"
        table.add_row(*words)
    console.print(table)
    for said in notes(rows):
        console.print(f"[dim]{escape(said)}[/]")


def _draw(console: Console, record: Record, output: Path) -> None:
    from samevoice import terminal

    try:
        from samevoice.bench import plot
    except MissingExtraError as error:
        terminal.note(console, f"no bench.svg: {error}")
        return
    if rows := plot.drawable(record.rows):
        (output / "bench.svg").write_text(plot.ratios(rows).file, encoding="utf-8")
        terminal.say(console, f"{output / 'bench.svg'}")

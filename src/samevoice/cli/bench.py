"""bench: what samevoice costs on this machine, beside torch and pyannote.audio."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from samevoice import outputs
from samevoice.cli import pipeline_options, terminal
from samevoice.cli.options import Dtype, Overwrite, UsageError, argument, choice, option
from samevoice.errors import MissingExtraError

if TYPE_CHECKING:
    from samevoice.bench.parts import Plan, Size
    from samevoice.bench.record import Record
    from samevoice.bench.rows import Row

# Beyond these a measurement never ends, or its recording fits no WAV file.
MOST_RUNS, MOST_MINUTES, MOST_HOURS, MOST_CHUNKS = 10_000, 2_000, 1_000, 4_096
PARTS = "start, conversion, networks, pipeline, limits, parity, growth, memory"


HowMuch: TypeAlias = Literal["quick", "usual", "long"]
Hardware: TypeAlias = Literal["cpu", "cuda", "mps"]


def bench(
    part: Annotated[list[str] | None, argument("PART", f"Any of {PARTS}.", default="all")] = None,
    size: Annotated[HowMuch, choice("Minutes, about an hour, or about a day.")] = "usual",
    runs: Annotated[int | None, option("N", "Timed runs of each.")] = None,
    minutes: Annotated[
        str | None, option("M,M", "Recordings also run by pyannote.audio: 0.5,10.")
    ] = None,
    growth: Annotated[
        str | None, option("M,M", "Recordings run by samevoice alone: 1,10,60.")
    ] = None,
    hours: Annotated[
        str | None, option("H,H", "Made-up voices, for the steps after the networks: 1,24.")
    ] = None,
    batch: Annotated[str | None, option("B,B", "Chunks per network call: 1,8,32.")] = None,
    model: Annotated[
        str | None,
        option("MODEL", "A converted pipeline, or a name as diarize's.", default="the reference"),
    ] = None,
    source: Annotated[
        str | None,
        option(
            "SOURCE",
            "The PyTorch pipeline, or network, to compare with.",
            default="what MODEL names",
        ),
    ] = None,
    audio: Annotated[
        Path | None, option("FILE", "The recording to repeat.", default="a sample")
    ] = None,
    senko: Annotated[
        Path | None, option("PYTHON", "A Python that has senko: pipeline runs it, too.")
    ] = None,
    device: Annotated[Hardware, choice("Where both frameworks run.")] = "cpu",
    dtype: Annotated[Dtype, choice("Type of the weights.")] = "float32",
    output: Annotated[Path, option("DIR", "Folder for bench.json, bench.md and bench.svg.")] = Path(
        "out/bench"
    ),
    overwrite: Overwrite = False,
) -> None:
    """Measure samevoice beside torch and pyannote.audio, in alternating runs."""
    from samevoice.bench import parts
    from samevoice.bench.material import Material

    numbers = {
        "runs": runs,
        "minutes": _numbers("--minutes", minutes, MOST_MINUTES),
        "growth": _numbers("--growth", growth, MOST_MINUTES),
        "hours": _numbers("--hours", hours, MOST_HOURS),
        "batches": _numbers("--batch", batch, MOST_CHUNKS, whole=True),
    }
    if runs is not None and not 1 <= runs <= MOST_RUNS:
        raise UsageError(f"--runs is {runs}: it must be from 1 to {MOST_RUNS}")
    given: dict[str, Any] = {name: x for name, x in numbers.items() if x is not None}
    chosen = replace(parts.SIZES[size], **given)
    named = _parts(part or [], chosen)
    _refuse_missing(source, audio, senko)
    bundle = None if model is None else pipeline_options.bundle(model)
    if source is None and model is not None and not Path(model).is_dir():
        source = model  # a name leads to what the bundle was made from
    read = [Path(path) for path in (bundle, source, audio) if path is not None]
    names = ("bench.json", "bench.md", "bench.svg")
    outputs.refuse([(output / name, name) for name in names], inputs=read, overwrite=overwrite)
    if model is not None and dtype != "float32":
        raise UsageError("--dtype rounds what is converted here: it does not go with --model")
    with tempfile.TemporaryDirectory(prefix="samevoice-bench-") as folder:
        material = Material(Path(folder), bundle, source, audio, dtype)
        _measure(parts.Plan(chosen, material, device, senko), named, output)


def _refuse_missing(source: str | None, audio: Path | None, senko: Path | None) -> None:
    from samevoice.converters.reading.sources import is_name

    places = [] if source is None else [Path(source), Path(source, "config.yaml")]
    if source is not None and not is_name(source) and not any(one.is_file() for one in places):
        raise UsageError(
            f"--source {source}: not the folder of a pipeline with a config.yaml, and no checkpoint"
        )
    for flag, file in (("--audio", audio), ("--senko", senko)):
        if file is not None and not file.is_file():
            raise UsageError(f"{flag} {file}: no such file")


def _parts(named: Sequence[str], size: Size) -> tuple[str, ...]:
    from samevoice.bench import parts

    unknown = [name for name in named if name not in parts.PARTS]
    if unknown:
        raise UsageError(f"there is no part {unknown[0]!r}: {PARTS}")
    return parts.chosen(named, size)


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


def _measure(plan: Plan, names: Sequence[str], output: Path) -> None:
    from samevoice.bench import parts
    from samevoice.bench.record import Record, machine

    options = {
        "pipeline": str(plan.material.model or plan.material.source),
        "size": vars(plan.size),
        "device": plan.device,
        "dtype": plan.material.dtype,
    }
    record = Record(machine(plan.device), options)
    record.write(output)  # before anything is measured: it must be possible
    plan.material.prepare()
    terminal.say(record.sentence())
    for name in names:
        if why := parts.missing(parts.PARTS[name], plan.material):
            record.left_out[name] = why
            terminal.note(f"{name}: {why}")
            continue
        _part(record, plan, name, output)
    _draw(record, output)
    terminal.say(f"{output / 'bench.json'}, bench.md")


def _part(record: Record, plan: Plan, name: str, output: Path) -> None:
    """Its rows are on disk as soon as they are measured, and on the screen when all are."""
    from samevoice.bench import parts
    from samevoice.bench.rows import Left

    rows: list[Row] = []
    left: list[Left] = []
    with terminal.stderr().status(f"{name}: {parts.PARTS[name].what}"):
        for row in parts.PARTS[name].rows(plan):
            if isinstance(row, Left):
                left.append(row)
                record.left_out[row.what] = row.why
            else:
                rows.append(row)
                record.rows.append(row)
            record.write(output)
    console = terminal.console()
    console.print(f"\n[bold]{name}[/]: {parts.PARTS[name].what}")
    _show(rows)
    for one in left:
        terminal.note(f"{one.what}: {one.why}")


def _show(rows: Sequence[Row]) -> None:
    from rich.markup import escape

    from samevoice.bench.record import HEADS, cells, notes, used

    lines = [cells(row) for row in rows]
    columns = used(lines)
    table = terminal.table()
    for k in columns:
        is_name = HEADS[k] in ("", "beside")
        table.add_column(HEADS[k], justify="left" if is_name else "right", no_wrap=not is_name)
    for row, line in zip(rows, lines, strict=True):
        words = [escape(line[k]) for k in columns]
        if row.met is not None:
            at = columns.index(HEADS.index("target"))
            words[at] = f"[{'green' if row.met else 'red'}]{words[at]}[/]"
        table.add_row(*words)
    console = terminal.console()
    console.print(table)
    for said in notes(rows):
        console.print(f"[dim]{escape(said)}[/]")


def _draw(record: Record, output: Path) -> None:
    try:
        from samevoice.bench import plot
    except MissingExtraError as error:
        terminal.note(f"no bench.svg: {error}")
        return
    if rows := plot.drawable(record.rows):
        (output / "bench.svg").write_text(plot.ratios(rows).file, encoding="utf-8")
        terminal.say(f"{output / 'bench.svg'}")

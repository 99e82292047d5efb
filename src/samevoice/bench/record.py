"""What was measured, kept: the machine, the rows, as JSON and as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from samevoice.bench.parts import PARTS
from samevoice.bench.rows import Row, Work
from samevoice.bench.workers import BenchError
from samevoice.converters.bundle import write_json
from samevoice.converters.convert import versions

SCHEMA = 1


@dataclass
class Record:
    """Filled part by part, and written after each: what was measured is never lost."""

    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "date": date.today().isoformat(),
            "machine": dict(self.machine),
            "versions": versions(),
            "options": dict(self.options),
            "rows": [row.as_dict() for row in self.rows],
            "left_out": self.left_out,
        }

    def write(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "bench.json", self.as_dict())
            (folder / "bench.md").write_text(self.markdown(), encoding="utf-8")
        except OSError as error:
            raise BenchError(f"{folder} cannot be written: {error.strerror or error}") from error

    def markdown(self) -> str:
        lines = ["# Benchmarks", "", self.sentence(), ""]
        for part in dict.fromkeys(row.part for row in self.rows):
            lines += [f"## {part}: {PARTS[part].what}", ""]
            rows = [row for row in self.rows if row.part == part]
            lines += [*_markdown(rows), "", *(f"- {words}" for words in notes(rows)), ""]
        lines += [f"{part} was left out: {why}" for part, why in self.left_out.items()]
        return "\n".join(lines).rstrip() + "\n"

    def sentence(self) -> str:
        """The machine and the versions, for whoever reads the figures elsewhere."""
        seen, packages = self.machine, ", ".join(f"{k} {v}" for k, v in versions().items())
        return (
            f"{date.today().isoformat()}, {seen['cores']} cores ({seen['processor']}), "
            f"{seen['system']}, MLX on {seen['device']} with {seen['blas']}, load "
            f"{seen['load_average']:.1f} at the start; {packages}."
        )


def machine(device: str) -> dict[str, Any]:
    """What it ran on, and how busy that was; ``device`` is what was asked for."""
    from samevoice.models import backend

    chosen = backend.device("cpu" if device == "cpu" else "gpu")
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "device": backend.device_name(chosen),
        "blas": backend.BLAS,
        "compiler": backend.has_compiler(),
        "tf32": os.environ.get("MLX_ENABLE_TF32", "unset"),
    }


def _processor() -> str:
    import mlx.core as mx

    return str(mx.device_info(mx.cpu).get("device_name", platform.machine()))


# Tables -------------------------------------------------------------------------------------------

HEADS = (
    *("", "beside", "its s", "our s", "ratio", "memory", "target"),
    *("ms", "share", "GFLOP", "MB", "GFLOP/s", "peak", "bound"),
)
_MARKS = {True: " ✓", False: " ✗", None: ""}


def cells(row: Row) -> tuple[str, ...]:
    """A row in words, under ``HEADS``; figures that there are not stay empty."""
    return (
        row.what,
        "" if row.theirs is None or row.is_stage else row.theirs.who,
        "" if row.theirs is None else seconds(row.theirs.middle),
        "" if row.work else seconds(row.ours.middle),
        ratio(row),
        _memory(row),
        "" if row.target is None else f"{row.target}{_MARKS[row.met]}",
        *_work(row.work, row.ours.middle),
    )


def _work(work: Work | None, seconds: float) -> tuple[str, ...]:
    if work is None:
        return ("",) * 7
    gflops, bound = work.flop / 1e9 / max(seconds, 1e-9), work.bound(seconds)
    peak = 1e9 * gflops / work.machine.flops if work.machine else 0
    return (
        f"{1e3 * seconds:.2f}",
        "" if work.share is None else f"{work.share:.1%}",
        f"{work.flop / 1e9:.2f}" if work.flop else "",
        f"{work.nbytes / 1e6:.1f}" if work.nbytes else "",
        f"{gflops:.0f}" if work.flop else "",
        f"{peak:.0%}" if peak else "",
        "" if bound is None else f"{bound[0]} {bound[1]:.0%}",
    )


def seconds(value: float) -> str:
    """Three digits, however long it took."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    if len(row.ratios) == 1:
        return f"{row.ratio:.3g}"
    return f"{row.ratio:.3g} ({min(row.ratios):.3g}–{max(row.ratios):.3g})"


def _memory(row: Row) -> str:
    held = [one.peak_gb for one in (row.theirs, row.ours) if one is not None]
    return " → ".join(f"{gb:.2f}" for gb in held if gb) + (" GB" if any(held) else "")


def notes(rows: Sequence[Row]) -> list[str]:
    """What was seen beside the figures."""
    return [f"{row.what}: {row.said}" for row in rows if row.said]


def used(table: Sequence[tuple[str, ...]]) -> list[int]:
    """The columns in which anything stands."""
    return [k for k in range(len(HEADS)) if any(line[k] for line in table)]


def _markdown(rows: Sequence[Row]) -> Iterator[str]:
    table = [cells(row) for row in rows]
    columns = used(table)
    yield "| " + " | ".join(HEADS[k] for k in columns) + " |"
    yield "| " + " | ".join("---" if HEADS[k] in ("", "beside") else "---:" for k in columns) + " |"
    for line in table:
        within = "– " if line[0].startswith("    ") else ""
        yield f"| {within}" + " | ".join(line[k].strip() for k in columns) + " |"

"""diarize --fast beside the exact pipeline: time, likeness of voices, and who speaks when.

.venv/bin/python bench/fast.py BUNDLE RECORDING... [--reference RTTM...] [--runs 3]
A reference belongs to the recording in the same place.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from machine import OUT, described
from rich.console import Console
from rich.table import Table

from samevoice.converters.reference import import_pyannote
from samevoice.models.diarization import shared
from samevoice.models.diarization.audio import open_audio
from samevoice.models.diarization.pipeline import Analysis, SpeakerDiarizationPipeline
from samevoice.parity.diarization import errors, read_rttm
from samevoice.parity.metrics import row_cosines
from samevoice.parity.turns import Turn


@dataclass(frozen=True)
class Run:
    """One recording, once through."""

    analysis: Analysis
    trained: Any
    turns: tuple[Turn, ...]
    wall: float
    processor: float
    duration: float


@dataclass(frozen=True)
class Row:
    """What became of one recording; seconds are medians over the runs."""

    recording: str
    apart: float
    exact: float
    fast: float
    exact_processor: float
    fast_processor: float
    voices: int
    median: float
    least: float
    der: float
    der_exact_reference: float | None
    der_fast_reference: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("--reference", type=Path, nargs="*", default=[])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--apart", type=float, nargs="*", default=[shared.APART])
    options = parser.parse_args()
    import_pyannote()
    pipeline = SpeakerDiarizationPipeline(options.bundle)
    rows = list(_rows(pipeline, options))
    _show(rows)
    OUT.mkdir(parents=True, exist_ok=True)
    found = {**described(), "rows": [asdict(row) for row in rows]}
    (OUT / "fast.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _rows(pipeline: SpeakerDiarizationPipeline, options: argparse.Namespace) -> Iterator[Row]:
    references = [*options.reference, *[None] * len(options.recordings)]
    for path, reference in zip(options.recordings, references, strict=False):
        for apart in options.apart:
            yield _row(pipeline, path, reference, apart, options.runs)


def _row(
    pipeline: SpeakerDiarizationPipeline,
    path: Path,
    reference: Path | None,
    apart: float,
    runs: int,
) -> Row:
    """Exact and fast in turn, so that what else the machine does falls on both."""
    exact, fast = [], []
    for _ in range(runs):
        exact.append(_run(pipeline, path, None))
        fast.append(_run(pipeline, path, apart))
    one, other = exact[0], fast[0]
    x, y = (run.analysis.embeddings[one.trained] for run in (one, other))
    cosines = row_cosines(x, y)
    spoken = None if reference is None else next(iter(read_rttm(reference).values()))
    return Row(
        path.parent.name,
        apart,
        median(run.wall for run in exact),
        median(run.wall for run in fast),
        median(run.processor for run in exact),
        median(run.processor for run in fast),
        len(cosines),
        float(median(cosines.tolist())),
        float(cosines.min()),
        errors(one.turns, other.turns, one.duration).rate,
        None if spoken is None else errors(spoken, one.turns, one.duration).rate,
        None if spoken is None else errors(spoken, other.turns, one.duration).rate,
    )


def _run(pipeline: SpeakerDiarizationPipeline, path: Path, apart: float | None) -> Run:
    """``apart``: the fast configuration's limit, None the exact one."""
    pipeline.fast = apart is not None
    if apart is not None:
        pipeline.apart = apart
    wall, processor = time.perf_counter(), time.process_time()
    source = open_audio(path, pipeline.frames.sample_rate)
    analysis = pipeline.analyse(source.blocks())
    stages = pipeline.assign(analysis)
    made = pipeline.result(stages, path.stem)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    turns = tuple((turn.start, turn.end, who) for turn, who in made.speaker_diarization)
    trained = stages.clustering.train if stages.clustering is not None else ()
    return Run(analysis, trained, turns, wall, processor, made.duration)


def _show(rows: list[Row]) -> None:
    heads = ("recording", "apart", "exact", "fast", "ratio", "by processor", "voices", "median")
    table = Table(*heads, "least", "DER", "exact to reference", "fast to reference", box=None)
    for row in rows:
        against = (row.der_exact_reference, row.der_fast_reference)
        table.add_row(
            row.recording,
            f"{row.apart:g}",
            f"{row.exact:.1f} s",
            f"{row.fast:.1f} s",
            f"{row.fast / row.exact:.2f}",
            f"{row.fast_processor / row.exact_processor:.2f}",
            str(row.voices),
            f"{row.median:.4f}",
            f"{row.least:.3f}",
            f"{100 * row.der:.2f} %",
            *("" if rate is None else f"{100 * rate:.2f} %" for rate in against),
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()

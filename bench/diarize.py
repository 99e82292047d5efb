"""samevoice beside pyannote.audio on the same recordings: time, memory, and how both grow.

make bench, or: .venv/bin/python bench/diarize.py [--minutes 0.5 10] [--growth 1 60] [--host 4 24]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import OUT, described
from rich.console import Console
from rich.table import Table

from samevoice.converters import bundle, convert, reference

RATE = 16_000
TARGET = 1 / 3  # of pyannote's time
HOUR_CHUNKS = 3600
STAGES = {"reading", "segmentation", "embeddings", "counting", "clustering", "reconstruction"}

# Each child runs one framework on one recording, and says in JSON what it saw.
PYANNOTE = """
import json, sys, time
from samevoice.converters.reference import import_pyannote
import_pyannote()
import numpy as np, torch, wave
from pyannote.audio import Pipeline
with wave.open(sys.argv[2]) as file:
    samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
began = time.perf_counter()
pipeline = Pipeline.from_pretrained(sys.argv[1])
loaded = time.perf_counter()
found = pipeline({"waveform": torch.from_numpy(samples)[None], "sample_rate": 16000, "uri": "clip"})
ended = time.perf_counter()
turns = [(round(s.start, 3), round(s.end, 3), who) for s, who in found.speaker_diarization]
print(json.dumps({"load": loaded - began, "run": ended - loaded, "turns": turns, "stages": {}}))
"""
SAMEVOICE = """
import json, sys, time
began = time.perf_counter()
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline
pipeline = SpeakerDiarizationPipeline(sys.argv[1])
loaded = time.perf_counter()
found = pipeline(sys.argv[2])
ended = time.perf_counter()
turns = [(round(s.start, 3), round(s.end, 3), who) for s, who in found.speaker_diarization]
print(json.dumps({"load": loaded - began, "run": ended - loaded, "turns": turns,
                  "stages": found.seconds}))
"""
HOST = """
import json, sys, time
import numpy as np
from samevoice.models.diarization.pipeline import Analysis, Clock, SpeakerDiarizationPipeline
chunks, pipeline = int(sys.argv[2]), SpeakerDiarizationPipeline(sys.argv[1])
random = np.random.default_rng(0)
voices = random.standard_normal((6, 256)).astype(np.float32)
who = random.integers(0, 6, (chunks, 2))
embeddings = np.zeros((chunks, 3, 256), np.float32)
embeddings[:, :2] = voices[who] + 0.5 * random.standard_normal((chunks, 2, 256)).astype(np.float32)
segmentations = np.zeros((chunks, 589, 3), np.uint8)
segmentations[:, :290, 0] = 1
segmentations[::2, 295:, 1] = 1
analysis, clock = Analysis(segmentations, embeddings, (chunks + 9) * 16000), Clock()
began = time.perf_counter()
stages = pipeline.assign(analysis, clock=clock)
found = pipeline.result(stages, "made up", clock=clock)
print(json.dumps({"load": 0, "run": time.perf_counter() - began, "turns": [],
                  "stages": clock.seconds | {"voices": len(stages.clustering.train[0]),
                                             "speakers": len(found.labels)}}))
"""


@dataclass(frozen=True)
class Run:
    """One child process."""

    who: str
    minutes: float
    run: float
    load: float
    peak_gb: float
    processor: float  # seconds of all its threads, loading included
    stages: Mapping[str, float]
    turns: Sequence[Sequence[Any]]


def main() -> None:
    options = _options()
    console = Console(highlight=False)
    OUT.mkdir(parents=True, exist_ok=True)
    source = options.source or reference.build("full")
    sound = _sound(options.audio)
    with tempfile.TemporaryDirectory(dir=OUT) as scratch:
        folder = Path(scratch)
        made = folder / "bundle"
        convert.convert(str(source), made)
        both = list(_compared(folder, source, made, sound, options))
        grown = list(_grown(folder, made, sound, options))
    if both:
        _show_both(console, both)
    if grown:
        _show_grown(console, grown)
    _write(options, both, grown)
    console.print(f"[dim]{OUT / 'diarize.json'}[/dim]", soft_wrap=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each framework")
    parser.add_argument(
        "--minutes", type=float, nargs="*", default=[0.5, 10], help="beside pyannote"
    )
    parser.add_argument("--growth", type=float, nargs="*", default=[1, 10], help="samevoice alone")
    parser.add_argument(
        "--host",
        type=float,
        nargs="*",
        default=[1.0, 4.0],
        help="hours of made-up voices, for what comes behind the networks",
    )
    parser.add_argument("--source", type=Path, help="a pipeline's folder instead of the reference")
    parser.add_argument("--audio", type=Path, help="a 16 kHz WAV to loop instead of the sample")
    return parser.parse_args()


def _sound(path: Path | None) -> np.ndarray:
    if path is None:
        return reference.sample()
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def _looped(folder: Path, sound: np.ndarray, minutes: float) -> Path:
    """A WAV of so many minutes, the sound over and over, written a block at a time."""
    path, left = folder / f"{minutes:g}.wav", round(minutes * 60 * RATE)
    block = np.clip(np.rint(sound * 32768), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        while left > 0:
            file.writeframes(block[:left].tobytes())
            left -= len(block[:left])
    return path


def _compared(
    folder: Path, source: Path, made: Path, sound: np.ndarray, options: argparse.Namespace
) -> Iterator[Run]:
    """Each framework in turn, on each recording, ``runs`` times."""
    for minutes in options.minutes:
        path = _looped(folder, sound, minutes)
        for _ in range(options.runs):
            yield _child("pyannote.audio", PYANNOTE, minutes, source, path)
            yield _child("samevoice", SAMEVOICE, minutes, made, path)
        path.unlink()


def _grown(
    folder: Path, made: Path, sound: np.ndarray, options: argparse.Namespace
) -> Iterator[Run]:
    for minutes in options.growth:
        path = _looped(folder, sound, minutes)
        yield _child("samevoice", SAMEVOICE, minutes, made, path)
        path.unlink()
    for hours in options.host:
        chunks = round(hours * HOUR_CHUNKS)
        yield _child("behind the networks", HOST, 60 * hours, made, chunks)


def _child(who: str, code: str, minutes: float, *words: object) -> Run:
    """A process of its own; the most that was ever resident is the kernel's figure."""
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{who} failed with exit code {process.returncode}")
    found = json.loads(said.splitlines()[-1])
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    processor = usage.ru_utime + usage.ru_stime
    return Run(
        who, minutes, found["run"], found["load"], peak, processor, found["stages"], found["turns"]
    )


# --- showing ----------------------------------------------------------------------------------


def _show_both(console: Console, runs: list[Run]) -> None:
    table = Table("minutes", "", "seconds", "ratio", "peak memory", "target", box=None)
    for minutes in dict.fromkeys(run.minutes for run in runs):
        for who in ("pyannote.audio", "samevoice"):
            ours = [run for run in runs if (run.minutes, run.who) == (minutes, who)]
            theirs = [run for run in runs if (run.minutes, run.who) == (minutes, "pyannote.audio")]
            pairs = [a.run / b.run for a, b in zip(ours, theirs, strict=True)]
            ratio = median(pairs)
            spread = f"{ratio:.3f} ({min(pairs):.3f} to {max(pairs):.3f})"
            same = all(run.turns == theirs[0].turns for run in ours)
            met = "[green]1/3 ✓[/]" if ratio <= TARGET else "[red]1/3 ✗[/]"
            table.add_row(
                f"{minutes:g}",
                who,
                f"{median(run.run for run in ours):.2f}",
                spread if who == "samevoice" else "",
                f"{max(run.peak_gb for run in ours):.2f} GB",
                f"{met} {'same turns' if same else 'other turns'}" if who == "samevoice" else "",
            )
    console.print(table)


def _show_grown(console: Console, runs: list[Run]) -> None:
    table = Table(
        "minutes", "", "seconds", "a second of audio", "peak memory", "most of it", box=None
    )
    for run in runs:
        stage = max(STAGES & run.stages.keys(), key=lambda name: run.stages[name])
        table.add_row(
            f"{run.minutes:g}",
            run.who,
            f"{run.run:.1f}",
            f"{run.run / run.minutes / 60:.4f}",
            f"{run.peak_gb:.2f} GB",
            f"{stage} {run.stages[stage]:.1f} s",
        )
    console.print(table)


def _write(options: argparse.Namespace, both: list[Run], grown: list[Run]) -> None:
    content: Mapping[str, Any] = {
        **described(),
        "options": {name: str(value) for name, value in vars(options).items()},
        "beside_pyannote": [asdict(run) for run in both],
        "growth": [asdict(run) for run in grown],
    }
    bundle.write_json(OUT / "diarize.json", content)


if __name__ == "__main__":
    main()

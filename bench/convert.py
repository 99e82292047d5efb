"""What a conversion costs: its time beside ``import torch``, its memory on 6 GB of weights.

make bench, or: .venv/bin/python bench/convert.py [--no-big] [--format safetensors|bin]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import OUT, described
from rich.console import Console
from rich.table import Table

from samevoice.converters import bundle, families, reference
from samevoice.converters.rules import Rule, Shape
from samevoice.converters.safetensors_file import Slot
from samevoice.converters.transforms import Array

BIG = OUT / "big"  # sources, bundle and noise of the large conversion: gone when it is over
SECONDS_OVER_TORCH = {"segmentation": 1.0, "full": 2.0}
GIGABYTES = 1.5
SAMPLE_EVERY = 0.02
WRITE_BLOCK = 1 << 22  # values


@dataclass(frozen=True)
class Timing:
    """Medians over interleaved runs, in seconds."""

    what: str
    seconds: float
    over_torch: float
    ratio: float
    target: float
    runs: list[float]

    @property
    def met(self) -> bool:
        return self.over_torch <= self.target


@dataclass(frozen=True)
class Memory:
    """One large conversion; gigabytes are 1e9 bytes."""

    format: str
    dtype: str
    source_gb: float
    seconds: float
    peak_anonymous_gb: float
    target: float = GIGABYTES

    @property
    def met(self) -> bool:
        return self.peak_anonymous_gb <= self.target


def main() -> None:
    options = _options()
    console = Console(highlight=False)
    OUT.mkdir(parents=True, exist_ok=True)
    wanted = [] if options.no_big else options.format
    refused = _no_room(_big_bytes(options.hidden)) if wanted else ""
    if refused:
        console.print(refused, soft_wrap=True)
        sys.exit(2)
    timings = time_conversions(options.runs)
    _show_timings(console, timings)
    memories = [measure_big(kind, options.hidden, options.dtype) for kind in wanted]
    if memories:
        _show_memories(console, memories)
    _write(options, timings, memories)
    console.print(f"[dim]{OUT / 'convert.json'}[/dim]", soft_wrap=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each command")
    parser.add_argument("--no-big", action="store_true", help="leave the 6 GB checkpoint out")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("safetensors", "bin"),
        default=["safetensors"],
        help="how the large checkpoint is stored: shards with an index, or one torch file",
    )
    parser.add_argument("--hidden", type=int, default=4350, help="its LSTM size: 320 H^2 bytes")
    parser.add_argument("--dtype", default="float32", help="what its weights are rounded to")
    return parser.parse_args()


# --- time -------------------------------------------------------------------------------------


def time_conversions(runs: int) -> list[Timing]:
    """Each command in turn, ``runs`` times; the first round fills the caches and does not count."""
    commands = {"import torch": [sys.executable, "-c", "import torch"]}
    for kind in SECONDS_OVER_TORCH:
        commands[kind] = _convert(reference.build(kind), OUT / kind, "--overwrite")
    took: dict[str, list[float]] = {what: [] for what in commands}
    for number in range(runs + 1):
        for what, command in commands.items():
            seconds = _time(command)
            if number:
                took[what].append(seconds)
    for kind in SECONDS_OVER_TORCH:
        shutil.rmtree(OUT / kind)
    torch = median(took["import torch"])
    return [
        Timing(
            what,
            median(seconds),
            median(seconds) - torch,
            median(seconds) / torch,
            SECONDS_OVER_TORCH.get(what, 0.0),
            seconds,
        )
        for what, seconds in took.items()
    ]


def _convert(source: Path, target: Path, *more: str) -> list[str]:
    place = ["--mlx-path", str(target), "--quiet"]
    return [sys.executable, "-m", "samevoice", "convert", str(source), *place, *more]


def _time(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


# --- memory -----------------------------------------------------------------------------------


def measure_big(kind: str, hidden: int, dtype: str) -> Memory:
    """Write a large PyanNet, convert it, and clean up, whatever happens."""
    shutil.rmtree(BIG, ignore_errors=True)
    try:
        BIG.mkdir(parents=True)
        slots = _slots(hidden)
        source = (_write_safetensors if kind == "safetensors" else _write_torch)(slots)
        command = _convert(source, BIG / "bundle", "--max-shard-size", "2GB", "--dtype", dtype)
        seconds, peak = _watch(command)
    finally:
        shutil.rmtree(BIG, ignore_errors=True)
    size = sum(slot.nbytes for slot in slots)
    return Memory(kind, dtype, size / 1e9, seconds, peak / 1e9)


def _big_bytes(hidden: int) -> int:
    return sum(slot.nbytes for slot in _slots(hidden))


def _no_room(size: int) -> str:
    """Source and bundle side by side, and a tenth more for the noise that they are filled from."""
    needed, free = int(2.2 * size), shutil.disk_usage(OUT).free
    if free >= needed:
        return ""
    return (
        f"not enough disk: {needed / 1e9:.0f} GB are needed below {OUT}, {free / 1e9:.0f} GB are "
        "free; make room, or pass --no-big"
    )


def _slots(hidden: int) -> tuple[Slot, ...]:
    """The tensors of a torch PyanNet with LSTM layers of this size, as its own table names them."""
    config: dict[str, Any] = {
        "architecture": "PyanNet",
        "sincnet": {"stride": 10},
        "lstm": {
            "hidden_size": hidden,
            "num_layers": 4,
            "bidirectional": True,
            "monolithic": True,
        },
        "linear": {"hidden_size": 128, "num_layers": 2},
        "num_classes": 7,
        "activation": "log_softmax",
    }
    family = families.by_model_type("segmentation")
    shapes = family.shapes(config)
    rules = (rule for rule in family.table(config) if isinstance(rule, Rule))
    return tuple(
        Slot(name, shape, "float32")
        for rule in rules
        for move in rule.moves()
        for name, shape in _sources(rule, move.sources, [shapes[name] for name in move.targets])
    )


def _sources(
    rule: Rule, names: tuple[str, ...], targets: list[Shape]
) -> Iterator[tuple[str, Shape]]:
    """The shapes that a rule makes these targets from; the sum of two biases is shaped as each."""
    inverse = rule.transform.inverse
    if inverse is None:
        yield from ((name, targets[0]) for name in names)
        return
    blanks = (np.broadcast_to(np.float32(0), shape) for shape in targets)
    yield from zip(names, (array.shape for array in inverse(*blanks)), strict=True)


def _noise(slots: tuple[Slot, ...]) -> Path:
    """A file of random values, as long as the largest tensor: every tensor is a view of it."""
    path = BIG / "noise"
    random = np.random.default_rng(0)
    left = max(slot.count for slot in slots)
    with path.open("wb") as file:
        while left > 0:
            block = random.standard_normal(min(left, WRITE_BLOCK), dtype=np.float32)
            file.write((block * np.float32(0.01)).data)
            left -= block.size
    return path


def _view(noise: Path, slot: Slot) -> Array:
    """A mapping of its own for each tensor, or torch would store the values of all only once."""
    view: Array = np.memmap(noise, np.float32, "c", shape=(slot.count,)).reshape(slot.shape)
    return view


def _write_safetensors(slots: tuple[Slot, ...]) -> Path:
    noise, folder = _noise(slots), BIG / "source"
    folder.mkdir()
    arrays = ((slot.name, _view(noise, slot)) for slot in slots)
    shards = bundle.shard(slots, bundle.parse_size("2GB"))
    bundle.write_shards(folder, shards, arrays, {"format": "pt"})
    noise.unlink()
    return folder


def _write_torch(slots: tuple[Slot, ...]) -> Path:
    import torch

    noise, path = _noise(slots), BIG / "source.bin"
    torch.save({slot.name: torch.from_numpy(_view(noise, slot)) for slot in slots}, path)
    noise.unlink()
    return path


def _watch(command: list[str]) -> tuple[float, int]:
    """Seconds, and the most anonymous bytes at any time: pages of mapped files are not counted."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(SAMPLE_EVERY)
    if process.returncode:
        raise SystemExit(f"the conversion failed with exit code {process.returncode}")
    return time.perf_counter() - began, peak


def _anonymous(pid: int) -> int:
    """0 where there is nothing to read: the process is over."""
    text = Path(f"/proc/{pid}/status").read_text()
    line = next((line for line in text.splitlines() if line.startswith("RssAnon")), "")
    return int(line.split()[1]) * 1024 if line else 0


# --- showing ----------------------------------------------------------------------------------


def _show_timings(console: Console, timings: list[Timing]) -> None:
    table = Table("", "seconds", "over import torch", "ratio", "target", box=None)
    for timing in timings:
        table.add_row(
            timing.what,
            f"{timing.seconds:.2f}",
            f"{timing.over_torch:+.2f}",
            f"{timing.ratio:.2f}",
            _verdict(timing.met, f"+{timing.target:.0f} s") if timing.target else "",
        )
    console.print(table)


def _show_memories(console: Console, memories: list[Memory]) -> None:
    table = Table("", "source", "seconds", "anonymous memory, peak", "target", box=None)
    for memory in memories:
        table.add_row(
            f"{memory.format} to {memory.dtype}",
            f"{memory.source_gb:.2f} GB",
            f"{memory.seconds:.1f}",
            f"{memory.peak_anonymous_gb:.2f} GB",
            _verdict(memory.met, f"{memory.target} GB"),
        )
    console.print(table)


def _verdict(met: bool, target: str) -> str:
    return f"[green]{target} ✓[/]" if met else f"[red]{target} ✗[/]"


def _write(options: argparse.Namespace, timings: list[Timing], memories: list[Memory]) -> None:
    content: Mapping[str, Any] = {
        **described(),
        "options": vars(options),
        "timings": [asdict(timing) | {"met": timing.met} for timing in timings],
        "memory": [asdict(memory) | {"met": memory.met} for memory in memories],
    }
    bundle.write_json(OUT / "convert.json", content)


if __name__ == "__main__":
    main()

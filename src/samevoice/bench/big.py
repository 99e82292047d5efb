"""A made-up PyanNet of 6 GB, converted: the most memory that this takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from samevoice import family as families
from samevoice.bench.rows import Row, Series, Target
from samevoice.bench.workers import BenchError
from samevoice.converters import bundle, recognise
from samevoice.converters.reading.safetensors_file import Slot
from samevoice.converters.rules import Rule, Shape
from samevoice.converters.transforms import Array

FORMATS = ("safetensors", "bin")  # shards with an index, or one torch file
HIDDEN = 4350  # of its LSTM layers, which then take 320 H^2 bytes
MEMORY = Target("memory", 1.5)
SAMPLE_EVERY = 0.02
STATUS = "/proc/{}/status"  # Linux's, of a process
WRITE_BLOCK = 1 << 22  # values


def can_measure() -> bool:
    return Path(STATUS.format("self")).is_file()


def measured(kind: str, dtype: str, scratch: Path, hidden: int = HIDDEN) -> Row:
    """Write the checkpoint, convert it, and clean up, whatever happens.

    The memory is the most that is anonymous: pages of mapped files, which the system takes back
    when it needs them, are not in it.
    """
    slots = _slots(hidden)
    size = sum(slot.nbytes for slot in slots)
    _refuse_small_disks(size, scratch)
    folder = scratch / "big"
    try:
        folder.mkdir()
        source = _written(folder, kind, slots)
        words = ["-m", "samevoice", "convert", str(source), "--mlx-path", str(folder / "bundle")]
        words += ["--max-shard-size", "2GB", "--dtype", dtype, "--quiet"]
        seconds, peak = _watch([sys.executable, *words])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ours = Series("samevoice", (seconds,), peak_gb=peak / 1e9)
    return Row("memory", f"{size / 1e9:.2f} GB of {kind} to {dtype}", ours, target=MEMORY)


def _refuse_small_disks(size: int, scratch: Path) -> None:
    """Source and bundle side by side, and a tenth more for the noise that they are filled from."""
    needed, free = int(2.2 * size), shutil.disk_usage(scratch).free
    if free < needed:
        raise BenchError(
            f"not enough disk: {needed / 1e9:.0f} GB are needed below {scratch}, "
            f"{free / 1e9:.0f} GB are free; make room, or name the other parts"
        )


def _slots(hidden: int) -> tuple[Slot, ...]:
    """The tensors of a torch PyanNet with LSTM layers of this size, as its own table names them."""
    config: dict[str, Any] = {
        "architecture": "PyanNet",
        "sincnet": {"stride": 10},
        "lstm": {"hidden_size": hidden, "num_layers": 4, "bidirectional": True, "monolithic": True},
        "linear": {"hidden_size": 128, "num_layers": 2},
        "num_classes": 7,
        "activation": "log_softmax",
    }
    family = families.named(config["architecture"])
    shapes = recognise.shapes(family, config)
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


def _noise(folder: Path, slots: tuple[Slot, ...]) -> Path:
    """A file of random values, as long as the largest tensor: every tensor is a view of it."""
    path = folder / "noise"
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


def _written(folder: Path, kind: str, slots: tuple[Slot, ...]) -> Path:
    noise = _noise(folder, slots)
    arrays = ((slot.name, _view(noise, slot)) for slot in slots)
    if kind == "safetensors":
        source = folder / "source"
        source.mkdir()
        shards = bundle.shard(slots, bundle.parse_size("2GB"))
        bundle.write_shards(source, shards, arrays, {"format": "pt"})
    else:
        import torch

        source = folder / "source.bin"
        torch.save({name: torch.from_numpy(array) for name, array in arrays}, source)
    noise.unlink()
    return source


def _watch(command: list[str]) -> tuple[float, int]:
    """Seconds, and the most anonymous bytes at any time: pages of mapped files are not counted."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(SAMPLE_EVERY)
    if process.returncode:
        raise BenchError(f"the conversion ended with exit code {process.returncode}")
    return time.perf_counter() - began, peak


def _anonymous(pid: int) -> int:
    """0 where there is nothing to read: the process is over."""
    text = Path(STATUS.format(pid)).read_text()
    line = next((line for line in text.splitlines() if line.startswith("RssAnon")), "")
    return int(line.split()[1]) * 1024 if line else 0

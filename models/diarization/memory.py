"""How much memory a recording's chunks may take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx

from samevoice.machine import CONTAINER


def available_memory() -> float:
    """Bytes that are free to take, as far as the system and a container around us say."""
    return min([_free_in_system(), *_free_in_container(CONTAINER)])


def _free_in_system() -> float:
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    info = mx.device_info() if hasattr(mx, "device_info") else {}
    return float(info.get("max_recommended_working_set_size", 2 * 2**30))


def _free_in_container(folder: Path) -> Iterator[float]:
    """What a control group leaves, by its second version's files or its first's."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, taken = (float((folder / name).read_text()) for name in (limit, used))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        yield max(most - taken, 0.0)

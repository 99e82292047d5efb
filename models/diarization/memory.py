"""How much memory a recording's chunks may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx

from samevoice.machine import CONTAINER

MEMINFO = Path("/proc/meminfo")  # Linux's


def available_memory() -> float:
    """Bytes that are free to take, as far as the system and a container around us say."""
    return min([_free_in_system(), *_free_in_container(CONTAINER)])


def _free_in_system() -> float:
    if MEMINFO.is_file():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    # Elsewhere nothing says what is free: what a GPU should hold at most, or half of all there is.
    told = mx.device_info(mx.gpu) if mx.is_available(mx.Device(mx.gpu)) else {}
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    return float(told.get("max_recommended_working_set_size", half))


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

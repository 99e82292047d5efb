"""What this process and those that it started take of the machine."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTAINER = Path("/sys/fs/cgroup")  # where Linux says what a container may take
# What the libraries beneath the networks ask how many threads they may have.
THREADS = ("OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def peak_memory() -> int:
    """The most this process ever held, in bytes, or since it was forgotten, and its children did.

    Where the kernel tells it of the program alone: in ru_maxrss Linux counts what the parent held
    when it started us.
    """
    with suppress(OSError, StopIteration):
        return _peak("self") + sum(_of_children())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _peak(process: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def _of_children() -> Iterator[int]:
    for file in Path("/proc/self/task").glob("*/children"):
        for child in file.read_text().split():
            with suppress(OSError, StopIteration):  # it has ended
                yield _peak(child)


def forget_peak() -> None:
    """So that the next peak is that of what comes next; only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")

"""What this process takes of the machine."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path


def peak_memory() -> int:
    """The most that this process ever held, in bytes, or since it was forgotten.

    Where the kernel tells it of the program alone: in ru_maxrss Linux counts what the parent held
    when it started us.
    """
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def forget_peak() -> None:
    """So that the next peak is that of what comes next; only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")

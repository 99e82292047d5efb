"""What every way of reading a recording shares: its blocks, its faults, files that are open."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from samevoice.errors import SamevoiceError
from samevoice.models.diarization.resampling import Samples

PATIENCE = 30.0  # seconds that a pipe or ffmpeg may give nothing


class AudioError(SamevoiceError):
    """A recording cannot be read, or holds what no network should hear."""


@dataclass(frozen=True)
class Stream:
    """What a reader gives while it is open: (N, C) float32 blocks."""

    rate: int
    channels: int
    blocks: Iterator[Samples]


class Reader(Protocol):
    """One way to read one recording; ``open`` may be entered again and again."""

    @property
    def seconds(self) -> float | None: ...

    def open(self, size: int, notes: list[str]) -> Any: ...


@contextmanager
def readable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise AudioError(f"{name}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name} cannot be read: {reason}") from error


def ready(descriptor: int) -> bool:
    """Whether bytes, or the end, came while one can be expected to wait."""
    poll = select.poll()  # not select(): that knows no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(PATIENCE * 1000))


def opened(path: Path) -> int:
    """Its descriptor, at its start: elsewhere than on Linux, /dev/fd/N shares N's place."""
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor

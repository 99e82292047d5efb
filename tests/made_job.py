"""Jobs that processes elsewhere can import, as a test of workers needs them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samevoice.errors import SamevoiceError
from samevoice.workers.engine import Hook


class Odd(Exception):
    """It cannot be made again from what it says."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


@dataclass(frozen=True)
class Words:
    """What a task's word asks for; ``trace``: a folder in which every attempt leaves a file."""

    trace: Path
    broken: str = ""

    def start(self) -> Callable[[str, Hook], Any]:
        if self.broken:
            raise SamevoiceError(self.broken)
        return self._do

    def _do(self, word: str, hook: Hook) -> Any:
        del hook
        (self.trace / f"{word}-{time.monotonic_ns()}-{os.getpid()}").touch()
        if word == "bad":
            raise SamevoiceError("this one is bad")
        if word == "odd":
            raise Odd("one", "two")
        if word == "deadly" or (word == "once" and len(self.tries("once")) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "slow":
            time.sleep(0.2)
        return word.upper(), os.environ.get("OMP_NUM_THREADS")

    def tries(self, word: str) -> list[Path]:
        return sorted(self.trace.glob(f"{word}-*"))

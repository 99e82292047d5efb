"""The processes that are measured: each holds one contender, and runs it when it is told to.

They belong to this process's group, so that Ctrl-C ends them, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import IO, Any, Self

from samevoice.bench.rows import Series
from samevoice.errors import SamevoiceError

PAUSE = 0.05  # seconds between two contenders: threads that wait for work stop spinning


class BenchError(SamevoiceError):
    """Something that was to be measured did not run."""


@dataclass(frozen=True)
class Contender:
    """Who, and the job of jobs.py that they do."""

    who: str
    job: str
    options: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable  # another may lack all that samevoice needs, but not its files


@dataclass(frozen=True)
class Ran:
    """One run, as the process that did it says."""

    seconds: float
    processor: float  # seconds of all its threads
    peak_gb: float = 0.0
    found: Mapping[str, Any] = field(default_factory=dict)


class Worker:
    """A process that has prepared one job; ``run`` has it done once."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        began = time.perf_counter()
        # What it and its libraries print; closed with the process.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        words = json.dumps({"job": contender.job, "options": dict(contender.options)})
        self._process = subprocess.Popen(
            [contender.python, "-W", "ignore", "-m", "samevoice.bench.jobs", words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **contender.environment},
        )
        self._read()
        self.load = time.perf_counter() - began  # seconds until it was ready

    def run(self) -> Ran:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None
        return Ran(**self._read())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, fault: object, *_: object) -> None:
        """Lets the process end by itself; after a fault it is killed, whatever it is doing."""
        if fault is not None:
            self._process.kill()
        with suppress(BrokenPipeError), self._process:
            pass  # which closes its pipes, and waits
        self._said.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failed()
        found: dict[str, Any] = json.loads(line)
        return found

    def _failed(self) -> BenchError:
        code = self._process.wait()
        why = _last_line(self._said) or f"exit code {code}"
        return BenchError(f"{self.contender.who}: {self.contender.job} failed: {why}")


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode(errors="replace").strip().rpartition("\n")[2].strip()


def interleaved(contenders: Sequence[Contender], runs: int) -> dict[str, Series]:
    """All of them in turn, ``runs`` times, after one round that does not count."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(one)) for one in contenders]
        rounds = [list(_one_round(workers)) for _ in range(runs + 1)][1:]
    columns = zip(*rounds, strict=True)
    return {one.who: series(one.who, ran) for one, ran in zip(contenders, columns, strict=True)}


def _one_round(workers: Sequence[Worker]) -> Iterator[Ran]:
    for worker in workers:
        time.sleep(PAUSE)
        yield worker.run()


def once_each(contenders: Sequence[Contender], runs: int) -> dict[str, Series]:
    """Each in a process of its own, ``runs`` times in turn, with the most memory of any run."""
    ran: dict[str, list[Ran]] = {one.who: [] for one in contenders}
    for _ in range(runs):
        for contender in contenders:
            with Worker(contender) as worker:
                ran[contender.who].append(worker.run())
    peaks = {who: max(run.peak_gb for run in found) for who, found in ran.items()}
    return {who: replace(series(who, found), peak_gb=peaks[who]) for who, found in ran.items()}


def series(who: str, runs: Sequence[Ran]) -> Series:
    seconds, processor = ([getattr(run, x) for run in runs] for x in ("seconds", "processor"))
    return Series(who, tuple(seconds), tuple(processor), found=runs[-1].found)


def commands(words: Mapping[str, Sequence[str]], runs: int) -> dict[str, Series]:
    """Whole commands, start to end, in turn; the first round fills the caches."""
    rounds = [[command(who, one) for who, one in words.items()] for _ in range(runs + 1)][1:]
    return {
        who: series(who, ran) for who, ran in zip(words, zip(*rounds, strict=True), strict=True)
    }


def command(who: str, words: Sequence[str]) -> Ran:
    """A whole command, start to end."""
    before = os.times()
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            check=False,
        )
        seconds = time.perf_counter() - began
        if ended.returncode:
            why = _last_line(said) or "no word"
            raise BenchError(f"{who} ended with exit code {ended.returncode}: {why}")
    spent = os.times()
    user, system = spent.children_user - before.children_user, spent.children_system
    return Ran(seconds, user + system - before.children_system)

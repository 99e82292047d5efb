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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

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
    environment: Mapping[str, str] | None = None


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
            [sys.executable, "-W", "ignore", "-m", "samevoice.bench.jobs", words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **(contender.environment or {})},
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

    def close(self) -> None:
        """Lets the process end by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._release()

    def kill(self) -> None:
        """The same, whatever it is doing; once closed there is nothing to kill."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
            self._release()

    def _release(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._said.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failed()
        found: dict[str, Any] = json.loads(line)
        return found

    def _failed(self) -> BenchError:
        self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"exit code {self._process.returncode}"
        return BenchError(f"{self.contender.who}: {self.contender.job} failed: {why}")


def interleaved(contenders: Sequence[Contender], runs: int) -> dict[str, Series]:
    """All of them in turn, ``runs`` times, after one round that does not count."""
    with ExitStack() as stack:
        workers = []
        for contender in contenders:
            workers.append(Worker(contender))
            stack.callback(workers[-1].kill)
        rounds = [[_paused(worker.run) for worker in workers] for _ in range(runs + 1)][1:]
        for worker in workers:
            worker.close()
    columns = zip(*rounds, strict=True)
    return {one.who: series(one.who, runs) for one, runs in zip(contenders, columns, strict=True)}


def _paused(run: Callable[[], Ran]) -> Ran:
    time.sleep(PAUSE)
    return run()


def once_each(
    contenders: Sequence[Contender], runs: int
) -> dict[str, tuple[Series, Mapping[str, Any]]]:
    """Each in a process of its own, ``runs`` times in turn: what the last run found comes along."""
    ran: dict[str, list[Ran]] = {one.who: [] for one in contenders}
    for _ in range(runs):
        for contender in contenders:
            ran[contender.who].append(_alone(contender))
    return {
        who: (replace(series(who, found), peak_gb=_peak(found)), found[-1].found)
        for who, found in ran.items()
    }


def _alone(contender: Contender) -> Ran:
    with ExitStack() as stack:
        worker = Worker(contender)
        stack.callback(worker.kill)
        ran = worker.run()
        worker.close()
        return ran


def _peak(runs: Sequence[Ran]) -> float:
    return max(run.peak_gb for run in runs)


def series(who: str, runs: Sequence[Ran]) -> Series:
    return Series(
        who,
        tuple(run.seconds for run in runs),
        tuple(run.processor for run in runs),
        stages=runs[-1].found.get("stages", {}),
    )


def commands(words: Mapping[str, Sequence[str]], runs: int) -> dict[str, Series]:
    """Whole commands, start to end, in turn; the first round fills the caches."""
    ran: dict[str, list[Ran]] = {who: [] for who in words}
    for number in range(runs + 1):
        for who, one in words.items():
            run = _command(who, one)
            if number:
                ran[who].append(run)
    return {who: series(who, found) for who, found in ran.items()}


def _command(who: str, words: Sequence[str]) -> Ran:
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
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["no word"]
            raise BenchError(f"{who} ended with exit code {ended.returncode}: {lines[-1]}")
    spent = os.times()
    user, system = spent.children_user - before.children_user, spent.children_system
    return Ran(seconds, user + system - before.children_system)

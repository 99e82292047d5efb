"""Several processes on this machine, each with its share of the cores.

A process that is killed, as the system does when memory runs out, takes only its own task with it:
another one tries it again, and then it is named.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from samevoice.machine import THREADS
from samevoice.workers.engine import (
    TRIES,
    Done,
    Job,
    Watch,
    WorkerError,
    attempt_elsewhere,
    portable,
)


@dataclass(frozen=True)
class Processes:
    """So many of them, each with so many threads."""

    count: int
    threads: int = 1
    watched = False

    def run(self, job: Job, tasks: Iterable[Any], watch: Watch) -> Iterator[Done]:
        del watch
        pool = _Pool(job, self.count, self.threads)
        try:
            yield from pool.run(tasks)
        finally:
            pool.close()


@dataclass(frozen=True)
class _Held:
    """What a worker is at: the task's place, and how often it was tried with this one."""

    at: int
    task: Any
    tried: int = 1


class _Pool:
    def __init__(self, job: Job, count: int, threads: int) -> None:
        self.job, self.count, self.threads = job, count, threads
        self.workers: dict[Connection, BaseProcess] = {}
        self.held: dict[Connection, _Held] = {}
        self.died = ""

    def run(self, tasks: Iterable[Any]) -> Iterator[Done]:
        todo = (_Held(at, task) for at, task in enumerate(tasks))
        again: list[_Held] = []

        def feed(worker: Connection | None) -> None:
            """The next task to this worker, or to a new one."""
            one = again.pop() if again else next(todo, None)
            if one is None:
                return
            worker = worker or self._start()
            self.held[worker] = one
            with suppress(OSError):  # it has died, which shows where its answer is awaited
                worker.send((one.at, one.task))

        for _ in range(self.count):
            feed(None)
        while self.held:
            for worker in wait(list(self.held)):
                assert isinstance(worker, Connection)
                one = self.held.pop(worker)
                answer = self._answer(worker)
                if isinstance(answer, Exception):
                    raise answer
                if answer is None and one.tried < TRIES:
                    again.append(replace(one, tried=one.tried + 1))
                feed(worker if worker in self.workers else None)
                if answer:
                    yield answer
                elif one.tried == TRIES:
                    yield Done(one.at, error=WorkerError(self.died))

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        worker = context.Process(target=_work, args=(theirs, self.job), daemon=True)
        with _as_a_worker(self.threads):
            worker.start()
        theirs.close()  # so that the end of the worker is the end of the pipe
        self.workers[ours] = worker
        return ours

    def _answer(self, worker: Connection) -> Done | Exception | None:
        """None where it has died."""
        try:
            found: Done | Exception = worker.recv()
            return found
        except (EOFError, OSError):
            process = self.workers.pop(worker)
            worker.close()
            process.join()
        code = process.exitcode or 0
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"
        self.died = f"its process {how} {TRIES} times: is memory enough? try fewer --workers"
        return None

    def close(self) -> None:
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            worker.join()


def _work(pipe: Connection, job: Job) -> None:
    """In the worker: until nobody asks any more."""
    try:
        do = job.start()
    except Exception as error:
        pipe.send(portable(error))
        return
    with suppress(EOFError, OSError):
        while True:
            at, task = pipe.recv()
            pipe.send(attempt_elsewhere(do, at, task))


@contextmanager
def _as_a_worker(threads: int) -> Iterator[None]:
    """What is started now has so many threads, and leaves Ctrl-C to this process."""
    added = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for name in added:
            del os.environ[name]

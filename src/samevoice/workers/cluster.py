"""Many machines, by Ray: a task a recording, tried again where its machine or its worker dies.

The workers read recordings from a folder that all machines share, or by URL; what comes of a task
goes back to the machine that asked.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from samevoice.errors import MissingExtraError
from samevoice.workers.engine import (
    ROOM,
    TRIES,
    Do,
    Done,
    Job,
    Watch,
    WorkerError,
    attempt_elsewhere,
    portable,
)

LOCAL = "local"
AHEAD = 2  # tasks that wait for each core of the cluster
_started: dict[str, Do] = {}  # in a worker: jobs that are made ready


@dataclass(frozen=True)
class Cluster:
    """``address``: of a cluster that runs, or ``local`` for one on this machine.

    ``room``: bytes that a task is promised.
    """

    address: str
    room: int = ROOM
    watched = False

    def run(self, job: Job, tasks: Iterable[Any], watch: Watch) -> Iterator[Done]:
        del watch
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            self._connect(ray)
        try:
            yield from self._run(ray, job, tasks)
        finally:
            if ours:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        refuse_deaf(self.address)
        try:
            ray.init(
                address=self.address,
                include_dashboard=False if self.address == LOCAL else None,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise WorkerError(f"no Ray cluster answers at {self.address}: {said}") from error

    def _run(self, ray: Any, job: Job, tasks: Iterable[Any]) -> Iterator[Done]:
        # Errors of a task are its answer; what is tried again is the death of a worker or a node.
        do = ray.remote(_do).options(
            num_cpus=1, memory=self.room, max_retries=TRIES, scheduling_strategy="SPREAD"
        )
        about, key, here = ray.put(job), uuid.uuid4().hex, os.getcwd()
        todo = enumerate(tasks)
        flying: dict[Any, int] = {}
        while True:
            most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
            for at, task in todo:
                flying[do.remote(key, here, about, at, task)] = at
                if len(flying) >= most:
                    break
            if not flying:
                return
            for found in ray.wait(list(flying), num_returns=1)[0]:
                yield _answer(ray, found, flying.pop(found))


def refuse_deaf(address: str) -> None:
    """Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise WorkerError(f"no Ray cluster answers at {address}: {said}") from error


def _answer(ray: Any, found: Any, at: int) -> Done:
    try:
        answer = ray.get(found)
    except ray.exceptions.RayError as error:
        kind = type(error).__name__
        why = f"its worker died {TRIES + 1} times ({kind}): is memory enough on the cluster?"
        return Done(at, error=WorkerError(why))
    if isinstance(answer, Exception):  # the job itself cannot start
        raise answer
    done: Done = answer
    return done


def _do(key: str, place: str, job: Job, at: int, task: Any) -> Done | Exception:
    """In a worker, which keeps what it has made ready for its next task."""
    if key not in _started:
        _started.clear()
        with suppress(OSError):  # paths are meant from where the command was given
            os.chdir(place)
        try:
            _started[key] = job.start()
        except Exception as error:
            return portable(error)
    return attempt_elsewhere(_started[key], at, task)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray, which runs clusters,", "cluster") from error
    return ray

"""Processes that hear beside this one, so that a recording's chunks are shared out among the cores.

Threads alone do not do it: numpy's calls are short, and between any two of them a thread waits for
the interpreter. On two cores two threads take 1.4 times the processor time of two processes
(CAM++, 145 and 105 ms a chunk). A chunk's numbers are the same bytes wherever it is heard.

A process takes half a second to begin and memory for itself. So it is started for recordings that
are worth it, and what it does not do, because it is not there yet or died, is done here.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from samevoice.machine import THREADS
from samevoice.models.diarization.memory import available_memory
from samevoice.models.fast.cpu import all_cores, on_cores
from samevoice.models.layers import named_arrays

WORTH = 8  # chunks a process must have to hear
MOST = 16  # processes; more were not tried
# Bytes of weights that are held once: products with so many keep all cores busy by themselves.
HEAVY = 2**30
ROOM = 2**30  # bytes that must be free for each beside its weights, more than one takes


@dataclass(eq=False)
class Task:
    """A method of the pipeline, what it is given, and what it made."""

    name: str
    arguments: tuple[Any, ...]
    begun: bool = False
    done: bool = False
    made: Any = None


class Crew:
    """A pipeline's tasks, done by whoever is free: this process or one beside it.

    ``folder`` and ``options`` build the same pipeline there.
    """

    def __init__(self, pipeline: Any, folder: Path, options: dict[str, Any]) -> None:
        # Not itself: the threads below hold this crew, and would keep it for ever.
        self._pipeline = weakref.ref(pipeline, lambda _: self.close())
        self._held = _held(pipeline)
        self._kind, self.source = type(pipeline), (folder.resolve(), options)
        self._stamp = _stamp(folder)
        self._todo: deque[Task] = deque()
        self._changed = Condition()
        self._closed = False
        self._chunks = self._count = self.ready = 0

    def grow(self, chunks: int) -> None:
        """As many processes as these and all chunks before them are worth, with a core for each."""
        self._chunks += chunks
        able = os.name == "posix" and sys.executable and self._held < HEAVY
        most = min(all_cores(), self._chunks // WORTH, MOST) if able else 1
        # Those that are not ready have taken nothing yet.
        room = self.ready + int(available_memory() // (ROOM + self._held))
        for _ in range(0 if self._closed else min(most - 1, room) - self._count):
            self._count += 1
            Thread(
                target=_tend, args=(self, self._stamp, self._kind, *self.source), daemon=True
            ).start()

    @contextmanager
    def together(self) -> Iterator[None]:
        """This process keeps to one core while others have theirs; what a fault leaves is gone."""
        try:
            with on_cores(1) if self.ready else nullcontext():
                yield
        except BaseException:
            self._todo.clear()
            raise

    def add(self, name: str, *arguments: Any, urgent: bool = False) -> Task:
        task = Task(name, arguments)
        with self._changed:
            (self._todo.appendleft if urgent else self._todo.append)(task)
            self._changed.notify()
        return task

    def work(self) -> None:
        """Does here what waits, but for a task for each of the others."""
        while len(self._todo) > self.ready:
            if task := self._begun():
                self._do(task)

    def made(self, tasks: Sequence[Task]) -> list[Any]:
        """What each made; those that nobody has begun are done here."""
        while left := [task for task in tasks if not task.done]:
            if mine := next((task for task in left if self._begun(task)), None):
                self._do(mine)
            else:
                with self._changed:
                    self._changed.wait_for(lambda: any(one.done or not one.begun for one in left))
        return [task.made for task in tasks]

    def close(self) -> None:
        """The others end, as soon as they have done what they are at."""
        self._closed = True
        with self._changed:
            self._changed.notify_all()

    def _do(self, task: Task) -> None:
        self.finish(task, getattr(self._pipeline(), task.name)(*task.arguments))

    def _begun(self, task: Task | None = None) -> Task | None:
        """This task, or the next one; None where somebody else has begun it."""
        with self._changed:
            if task is None:
                task = self._todo.popleft() if self._todo else None
            elif task.begun:
                return None
            elif task in self._todo:
                self._todo.remove(task)
            if task:
                task.begun = True
            return task

    # For the threads that tend the others ---------------------------------------------------------

    def next(self) -> Task | None:
        """As soon as there is one; None when no more will come."""
        while not self._closed:
            if task := self._begun():
                return task
            with self._changed:
                self._changed.wait_for(lambda: self._todo or self._closed)
        return None

    def finish(self, task: Task, made: Any) -> None:
        with self._changed:
            task.made, task.arguments, task.done = made, (), True
            self._changed.notify_all()

    def came(self, change: int, lost: Task | None = None) -> None:
        """One more is ready; or one less, whose task is there to be done again."""
        with self._changed:
            self.ready += change
            if lost:
                lost.begun = False
                self._todo.appendleft(lost)
            self._changed.notify_all()


def _tend(crew: Crew, *source: Any) -> None:
    """In a thread of its own: gives one process its tasks, from its start to its end."""
    task, ready = None, 0
    with suppress(Exception), _process() as pipe:  # whatever befalls it, its task is done here
        pipe.send(source)
        ready = pipe.recv()
        crew.came(ready)
        while task := crew.next():
            pipe.send((task.name, task.arguments))
            crew.finish(task, pipe.recv())
            task = None
    crew.came(-ready, task)


@contextmanager
def _process() -> Iterator[Connection]:
    """Another Python that asks for tasks, with one core; it ends when its pipe does."""
    ours, theirs = Pipe()
    # Not as multiprocessing starts one, which runs the user's script again.
    words = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; "
    process = subprocess.Popen(
        [sys.executable, "-c", words + f"serve({theirs.fileno()})"],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **dict.fromkeys(THREADS, "1")},
    )
    theirs.close()
    atexit.register(process.kill)  # at once, whatever it is at
    try:
        yield ours
    finally:
        ours.close()
        process.wait()
        atexit.unregister(process.kill)


def serve(descriptor: int) -> None:
    """In that process: one task after the other. A fault ends it; who asked meets the same one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(descriptor) as pipe, suppress(EOFError, OSError):
        stamp, kind, folder, options = pipe.recv()
        pipeline = kind(folder, "cpu", **options)
        if _stamp(folder) != stamp:
            return  # another bundle has taken its place
        pipe.send(1)
        with pipeline.on_device():
            while True:
                name, arguments = pipe.recv()
                pipe.send(getattr(pipeline, name)(*arguments))


def _held(pipeline: Any) -> int:
    """Bytes of both networks' weights, as each process has them for itself."""
    networks = (pipeline.segmentation, pipeline.embedding)
    return sum(x.nbytes for one in networks for x in named_arrays(one).values())


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    """What tells a bundle's weights from others in their place."""
    files = sorted(folder.rglob("*.safetensors"))
    return [(file.name, (found := file.stat()).st_mtime_ns, found.st_size) for file in files]

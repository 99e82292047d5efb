"""What does many tasks, and what each of them came to.

A job is what a worker makes ready once, such as a pipeline, to do one task after the other. Jobs,
tasks and results go from process to process: all of them can be pickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

from samevoice.errors import SamevoiceError

ROOM = 1_500_000_000  # bytes for a worker: networks, one recording, and what Python takes
TRIES = 2  # of a task whose worker dies

Hook = Callable[..., None]
Do = Callable[[Any, Hook], Any]
Watch = Callable[[int], AbstractContextManager[Hook]]


class WorkerError(SamevoiceError):
    """A task could not be done, as its worker did not live to the end of it."""


class Job(Protocol):
    def start(self) -> Do:
        """What does one task; whatever is wrong with all of them shows here."""
        ...


@dataclass(frozen=True)
class Done:
    """The task at this place is done: what came of it, or why nothing did."""

    at: int
    value: Any = None
    error: Exception | None = None


class Engine(Protocol):
    """``watched``: whether it tells its hook how far a task is."""

    @property
    def watched(self) -> bool: ...
    def run(self, job: Job, tasks: Iterable[Any], watch: Watch) -> Iterator[Done]: ...


def unheard(*_: Any, **__: Any) -> None:
    """A hook that tells nobody."""


def unwatched(at: int) -> AbstractContextManager[Hook]:
    del at
    return nullcontext(unheard)


def attempt(do: Do, at: int, task: Any, hook: Hook = unheard) -> Done:
    try:
        return Done(at, do(task, hook))
    except Exception as error:
        return Done(at, error=error)


def attempt_elsewhere(do: Do, at: int, task: Any) -> Done:
    """The same where the answer goes to another process."""
    done = attempt(do, at, task)
    return replace(done, error=done.error and portable(done.error))


def portable(error: Exception) -> Exception:
    """The same where it comes through to another process, else one that says the same."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:
        again = None
    if type(again) is type(error) and str(again) == str(error):
        return error
    kind = SamevoiceError if isinstance(error, SamevoiceError) else RuntimeError
    return kind(str(error) or type(error).__name__)


@dataclass(frozen=True)
class InTurn:
    """One after the other, in this process."""

    watched = True

    def run(self, job: Job, tasks: Iterable[Any], watch: Watch) -> Iterator[Done]:
        do = job.start()
        for at, task in enumerate(tasks):
            with watch(at) as hook:
                done = attempt(do, at, task, hook)
            yield done

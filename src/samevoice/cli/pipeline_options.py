"""What every command that runs a pipeline does: load it, show progress, collect failures."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.cli import paths, streams, terminal
from samevoice.cli.options import Device, UsageError
from samevoice.errors import SamevoiceError

if TYPE_CHECKING:
    from rich.progress import Progress

    from samevoice.workers.engine import Done, Engine, Job

MOST_WORKERS = 512
WORTH = 10_000_000  # bytes of recordings for which another process is worth its start

REFERENCE_ONLY = (
    "these are reference weights, made up for parity and never trained: their result means NOTHING"
)


class SomeFailedError(SamevoiceError):
    """Some recordings failed; the others have their results."""


def load(
    model: str | None,
    device: Device,
    kind: Callable[..., Any] | None = None,
    *,
    quiet: bool = False,
    **options: Any,
) -> Any:
    """A bundle's pipeline, or that of a model's name; a loud warning where it was never trained.

    ``kind``: its class, if it is no diarization. ``quiet``: the user was warned.
    """
    if kind is None:
        from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

        kind = SpeakerDiarizationPipeline
    pipeline = kind(bundle(model), device, **options)
    if not quiet:
        _warn_if(pipeline.reference_only)
    return pipeline


def warn_of_made_up(folder: Path) -> None:
    """The same of a bundle that others load."""
    from samevoice.models.diarization import parts

    _warn_if("note" in parts.config(folder))


def _warn_if(made_up: bool) -> None:
    if made_up:
        terminal.marked("[bold red]warning[/]  ", REFERENCE_ONLY, terminal.stderr())


def refuse_before_fetching(model: str | None, recordings: Sequence[str | Path]) -> None:
    """A recording that is not there is told before anything is fetched for it."""
    if len(recordings) != 1 or (model and Path(model).is_dir()) or paths.is_there(recordings[0]):
        return
    from samevoice.converters.reading.sources import is_name

    if model is None or is_name(model):
        paths.refuse_missing(recordings[0])


def bundle(model: str | None) -> Path:
    """What is there already costs no import of the converters.

    An open embedding stands for the pipeline around it.
    """
    if model and Path(model).is_dir():
        return Path(model)
    from samevoice.converters.cached import DEFAULT, bundle_of
    from samevoice.converters.reading.open_models import whole

    return bundle_of(whole(model or DEFAULT), announced)


def announced(what: str) -> None:
    verb, _, rest = what.partition(" ")
    terminal.marked(f"[bold]{verb}[/]  ", rest, terminal.stderr())


def _bar() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    stderr = terminal.stderr()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[at]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)


@contextmanager
def progress(name: str, among: Progress | None = None) -> Iterator[Callable[..., None]]:
    """A bar on standard error while it is a terminal, or one ``among`` others.

    The pipeline calls the hook.
    """
    from rich.markup import escape

    title = escape(terminal.plain(name))
    with nullcontext(among) if among else _bar() as bar:
        task = bar.add_task(f"{title}  listening", total=None, at="")

        def hook(
            step: str,
            artefact: object,
            *,
            file: object = None,
            total: float | None = None,
            completed: float | None = None,
        ) -> None:
            del artefact, file
            # Both networks run on each block as it is read: their work is in this stage.
            stage = "listening" if step == "reading" else step.replace("_", " ")
            moved: dict[str, Any] = {"description": f"{title}  {stage}"}
            if completed is not None:
                at = terminal.clock(completed) + (f" of {terminal.clock(total)}" if total else "")
                moved |= {"total": total, "completed": completed, "at": at}
            bar.update(task, **moved)

        yield hook
        if among:
            among.remove_task(task)


# Many recordings ----------------------------------------------------------------------------------


def engine(
    workers: int | None, cluster: str | None, device: Device, recordings: Iterable[str | Path]
) -> Engine:
    """What does the work; a GPU is not shared unless one asks for it."""
    from samevoice.models.fast.cpu import cores
    from samevoice.workers.engine import InTurn

    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"--workers is {workers}: it must be from 1 to {MOST_WORKERS}")
    if cluster is not None:
        if workers is not None:
            raise UsageError("--workers does not go with --cluster, which has its own")
        from samevoice.workers.cluster import Cluster

        return Cluster(cluster)
    count = workers or (1 if _on_gpu(device) else _as_many_as_fit(recordings))
    if count == 1:
        return InTurn()
    from samevoice.workers.processes import Processes

    return Processes(count, max(1, cores() // count))


def _as_many_as_fit(recordings: Iterable[str | Path]) -> int:
    """A core and room for each, and recordings that are worth its start."""
    from samevoice.models.diarization.memory import available_memory
    from samevoice.models.fast.cpu import cores
    from samevoice.workers.engine import ROOM

    size = sum(map(_size, recordings))
    return max(1, min(cores(), int(available_memory() // ROOM), size // WORTH))


def _on_gpu(device: Device) -> bool:
    import mlx.core as mx

    from samevoice.models import backend

    return backend.device(device) != mx.Device(mx.cpu)


class Many:
    """The recordings on their way through an engine, each a name and a file, whose size counts."""

    def __init__(self, engine: Engine, recordings: Sequence[tuple[str, str | Path]]) -> None:
        self.engine, self.recordings = engine, recordings
        self.done = 0
        self.running = ""  # what is known of those that are done

    def place(self, at: int) -> str:
        count = len(self.recordings)
        name = self.recordings[at][0]
        return f"{at + 1}/{count} {name}" if count > 1 else name

    def run(self, job: Job, tasks: Iterable[Any]) -> Iterator[Done]:
        """Of several there is a bar for all, and in this process one for each on its turn."""
        sizes = [_size(path) for _, path in self.recordings]
        with _bar() as bar:
            whole = bar.add_task(self._all, total=sum(sizes), at="", visible=len(sizes) > 1)
            for done in self.engine.run(job, tasks, lambda at: progress(self.place(at), bar)):
                self.done += 1
                with _hidden(bar):
                    yield done
                bar.update(whole, advance=sizes[done.at], description=self._all)

    @property
    def _all(self) -> str:
        return f"{self.done}/{len(self.recordings)}{self.running}"

    def say(self, at: int, running: str) -> None:
        """A recording is done, and this is known of all that are."""
        self.running = running
        name = self.recordings[at][0]
        terminal.say(f"{self.done}/{len(self.recordings)} {name}{running}", terminal.stderr())


@contextmanager
def _hidden(bar: Progress) -> Iterator[None]:
    """So that what is printed meanwhile begins a line of its own, whatever stream it goes to."""
    if bar.disable:
        yield
        return
    bar.stop()
    yield
    bar.start()


def _size(path: str | Path) -> int:
    """At least a byte: what is not there is done in no time."""
    try:
        return max(1, os.path.getsize(path))
    except OSError:
        return 1


class Failures:
    """The recordings that failed: each is reported at once, and all again at the end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.said: dict[str, str] = {}
        self._failed: dict[str, Exception] = {}

    def __len__(self) -> int:
        return len(self._failed)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Report a failure, so that the others can go on; a recording alone fails at once."""
        try:
            yield
        except (BrokenPipeError, streams.StandardOutputError):
            raise  # the next result would not go there either
        except Exception as error:
            if self.count == 1:
                raise
            self._add(name, error)

    def _add(self, name: str, error: Exception) -> None:
        # Generators in these frames hold files open, and ffmpeg running.
        traceback.clear_frames(error.__traceback__)
        self._failed[name] = error
        said = streams.sentence(error) or streams.internal(error)
        self.said[name] = streams.one_line(said)
        line = said if isinstance(error, SamevoiceError) else f"{name}: {said}"
        terminal.stderr().print(streams.one_line(line), style="red", markup=False, soft_wrap=True)

    def refuse(self) -> None:
        """At the end: one sentence that names every recording that failed."""
        if self._failed:
            last = list(self._failed.values())[-1]
            raise SomeFailedError(
                f"{len(self)} of {self.count} recordings failed: {', '.join(self._failed)}"
            ) from last

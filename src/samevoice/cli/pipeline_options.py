"""What every command that runs a pipeline does: load it, show progress, collect failures."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samevoice.cli import paths, streams, terminal
from samevoice.cli.options import Device
from samevoice.errors import SamevoiceError

REFERENCE_ONLY = (
    "these are reference weights, made up for parity and never trained: their result means NOTHING"
)


class SomeFailedError(SamevoiceError):
    """Some recordings failed; the others have their results."""


def load(
    model: str | None, device: Device, kind: Callable[..., Any] | None = None, **options: Any
) -> Any:
    """A bundle's pipeline, or that of a model's name; a loud warning where it was never trained.

    ``kind``: the pipeline's class, if it is no diarization.
    """
    if kind is None:
        from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

        kind = SpeakerDiarizationPipeline
    pipeline = kind(bundle(model), device, **options)
    if pipeline.reference_only:
        terminal.marked("[bold red]warning[/]  ", REFERENCE_ONLY, terminal.stderr())
    return pipeline


def refuse_before_fetching(model: str | None, recordings: Sequence[str | Path]) -> None:
    """A recording that is not there is told before anything is fetched for it."""
    if model and Path(model).is_dir():
        return
    from samevoice.converters.reading.sources import is_name

    if (model is None or is_name(model)) and len(recordings) == 1:
        paths.refuse_missing(recordings[0])


def bundle(model: str | None) -> Path:
    """What is there already costs no import of the converters."""
    if model and Path(model).is_dir():
        return Path(model)
    from samevoice.converters.cached import DEFAULT, bundle_of

    return bundle_of(model or DEFAULT, _announced)


def _announced(what: str) -> None:
    verb, _, rest = what.partition(" ")
    terminal.marked(f"[bold]{verb}[/]  ", rest, terminal.stderr())


@contextmanager
def progress(name: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error while it is a terminal; the pipeline calls the hook."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    stderr = terminal.stderr()
    title = escape(terminal.plain(name))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[at]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
    with bar:
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

"""What the commands that hear recordings share: the bundle, a bar, and what becomes of failures."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samevoice import streams
from samevoice.comparing import Device
from samevoice.errors import SamevoiceError

NO_MODEL = (
    "name the model: --model BUNDLE. To make one, convert pyannote/speaker-diarization-community-1 "
    "(gated: accept its conditions, then hf auth login) with samevoice convert; no account is "
    "needed for samevoice convert reference:full, whose weights are for parity only"
)
REFERENCE_ONLY = (
    "these are reference weights, made up for parity and never trained: who they say speaks when "
    "means NOTHING"
)


class SomeFailedError(SamevoiceError):
    """Some recordings could not be heard; the others were."""


def load(
    model: Path | None,
    device: Device,
    *,
    chunk_duration: float | None = None,
    step: float | None = None,
    fast: bool = False,
) -> Any:
    """The pipeline in a bundle, or in a sentence how to get one."""
    if model is None:
        raise SamevoiceError(NO_MODEL)
    if not model.is_dir():
        raise SamevoiceError(f"{model}: no such bundle; {NO_MODEL}")
    from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

    return SpeakerDiarizationPipeline(
        model, device.value, chunk_duration=chunk_duration, step=step, fast=fast
    )


def warn(pipeline: Any) -> None:
    """Loudly, where the weights mean nothing."""
    if pipeline.reference_only:
        from samevoice import terminal

        said = f"[bold red]warning[/]  {REFERENCE_ONLY}"
        terminal.stderr().print(said, soft_wrap=True)


@contextmanager
def progress(name: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error while it is a terminal, moved by the pipeline's hook."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from samevoice import terminal

    stderr = terminal.stderr()
    title = escape(terminal.plain(name))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[heard]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
    with bar:
        task = bar.add_task(f"{title}  listening", total=None, heard="")

        def hook(
            step: str,
            artefact: object,
            *,
            file: object = None,
            total: float | None = None,
            completed: float | None = None,
        ) -> None:
            del artefact, file
            # Blocks are heard as they are read: both networks' work is in this stage.
            stage = "listening" if step == "reading" else step.replace("_", " ")
            if completed is None:
                bar.update(task, description=f"{title}  {stage}")
                return
            heard = terminal.clock(completed) + (f" of {terminal.clock(total)}" if total else "")
            bar.update(
                task, description=f"{title}  {stage}", total=total, completed=completed, heard=heard
            )

        yield hook


class Failures:
    """Of several recordings those that failed: told at once, and named again at the end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._failed: dict[str, Exception] = {}

    def __len__(self) -> int:
        return len(self._failed)

    def add(self, name: str, error: Exception) -> None:
        """Tell of it, so that the rest can go on; a recording alone fails at once."""
        if self.count == 1:
            raise error
        from samevoice import terminal

        # Generators in these frames hold files open, and ffmpeg running.
        traceback.clear_frames(error.__traceback__)
        self._failed[name] = error
        line = streams.one_line(_said(name, error))
        terminal.stderr().print(line, style="red", markup=False, soft_wrap=True)

    def refuse(self) -> None:
        """At the end: one sentence that names them all, where there are any."""
        if self._failed:
            last = list(self._failed.values())[-1]
            raise SomeFailedError(
                f"{len(self)} of {self.count} recordings failed: {', '.join(self._failed)}"
            ) from last


def _said(name: str, error: Exception) -> str:
    said = streams.sentence(error)
    if said is None:
        said = f"a fault of samevoice's own: {type(error).__name__}: {error}"
    return said if isinstance(error, SamevoiceError) else f"{name}: {said}"

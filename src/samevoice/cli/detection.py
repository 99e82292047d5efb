"""diarize --task: what goes with a detection of speech or overlap, and what loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from samevoice.cli import pipeline_options
from samevoice.cli.options import Device, UsageError

Task: TypeAlias = Literal["diarization", "voice-activity", "overlap"]
DIARIZATION: Task = "diarization"
DEFAULT = "open:segmentation"


def refuse(task: Task, of_speakers: Mapping[str, Any], of_regions: Mapping[str, Any]) -> None:
    """Options that do not go with the task; both by their flags, None or False if not given."""
    others = of_regions if task == DIARIZATION else of_speakers
    given = [flag for flag, value in others.items() if value is not None and value is not False]
    if given and task == DIARIZATION:
        raise UsageError(f"{given[0]} needs --task voice-activity or --task overlap")
    if given:
        raise UsageError(f"{given[0]} does not go with --task {task}, which finds no speakers")
    for flag in ("--onset", "--offset"):
        value = of_regions[flag]
        if value is not None and not 0 < value < 1:
            raise UsageError(f"{flag} is {value:g}: it must lie between 0 and 1")
    onset, offset = of_regions["--onset"], of_regions["--offset"]
    if None not in (onset, offset) and offset > onset:
        raise UsageError("--offset must not lie above --onset: a region would end where it begins")
    gap = of_regions["--min-duration-off"]
    if gap is not None and not 0 <= gap < float("inf"):
        raise UsageError(f"--min-duration-off is {gap:g}: it must be 0 or more seconds")


def load(
    task: Task, model: str | None, device: Device, of_regions: Mapping[str, Any], **options: Any
) -> Any:
    from samevoice.models.diarization.detection import DetectionPipeline

    for flag, value in of_regions.items():
        if value is not None:
            options[flag.removeprefix("--").replace("-", "_")] = value
    return pipeline_options.load(model or DEFAULT, device, DetectionPipeline, task=task, **options)

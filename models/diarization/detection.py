"""Where somebody speaks, or where several do at once: pyannote's detection pipelines.

Its VoiceActivityDetection (its version 4 has it still) and OverlappedSpeechDetection (its version 3
had it): the segmentation's masks, or its labels' scores, become one number a frame and chunk,
overlapping chunks are averaged, and a region begins above one threshold and ends below another.
A network that streams hears the recording as a whole, without chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from samevoice.models import backend  # isort: split

import numpy as np

from samevoice.errors import BundleError, DiarizationError
from samevoice.models import registry
from samevoice.models.diarization import parts
from samevoice.models.diarization.audio import Source, open_audio
from samevoice.models.diarization.frames import Frames
from samevoice.models.diarization.output import Diarization, Turns
from samevoice.models.diarization.pipeline import Clock, Hook, nobody, timed
from samevoice.models.diarization.reconstruction import SHORTEST, joined
from samevoice.models.diarization.segmenter import Segmenter
from samevoice.models.diarization.settings import THRESHOLDS, detection_fault
from samevoice.models.network import Streams

STEP = 0.1  # of a chunk, where the network needs no time to warm up


@dataclass(frozen=True)
class Task:
    """What is detected: its label, and what of a chunk's masks or scores (F, S) says so (F,)."""

    label: str
    of_masks: Callable[[np.ndarray], np.ndarray]


TASKS: Mapping[str, Task] = {
    "voice-activity": Task("SPEECH", lambda masks: masks.max(axis=-1)),
    "overlap": Task("OVERLAP", lambda masks: np.sort(masks, axis=-1)[..., -2]),
}


@dataclass
class Detection(Diarization):
    """Regions under one label, in the form of a diarization, so that it is written the same way.

    ``scores`` (T,), where they are kept: how sure the network is, frame by frame, the middle of the
    first after ``first`` seconds and each next one ``step`` seconds later.
    """

    task: str = "voice-activity"
    scores: np.ndarray | None = None
    first: float = 0.0
    step: float = 0.0

    def as_dict(
        self,
        *,
        embeddings: bool = False,
        timing: bool = False,
        model: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What ``to_json`` writes: ``regions``, each ``start`` and ``end``, and ``detected``, how
        many seconds they hold. There are no embeddings."""
        del embeddings
        whole = super().as_dict(timing=timing, model=model)
        found: dict[str, Any] = {
            "uri": whole.pop("uri"),
            "duration": whole.pop("duration"),
            "task": self.task,
            "label": TASKS[self.task].label,
            "detected": sum(row["seconds"] for row in whole.pop("speakers")),
            "regions": [
                {"start": row["start"], "end": row["end"]} for row in whole.pop("diarization")
            ],
        }
        del whole["exclusive_diarization"]
        if self.scores is not None:
            values = [round(float(score), 4) for score in self.scores]
            times = {"first": round(self.first, 6), "step": self.step}
            found["scores"] = {**times, "values": values}
        return found | whole


class DetectionPipeline(Segmenter):
    """A segmentation's bundle, or a pipeline's that holds one, ready to be called with recordings.

    A region begins where the score is above ``onset`` and ends where it is below ``offset``
    (by default the onset). Gaps shorter than ``min_duration_off`` seconds are closed, then regions
    shorter than ``min_duration_on`` dropped. What is left out is the bundle's own where it was
    converted from a pipeline of this task, and 0.5 and 0 seconds otherwise. ``scores`` keeps the
    frames' scores.
    """

    fast = False

    def __init__(
        self,
        model_path: str | Path,
        device: backend.Choice = "auto",
        *,
        task: str = "voice-activity",
        onset: float | None = None,
        offset: float | None = None,
        min_duration_on: float | None = None,
        min_duration_off: float | None = None,
        chunk_duration: float | None = None,
        step: float | None = None,
        batch_size: int | None = None,
        scores: bool = False,
    ) -> None:
        folder = segmentation_of(Path(model_path))
        given = {"onset": onset, "offset": offset}
        given |= {"min_duration_on": min_duration_on, "min_duration_off": min_duration_off}
        chosen = thresholds(folder, task, given)
        self.thresholds = chosen["onset"], chosen["offset"]
        self.durations = chosen["min_duration_on"], chosen["min_duration_off"]
        super().__init__(folder, device, batch_size, threshold=chosen["onset"])
        self.task, self.keep_scores, self.config = task, scores, self.segmentation.config
        classes = self.classes
        most = self.config["num_classes"] if classes is None else classes.sum(axis=1).max()
        if task == "overlap" and most < 2:
            raise DiarizationError(f"{folder} tells one speaker at a time, and so no overlap")
        if self.streams and not (chunk_duration is step is batch_size is None):
            raise DiarizationError(
                f"{folder} hears a recording as a whole: it takes no chunk duration, step or batch "
                "size"
            )
        self.frames = self._frames(chunk_duration, step, STEP, shortest=1)

    @property
    def streams(self) -> bool:
        """Whether the network remembers what it heard, from one end of a recording to the other."""
        return isinstance(self.segmentation, Streams)

    @property
    def reference_only(self) -> bool:
        return "note" in self.config

    @property
    def made_with(self) -> dict[str, Any]:
        """What decides about a result besides the network."""
        names = ("onset", "offset", "min_duration_on", "min_duration_off")
        return dict(zip(names, (*self.thresholds, *self.durations), strict=True))

    def __call__(self, audio: Source, *, hook: Hook | None = None) -> Detection:
        """The regions of a recording."""
        source, clock = open_audio(audio, self.frames.sample_rate), Clock()
        tell = partial(hook, file=source.uri) if hook else nobody
        with closing(source.blocks()) as blocks:
            scores, samples = self.scores(blocks, clock, tell, source.duration)
        with clock("regions"):
            found = regions(scores, self.frames, *self.thresholds, *self.durations)
            label = TASKS[self.task].label
            turns = Turns.of(((start, end, label) for start, end in found), source.uri)
        tell("regions", turns)
        duration = self._seconds(samples)
        return Detection(
            source.uri,
            turns,
            turns,
            np.zeros((len(turns.labels()), 0)),
            duration,
            clock.seconds,
            tuple(source.notes),
            self.task,
            scores if self.keep_scores else None,
            self.frames.frame_duration / 2,
            self.frames.frame_step,
            recording=source.at_hand(duration),
        )

    def scores(
        self,
        blocks: Iterable[np.ndarray],
        clock: Clock | None = None,
        tell: Hook | None = None,
        duration: float | None = None,
    ) -> tuple[np.ndarray, int]:
        """Blocks of mono audio -> (T,) in float32, and how many samples there were."""
        clock, tell = clock or Clock(), tell or nobody
        if self.streams:
            return self._streamed(timed(blocks, clock), clock, tell, duration)
        chunks = self.chunks(timed(blocks, clock))
        said = []
        with self.on_device():
            for batch in chunks:
                with clock("segmentation"):
                    found = self.segment(self.level(batch))
                    if self.classes is not None:
                        found = self.decode(found)
                    said.append(TASKS[self.task].of_masks(np.array(found, dtype=np.float32)))
                done = min(self._seconds(chunks.samples), duration or math.inf)
                tell("reading", None, completed=done, total=duration)
        return averaged(np.concatenate(said), self.frames, chunks.samples), chunks.samples

    def _streamed(
        self, blocks: Iterable[np.ndarray], clock: Clock, tell: Hook, duration: float | None
    ) -> tuple[np.ndarray, int]:
        """The same from a network that hears one block after the other."""
        stream, said, samples = self.segmentation.stream(), [], 0
        with self.on_device():
            for block in blocks:
                with clock("segmentation"):
                    said.append(stream(block))
                samples += len(block)
                done = min(self._seconds(samples), duration or math.inf)
                tell("reading", None, completed=done, total=duration)
            with clock("segmentation"):
                said.append(stream.end())
        scores = np.concatenate(said)
        self._refuse_damage(self._segmenting, [scores])
        return TASKS[self.task].of_masks(scores), samples


def thresholds(folder: Path, task: str, given: Mapping[str, float | None]) -> dict[str, float]:
    """What is given; then what the bundle's own pipeline says; then pyannote's defaults."""
    config = registry.read_json(folder / "config.json")
    if "detection" in config and (wrong := detection_fault(config["detection"])):
        raise BundleError(f"{folder / 'config.json'}: {wrong}")
    own = config.get("detection", {})
    asked = {name: value for name, value in given.items() if value is not None}
    found: dict[str, Any] = {**THRESHOLDS, **(own if own.get("task") == task else {}), **asked}
    if found["offset"] is None or ("onset" in asked and "offset" not in asked):
        found["offset"] = found["onset"]
    if wrong := detection_fault({**found, "task": task}):
        raise DiarizationError(wrong)
    return {name: float(found[name]) for name in THRESHOLDS}


def segmentation_of(folder: Path) -> Path:
    """The bundle itself, or the segmentation that a pipeline's bundle holds."""
    if "components" not in registry.read_json(folder / "config.json"):
        return folder
    parts.config(folder)
    return folder / "segmentation"


def averaged(said: np.ndarray, frames: Frames, samples: int) -> np.ndarray:
    """(C, F) -> (T,): the mean of the chunks that cover a frame, their middles counting most.

    In float32, as pyannote adds it up; without the frames that begin behind the recording.
    """
    total = frames.total(len(said))
    sums, weights = np.zeros(total, dtype=np.float32), np.zeros(total, dtype=np.float32)
    window = np.hamming(said.shape[1])
    for chunk, row in enumerate(said):
        where = slice(frames.first(chunk), frames.first(chunk) + len(row))
        sums[where] += row * window
        weights[where] += window
    mean = sums / np.maximum(weights, np.float32(1e-12))
    over = samples - frames.chunk_samples
    if over >= 0 and over % frames.step_samples == 0:  # no chunk was padded
        return mean
    return mean[: int(np.floor(samples / frames.sample_rate / frames.frame_step)) + 1]


def regions(
    scores: np.ndarray,
    frames: Frames,
    onset: float,
    offset: float,
    min_duration_on: float,
    min_duration_off: float,
) -> list[tuple[float, float]]:
    """(T,) -> start and end in seconds of each: between the middles of frames."""
    middles = frames.middles(len(scores)).tolist()
    found, start = [], None
    pairs = zip((scores > onset).tolist(), (scores < offset).tolist(), strict=True)
    for middle, (above, below) in zip(middles, pairs, strict=True):
        if start is None and above:
            start = middle
        elif start is not None and below:
            found.append((start, middle))
            start = None
    if start is not None:
        found.append((start, middles[-1]))
    found = [(start, end) for start, end in found if end - start > SHORTEST]
    if min_duration_off > 0:
        found = joined(found, min_duration_off)
    return [(start, end) for start, end in found if end - start >= min_duration_on]

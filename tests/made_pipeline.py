"""A pipeline in place of the real one: it says what it was asked for, and finds two speakers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from made_audio import RATE

from samevoice.errors import DiarizationError
from samevoice.models.diarization.audio import open_audio
from samevoice.models.diarization.output import Diarization, Segment, Turns

RTTM = (
    "SPEAKER a 1 0.000 1.000 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
    "SPEAKER a 1 0.500 0.250 <NA> <NA> SPEAKER_01 <NA> <NA>\n"
)
BUNDLE = "full/config.json"


def left(folder: Path) -> set[str]:
    """Every file below a folder, the hidden ones, too, but for the bundle that is none."""
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    return found - {BUNDLE}


class Told:
    """In place of the real pipeline: what it was asked for, and two made-up speakers."""

    made: list[tuple[Any, ...]]
    asked: list[dict[str, Any]]
    reference_only = False
    fault: Exception | None = None
    config: Mapping[str, Any]
    embedding_fingerprint = "f" * 64

    def __init__(self, model_path: Any, device: str, **chunks: Any) -> None:
        if chunks["chunk_duration"] == 0.01:
            raise DiarizationError("chunks of 0.01 s every 1 s are too short")
        self.fast = chunks.pop("fast")
        self.made.append((model_path, device, chunks))
        self.config = {"architecture": "SpeakerDiarization", "dtype": "float32"}

    def __call__(self, audio: Any, *, hook: Any, **counts: Any) -> Diarization:
        self.asked.append(counts)
        found = open_audio(audio)
        samples = 0
        for block in found.blocks():
            samples += len(block)
            hook("reading", None, file=found.uri, completed=samples / RATE, total=found.duration)
        hook("clustering", None, file=found.uri)
        if self.fault is not None:
            raise self.fault
        length = samples / RATE
        long, short = Segment(0.0, length), Segment(length / 2, length / 2 + 0.25)
        uri = found.uri
        return Diarization(
            uri,
            Turns(((long, "SPEAKER_00"), (short, "SPEAKER_01")), uri),
            Turns(((long, "SPEAKER_00"),), uri),
            np.array([[1.0, 0.0], [0.0, 1.0]]),
            length,
            {"reading": 0.1, "speaker_counting": 0.3},
            tuple(found.notes),
        )


# A pipeline in place of the real one, in another process.
FAKE = f"""
import signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
import samevoice.models
from samevoice.models.diarization import pipeline
from made_pipeline import Told

class Fake(Told):
    made, asked = [], []
    def __call__(self, audio, **options):
        found = super().__call__(audio, **options)
        if "stop" in found.uri:
            signal.raise_signal(signal.SIGINT)
        return found

pipeline.SpeakerDiarizationPipeline = Fake
from samevoice.cli import main
main(sys.argv[1:])
"""

"""What is measured with: a pipeline's source, its bundle, and recordings of any length."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from samevoice.bench.workers import BenchError

RATE = 16_000
BLOCK = 60 * RATE  # samples written at once


def has_pyannote() -> bool:
    try:
        version("pyannote.audio")
    except PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class Material:
    """``scratch`` is a folder that is gone afterwards. Without ``model`` and ``source`` it is the
    reference pipeline; with a model alone there is nothing to set it beside."""

    scratch: Path
    model: Path | None = None
    given: str | None = None
    sound: Path | None = None
    dtype: str = "float32"

    @cached_property
    def source(self) -> str | None:
        """The PyTorch pipeline, or None where there is none or nothing to run it with."""
        if not has_pyannote():
            return None
        if self.given is None and self.model is None:
            from samevoice.converters import reference

            return str(reference.build("full"))
        return self.given

    @cached_property
    def bundle(self) -> Path:
        if self.model is not None:
            return self.model
        if self.source is None:
            raise BenchError(
                "there is no pipeline to measure: pass --model BUNDLE, or install pyannote.audio "
                "for the reference (pip install 'samevoice[parity]')"
            )
        from samevoice.converters import convert

        made = self.scratch / "bundle"
        convert.convert(self.source, made, dtype=self.dtype)
        return made

    @property
    def is_pipeline(self) -> bool:
        return (self.bundle / "segmentation").is_dir()

    @cached_property
    def usual_bundle(self) -> Path:
        """The pipeline that people run where none is named: the open one, if it is at hand."""
        from samevoice.converters import cached
        from samevoice.converters.reading import open_models

        usual = cached.DEFAULT
        is_named = self.model is not None or self.given is not None
        if is_named or not open_models.OPEN[usual.removeprefix(open_models.SCHEME)].is_here():
            return self.bundle
        return cached.made_once(usual, lambda _: None)

    def prepare(self) -> Path:
        """What is missing is said now, and not after the first part."""
        return self.bundle

    @cached_property
    def samples(self) -> np.ndarray:
        """(N,) in int16: what recordings are looped from."""
        if self.sound is None and has_pyannote():
            from samevoice.converters import reference

            found = reference.sample()
        elif self.sound is None:
            raise BenchError("without pyannote.audio, which ships a recording, name one: --audio")
        else:
            from samevoice.models.diarization.audio import open_audio

            found = np.concatenate(list(open_audio(self.sound, RATE).blocks()))
        whole: np.ndarray = np.clip(np.rint(found * 32768), -32768, 32767).astype("<i2")
        return whole

    @contextmanager
    def recording(self, minutes: float) -> Iterator[Path]:
        """A WAV of so many minutes, the sound over and over, written a block at a time."""
        path, left = self.scratch / f"{minutes:g}.wav", round(minutes * 60 * RATE)
        at, length = 0, len(self.samples)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            while left:
                block = self.samples[at : at + min(left, BLOCK)]
                file.writeframes(block.tobytes())
                at, left = (at + len(block)) % length, left - len(block)
        try:
            yield path
        finally:
            path.unlink()

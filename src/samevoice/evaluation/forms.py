"""A pipeline in another form: its fast mode, less precision, or what it was made from itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from samevoice.evaluation.corpus import Recording
from samevoice.evaluation.systems import (
    RATE,
    EvaluationError,
    Hear,
    Heard,
    Pipeline,
    System,
    blocks_of,
    of_bundle,
)
from samevoice.workers.engine import Hook

FAST, ORIGINAL = "fast", "pyannote"
PRECISIONS: Mapping[str, Mapping[str, Any]] = {
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "8bit": {"q_bits": 8},
    "4bit": {"q_bits": 4},
}
NAMES = (FAST, *PRECISIONS, ORIGINAL)


def form_of(
    one: Pipeline, form: str, source: str | None, announce: Callable[[str], None]
) -> System:
    """``source``: what ``one`` was made from, which is checked."""
    name = name_of(one.name, form)
    if form == FAST:
        return of_bundle(name, one.folder, one.device, fast=True)
    if source is None:
        raise EvaluationError(
            f"{form} is made from the source of {one.name}: name it with --source"
        )
    from samevoice.converters.cached import made_once
    from samevoice.converters.reading.sources import is_name
    from samevoice.parity.pipeline.compare import made_from, source_of

    sha256 = source_of(made_from(one.folder, source, None)).sha256
    if form == ORIGINAL:
        return Original(name, _made_of(sha256), source)
    about = "" if is_name(source) else sha256
    return of_bundle(name, made_once(source, announce, about, **PRECISIONS[form]), one.device)


def split(word: str) -> tuple[str, str]:
    """``fast``, or ``BUNDLE:fast`` of another bundle: its name and the form; each may be empty."""
    plain, _, form = word.rpartition(":")
    return (plain, form) if form in NAMES else (word, "")


def name_of(name: str, form: str) -> str:
    return f"{name}-{form}"


# The original -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Original:
    """pyannote's own pipeline, as people run it."""

    name: str
    made_of: Mapping[str, Any]
    source: str

    def open(self) -> Hear:
        from samevoice.converters.convert import AUTO, Options, prepare
        from samevoice.parity.pipeline.original import ReferencePipeline

        planned = prepare(self.source, model_type=AUTO, options=Options())
        pipeline = ReferencePipeline.load(planned)

        def hear(recording: Recording, hook: Hook) -> Heard:
            samples = np.concatenate(list(blocks_of(recording, "reading", hook)))
            started = time.perf_counter()
            turns = pipeline.turns(samples, recording.uri)
            return Heard(turns, len(samples) / RATE, time.perf_counter() - started)

        return hear


def _made_of(sha256: str) -> Mapping[str, Any]:
    from importlib.metadata import version

    versions = {name: version(name) for name in ("torch", "pyannote.audio")}
    return {"kind": "original", "fingerprint": sha256, **versions}

"""Evaluations over a corpus that was made up, of bundles that are there: nothing is heard."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samevoice.evaluation.corpus import Corpus, Recording
from samevoice.evaluation.evaluated import Evaluation
from samevoice.evaluation.run import Result
from samevoice.evaluation.scores import judge, score
from samevoice.evaluation.systems import Pipeline, System, of_bundle
from samevoice.models.diarization.formats import json_text
from samevoice.models.diarization.output import Turns

LENGTH = 10.0
TALK = Turns.of([(0, 4, "ana"), (3, 8, "bob")])  # nine seconds of speech


def system(folder: Path, *, fast: bool = False, **changes: Any) -> Pipeline:
    """A bundle as an evaluation knows it; ``changes``: what it is said to be made of instead."""
    made = of_bundle(f"{folder.name}{'-fast' * fast}", folder, "cpu", fast=fast)
    return replace(made, made_of={**made.made_of, **changes})


def evaluation(
    *systems: System,
    missed: Sequence[float] = (0.0,) * 25,
    failed: Sequence[str] = (),
    referenced: bool = True,
) -> Evaluation:
    """A of a pair hears all; B, or one alone, misses so many seconds of Bob in each recording."""
    talks = [
        Recording(f"talk{k:02}", Path(f"/home/ana/talk{k:02}.wav"), TALK)
        for k in range(len(missed))
    ]
    results = {}
    for one, seconds in zip(talks, missed, strict=True):
        heard = [TALK, Turns.of([(0, 4, "x"), (3, 8 - seconds, "y")])][-len(systems) :]
        results[one.uri] = tuple(_result(one.uri, turns, referenced) for turns in heard)
    why = dict.fromkeys(failed, "it was cut")
    return Evaluation(Corpus("talks", tuple(talks), referenced), systems, results, why)


def _result(uri: str, turns: Turns, referenced: bool) -> Result:
    scored, audio = ((0.0, LENGTH),), hashlib.sha256(uri.encode()).hexdigest()
    scores = judge(TALK, turns, scored) if referenced else None
    apart = score(TALK, turns, scored)  # A hears what was said
    return Result(lambda: turns, LENGTH, scored, scores, 1.0, 1 << 20, apart, audio)


def write(path: Path, *systems: System, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(evaluation(*systems, **more).as_dict()))
    return path

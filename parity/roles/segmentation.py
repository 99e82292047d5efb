"""Segmentation: who of a few speakers talks in each frame. Its task is to decide as torch does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from samevoice.parity import details
from samevoice.parity.inputs import (
    CHUNK,
    RATE,
    Depth,
    Example,
    batch,
    lengths,
    noise,
    oddities,
    pieces,
    sample,
)
from samevoice.parity.metrics import Array
from samevoice.parity.roles import Config, Role, Row, Sections, of_speech
from samevoice.parity.task import columns, compare_decisions

LABELS = ("",)  # every frame counts


def examples(speech: Array, shortest: int, whole: bool) -> Iterator[Example]:
    deep: Depth = "full" if whole else "free"
    yield Example("sample", batch([speech[:CHUNK]]), depth="full", labels=LABELS)
    three = batch([speech[CHUNK : 2 * CHUNK], speech[2 * CHUNK :], noise(CHUNK, seed=1)])
    yield Example("batch of 3", three, labels=LABELS)
    yield from oddities(speech, 2 * RATE, deep)
    yield from lengths(speech, shortest, whole)
    yield Example("batch of 32", batch(pieces(speech, 32, RATE // 2)), labels=LABELS)
    yield Example("25 seconds", batch([speech[: 25 * RATE]]), labels=LABELS)
    if whole:
        yield Example("five pieces", batch(pieces(speech, 5, CHUNK)), depth="free", labels=LABELS)
        yield Example("batch of 32, 10 s", batch(pieces(speech, 32, CHUNK)), labels=LABELS)


def gallery(shortest: int) -> list[Example]:
    del shortest
    speech = sample()[7 * RATE : 8 * RATE]
    sounds = batch([speech, noise(len(speech), seed=3)])
    return [Example("speech and noise", sounds, depth="full", labels=LABELS * 2)]


def decisions(logits: Array) -> Iterator[tuple[str, str, int]]:
    """Softmax before the argmax: it cannot move a maximum, but in few bits it makes ties."""
    for dtype in ("float32", "float16"):
        soft = np.exp(logits - logits.max(axis=-1, keepdims=True)).astype(dtype)
        soft = (soft / soft.sum(axis=-1, keepdims=True, dtype=dtype)).astype(dtype)
        flips = int((soft.argmax(axis=-1) != logits.argmax(axis=-1)).sum())
        share = f"{flips} of {logits[..., 0].size} decisions fall into ties"
        effect = share if flips else "no decision changes on these inputs"
        yield f"softmax before argmax in {dtype}", effect, flips


def threshold(config: Config) -> float | None:
    """Where each speaker is decided alone; a powerset decides for its largest class."""
    return 0.5 if config.get("activation") == "sigmoid" else None


def task(rows: Sequence[Row], config: Config) -> Sections:
    truth, plain, got = columns(row[1:] for row in rows)
    return compare_decisions(plain, got, threshold=threshold(config), truth=truth).sections()


def drawn(rows: Sequence[Row], config: Config, start: float, step: float) -> dict[str, Any]:
    said = config.get("specifications") or {}
    speakers, at_once = len(said.get("classes") or ()), said.get("powerset_max_classes")
    bound = threshold(config)
    return {
        "timelines": details.timelines(
            {example.name: (plain, got) for example, _, plain, got in rows},
            step=step,
            start=start,
            classes=details.class_names(speakers, at_once, int(config["num_classes"]), bound),
            threshold=bound,
        )
    }


JUDGED = (("output", "free"),)
EXAMPLES = of_speech(examples, gallery)
ROLES = (Role("segmentation", JUDGED, EXAMPLES, decisions, LABELS, task, drawn),)

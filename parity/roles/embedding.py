"""Embedding: a voice as a vector. Its task is to rank voices by likeness as torch does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from samevoice.parity.inputs import (
    CHUNK,
    MASK_FRAMES,
    RATE,
    SPEECH,
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
from samevoice.parity.task import columns, compare_embeddings


def examples(speech: Array, shortest: int, whole: bool) -> Iterator[Example]:
    said = speech[SPEECH:]
    yield Example("sample", batch([said[: 3 * RATE // 2]]), depth="full")
    yield Example("ten seconds", batch([speech[:CHUNK]]))
    yield Example("batch of 3", batch(pieces(speech, 3, RATE)), depth="free" if whole else "output")
    yield from oddities(speech, RATE, "full" if whole else "output")
    yield from lengths(speech, shortest, whole)
    yield from masked(said[:RATE], speech[:RATE])
    # Thirty-two voices for the similarity matrix: who spoke in the same ten seconds is one.
    regions = tuple(f"region {k * 3 // 32}" for k in range(32))
    yield Example("batch of 32", batch(pieces(speech, 32, RATE * 2 // 5)), labels=regions)
    yield Example("two noises", batch([noise(RATE, 1), noise(RATE, 2)]), labels=("noise", "noise"))
    if whole:
        yield Example("three tens", batch(pieces(speech, 3, CHUNK)))
        yield Example("three seconds", batch([said[: 3 * RATE]]), depth="full")


def masked(first: Array, second: Array) -> Iterator[Example]:
    """Who of several speakers is heard when: each kind of mask, over two recordings."""
    size = min(len(first), len(second))
    sounds = batch([first[:size], second[:size]])
    frames = max(round(MASK_FRAMES * size / CHUNK), 8)
    yield Example("masks", sounds, masks=masks(2, frames), depth="free")
    # Another grid than pyannote's, and fractions, as soft masks hold.
    soft = np.random.default_rng(5).random((2, 2, frames // 3)).astype(np.float32)
    yield Example("soft masks", sounds, masks=soft)
    yield Example("one mask each", sounds, masks=masks(2, frames)[:, 2])
    yield Example("empty masks", sounds, masks=np.zeros((2, 3, frames), np.float32))


def masks(items: int, frames: int) -> Array:
    """(B, 5, F): full, empty, two that overlap, and three frames only."""
    made = np.zeros((items, 5, frames), np.float32)
    made[:, 0] = 1.0
    made[:, 2, : 2 * frames // 3] = 1.0
    made[:, 3, frames // 3 :] = 1.0
    made[:, 4, frames // 2 : frames // 2 + 3] = 1.0
    return made


def gallery(shortest: int) -> list[Example]:
    """Speech, quiet, and masks; soft ones, so that reading between two frames shows."""
    speech, short = sample()[7 * RATE : 9 * RATE], max(3 * RATE // 10, 2 * shortest)
    quiet = speech[:short] * np.float32(2.0**-13)
    heard = batch([speech[:short], speech[RATE // 2 :][:short]])
    labels = tuple(f"voice {n}" for n in range(10))
    soft = np.random.default_rng(5).random((2, 1, 29)).astype(np.float32)
    return [
        Example("masks", heard, masks(2, 29), depth="full", labels=labels),
        Example("soft masks", heard, soft, depth="free"),
        Example("no masks", batch([quiet]), depth="free"),
    ]


def task(rows: Sequence[Row], config: Config) -> Sections:
    del config
    truth, plain, got = columns(row[1:] for row in rows)
    labels = [label for row in rows for label in row[0].labels]
    return compare_embeddings(plain, got, truth=truth, labels=labels).sections()


def drawn(rows: Sequence[Row], config: Config, start: float, step: float) -> dict[str, Any]:
    del config, start, step
    return {"voices": [label for example, *_ in rows for label in example.labels]}


ROLES = (
    Role(
        "embedding",
        (("output", "free"),),
        of_speech(examples, gallery),
        task=task,
        needs_corpus=True,
        drawn=drawn,
    ),
)

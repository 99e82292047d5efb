"""Three steps between the networks as compiled MLX functions, exact against numpy.

What goes in and out stays on the device: scores become masks, masks become weights for the pooling
of one shared pass, and voices meet a database, without a detour over the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import mlx.core as mx

from samevoice.models import fast

P = ParamSpec("P")
R = TypeVar("R")

ALONE = 2  # fewer speakers than this in a frame: nobody else is heard in it
MIN_ACTIVITY = 10  # a slot with no more active frames is no voice
MIN_DURATION = 1.0  # seconds


class Compiled(Generic[P, R]):
    """A function and its compiled form, which runs where compiling pays.

    On a CPU the first call of a fused kernel waits about a second for g++, and these steps take a
    quarter of a millisecond either way: there the same operations run one by one.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.plain = function
        # Traced once a shape: with shapeless=True an axis of length 1 crashes the process.
        self.compiled: Callable[P, R] = mx.compile(function)
        self.__doc__ = function.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        run = self.compiled if fast.on_gpu() else self.plain
        return run(*args, **kwargs)


def powerset_masks(scores: mx.array, mapping: mx.array) -> mx.array:
    """(B, F, P), (P, S) -> (B, F, S) of 0 and 1: the speakers of the likeliest set.

    ``mapping`` has one row a set, 1 for each speaker in it. Of equal scores the first set wins.
    """
    if scores.ndim != 3 or mapping.ndim != 2 or scores.shape[-1] != mapping.shape[0]:
        raise ValueError(f"scores: {scores.shape} do not fit a mapping of {mapping.shape}")
    if scores.size == 0:  # argmax takes no empty batch
        return mx.zeros((*scores.shape[:2], mapping.shape[1]))
    return likeliest(scores, mapping)


@Compiled
def likeliest(scores: mx.array, mapping: mx.array) -> mx.array:
    """(B, F, P), (P, S) -> (B, F, S)."""
    # A row taken is the product with a one-hot row, without TF32 and without a BLAS whose threads
    # cost more than so narrow a matrix.
    return mapping.astype(mx.float32)[mx.argmax(scores, axis=-1)]


def embedding_weights(masks: mx.array, min_num_frames: int) -> mx.array:
    """(B, F, S) of 0 and 1 -> (B, S, F): the frames that each speaker's embedding is pooled over.

    Frames in which others speak as well are left out, unless no more than ``min_num_frames`` would
    remain. The three speakers of a chunk share one waveform and one pass through the network.
    """
    if masks.ndim != 3:
        raise ValueError(f"masks: (B, F, S) wanted, got {masks.shape}")
    if masks.size == 0:
        return mx.zeros(tuple(masks.shape[i] for i in (0, 2, 1)))
    return clean_or_full(masks.astype(mx.float32), mx.array(min_num_frames, dtype=mx.float32))


@Compiled
def clean_or_full(masks: mx.array, least: mx.array) -> mx.array:
    """(B, F, S), () -> (B, S, F)."""
    clean = masks * (masks.sum(axis=-1, keepdims=True) < ALONE)
    enough = clean.sum(axis=1, keepdims=True) > least
    return mx.where(enough, clean, masks).swapaxes(1, 2)


def post_embedding(
    embeddings: mx.array,
    database: mx.array,
    segments: mx.array,
    *,
    step: float,
    min_duration: float = MIN_DURATION,
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """(S, D), (K, D), (1, F, S) -> distances (S, K), activity (S,), valid (S,), kept (1, F, S).

    Cosine distances to every known voice; 1 where a vector is zero, as nothing is known of it.
    Activity counts the frames that each speaker is active in, and is valid above 10. In ``kept``
    the runs that last less than ``min_duration`` seconds, at ``step`` seconds a frame, are gone.
    """
    speakers, size = embeddings.shape
    if database.ndim != 2 or database.shape[1] != size:
        raise ValueError(f"database: (K, {size}) wanted, got {database.shape}")
    if segments.ndim != 3 or (segments.shape[0], segments.shape[2]) != (1, speakers):
        raise ValueError(f"segments: (1, F, {speakers}) wanted, got {segments.shape}")
    segments = segments.astype(mx.float32)
    distances = mx.zeros((speakers, database.shape[0]))
    if distances.size and size:
        distances = cosine_distances(embeddings.astype(mx.float32), database.astype(mx.float32))
    if segments.size == 0:
        return distances, mx.zeros((speakers,)), mx.zeros((speakers,), dtype=mx.bool_), segments
    least = mx.array(min_run(min_duration, step), dtype=mx.int32)
    return distances, *activity_and_runs(segments, least)


@Compiled
def cosine_distances(x: mx.array, y: mx.array) -> mx.array:
    """(S, D), (K, D) -> (S, K), between 0 and 2."""
    # Not as a matrix product: on a GPU that would be TF32, good for three digits.
    cosines = (unit(x)[:, None] * unit(y)[None]).sum(axis=-1)
    return mx.clip(1 - cosines, 0, 2)


def unit(x: mx.array) -> mx.array:
    """(N, D) -> (N, D) of length 1; a zero vector stays one."""
    # By the largest value first: the square of 1e20 is infinite in float32.
    x = x / positive(mx.abs(x).max(axis=-1, keepdims=True))
    return x / positive(mx.sqrt(mx.square(x).sum(axis=-1, keepdims=True)))


def positive(x: mx.array) -> mx.array:
    """A length to divide by: 1 in place of 0."""
    return mx.where(x == 0, 1, x)


@Compiled
def activity_and_runs(segments: mx.array, least: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """(1, F, S), () -> active frames (S,), enough of them (S,), and runs of ``least`` frames."""
    activity = segments.sum(axis=(0, 1))
    active = segments > 0.5
    # Each frame's place from 1 on, and the silent frames before and after it.
    here = mx.cumsum(mx.ones_like(active).astype(mx.int32), axis=1)
    before = mx.cummax(mx.where(active, 0, here), axis=1)
    after = mx.cummin(mx.where(active, here.max() + 1, here), axis=1, reverse=True)
    kept = active & (after - before - 1 >= least)
    return activity, activity > MIN_ACTIVITY, segments * kept


def min_run(duration: float, step: float) -> int:
    """The fewest frames that last ``duration`` seconds."""
    # 0.3 / 0.1 is a little more than 3, and is meant as 3.
    return math.ceil(duration / step - 1e-6)

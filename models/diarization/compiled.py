"""Two steps between the networks as compiled MLX functions, exact against numpy.

What goes in and out stays on the device: scores become masks, and masks become weights for the
pooling of one shared pass, without a detour over the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import mlx.core as mx

from samevoice.models import fast

P = ParamSpec("P")
R = TypeVar("R")

ALONE = 2  # fewer speakers than this in a frame: nobody else is heard in it


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

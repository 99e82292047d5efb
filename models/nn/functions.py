"""What written networks call beside layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

Step = Callable[..., mx.array]
Steps = list[Step]
NamedSteps = dict[str, Step]


def in_turn(steps: Sequence[Step] | Mapping[str, Step], x: mx.array, *more: mx.array) -> mx.array:
    """Each takes what the one before gave, and all the same beside it."""
    for step in steps.values() if isinstance(steps, Mapping) else steps:
        x = step(x, *more)
    return x


def missing(operation: str, *given: mx.array) -> mx.array:
    """Stands where nobody has written an operation in MLX yet."""
    raise NotImplementedError(
        f"{operation} of {', '.join(str(x.shape) for x in given)} is not written yet"
    )


def constants(file: Path) -> dict[str, mx.array]:
    """Arrays that belong to the code and not to a checkpoint."""
    with np.load(file) as held:
        return {name: mx.array(held[name]) for name in held.files}

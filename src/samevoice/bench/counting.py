"""How much a network has to compute and to move, counted from the shapes of its plain layers.

A layer with matrices multiplies each of them once for every place of its output, whatever a fast
form makes of it: a 3x3 convolution is 2 * 9 * I * O operations a pixel. It reads its input and its
weights and writes its output. Norms and activations count as nothing, as they can be done while the
numbers are at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samevoice.models import fast
from samevoice.models.layers import taps

import mlx.core as mx  # isort: skip


@dataclass(frozen=True)
class Count:
    """Floating-point operations, and bytes read and written."""

    flop: float = 0.0
    nbytes: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.flop + other.flop, self.nbytes + other.nbytes)

    def __mul__(self, times: float) -> Count:
        return Count(times * self.flop, times * self.nbytes)


def of_layers(network: Any, run: Callable[[], object]) -> dict[str, Count]:
    """What each layer has to do in ``run``, by its path. Nothing is computed: MLX is lazy."""
    modules = dict(network.named_modules())
    with fast.plain_forms(), taps.listen(network) as heard:
        run()
    found: dict[str, Count] = {}
    for name, y in heard.outputs.items():
        path, x = taps.path_of(name), heard.inputs.get(name)
        if x is not None and path in modules:
            found[path] = found.get(path, Count()) + of_layer(modules[path], x, y)
    return found


def of_layer(layer: Any, x: mx.array, y: mx.array) -> Count:
    """What itself holds; layers within it count for themselves."""
    own = [one for one in layer.values() if isinstance(one, mx.array)]
    matrices = [layer.filters()] if hasattr(layer, "filters") else [w for w in own if w.ndim > 1]
    if (own and not matrices) or (not own and layer.children()):
        return Count()
    places = y.size / y.shape[-1]
    moved = [x, y, *matrices]
    return Count(2 * places * sum(w.size for w in matrices), sum(one.nbytes for one in moved))

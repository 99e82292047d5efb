"""A layer of a Conformer on a CPU, in numpy, a recording at a time: its frames in strips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models.fast import cpu
from samevoice.models.fast.cpu import Floats, Share, strips
from samevoice.models.fast.depthwise import Taps
from samevoice.models.fast.resnet import are_plain
from samevoice.models.fast.transformer import (
    Attention,
    Dense,
    Norm,
    attention_of,
    dense_of,
    norm_of,
)
from samevoice.models.layers import LayerNorm


@dataclass(frozen=True)
class FeedForward:
    norm: Norm
    inner: Dense
    outer: Dense

    def added(self, x: Floats) -> Floats:
        """Half of what it makes of frames (N, D), added to them in place."""
        y = self.outer(_silu(self.inner(self.norm(x.copy()))))
        y *= np.float32(0.5)
        x += y
        return x


@dataclass(frozen=True)
class Convolution:
    norm: Norm
    gated: Dense
    taps: Taps
    scale: Floats  # of the convolution, the norm behind it folded in
    shift: Floats
    outer: Dense

    def before(self, x: Floats) -> Floats:
        """Frames (N, D) -> those that the convolution reads."""
        y = self.gated(self.norm(x.copy()))
        half = y.shape[1] // 2
        return cpu.gated(y[:, :half], y[:, half:])

    def behind(self, padded: Floats, frames: slice) -> Floats:
        """(T + K - 1, D) -> what is added to these frames."""
        y = self.taps.along(padded, frames)
        y *= self.scale
        y += self.shift
        return self.outer(_silu(y))


@dataclass(frozen=True)
class Layer:
    first: FeedForward
    norm: Norm
    attention: Attention
    convolution: Convolution
    second: FeedForward
    last: Norm

    def __call__(self, batch: Floats) -> Floats:
        """(B, T, D) -> (B, T, D)."""
        with cpu.one_blas_thread():
            return cpu.stacked(len(batch), lambda number, share: self._run(batch[number], share))

    def _run(self, item: Floats, share: Share) -> Floats:
        x, frames = item.copy(), len(item)
        strips(lambda rows: self.first.added(x[rows]), frames, share)
        heard = self.attention(x[None], self.norm, None, share)
        reach = self.convolution.taps.reach
        read = np.zeros((frames + 2 * reach, x.shape[1]), dtype=np.float32)
        inside = read[reach : reach + frames]

        def attended(rows: slice) -> None:
            x[rows] += self.attention.out(heard[rows])
            inside[rows] = self.convolution.before(x[rows])

        def convolved(rows: slice) -> None:
            x[rows] += self.convolution.behind(read, rows)
            self.last(self.second.added(x[rows]))

        strips(attended, frames, share)
        strips(convolved, frames, share)
        return x


def _silu(x: Floats) -> Floats:
    return cpu.gated(x, x)


def of(
    first: tuple[Any, Any, Any],
    attention: tuple[Any, Any],
    convolution: tuple[Any, Any, Any, Any, Any],
    second: tuple[Any, Any, Any],
    last: Any,
) -> Layer | None:
    """The form of a layer from its parts in order, or None where it would compute otherwise.

    A network has each under a name of its own. Norms come first; the convolution's own parts are
    a linear layer, the convolution, its norm, and a linear layer.
    """
    *_, depthwise, norm, _ = convolution
    known = (Linear, LayerNorm, type(depthwise), type(norm))
    if not are_plain([*first, *attention, *convolution, *second, last], known):
        return None
    scale, shift = norm.scale_shift()
    bias = np.array(depthwise.bias, dtype=np.float64)
    taps = Taps.of(np.array(depthwise.weight).transpose(0, 2, 1))
    return Layer(
        _feed_forward(*first),
        norm_of(attention[0]),
        attention_of(attention[1]),
        Convolution(
            norm_of(convolution[0]),
            dense_of(convolution[1]),
            taps,
            scale.astype(np.float32),
            (bias * scale + shift).astype(np.float32),
            dense_of(convolution[4]),
        ),
        _feed_forward(*second),
        norm_of(last),
    )


def _feed_forward(norm: Any, inner: Any, outer: Any) -> FeedForward:
    return FeedForward(norm_of(norm), dense_of(inner), dense_of(outer))

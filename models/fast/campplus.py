"""CAM++ on a CPU, in numpy, one recording at a time: what its layers compute, in fewer steps.

The front runs as a ResNet's trunk does. A dense block's channels lie in one array that its layers
fill from left to right, so that nothing is copied; a norm behind a product is folded into it, and
the context, which 100 frames share, is computed once for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models.fast.cpu import Floats, Share, one_blas_thread, stacked
from samevoice.models.fast.resnet import (
    Conv,
    Step,
    are_plain,
    block,
    conv_of,
    convolved,
    parted,
    step_of,
    whole,
)
from samevoice.models.layers import BatchNorm, Conv1d, Conv2d, as_float64
from samevoice.models.layers.pooling import StatsPool

# Frames that are normalised and multiplied at once, so that they stay in the cache. They begin at
# fixed places: the number of cores must not show in the result.
STRIP = 128


@dataclass(frozen=True)
class Norm:
    """(T, C) * scale + shift, and a ReLU."""

    scale: Floats
    shift: Floats

    def into(self, x: Floats) -> Floats:
        made = x * self.scale
        made += self.shift
        return rectified(made)


@dataclass(frozen=True)
class Product:
    """(T, I) @ weight + shift."""

    weight: Floats  # (I, O)
    shift: Floats | None = None

    def of(self, x: Floats) -> Floats:
        made: Floats = x @ self.weight
        if self.shift is not None:
            made += self.shift
        return made


@dataclass(frozen=True)
class Layer:
    """A dense layer; the norm behind its first product is folded into that."""

    norm: Norm
    first: Product
    local: Floats  # (I, 3 * O), tap by tap
    dilation: int
    context: tuple[Product, Product]

    def __call__(self, x: Floats, share: Share, segment: int) -> Floats:
        """(T, C) -> (T, O)."""
        y = rectified(strips(lambda rows: self.first.of(self.norm.into(x[rows])), len(x), share))
        made = self._local(y)
        made *= np.repeat(self._mask(y, segment), segment, axis=0)[: len(x)]
        return made

    def _local(self, x: Floats) -> Floats:
        before, here, after = np.split(x @ self.local, 3, axis=1)
        made: Floats = here.copy()
        made[self.dilation :] += before[: -self.dilation]
        made[: -self.dilation] += after[self.dilation :]
        return made

    def _mask(self, x: Floats, segment: int) -> Floats:
        """(T, C) -> (segments, O)."""
        starts = np.arange(0, len(x), segment)
        sums = np.add.reduceat(x, starts, axis=0)
        counts = np.diff(np.append(starts, len(x)))[:, None].astype(np.float32)
        first, second = self.context
        heard = rectified(first.of(sums.sum(axis=0) / np.float32(len(x)) + sums / counts))
        made: Floats = np.float32(1) / (np.float32(1) + np.exp(-second.of(heard)))
        return made


@dataclass(frozen=True)
class Block:
    """Dense layers, and the transit behind them."""

    layers: tuple[Layer, ...]
    norm: Norm
    linear: Product

    def __call__(self, x: Floats, share: Share, segment: int) -> Floats:
        width = x.shape[1]
        found = np.empty((len(x), len(self.norm.scale)), dtype=np.float32)
        found[:, :width] = x
        for layer in self.layers:
            made = layer(found[:, :width], share, segment)
            found[:, width : width + made.shape[1]] = made
            width += made.shape[1]
        return strips(lambda rows: self.linear.of(self.norm.into(found[rows])), len(x), share)


@dataclass(frozen=True)
class Layers:
    """All layers up to the pooling."""

    first: Conv
    steps: tuple[Step, ...]
    last: Conv
    tdnn: Product  # (5 * I, O), its norm folded in
    blocks: tuple[Block, ...]
    out: Norm
    segment: int

    def __call__(self, fbank: Floats) -> Floats:
        """(B, T, M) -> (B, T', C)."""
        with one_blas_thread(), np.errstate(over="ignore"):  # exp(100) is infinite, its mask 0
            return stacked(len(fbank), lambda number, share: self._one(fbank[number], share))

    def _one(self, fbank: Floats, share: Share) -> Floats:
        image, size = convolved(
            parted(fbank.T[..., None]), (fbank.shape[1], fbank.shape[0]), self.first, share
        )
        for step in self.steps:
            image, size = block(image, size, step, share)
        front = whole(*convolved(image, size, self.last, share))  # (F, T, C)
        x = self._halved(front.transpose(1, 2, 0).reshape(front.shape[1], -1), share)
        for dense in self.blocks:
            x = dense(x, share, self.segment)
        return self.out.into(x)

    def _halved(self, x: Floats, share: Share) -> Floats:
        """(T, I) -> (ceil(T / 2), O): five frames at every second one."""
        width = x.shape[1]
        flat = np.pad(x, [(2, 2), (0, 0)]).reshape(-1)
        windows = np.lib.stride_tricks.sliding_window_view(flat, 5 * width)[:: 2 * width]

        def made(rows: slice) -> Floats:
            return self.tdnn.of(np.ascontiguousarray(windows[rows]))

        return rectified(strips(made, len(windows), share))


def strips(make: Callable[[slice], Floats], count: int, share: Share) -> Floats:
    """What ``make`` gives for each strip of so many rows, on top of each other."""
    starts: Sequence[int] = range(0, count, STRIP)
    made: list[Floats] = [np.empty(0, dtype=np.float32)] * len(starts)

    def work(number: int) -> None:
        start = starts[number]
        made[number] = make(slice(start, min(start + STRIP, count)))

    share(work, range(len(starts)))
    return np.concatenate(made)


def rectified(x: Floats) -> Floats:
    """The ReLU; x itself is written to."""
    return np.maximum(x, 0, out=x)


# From the layers ----------------------------------------------------------------------------------


def of(network: Any) -> Layers | None:
    """The form of a ``networks.campplus.CAMPPlus``, or None where it would compute otherwise."""
    kinds = (BatchNorm, Conv1d, Conv2d, Linear, StatsPool)
    if not are_plain([network.head, network.xvector], kinds):
        return None
    head, xvector = network.head, network.xvector
    blocks = ((f"block{n}", f"transit{n}") for n in (1, 2, 3))
    return Layers(
        conv_of(head.conv1, head.bn1),
        tuple(map(step_of, (*head.layer1, *head.layer2))),
        conv_of(head.conv2, head.bn2),
        _folded_of(xvector.tdnn.linear.weight, xvector.tdnn.nonlinear),
        tuple(_block_of(xvector[block], xvector[transit]) for block, transit in blocks),
        _norm_of(xvector.out_nonlinear),
        network.xvector.segment,
    )


def _norm_of(nonlinear: Any) -> Norm:
    scale, shift = nonlinear.batchnorm.scale_shift()
    return Norm(scale.astype(np.float32), shift.astype(np.float32))


def _folded_of(weight: mx.array, nonlinear: Any) -> Product:
    """(O, ...) and the norm behind it, folded in float64 -> (inputs, O)."""
    scale, shift = nonlinear.batchnorm.scale_shift()
    flat = as_float64(weight).reshape(len(scale), -1) * scale[:, None]
    return Product(_turned(flat), shift.astype(np.float32))


def _block_of(block: Any, transit: Any) -> Block:
    layers = tuple(_layer_of(block[name]) for name in block.names)
    linear = Product(_turned(np.array(transit.linear.weight)))
    return Block(layers, _norm_of(transit.nonlinear), linear)


def _layer_of(layer: Any) -> Layer:
    cam = layer.cam_layer
    local = np.array(cam.linear_local.weight).transpose(2, 1, 0)  # (I, K, O)
    first, second = (
        Product(_turned(np.array(one.weight)), np.array(one.bias))
        for one in (cam.linear1, cam.linear2)
    )
    return Layer(
        _norm_of(layer.nonlinear1),
        _folded_of(layer.linear1.weight, layer.nonlinear2),
        np.ascontiguousarray(local.reshape(len(local), -1)),
        cam.linear_local.dilation,
        (first, second),
    )


def _turned(weight: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weight.T, dtype=np.float32)

"""CAM++ on a CPU, in numpy, one recording at a time: what its layers compute, in fewer steps.

The front is in ``front``. A dense block's channels lie in one array that its layers fill from left
to right, so that nothing is copied. A norm in front of a product costs one pass over that array,
one behind it none: both are folded into the weights. The context, which 100 frames share, is
computed once for them, its means as a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx.nn.layers.linear import Linear
from numpy.typing import NDArray

from samevoice.models.fast.cpu import Floats, Share, one_blas_thread, stacked, strips
from samevoice.models.fast.front import Front
from samevoice.models.fast.front import of as front_of
from samevoice.models.fast.resnet import are_plain
from samevoice.models.layers import BatchNorm, Conv1d, Conv2d, as_float64
from samevoice.models.layers.pooling import StatsPool

# Frames that are normalised and multiplied at once, so that they stay in the cache. They begin at
# fixed places: the number of cores must not show in the result.
STRIP = 250
# A scale below this is none: dividing by it could overflow.
SMALLEST = 1e-20


@dataclass(frozen=True)
class Product:
    """(T, I) @ weight + shift."""

    weight: Floats  # (I, O)
    shift: Floats

    def of(self, x: Floats, out: Floats | None = None) -> Floats:
        made: Floats = np.matmul(x, self.weight, out=out)
        made += self.shift
        return made


@dataclass(frozen=True)
class Normed:
    """A norm, a ReLU and a product, in one pass over x.

    relu(s * x + b) is s * max(x, -b / s) + b, or a min where s is negative. The product takes s and
    b into its weight and shift.
    """

    low: Floats
    high: Floats | None  # None where no scale is negative
    product: Product

    def of(self, x: Floats, out: Floats) -> Floats:
        # With its usual buffers numpy copies rows that do not follow each other.
        before = np.setbufsize(16)
        made = np.maximum(x, self.low)
        np.setbufsize(before)
        if self.high is not None:
            np.minimum(made, self.high, out=made)
        return self.product.of(made, out)


@dataclass(frozen=True)
class Layer:
    """A dense layer; the norm behind its first product is folded into that."""

    first: Normed
    local: Floats  # (3, I, O)
    dilation: int
    context: tuple[Product, Product]
    segment: int

    def __call__(self, x: Floats, out: Floats, share: Share, means: Floats) -> None:
        """(T, C) -> (T, O)."""
        y = np.empty((len(x), len(self.first.product.shift)), dtype=np.float32)
        strips(lambda rows: rectified(self.first.of(x[rows], y[rows])), len(x), share, STRIP)
        before, here, after = np.matmul(y, self.local)
        here[self.dilation :] += before[: -self.dilation]
        here[: -self.dilation] += after[self.dilation :]
        first, second = self.context
        mask = np.float32(1) / (np.float32(1) + np.exp(-second.of(rectified(first.of(means @ y)))))
        np.multiply(here, np.repeat(mask, self.segment, axis=0)[: len(x)], out=out)


@dataclass(frozen=True)
class Block:
    """Dense layers, and the transit behind them."""

    layers: tuple[Layer, ...]
    transit: Normed

    def __call__(self, x: Floats, share: Share, means: Floats) -> Floats:
        width = x.shape[1]
        found = np.empty((len(x), len(self.transit.low)), dtype=np.float32)
        found[:, :width] = x
        for layer in self.layers:
            before, width = width, width + layer.local.shape[2]
            layer(found[:, :before], found[:, before:width], share, means)
        made = np.empty((len(x), len(self.transit.product.shift)), dtype=np.float32)
        strips(lambda rows: self.transit.of(found[rows], made[rows]), len(x), share, STRIP)
        return made


@dataclass(frozen=True)
class Layers:
    """All layers up to the pooling."""

    front: Front
    tdnn: Product  # (5 * I, O), its norm folded in
    blocks: tuple[Block, ...]
    scale: Floats
    shift: Floats
    segment: int

    def __call__(self, fbank: Floats) -> Floats:
        """(B, T, M) -> (B, T', C)."""
        with one_blas_thread(), np.errstate(over="ignore"):  # exp(100) is infinite, its mask 0
            return stacked(len(fbank), lambda number, share: self._one(fbank[number], share))

    def _one(self, fbank: Floats, share: Share) -> Floats:
        x = self._halved(self.front(fbank, share), share)
        means = means_of(len(x), self.segment)
        for block in self.blocks:
            x = block(x, share, means)
        return rectified(x * self.scale + self.shift)

    def _halved(self, x: Floats, share: Share) -> Floats:
        """(T, F, C) -> (ceil(T / 2), O): five frames at every second one."""
        width = x[0].size
        flat = np.pad(x, [(2, 2), (0, 0), (0, 0)]).reshape(-1)
        windows = np.lib.stride_tricks.sliding_window_view(flat, 5 * width)[:: 2 * width]

        made = np.empty((len(windows), len(self.tdnn.shift)), dtype=np.float32)

        def work(rows: slice) -> None:
            rectified(self.tdnn.of(np.ascontiguousarray(windows[rows]), made[rows]))

        strips(work, len(windows), share, STRIP)
        return made


def means_of(frames: int, segment: int) -> Floats:
    """(S, T): what of T frames makes each segment's context, the whole's mean and its own."""
    starts = np.arange(0, frames, segment)
    counts = np.diff(np.append(starts, frames))
    means: Floats = (np.repeat(np.diag(1 / counts), counts, axis=1) + 1 / frames).astype(np.float32)
    return means


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
    # (O, K, C * F), but the front gives channels last.
    tdnn = as_float64(xvector.tdnn.linear.weight)
    tdnn = tdnn.reshape(*tdnn.shape[:2], len(head.bn2.weight), -1).swapaxes(2, 3)
    blocks = ((f"block{n}", f"transit{n}") for n in (1, 2, 3))
    scale, shift = xvector.out_nonlinear.batchnorm.scale_shift()
    return Layers(
        front_of(head.conv1, head.bn1, (*head.layer1, *head.layer2), head.conv2, head.bn2),
        _folded_of(tdnn, xvector.tdnn.nonlinear),
        tuple(
            _block_of(xvector[block], xvector[transit], xvector.segment)
            for block, transit in blocks
        ),
        scale.astype(np.float32),
        shift.astype(np.float32),
        xvector.segment,
    )


def _folded_of(weight: NDArray[np.float64], nonlinear: Any) -> Product:
    """(O, ...) and the norm behind it -> (inputs, O)."""
    scale, shift = nonlinear.batchnorm.scale_shift()
    return _product_of(weight.reshape(len(scale), -1) * scale[:, None], shift)


def _product_of(weight: NDArray[np.float64], shift: NDArray[np.float64]) -> Product:
    return Product(np.ascontiguousarray(weight.T, dtype=np.float32), shift.astype(np.float32))


def _normed_of(nonlinear: Any, product: Product) -> Normed:
    """The norm in front of a product."""
    scale, shift = nonlinear.batchnorm.scale_shift()
    # What has no scale is its shift, whatever comes.
    none = np.abs(scale) < SMALLEST
    bound = -shift / np.where(none, 1, scale)
    low = np.where(scale >= SMALLEST, bound, -np.inf)
    high = np.where(scale <= -SMALLEST, bound, np.inf)
    weight = product.weight.astype(np.float64)
    rest = product.shift + np.where(none, np.maximum(shift, 0), shift) @ weight
    scaled = _product_of((weight * np.where(none, 0, scale)[:, None]).T, rest)
    least = high.astype(np.float32) if np.isfinite(high).any() else None
    return Normed(low.astype(np.float32), least, scaled)


def _block_of(block: Any, transit: Any, segment: int) -> Block:
    layers = tuple(_layer_of(block[name], segment) for name in block.names)
    linear = as_float64(transit.linear.weight)
    return Block(layers, _normed_of(transit.nonlinear, _product_of(linear, np.zeros(len(linear)))))


def _layer_of(layer: Any, segment: int) -> Layer:
    cam = layer.cam_layer
    local = np.array(cam.linear_local.weight).transpose(1, 2, 0)  # (K, I, O)
    first, second = (
        _product_of(as_float64(one.weight), as_float64(one.bias))
        for one in (cam.linear1, cam.linear2)
    )
    return Layer(
        _normed_of(
            layer.nonlinear1, _folded_of(as_float64(layer.linear1.weight), layer.nonlinear2)
        ),
        np.ascontiguousarray(local),
        cam.linear_local.dilation,
        (first, second),
        segment,
    )

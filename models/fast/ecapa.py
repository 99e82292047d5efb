"""ECAPA-TDNN on a CPU, in numpy, one recording at a time: all of its layers up to the pooling.

Frames go through a layer in strips that stay in the cache, so that bias, ReLU and norm cost little
beside the product. The blocks write into one array, which is what the last layer takes. What the
context adds to a frame's scores is the same for all frames, and is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx.nn.layers.linear import Linear

from samevoice.models.fast.campplus import STRIP, rectified
from samevoice.models.fast.cpu import Floats, Share, one_blas_thread, stacked, strips
from samevoice.models.fast.resnet import are_plain
from samevoice.models.fast.sincnet import total
from samevoice.models.layers import BatchNorm, Conv1d

COLUMNS = 256  # channels that are pooled at once


@dataclass(frozen=True)
class Norm:
    scale: Floats
    shift: Floats

    def of(self, x: Floats) -> Floats:
        """``x`` itself is written to."""
        x *= self.scale
        x += self.shift
        return x


@dataclass(frozen=True)
class Layer:
    """A convolution, a ReLU, and a norm where there is one."""

    taps: Floats  # (K, I, O)
    bias: Floats
    dilation: int
    mirrored: bool
    norm: Norm | None

    def __call__(self, x: Floats, out: Floats, share: Share) -> None:
        """(T, I) -> (T, O)."""
        reach = len(self.taps) // 2 * self.dilation
        if reach:
            edges = [(reach, reach), (0, 0)]
            x = np.pad(x, edges, mode="reflect" if self.mirrored else "constant")
        first, *rest = self.taps

        def strip(rows: slice) -> None:
            y = np.matmul(x[rows], first)
            for number, tap in enumerate(rest, start=1):
                at = number * self.dilation
                y += x[rows.start + at : rows.stop + at] @ tap
            y += self.bias
            np.maximum(y, 0, out=y)
            out[rows] = y if self.norm is None else self.norm.of(y)

        strips(strip, len(out), share, STRIP)

    @property
    def width(self) -> int:
        return len(self.bias)


@dataclass(frozen=True)
class Gate:
    """A linear layer of what stands for the whole recording."""

    weight: Floats  # (I, O)
    bias: Floats

    def of(self, x: Floats) -> Floats:
        made: Floats = x @ self.weight + self.bias
        return made


@dataclass(frozen=True)
class Block:
    """Two layers around parts that are added up one after the other, gated, beside a shortcut."""

    first: Layer
    parts: tuple[Layer, ...]
    first_passes: bool
    second: Layer
    gates: tuple[Gate, Gate]
    shortcut: Gate | None

    def __call__(self, x: Floats, out: Floats, share: Share) -> None:
        """(T, I) -> (T, O)."""
        y = np.empty((len(x), self.first.width), dtype=np.float32)
        self.first(x, y, share)
        self._mixed(y, share)
        self.second(y, out, share)
        squeeze, excite = self.gates
        mean = (total(out) / len(out)).astype(np.float32)
        gate = 1 / (1 + np.exp(-excite.of(np.maximum(squeeze.of(mean), 0))))

        def strip(rows: slice) -> None:
            out[rows] *= gate
            out[rows] += x[rows] if self.shortcut is None else self.shortcut.of(x[rows])

        strips(strip, len(out), share, STRIP)

    def _mixed(self, y: Floats, share: Share) -> None:
        """The parts in place: a layer reads all of its frames before it writes one."""
        width = self.parts[0].width
        before: Floats | None = None
        for number, layer in enumerate(self.parts, start=int(self.first_passes)):
            part = y[:, number * width : (number + 1) * width]
            fed = part.copy() if before is None else part + before
            layer(fed, part, share)
            before = part


@dataclass(frozen=True)
class Pool:
    """Scores of each frame, their softmax over time, and the moments that it weighs."""

    first: Gate
    context: Floats | None  # (2C, H) beside them
    biased: bool
    norm: Norm | None
    last: Gate
    floor: float

    def __call__(self, x: Floats, share: Share) -> Floats:
        """(T, C) -> (2C,)."""
        found = np.empty((2, x.shape[1]), dtype=np.float32)
        beside = self._context(x, share)
        hidden = np.empty((len(x), len(self.first.bias)), dtype=np.float32)

        def strip(rows: slice) -> None:
            y = self.first.of(x[rows]) + beside
            y = y if self.norm is None else self.norm.of(rectified(y))
            np.tanh(y, out=hidden[rows])

        strips(strip, len(x), share, STRIP)

        def column(start: int) -> None:
            at = slice(start, start + COLUMNS)
            weights = hidden @ self.last.weight[:, at]  # the bias is the same for all frames
            weights -= weights.max(axis=0)
            np.exp(weights, out=weights)
            sums, part = total(weights), x[:, at]
            mean = total(weights * part) / sums
            apart = part - mean.astype(np.float32)
            var = total(weights * np.square(apart, out=apart)) / sums
            found[0, at], found[1, at] = mean, np.sqrt(np.maximum(var, self.floor))

        share(column, range(0, x.shape[1], COLUMNS))
        return found.reshape(-1)

    def _context(self, x: Floats, share: Share) -> Floats | float:
        if self.context is None:
            return 0.0
        moments = np.empty((2, x.shape[1]), dtype=np.float32)

        def column(start: int) -> None:
            part = x[:, start : start + COLUMNS]
            mean = total(part) / len(x)
            apart = part - mean.astype(np.float32)
            squares = total(np.square(apart, out=apart))
            biased = np.maximum(squares / len(x), self.floor)
            var = biased if self.biased else squares / (len(x) - 1) + 1e-7
            moments[:, start : start + COLUMNS] = mean, np.sqrt(var)

        share(column, range(0, x.shape[1], COLUMNS))
        made: Floats = moments.reshape(-1) @ self.context
        return made


@dataclass(frozen=True)
class Layers:
    """All layers up to the pooling, and that."""

    first: Layer
    blocks: tuple[Block, ...]
    last: Layer
    pool: Pool

    def __call__(self, features: Floats) -> Floats:
        """(B, T, M) -> (B, 2C)."""
        with one_blas_thread(), np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return stacked(len(features), lambda number, share: self._one(features[number], share))

    def _one(self, x: Floats, share: Share) -> Floats:
        widths = [block.second.width for block in self.blocks]
        found = np.empty((len(x), sum(widths)), dtype=np.float32)
        y = np.empty((len(x), self.first.width), dtype=np.float32)
        self.first(x, y, share)
        for block, end in zip(self.blocks, np.cumsum(widths), strict=True):
            out = found[:, end - block.second.width : end]
            block(y, out, share)
            y = out
        whole = np.empty((len(x), self.last.width), dtype=np.float32)
        self.last(found, whole, share)
        return self.pool(whole, share)


# From the layers ----------------------------------------------------------------------------------


def of(network: Any) -> Layers | None:
    """The form of a ``networks.ecapa.ECAPA``, or None where it would compute otherwise."""
    if not are_plain([*network.blocks, network.mfa, network.asp], (BatchNorm, Conv1d, Linear)):
        return None
    first, *blocks = network.blocks
    return Layers(
        _layer_of(first),
        tuple(_block_of(block) for block in blocks),
        _layer_of(network.mfa),
        _pool_of(network.asp),
    )


def _layer_of(block: Any) -> Layer:
    conv = block.conv
    weight = np.array(conv.weight)
    taps = weight.T[None] if weight.ndim == 2 else weight.transpose(1, 2, 0)
    return Layer(
        np.ascontiguousarray(taps),
        np.array(conv.bias),
        getattr(conv, "dilation", 1),
        getattr(conv, "pads", "") == "reflect",
        _norm_of(block.norm) if "norm" in block else None,
    )


def _norm_of(norm: Any) -> Norm:
    scale, shift = norm.scale_shift()
    return Norm(scale.astype(np.float32), shift.astype(np.float32))


def _gate_of(linear: Any) -> Gate:
    return Gate(np.ascontiguousarray(np.array(linear.weight).T), np.array(linear.bias))


def _block_of(block: Any) -> Block:
    parts, gates = block.res2net_block, block.se_block
    return Block(
        _layer_of(block.tdnn1),
        tuple(_layer_of(part) for part in parts.blocks),
        parts.first_passes,
        _layer_of(block.tdnn2),
        (_gate_of(gates.conv1), _gate_of(gates.conv2)),
        _gate_of(block.shortcut) if "shortcut" in block else None,
    )


def _pool_of(pool: Any) -> Pool:
    first, norm, last = pool.parts()
    gate = _gate_of(first)
    width = len(last.weight)
    frame, beside = gate.weight[:width], gate.weight[width:]
    return Pool(
        Gate(np.ascontiguousarray(frame), gate.bias),
        np.ascontiguousarray(beside) if pool.context else None,
        pool.context == "biased",
        norm and _norm_of(norm),
        _gate_of(last),
        pool.floor,
    )

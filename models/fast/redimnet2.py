"""ReDimNet2's backbone on a CPU, in numpy, one recording at a time.

Images and sequences are the same memory, (T, F, C): a sequence's frame holds all frequencies. In
the blocks an image has a border of zeros, so that a run of its numbers goes on over the ends of
its frames, and every step is done to a block of them that stays in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from samevoice.models.fast import cpu, transformer
from samevoice.models.fast.cpu import Floats, Share, strips
from samevoice.models.fast.depthwise import Taps, repeats
from samevoice.models.fast.resnet import are_plain
from samevoice.models.fast.transformer import Dense, Norm, dense_of, norm_of

FRAMES = 32  # of an image, at once


@dataclass(frozen=True)
class Bordered:
    """An image (T, F, C) with a pixel of zeros around it, and one more before and behind all."""

    flat: Floats
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, shape: tuple[int, int, int]) -> Bordered:
        frames, rows, channels = shape
        size = ((frames + 2) * (rows + 2) + 2) * channels
        return cls(np.zeros(size, dtype=np.float32), shape)

    @property
    def line(self) -> int:
        """Numbers of a frame."""
        return (self.shape[1] + 2) * self.shape[2]

    @property
    def image(self) -> Floats:
        """(T, F + 2, C)."""
        frames, rows, channels = self.shape
        start = channels + self.line
        return self.flat[start : start + frames * self.line].reshape(frames, rows + 2, channels)

    @property
    def inside(self) -> Floats:
        """(T, F, C)."""
        return self.image[:, 1:-1]

    def blocks(self, frames: slice, size: int) -> list[slice]:
        """What holds these frames, in ``flat``."""
        first = self.shape[2] + self.line
        start, end = first + frames.start * self.line, first + frames.stop * self.line
        return [slice(at, min(at + size, end)) for at in range(start, end, size)]


@dataclass(frozen=True)
class Mix:
    """A convolution of each channel alone, and then a matrix between them."""

    taps: Taps
    matrix: Floats  # (C, C), inputs first
    shift: Floats  # repeated to a block, as all that lie along it

    def __call__(self, x: Bordered, block: slice, made: Floats, out: Floats) -> Floats:
        corner = x.flat[block.start - x.line - x.shape[2] :]
        self.taps(corner, x.line, made)
        pixels = made.reshape(-1, x.shape[2])
        np.matmul(pixels, self.matrix, out=out.reshape(pixels.shape))
        out += self.shift[: len(out)]
        return out


@dataclass(frozen=True)
class Block:
    """Two such convolutions; the second norm lies in its matrix."""

    first: Mix
    second: Mix
    scale: Floats  # of the norm behind the first ReLU
    offset: Floats

    def __call__(self, x: Bordered, share: Share) -> Bordered:
        middle, found = Bordered.of(x.shape), Bordered.of(x.shape)
        size = len(self.scale)

        def begin(frames: slice) -> None:
            made = np.empty(size, dtype=np.float32)
            for block in x.blocks(frames, size):
                length = block.stop - block.start
                out = self.first(x, block, made[:length], middle.flat[block])
                np.maximum(out, 0, out=out)
                out *= self.scale[:length]
                out += self.offset[:length]
            middle.image[frames, :: x.shape[1] + 1] = 0

        def end(frames: slice) -> None:
            made = np.empty(size, dtype=np.float32)
            for block in x.blocks(frames, size):
                out = self.second(
                    middle, block, made[: block.stop - block.start], found.flat[block]
                )
                out += x.flat[block]
                np.maximum(out, 0, out=out)
            found.image[frames, :: x.shape[1] + 1] = 0

        strips(begin, x.shape[0], share, FRAMES)
        strips(end, x.shape[0], share, FRAMES)
        return found


# Along time ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A channel's frames, then all channels, added to what came in."""

    taps: Taps
    scale: Floats
    shift: Floats
    dense: Dense

    def __call__(self, x: Floats) -> Floats:
        """(T, C) -> (T, C)."""
        reach = self.taps.reach
        y = self.taps.along(np.pad(x, [(reach, reach), (0, 0)]), slice(0, len(x)))
        y *= self.scale
        y += self.shift
        y = self.dense(cpu.gelu(y, cpu.alone))
        y += x
        return y


@dataclass(frozen=True)
class Context:
    """What comes before and after, added to each frame."""

    reduced: Dense
    norm: Norm
    steps: tuple[Step, ...]
    layer: transformer.Layer
    expanded: Dense

    def __call__(self, x: Floats, share: Share) -> Floats:
        """(T, FC), in place."""
        y = np.empty((len(x), len(self.reduced.bias)), dtype=np.float32)
        strips(lambda rows: self.norm(self.reduced(x[rows], y[rows])), len(x), share)
        for step in self.steps:
            y = step(y)
        (y,) = self.layer(y[None], None, share)

        def expand(rows: slice) -> None:
            x[rows] += self.expanded(y[rows])

        strips(expand, len(x), share)
        return x


# All of it ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    weights: Floats  # (N, FC): of the sequences so far
    taps: Floats  # (down, across, C, C'): pixels that become one
    bias: Floats
    blocks: tuple[Block, ...]
    last: tuple[Floats, Floats] | None  # (C', C''), (C'',): other channels
    context: Context | None

    def __call__(self, heard: Floats, share: Share) -> Floats:
        """(N, T, FC) -> (T', FC)."""
        down, across, inputs, outputs = self.taps.shape
        frames, rows = heard.shape[1] // across, heard.shape[2] // inputs // down
        image = Bordered.of((frames, rows, outputs))

        def begin(part: slice) -> None:
            read = slice(part.start * across, part.stop * across)
            x = _weighed(heard[:, read], self.weights)
            pixels = x.reshape(-1, across, rows, down, inputs)
            made = np.broadcast_to(self.bias, (len(pixels), rows, outputs)).copy()
            for i, j in np.ndindex(down, across):
                made += pixels[:, j, :, i] @ self.taps[i, j]
            image.inside[part] = made

        strips(begin, frames, share, FRAMES)
        for block in self.blocks:
            image = block(image, share)
        found = image.inside
        if self.last is not None:
            found = self._widened(found, *self.last, share)
        sequence = np.ascontiguousarray(found).reshape(frames, -1)
        return sequence if self.context is None else self.context(sequence, share)

    def _widened(self, x: Floats, weight: Floats, bias: Floats, share: Share) -> Floats:
        made = np.empty((*x.shape[:2], len(bias)), dtype=np.float32)

        def work(part: slice) -> None:
            np.matmul(x[part], weight, out=made[part])
            made[part] += bias

        strips(work, len(x), share, FRAMES)
        return made


@dataclass(frozen=True)
class Backbone:
    stem: tuple[Floats, Floats]  # (9, C), (C,)
    norm: Norm
    stages: tuple[Stage, ...]
    strides: tuple[int, ...]
    weights: Floats  # of all sequences

    def __call__(self, features: Floats) -> Floats:
        """(B, T, F) -> the last sequence, (B, T, FC)."""
        with cpu.one_blas_thread():
            return cpu.stacked(len(features), lambda n, share: self._run(features[n], share))

    def _run(self, features: Floats, share: Share) -> Floats:
        frames, rows = features.shape
        width = rows * len(self.stem[1])
        heard = np.empty((len(self.stages) + 1, frames, width), dtype=np.float32)
        padded = np.pad(features, 1)
        windows = as_strided(padded, (frames, rows, 3, 3), (*padded.strides, *padded.strides))

        def begin(part: slice) -> None:
            pixels = windows[part].reshape(-1, 9) @ self.stem[0]
            pixels += self.stem[1]
            heard[0, part] = self.norm(pixels).reshape(-1, width)

        strips(begin, frames, share, FRAMES)
        for number, (stage, stride) in enumerate(zip(self.stages, self.strides, strict=True)):
            made = stage(heard[: number + 1], share)
            heard[number + 1].reshape(-1, stride, width)[...] = made[:, None]
        found = np.empty((frames, width), dtype=np.float32)

        def weigh(part: slice) -> None:
            found[part] = _weighed(heard[:, part], self.weights)

        strips(weigh, frames, share)
        return found


def _weighed(heard: Floats, weights: Floats) -> Floats:
    """(N, T, FC), (N, FC) -> (T, FC)."""
    found: Floats = np.einsum("ntc,nc->tc", heard, weights)
    return found


# From the layers ----------------------------------------------------------------------------------


def of(backbone: Any, kinds: tuple[type, ...]) -> Backbone | None:
    """The form of a ``networks.redimnet2.Backbone``, or None where it would compute otherwise."""
    if not are_plain([backbone], kinds):
        return None
    stem, norm, _ = backbone.stem
    weight = np.array(stem.weight)[..., 0]  # (C, F, T), and frames come first here
    taps = np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(9, -1)
    layers = [backbone[f"stage{number}"] for number in range(len(backbone.strides))]
    blocks = (one for stage in layers for one in stage if "conv1pw" in one)
    if any(one.conv1.weight.shape[-1] > 1 for one in blocks):  # several channels together
        return None
    return Backbone(
        (taps, np.array(stem.bias)),
        norm_of(norm),
        tuple(map(_stage, layers)),
        tuple(backbone.strides),
        np.array(backbone.fin_wght1d.shares),
    )


def _stage(layers: Sequence[Any]) -> Stage:
    weigh, _, stride, *rest = layers
    last = next((_folded(*one) for one in rest if isinstance(one, list)), None)
    context = next((one for one in rest if "red_dim_conv" in one), None)
    return Stage(
        np.array(weigh.shares),
        _dense_taps(stride),
        np.array(stride.bias),
        tuple(_block(one) for one in rest if "conv1pw" in one),
        last,
        None if context is None else _context(context),
    )


def _dense_taps(conv: Any) -> Floats:
    """(down, across, I, O), zeros where a group does not hear the other's channels."""
    weight = np.array(conv.weight)
    outputs, down, across, inputs = weight.shape
    each = outputs // conv.groups
    taps = np.zeros((down, across, inputs * conv.groups, outputs), dtype=np.float32)
    for group in range(conv.groups):
        own = slice(group * each, (group + 1) * each)
        taps[:, :, group * inputs : (group + 1) * inputs, own] = weight[own].transpose(1, 2, 3, 0)
    return taps


def _block(block: Any) -> Block:
    scale, offset = block.bn1.scale_shift()
    first, second = _matrix(block.conv1pw), _folded(block.conv2pw, block.bn2)
    times = repeats(len(scale))
    return Block(
        Mix(_taps(block.conv1), first[0], np.tile(first[1], times)),
        Mix(_taps(block.conv2), second[0], np.tile(second[1], times)),
        np.tile(scale.astype(np.float32), times),
        np.tile(offset.astype(np.float32), times),
    )


def _taps(conv: Any) -> Taps:
    return Taps.of(np.array(conv.weight)[..., 0].swapaxes(1, 2))


def _matrix(linear: Any) -> tuple[Floats, Floats]:
    return np.ascontiguousarray(np.array(linear.weight).T), np.array(linear.bias)


def _folded(linear: Any, norm: Any) -> tuple[Floats, Floats]:
    """A linear layer, inputs first, and the norm behind it."""
    scale, shift = norm.scale_shift()
    weight, bias = (np.array(one).astype(np.float64) for one in (linear.weight, linear.bias))
    folded = np.ascontiguousarray((weight * scale[:, None]).T, dtype=np.float32)
    return folded, (bias * scale + shift).astype(np.float32)


def _context(context: Any) -> Context:
    reduced, norm = context.red_dim_conv
    *steps, layer = context.tcm
    return Context(
        dense_of(reduced),
        norm_of(norm),
        tuple(map(_step, steps)),
        transformer.layer_of(layer, cpu.gelu_tanh),
        dense_of(context.exp_dim_conv),
    )


def _step(block: Any) -> Step:
    (conv,) = block.dwconvs
    scale, shift = block.norm.scale_shift()
    taps = Taps.of(np.array(conv.weight).swapaxes(1, 2))
    shift = np.array(conv.bias).astype(np.float64) * scale + shift
    return Step(taps, scale.astype(np.float32), shift.astype(np.float32), dense_of(block.pwconv1))

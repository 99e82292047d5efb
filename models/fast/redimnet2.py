"""ReDimNet2's backbone on a CPU, in numpy, one recording at a time.

Images and sequences are the same memory, (T, F, C): a sequence's frame holds all frequencies. In
the blocks an image has a border of zeros, so that a run of its numbers goes on over the ends of
its frames, and every step of a strip of frames is one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from samevoice.models.fast import cpu, transformer
from samevoice.models.fast.cpu import Floats, Share, strips
from samevoice.models.fast.depthwise import Taps
from samevoice.models.fast.resnet import are_plain
from samevoice.models.fast.transformer import Dense, Norm, dense_of, norm_of

# Of an image, at once. Between any two calls a thread may wait for the interpreter: with a quarter
# of these two threads took as long as one.
NUMBERS = 1 << 17
TINY = 1e-20  # in place of smaller scales, by which nothing can be divided


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

    def lines(self, frames: slice) -> Floats:
        """What holds these frames, (N, a line)."""
        return self.image[frames].reshape(-1, self.line)

    def corner(self, frames: slice) -> Floats:
        """From where the first tap of these frames reads."""
        return self.flat[frames.start * self.line :]

    def clear(self, frames: slice) -> None:
        """Zeros into these frames' border again, after a run over their ends."""
        self.image[frames, :: self.shape[1] + 1] = 0

    def strips(self, work: Callable[[slice], object], share: Share) -> None:
        """About ``NUMBERS`` at once, all about alike."""
        frames = self.shape[0]
        count = -(-frames * self.line // NUMBERS)
        strips(work, frames, share, -(-frames // (count + count % 2)))


class Scratch(local):
    """Arrays of a thread's own, as long as any that it wanted: fresh memory is slow at first."""

    def __init__(self, count: int) -> None:
        self.kept = np.empty((count, 0), dtype=np.float32)

    def __call__(self, size: int) -> Floats:
        if self.kept.shape[1] < size:
            self.kept = np.empty((len(self.kept), size), dtype=np.float32)
        return self.kept[:, :size]


@dataclass(frozen=True)
class Mix:
    """A convolution of each channel alone, and then a matrix between them."""

    taps: Taps
    matrix: Floats  # (C, C), inputs first

    def __call__(self, x: Bordered, frames: slice, made: Floats, out: Floats) -> None:
        """Into ``out`` (N, a line)."""
        channels = x.shape[2]
        self.taps(x.corner(frames), x.line, made)
        np.matmul(made.reshape(-1, channels), self.matrix, out=out.reshape(-1, channels))


@dataclass(frozen=True)
class Block:
    """Two such convolutions.

    Behind the first one stand ReLU and a norm. The norm's scale lies in the second one's taps, and
    the second norm in its matrix.
    """

    first: Mix
    floor: Floats  # below which ReLU gives 0, each channel; repeated to a line, as what follows
    offset: Floats
    second: Mix
    shift: Floats

    def __call__(self, x: Bordered, middle: Bordered, scratch: Scratch, share: Share) -> None:
        """In place."""

        # A bias is added behind ReLU: numpy is slower where it compares with a single number.
        def begin(part: slice) -> None:
            out = middle.lines(part)
            self.first(x, part, scratch(out.size)[0], out)
            np.maximum(out, self.floor, out=out)
            out += self.offset
            middle.clear(part)

        def end(part: slice) -> None:
            out = x.lines(part)
            made, found = scratch(out.size)
            found = found.reshape(out.shape)
            self.second(middle, part, made, found)
            found += out
            np.maximum(found, -self.shift, out=found)
            np.add(found, self.shift, out=out)
            x.clear(part)

        for half in (begin, end):
            x.strips(half, share)


# Along time ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A channel's frames, then all channels, added to what came in."""

    taps: Taps
    shift: Floats
    dense: Dense

    def __call__(self, x: Floats) -> Floats:
        """(T, C) -> (T, C)."""
        reach = self.taps.reach
        y = self.taps.along(np.pad(x, [(reach, reach), (0, 0)]), slice(0, len(x)))
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
    taps: Floats  # (across, down * C, C'): pixels that become one
    bias: Floats  # (F', C'), and a border of zeros: a line
    blocks: tuple[Block, ...]
    last: tuple[Floats, Floats] | None  # (C', C''), (C'',), repeated: other channels
    context: Context | None

    def __call__(self, heard: Floats, share: Share) -> Floats:
        """(N, T, FC) -> (T', FC)."""
        across, inputs, outputs = self.taps.shape
        shape = (heard.shape[1] // across, heard.shape[2] // inputs, outputs)
        image, middle, scratch = Bordered.of(shape), Bordered.of(shape), Scratch(2)

        def begin(part: slice) -> None:
            x = _weighed(heard[:, part.start * across : part.stop * across], self.weights)
            pixels = x.reshape(-1, across, shape[1], inputs)
            first, *others = (pixels[:, j] @ tap for j, tap in enumerate(self.taps))
            image.inside[part] = sum(others, first)
            image.lines(part)[...] += self.bias

        image.strips(begin, share)
        for block in self.blocks:
            block(image, middle, scratch, share)
        sequence = np.empty((shape[0], heard.shape[2]), dtype=np.float32)
        image.strips(lambda part: self._end(image.inside[part], sequence[part]), share)
        return sequence if self.context is None else self.context(sequence, share)

    def _end(self, x: Floats, out: Floats) -> None:
        """(T, F, C) -> (T, FC'), all written."""
        if self.last is None:
            out.reshape(x.shape)[...] = x
        else:
            weight, bias = self.last
            np.matmul(x, weight, out=out.reshape(*x.shape[:2], -1))
            out += bias


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

        strips(begin, frames, share)
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
    weigh, to2d, stride, *rest = layers
    taps = _dense_taps(stride)
    rows = to2d.rows // len(taps)
    last = next((_folded(*one) for one in rest if isinstance(one, list)), None)
    context = next((one for one in rest if "red_dim_conv" in one), None)
    return Stage(
        np.array(weigh.shares),
        np.concatenate(list(taps), axis=1),
        np.pad(np.tile(np.array(stride.bias), (rows, 1)), [(1, 1), (0, 0)]).reshape(-1),
        tuple(_block(one, rows + 2) for one in rest if "conv1pw" in one),
        None if last is None else (last[0], np.tile(last[1], rows)),
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


def _block(block: Any, line: int) -> Block:
    """``line``: so many pixels."""
    first, second = ((_taps(block[f"conv{n}"]), block[f"conv{n}pw"]) for n in (1, 2))
    scale, offset = block.bn1.scale_shift()
    scale = np.where(np.abs(scale) < TINY, TINY, scale)
    bias = np.array(first[1].bias, np.float64)
    scaled = (second[0] * scale[:, None, None]).astype(np.float32)
    weight, shift = _folded(second[1], block.bn2)
    return Block(
        Mix(Taps.of(first[0], line), np.ascontiguousarray(np.array(first[1].weight).T)),
        np.tile(-bias.astype(np.float32), line),
        np.tile((bias + offset / scale).astype(np.float32), line),
        Mix(Taps.of(scaled, line), weight),
        np.tile(shift, line),
    )


def _taps(conv: Any) -> Floats:
    """(C, across, down)."""
    return np.array(conv.weight)[..., 0].swapaxes(1, 2)


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
    taps = Taps.of((np.array(conv.weight) * scale[:, None, None]).astype(np.float32).swapaxes(1, 2))
    shift = np.array(conv.bias).astype(np.float64) * scale + shift
    return Step(taps, shift.astype(np.float32), dense_of(block.pwconv1))

"""Convolutions along time on a CPU as few large products, and a wav2vec front in strips of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from samevoice.models.fast import cpu
from samevoice.models.fast.cpu import Floats

STRIP = 32  # frames at a time, so that what lies between two steps stays in the cache


@dataclass(frozen=True)
class Filters:
    """A convolution (O, K, I) without padding, as blocks of as many taps as the stride has.

    The rows of a block lie side by side in memory, so that it is one product.
    """

    blocks: tuple[Floats, ...]  # (taps * I, O) each
    kernel: int
    inputs: int
    stride: int

    @classmethod
    def of(cls, weight: Floats, stride: int) -> Filters:
        outputs, kernel, inputs = weight.shape
        # Of few numbers it costs nothing to write them out, and all taps are one product.
        step = kernel if inputs == 1 else stride
        parts = (weight[:, start : start + step] for start in range(0, kernel, step))
        blocks = tuple(np.ascontiguousarray(part.reshape(outputs, -1).T) for part in parts)
        return cls(blocks, kernel, inputs, stride)

    def frames(self, samples: int) -> int:
        return 1 + (samples - self.kernel) // self.stride

    def __call__(self, x: Floats, frames: int) -> Floats:
        """(T, I) -> (frames, O)."""
        found: Floats | None = None
        for number, block in enumerate(self.blocks):
            rows = self.windows(x[number * self.stride :], frames, block.shape[0])
            rows = np.ascontiguousarray(rows) if self.inputs == 1 else rows
            found = rows @ block if found is None else np.add(found, rows @ block, out=found)
        assert found is not None
        return found

    def windows(self, x: Floats, frames: int, width: int) -> Floats:
        """(frames, width): so many numbers from each step on."""
        size = x.itemsize
        return as_strided(x, (frames, width), (self.stride * self.inputs * size, size))


def conv1d(x: Floats, weight: Floats, stride: int) -> Floats:
    """(B, T, I), (O, K, I) -> (B, T', O), without padding."""
    x = np.ascontiguousarray(x)
    filters = Filters.of(weight, stride)
    return np.stack([filters(one, filters.frames(x.shape[1])) for one in x])


def grouped(x: Floats, weight: Floats, padding: int, groups: int) -> Floats:
    """(B, T, I), (O, K, I / groups) -> (B, T', O): all taps of a group in one product."""
    outputs, kernel, inputs = weight.shape
    x, (batch, length, _) = np.ascontiguousarray(x), x.shape
    frames, each = length + 2 * padding - kernel + 1, outputs // groups
    found = np.empty((batch, frames, outputs), dtype=np.float32)
    filters = weight.reshape(groups, each, kernel * inputs)
    size = x.itemsize

    def work(number: int) -> None:
        item, group = divmod(number, groups)
        part = x[item, :, group * inputs : (group + 1) * inputs]
        padded = np.pad(part, [(padding, padding), (0, 0)])
        windows = as_strided(padded, (frames, kernel * inputs), (inputs * size, size))
        made = np.ascontiguousarray(windows) @ filters[group].T
        found[item, :, group * each : (group + 1) * each] = made

    with cpu.one_blas_thread():
        cpu.shared()(work, range(batch * groups))
    return found


# The front of wav2vec networks --------------------------------------------------------------------


@dataclass(frozen=True)
class FrontLayer:
    """A convolution, the norm of each frame behind it if there is one, then GELU."""

    filters: Filters
    bias: Floats | None = None
    norm: tuple[Floats, Floats] | None = None
    epsilon: float = 1e-5

    def __call__(self, x: Floats, frames: int) -> Floats:
        y = self.filters(x, frames)
        if self.bias is not None:
            y += self.bias
        if self.norm is not None:
            y = cpu.layer_norm(y, self.norm, self.epsilon)
        return cpu.gelu(y, cpu.alone)

    def normed_over_time(self, x: Floats, frames: int, norm: tuple[Floats, Floats]) -> FrontLayer:
        """With the norm of each channel over all of (N, 1) folded in.

        The outputs' means and variances follow from those of the few samples under the kernel, so
        nobody needs to compute the outputs first.
        """
        own = self.filters
        windows = own.windows(x, frames, own.kernel).astype(np.float64)
        filters, mean = own.blocks[0].T.astype(np.float64), windows.mean(axis=0)
        windows -= mean
        spread = windows.T @ windows / frames
        variances = np.einsum("ok,kl,ol->o", filters, spread, filters)
        scale = norm[0] / np.sqrt(variances + self.epsilon)
        weight = (filters * scale[:, None]).astype(np.float32)[:, :, None]
        bias = (norm[1] - scale * (filters @ mean)).astype(np.float32)
        return FrontLayer(Filters.of(weight, own.stride), bias)


@dataclass(frozen=True)
class Front:
    """(B, N) -> (B, T, C); ``over_time`` is the norm behind the first layer, where it is one."""

    layers: Sequence[FrontLayer]
    over_time: tuple[Floats, Floats] | None = None

    def __call__(self, waveforms: Floats) -> Floats:
        lengths = [waveforms.shape[1]]
        for layer in self.layers:
            lengths.append(layer.filters.frames(lengths[-1]))
        channels = self.layers[-1].filters.blocks[0].shape[1]
        found = np.empty((len(waveforms), lengths[-1], channels), dtype=np.float32)
        firsts = [self._first(one[:, None], lengths[1]) for one in waveforms]
        starts = range(0, lengths[-1], STRIP)

        def work(number: int) -> None:
            item, strip = divmod(number, len(starts))
            start, end = starts[strip], min(starts[strip] + STRIP, lengths[-1])
            layers = [firsts[item], *self.layers[1:]]
            found[item, start:end] = _strip(layers, waveforms[item][:, None], start, end)

        with cpu.one_blas_thread():
            cpu.shared()(work, range(len(waveforms) * len(starts)))
        return found

    def _first(self, x: Floats, frames: int) -> FrontLayer:
        first = self.layers[0]
        norm = self.over_time
        return first if norm is None else first.normed_over_time(x, frames, norm)


def _strip(layers: Sequence[FrontLayer], x: Floats, start: int, end: int) -> Floats:
    """Frames from ``start`` to ``end`` of what the layers make of (N, 1)."""
    counts = []
    count = end - start
    for layer in reversed(layers):
        counts.append(count)
        stride = layer.filters.stride
        count, start = (count - 1) * stride + layer.filters.kernel, start * stride
    x = x[start : start + count]
    for layer, frames in zip(layers, reversed(counts), strict=True):
        x = layer(x, frames)
    return x

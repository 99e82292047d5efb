"""SincNet on a CPU, in numpy: chunks that overlap share their filters, and all share the cores.

The usual step leaves nine tenths of each chunk in the next one, and the eighty filters are most of
SincNet's work. They are linear, so that they run once over the audio as it is; each chunk's own
level, which its first norm takes away, follows behind them. Measured on eight chunks at the usual
step (2 cores, both busy): a fifth of the processor time of MLX's operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mlx.nn.layers.convolution import Conv1d
from numpy.typing import NDArray

from samevoice.models.fast.cpu import (
    Floats,
    Share,
    alone,
    cores,
    one_blas_thread,
    stacked,
    together,
)
from samevoice.models.fast.resnet import are_plain
from samevoice.models.layers import EPSILON, InstanceNorm, as_float64
from samevoice.models.layers.sincnet import SincConv, SincNet

Doubles = NDArray[np.float64]

# Rows of a convolution that are gathered at once, so that they and their product stay in the cache.
# They begin at fixed places: how a row is rounded depends on where in a product it lies, and the
# number of cores must not show.
STRIP = 480
# Products that are added up in one go. Of 251 in four parts half as much is rounded off, for a
# twentieth more time.
PART = 64
# A chunk whose mean is larger than this share of its deviation is filtered for itself, behind its
# mean: what the filters round off goes by the whole, and they would lose digits to the mean.
LEVEL = 0.3
POOL = 3


@dataclass(frozen=True)
class Norm:
    """An instance norm's weight and bias, (C,) each."""

    weight: Doubles
    bias: Doubles


@dataclass(frozen=True)
class CpuSincNet:
    """The filters and convolutions as (K * I, O), each with the norm behind it.

    The convolutions' biases are not here: the norms behind them take them away.
    """

    level: Norm
    filters: Floats
    stride: int
    convs: tuple[Floats, ...]
    norms: tuple[Norm, ...]

    def __call__(self, waveforms: Floats) -> Floats:
        """(B, N) -> (B, T, 60). Rows that overlap in memory share the filters."""
        count, size = waveforms.shape
        step = overlap(waveforms)
        whole: Floats | None = None

        def one(number: int, share: Share) -> Floats:
            filtered = None
            if whole is not None:
                start = number * step // self.stride
                filtered = whole[start : start + _rows(size, len(self.filters), self.stride)]
            return self._one(waveforms[number], filtered, share)

        with one_blas_thread():
            if step and step % self.stride == 0:
                run = samples_of(waveforms, step)
                share = together if cores() > 1 else alone
                whole = convolved(run[:, None], self.filters, share, self.stride)
            return stacked(count, one)

    def _one(self, waveform: Floats, filtered: Floats | None, share: Share) -> Floats:
        """(N,), its filters' outputs where they are known -> (T, 60)."""
        samples = waveform[:, None]
        mean, deviation = moments(samples)
        samples = seen(samples, self.filters, self.stride)
        if abs(mean[0]) > LEVEL * deviation[0]:
            taken = mean.astype(np.float32)
            mean = mean - taken
            filtered = convolved(samples - taken, self.filters, share, self.stride)
        elif filtered is None:
            filtered = convolved(samples, self.filters, share, self.stride)
        scale = self.level.weight / np.sqrt(deviation**2 + EPSILON)
        shift = (self.level.bias - mean * scale) * self.filters.sum(axis=0, dtype=np.float64)
        x = normed(pooled_sizes(filtered, scale, shift), self.norms[0])
        for conv, norm in zip(self.convs, self.norms[1:], strict=True):
            x = normed(pooled(convolved(seen(x, conv), conv, share)), norm)
        return x


def overlap(waveforms: Floats) -> int:
    """How many samples one row begins after the last, where both lie in the same memory, or 0."""
    (count, size), (row, sample) = waveforms.shape, waveforms.strides
    shared = count > 1 and sample == waveforms.itemsize and 0 < row < size * sample
    return row // sample if shared else 0


def samples_of(rows: Floats, step: int) -> Floats:
    """What rows lie in that begin so many samples after each other: (B, N) -> (M,)."""
    return np.concatenate([rows[:-1, :step].reshape(-1), rows[-1]])


# Layers -------------------------------------------------------------------------------------------


def _rows(size: int, width: int, stride: int) -> int:
    return 1 + (size - width) // stride


def seen(x: Floats, weight: Floats, stride: int = 1) -> Floats:
    """(T, I), (K * I, O): without the last frames, which reach nothing that is pooled."""
    kernel = len(weight) // x.shape[1]
    pooled_rows = _rows(len(x), kernel, stride) // POOL * POOL
    return x[: kernel + stride * (pooled_rows - 1)]


def convolved(x: Floats, weight: Floats, share: Share, stride: int = 1) -> Floats:
    """(T, I), (K * I, O) -> (T', O)."""
    inputs, (width, outputs) = x.shape[1], weight.shape
    # A window over frames is one unbroken run of numbers.
    flat = np.ascontiguousarray(x).reshape(-1)
    windows = np.lib.stride_tricks.sliding_window_view(flat, width)[:: stride * inputs]
    count = len(windows)
    made = np.zeros((count, outputs), dtype=np.float32)

    def work(start: int) -> None:
        strip = slice(start, start + STRIP)
        for first in range(0, width, PART):
            part = slice(first, first + PART)
            made[strip] += np.ascontiguousarray(windows[strip, part]) @ weight[part]

    share(work, range(0, count, STRIP))
    for first, last in still(x, width // inputs, stride):
        made[first:last] = made[first]
    return made


def still(x: Floats, kernel: int, stride: int) -> Iterator[tuple[int, int]]:
    """Where nothing varies: the runs of windows, from the first to behind the last, that are one.

    A BLAS rounds a row by where in a product it lies. Behind digital silence each norm takes that
    times 300, and with trained weights somebody was heard in it.
    """
    # Almost always one channel tells that there is none.
    if _longest(_edges(x[:, :1])) <= kernel:
        return
    edges = _edges(x)
    for run in np.flatnonzero(np.diff(edges) > kernel):
        yield -(-edges[run] // stride), 1 + (edges[run + 1] - kernel) // stride


def _edges(x: Floats) -> NDArray[np.int64]:
    """Where frames begin to be other ones, and the end."""
    changed = (x[1:] != x[:-1]).any(axis=1) if x.shape[1] > 1 else x[1:, 0] != x[:-1, 0]
    return np.concatenate([[0], np.flatnonzero(changed) + 1, [len(x)]])


def _longest(edges: NDArray[np.int64]) -> int:
    return int(np.diff(edges).max())


def pooled(x: Floats) -> Floats:
    """(T, C) -> (T // 3, C): the largest of each three."""
    first, second, third = _threes(x)
    most = np.maximum(first, second)
    return np.maximum(most, third, out=most)


def pooled_sizes(x: Floats, scale: Doubles, shift: Doubles) -> Floats:
    """(T, C) -> (T // 3, C): the largest size, of each three, of x * scale + shift."""
    # It belongs to the largest number or to the least, and rounding keeps their order: the same
    # bytes from two thirds of the arithmetic.
    first, second, third = _threes(x)
    least = np.minimum(first, second)
    np.minimum(least, third, out=least)
    most = pooled(x)
    for ends in (most, least):
        ends *= scale.astype(np.float32)
        ends += shift.astype(np.float32)
        np.abs(ends, out=ends)
    return np.maximum(most, least, out=most)


def _threes(x: Floats) -> Sequence[Floats]:
    count = len(x) // POOL
    apart = x[: POOL * count].reshape(count, POOL, -1)
    return [apart[:, place] for place in range(POOL)]


def normed(x: Floats, norm: Norm) -> Floats:
    """(T, C) to mean 0 and variance 1 over time, scaled, and leaky: x itself is written to."""
    mean = (total(x) / len(x)).astype(np.float32)
    x -= mean
    # What the first mean was rounded by would be magnified 300 times where a channel is constant.
    rest, deviation = moments(x)
    scale = norm.weight / np.sqrt(deviation**2 + EPSILON)
    x *= scale.astype(np.float32)
    x += (norm.bias - rest * scale).astype(np.float32)
    return leaky(x)


def leaky(x: Floats) -> Floats:
    """The leaky ReLU; x itself is written to."""
    np.maximum(x, x * np.float32(0.01), out=x)
    return x


def moments(x: Floats) -> tuple[Doubles, Doubles]:
    """(T, C) -> mean and (biased) deviation over time, (C,) each."""
    mean = total(x) / len(x)
    taken = mean.astype(np.float32)
    centred = x - taken
    variance = total(np.square(centred, out=centred)) / len(x) - np.square(mean - taken)
    return mean, np.sqrt(np.maximum(variance, 0))


def total(x: Floats) -> Doubles:
    """(T, C) -> (C,): short runs in float32, and these in float64."""
    step = max(1, int(np.sqrt(len(x))))
    whole = len(x) - len(x) % step
    runs = x[:whole].reshape(whole // step, step, -1).sum(axis=1)
    found: Doubles = np.concatenate([runs, x[whole:]]).sum(axis=0, dtype=np.float64)
    return found


# From the layers ----------------------------------------------------------------------------------


def of(sincnet: SincNet) -> CpuSincNet | None:
    """The form of a ``SincNet``, or None where it would compute otherwise."""
    if not are_plain([sincnet], (SincConv, Conv1d, InstanceNorm)):
        return None
    first, *convs = sincnet.conv
    norms = (sincnet.wav_norm, *sincnet.norm)
    level, *behind = (Norm(as_float64(norm.weight), as_float64(norm.bias)) for norm in norms)
    return CpuSincNet(
        level,
        np.ascontiguousarray(np.array(first.filters()).T),
        first.stride,
        tuple(flat_kernel(np.array(conv.weight)) for conv in convs),
        tuple(behind),
    )


def flat_kernel(weight: Floats) -> Floats:
    """(O, K, I) -> (K * I, O)."""
    return np.ascontiguousarray(weight.reshape(len(weight), -1).T)

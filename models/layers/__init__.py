"""Small layers that both networks share. Images are (B, F, T, C): frequency by time."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import mlx.core as mx
import numpy as np
from mlx.nn.layers import base
from mlx.utils import tree_flatten

from samevoice.models import backend, fast
from samevoice.models.fast import cpu

EPSILON = 1e-5  # of torch's normalisations, all of them


class Module(base.Module):
    """MLX's module with the annotations it lacks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def parameters(self) -> dict[str, Any]:
        tree: dict[str, Any] = super().parameters()  # type: ignore[no-untyped-call]
        return tree

    @property
    def arrays(self) -> list[mx.array]:
        """Every weight, in the order of their names."""
        return arrays_of(self)


def named_arrays(module: base.Module) -> dict[str, mx.array]:
    """Every weight of any MLX module, in the order of their names."""
    return dict(tree_flatten(module.parameters()))  # type: ignore[no-untyped-call]


def arrays_of(module: base.Module) -> list[mx.array]:
    return list(named_arrays(module).values())


Form = TypeVar("Form")


class Kept(Generic[Form]):
    """What was made of weights: made again once another array is in the place of one.

    A weight that is changed in place is not noticed.
    """

    def __init__(self) -> None:
        self._weights: Sequence[mx.array] = ()  # alive, so that no other array gets its identity
        self._made: tuple[list[Hashable], Form] | None = None

    def of(
        self, weights: Sequence[mx.array], make: Callable[[], Form], key: Hashable = None
    ) -> Form:
        wanted = [key, *map(id, weights)]
        if self._made is None or self._made[0] != wanted:
            self._weights, self._made = weights, (wanted, make())
        return self._made[1]

    @property
    def made(self) -> Form | None:
        """The last one, if there is any."""
        return self._made and self._made[1]


def total(x: mx.array, axis: int) -> mx.array:
    """The sum over one axis: first in short runs, then pair by pair, so that little is rounded off.

    One long run of n float32 numbers loses about sqrt(n / 3) roundings, this about two. A GPU sums
    up in pairs by itself.
    """
    x = x.swapaxes(axis, 0)
    step = max(1, math.isqrt(x.shape[0]))
    whole = x.shape[0] - x.shape[0] % step
    runs = x[:whole].reshape(whole // step, step, *x.shape[1:]).sum(axis=1)
    runs = mx.concatenate([runs, x[whole:]])
    if not backend.on_cpu():
        return runs.sum(axis=0, keepdims=True).swapaxes(axis, 0).squeeze(axis)
    while (count := runs.shape[0]) > 1:
        half = count // 2
        runs = mx.concatenate([runs[:half] + runs[half : 2 * half], runs[2 * half :]])
    return runs.swapaxes(axis, 0).squeeze(axis)


class InstanceNorm(Module):
    """Each channel of each item to mean 0 and (biased) variance 1 over time, then scaled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = mx.ones((channels,))
        self.bias = mx.zeros((channels,))

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, C) -> (B, T, C)."""
        # Sums over 160,000 samples do not fit float16: the statistics are float32 always.
        # Centred twice: a constant channel (silence) has no variance, so that what the first mean
        # was rounded by would be magnified 300 times; the second takes it away.
        centred = x.astype(mx.float32)
        for _ in range(2):
            centred = centred - (total(centred, 1) / x.shape[1])[:, None]
        var = (total(centred * centred, 1) / x.shape[1])[:, None]
        y = centred * (self.weight / mx.sqrt(var + EPSILON)) + self.bias
        return y.astype(x.dtype)


class LayerNorm(Module):
    """Each frame to mean 0 and (biased) variance 1 over its channels, then scaled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = mx.ones((channels,)), mx.zeros((channels,))

    def __call__(self, x: mx.array) -> mx.array:
        """(..., C) -> (..., C)."""
        if fast.on_cpu():  # MLX's own sums lose digits there
            wide, *rest = (np.array(y.astype(mx.float32)) for y in (x, self.weight, self.bias))
            return mx.array(cpu.layer_norm(wide, (rest[0], rest[1]), EPSILON), dtype=x.dtype)
        return mx.fast.layer_norm(x, self.weight, self.bias, EPSILON)


class BatchNorm(Module):
    """Batch normalisation as it runs after training: by the running statistics, never the batch's.

    (..., C) -> (..., C).
    """

    def __init__(self, channels: int, affine: bool = True, eps: float = EPSILON) -> None:
        super().__init__()
        self.eps = eps
        if affine:
            self.weight = mx.ones((channels,))
            self.bias = mx.zeros((channels,))
        self.running_mean = mx.zeros((channels,))
        self.running_var = mx.ones((channels,))
        self._kept: Kept[tuple[mx.array, mx.array]] = Kept()

    def __call__(self, x: mx.array) -> mx.array:
        scale, shift = self._kept.of(self.arrays, lambda: self._as(x.dtype), x.dtype)
        return x * scale + shift

    def _as(self, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        scale, shift = self.scale_shift()
        return mx.array(scale, dtype=dtype), mx.array(shift, dtype=dtype)

    def scale_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """(C,), (C,) in float64, so that BatchNorm is ``x * scale + shift``."""
        mean, var = as_float64(self.running_mean), as_float64(self.running_var)
        scale = 1.0 / np.sqrt(var + self.eps)
        if "weight" not in self:
            return scale, -mean * scale
        scale = scale * as_float64(self.weight)
        return scale, as_float64(self.bias) - mean * scale


class Conv1d(Module):
    """An odd convolution along time: (B, T, I) -> (B, T', O).

    Padded so that a stride of 1 keeps the frames: with "zeros", or with what lies before the edge,
    in a mirror ("reflect"). With "nothing" it is not padded.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
        pads: str = "zeros",
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs * kernel)
        self.weight = mx.random.uniform(-bound, bound, (outputs, kernel, inputs))
        if bias:
            self.bias = mx.random.uniform(-bound, bound, (outputs,))
        self.stride, self.dilation, self.pads = stride, dilation, pads
        self.padding = 0 if pads == "nothing" else kernel // 2 * dilation

    def __call__(self, x: mx.array) -> mx.array:
        padding = self.padding
        if self.pads == "reflect":
            x, padding = reflected(x, padding), 0
        if fast.on_cpu():
            y = cpu.conv1d(x, self.weight, self.stride, self.dilation, padding)
        else:
            y = mx.conv1d(x, self.weight, self.stride, padding, self.dilation)
        return y + self.bias if "bias" in self else y


def reflected(x: mx.array, reach: int) -> mx.array:
    """(B, T, C) -> (B, T + 2 * reach, C): the frames before each edge once more, in a mirror."""
    if x.shape[1] <= reach:
        raise ValueError(f"{x.shape[1]} frames, but {reach} are reflected at either end")
    return x[:, mx.array(np.pad(np.arange(x.shape[1]), reach, "reflect"))] if reach else x


class Conv2d(Module):
    """A square, odd convolution, padded, without bias: (B, F, T, I) -> (B, F', T', O).

    The stride is that of frequency, then that of time.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs * kernel * kernel)
        self.weight = mx.random.uniform(-bound, bound, (outputs, kernel, kernel, inputs))
        self.stride, self.padding = stride, kernel // 2

    def __call__(self, x: mx.array) -> mx.array:
        # One input channel makes shifted products of a vector: the plain form is the fast one.
        if fast.on_cpu() and self.weight.shape[-1] > 1:
            return cpu.conv2d(x, self.weight, self.stride)
        return mx.conv2d(x, self.weight, stride=self.stride, padding=self.padding)


def relu(x: mx.array) -> mx.array:
    return mx.maximum(x, 0)


def leaky_relu(x: mx.array) -> mx.array:
    """Negative values shrink to a hundredth, they do not vanish (torch's default slope)."""
    return mx.maximum(x, 0.01 * x)


def gelu(x: mx.array) -> mx.array:
    """By the error function, not by tanh."""
    if fast.on_cpu():
        return mx.array(cpu.gelu(np.array(x.astype(mx.float32))), dtype=x.dtype)
    return x * 0.5 * (1 + mx.erf(x * math.sqrt(0.5)))


def silu(x: mx.array) -> mx.array:
    if fast.on_cpu():
        wide = np.asarray(x.astype(mx.float32))
        return mx.array(cpu.gated(wide, wide), dtype=x.dtype)
    return x * mx.sigmoid(x)


def glu(x: mx.array) -> mx.array:
    """(..., 2C) -> (..., C): the first half, as much of it as the second lets through."""
    if fast.on_cpu():
        wide = np.asarray(x.astype(mx.float32))
        half = x.shape[-1] // 2
        return mx.array(cpu.gated(wide[..., :half], wide[..., half:]), dtype=x.dtype)
    values, gates = mx.split(x, 2, axis=-1)
    return values * mx.sigmoid(gates)


def as_float64(x: mx.array) -> np.ndarray:
    """Onto the host, in float64."""
    return np.array(x.astype(mx.float32)).astype(np.float64)

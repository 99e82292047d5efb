"""Products of matrices, convolutions and attention, channels last."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from samevoice.models import fast
from samevoice.models.fast import cpu
from samevoice.models.fast.depthwise import depthwise
from samevoice.models.nn.activations import softmax

Pair = int | tuple[int, ...]


def bilinear(x: mx.array, y: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
    """(..., I), (..., J), (O, I, J) -> (..., O)."""
    made = mx.einsum("...i,oij,...j->...o", x, weight, y)
    return made if bias is None else made + bias


def linear(x: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
    return x @ weight.T if bias is None else mx.addmm(bias, x, weight.T)


def conv1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> mx.array:
    """(B, T, I), (O, K, I / groups) -> (B, T', O)."""
    if padding == "same":
        x, padding = _padded_to_same(x, (weight.shape[1],), dilation), 0
    assert isinstance(padding, int)
    if fast.on_cpu() and groups == 1 < weight.shape[-1]:
        return _plus(cpu.conv1d(x, weight, stride, dilation, padding), bias)
    if fast.on_cpu() and _keeps(weight[:, None], stride, (0, padding), dilation, groups):
        return _plus(depthwise(x[:, None], weight[:, None])[:, 0], bias)
    return _plus(mx.conv1d(x, weight, stride, padding, dilation, groups), bias)


def conv2d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> mx.array:
    """(B, H, W, I), (O, K, L, I / groups) -> (B, H', W', O)."""
    if padding == "same":
        x, padding = _padded_to_same(x, weight.shape[1:3], dilation), 0
    assert not isinstance(padding, str)
    if fast.on_cpu() and _is_usual(weight, pair(stride), pair(padding), dilation, groups):
        return _plus(cpu.conv2d(x, weight, pair(stride)), bias)
    if fast.on_cpu() and _keeps(weight, stride, pair(padding), dilation, groups):
        return _plus(depthwise(x, weight), bias)
    return _plus(mx.conv2d(x, weight, pair(stride), pair(padding), pair(dilation), groups), bias)


def _is_usual(
    weight: mx.array,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: Pair,
    groups: int,
) -> bool:
    """Whether it is one that the form for CPUs takes: 1 or 3 taps square, padded."""
    size = weight.shape[1]
    square = weight.shape[1:3] in ((1, 1), (3, 3)) and padding == (size // 2, size // 2)
    usual = pair(dilation) == (1, 1) and groups == 1 < weight.shape[-1]
    return square and usual and max(stride) <= 2


def _keeps(
    weight: mx.array, stride: Pair, padding: tuple[int, int], dilation: Pair, groups: int
) -> bool:
    """Whether each channel is convolved alone, and as many frames come out as go in."""
    k, m = weight.shape[1:3]
    alone = groups == weight.shape[0] and weight.shape[-1] == 1 and k % 2 == m % 2 == 1
    return alone and (pair(stride), pair(dilation), padding) == ((1, 1), (1, 1), (k // 2, m // 2))


def conv_transpose1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> mx.array:
    """(B, T, I), (O / groups, K, I) -> (B, T', O)."""
    weight = _grouped(weight, groups)
    made = mx.conv_transpose1d(x, weight, stride, padding, dilation, output_padding, groups)
    return _plus(made, bias)


def conv_transpose2d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> mx.array:
    """(B, H, W, I), (O / groups, K, L, I) -> (B, H', W', O)."""
    weight = _grouped(weight, groups)
    more = (pair(stride), pair(padding), pair(dilation), pair(output_padding), groups)
    return _plus(mx.conv_transpose2d(x, weight, *more), bias)


def _plus(x: mx.array, bias: mx.array | None) -> mx.array:
    return x if bias is None else x + bias


def each(given: Pair, dims: int) -> tuple[int, ...]:
    """3 as (3, 3)."""
    return (given,) * dims if isinstance(given, int) else tuple(given)


def pair(given: Pair) -> tuple[int, int]:
    one, two = each(given, 2)
    return one, two


def same_or(kernel: Sequence[int], padding: Pair | str, dilation: Pair) -> list[tuple[int, int]]:
    """How much stands before and behind each axis; of "same" torch puts the odd one behind."""
    dims = len(kernel)
    if padding != "same":
        assert not isinstance(padding, str)
        return [(p, p) for p in each(padding, dims)]
    reach = [(k - 1) * d for k, d in zip(kernel, each(dilation, dims), strict=True)]
    return [(one // 2, one - one // 2) for one in reach]


def _padded_to_same(x: mx.array, kernel: Sequence[int], dilation: Pair) -> mx.array:
    return mx.pad(x, [(0, 0), *same_or(kernel, "same", dilation), (0, 0)])


def _grouped(weight: mx.array, groups: int) -> mx.array:
    """(O / groups, ..., I) -> (O, ..., I / groups), as MLX has the groups of a transposed one."""
    if groups == 1:
        return weight
    return mx.concatenate(list(mx.split(weight, groups, axis=-1)), axis=0)


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    mask: mx.array | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> mx.array:
    """(..., T, D), (..., S, D), (..., S, E) -> (..., T, E); a mask is added, or a choice."""
    scores = (q * (scale if scale is not None else q.shape[-1] ** -0.5)) @ k.swapaxes(-1, -2)
    if causal:
        mask = mx.tril(mx.ones(scores.shape[-2:], dtype=mx.bool_))
    if mask is not None:
        scores = mx.where(mask, scores, -mx.inf) if mask.dtype == mx.bool_ else scores + mask
    if mask is None:
        return softmax(scores) @ v
    # Who sees nothing gets zeros, as in torch.
    seen = scores.max(axis=-1, keepdims=True) > -mx.inf
    return mx.where(seen, softmax(scores), 0) @ v

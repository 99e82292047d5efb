"""Convolutions give the same in their fast forms and in the plain ones."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import fast, nn
from samevoice.models.nn import products

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> mx.array:
    return mx.array(RANDOM.normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(
    ("taps", "stride", "padding", "dilation", "groups"),
    [
        (1, 1, 0, 1, 1),
        (3, 1, 1, 1, 1),
        (4, 2, 1, 1, 1),
        (5, 2, 0, 3, 1),
        (7, 1, 3, 1, 8),
        (4, 1, 1, 1, 8),
        (3, 1, 1, 1, 2),
    ],
)
def test_conv1d_is_the_same_in_both_forms(
    taps: int, stride: int, padding: int, dilation: int, groups: int
) -> None:
    x, weight = normal(2, 31, 8), normal(8, taps, 8 // groups)
    more = (stride, padding, dilation, groups)
    found = nn.conv1d(x, weight, None, *more)
    with fast.plain_forms():
        plain = nn.conv1d(x, weight, None, *more)
    np.testing.assert_allclose(np.array(found), np.array(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("taps", "stride", "padding", "groups"),
    [
        ((1, 1), (2, 2), (0, 0), 1),
        ((3, 3), (2, 1), (1, 1), 1),
        ((3, 3), (3, 3), (1, 1), 1),
        ((3, 5), (1, 1), (1, 2), 1),
        ((3, 3), (1, 1), (1, 1), 8),
        ((5, 3), (1, 1), (2, 1), 8),
    ],
)
def test_conv2d_is_the_same_in_both_forms(
    taps: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], groups: int
) -> None:
    x, weight = normal(2, 13, 17, 8), normal(8, *taps, 8 // groups)
    found = nn.conv2d(x, weight, None, stride, padding, 1, groups)
    with fast.plain_forms():
        plain = nn.conv2d(x, weight, None, stride, padding, 1, groups)
    np.testing.assert_allclose(np.array(found), np.array(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 8])
@pytest.mark.parametrize("groups", [1, "each"])
def test_it_is_the_same_for_what_lies_otherwise_in_memory(channels: int, groups: int | str) -> None:
    count = channels if groups == "each" else 1
    image = normal(2, 17, 13, channels).swapaxes(1, 2)
    weight = normal(channels, 3, 3, channels // count)
    found = nn.conv2d(image, weight, None, 1, 1, 1, count)
    with fast.plain_forms():
        plain = nn.conv2d(image, weight, None, 1, 1, 1, count)
    np.testing.assert_allclose(np.array(found), np.array(plain), rtol=1e-4, atol=1e-5)


def test_same_puts_the_odd_one_behind() -> None:
    assert products.same_or((4, 3), "same", (1, 2)) == [(1, 2), (2, 2)]
    assert products.same_or((3,), 2, 1) == [(2, 2)]

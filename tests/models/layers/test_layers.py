from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import backend
from samevoice.models.layers import BatchNorm, Conv1d, Conv2d, InstanceNorm, leaky_relu, total

CPU = mx.Device(mx.cpu)


@pytest.mark.parametrize("size", [1, 2, 3, 15, 16, 17, 256, 998, 160000])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_total_sums_every_element_once(size: int, axis: int) -> None:
    x = np.moveaxis(np.arange(2 * size, dtype=np.float32).reshape(size, 1, 2) % 7, 0, axis)
    np.testing.assert_array_equal(np.array(total(mx.array(x), axis)), x.sum(axis=axis))


def test_total_rounds_little() -> None:
    x = np.random.default_rng(0).random((1, 160000, 1)).astype(np.float32) + 10
    truth = x.astype(np.float64).sum()
    assert abs(total(mx.array(x), 1).item() / truth - 1) < 2e-7


def test_instance_norm_is_biased_and_per_item() -> None:
    norm = InstanceNorm(1)
    x = mx.array([[1.0, 3.0], [10.0, 30.0]])[..., None]
    # Variance 1 (biased; unbiased it would be 2) and 100.
    small, large = 1 / np.sqrt(1 + 1e-5), 10 / np.sqrt(100 + 1e-5)
    want = [[-small, small], [-large, large]]
    np.testing.assert_allclose(np.array(norm(x))[..., 0], want, rtol=1e-6)


def test_instance_norm_in_half_precision_keeps_float32_sums() -> None:
    x = mx.full((1, 70000, 1), 4.0, dtype=mx.float16)  # a sum of 280,000 is beyond float16
    got = InstanceNorm(1)(x)
    assert got.dtype == mx.float16
    assert mx.abs(got).max().item() == 0


def test_batch_norm_uses_the_running_statistics_even_when_training() -> None:
    norm = BatchNorm(1)
    norm.running_mean, norm.running_var = mx.array([2.0]), mx.array([4.0])
    norm.weight, norm.bias = mx.array([3.0]), mx.array([1.0])
    norm.train()
    # (4 - 2) / sqrt(4) * 3 + 1
    assert norm(mx.array([[4.0]])).item() == pytest.approx(4.0, rel=1e-5)


def test_batch_norm_sees_statistics_that_took_the_place_of_others() -> None:
    norm = BatchNorm(1)
    norm(mx.array([[4.0]]))
    norm.running_mean = mx.array([2.0])
    assert norm(mx.array([[4.0]])).item() == pytest.approx(2.0, rel=1e-5)
    # In half precision, too, and back.
    assert norm(mx.array([[4.0]], dtype=mx.float16)).dtype == mx.float16
    assert norm(mx.array([[4.0]])).dtype == mx.float32


def test_leaky_relu_leaks_a_hundredth() -> None:
    np.testing.assert_allclose(np.array(leaky_relu(mx.array([-100.0, 0.0, 2.0]))), [-1, 0, 2])


def test_batch_norm_without_affine_has_its_statistics_alone() -> None:
    norm = BatchNorm(1, affine=False)
    assert sorted(norm.parameters()) == ["running_mean", "running_var"]
    norm.running_mean, norm.running_var = mx.array([2.0]), mx.array([4.0])
    assert norm(mx.array([[8.0]])).item() == pytest.approx(3.0, rel=1e-5)


def test_a_stride_for_frequency_and_one_for_time() -> None:
    # Four rows, three columns: rows are halved, columns stay.
    conv = Conv2d(2, 1, 1, (2, 1))
    conv.weight = mx.array([1.0, 100.0]).reshape(1, 1, 1, 2)
    x = mx.arange(24, dtype=mx.float32).reshape(1, 4, 3, 2)
    want = [[100, 302, 504], [1312, 1514, 1716]]  # x[0] + 100 x[1] in rows 0 and 2
    with backend.using(CPU):
        assert np.array(conv(x))[0, ..., 0].tolist() == want


def test_conv1d_by_hand() -> None:
    # One tap each for the frame before, this one and the next, 2 apart: 1, 10 and 100.
    conv = Conv1d(1, 1, 3, dilation=2)
    conv.weight = mx.array([1.0, 10.0, 100.0]).reshape(1, 3, 1)
    x = mx.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)
    with backend.using(CPU):
        assert np.array(conv(x)).reshape(-1).tolist() == [310, 420, 31, 42]


def test_conv1d_may_have_a_bias() -> None:
    conv = Conv1d(1, 1, 1, bias=True)
    conv.weight, conv.bias = mx.array([[[2.0]]]), mx.array([5.0])
    with backend.using(CPU):
        assert conv(mx.array([[[3.0]]])).item() == 11

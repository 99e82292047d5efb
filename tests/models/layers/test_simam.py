"""SimAM by hand."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from samevoice.models.layers.simam import SimAM


def test_what_lies_far_from_the_mean_counts_more() -> None:
    # Mean 2; squares 4, 0, 0, 4; variance 8 / 3, unbiased.
    x = np.array([0.0, 2.0, 2.0, 4.0])
    energy = np.array([4, 0, 0, 4]) / (4 * (8 / 3 + 1e-4)) + 0.5
    want = x / (1 + np.exp(-energy))
    got = np.array(SimAM()(mx.array(x, dtype=mx.float32).reshape(1, 2, 2, 1)))
    np.testing.assert_allclose(got.reshape(-1), want, rtol=1e-6)


def test_channels_and_items_do_not_hear_each_other() -> None:
    x = mx.random.normal((2, 3, 5, 4))
    both = SimAM()(x)
    for item in range(2):
        for channel in range(4):
            alone = SimAM()(x[item : item + 1, :, :, channel : channel + 1])
            np.testing.assert_allclose(
                np.array(both[item, :, :, channel]), np.array(alone[0, :, :, 0]), rtol=1e-6
            )

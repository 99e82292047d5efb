from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.linear import Linear

from samevoice.models.layers.pooling import AttentivePool, resample, stats_pool

# (B, F, T, C) = (1, 1, 4, 1): mean 4, squared distances 9 + 1 + 1 + 9 = 20
FOUR = mx.array([1.0, 3.0, 5.0, 7.0]).reshape(1, 1, 4, 1)


def test_std_is_unbiased() -> None:
    got = np.array(stats_pool(FOUR))
    # Biased it would be sqrt(20 / 4) = 2.236.
    np.testing.assert_allclose(got, [[4.0, np.sqrt(20 / 3)]], rtol=1e-6)


def test_full_mask_equals_no_mask() -> None:
    got = np.array(stats_pool(FOUR, mx.ones((1, 1, 4))))
    np.testing.assert_allclose(got, [[[4.0, np.sqrt(20 / 3)]]], rtol=1e-6)


def test_weights_by_hand() -> None:
    # Weights 1, 1, 2, 0: v1 = 4, v2 = 6, mean = (1 + 3 + 10) / 4 = 3.5,
    # squares 6.25 + 0.25 + 2 * 2.25 = 11, over 4 - 6 / 4 = 2.5.
    got = np.array(stats_pool(FOUR, mx.array([[[1.0, 1.0, 2.0, 0.0]]])))
    np.testing.assert_allclose(got, [[[3.5, np.sqrt(11 / 2.5)]]], rtol=1e-6)


def test_empty_and_one_frame_masks_are_finite() -> None:
    masks = mx.array([[[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]])
    np.testing.assert_allclose(np.array(stats_pool(FOUR, masks)), [[[0, 0], [5, 0]]], atol=1e-6)


def test_channel_major_order() -> None:
    # Two frequencies, two channels; each element constant over time and named 10 c + f.
    names = mx.array([[0.0, 10.0], [1.0, 11.0]])
    x = mx.broadcast_to(names[None, :, None, :], (1, 2, 3, 2))
    means = np.array(stats_pool(x))[0, :4]
    np.testing.assert_array_equal(means, [0, 1, 10, 11])


def test_mean_and_std_are_not_interleaved_over_speakers() -> None:
    masks = mx.array([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    got = np.array(stats_pool(FOUR, masks))
    np.testing.assert_allclose(got, [[[2, np.sqrt(2)], [6, np.sqrt(2)]]], rtol=1e-6)


def test_masks_take_the_nearest_index_below() -> None:
    weights = mx.array([[[0.0, 1.0, 2.0, 3.0, 4.0]]])
    # floor(i * 5 / 3) = 0, 1, 3; rounding would give 0, 2, 3.
    np.testing.assert_array_equal(np.array(resample(weights, 3)), [[[0, 1, 3]]])
    # floor(i * 5 / 7)
    np.testing.assert_array_equal(np.array(resample(weights, 7)), [[[0, 0, 1, 2, 2, 3, 4]]])


def test_every_length_of_mask_as_torch_reads_it(pyannote: Any) -> None:
    torch = pyannote.torch
    for count in [*range(1, 700, 13), 589, 998, 4001]:
        values = np.arange(count, dtype=np.float32)[None, None]
        for frames in (1, 2, 3, 63, 125, 126, 589):
            size = {"size": frames, "mode": "nearest"}
            theirs = torch.nn.functional.interpolate(torch.from_numpy(values), **size).numpy()
            np.testing.assert_array_equal(np.array(resample(mx.array(values), frames)), theirs)


@pytest.mark.parametrize("frames", [2, 7, 125])
def test_against_pyannote(pyannote: Any, make: Any, frames: int) -> None:
    from pyannote.audio.models.blocks.pooling import StatsPool

    rng = np.random.default_rng(frames)
    x = rng.standard_normal((2, 3, 4, frames)).astype(np.float32) + 2
    masks = (rng.random((2, 5, 589)) > 0.5).astype(np.float32)
    masks[:, 1], masks[:, 2], masks[:, 3] = 0, 1, rng.random((2, 589))
    ours = mx.array(x.transpose(0, 2, 3, 1))
    for given in ((), (masks,)):
        truth, plain = pyannote.run(StatsPool(), x.reshape(2, 12, frames), *given)
        got = np.array(stats_pool(ours, *(mx.array(m) for m in given)))
        assert make.noise_ratio(truth, plain, got) < 2


# Attentive pooling --------------------------------------------------------------------------------


class Pool(AttentivePool):
    def __init__(self, context: str = "") -> None:
        super().__init__()
        self.context, width = context, 6 if context else 2
        self.linear1, self.linear2 = Linear(width, 3), Linear(3, 2)


def attentive(context: str = "") -> Pool:
    """Two channels; what a frame weighs depends on nothing but log 3 for a first channel of 2."""
    pool = Pool(context)
    pool.linear1.weight = mx.zeros(pool.linear1.weight.shape)
    pool.linear1.bias = mx.zeros((3,))
    pool.linear2.bias = mx.array([5.0, -7.0])
    return pool


# (B, T, C) = (1, 4, 2)
FRAMES = mx.array([[[1.0, 2.0], [3.0, 2.0], [5.0, 2.0], [7.0, 2.0]]])


@pytest.mark.parametrize("context", ["", "biased", "unbiased"])
def test_equal_scores_give_the_mean_and_the_biased_deviation(context: str) -> None:
    got = np.array(attentive(context)(FRAMES))
    # A channel that never changes has the floor for its variance.
    np.testing.assert_allclose(got, [[4, 2, np.sqrt(5), np.sqrt(1e-7)]], rtol=1e-5)


def test_the_softmax_is_over_time_and_each_channel_has_its_own() -> None:
    pool = attentive()
    # tanh(artanh(0.5) * x / 1) for the first frame only: scores log 3 and 0.
    pool.linear1.weight = mx.array([[np.arctanh(0.5), 0.0], [0.0, 0.0], [0.0, 0.0]])
    pool.linear2.weight = mx.array([[2 * np.log(3), 0.0, 0.0], [0.0, 0.0, 0.0]])
    got = np.array(pool(mx.array([[[1.0, 1.0], [0.0, 3.0]]])))
    # Weights 3/4 and 1/4, then 1/2 and 1/2.
    np.testing.assert_allclose(got, [[0.75, 2, np.sqrt(3) / 4, 1]], rtol=1e-5)


def test_masks_multiply_the_weights_which_add_up_again() -> None:
    pool = attentive()
    masks = mx.array([[[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]]])
    got = np.array(pool(FRAMES, masks))
    low = np.sqrt(1e-7)
    want = [[[2, 2, 1, low], [6, 2, 1, low], [0, 0, low, low]]]
    # As the mean of squares less the mean's square: 1e-8 of the weights is missing.
    np.testing.assert_allclose(got[..., :3], np.array(want)[..., :3], rtol=1e-5)


def test_the_context_is_what_the_first_layer_hears_beside_each_frame() -> None:
    got = np.array(attentive("unbiased").with_context(FRAMES))
    want = [4, 2, np.sqrt(20 / 3), np.sqrt(1e-7)]
    np.testing.assert_allclose(got[0, :, 2:], [want] * 4, rtol=1e-5)
    np.testing.assert_array_equal(got[..., :2], np.array(FRAMES))
    biased = np.array(attentive("biased").with_context(FRAMES))
    np.testing.assert_allclose(biased[0, 0, 4:], [np.sqrt(5), np.sqrt(1e-7)], rtol=1e-5)

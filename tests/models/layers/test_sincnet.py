from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from samevoice.models.layers.sincnet import SincConv, max_pool


def test_even_filters_first_then_odd() -> None:
    filters = np.array(SincConv(10, 16000).filters())
    assert filters.shape == (80, 251)
    np.testing.assert_array_equal(filters[:40], filters[:40, ::-1])
    np.testing.assert_array_equal(filters[40:], -filters[40:, ::-1])
    np.testing.assert_array_equal(filters[:40, 125], 1)


def test_filters_are_made_once_and_again_when_a_weight_changes() -> None:
    conv = SincConv(10, 16000)
    first = conv.filters()
    assert conv.filters() is first
    conv.low_hz = conv.low_hz + 10
    second = conv.filters()
    assert second is not first
    conv.low_hz[3] = 1000.0  # in place, too
    assert np.abs(np.array(conv.filters()) - np.array(second))[3].max() > 0.01


def test_filters_against_asteroid(pyannote: Any, make: Any) -> None:
    from asteroid_filterbanks import ParamSincFB

    bank = ParamSincFB(80, 251, stride=10, sample_rate=16000, min_low_hz=50, min_band_hz=50)
    ours = SincConv(10, 16000)
    ours.low_hz = mx.array(bank.low_hz_.detach().numpy())
    ours.band_hz = mx.array(bank.band_hz_.detach().numpy())
    ours.window, ours.time = mx.array(bank.window_.numpy()), mx.array(bank.n_.numpy())
    plain = bank.filters().detach().numpy()[:, 0]
    truth = bank.double().filters().detach().numpy()[:, 0]
    # Not merely as good as float32: nothing is left of its error but the last rounding.
    assert make.noise_ratio(truth, plain, np.array(ours.filters())) < 0.1


def test_initial_buffers_are_asteroids(pyannote: Any) -> None:
    from asteroid_filterbanks import ParamSincFB

    bank = ParamSincFB(80, 251, stride=10, sample_rate=16000)
    ours = SincConv(10, 16000)
    pairs = [(ours.low_hz, bank.low_hz_), (ours.band_hz, bank.band_hz_)]
    for mine, theirs in [*pairs, (ours.window, bank.window_), (ours.time, bank.n_)]:
        np.testing.assert_allclose(np.array(mine), theirs.detach().numpy(), rtol=1e-4)


def test_max_pool_drops_an_incomplete_rest() -> None:
    x = mx.array([1.0, 5.0, 2.0, -3.0, -1.0, -2.0, 9.0, 9.0]).reshape(1, 8, 1)
    np.testing.assert_array_equal(np.array(max_pool(x))[0, :, 0], [5, -1])

"""Resemblyzer's voice encoder: its parts of 1.6 s, its spectrogram, and voices cut by masks."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import registry
from samevoice.models.layers.slaney import MelPowers
from samevoice.models.networks.resemblyzer import beginnings

CONFIG = {
    "model_type": "embedding",
    "architecture": "VoiceEncoder",
    "sample_rate": 16000,
    "num_mel_bins": 40,
    "hidden_size": 8,
    "num_layers": 2,
    "embedding_size": 6,
}
NOISE = np.random.default_rng(0).standard_normal(64_000).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Any:
    mx.random.seed(1)
    made: Any = registry.build(CONFIG)
    made.linear.bias = made.linear.bias + 1  # so that no voice is zero
    return made


@pytest.mark.parametrize(
    ("samples", "starts"),
    [
        (400, [0]),
        (25_600, [0]),  # the part at 77 would hold 0.83 s of 1.6, which is half
        (12_320 + 19_199, [0]),  # a sample less than three quarters
        (12_320 + 19_200, [0, 77]),
        (5 * 16_000, [0, 77, 154, 231, 308]),  # of one at 385 there would be 1.15 s
    ],
)
def test_where_the_parts_begin(samples: int, starts: list[int]) -> None:
    assert beginnings(samples) == starts


def test_a_voice_is_the_direction_of_its_parts_mean(network: Any) -> None:
    found = np.array(network(mx.array(NOISE[None, :31_520])))[0]
    parts = [NOISE[:25_600], np.pad(NOISE[12_320:31_520], (0, 25_600))[:25_600]]
    assert np.linalg.norm(found) == pytest.approx(1)
    assert found.min() >= 0
    mel = network.mel(mx.array(np.pad(NOISE[:31_520], (0, 12_320 + 25_600 - 31_520))[None]))
    each = np.array(network.partial(mx.concatenate([mel[:, :160], mel[:, 77:237]])))
    mean = each.mean(axis=0)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)
    # Heard alone a part's edges are silent, so it is near and not the same.
    near = np.array(network(mx.array(np.stack(parts))))
    np.testing.assert_allclose(near, each, atol=0.02)


def test_a_mask_cuts_samples(network: Any) -> None:
    masks = np.zeros((1, 3, 100), np.float32)
    masks[0, 0, 10:60] = 1
    masks[0, 1, ::2] = 1
    found = np.array(network(mx.array(NOISE[None]), mx.array(masks)))
    kept = np.repeat(masks[0].astype(bool), 640, axis=1)
    for speaker in (0, 1):
        alone = np.array(network(mx.array(NOISE[None, kept[speaker]])))[0]
        np.testing.assert_allclose(found[0, speaker], alone, atol=1e-6)
    assert not found[0, 2].any()


def test_a_sine_lies_in_its_band() -> None:
    time = np.arange(16_000) / 16_000
    mel = MelPowers(40)
    for pitch in (300.0, 1000.0, 4000.0):
        powers = np.array(mel(mx.array(np.sin(2 * np.pi * pitch * time)[None])))[0]
        assert powers.shape == (101, 40)
        middle = powers[50]
        edges = mel.filters.argmax(axis=0) * 40
        assert abs(edges[middle.argmax()] - pitch) < 0.12 * pitch
    # Equal areas: each triangle's weights, 40 Hz apart, sum up to about 1 / 40.
    sums = mel.filters.sum(axis=0)[12:] * 40
    np.testing.assert_allclose(sums, 1, atol=0.1)


@pytest.mark.parametrize("shape", [(1, 2, 1000), (1000,)])
def test_other_shapes_are_one_line(shape: tuple[int, ...], network: Any) -> None:
    with pytest.raises(ValueError, match=r"\(B, 1, N\) or \(B, N\) wanted"):
        network(mx.zeros(shape))

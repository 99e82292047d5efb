"""Mel spectra by hand, and torchaudio's with every option that pyannote lets through."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models.layers.mel import MFCC, Frames, MelDecibels, decibels

SOUND = np.random.default_rng(0).standard_normal((2, 3000)).astype(np.float32) * 0.1


def test_nothing_lies_more_than_80_decibels_below_the_loudest_of_its_recording() -> None:
    energies = mx.array([[[1.0, 1e-4]], [[1e-3, 1e-20]], [[100.0, 1e-9]]])
    got = np.array(decibels(energies))[:, 0]
    # -100 dB is the least of all: 1e-10 of an energy.
    np.testing.assert_allclose(got, [[0, -40], [-30, -100], [20, -60]], atol=1e-4)


def test_a_frame_lies_around_every_hop() -> None:
    frames = Frames(fft_size=8, window=8, hop=4)
    one = mx.zeros((1, 13)).at[:, 0].add(1.0)
    # A single 1 in the middle of the first frame, and at the start of the second.
    powers = np.array(frames.powers(one, mx.array(np.arange(8, dtype=np.float32))))
    assert powers.shape == (1, 4, 5)
    np.testing.assert_allclose(powers[0], [[16] * 5, [0] * 5, [0] * 5, [0] * 5], atol=1e-5)
    assert Frames(8, 8, 4, pad_mode="reflect").fewest_samples == 5
    with pytest.raises(ValueError, match="4 samples, a frame needs 5"):
        Frames(8, 8, 4, pad_mode="reflect").powers(one[:, :4], mx.ones((8,)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pad_mode": "mirror"}, "pad_mode 'mirror': one of constant, reflect"),
        ({"win_length": 500}, "a window of 500 samples does not fit 400"),
        ({"normalized": "both"}, "normalized 'both': one of"),
    ],
)
def test_what_torchaudio_does_not_know_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MFCC(16000, {"n_mfcc": 40, "melkwargs": wrong})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"log_mels": True},
        {"n_mfcc": 20, "norm": None, "melkwargs": {"n_fft": 512, "hop_length": 160, "n_mels": 30}},
        {"melkwargs": {"win_length": 300, "pad": 20, "normalized": True, "power": 1.0}},
        {"melkwargs": {"center": False, "normalized": "frame_length", "f_min": 50.0}},
        {"melkwargs": {"pad_mode": "replicate", "power": 1.5, "mel_scale": "slaney"}},
        {"melkwargs": {"pad_mode": "constant", "n_mels": 64, "norm": "slaney"}},
    ],
)
def test_as_torchaudio_computes_it(options: dict[str, Any], pyannote: Any) -> None:
    del pyannote
    import torch
    from torchaudio.transforms import MFCC as Theirs

    theirs = Theirs(**options)
    ours = MFCC(16000, {"n_mfcc": 40, **options})
    mel = theirs.MelSpectrogram
    ours.window = mx.array(mel.spectrogram.window.numpy())
    ours.banks = mx.array(mel.mel_scale.fb.numpy())
    ours.cosines = mx.array(theirs.dct_mat.numpy())
    want = theirs(torch.from_numpy(SOUND[:, None])).numpy()[:, 0]
    got = np.array(ours(mx.array(SOUND)))[..., 0]
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=2e-3)


def test_speechbrains_triangles_fall_as_steeply_as_they_rise() -> None:
    mel = MelDecibels(4, 16000, 400)
    banks, hz = mel.banks, np.arange(201) * 40.0
    peaks = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 6) / 2595) - 1)
    for n in range(4):
        middle, width = peaks[n + 1], peaks[n + 1] - peaks[n]
        np.testing.assert_allclose(
            banks[:, n], np.maximum(0, 1 - np.abs(hz - middle) / width), atol=1e-12
        )
    assert mel(mx.array(SOUND)).shape == (2, 19, 4)
    np.testing.assert_allclose(np.array(mel(mx.array(SOUND))).mean(axis=1), 0, atol=1e-5)

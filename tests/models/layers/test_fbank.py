from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models.layers.fbank import Fbank

NOISE = np.random.default_rng(5).standard_normal(16000).astype(np.float32)
SOUNDS = {
    "noise": 0.1 * NOISE,
    "silence": 0 * NOISE,
    "quiet": 1e-5 * NOISE,
    "clipped": np.clip(5 * NOISE, -1, 1),
    "offset": 0.01 * NOISE + 0.5,
    "half silent": np.concatenate([0.1 * NOISE[:8000], np.zeros(8000, dtype=np.float32)]),
}


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_type": "hanning"},
        {"window_type": "povey"},
        {"window_type": "rectangular"},
        {"window_type": "blackman"},
        {"snip_edges": False},
        {"use_energy": True},
        {"num_mel_bins": 40, "frame_length": 32.0, "frame_shift": 8.0},
        {"round_to_power_of_two": False},
    ],
    ids=str,
)
def test_against_torchaudio(pyannote: Any, make: Any, sound: str, options: dict[str, Any]) -> None:
    torch = pyannote.torch
    given: dict[str, Any] = {"num_mel_bins": 80, "window_type": "hamming"} | options
    samples = SOUNDS[sound][None] * 32768
    plain = pyannote.kaldi.fbank(torch.from_numpy(samples), **given).numpy()
    wide = torch.from_numpy(samples.astype(np.float64))
    truth = pyannote.kaldi.fbank(wide, **given).numpy()
    got = np.array(Fbank(**given).log_mel(mx.array(samples)))[0]
    assert make.noise_ratio(truth, plain, got) < 2


@pytest.mark.parametrize("span", [None, 0.5, 5.0])
@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_centring_as_pyannote(pyannote: Any, make: Any, span: float | None, seconds: float) -> None:
    theirs = pyannote.wespeaker("WeSpeakerResNet34")
    theirs.hparams.fbank_centering_span = span
    x = np.stack([SOUNDS["noise"], SOUNDS["offset"]])[:, None, : int(16000 * seconds)]
    if span is not None and span > seconds:
        x = np.tile(x, (1, 1, 20))  # torch refuses to average over more than there is
    torch = pyannote.torch
    plain = theirs.compute_fbank(torch.from_numpy(x)).numpy()
    truth = theirs.compute_fbank(torch.from_numpy(x).double()).numpy()
    got = Fbank(fbank_centering_span=span)(mx.array(x[:, 0]))
    assert make.noise_ratio(truth, plain, np.array(got)) < 2


def test_running_mean_by_hand() -> None:
    # A span of 465 samples is 1 frame short of two steps: 1 + (560 - 400) // 160 = 2, half 1.
    bank = Fbank(fbank_centering_span=560 / 16000)
    features = mx.array([0.0, 3.0, 6.0, 0.0]).reshape(1, 4, 1)
    # The edges average over the two frames there are, not over three with a zero.
    np.testing.assert_allclose(np.array(bank.center(features))[0, :, 0], [1.5, 3, 3, 3])


def test_global_mean_is_over_time_alone() -> None:
    features = mx.array([[0.0, 10.0], [2.0, 30.0]])[None]
    np.testing.assert_array_equal(np.array(Fbank().center(features)), [[[1, 20]]])


def test_silence_is_the_floor() -> None:
    got = np.array(Fbank().log_mel(mx.zeros((1, 400))))
    np.testing.assert_allclose(got, np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_batch_is_item_by_item() -> None:
    both = mx.array(np.stack([SOUNDS["noise"], SOUNDS["quiet"]]))
    one = np.array(Fbank()(both[1:]))
    np.testing.assert_allclose(np.array(Fbank()(both))[1:], one, atol=1e-5)


def test_too_short_says_so() -> None:
    with pytest.raises(ValueError, match="399 samples"):
        Fbank()(mx.zeros((1, 399)))


def test_dither_is_noise_of_that_size() -> None:
    mx.random.seed(0)
    silence = mx.zeros((1, 16000))
    dithered, louder = (np.array(Fbank(dither=d).log_mel(silence)) for d in (1.0, 10.0))
    assert np.isclose(louder.mean() - dithered.mean(), 2 * np.log(10), atol=0.1)


def test_samples_may_be_counted_from_minus_one_to_one() -> None:
    """3D-Speaker leaves out Kaldi's 2^15: the floor of the logarithm then cuts off quiet sounds."""
    x = mx.array(0.1 * SOUNDS["quiet"][None])
    plain = Fbank(full_scale=1.0)
    assert np.abs(np.array(plain(x))).max() < 1e-5  # all at the floor, centred
    assert np.abs(np.array(Fbank()(x))).max() > 1
    loud = mx.array(SOUNDS["noise"][None])
    np.testing.assert_allclose(np.array(plain(loud)), np.array(Fbank()(loud)), atol=1e-3)

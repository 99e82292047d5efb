"""ECAPA-TDNN's own parts by hand, in both layouts, and what its masks mean."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.errors import BundleError
from samevoice.models import backend, fast, registry
from samevoice.models.layers import named_arrays, reflected
from samevoice.models.networks.ecapa import ECAPA, Layout, Res2NetBlock

CONFIG: dict[str, Any] = {
    "sample_rate": 16000,
    "num_mel_bins": 12,
    "channels": [16, 24, 24, 24, 40],
    "kernel_sizes": [5, 3, 3, 3, 1],
    "dilations": [1, 2, 3, 4, 1],
    "attention_channels": 7,
    "res2net_scale": 4,
    "se_channels": 5,
    "global_context": True,
    "lin_neurons": 6,
    "emb_bn": False,
}
KINDS = ("SpeechBrainECAPA", "WeSpeakerECAPA")
NOISE = 0.1 * np.random.default_rng(3).standard_normal((2, 16000)).astype(np.float32)


def made(kind: str, **changed: Any) -> ECAPA:
    mx.random.seed(0)
    network: Any = registry.build({"architecture": kind, **CONFIG, **changed})
    weights = []
    for name, value in named_arrays(network).items():
        low = 0.5 if name.endswith("running_var") else -0.5
        weights.append((name, mx.random.uniform(low, low + 1, value.shape)))
    network.load_weights(weights)
    return network  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("samples", [800, 16000])
def test_the_form_for_a_cpu_gives_what_the_layers_give(
    kind: str, context: bool, samples: int
) -> None:
    network = made(kind, global_context=context)
    x = mx.array(NOISE[:, :samples])
    with backend.using(mx.Device(mx.cpu)):
        whole = np.array(network(x))
        assert network._host.made is not None
        with fast.layer_by_layer():
            plain = np.array(network(x))
    assert whole.shape == (2, 6)
    np.testing.assert_allclose(whole, plain, atol=2e-5 * np.abs(plain).max())


def test_the_form_is_made_anew_for_other_weights_and_steps_aside() -> None:
    channels = [16, 32, 32, 32, 40]
    network, x = made("WeSpeakerECAPA", channels=channels), mx.array(NOISE)
    with backend.using(mx.Device(mx.cpu)):
        before = np.array(network(x))
        network.mfa.conv.weight = 2 * network.mfa.conv.weight
        assert not np.allclose(np.array(network(x)), before)
        network.mfa.conv = network.mfa.conv.to_quantized(32, 8)
        assert network._on_cpu() is None
        assert np.isfinite(np.array(network(x))).all()


def test_a_frame_is_not_its_own_mirror() -> None:
    x = mx.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)
    assert np.array(reflected(x, 2)).ravel().tolist() == [3, 2, 1, 2, 3, 4, 3, 2]
    with pytest.raises(ValueError, match="4 frames, but 4 are reflected"):
        reflected(x, 4)


@pytest.mark.parametrize("first", [True, False])
def test_one_part_passes_and_the_others_add_up(first: bool) -> None:
    layout = Layout("zeros", first_passes=first, normed=True, flat=True)
    block = Res2NetBlock(4, 4, 1, 1, layout)
    for part in block.blocks:
        part.conv.weight, part.conv.bias = mx.array([[2.0]]), mx.zeros((1,))
        part.norm.running_var = mx.array([1.0 - 1e-5])
    got = np.array(block(mx.array([[[1.0, 10.0, 100.0, 1000.0]]]))).ravel()
    want = [1, 20, 240, 2480] if first else [2, 24, 248, 1000]
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_voice_is_what_its_mask_leaves(kind: str) -> None:
    network = made(kind)
    masks = np.zeros((2, 3, 50), np.float32)
    masks[:, 0], masks[:, 1, 20:] = 1, 0.6
    masks[:, 2, :1] = 1 if kind == "SpeechBrainECAPA" else 0
    got = np.array(network(mx.array(NOISE), mx.array(masks)))
    np.testing.assert_allclose(got[:, 0], np.array(network(mx.array(NOISE))), atol=1e-5)
    if kind == "SpeechBrainECAPA":  # samples are cut
        alone = network(mx.array(NOISE[:, 6400:]))
    else:  # frames are: 98 of them, of which 40 of a hundred lie before the mask
        features = network.frames(mx.array(NOISE))
        alone = network(features[:, 40:])
    np.testing.assert_allclose(got[:, 1], np.array(alone), atol=1e-5)
    # 320 samples give three frames, but four are reflected.
    np.testing.assert_array_equal(got[:, 2], np.zeros((2, 6)))


def test_the_shortest_that_can_be_heard() -> None:
    for kind, fewest in (("SpeechBrainECAPA", 640), ("WeSpeakerECAPA", 560)):
        network = made(kind)
        assert network.fewest_samples == fewest
        assert np.isfinite(np.array(network(mx.array(NOISE[:, :fewest])))).all()
    assert made("WeSpeakerECAPA", global_context=False).fewest_samples == 400
    with fast.layer_by_layer(), pytest.raises(ValueError, match="are reflected"):
        mx.eval(made("SpeechBrainECAPA")(mx.array(NOISE[:, :639])))


def test_as_many_of_each_as_there_are_layers() -> None:
    with pytest.raises(BundleError, match="one of each for every layer"):
        made("SpeechBrainECAPA", channels=[16, 24, 40])

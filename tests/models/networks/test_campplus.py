"""CAM++'s own parts by hand, and what its masks mean."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from samevoice.models import backend, fast
from samevoice.models.layers import taps
from samevoice.models.layers.pooling import StatsPool
from samevoice.models.networks.campplus import CAMPPlus, DenseBlock, Head, context_of

CONFIG = {
    "architecture": "CAMPPlus",
    "window_type": "povey",
    "full_scale": 1.0,
    "num_mel_bins": 16,
    "m_channels": 4,
    "init_channels": 30,
    "growth_rate": 2,
    "bn_size": 3,
    "layers": [1, 2, 1],
    "embedding_size": 5,
}
NOISE = np.random.default_rng(3).standard_normal((2, 24000)).astype(np.float32) * 0.1


@pytest.fixture(params=["cpu", "gpu"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one of all layers as one that the network takes; that for a GPU runs on any device."""
    by_layer = fast._by_layer
    if request.param == "gpu":
        monkeypatch.setattr(fast, "whole_on_cpu", lambda: False)
        monkeypatch.setattr(fast, "whole_on_gpu", lambda: not by_layer.get())
    return str(request.param)


@pytest.fixture
def network() -> CAMPPlus:
    mx.random.seed(0)
    made = CAMPPlus(CONFIG)
    made.eval()
    norm = made.xvector.dense.nonlinear.batchnorm
    norm.running_mean = mx.array([1.0, 2.0, 3.0, 4.0, 5.0])
    return made


def test_context_is_the_mean_of_all_and_of_a_hundred_frames() -> None:
    # 100 frames of 1, then 50 of 4: the mean of all is 2, the last segment has 50 frames.
    x = mx.concatenate([mx.ones((1, 100, 1)), mx.full((1, 50, 1), 4.0)], axis=1)
    got = np.array(context_of(x))[0, :, 0]
    assert got.tolist() == [3.0] * 100 + [6.0] * 50


@pytest.mark.parametrize("frames", [1, 99, 100, 101, 200])
def test_context_at_every_length(frames: int) -> None:
    x = np.random.default_rng(frames).standard_normal((2, frames, 3)).astype(np.float32)
    want = np.concatenate(
        [
            np.repeat(x[:, i : i + 100].mean(1, keepdims=True), 100, 1)
            for i in range(0, frames, 100)
        ],
        axis=1,
    )[:, :frames]
    want += x.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(context_of(mx.array(x))), want, atol=1e-5)


def test_a_dense_block_keeps_what_came_before_in_front() -> None:
    block = DenseBlock(2, 3, 2, 4, 1)
    x = mx.random.normal((1, 7, 3))
    got = block(x)
    assert got.shape == (1, 7, 7)
    assert mx.array_equal(got[..., :3], x)
    assert mx.array_equal(got[..., 3:5], block.tdnnd1(x))


def test_the_front_flattens_channels_before_frequencies() -> None:
    head = Head(2)
    with taps.listen(head) as heard:
        got = head(mx.random.normal((1, 5, 16)))
    image = mx.maximum(heard.outputs["bn2"], 0)  # (B, F, T, C)
    assert image.shape == (1, 2, 5, 2)
    assert got.shape == (1, 5, 4)
    for channel in range(2):
        for row in range(2):
            assert mx.array_equal(got[0, :, 2 * channel + row], image[0, row, :, channel])


def test_statistics_by_hand() -> None:
    statistics = StatsPool(rows=1)
    x = mx.array([1.0, 3.0, 5.0, 7.0]).reshape(1, 4, 1)
    np.testing.assert_allclose(np.array(statistics(x)), [[[4, np.sqrt(20 / 3)]]], rtol=1e-6)
    # Half as many values as frames: each is read twice.
    masks = mx.array([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    want = [[[2, np.sqrt(2)], [6, np.sqrt(2)], [0, 0]]]
    np.testing.assert_allclose(np.array(statistics(x, masks)), want, atol=1e-6)


def test_waveforms_features_and_their_frames(network: CAMPPlus) -> None:
    x = mx.array(NOISE)
    frames = network.frames(x)
    assert frames.shape[:2] == (2, network.num_frames(24000))
    whole = np.array(network(x))
    assert whole.shape == (2, 5)
    for other in (network(x[:, None]), network(network.compute_fbank(x)), network.embed(frames)):
        np.testing.assert_allclose(np.array(other), whole, atol=1e-6)


def test_one_mask_or_several(network: CAMPPlus) -> None:
    x = mx.array(NOISE)
    masks = mx.array(np.random.default_rng(0).random((2, 3, 20)).astype(np.float32))
    several = np.array(network(x, masks))
    assert several.shape == (2, 3, 5)
    np.testing.assert_allclose(np.array(network(x, masks[:, 1])), several[:, 1], atol=1e-6)
    full = np.array(network(x, mx.ones((2, 20))))
    np.testing.assert_allclose(full, np.array(network(x)), atol=1e-4)
    with pytest.raises(ValueError, match="masks"):
        network(x, masks[:1])


def test_an_empty_mask_gives_the_last_norm_of_nothing(network: CAMPPlus) -> None:
    got = np.array(network(mx.array(NOISE), mx.zeros((2, 1, 20))))
    np.testing.assert_allclose(got[:, 0], [[-1, -2, -3, -4, -5]] * 2, rtol=1e-5)


def test_there_is_no_relu_at_the_end(network: CAMPPlus) -> None:
    assert (np.array(network(mx.array(NOISE))) < 0).any()


def test_every_layer_is_seen_under_its_path(network: CAMPPlus) -> None:
    with taps.listen(network) as heard:
        network(mx.array(NOISE))
    assert {name.rpartition(".")[0] for name in names(network)} <= set(heard.outputs)


def names(network: CAMPPlus) -> list[str]:
    flat: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    return [name for name, _ in flat]


def test_windows(network: CAMPPlus) -> None:
    # 24,000 samples give 148 frames of the filterbank, and half of them in the end.
    assert network.num_frames(24000) == 74
    for samples in (400, 560, 4000, 4160):
        frames = network.frames(mx.zeros((1, samples))).shape[1]
        assert network.num_frames(samples) == frames
    # The last layer's neighbours are two frames apart.
    assert network.windows[-1] == (5, 1, 2)


def test_a_recording_alone_or_among_others(network: CAMPPlus) -> None:
    with backend.using(mx.Device(mx.cpu)):
        alone = np.array(network(mx.array(NOISE[:1])))
        both = np.array(network(mx.array(NOISE)))
    np.testing.assert_allclose(both[:1], alone, atol=1e-5)


@pytest.mark.parametrize("samples", [400, 720, 16000 + 400, 24000, 40000])
@pytest.mark.parametrize("count", [1, 3])
def test_each_form_gives_what_the_layers_give(
    network: CAMPPlus, form: str, samples: int, count: int
) -> None:
    random = np.random.default_rng(samples)
    x = mx.array(0.1 * random.standard_normal((count, samples)).astype(np.float32))
    for norm in (network.head.bn1, network.xvector.block2.tdnnd2.nonlinear1.batchnorm):
        norm.running_mean = mx.array(random.standard_normal(norm.weight.shape).astype(np.float32))
        norm.weight = -norm.weight
    with backend.using(mx.Device(mx.cpu)):
        whole = np.array(network.frames(x))
        assert (network._folded if form == "gpu" else network._host)._made is not None
        with fast.layer_by_layer():
            plain = np.array(network.frames(x))
    assert whole.shape == plain.shape
    np.testing.assert_allclose(whole, plain, atol=1e-5 * np.abs(plain).max())


@pytest.mark.usefixtures("form")
def test_norms_without_a_scale_or_with_a_negative_one(network: CAMPPlus) -> None:
    random = np.random.default_rng(0)
    xvector = network.xvector
    for nonlinear in (xvector.block2.tdnnd2.nonlinear1, xvector.transit2.nonlinear):
        norm = nonlinear.batchnorm
        count = len(norm.weight)
        norm.weight = mx.array(np.resize([0, -1, 1, 1.2e-38, -1.2e-38], count).astype(np.float32))
        norm.bias = mx.array(9 * random.standard_normal(count).astype(np.float32))
    with backend.using(mx.Device(mx.cpu)):
        whole = np.array(network.frames(mx.array(NOISE)))
        with fast.layer_by_layer():
            plain = np.array(network.frames(mx.array(NOISE)))
    np.testing.assert_allclose(whole, plain, atol=1e-5 * np.abs(plain).max())


def test_the_same_bytes_in_a_batch_and_after_a_longer_recording(network: CAMPPlus) -> None:
    with backend.using(mx.Device(mx.cpu)):
        short = np.array(network.frames(mx.array(NOISE[:, :16000])))
        network.frames(mx.array(NOISE))
        for number in range(2):
            again = np.array(network.frames(mx.array(NOISE[number : number + 1, :16000])))
            assert again[0].tobytes() == short[number].tobytes()


def test_numpy_is_made_anew_for_other_weights_and_steps_aside(network: CAMPPlus) -> None:
    x = mx.array(NOISE)
    with backend.using(mx.Device(mx.cpu)):
        before = np.array(network.frames(x))
        network.xvector.transit2.linear.weight = 2 * network.xvector.transit2.linear.weight
        assert not np.allclose(np.array(network.frames(x)), before)
        network.xvector.transit1.linear = network.xvector.transit1.linear.to_quantized(32, 8)
        assert network._on_cpu() is None


def test_half_precision_goes_by_layers(network: CAMPPlus) -> None:
    network.set_dtype(mx.bfloat16)
    assert network._on_cpu() is None
    assert network.frames(mx.array(NOISE)).dtype == mx.bfloat16

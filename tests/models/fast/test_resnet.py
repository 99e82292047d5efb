"""The trunk on a CPU: Winograd by hand, against plain convolutions, and when it steps aside."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.models import backend, fast
from samevoice.models.fast import resnet as cpu_resnet
from samevoice.models.fast.front import Front
from samevoice.models.fast.resnet import TILES, Conv, Trunk, _strips, convolved, parted, whole
from samevoice.models.layers import BatchNorm, Conv2d
from samevoice.models.networks.wespeaker import LAYOUTS, Layout, ResNet

pytestmark = pytest.mark.skipif(not backend.on_cpu(), reason="MLX runs on a GPU here")


def serial(work: Any, numbers: Any) -> None:
    for number in numbers:
        work(number)


def run(
    image: np.ndarray, weight: np.ndarray, stride: tuple[int, int], **options: Any
) -> np.ndarray:
    outputs = len(weight)
    scale = options.pop("scale", np.ones(outputs))
    shift = options.pop("shift", np.zeros(outputs))
    conv = Conv.of(weight, stride, scale, shift)
    made, size = convolved(parted(image), image.shape[:2], conv, serial, **options)
    # Whatever lies around the image pads the next layer.
    edge = made.swapaxes(1, 2).reshape(made.shape[0], -1, outputs)
    inside = edge[1 : size[0] + 1, 1 : size[1] + 1]
    assert np.abs(edge).sum() == pytest.approx(np.abs(inside).sum())
    return whole(made, size)


def truth(image: np.ndarray, weight: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
    """The definition, in float64."""
    outputs, kernel, _, inputs = weight.shape
    reach = kernel // 2
    padded = np.pad(image.astype(np.float64), [(reach, reach), (reach, reach), (0, 0)])
    down, across = stride
    height, width = -(-image.shape[0] // down), -(-image.shape[1] // across)
    found = np.zeros((height, width, outputs))
    for i in range(height):
        for j in range(width):
            y, x = i * down, j * across
            found[i, j] = np.einsum("oabi,abi->o", weight, padded[y : y + kernel, x : x + kernel])
    assert inputs == image.shape[2]
    return found


def test_a_filter_that_moves_the_image() -> None:
    image = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    weight = np.zeros((2, 3, 3, 2), dtype=np.float32)
    weight[0, 0, 1, 0] = weight[1, 0, 1, 1] = 1  # what lies one row above
    assert run(image, weight, (1, 1))[1:].tolist() == image[:-1].tolist()
    assert run(image, weight, (1, 1))[0].tolist() == np.zeros((4, 2)).tolist()


@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 4),
    st.sampled_from(
        [(3, (1, 1)), (3, (2, 2)), (3, (2, 1)), (3, (1, 2)), (1, (1, 1)), (1, (2, 2)), (1, (2, 1))]
    ),
    st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_every_size_against_the_definition(
    height: int, width: int, channels: int, kind: tuple[int, tuple[int, int]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    image = random.standard_normal((height, width, channels)).astype(np.float32)
    weight = random.standard_normal((3, kind[0], kind[0], channels)).astype(np.float32)
    found = run(image, weight, kind[1], rectified=False)
    np.testing.assert_allclose(found, truth(image, weight, kind[1]), atol=2e-5)


def test_normalised_added_and_rectified() -> None:
    random = np.random.default_rng(0)
    image = random.standard_normal((4, 6, 2)).astype(np.float32)
    beside = random.standard_normal((4, 6, 2)).astype(np.float32)
    weight = random.standard_normal((2, 3, 3, 2)).astype(np.float32)
    scale, shift = np.array([0.5, -2.0]), np.array([1.0, 0.25])
    found = run(image, weight, (1, 1), scale=scale, shift=shift, added=parted(beside))
    wanted = np.maximum(truth(image, weight, (1, 1)) * scale + shift + beside, 0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_no_noisier_than_torch() -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    image = random.standard_normal((20, 62, 64)).astype(np.float32)
    weight = (random.standard_normal((64, 3, 3, 64)) / 24).astype(np.float32)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    w = torch.from_numpy(weight).permute(0, 3, 1, 2)
    exact = torch.conv2d(x.double(), w.double(), padding=1)[0].permute(1, 2, 0).numpy()
    theirs = torch.conv2d(x, w, padding=1)[0].permute(1, 2, 0).numpy()
    ours = run(image, weight, (1, 1), rectified=False)
    assert np.square(ours - exact).mean() <= 2 * np.square(theirs - exact).mean()


# --- in the network -----------------------------------------------------------------------------


def small(layout: Layout) -> ResNet:
    mx.random.seed(0)
    made = ResNet(layout, 24, 4, 16, two_emb_layer=False)
    for module in made.modules():  # type: ignore[no-untyped-call]
        if isinstance(module, BatchNorm):
            count = module.running_mean.shape[0]
            module.running_mean = mx.random.normal((count,)) * 0.1
            module.running_var = mx.random.uniform(0.5, 2.0, (count,))
            module.weight = mx.random.uniform(0.5, 1.5, (count,))
            module.bias = mx.random.normal((count,)) * 0.1
    made.eval()
    return made


LAYOUTS_SEEN = [Layout((2, 2, 1, 1), bottleneck=False), Layout((1, 2, 1, 1), bottleneck=True)]


@pytest.mark.parametrize("layout", LAYOUTS_SEEN, ids=["basic", "bottleneck"])
@pytest.mark.parametrize("frames", [9, 32, 61])
def test_the_same_as_layer_by_layer(layout: Layout, frames: int) -> None:
    network = small(layout)
    fbank = mx.random.normal((3, frames, 24))
    with fast.layer_by_layer():
        plain = np.array(network.frames(fbank))
    whole = np.array(network.frames(fbank))
    assert whole.shape == plain.shape
    np.testing.assert_allclose(whole, plain, atol=1e-4 * np.abs(plain).max())
    assert not np.array_equal(whole, plain)  # or the fast form was never taken


@pytest.mark.parametrize("layout", LAYOUTS_SEEN, ids=["basic", "bottleneck"])
@pytest.mark.parametrize("frames", [3, 32, 61, 66])
def test_the_frames_between_are_those_of_a_later_start(layout: Layout, frames: int) -> None:
    network = small(layout)
    fbank = mx.random.normal((2, frames, 24))
    plain, both = np.array(network.frames(fbank)), np.array(network.frames(fbank, between=True))
    with fast.layer_by_layer():
        by_layers = np.array(network.frames(fbank, between=True))
    # The last stage's input, of which it takes every second column.
    assert both.shape[2] == by_layers.shape[2] == -(-frames // 4)
    np.testing.assert_allclose(both, by_layers, atol=1e-4 * np.abs(both).max())
    assert np.array_equal(both[:, :, ::2], plain)


def test_a_frame_between_is_what_comes_half_a_stride_later() -> None:
    network = small(LAYOUTS_SEEN[0])
    fbank = mx.random.normal((1, 400, 24))
    between = np.array(network.frames(fbank, between=True))[:, :, 1::2]
    later = np.array(network.frames(fbank[:, 4:]))
    # Far enough from both ends that neither start is heard.
    middle = slice(20, 30)
    np.testing.assert_allclose(between[:, :, middle], later[:, :, middle], atol=1e-4)


def test_the_same_bytes_alone_and_in_a_batch() -> None:
    network = small(LAYOUTS_SEEN[0])
    fbank = mx.random.normal((4, 50, 24))
    together = np.array(network.frames(fbank))
    for number in range(4):
        alone = np.array(network.frames(fbank[number : number + 1]))
        assert alone[0].tobytes() == together[number].tobytes()


def test_new_weights_are_seen() -> None:
    network = small(LAYOUTS_SEEN[0])
    fbank = mx.random.normal((1, 20, 24))
    before = np.array(network.frames(fbank))
    network.conv1.weight = network.conv1.weight * 2
    assert not np.allclose(before, np.array(network.frames(fbank)))


def test_other_layers_are_left_to_mlx() -> None:
    class Other(Conv2d):
        pass

    network = small(LAYOUTS_SEEN[0])
    assert isinstance(cpu_resnet.of(network), Trunk)
    network.layer1[0].conv1 = Other(4, 4, 3)
    assert cpu_resnet.of(network) is None
    network = small(LAYOUTS_SEEN[0])
    network.set_dtype(mx.float16)
    assert cpu_resnet.of(network) is None
    assert network.frames(mx.random.normal((1, 20, 24))).dtype == mx.float16


def test_the_real_layout_has_every_layer() -> None:
    made = ResNet(LAYOUTS["WeSpeakerResNet34"], 80, 32, 256, two_emb_layer=False)
    trunk = cpu_resnet.of(made)
    assert trunk is not None
    assert isinstance(trunk.first, Front)
    assert (len(trunk.first.blocks), len(trunk.blocks), len(trunk.last)) == (3, 10, 3)
    assert sum(block.shortcut is not None for block in (*trunk.blocks, *trunk.last)) == 3


@given(st.integers(1, 60), st.integers(1, 1600))
def test_strips_are_alike_and_even_in_number(rows: int, columns: int) -> None:
    edges = _strips(rows, columns)
    sizes = np.diff(edges)
    assert (edges[0], edges[-1]) == (0, rows)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) % 2 == 0 or len(sizes) == rows
    assert columns * sizes.max() <= TILES + columns

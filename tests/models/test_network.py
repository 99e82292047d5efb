"""What embedding networks have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")
network = pytest.importorskip("samevoice.models.network")


class Means(network.CutEmbedding):  # type: ignore[misc, name-defined]
    """The mean of the frames is the voice, and one frame is too few."""

    fewest_frames = 2
    dimension = 3

    def frames(self, x: Any) -> Any:
        return x.reshape(x.shape[0], -1, 3)

    def whole(self, frames: Any) -> Any:
        return frames.mean(axis=1)


@pytest.fixture
def sounds() -> np.ndarray:
    """(2, 12): four frames of three."""
    return np.arange(24, dtype=np.float32).reshape(2, 12)


def test_each_voice_is_what_its_mask_leaves(sounds: np.ndarray) -> None:
    masks = np.array([[[1, 1, 0, 0], [0, 0.6, 1, 0.4]], [[1, 1, 1, 1], [0, 0, 1, 1]]], np.float32)
    found = np.array(Means({})(mx.array(sounds), mx.array(masks)))
    first, second = sounds.reshape(2, 4, 3)
    wanted = [[first[:2], first[1:3]], [second, second[2:]]]
    np.testing.assert_array_equal(found, [[cut.mean(axis=0) for cut in of] for of in wanted])


def test_a_voice_with_too_few_frames_is_zeros(sounds: np.ndarray) -> None:
    masks = np.array([[[0, 1, 0, 0], [1, 1, 1, 1]], [[0, 0, 0, 0], [0, 0, 0, 0]]], np.float32)
    found = np.array(Means({})(mx.array(sounds), mx.array(masks)))
    assert found.any(axis=-1).tolist() == [[False, True], [False, False]]
    silent = Means({})(mx.array(sounds), mx.zeros((2, 1, 4)))
    assert silent.shape == (2, 1, 3)
    assert not np.array(silent).any()


def test_masks_of_another_length_are_read_at_the_nearest_index_below(sounds: np.ndarray) -> None:
    found = np.array(Means({})(mx.array(sounds), mx.array([[[1.0, 0.0]], [[0.0, 1.0]]])))
    frames = sounds.reshape(2, 4, 3)
    np.testing.assert_array_equal(found[:, 0], [frames[0, :2].mean(0), frames[1, 2:].mean(0)])


def test_the_torch_side_cuts_alike(sounds: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    from samevoice.parity import authors

    masks = np.random.default_rng(0).random((2, 5, 7)).astype(np.float32)
    masks[0, 1] = 0
    theirs = authors.cut(
        lambda x: x.mean(1), torch.from_numpy(sounds.reshape(2, 4, 3)), torch.from_numpy(masks), 2
    )
    ours = np.array(Means({})(mx.array(sounds), mx.array(masks)))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)
    assert not ours[0, 1].any()


def test_without_masks_all_of_it_is_one_voice(sounds: np.ndarray) -> None:
    found = np.array(Means({})(mx.array(sounds)))
    np.testing.assert_array_equal(found, sounds.reshape(2, 4, 3).mean(axis=1))

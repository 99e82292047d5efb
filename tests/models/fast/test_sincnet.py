"""SincNet in numpy: its layers by hand, and when chunks may share what they overlap in."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.nn.layers.convolution import Conv1d

from samevoice.models.fast import cpu
from samevoice.models.fast import sincnet as form
from samevoice.models.fast.sincnet import (
    STRIP,
    CpuSincNet,
    Norm,
    convolved,
    normed,
    overlap,
    pooled,
)
from samevoice.models.layers import EPSILON
from samevoice.models.layers.sincnet import SincNet

SIZE, STEP = 8000, 1600


def network() -> SincNet:
    mx.random.seed(0)
    made = SincNet()
    for norm in (made.wav_norm, *made.norm):
        norm.weight = mx.random.uniform(0.5, 1.5, norm.weight.shape)
        norm.bias = mx.random.normal(norm.bias.shape) * 0.1
    return made


def fast(made: SincNet) -> CpuSincNet:
    found = form.of(made)
    assert found is not None
    return found


def sound(seed: int = 0, size: int = SIZE + 5 * STEP) -> np.ndarray:
    random = np.random.default_rng(seed)
    loudness = 0.01 + np.abs(np.sin(np.arange(size) / 900))
    return (0.1 * random.standard_normal(size) * loudness).astype(np.float32)


def chunks(audio: np.ndarray, step: int = STEP) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(audio, SIZE)[::step]


def by_layers(made: SincNet, waveforms: np.ndarray) -> np.ndarray:
    return np.array(made(mx.array(waveforms)[:, :, None]))


# --- layers -------------------------------------------------------------------------------------


def test_a_convolution_reads_what_comes_after() -> None:
    # Two channels, a kernel of two: 1 * first + 10 * second now, 100 * first + 1000 * second next.
    x = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
    weight = np.array([[1], [10], [100], [1000]], dtype=np.float32)
    assert convolved(x, weight, cpu.alone).tolist() == [[4321], [6543]]


@pytest.mark.parametrize("count", [1, STRIP - 1, STRIP, STRIP + 1, 2 * STRIP + 7])
@pytest.mark.parametrize("stride", [1, 10])
def test_strips_make_one_convolution(count: int, stride: int) -> None:
    random = np.random.default_rng(count)
    x = random.standard_normal((3 + stride * (count - 1), 2)).astype(np.float32)
    weight = random.standard_normal((6, 4)).astype(np.float32)
    windows = np.stack([x[stride * k : stride * k + 3].reshape(-1) for k in range(count)])
    for share in (cpu.alone, cpu.together):
        found = convolved(x, weight, share, stride)
        np.testing.assert_allclose(found, windows.astype(float) @ weight, atol=1e-5)


def test_windows_of_one_value_are_one() -> None:
    # Kernel 2, stride 2: windows at 0, 2, 4 ...; those at 2, 4 and 6 hold fives alone.
    x = np.array([1, 5, 5, 5, 5, 5, 5, 5, 2, 2], dtype=np.float32)[:, None]
    assert list(form.still(x, 2, 2)) == [(1, 4)]
    both = np.concatenate([x, x], axis=1)
    assert list(form.still(both, 2, 2)) == [(1, 4)]
    both[4, 1] = 0
    assert list(form.still(both, 2, 2)) == [(1, 2), (3, 4)]
    assert list(form.still(x[:3], 2, 2)) == []


def test_pooling_drops_an_incomplete_rest() -> None:
    x = np.array([1, 5, 2, -3, -1, -2, 9, 9], dtype=np.float32)[:, None]
    assert pooled(x).tolist() == [[5], [-1]]


@given(st.integers(3, 40), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_the_largest_size_to_the_byte(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, 4)).astype(np.float32)
    scale, shift = random.standard_normal((2, 4)).astype(np.float32).astype(np.float64)
    plain = np.abs(x * scale.astype(np.float32) + shift.astype(np.float32))
    assert form.pooled_sizes(x, scale, shift).tobytes() == pooled(plain).tobytes()


def test_norm_by_hand() -> None:
    # Mean 2, variance 1: -1 and 1 become 3 * -1 + 1, leaky, and 3 * 1 + 1.
    x = np.array([[1], [3], [1], [3]], dtype=np.float32)
    found = normed(x, Norm(np.array([3.0]), np.array([1.0])))
    np.testing.assert_allclose(found[:, 0], [-0.02, 4, -0.02, 4], rtol=1e-4)


def test_a_constant_channel_becomes_its_bias() -> None:
    x = np.full((5000, 1), 0.1, dtype=np.float32)
    found = normed(x, Norm(np.array([1.0]), np.array([0.25])))
    np.testing.assert_allclose(found, 0.25, rtol=1e-6)


def test_a_small_ripple_on_a_large_mean_keeps_its_digits() -> None:
    random = np.random.default_rng(0)
    x = (1000 + random.standard_normal((5000, 1))).astype(np.float32)
    wide = x.astype(np.float64)
    want = (wide - wide.mean()) / np.sqrt(wide.var() + EPSILON)
    found = normed(x, Norm(np.array([1.0]), np.array([0.0])))
    np.testing.assert_allclose(found, np.where(want < 0, 0.01 * want, want), atol=2e-6)


# --- chunks that share --------------------------------------------------------------------------


def test_overlap_is_what_memory_says() -> None:
    views = chunks(sound())
    assert overlap(views) == STEP
    assert overlap(views[::2]) == 2 * STEP
    for apart in (views.copy(), views[:1], views[::-1], views[:, ::2], views[[0, 1]]):
        assert overlap(apart) == 0


@pytest.mark.parametrize("step", [STEP, 1604, 7990])
def test_shared_as_layer_by_layer(step: int) -> None:
    # 1604 samples are no whole number of the filters' strides: there every chunk is for itself.
    made = network()
    views = chunks(sound(), step)
    want = by_layers(made, views)
    for given_ in (views, views.copy()):
        np.testing.assert_allclose(fast(made)(given_), want, atol=2e-5)


def filtered_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long what each call of the filters takes is."""
    sizes = []
    right = form.convolved

    def told(x: np.ndarray, *words: Any) -> np.ndarray:
        if x.shape[1] == 1:
            sizes.append(len(x))
        return right(x, *words)

    monkeypatch.setattr(form, "convolved", told)
    return sizes


def test_the_filters_run_once_over_what_chunks_share(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, made, views = filtered_sizes(monkeypatch), network(), chunks(sound())
    fast(made)(views)
    assert sizes == [len(sound())]
    sizes.clear()
    fast(made)(views.copy())
    assert sizes == [SIZE - 19] * 6  # less what the pooling leaves over


def test_a_chunk_on_a_large_mean_is_filtered_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, made = filtered_sizes(monkeypatch), network()
    audio = sound()
    audio[SIZE + 2 * STEP :] += 30  # the last three chunks hold some of it
    views = chunks(audio)
    found = fast(made)(views)
    assert sorted(sizes) == [SIZE - 19] * 3 + [len(sound())]
    np.testing.assert_allclose(found, by_layers(made, views), atol=2e-4)


@pytest.mark.parametrize("level", [0.0, 0.1])
@pytest.mark.parametrize("late", [0, 15, 200])
def test_silence_stays_exact(level: float, late: int) -> None:
    # Where nothing varies, each norm takes a product's last bit times 300. The last samples may
    # change the first means and nothing that the last norms see.
    made = network()
    audio = sound() + np.float32(level)
    audio[: SIZE - late] = level
    views = chunks(audio)
    want = by_layers(made, views)
    for given_ in (views, views.copy(), views[:1]):
        found = fast(made)(given_)
        assert np.ptp(found[0], axis=0).max() == 0
        np.testing.assert_allclose(found, want[: len(found)], atol=2e-5 if level == 0 else 1e-4)


@pytest.mark.parametrize("count", [1, 6])
def test_the_same_bytes_on_one_core(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    made, views = fast(network()), chunks(sound())[:count]
    both = []
    for cores in (1, 2, 8):
        monkeypatch.setattr(form, "cores", lambda cores=cores: cores)
        both.append(made(views).tobytes())
    assert both[0] == both[1] == both[2]


# --- when it steps aside ------------------------------------------------------------------------


def test_other_layers_and_half_precision_have_no_fast_form() -> None:
    class Other(Conv1d):
        pass

    made = network()
    made.conv[1] = Other(80, 60, 5)
    assert form.of(made) is None
    made = network()
    made.set_dtype(mx.bfloat16)
    assert form.of(made) is None

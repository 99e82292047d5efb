"""Attention by hand: heads, positions, gates, and its form for a CPU beside the plain one."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import fast
from samevoice.models.fast import cpu
from samevoice.models.layers import gelu, named_arrays
from samevoice.models.layers.attention import (
    Attention,
    GatedAttention,
    PositionEmbedding,
    buckets,
)

NOISE = np.random.default_rng(0)


def filled(layer: Attention) -> Attention:
    shapes = {name: x.shape for name, x in named_arrays(layer).items()}
    made = {n: np.array(NOISE.standard_normal(shape), np.float32) for n, shape in shapes.items()}
    layer.load_weights([(name, mx.array(x)) for name, x in made.items()])
    return layer


def test_near_distances_have_a_bucket_each_and_those_behind_other_ones() -> None:
    # Of eight, four are for frames behind; two for distances 0 and 1, then 2 to 3, then the rest.
    got = buckets(6, 8, 8)
    assert got[0].tolist() == [0, 5, 6, 6, 7, 7]
    assert got[:, 0].tolist() == [0, 1, 2, 2, 3, 3]


def test_one_head_by_hand() -> None:
    layer = Attention(2, 1)
    for name in ("query_proj", "key_proj", "value_proj", "out_proj"):
        layer[name].weight, layer[name].bias = mx.eye(2), mx.zeros((2,))
    x = mx.array([[[0.0, 0.0], [2.0, 0.0]]])
    # The second frame sees itself by exp(4 / sqrt(2)) to one; the first sees both alike.
    share = np.exp(4 / np.sqrt(2)) / (1 + np.exp(4 / np.sqrt(2)))
    for forms in (fast.plain_forms(), fast.layer_by_layer()):
        with forms:
            got = np.array(layer(x))
        np.testing.assert_allclose(got[0], [[1, 0], [2 * share, 0]], rtol=1e-6)


@pytest.mark.parametrize("kept", [None, [0, 2]])
def test_gates_and_positions_in_both_forms(kept: list[int] | None) -> None:
    positions = PositionEmbedding(8, 3, 8)
    layer = filled(GatedAttention(6, 3, kept, positions))
    x = mx.array(NOISE.standard_normal((2, 9, 6)).astype(np.float32))
    bias = layer.positions(9)
    with fast.plain_forms():
        plain = np.array(layer(x, bias))
        without = np.array(layer(x))
    np.testing.assert_allclose(np.array(layer(x, bias)), plain, rtol=1e-4, atol=1e-5)
    assert np.abs(plain - without).max() > 0.1
    for head in range(3):  # a head that was left out looks nowhere
        changed = mx.array(np.where(np.arange(3) == head, 5.0, 0.0).astype(np.float32))
        moved = np.array(layer(x, bias + changed[:, None, None] * mx.eye(9)))
        assert bool(np.abs(moved - plain).max() > 1e-3) is (kept is None or head in kept)


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="5 numbers do not divide into 2 heads"):
        Attention(5, 2)
    with pytest.raises(ValueError, match=r"heads \[4\] of 3"):
        GatedAttention(6, 3, [4])


def test_gelu_on_a_cpu_is_gelu() -> None:
    scipy = pytest.importorskip("scipy.special")
    x = np.concatenate([np.linspace(-9, 9, 100_001), [-1e30, 1e30, 0.0]]).astype(np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(cpu.gelu(x.copy()), wide * scipy.ndtr(wide), rtol=2e-7, atol=2e-7)
    assert np.isnan(np.array(gelu(mx.array([np.nan])))).all()

"""WavLM's and Conformer's layers: forms for a CPU beside the plain ones, and the mixture."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import fast
from samevoice.models.layers import LayerNorm, Module, named_arrays
from samevoice.models.layers.conformer import Depthwise
from samevoice.models.layers.taps import listen
from samevoice.models.layers.wavlm import Conv, FeatureExtractor, Mixture, normalised

LAYERS = ((6, 10, 5), (8, 3, 2), (4, 2, 2))


def filled(layer: Any) -> Any:
    random = np.random.default_rng(0)
    shapes = {name: x.shape for name, x in named_arrays(layer).items()}
    made = {name: np.array(random.standard_normal(shape)) for name, shape in shapes.items()}
    layer.load_weights([(name, mx.array(x, dtype=mx.float32)) for name, x in made.items()])
    return layer


def heard(*shape: int) -> mx.array:
    return mx.array(np.random.default_rng(1).standard_normal(shape), dtype=mx.float32)


def alike(layer: Module, x: mx.array) -> None:
    with fast.plain_forms():
        plain = np.array(layer(x))
    with fast.layer_by_layer():
        by_layer = np.array(layer(x))
    scale = np.abs(plain).max()
    for got in (by_layer, np.array(layer(x))):
        np.testing.assert_allclose(got, plain, rtol=0, atol=3e-6 * scale)


# The last is a frame more than a strip has.
@pytest.mark.parametrize("samples", [50, 1000, 50 + 32 * 20])
@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_front(samples: int, mode: str, bias: bool) -> None:
    alike(filled(FeatureExtractor(LAYERS, bias, mode)), heard(2, samples))


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        (Conv(12, 12, 8, 1, True, 4, 3), 12),
        (Conv(3, 5, 7, 3), 3),
        (Depthwise(6, 5), 6),
        (LayerNorm(6), 6),
    ],
)
def test_layers(layer: Any, channels: int) -> None:
    alike(filled(layer), heard(2, 30, channels))


def test_a_mixture_is_the_same_whether_anyone_looks_or_not() -> None:
    mixture = Mixture(3)
    mixture.weight = mx.log(mx.array([1.0, 2.0, 5.0]))  # an eighth, a quarter, five eighths
    layers = [mx.full((1, 2, 2), value) for value in (8.0, 16.0, 80.0)]
    with listen(mixture):
        listened = np.array(mixture.of(iter(layers)))
    for got in (listened, np.array(mixture.of(iter(layers)))):
        np.testing.assert_allclose(got, 55.0, rtol=1e-6)


def test_a_batch_is_made_even_as_one() -> None:
    # Mean 1 and variance 4 over both rows.
    got = np.array(normalised(mx.array([[3.0, -1.0], [3.0, -1.0]])))
    np.testing.assert_allclose(got, np.array([[1, -1], [1, -1]]), rtol=1e-5)
    loud = np.array(normalised(mx.array([[3.0, -1.0], [300.0, -100.0]])))
    assert abs(loud[0]).max() < 0.5

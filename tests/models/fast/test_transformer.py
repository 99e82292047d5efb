"""Layers with attention as a CPU runs them, in strips of frames, beside the same layer by layer."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.quantized import quantize

from samevoice.models import backend, fast
from samevoice.models.fast import cpu, depthwise
from samevoice.models.layers import named_arrays
from samevoice.models.layers.attention import Attention, GatedAttention, PositionEmbedding
from samevoice.models.layers.conformer import ConformerLayer
from samevoice.models.layers.wavlm import EncoderLayer
from samevoice.models.networks.diarizen import ConformerBlock
from samevoice.models.networks.redimnet2 import Backbone

pytestmark = pytest.mark.skipif(not backend.on_cpu(), reason="MLX runs on a GPU here")

DIMS, HEADS = 12, 3
FRAMES = (1, 5, 300)  # the last in three strips


def filled(layer: Any) -> Any:
    random = np.random.default_rng(0)
    made = {}
    for name, x in named_arrays(layer).items():
        drawn = random.standard_normal(x.shape) * 0.4
        made[name] = np.abs(drawn) + 0.5 if name.endswith("running_var") else drawn
    layer.load_weights([(name, mx.array(x, dtype=mx.float32)) for name, x in made.items()])
    return layer


def noise(*shape: int) -> mx.array:
    return mx.array(np.random.default_rng(shape[-2]).standard_normal(shape), dtype=mx.float32)


def alike(layer: Any, *given: Any) -> None:
    """The form is taken, and gives what the layers give."""
    assert layer._on_cpu() is not None
    whole = np.array(layer(*given))
    with fast.layer_by_layer():
        by_layer = np.array(layer(*given))
    np.testing.assert_allclose(whole, by_layer, rtol=0, atol=5e-6 * np.abs(by_layer).max())


def gated(kept: list[int] | None = None) -> GatedAttention:
    return GatedAttention(DIMS, HEADS, kept, PositionEmbedding(8, HEADS, 16))


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    "attention", [lambda: Attention(DIMS, HEADS), gated, lambda: gated([0, 2]), lambda: None]
)
def test_a_layer_of_an_encoder(attention: Any, first: bool, frames: int) -> None:
    layer = filled(EncoderLayer(DIMS, attention(), 20, first))
    asked = layer.get("attention")
    bias = asked.positions(frames) if isinstance(asked, GatedAttention) else None
    alike(layer, noise(2, frames, DIMS), bias)


@pytest.mark.parametrize("first", [False, True])
def test_pruning_may_leave_attention_alone(first: bool) -> None:
    alike(filled(EncoderLayer(DIMS, Attention(DIMS, HEADS), 0, first)), noise(2, 7, DIMS), None)
    alike(filled(EncoderLayer(DIMS, None, 0, first)), noise(2, 7, DIMS), None)


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", [ConformerLayer, ConformerBlock])
def test_a_layer_of_a_conformer(kind: Any, batch: int, frames: int) -> None:
    sizes = {ConformerLayer: (DIMS, HEADS, 20, 7), ConformerBlock: (DIMS, 20, HEADS, 7)}
    alike(filled(kind(*sizes[kind])), noise(batch, frames, DIMS))


def stage(down: int, across: int, width: int, **more: Any) -> dict[str, Any]:
    groups = {"groups": 4, "block_groups": width}
    return {"stride": [down, across], "width": width, "blocks": 2, "hidden": 0, **groups, **more}


BACKBONE: dict[str, Any] = {
    "C": 4,
    "stages": [stage(1, 1, 8), stage(2, 1, 8, hidden=8), stage(1, 2, 8, groups=2, hidden=4)],
    "return_2d": False,
    "out_channels": 5,
}


@pytest.mark.parametrize("changed", [{}, {"return_2d": True}, {"out_channels": 0}])
@pytest.mark.parametrize(("batch", "frames"), [(1, 2), (2, 9), (1, 150)])
def test_a_backbone_of_images_and_sequences(
    changed: dict[str, Any], batch: int, frames: int
) -> None:
    network = filled(Backbone({**BACKBONE, **changed}, 6))
    alike(network, noise(batch, 6, frames, 1))


def test_blocks_that_hear_several_channels_together_are_left_to_mlx() -> None:
    stages = [stage(1, 1, 8, block_groups=2)]
    assert filled(Backbone({**BACKBONE, "stages": stages}, 6))._on_cpu() is None


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-30])
def test_a_norm_between_two_convolutions_may_have_any_scale(scale: float) -> None:
    network = filled(Backbone(BACKBONE, 6))
    for block in (network.stage0[3], network.stage2[3]):
        block.bn1.weight = mx.array([scale, 1.0] * 4)
    alike(network, noise(1, 6, 40, 1))


def layers() -> list[Any]:
    return [
        EncoderLayer(DIMS, gated(), 20, False),
        ConformerLayer(DIMS, HEADS, 20, 7),
        ConformerBlock(DIMS, 20, HEADS, 7),
        Backbone(BACKBONE, 6),
    ]


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_other_types_have_no_form(layer: Any) -> None:
    assert layer._on_cpu() is not None
    layer.set_dtype(mx.float16)
    assert layer._on_cpu() is None


def test_packed_weights_have_no_form() -> None:
    layer = EncoderLayer(64, Attention(64, 2), 64, False)
    quantize(layer, group_size=32)
    assert layer._on_cpu() is None


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_the_same_bytes_on_any_number_of_cores(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = filled(layer)
    given = [noise(1, 6, 150, 1)] if isinstance(layer, Backbone) else [noise(1, 150, DIMS)]
    if isinstance(layer, EncoderLayer):
        given.append(layer.attention.positions(150))
    made = []
    for cores in (1, 2, 8):
        monkeypatch.setattr(cpu, "cores", lambda cores=cores: cores)
        made.append(np.array(layer(*given)).tobytes())
    assert made[0] == made[1] == made[2]


def test_new_weights_are_seen() -> None:
    layer, x = filled(EncoderLayer(DIMS, Attention(DIMS, HEADS), 20, False)), noise(1, 5, DIMS)
    before = np.array(layer(x, None))
    layer.final_layer_norm.bias = layer.final_layer_norm.bias + 1
    np.testing.assert_allclose(np.array(layer(x, None)), before + 1, atol=1e-5)


def test_gelus_tanh_form_by_hand() -> None:
    x = np.array([-200, -1, 0, 0.5, 3, 200], np.float32)
    want = [0.5 * n * (1 + np.tanh(np.sqrt(2 / np.pi) * (n + 0.044715 * n**3))) for n in x.tolist()]
    np.testing.assert_allclose(cpu.gelu_tanh(x.copy()), want, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 499])
def test_strips_hold_every_row_once(count: int) -> None:
    seen: list[int] = []
    cpu.strips(lambda rows: seen.extend(range(rows.start, rows.stop)), count, cpu.alone)
    assert seen == list(range(count))


@pytest.mark.parametrize("layer", layers()[1:], ids=lambda layer: type(layer).__name__)
def test_many_small_blocks(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "NUMBERS", 50)
    image = isinstance(layer, Backbone)
    alike(filled(layer), noise(1, 6, 40, 1) if image else noise(1, 40, DIMS))

"""SuplimeSegmentation's table: every tensor goes over and back, in both of torch's namings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samevoice.converters.families import suplime
from samevoice.converters.recognise import wrapper
from samevoice.converters.rules import Tensor, convert, invert, plan
from samevoice.converters.transforms import WEIGHT_NORM
from samevoice.errors import ConversionError

mx = pytest.importorskip("mlx.core")
utils = pytest.importorskip("mlx.utils")
networks = pytest.importorskip("samevoice.models.networks.suplime")

WAV2VEC: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[6, 10, 5], [8, 3, 2]],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 8,
    "encoder_pos_conv_kernel": 4,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_num_buckets": 8,
    "encoder_max_distance": 20,
    "encoder_ff_interm_features": 10,
    "encoder_layer_norm_first": False,
}
HYPER: dict[str, Any] = {
    "wav2vec": WAV2VEC,
    "wav2vec_layer": -1,
    "conformer": {
        "num_heads": 4,
        "ffn_dim": 6,
        "num_layers": 1,
        "depthwise_conv_kernel_size": 3,
    },
    "linear": {"hidden_size": 5, "num_layers": 1},
    "sample_rate": 16000,
    "num_channels": 1,
}
CHANGES: dict[str, dict[str, Any]] = {
    "WavLM": {},
    "of older torch": {"weight_norm": "g and v"},
    "large": {
        "extractor_mode": "layer_norm",
        "extractor_conv_bias": True,
        "encoder_layer_norm_first": True,
    },
    "wav2vec 2.0": {"encoder_num_buckets": None},
}


def full(changes: dict[str, Any], **beside: Any) -> dict[str, Any]:
    """A config as the bundle has it."""
    wav2vec = {**WAV2VEC, "source_num_layers": 2, "weight_norm": "parametrizations", **changes}
    wav2vec["packed"] = wav2vec["encoder_num_buckets"] is not None
    if wav2vec["encoder_num_buckets"] is None:
        del wav2vec["encoder_num_buckets"], wav2vec["encoder_max_distance"]
    said = {"num_classes": 7, "activation": "log_softmax", "normalize_waveform": False}
    return {**HYPER, **said, "wav2vec": wav2vec, **beside}


def checkpoint(config: dict[str, Any]) -> dict[str, Tensor]:
    """A state dict as torch saves it, made of the MLX network by the table's own inverse."""
    random = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    network = networks.SuplimeSegmentation(config)
    made = {
        name: Tensor.of(values(*array.shape))
        for name, array in utils.tree_flatten(network.parameters())
    }
    inner = "wav2vec.model" if config["normalize_waveform"] else "wav2vec"
    conv = f"{inner}.encoder.transformer.pos_conv_embed.conv"
    names = {
        "parametrizations": (
            "parametrizations.weight.original0",
            "parametrizations.weight.original1",
        ),
        "g and v": ("weight_g", "weight_v"),
    }[config["wav2vec"]["weight_norm"]]
    kept = {f"{conv}.{names[0]}": values(1, 1, 4), f"{conv}.{names[1]}": values(8, 4, 4)}
    if config["wav2vec"]["encoder_layer_norm_first"]:
        kept[f"{inner}.encoder.transformer.layer_norm.weight"] = values(8)
    tensors = {name: Tensor.of(array) for name, array in kept.items()}
    return {n: Tensor.of(x) for n, x in invert(suplime.table(config), made, tensors)}


def metadata(config: dict[str, Any]) -> dict[str, Any]:
    return {"hyper_parameters": config}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("normalised", [False, True])
def test_there_and_back(kind: str, normalised: bool) -> None:
    wanted = full(CHANGES[kind], normalize_waveform=normalised)
    tensors = checkpoint(wanted)
    assert wrapper(suplime.FAMILY, tensors) == ""
    config = suplime.config(tensors, metadata(wanted))
    for name in ("wav2vec", "wav2vec_layer", "conformer", "linear", "normalize_waveform"):
        assert config[name] == wanted[name]
    shapes = {
        name: tuple(array.shape)
        for name, array in utils.tree_flatten(networks.SuplimeSegmentation(config).parameters())
    }
    laid = plan(suplime.table(config), tensors, shapes)
    made = {name: Tensor.of(array) for name, array in convert(laid)}
    kept = {name: tensors[name] for name in laid.kept}
    back = dict(invert(suplime.table(config), made, kept))
    assert back.keys() == tensors.keys()
    assert all(back[n].tobytes() == tensor.load().tobytes() for n, tensor in tensors.items())


def test_a_weights_norm_by_hand() -> None:
    # Two taps, as long as 3-4-5 and 5-12-13 triangles say; their norms become 10 and 1.
    direction = np.array([[[3.0, 5.0], [4.0, 12.0]]], np.float32)
    (weight,) = WEIGHT_NORM.forward(np.array([[[10.0, 1.0]]], np.float32), direction)
    want = np.array([[6, 8], [5 / 13, 12 / 13]])
    np.testing.assert_allclose(weight[0], want)
    with pytest.raises(ValueError, match="a norm for each tap"):
        WEIGHT_NORM.forward(np.ones((1, 1, 3)), direction)


def test_of_one_layer_what_lies_behind_it_is_left_out() -> None:
    tensors = checkpoint(full({}))
    del tensors["wav2vec_weights"]
    said = {**HYPER, "wav2vec_layer": 1}
    config = suplime.config(tensors, {"hyper_parameters": said})
    assert config["wav2vec"]["encoder_num_layers"] == 1
    network = networks.SuplimeSegmentation(config)
    shapes = {name: tuple(x.shape) for name, x in utils.tree_flatten(network.parameters())}
    dropped = plan(suplime.table(config), tensors, shapes).dropped
    assert len(dropped) == 15
    assert set(dropped.values()) == {"lies behind the layer that is listened to"}
    with pytest.raises(ConversionError, match="wav2vec_layer is 3, but there are 2 layers"):
        suplime.config(tensors, {"hyper_parameters": {**HYPER, "wav2vec_layer": 3}})
    with pytest.raises(ConversionError, match="wav2vec_layer is None"):
        suplime.config(tensors, {})


def test_what_is_not_said_is_assumed_and_told() -> None:
    assumed = suplime.config(checkpoint(full({})), {})["assumed"]
    assert any(one.startswith("encoder_max_distance 800") for one in assumed)
    assert any(one.startswith("conformer.num_heads 4") for one in assumed)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"conformer": {"num_heads": 3}}, "conformer.num_heads is 3, which does not divide 8"),
        ({"wav2vec": {"extractor_conv_layer_config": [(6, 10, 5)]}}, "2 convolutions in front"),
    ],
)
def test_wrong_hyper_parameters_are_one_line(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        suplime.config(checkpoint(full({})), {"hyper_parameters": said})

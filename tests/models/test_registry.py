from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from samevoice.errors import BundleError
from samevoice.models import registry
from samevoice.models.network import Network


def write(folder: Path, model: Network, shards: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config))
    flat: Any = tree_flatten(model.parameters())
    weights: list[tuple[str, mx.array]] = flat
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), dict(weights))
        return folder
    places: dict[str, str] = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        mx.save_safetensors(str(folder / file), dict(weights[i::shards]))
        places |= dict.fromkeys((name for name, _ in weights[i::shards]), file)
    index = json.dumps({"metadata": {}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index)
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_round_trip(make: Any, tmp_path: Path, shards: int) -> None:
    mx.random.seed(0)
    model = registry.build(make.pyannet_config())
    x = mx.random.normal((1, 8000))
    again = registry.load(write(tmp_path, model, shards))
    assert again.config == model.config
    assert not again.training
    np.testing.assert_array_equal(np.array(again(x)), np.array(model(x)))


def test_quantised_round_trip(make: Any, tmp_path: Path) -> None:
    mx.random.seed(0)
    config = make.pyannet_config(
        lstm={"hidden_size": 64, "num_layers": 1, "bidirectional": True},
        linear={"hidden_size": 40, "num_layers": 2},
    )
    plain = registry.build(config)
    model = registry.build(config | {"quantization": {"group_size": 64, "bits": 8}})
    names = make.shapes(model)
    # 128 inputs divide into groups of 64; 40 do not and stay as they are.
    assert "linear.0.scales" in names
    assert "linear.1.scales" not in names
    assert "classifier.scales" not in names
    model.update(plain.parameters())
    packed, scales, biases = mx.quantize(plain.linear[0].weight, 64, 8)
    model.linear[0].weight, model.linear[0].scales, model.linear[0].biases = packed, scales, biases
    x = mx.random.normal((1, 8000))
    got = np.array(registry.load(write(tmp_path, model))(x))
    np.testing.assert_allclose(got, np.array(plain(x)), atol=0.01)


def test_unknown_architecture_names_the_known() -> None:
    with pytest.raises(BundleError, match=r"'XVector' .*PyanNet.*WeSpeakerResNet293"):
        registry.build({"architecture": "XVector"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_channels": 2}, "mono"),
        ({"activation": "softmax"}, "activation"),
        ({"lstm": {"num_layers": 2}}, "hidden_size"),
        ({"sincnet": {}}, "stride"),
    ],
)
def test_a_bad_config_says_what_is_wrong(make: Any, change: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        registry.build(make.pyannet_config(**change))


def test_weights_that_do_not_fit(make: Any, tmp_path: Path) -> None:
    model = registry.build(make.pyannet_config())
    write(tmp_path, model)
    weights = make.arrays(model)
    file = str(tmp_path / "model.safetensors")
    left_out = {k: v for k, v in weights.items() if k != "classifier.bias"}
    mx.save_safetensors(file, left_out)
    with pytest.raises(BundleError, match=r"classifier\.bias"):
        registry.load(tmp_path)
    mx.save_safetensors(file, weights | {"surplus": mx.zeros(1)})
    with pytest.raises(BundleError, match="surplus"):
        registry.load(tmp_path)
    mx.save_safetensors(file, weights | {"classifier.bias": mx.zeros(8)})
    with pytest.raises(BundleError, match=r"classifier\.bias"):
        registry.load(tmp_path)


def test_what_is_no_bundle(make: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is its folder a samevoice bundle"):
        registry.load(tmp_path)
    config = tmp_path / "config.json"
    config.write_text("[1]")
    with pytest.raises(BundleError, match="no JSON object"):
        registry.load(tmp_path)
    config.write_text("{")
    with pytest.raises(BundleError, match="no JSON"):
        registry.load(tmp_path)
    config.write_text(json.dumps({"model_type": "full"}))
    with pytest.raises(BundleError, match="segmentation/ or embedding/"):
        registry.load(tmp_path)
    config.write_text(json.dumps(make.pyannet_config()))
    with pytest.raises(BundleError, match="neither"):
        registry.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(BundleError):
        registry.load(tmp_path)


@pytest.mark.parametrize("name", ["../outside.safetensors", "missing.safetensors"])
def test_an_index_stays_in_its_folder(make: Any, tmp_path: Path, name: str) -> None:
    inside = tmp_path / "bundle"
    write(inside, registry.build(make.pyannet_config()), shards=2)
    (tmp_path / "outside.safetensors").write_bytes(b"")
    index = inside / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(BundleError, match="not in the bundle"):
        registry.load(inside)

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from samevoice.errors import BundleError
from samevoice.family import FamilyError
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


def test_unknown_architecture_names_the_nearest() -> None:
    said = r"'XVector' \(nearest is XVectorSincNet or XVectorMFCC; samevoice doctor lists"
    with pytest.raises(FamilyError, match=said):
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
    with pytest.raises(BundleError, match="it is no samevoice bundle"):
        registry.load(tmp_path)
    config = tmp_path / "config.json"
    config.write_text("[1]")
    with pytest.raises(BundleError, match="no JSON object"):
        registry.load(tmp_path)
    config.write_text("{")
    with pytest.raises(BundleError, match="no JSON"):
        registry.load(tmp_path)
    config.write_text(json.dumps({"model_type": "full", "components": ["segmentation"]}))
    with pytest.raises(BundleError, match="segmentation/ or embedding/"):
        registry.load(tmp_path)
    config.write_text(json.dumps(make.pyannet_config()))
    with pytest.raises(BundleError, match="neither"):
        registry.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(BundleError):
        registry.load(tmp_path)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle as convert writes it, in two shards."""
    import made_up
    from safetensors.numpy import save_file

    import samevoice

    save_file(made_up.pyannet_arrays(), tmp_path / "x.safetensors")
    samevoice.convert(tmp_path / "x.safetensors", tmp_path / "out", max_shard_size="20KB")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    return tmp_path / "out"


def test_what_was_recorded_is_checked(bundle: Path) -> None:
    registry.load(bundle)
    for path in (*bundle.glob("model*"), bundle / "config.json"):
        whole = path.read_bytes()
        for changed in (whole + b" ", whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]):
            path.write_bytes(changed)
            with pytest.raises(BundleError, match=re.escape(path.name)):
                registry.load(bundle)
        path.write_bytes(whole)
    registry.load(bundle)


def test_what_nobody_recorded_is_loaded(bundle: Path) -> None:
    provenance = bundle / "provenance.json"
    found = json.loads(provenance.read_text())
    file = sorted(bundle.glob("model-*"))[0]
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    changes: tuple[dict[str, Any], ...] = ({"outputs": []}, {"outputs": {"config.json": 3}})
    for change in changes:
        provenance.write_text(json.dumps(found | change))
        with pytest.raises(BundleError):
            registry.load(bundle)
    del found["outputs"]
    provenance.write_text(json.dumps(found))
    registry.load(bundle)
    provenance.unlink()
    registry.load(bundle)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(make: Any, tmp_path: Path, value: float) -> None:
    model = registry.build(make.pyannet_config())
    bias = mx.concatenate([model.classifier.bias[:-1], mx.array([value])])
    model.classifier.bias = bias
    with pytest.raises(BundleError, match=r"'classifier\.bias' holds values that are NaN or inf"):
        registry.load(write(tmp_path, model))


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 10**400},
        {"sample_rate": "16000"},
        {"sample_rate": None},
        {"num_classes": -7},
        {"num_classes": 7.5},
        {"num_classes": True},
        {"sincnet": {"stride": 0}},
        {"sincnet": 10},
        {"lstm": {"hidden_size": 8, "num_layers": 10**9, "bidirectional": True}},
        {"lstm": {"hidden_size": 1e300, "num_layers": 1, "bidirectional": True}},
        {"lstm": [8, 2]},
        {"linear": {"hidden_size": 8, "num_layers": 1 << 62}},
        {"quantization": {"group_size": 0, "bits": 4}},
        {"quantization": {"group_size": 64, "bits": 99}},
        {"quantization": 4},
        {"activation": ["log_softmax"]},
    ],
    ids=str,
)
def test_absurd_numbers_and_types_in_a_config_are_refused(make: Any, change: Any) -> None:
    with pytest.raises(BundleError, match="config of PyanNet") as refused:
        registry.build(make.pyannet_config(**change))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "change",
    [
        {"frame_length": 1e300},
        {"frame_length": 0},
        {"frame_shift": -10.0},
        {"num_mel_bins": 1e9},
        {"m_channels": -1},
        {"embed_dim": 10**12},
        {"fbank_centering_span": -3},
        {"window_type": 3},
    ],
    ids=str,
)
def test_absurd_numbers_in_an_embeddings_config(make: Any, change: Any) -> None:
    with pytest.raises(BundleError, match="config of WeSpeakerResNet34"):
        registry.build(make.wespeaker_config(**change))


def test_a_pipe_in_a_files_place_is_refused(make: Any, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "provenance.json"):
        folder = write(tmp_path / name, registry.build(make.pyannet_config()))
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(BundleError, match=r"not an ordinary file|neither"):
            registry.load(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "missing.safetensors"])
def test_an_index_stays_in_its_folder(make: Any, tmp_path: Path, name: str) -> None:
    inside = tmp_path / "bundle"
    write(inside, registry.build(make.pyannet_config()), shards=2)
    (tmp_path / "outside.safetensors").write_bytes(b"")
    index = inside / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(BundleError, match="not in the bundle"):
        registry.load(inside)


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("pool_hidden", {"pool_hidden": 10**7}),
        ("inner.deep", {"inner": {"deep": 1e300}}),
        ("stages.1.width", {"stages": [{}, {"width": -(10**9)}]}),
        ("layers.0", {"layers": [float("nan")]}),
    ],
)
def test_no_number_of_a_config_is_without_bounds(
    make: Any, where: str, change: dict[str, Any]
) -> None:
    """Whatever it is called, and however deep it stands."""
    with pytest.raises(BundleError, match=f"config of PyanNet: {where} is .*: at most 1e") as found:
        registry.build(make.pyannet_config(**change))
    assert len(str(found.value)) < 200

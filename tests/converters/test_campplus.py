"""CAM++ is told by what only it has; every tensor goes over and comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samevoice.converters.families import campplus, wespeaker
from samevoice.converters.reading.checkpoint import read
from samevoice.converters.recognise import wrapper
from samevoice.converters.rules import Tensor, convert, invert, plan
from samevoice.errors import ConversionError

mx = pytest.importorskip("mlx.core")
utils = pytest.importorskip("mlx.utils")
networks = pytest.importorskip("samevoice.models.networks.campplus")

SMALL: dict[str, Any] = {
    **campplus.FBANK,
    "num_mel_bins": 16,
    "m_channels": 4,
    "init_channels": 6,
    "growth_rate": 2,
    "bn_size": 3,
    "layers": [1, 2, 1],
    "embedding_size": 5,
}
TORCH_ONLY = {"xvector.tdnn.nonlinear.batchnorm.num_batches_tracked": np.array(3)}


def small() -> dict[str, Tensor]:
    """A state dict as torch saves it, made of the MLX network by the table's own inverse."""
    network = networks.CAMPPlus(SMALL)
    random = np.random.default_rng(0)
    made = {
        name: Tensor.of(random.standard_normal(array.shape).astype(np.float32))
        for name, array in utils.tree_flatten(network.parameters())
    }
    counters = {name: Tensor.of(array) for name, array in TORCH_ONLY.items()}
    table = campplus.table(SMALL)
    return {name: Tensor.of(array) for name, array in invert(table, made, counters)}


def there_and_back(tensors: dict[str, Tensor]) -> dict[str, int]:
    config = campplus.config(tensors, {})
    network = networks.CAMPPlus(config)
    shapes = {k: tuple(v.shape) for k, v in utils.tree_flatten(network.parameters())}
    table = campplus.table(config)
    laid = plan(table, tensors, shapes)
    made = {name: Tensor.of(array) for name, array in convert(laid)}
    back = dict(invert(table, made, {name: tensors[name] for name in laid.kept}))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        want = tensor.load()
        assert back[name].shape == want.shape
        assert back[name].dtype == want.dtype
        assert back[name].tobytes() == want.tobytes(), name
    return {"sources": len(tensors), "dropped": len(laid.dropped)}


def is_campplus(tensors: dict[str, Tensor]) -> bool:
    return wrapper(campplus.FAMILY, tensors) is not None


def test_every_size_is_read_from_the_tensors() -> None:
    config = campplus.config(small(), {})
    assert {name: config[name] for name in SMALL} == SMALL


def test_small_there_and_back() -> None:
    assert there_and_back(small())["dropped"] == 1


def test_the_trained_one_there_and_back(golden: Path) -> None:
    folder = golden / "checkpoints" / "campplus-zh-en-common"
    if not folder.is_dir():
        pytest.skip(f"no CAM++ at {folder}")
    tensors = dict(read(folder, ("campplus_cn_en_common.pt",)).tensors)
    assert is_campplus(tensors)
    assert there_and_back(tensors) == {"sources": 937, "dropped": 122}
    config = campplus.config(tensors, {})
    assert config["layers"] == [12, 24, 16]
    assert config["embedding_size"] == 192
    assert config["num_mel_bins"] == 80


def test_it_is_told_from_a_resnet() -> None:
    tensors = small()
    assert is_campplus(tensors)
    # All that a WeSpeaker ResNet is told by is in here, too: a name that ends alike.
    assert any(name.endswith(wespeaker.FAMILY.anchors[0]) for name in tensors)
    resnet = {
        "resnet.layer1.0.conv1.weight": Tensor.of(np.zeros((32, 32, 3, 3), np.float32)),
        "resnet.seg_1.weight": Tensor.of(np.zeros((256, 5120), np.float32)),
    }
    assert not is_campplus(resnet)
    assert not is_campplus({})


@pytest.mark.parametrize("name", ["xvector.tdnn.linear.weight", "head.conv2.weight"])
def test_less_than_all_that_is_its_own_is_another_network(name: str) -> None:
    tensors = small()
    del tensors[name]
    assert not is_campplus(tensors)


def test_a_tensor_too_many_or_too_few() -> None:
    tensors = small()
    tensors["xvector.block1.tdnnd1.stranger"] = Tensor.of(np.zeros(1, np.float32))
    with pytest.raises(ConversionError, match="stranger"):
        there_and_back(tensors)
    tensors = small()
    del tensors["head.conv1.weight"]
    with pytest.raises(ConversionError, match=r"head\.conv1\.weight"):
        there_and_back(tensors)

"""ECAPA-TDNN in both layouts, and the x-vectors: told apart, over and back bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samevoice.converters.families import ecapa, wespeaker, wespeaker_ecapa, xvector, xvector_mfcc
from samevoice.converters.recognise import wrapper
from samevoice.converters.rules import Tensor, convert, invert, plan
from samevoice.errors import ConversionError
from samevoice.family import Family

mx = pytest.importorskip("mlx.core")
utils = pytest.importorskip("mlx.utils")
registry = pytest.importorskip("samevoice.models.registry")

ECAPA: dict[str, Any] = {
    "num_mel_bins": 12,
    "channels": [16, 24, 24, 24, 40],
    "kernel_sizes": [5, 3, 3, 3, 1],
    "dilations": [1, 2, 3, 4, 1],
    "attention_channels": 7,
    "res2net_scale": 4,
    "se_channels": 5,
    "global_context": True,
    "lin_neurons": 6,
}
XVECTOR: dict[str, Any] = {
    "sample_rate": 16000,
    "num_channels": 1,
    "channels": [8, 8, 8, 8, 12],
    "kernel_sizes": [5, 3, 3, 1, 1],
    "dilations": [1, 2, 3, 1, 1],
    "dimension": 6,
}
MFCC = {"n_mfcc": 7, "melkwargs": {"n_fft": 64, "win_length": 50, "n_mels": 9}}
CASES: dict[str, tuple[Family, dict[str, Any]]] = {
    "speechbrain": (ecapa.FAMILY, {**ecapa.FEATURES, **ECAPA}),
    "without context": (ecapa.FAMILY, {**ecapa.FEATURES, **ECAPA, "global_context": False}),
    "wespeaker": (
        wespeaker_ecapa.FAMILY,
        {**wespeaker.FBANK, **ECAPA, "channels": [16] * 4 + [40], "emb_bn": True},
    ),
    "sincnet": (xvector.FAMILY, {**XVECTOR, "sincnet": {"stride": 10}}),
    "mfcc": (xvector_mfcc.FAMILY, {**XVECTOR, "mfcc": MFCC}),
}


def state_of(name: str) -> dict[str, Tensor]:
    """A state dict as torch saves it, made of the MLX network by the table's own inverse."""
    family, config = CASES[name]
    network = registry.build({"architecture": family.architectures[0], **config})
    random = np.random.default_rng(0)
    filled = {
        name: Tensor.of(random.standard_normal(array.shape).astype(np.float32))
        for name, array in utils.tree_flatten(network.parameters())
    }
    return {n: Tensor.of(array) for n, array in invert(family.table(config), filled, {})}


@pytest.mark.parametrize("name", CASES)
def test_every_size_is_read_from_the_tensors_and_all_comes_back(name: str) -> None:
    family, config = CASES[name]
    tensors = state_of(name)
    found = family.config(tensors, {})
    assert {key: found[key] for key in config} == config
    network = registry.build(found)
    shapes = {k: tuple(v.shape) for k, v in utils.tree_flatten(network.parameters())}
    table = family.table(found)
    laid = plan(table, tensors, shapes)
    made = {name: Tensor.of(array) for name, array in convert(laid)}
    back = dict(invert(table, made, {}))
    assert back.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert back[key].tobytes() == tensor.load().tobytes(), key


@pytest.mark.parametrize("name", CASES)
def test_each_is_told_from_all_others(name: str) -> None:
    tensors = state_of(name)
    families = {case: family for case, (family, _) in CASES.items()}
    knowing = {family.architectures for family in families.values() if _knows(family, tensors)}
    assert knowing == {families[name].architectures}


def _knows(family: Family, tensors: dict[str, Tensor]) -> bool:
    return wrapper(family, tensors) is not None


def test_groups_are_refused() -> None:
    tensors = state_of("speechbrain")
    weight = tensors["mfa.conv.conv.weight"].load()
    tensors["mfa.conv.conv.weight"] = Tensor.of(weight[:, ::2])
    with pytest.raises(ConversionError, match=r"36 channels of 72: convolutions in groups"):
        ecapa.config(tensors, {})


def test_wespeakers_training_head_is_dropped() -> None:
    tensors = state_of("wespeaker")
    tensors["projection.weight"] = Tensor.of(np.zeros((3, 6), np.float32))
    config = wespeaker_ecapa.config(tensors, {})
    network = registry.build(config)
    shapes = {k: tuple(v.shape) for k, v in utils.tree_flatten(network.parameters())}
    assert list(plan(wespeaker_ecapa.table(config), tensors, shapes).dropped) == [
        "projection.weight"
    ]


def test_what_was_saved_of_the_features_counts() -> None:
    tensors = state_of("mfcc")
    saved = {"mfcc": {"sample_rate": 8000, "n_mfcc": 7, "melkwargs": {"hop_length": 20}}}
    config = xvector_mfcc.config(tensors, {"hyper_parameters": {**saved, "sample_rate": 8000}})
    assert config["sample_rate"] == 8000
    assert config["assumed"] == []
    assert config["mfcc"] == {
        "n_mfcc": 7,
        "melkwargs": {"n_fft": 64, "n_mels": 9, "win_length": 50, "hop_length": 20},
    }
    config = xvector.config(state_of("sincnet"), {"hyper_parameters": {"sincnet": {"stride": 7}}})
    assert config["sincnet"] == {"stride": 7}

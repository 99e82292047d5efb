"""Telling one checkpoint from another, whatever its names are wrapped in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest

import samevoice
from samevoice.converters.families import pyannet, wespeaker
from samevoice.converters.reading.checkpoint import Checkpoint
from samevoice.converters.recognise import recognise, shapes, unwrap
from samevoice.converters.rules import Tensor, plan
from samevoice.errors import ConversionError
from samevoice.family import FamilyError


def checkpoint(arrays: dict[str, np.ndarray], **metadata: Any) -> Checkpoint:
    return Checkpoint({name: Tensor.of(array) for name, array in arrays.items()}, metadata)


def laid(found: Checkpoint) -> tuple[dict[str, Any], Any]:
    family = recognise(found)
    whole, naming = unwrap(found, family)
    config = family.config(whole.tensors, whole.metadata)
    return config, plan(family.table(config), whole.tensors, shapes(family, config)) and naming


@pytest.mark.parametrize("prefix", ["", "model.", "module.model.", "segmentation."])
def test_pyannet_behind_any_prefix(prefix: str) -> None:
    arrays = {prefix + name: array for name, array in made_up.pyannet_arrays().items()}
    config, naming = laid(checkpoint(arrays))
    assert config["architecture"] == "PyanNet"
    assert list(naming.by_canonical().values()) == list(arrays)


def test_a_bare_state_dict_says_what_was_assumed() -> None:
    config, _ = laid(checkpoint(made_up.pyannet_arrays()))
    assert config["activation"] == "log_softmax"
    assert [text.split(":")[0] for text in config["assumed"]] == [
        "log-softmax over 7 powerset classes of 3 speakers, at most 2 at a time",
        "sincnet.stride 10",
    ]


def test_other_class_counts_are_taken_for_independent() -> None:
    arrays = made_up.pyannet_arrays()
    arrays |= {"classifier.weight": np.zeros((4, 8), np.float32), "classifier.bias": np.zeros(4)}
    config, _ = laid(checkpoint(arrays))
    assert (config["activation"], config["num_classes"]) == ("sigmoid", 4)


def test_specifications_that_contradict_the_classifier() -> None:
    said = {
        "problem": "MONO_LABEL_CLASSIFICATION",
        "classes": ["a", "b"],
        "powerset_max_classes": 2,
    }
    with pytest.raises(ConversionError, match=r"'classifier.bias' has 7 classes.* ask for 4"):
        laid(checkpoint(made_up.pyannet_arrays(), specifications=said))


def test_an_unsupported_architecture_is_told_where_the_supported_ones_are_listed() -> None:
    said = r"the architecture 'ToTaToNet': samevoice doctor lists all architectures; "
    with pytest.raises(ConversionError, match=said):
        recognise(checkpoint({}, architecture="ToTaToNet"))


def test_what_is_asked_for_is_neither_a_role_nor_an_architecture() -> None:
    said = "'PyanNat' is neither a role nor an architecture: nearest is PyanNet; samevoice doctor "
    with pytest.raises(FamilyError, match=said):
        recognise(checkpoint({}), "PyanNat")


def test_tensors_of_no_known_kind() -> None:
    with pytest.raises(
        ConversionError, match=r"no family knows this checkpoint of 1 tensor, first 'w': samevoice "
    ):
        recognise(checkpoint({"w": np.zeros(1)}))


@pytest.mark.parametrize(
    ("names", "nearest"),
    [
        (("layer1.0.conv1.weight", "fc.weight"), "WeSpeakerResNet34, but 'layer4.0.conv1.weight'"),
        (("tdnn1.linear.weight", "head.bias"), "CAMPPlus, but 'head.conv2.weight' is missing"),
        (
            ("encoder.sincnet.filters", "classifier.bias"),
            "PyanNet, but 'sincnet.wav_norm1d",
        ),
    ],
)
@pytest.mark.parametrize("saved", [{}, {"architecture": "ECAPA"}])
def test_an_unknown_one_names_the_nearest_family_and_the_page_on_porting(
    names: tuple[str, ...], nearest: str, saved: dict[str, str]
) -> None:
    found = checkpoint({name: np.zeros(1) for name in names}, **saved)
    with pytest.raises(ConversionError, match=f"nearest is {nearest}") as caught:
        recognise(found)
    assert str(caught.value).startswith("no family knows ")
    assert re.search(r"docs/porting-your-own\.md", str(caught.value))
    assert (Path(__file__).parents[2] / "docs" / "porting-your-own.md").is_file()


def test_the_users_word_goes_first() -> None:
    found = checkpoint(made_up.pyannet_arrays())
    assert recognise(found, "WeSpeakerResNet34").role == "embedding"


def test_the_users_word_must_not_contradict_the_checkpoint() -> None:
    found = checkpoint(made_up.pyannet_arrays(), architecture="PyanNet")
    with pytest.raises(ConversionError, match="the checkpoint is a PyanNet, which is no embedding"):
        recognise(found, "embedding")


@pytest.mark.parametrize(
    "name", ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0_reverse", "linear.0.bias"]
)
def test_a_missing_tensor_is_named_as_such(name: str) -> None:
    arrays = {k: v for k, v in made_up.pyannet_arrays().items() if k != name}
    with pytest.raises(ConversionError, match=rf"1 tensor missing .* first '{re.escape(name)}'"):
        laid(checkpoint(arrays))


def test_half_a_pyannet_is_incomplete() -> None:
    arrays = {name: a for name, a in made_up.pyannet_arrays().items() if "lstm" not in name}
    with pytest.raises(ConversionError, match=r"missing from the checkpoint"):
        laid(checkpoint(arrays))


@pytest.mark.parametrize(
    "name", ["sincnet.norm1d.1.bias", "lstm.weight_hh_l0_reverse", "linear.0.weight"]
)
def test_every_tensor_is_missed(name: str) -> None:
    arrays = {k: v for k, v in made_up.pyannet_arrays().items() if k != name}
    with pytest.raises(ConversionError, match="missing from the checkpoint, first"):
        laid(checkpoint(arrays))


@pytest.fixture(scope="module")
def resnet(pyannote: Any) -> dict[str, np.ndarray]:
    del pyannote
    return made_up.state(made_up.resnet())


@pytest.mark.parametrize("strip", ["", "resnet."])
@pytest.mark.parametrize("prefix", ["", "model.", "speaker."])
def test_resnet_with_and_without_its_prefix(resnet: Any, strip: str, prefix: str) -> None:
    arrays = {prefix + name.removeprefix(strip): array for name, array in resnet.items()}
    config, naming = laid(checkpoint(arrays))
    assert config["architecture"] == "WeSpeakerResNet34"
    assert list(naming.by_canonical()) == list(resnet)
    assert list(naming.by_canonical().values()) == list(arrays)


def test_wespeakers_own_checkpoint_with_its_training_head(resnet: Any) -> None:
    arrays = {name.removeprefix("resnet."): array for name, array in resnet.items()}
    arrays["projection.weight"] = np.zeros((10, 256), np.float32)
    laid(checkpoint(arrays))


def test_a_resnet_of_another_depth(resnet: Any) -> None:
    fewer = {name: array for name, array in resnet.items() if ".layer3.5." not in name}
    with pytest.raises(
        ConversionError, match=r"\(3, 4, 5, 3\) blocks .* supported: WeSpeakerResNet34"
    ):
        laid(checkpoint(fewer))


def test_a_name_that_contradicts_the_depth(resnet: Any) -> None:
    with pytest.raises(ConversionError, match=r"called WeSpeakerResNet152 with \(3, 4, 6, 3\)"):
        laid(checkpoint(resnet, architecture="WeSpeakerResNet152"))


@pytest.mark.parametrize("module", [pyannet, wespeaker])
def test_config_of_nothing_is_an_error(module: Any) -> None:
    with pytest.raises(ConversionError):
        module.config({}, {})


def test_a_name_that_ends_alike_makes_no_resnet() -> None:
    """CAM++ begins with blocks that are called as a ResNet's are."""
    names = ("head.conv1.weight", "head.layer1.0.conv1.weight", "head.layer2.0.conv1.weight")
    arrays = {name: np.zeros((4, 4, 3, 3), np.float32) for name in (*names, "xvector.tdnn.weight")}
    with pytest.raises(
        ConversionError,
        match=r"of 4 tensors.*nearest is WeSpeakerResNet34, but 'layer4.0.conv1.weight' is",
    ):
        recognise(checkpoint(arrays))
    with pytest.raises(ConversionError, match="no family knows this checkpoint of 1 tensor, first"):
        recognise(checkpoint({"myplda.psi": np.zeros(4)}))


@pytest.mark.parametrize("at_once", [50_000, 10**18, -3, 2.5, True, "2"])
def test_a_powerset_of_absurd_size_is_refused(at_once: Any) -> None:
    said = {
        "problem": "MONO_LABEL_CLASSIFICATION",
        "classes": [f"{n}" for n in range(100_000)],
        "powerset_max_classes": at_once,
    }
    with pytest.raises(ConversionError, match=r"powerset_max_classes is|ask for"):
        laid(checkpoint(made_up.pyannet_arrays(), specifications=said))


def test_the_golden_campplus_is_told_from_a_resnet(golden: Path) -> None:
    path = golden / "checkpoints" / "campplus-zh-en-common" / "campplus_cn_en_common.pt"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert samevoice.inspect(path).config["architecture"] == "CAMPPlus"

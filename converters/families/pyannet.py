"""PyanNet, the segmentation network: SincNet, LSTM layers, linear layers, a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

from samevoice.converters.layers import affine, lstm, sincnet
from samevoice.converters.rules import Drop, Table, Tensor, count_of, each, missing
from samevoice.errors import ConversionError
from samevoice.family import Family

# What a PyanNet with three speakers, at most two at a time, answers with.
_POWERSET_OF_THREE = 7


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network wants them: sizes from the tensors, the rest as saved."""
    given = metadata.get("hyper_parameters", {})
    assumed: list[str] = []
    classes = size_of(tensors, "classifier.bias")
    specifications, activation = task(metadata.get("specifications"), classes, assumed)
    stride = given.get("sincnet", {}).get("stride")
    if stride is None:
        assumed.append("sincnet.stride 10: pyannote's default, the tensors do not show it")
        stride = 10
    for name, value in (("sincnet.stride", stride), ("sample_rate", given.get("sample_rate", 1))):
        if not isinstance(value, int) or value < 1:
            raise ConversionError(f"{name} is {value!r}, which is no number of samples")
    return {
        "model_type": "segmentation",
        "architecture": "PyanNet",
        "sample_rate": given.get("sample_rate", 16000),
        "num_channels": given.get("num_channels", 1),
        "sincnet": {"stride": stride},
        "lstm": sizes_of_lstm(tensors),
        "linear": sizes_of_linear(tensors),
        "num_classes": classes,
        "activation": activation,
        "specifications": specifications,
        "assumed": assumed,
    }


def table(config: Mapping[str, Any]) -> Table:
    """The rules for a PyanNet of these hyper-parameters."""
    rules: Table = (
        *sincnet("sincnet", "sincnet"),
        *lstm_layers(config["lstm"]),
        *linear_layers(config["linear"]),
        *affine("classifier", "classifier"),
    )
    return (
        *rules,
        Drop("loss_func.{path}", why="weights of the training loss; inference never reads it"),
    )


def sizes_of_lstm(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "hidden_size": size_of(tensors, _first_lstm(tensors, "weight_hh"), axis=1),
        "num_layers": count_of(tensors, r"lstm\.(?:[a-z]+_[a-z]+_l)?(\d+)"),
        "bidirectional": any(name.endswith("_reverse") for name in tensors),
        "monolithic": _is_whole(tensors),
    }


def sizes_of_linear(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    count = count_of(tensors, r"linear\.(\d+)\.")
    return {
        "hidden_size": size_of(tensors, "linear.0.bias") if count else 0,
        "num_layers": count,
    }


def linear_layers(config: Mapping[str, Any]) -> Table:
    return each(affine("linear.{i}", "linear.{i}"), i=range(config["num_layers"]))


def lstm_layers(config: Mapping[str, Any]) -> Table:
    """One torch LSTM of many layers, or a list of one-layer ones: the same layers in MLX."""
    whole = config["monolithic"]
    directions = (
        {"forward": False, "backward": True} if config["bidirectional"] else {"forward": False}
    )
    rules: Table = ()
    for layer in range(config["num_layers"]):
        source = "lstm" if whole else f"lstm.{layer}"
        for direction, reverse in directions.items():
            target = f"lstm.{layer}.{direction}"
            rules += lstm(source, target, layer=layer if whole else 0, reverse=reverse)
    return rules


def task(
    saved: Mapping[str, Any] | None, classes: int, assumed: list[str]
) -> tuple[dict[str, Any] | None, str]:
    """What the classes mean, and with it the last activation."""
    if saved is not None:
        _check_classes(saved, classes)
        mono = saved["problem"] == "MONO_LABEL_CLASSIFICATION"
        return dict(saved), "log_softmax" if mono else "sigmoid"
    if classes == _POWERSET_OF_THREE:
        assumed.append("log-softmax over 7 powerset classes of 3 speakers, at most 2 at a time")
        names = [f"speaker#{n}" for n in (1, 2, 3)]
        return specifications("MONO_LABEL_CLASSIFICATION", names, 2), "log_softmax"
    assumed.append(f"sigmoid over {classes} independent classes")
    names = [f"class#{n + 1}" for n in range(classes)]
    return specifications("MULTI_LABEL_CLASSIFICATION", names, None), "sigmoid"


def specifications(problem: str, classes: list[str], at_once: int | None) -> dict[str, Any]:
    return {
        "problem": problem,
        "resolution": "FRAME",
        "duration": 10.0,
        "min_duration": None,
        "warm_up": [0.0, 0.0],
        "classes": classes,
        "powerset_max_classes": at_once,
        "permutation_invariant": True,
    }


def _check_classes(saved: Mapping[str, Any], classes: int) -> None:
    names, at_once = saved.get("classes") or (), saved.get("powerset_max_classes")
    if not (at_once is None or (type(at_once) is int and 1 <= at_once <= max(1, len(names)))):
        raise ConversionError(
            f"powerset_max_classes is {at_once!r:.40}, which is no number of them"
        )
    expected = len(names) if at_once is None else 0
    for size in range((at_once or -1) + 1):
        expected += comb(len(names), size)
        if expected > classes:  # enough to know, and of many classes the rest would take for ever
            break
    if expected != classes:
        raise ConversionError(
            f"wrong shape: 'classifier.bias' has {classes} classes, but the checkpoint's own "
            f"specifications ask for {expected}"
        )


def _is_whole(tensors: Mapping[str, Tensor]) -> bool:
    """One torch LSTM of many layers, not a list of one-layer ones; told even if a part is gone."""
    return any(name.startswith(("lstm.weight_", "lstm.bias_")) for name in tensors)


def _first_lstm(tensors: Mapping[str, Tensor], what: str) -> str:
    return f"lstm.{what}_l0" if _is_whole(tensors) else f"lstm.0.{what}_l0"


def size_of(tensors: Mapping[str, Tensor], name: str, axis: int = 0) -> int:
    if name not in tensors:
        raise missing(name)
    shape = tensors[name].shape
    if len(shape) <= axis:
        raise ConversionError(f"wrong shape: {name!r} is {list(shape)}, without axis {axis}")
    return shape[axis]


FAMILY = Family(
    role="segmentation",
    architectures=("PyanNet",),
    anchors=("sincnet.wav_norm1d.weight", "classifier.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.pyannet:PyanNet",
    original="samevoice.parity.originals.pyannet:build",
)

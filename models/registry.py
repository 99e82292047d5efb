"""From a bundle's config to its network, and from a bundle to a network with its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.quantized import quantize as nn_quantize

from samevoice.errors import BundleError
from samevoice.models import backend
from samevoice.models.network import Network
from samevoice.models.pyannet import PyanNet
from samevoice.models.resnet import LAYOUTS, WeSpeakerResNet

ARCHITECTURES: Mapping[str, Callable[[Mapping[str, Any]], Network]] = {
    "PyanNet": PyanNet,
    **dict.fromkeys(LAYOUTS, WeSpeakerResNet),
}

# A half-precision bundle holds these in float32: rounded phases ruin the filters.
KEEP_FLOAT32 = tuple(f"sincnet.conv.0.{name}" for name in ("low_hz", "band_hz", "window", "time"))


def build(config: Mapping[str, Any]) -> Network:
    """The network a config describes, its weights lazy and not yet loaded."""
    name = str(config.get("architecture"))
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise BundleError(f"architecture {name!r} is not supported; these are: {known}")
    try:
        model = ARCHITECTURES[name](config)
        if quantization := config.get("quantization"):
            quantize(model, **quantization)
    except KeyError as error:
        raise BundleError(f"config of {name}: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise BundleError(f"config of {name}: {error}") from error
    model.eval()
    return model


def quantize(model: Module, group_size: int = 64, bits: int = 4, mode: str = "affine") -> None:
    """Quantises the linear layers whose rows divide into groups, in place; nothing else can be."""

    def fits(_: str, module: Module) -> bool:
        return hasattr(module, "to_quantized") and module.weight.shape[-1] % group_size == 0

    nn_quantize(model, group_size, bits, mode=mode, class_predicate=fits)


def load(path: str | Path, device: backend.Choice = "auto") -> Network:
    """The network of a bundle, with its weights, ready to run; its ``config`` is the bundle's.

    ``device`` "gpu" or "cpu" becomes MLX's default for the whole process; "auto" leaves MLX's own,
    which is a GPU (Metal or CUDA) where there is one.
    """
    if device != "auto":
        mx.set_default_device(backend.device(device))
    folder = Path(path)
    config = read_json(folder / "config.json")
    if config.get("model_type") == "full":
        raise BundleError(
            f"{folder} holds a whole pipeline: load its segmentation/ or embedding/ folder"
        )
    model = build(config)
    weights = {k: v for file in _weight_files(folder) for k, v in _read_weights(file).items()}
    try:
        model.load_weights(list(weights.items()), strict=True)
        mx.eval(model.parameters())
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{folder}: weights do not fit config.json: {reason}") from error
    return model


def _weight_files(folder: Path) -> list[Path]:
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise BundleError(f"{folder} holds neither {single.name} nor {index.name}")
    names = sorted({str(name) for name in dict(read_json(index).get("weight_map", {})).values()})
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise BundleError(f"{index} names {name!r}, which is not in the bundle")
    return [folder / name for name in names]


def read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{file} cannot be read: is its folder a samevoice bundle?") from error
    except ValueError as error:
        raise BundleError(f"{file} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise BundleError(f"{file} holds no JSON object")
    return data


def _read_weights(file: Path) -> dict[str, mx.array]:
    try:
        arrays = mx.load(str(file), format="safetensors")
    except (RuntimeError, ValueError) as error:
        raise BundleError(f"{file} cannot be read: {error}") from error
    assert isinstance(arrays, dict)
    return arrays

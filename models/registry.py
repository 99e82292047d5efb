"""From a bundle's config to its network, and from a bundle to a network with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx.nn.layers.quantized import quantize as nn_quantize

from samevoice.errors import BundleError
from samevoice.family import named
from samevoice.files import read_json as _read_json
from samevoice.files import refuse_special
from samevoice.models import backend, packing, recorded
from samevoice.models.layers import named_arrays
from samevoice.models.network import Network

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# What a number of a config may be, wherever in it the name stands. Far beyond any network, and far
# below what would keep a machine busy for ever.
RANGES: Mapping[str, tuple[float, float]] = {
    "sample_rate": (1000, 1_000_000),
    "stride": (1, 10_000),
    "hidden_size": (0, 100_000),
    "num_layers": (0, 1000),
    "num_classes": (1, 100_000),
    "num_mel_bins": (1, 10_000),
    "frame_length": (1e-3, 1000),
    "frame_shift": (1e-3, 1000),
    "dither": (0, 1000),
    "fbank_centering_span": (0, 3600),
    "m_channels": (1, 10_000),
    "embed_dim": (1, 100_000),
    "bits": (1, 8),
    "group_size": (1, 1024),
}
_FRACTIONS = ("frame_length", "frame_shift", "dither", "fbank_centering_span")
_ELSEWHERE = 1e6  # no other number of a network is larger


def _check_ranges(config: Mapping[Any, Any], where: str = "") -> None:
    for name, value in config.items():
        if name == "specifications":
            continue
        if isinstance(value, Mapping):
            _check_ranges(value, f"{where}{name}.")
        elif isinstance(value, list):
            _check_ranges(dict(enumerate(value)), f"{where}{name}.")
        elif name in RANGES:
            _check_range(name, value, where)
        elif isinstance(value, int | float) and not abs(value) <= _ELSEWHERE:
            raise ValueError(f"{where}{name} is {_short(value)}: at most {_ELSEWHERE:g} is wanted")


def _check_range(name: str, value: Any, where: str) -> None:
    if name == "fbank_centering_span" and value is None:
        return
    least, most = RANGES[name]
    kind = (int, float) if name in _FRACTIONS else int
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise ValueError(f"{where}{name} is {_short(value)}: {least:g} to {most:g} is wanted")


def _short(value: object) -> str:
    """Some numbers have too many digits for Python to write."""
    return f"{value:.3g}" if isinstance(value, float) else repr(value)[:40]


def build(config: Mapping[str, Any], *, packed: bool = True) -> Network:
    """The network a config describes, its weights lazy and not yet loaded.

    ``packed``: with linear layers that MLX multiplies as they are stored, where they are so.
    """
    name = config.get("architecture")
    family = named(name)
    try:
        _check_ranges(config)
        model: Network = family.build_network(config)
        if packed and (quantization := config.get("quantization")):
            quantize(model, **quantization)
    except KeyError as error:
        raise BundleError(f"config of {name}: {error} is missing") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise BundleError(f"config of {name}: {error}") from error
    model.eval()
    return model


def quantize(
    model: Module, group_size: int = 64, bits: int = 4, mode: str = "affine", **layers: Any
) -> None:
    """Packs linear layers, in place: those whose rows divide into groups, or as ``layers`` say."""

    def fits(path: str, module: Module) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized"):
            return False
        own: bool | dict[str, Any] = layers.get(path, module.weight.shape[-1] % group_size == 0)
        return own

    nn_quantize(model, group_size, bits, mode=mode, class_predicate=fits)


def load(path: str | Path, device: backend.Choice = "auto") -> Network:
    """The network of a bundle, with its weights, ready to run; its ``config`` is the bundle's.

    ``device`` "gpu" or "cpu" becomes MLX's default for the whole process; "auto" leaves MLX's own,
    which is a GPU (Metal or CUDA) where there is one.
    """
    if device != "auto":
        mx.set_default_device(backend.device(device))
    folder = Path(path)
    config = read_json(folder / CONFIG)
    if "components" in config:
        raise BundleError(
            f"{folder} holds a whole pipeline: load its segmentation/ or embedding/ folder"
        )
    # On a CPU the product with packed weights is slow, and hides the forms that are fast there.
    model = build(config, packed=not backend.on_cpu())
    files = _weight_files(folder)
    index = [INDEX] if folder / WEIGHTS not in files else []
    recorded.check(folder, [CONFIG, *index, *(file.name for file in files)])
    weights = {k: v for file in files for k, v in _read_weights(file).items()}
    try:
        weights = _as_computed(weights, model)
        model.load_weights(list(weights.items()), strict=True)
        mx.eval(model.parameters())
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{folder}: weights do not fit config.json: {reason}") from error
    _refuse_not_finite(folder, weights)
    return model


def _as_computed(weights: Mapping[str, mx.array], model: Network) -> dict[str, mx.array]:
    """Numbers for every layer that MLX does not multiply packed, as wide as it computes."""
    config = model.config
    quantization = config.get("quantization") or {}
    made = packing.unpacked(weights, quantization, named_arrays(model))
    if config.get("dtype") != "float32":
        return made
    narrow = (mx.float16, mx.bfloat16)
    return {name: x.astype(mx.float32) if x.dtype in narrow else x for name, x in made.items()}


def _refuse_not_finite(folder: Path, weights: Mapping[str, mx.array]) -> None:
    for name, x in weights.items():
        if not mx.issubdtype(x.dtype, mx.floating):
            continue
        # In numpy, a sixth of the time that MLX takes on a CPU; it knows no bfloat16.
        if not np.isfinite(np.asarray(x.astype(mx.float32))).all():
            raise BundleError(
                f"{folder}: {name!r} holds values that are NaN or infinite: convert the source "
                "again"
            )


def _weight_files(folder: Path) -> list[Path]:
    single = folder / WEIGHTS
    if single.is_file():
        return [single]
    index = folder / INDEX
    if not index.is_file():
        raise BundleError(f"{folder} holds neither {single.name} nor {index.name}")
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict):
        raise BundleError(f"{index} has no weight_map")
    names = sorted({str(name) for name in table.values()})
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise BundleError(f"{index} names {name!r}, which is not in the bundle")
    return [folder / name for name in names]


def read_json(file: Path) -> dict[str, Any]:
    return _read_json(file, BundleError)


def _read_weights(file: Path) -> dict[str, mx.array]:
    refuse_special(file, BundleError)
    try:
        arrays = mx.load(str(file), format="safetensors")
    except (RuntimeError, ValueError) as error:
        raise BundleError(f"{file} cannot be read: {error}") from error
    assert isinstance(arrays, dict)
    return arrays

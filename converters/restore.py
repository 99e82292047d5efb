"""The way back: from a bundle to the PyTorch checkpoint that it was made from.

For a float32 bundle every tensor comes back bit for bit, under its own name and in its own order,
with what pyannote had saved beside it. Rounded bundles give their rounded values, and say so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from samevoice.converters import bundle, checkpoint, families, pipeline, rules
from samevoice.converters.families import Family, Naming
from samevoice.converters.rules import Tensor
from samevoice.converters.safetensors_file import Slot
from samevoice.converters.transforms import Array, cast
from samevoice.errors import BundleError, MissingExtraError

TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
# Casts that lose nothing, so that the way back finds the same bits.
_WIDENING = {("float16", "float32"), ("bfloat16", "float32")}


@dataclass(frozen=True)
class Restored:
    """What was written, and whether it is the source bit for bit or a rounded copy."""

    path: Path
    tensors: int
    exact: bool


def to_torch(path: str | Path, output: str | Path, *, overwrite: bool = False) -> Restored:
    """Write the checkpoint that the bundle at ``path`` came from.

    A network goes to a file (.bin, .pt, .pth, .ckpt, or .safetensors for the tensors alone), a
    PLDA or a whole pipeline to a folder as pyannote.audio reads it.
    """
    folder, target = Path(path), Path(output)
    config = bundle.read_json(folder / bundle.CONFIG)
    kind = config.get("model_type")
    if kind in ("full", "plda"):
        if target.suffix in (*TORCH_SUFFIXES, ".safetensors"):
            raise BundleError(f"a {kind} bundle becomes a folder: {target} looks like a file")
        with _folder_aside(target, overwrite) as aside:
            count = _write_full(folder, aside) if kind == "full" else _write_npz(folder, aside)
    else:
        if target.suffix not in (*TORCH_SUFFIXES, ".safetensors"):
            raise BundleError(f"{target} must end in {', '.join(TORCH_SUFFIXES)} or .safetensors")
        with _file_aside(target, overwrite) as aside:
            count = _write_network(folder, aside)
    return Restored(target, count, is_exact(folder))


def state_dict(folder: Path) -> dict[str, Array]:
    """The source's tensors, under the source's names, in the source's order and dtypes."""
    config = bundle.read_json(folder / bundle.CONFIG)
    family = _family(folder, config)
    notes = bundle.read_json(folder / bundle.ORIGIN_NOTES)
    kept_path = folder / bundle.KEPT
    kept = bundle.read_file(kept_path) if kept_path.exists() else {}
    weights = dict(_dequantised(bundle.read_weights(folder), config.get("quantization")))
    table = family.table({**config, "assumed": []})
    try:
        found = dict(rules.invert(table, weights, kept))
        naming = Naming(notes["strip"], notes["add"], tuple(notes["names"]))
        return {
            original: cast(found[name], notes["dtypes"][name])
            for name, original in naming.by_canonical().items()
        }
    except KeyError as error:
        raise BundleError(f"{folder} lacks {error}, which the way back needs") from error


def is_exact(folder: Path) -> bool:
    """Whether no value was rounded on the way here."""
    parts = [folder, *(path.parent for path in folder.glob(f"*/{bundle.PROVENANCE}"))]
    rows = [row for part in parts for row in bundle.read_json(part / bundle.PROVENANCE)["tensors"]]
    used = [(row["source_dtype"], row["target_dtype"]) for row in rows if row["fate"] == "used"]
    return all(pair[0] == pair[1] or pair in _WIDENING for pair in used)


def _family(folder: Path, config: Mapping[str, Any]) -> Family:
    for family in families.FAMILIES:
        if family.model_type == config.get("model_type"):
            return family
    raise BundleError(f"{folder / bundle.CONFIG} has no known model_type")


def _dequantised(
    weights: Mapping[str, Tensor], quantization: Mapping[str, Any] | None
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights.items():
        path, _, end = name.rpartition(".")
        if quantization is None or f"{path}.scales" not in weights:
            yield name, tensor
        elif end == "weight":
            yield name, Tensor.of(_dequantise(path, weights, quantization))
        elif end == "bias":
            yield name, tensor


def _dequantise(path: str, weights: Mapping[str, Tensor], how: Mapping[str, Any]) -> Array:
    import mlx.core as mx

    packed, scales, biases = (
        mx.array(weights[f"{path}.{end}"].load()) for end in ("weight", "scales", "biases")
    )
    whole = mx.dequantize(packed, scales, biases, how["group_size"], how["bits"])
    if whole.dtype == mx.bfloat16:
        return np.array(whole.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.array(whole)


def _write_network(folder: Path, target: Path) -> int:
    state = state_dict(folder)
    if target.suffix == ".safetensors":
        slots = tuple(Slot(name, a.shape, a.dtype.name) for name, a in state.items())
        bundle.write_file(target, slots, state.items(), {"format": "pt"})
        return len(state)
    notes = bundle.read_json(folder / bundle.ORIGIN_NOTES)
    tensors = {name: _torch(array) for name, array in state.items()}
    content: Mapping[str, Any] = tensors
    if notes["container"]:
        beside = {name: checkpoint.decode(value) for name, value in notes["beside"].items()}
        whole = {**beside, notes["container"]: tensors}
        content = {name: whole[name] for name in notes["entries"] if name in whole}
    checkpoint.write_torch(target, content)
    return len(state)


def _write_npz(folder: Path, target: Path) -> int:
    """PLDA's two files, each matrix in the memory order that it had."""
    state = state_dict(folder)
    notes = bundle.read_json(folder / bundle.ORIGIN_NOTES)
    fortran = set(notes["beside"].get("fortran_order", ()))
    texts = {name: np.array(text) for name, text in notes["beside"].get("texts", {}).items()}
    for file in ("plda", "xvec_transform"):
        arrays = {
            name.partition(".")[2]: np.asfortranarray(array) if name in fortran else array
            for name, array in {**state, **texts}.items()
            if name.partition(".")[0] == file
        }
        np.savez(target / f"{file}.npz", **arrays)  # type: ignore[arg-type]
    return len(state)


def _write_full(folder: Path, target: Path) -> int:
    """pyannote's folder: config.yaml, and each part below it."""
    shutil.copyfile(folder / bundle.ORIGIN / pipeline.CONFIG_YAML, target / pipeline.CONFIG_YAML)
    count = 0
    for part in pipeline.PARTS:
        (target / part).mkdir()
        if part == "plda":
            count += _write_npz(folder / part, target / part)
        else:
            count += _write_network(folder / part, target / part / "pytorch_model.bin")
    return count


def _torch(array: Array) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch, which writes the checkpoint,", "convert") from error
    whole = np.array(array, order="C")
    if whole.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(whole.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(whole)


@contextmanager
def _file_aside(target: Path, overwrite: bool) -> Iterator[Path]:
    """A file to write that becomes ``target`` if all goes well, and nothing otherwise."""
    if target.exists() and not overwrite:
        raise BundleError(f"{target} exists: pass --overwrite, or choose another place")
    # The name inside torch's archive is the file's: the folder, not the file, is the hidden one.
    hidden = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        hidden.mkdir(parents=True)
        yield hidden / target.name
        (hidden / target.name).replace(target)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        raise bundle.cannot_write(target, error) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def _folder_aside(target: Path, overwrite: bool) -> Iterator[Path]:
    """Like a bundle, but what may be overwritten is a pyannote folder."""
    replaceable: Callable[[Path], bool] = lambda folder: (  # noqa: E731
        (folder / pipeline.CONFIG_YAML).exists() or (folder / "plda.npz").exists()
    )
    with bundle.written_aside(target, overwrite=overwrite, replaceable=replaceable) as aside:
        yield aside

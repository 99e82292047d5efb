"""The way back: from a bundle to the PyTorch checkpoint that it was made from.

For a float32 bundle every tensor comes back bit for bit, under its own name and in its own order,
with what pyannote had saved beside it. Rounded bundles give their rounded values, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samevoice import family as families
from samevoice.converters import bundle, packing, pipeline, rules
from samevoice.converters.reading import stand_ins, torch_writer
from samevoice.converters.reading.safetensors_file import Slot
from samevoice.converters.recognise import Naming
from samevoice.converters.transforms import Array, cast
from samevoice.errors import BundleError
from samevoice.files import read_text
from samevoice.outputs import refuse_read, refuse_unwritable

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
    whole = bool(bundle.components(config))
    is_file = target.suffix in (*TORCH_SUFFIXES, ".safetensors")
    to_folder = whole or _is_data(config)
    if to_folder and is_file:
        kind = config.get("model_type")
        raise BundleError(f"a {kind} bundle becomes a folder: {target} looks like a file")
    if not to_folder and not is_file:
        raise BundleError(f"{target} must end in {', '.join(TORCH_SUFFIXES)} or .safetensors")
    refuse_unwritable(target.parent)
    if is_file and target.exists():
        refuse_read(target, [folder])
    exact = is_exact(folder)
    if is_file:
        with bundle.file_written_aside(target, overwrite=overwrite) as aside:
            return Restored(target, _write_network(folder, aside), exact)
    with bundle.written_aside(target, overwrite=overwrite, replaceable=_is_ours) as aside:
        count = _write_full(folder, aside) if whole else _write_npz(folder, aside)
        return Restored(target, count, exact)


def _is_data(config: Mapping[str, Any]) -> bool:
    """Whether arrays without a network are in it, as in a PLDA."""
    return families.named(config.get("architecture")).is_data


def state_dict(folder: Path) -> dict[str, Array]:
    """The source's tensors, under the source's names, in the source's order and dtypes."""
    config = bundle.read_json(folder / bundle.CONFIG)
    family = families.named(config.get("architecture"))
    notes = bundle.read_json(folder / bundle.ORIGIN_NOTES)
    kept_path = folder / bundle.KEPT
    kept = bundle.read_file(kept_path) if kept_path.exists() else {}
    with bundle.understood(folder):
        weights = dict(packing.unpacked(bundle.read_weights(folder), config.get("quantization")))
        table = family.table({**config, "assumed": []})
        found = dict(rules.invert(table, weights, kept))
        naming = Naming(notes["strip"], notes["add"], tuple(notes["names"]))
        wanted = naming.by_canonical()
        if wanted.keys() != found.keys():
            odd = sorted(wanted.keys() ^ found.keys())[0]
            raise KeyError(odd)
        return {
            original: cast(found[name], notes["dtypes"][name]) for name, original in wanted.items()
        }


def is_exact(folder: Path) -> bool:
    """Whether no value was rounded on the way here; files that were changed since are refused."""
    top = bundle.read_json(folder / bundle.PROVENANCE)
    with bundle.understood(folder / bundle.PROVENANCE):
        changed = [name for name in bundle.changed(folder, top["outputs"]) if name != bundle.CARD]
        parts = [folder / part for part in top["sources"] if (folder / part).is_dir()] or [folder]
        rows = [
            row for part in parts for row in bundle.read_json(part / bundle.PROVENANCE)["tensors"]
        ]
        used = [(row["source_dtype"], row["target_dtype"]) for row in rows if row["fate"] == "used"]
    if changed:
        raise BundleError(
            f"{len(changed)} files of {folder} are not as they were written, first "
            f"{changed[0]!r}: convert the source again"
        )
    return all(pair[0] == pair[1] or pair in _WIDENING for pair in used)


def _write_network(folder: Path, target: Path) -> int:
    state = state_dict(folder)
    if target.suffix == ".safetensors":
        slots = tuple(Slot(name, a.shape, a.dtype.name) for name, a in state.items())
        note = bundle.read_json(folder / bundle.CONFIG).get("note")
        metadata = {"format": "pt", **({"note": str(note)} if note else {})}
        bundle.write_file(target, slots, state.items(), metadata)
        return len(state)
    notes = bundle.read_json(folder / bundle.ORIGIN_NOTES)
    with bundle.understood(folder / bundle.ORIGIN_NOTES):
        content = _content(state, notes)
    torch_writer.write(target, content)
    return len(state)


def _content(state: Mapping[str, Array], notes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict where it was, with what was saved beside it."""
    state = {name: np.asarray(array) for name, array in state.items()}
    if not notes["container"]:
        return state
    beside = {name: stand_ins.decode(value) for name, value in notes["beside"].items()}
    stand_ins.check_architecture(beside)
    whole = {**beside, notes["container"]: state}
    return {name: whole[name] for name in notes["entries"] if name in whole}


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
    path = folder / bundle.ORIGIN / pipeline.CONFIG_YAML
    with bundle.understood(path):
        text = read_text(path, BundleError)
    parts = pipeline.checked_parts(text, f"{bundle.ORIGIN}/{path.name} of {folder}")
    (target / pipeline.CONFIG_YAML).write_text(text, encoding="utf-8")
    count = 0
    for part in parts:
        (target / part).mkdir()
        if _is_data(bundle.read_json(folder / part / bundle.CONFIG)):
            count += _write_npz(folder / part, target / part)
        else:
            count += _write_network(folder / part, target / part / "pytorch_model.bin")
    return count


# What pyannote's folder of a pipeline or a PLDA holds when it comes from here.
_WRITTEN = {
    "config.yaml",
    "plda.npz",
    "xvec_transform.npz",
    "segmentation/pytorch_model.bin",
    "embedding/pytorch_model.bin",
    "plda/plda.npz",
    "plda/xvec_transform.npz",
}


def _is_ours(folder: Path) -> bool:
    return bundle.names_in(folder) <= _WRITTEN

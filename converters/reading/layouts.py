"""Telling sources apart by what a folder or a repository holds: a pipeline, shards, one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from samevoice import plain_yaml
from samevoice.errors import SourceError
from samevoice.files import parse_json, read_text, refuse_special, stays_below

WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".safetensors")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# The last is speechbrain's, beside whose networks lie files of other parts.
SINGLES = ("pytorch_model.bin", "model.safetensors", "embedding_model.ckpt")
PIPELINE = "config.yaml"
PLDA = ("plda.npz", "xvec_transform.npz")


@dataclass(frozen=True)
class Place:
    """Where files lie: a folder, a hub repository, or the cached copy of one."""

    label: str
    names: tuple[str, ...]  # at the top, sorted; folders end in "/"
    has: Callable[[str], bool]
    fetch: Callable[[str], Path]  # a local path, downloaded first where it must be
    inside: Callable[[str], bool]  # whether links keep the name in here


def recognise(place: Place) -> tuple[str, ...]:
    """The files of the first layout that ``place`` holds."""
    for layout in (_bundle, _pipeline, _sharded, _single, _plda):
        if files := layout(place):
            return files
    if onnx := [name for name in place.names if name.endswith(".onnx")]:
        raise SourceError(
            f"{place.label} holds {onnx[0]} and no PyTorch weights, and ONNX is not read: name the "
            "source of the same network's PyTorch weights (for "
            "hbredin/wespeaker-voxceleb-resnet34-LM that is "
            "pyannote/wespeaker-voxceleb-resnet34-LM), in a pipeline by a copy of its config.yaml"
        )
    raise SourceError(
        f"nothing to convert in {place.label}: looked for a {PIPELINE} with a `pipeline` key, "
        f"{', '.join(INDEXES + SINGLES)}, one file ending in {', '.join(WEIGHTS)}, "
        f"and {' with '.join(PLDA)}; {listed(place.names)}"
    )


def listed(names: tuple[str, ...], most: int = 10) -> str:
    if not names:
        return "found nothing at all"
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"found {', '.join(names[:most])}{rest}"


def _bundle(place: Place) -> tuple[str, ...]:
    """Refuse what samevoice wrote itself. First of all layouts: a bundle has an index too."""
    marks = ("provenance.json", "segmentation/provenance.json")
    if not place.has("config.json") or not any(place.has(mark) for mark in marks):
        return ()
    if "model_type" in _json(place, "config.json"):
        raise SourceError(
            f"{place.label} is already a samevoice bundle: inspect it, "
            "or turn it back with samevoice export"
        )
    return ()


def _pipeline(place: Place) -> tuple[str, ...]:
    if not place.has(PIPELINE):
        return ()
    try:
        config = plain_yaml.load(_text(place, PIPELINE))
    except ValueError as error:
        why = error if isinstance(error, plain_yaml.PlainYamlError) else type(error).__name__
        raise SourceError(
            f"{PIPELINE} in {place.label} is no readable YAML ({why}): "
            "mend it, or name the checkpoint file itself"
        ) from None
    return (PIPELINE,) if isinstance(config, dict) and config.get("pipeline") else ()


def _sharded(place: Place) -> tuple[str, ...]:
    return next((_shards(place, index) for index in INDEXES if place.has(index)), ())


def _shards(place: Place, index: str) -> tuple[str, ...]:
    """The index and every shard that it names; names come from the file, so none is trusted."""
    table = _json(place, index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise SourceError(
            f"{index} in {place.label} has no weight_map: get it again from its source"
        )
    for name in table.values():
        if not (isinstance(name, str) and stays_below(name) and place.inside(name)):
            raise SourceError(
                f"{index} names a shard outside of {place.label}: {name!r}: "
                "do not trust it, get it again from its source"
            )
    shards = sorted({PurePosixPath(name).as_posix() for name in table.values()})
    missing = [name for name in shards if not place.has(name)]
    if missing:
        raise SourceError(
            f"{len(missing)} of {len(shards)} shards that {index} names are missing "
            f"in {place.label}, first {missing[0]!r}: put them beside the index"
        )
    return tuple(sorted({index, *shards}))


def _single(place: Place) -> tuple[str, ...]:
    for name in SINGLES:
        if place.has(name):
            return (name,)
    files = tuple(n for n in place.names if PurePosixPath(n).suffix.lower() in WEIGHTS)
    files = tuple(n for n in files if not n.endswith("/"))
    if len(files) > 1:
        raise SourceError(
            f"{len(files)} checkpoint files in {place.label}, {listed(files)}: "
            "name the one you mean by its local path"
        )
    return files


def _plda(place: Place) -> tuple[str, ...]:
    missing = [name for name in PLDA if not place.has(name)]
    if len(missing) == len(PLDA):
        return ()
    if missing:
        raise SourceError(
            f"{missing[0]!r} is missing in {place.label}: a PLDA is {' with '.join(PLDA)}, "
            "put both into one folder"
        )
    return PLDA


def _text(place: Place, name: str) -> str:
    try:
        return read_text(place.fetch(name), SourceError)
    except OSError as error:
        raise SourceError(
            f"cannot read {name} in {place.label} ({error.strerror}): check its permissions"
        ) from None


def _json(place: Place, name: str) -> dict[str, Any]:
    try:
        return parse_json(_text(place, name))
    except ValueError:
        raise SourceError(
            f"{name} in {place.label} is no JSON object: get it again from its source"
        ) from None


def checked(place: Place, files: tuple[str, ...]) -> tuple[str, ...]:
    """``files``, sorted, when each is here and holds something."""
    for name in files:
        try:
            path = place.fetch(name)
            refuse_special(path, SourceError)
            with path.open("rb") as file:
                head = file.read(64)
        except OSError as error:
            raise SourceError(
                f"cannot read {name} in {place.label} ({error.strerror}): check its permissions"
            ) from None
        if not head:
            raise SourceError(f"{name} in {place.label} is empty (0 bytes): get it again")
        if head.startswith(b"version https://git-lfs"):
            raise SourceError(
                f"{name} in {place.label} is a Git LFS pointer, not the file itself: "
                "run `git lfs pull` there"
            )
    return tuple(sorted(files))


def by_name(place: Place, name: str) -> tuple[str, ...]:
    """What one named file stands for: itself, or the set that it belongs to."""
    _bundle(place)
    if name == PIPELINE:
        files = _pipeline(place)
        if not files:
            raise SourceError(
                f"{name} in {place.label} has no `pipeline` key: name the checkpoint file instead"
            )
        return files
    if name.endswith(".index.json"):
        return _shards(place, name)
    if name in PLDA:
        return _plda(place)
    if PurePosixPath(name).suffix.lower() in WEIGHTS:
        return (name,)
    raise SourceError(
        f"{name!r} is no checkpoint by its name: expected {', '.join(WEIGHTS)}, "
        f"an .index.json, {PIPELINE}, {' or '.join(PLDA)}"
    )


def folder(root: Path) -> Place:
    label = f"folder {str(root)!r}"
    try:
        with os.scandir(root) as entries:
            names = tuple(sorted(e.name + "/" * e.is_dir() for e in entries))
    except OSError as error:
        raise SourceError(
            f"cannot list {label} ({error.strerror}): check its permissions"
        ) from None
    fence = _fence(root)
    return Place(
        label=label,
        names=names,
        has=lambda name: os.path.isfile(root / name),
        fetch=lambda name: root / name,
        inside=lambda name: Path(os.path.realpath(root / name)).is_relative_to(fence),
    )


def _fence(root: Path) -> Path:
    """The folder that links below ``root`` may not lead out of."""
    real = Path(os.path.realpath(root))
    for folder in (real, *real.parents):
        # A snapshot in the hub's cache is made of links into blobs/ beside it, or one level up.
        if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
            return folder.parents[2]
    return real

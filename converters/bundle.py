"""MLX bundles on disk: streamed into shards, written aside, read back, then renamed.

A bundle folder is never half there. Everything goes into a hidden folder beside it; each shard is
read back and compared bit for bit with what was handed over; only then does the folder get its
name. A run that was killed leaves at most the hidden folder, which the next run clears away.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samevoice.converters import safetensors_file
from samevoice.converters.rules import Tensor
from samevoice.converters.safetensors_file import Advance, Slot
from samevoice.converters.transforms import Array
from samevoice.errors import BundleError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
PROVENANCE = "provenance.json"
CARD = "README.md"
ORIGIN = "origin"  # what only the way back needs; no loader looks into it
KEPT = "origin/kept.safetensors"
ORIGIN_NOTES = "origin/checkpoint.json"


def parse_size(text: str) -> int:
    """``5GB`` -> 5,000,000,000; KB, MB, GB, TB count in thousands, KiB to TiB in 1024s."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise BundleError(f"{text!r} is no size: write it as 5GB, 500MB or 2GiB")
    number, unit, binary = match.groups()
    power = " KMGT".index(unit.upper() or " ")
    size = int(float(number) * (1024 if binary else 1000) ** power)
    if size <= 0:
        raise BundleError(f"{text!r} leaves no room for any tensor")
    return size


def shard(slots: Iterable[Slot], max_size: int) -> dict[str, tuple[Slot, ...]]:
    """File names and what goes into each, in order; a tensor larger than a shard gets its own."""
    groups: list[list[Slot]] = [[]]
    used = 0
    for slot in slots:
        if groups[-1] and used + slot.nbytes > max_size:
            groups.append([])
            used = 0
        groups[-1].append(slot)
        used += slot.nbytes
    if len(groups) == 1:
        return {WEIGHTS: tuple(groups[0])}
    return {
        f"model-{number:05d}-of-{len(groups):05d}.safetensors": tuple(group)
        for number, group in enumerate(groups, start=1)
    }


def write_shards(
    folder: Path,
    shards: Mapping[str, tuple[Slot, ...]],
    arrays: Iterable[tuple[str, Array]],
    metadata: Mapping[str, str],
    advance: Advance = lambda done: None,
) -> None:
    """Stream ``arrays``, in the slots' order, into the shards, and compare each file read back."""
    stream = iter(arrays)
    digests = {
        name: safetensors_file.write(folder / name, slots, stream, metadata, advance)
        for name, slots in shards.items()
    }
    # To its end: a stream that waits holds its last arrays while others are read back.
    for name, _ in stream:
        raise ValueError(f"{name!r} came, and no slot was announced for it")
    for name, slots in shards.items():
        _compare(folder / name, slots, digests[name])
    slots = tuple(slot for group in shards.values() for slot in group)
    index = {
        "metadata": {
            "total_size": sum(slot.nbytes for slot in slots),
            "total_parameters": sum(slot.count for slot in slots),
        },
        "weight_map": {
            slot.name: name
            for slot, name in sorted(
                ((slot, name) for name, group in shards.items() for slot in group),
                key=lambda pair: pair[0].name,
            )
        },
    }
    write_json(folder / INDEX, index)


def write_file(
    path: Path,
    slots: tuple[Slot, ...],
    arrays: Iterable[tuple[str, Array]],
    metadata: Mapping[str, str],
    advance: Advance = lambda done: None,
) -> None:
    """One safetensors file, read back through the format's own library and compared."""
    _compare(path, slots, safetensors_file.write(path, slots, iter(arrays), metadata, advance))


def _compare(path: Path, slots: tuple[Slot, ...], digests: Mapping[str, str]) -> None:
    """Read the file as others will; one array is in memory at a time."""
    written = read_file(path)
    for slot in slots:
        tensor = written.get(slot.name)
        if tensor is None or (tensor.shape, tensor.dtype) != (slot.shape, slot.dtype):
            raise BundleError(f"{path.name}: {slot.name!r} did not come back as written")
        digest = hashlib.sha256(safetensors_file.as_bytes(tensor.load())).hexdigest()
        if digest != digests[slot.name]:
            raise BundleError(
                f"{path.name}: {slot.name!r} reads back otherwise than written; is the disk sound?"
            )


def read_file(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors_file.read(path)[0]
    except OSError as error:
        raise BundleError(f"{path} cannot be read as safetensors: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a bundle, through its index."""
    tensors: dict[str, Tensor] = {}
    index = read_json(folder / INDEX)
    for name in sorted(set(index["weight_map"].values())):
        if Path(name).name != name:
            raise BundleError(f"{folder / INDEX} names {name!r}, which lies outside the bundle")
        tensors |= read_file(folder / name)
    gone = sorted(index["weight_map"].keys() - tensors.keys())
    if gone:
        raise BundleError(f"{len(gone)} tensors of the index are in no shard, first {gone[0]!r}")
    return tensors


def is_bundle(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / PROVENANCE).is_file()


def write_json(path: Path, content: Any, *, sort: bool = True) -> None:
    text = json.dumps(content, indent=2, sort_keys=sort, ensure_ascii=False) + "\n"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path.parent} has no {path.name}: it is no samevoice bundle") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of a bundle but its provenance, which holds them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: sha256(path) for name, path in names.items() if name != PROVENANCE}


@contextmanager
def written_aside(
    target: Path, *, overwrite: bool, replaceable: Callable[[Path], bool] = is_bundle
) -> Iterator[Path]:
    """A folder to write into that becomes ``target`` if all goes well, and nothing otherwise."""
    target = Path(os.path.abspath(target))
    try:
        _make_way(target, overwrite, replaceable)
        aside = target.parent / f".{target.name}.{os.getpid()}.partial"
        aside.mkdir(parents=True)
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        yield aside
        _rename(aside, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def cannot_write(target: Path, error: Exception) -> BundleError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return BundleError(f"{target} cannot be written: {reason}; nothing was changed")


def _make_way(target: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> None:
    """Refuse what must not be overwritten, and clear away what killed runs left."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*"):
        pid, _, kind = left.name[len(target.name) + 2 :].partition(".")
        if not pid.isdigit() or kind not in ("partial", "old") or _alive(int(pid)):
            continue
        if kind == "old" and not target.exists():
            left.rename(target)  # killed between its two renames: the old bundle comes back
        else:
            shutil.rmtree(left)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise BundleError(f"{target} exists: pass --overwrite, or choose another place")
    if not target.is_dir() or (any(target.iterdir()) and not replaceable(target)):
        raise BundleError(f"{target} was not made by samevoice, so it is not overwritten")


def _alive(pid: int) -> bool:
    """Whether another process of that number runs; in a container ours may be one that died."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _rename(aside: Path, target: Path) -> None:
    """Into place; an old bundle steps aside first and is removed last."""
    if not target.exists():
        aside.rename(target)
        return
    old = target.parent / f".{target.name}.{os.getpid()}.old"
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)

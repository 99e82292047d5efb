"""MLX bundles on disk: streamed into shards, written aside, read back, then renamed.

A bundle folder is never half there. Everything goes into a hidden folder beside it; each shard is
read back and compared bit for bit with what was handed over; only then does the folder get its
name. A run that was killed leaves at most the hidden folder, which the next run clears away.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samevoice.converters.reading import safetensors_file
from samevoice.converters.reading.safetensors_file import Advance, Slot
from samevoice.converters.rules import Tensor
from samevoice.converters.transforms import Array
from samevoice.errors import BundleError, SamevoiceError
from samevoice.files import read_json as _read_json
from samevoice.files import read_text, refuse_special, stays_below
from samevoice.files import sha256 as _sha256
from samevoice.outputs import refuse_unwritable

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
PROVENANCE = "provenance.json"
CARD = "README.md"
ORIGIN = "origin"  # what only the way back needs; no loader looks into it
KEPT = "origin/kept.safetensors"
ORIGIN_NOTES = "origin/checkpoint.json"
# What a release puts beside a bundle, and what the hub and its client do.
PARITY = "parity"
SUMS = "SHA256SUMS"
SIGNATURE = "model.sig"  # of a release; over the sums as well
UNSUMMED = (SUMS, SIGNATURE)
FOREIGN = (".gitattributes", ".cache", ".git")


def parse_size(text: str) -> int:
    """``5GB`` -> 5,000,000,000; KB, MB, GB, TB count in thousands, KiB to TiB in 1024s."""
    match = re.fullmatch(
        r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE
    )
    if match is None:
        raise BundleError(f"{text[:40]!r} is no size: write it as 5GB, 500MB or 2GiB")
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
    *,
    parameters: int | None = None,
) -> None:
    """Stream ``arrays``, in the slots' order, into the shards, and compare each file read back.

    ``parameters`` is their number where it is not the number of values, as behind quantisation.
    """
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
            "total_parameters": sum(slot.count for slot in slots)
            if parameters is None
            else parameters,
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
    refuse_special(path, BundleError)
    try:
        return safetensors_file.read(path)[0]
    except OSError as error:
        raise BundleError(f"{path} cannot be read as safetensors: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a bundle, through its index."""
    tensors: dict[str, Tensor] = {}
    index = read_json(folder / INDEX)
    if not isinstance(index.get("weight_map"), dict):
        raise BundleError(f"{folder / INDEX} has no weight_map")
    for name in sorted({str(name) for name in index["weight_map"].values()}):
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
    text = json.dumps(content, indent=2, sort_keys=sort, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    return _read_json(path, BundleError)


def components(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The folders of a pipeline's parts; none where the bundle is one model."""
    found = config.get("components", [])
    if not isinstance(found, list) or not all(
        isinstance(x, str) and x and stays_below(x) for x in found
    ):
        raise BundleError(f"components in {CONFIG} must name folders of the bundle")
    return tuple(found)


def sha256(path: Path) -> str:
    return _sha256(path, BundleError)


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of a bundle but its provenance, which holds them, and of no sums."""
    names = (name for name in files_in(folder) if name not in (PROVENANCE, *UNSUMMED))
    return {name: sha256(folder / name) for name in names}


def files_in(folder: Path) -> list[str]:
    """Every file below a folder, sorted, but for what the hub and its client put there."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(path.as_posix() for path in files if path.parts[0] not in FOREIGN)


def read_sums(folder: Path) -> dict[str, str]:
    """Name -> sha256, as SHA256SUMS has them; a name that leads out of the folder is refused."""
    path = folder / SUMS
    try:
        # Only a line feed ends a line, as for sha256sum: no form feed, no carriage return.
        lines = read_text(path, BundleError).removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise BundleError(f"{folder} has no {SUMS}: it is no samevoice release") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    found: dict[str, str] = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or not name.isprintable() or not name:
            raise BundleError(f"{path} has a line that is no hash and name: {line[:80]!r}")
        if not stays_below(name):
            raise BundleError(f"{path} names {name!r}, which leads out of the folder")
        if name in found:
            raise BundleError(f"{path} names {name!r} twice")
        found[name] = digest
    return found


@contextmanager
def written_aside(
    target: Path, *, overwrite: bool, replaceable: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """A folder to write into that becomes ``target`` if all goes well, and nothing otherwise."""
    target = Path(os.path.realpath(target))
    with _hidden(target) as aside:
        refuse_existing(target, overwrite=overwrite, replaceable=replaceable)
        yield aside
        _rename(aside, target, overwrite)


@contextmanager
def file_written_aside(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """The same for one file."""
    target = Path(os.path.realpath(target))
    with _hidden(target) as aside:
        if target.is_dir() or (os.path.lexists(target) and not overwrite):
            raise _exists(target)
        yield aside / target.name
        (aside / target.name).replace(target)


def refuse_existing(
    target: Path, *, overwrite: bool, replaceable: Callable[[Path], bool] | None = None
) -> None:
    """Only what samevoice wrote, and nobody added to, may be overwritten."""
    target = Path(os.path.realpath(target))
    refuse_unwritable(target.parent)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise _exists(target)
    if not target.is_dir() or (any(target.iterdir()) and not (replaceable or _is_ours)(target)):
        raise BundleError(
            f"{target} holds files that samevoice did not write, so it is not overwritten"
        )


def _exists(target: Path) -> BundleError:
    return BundleError(f"{target} exists: pass --overwrite, or choose another place")


def _is_ours(folder: Path) -> bool:
    """Whether every file of a bundle is one that its provenance names."""
    if not is_bundle(folder):
        return False
    outputs = read_json(folder / PROVENANCE).get("outputs", {})
    return names_in(folder) <= {PROVENANCE, *outputs}


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@contextmanager
def _hidden(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, ours alone; what killed runs left is cleared away."""
    aside = target.parent / f".{target.name}.partial"
    old = target.parent / f".{target.name}.old"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target):
            _tidy(target, aside, old)
            aside.mkdir()
            try:
                yield aside
            finally:
                _tidy(target, aside, old)
    except OSError as error:
        raise _cannot(target, aside, error) from error


def _tidy(target: Path, aside: Path, old: Path) -> None:
    """What a run that was killed or stopped has left; the old bundle comes back."""
    if old.exists() and not target.exists():
        old.rename(target)  # it ended between its two renames
    for left in (aside, old):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def alone(target: Path, *, wait: bool = False) -> Iterator[None]:
    """A lock that the system lets go of when its holder dies, whatever killed it."""
    path = target.parent / f".{target.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            raise BundleError(
                f"another process is writing {target}: wait for it, or choose another place"
            ) from None
        if os.fstat(file).st_nlink:
            break
        os.close(file)  # the holder before us has just removed it
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _cannot(target: Path, aside: Path, error: OSError) -> BundleError:
    """Which file, ours or one that was being read, and why; never more than one sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):  # a copy that fails names its source
        return BundleError(
            f"{target} cannot be written: the disk of {target.parent} is full; make room there, or "
            "choose another place; nothing was changed"
        )
    reason = error.strerror or str(error).splitlines()[0]
    named = Path(str(error.filename)) if error.filename else target
    if named.is_relative_to(aside) or named.is_relative_to(target) or target.is_relative_to(named):
        named = target
    if named == target or named.parent == target.parent:
        return BundleError(f"{target} cannot be written: {reason}; nothing was changed")
    return BundleError(f"{named} cannot be read: {reason}; nothing was changed")


def _rename(aside: Path, target: Path, overwrite: bool) -> None:
    """Into place; an old bundle steps aside first and is removed last."""
    if not os.path.lexists(target):
        aside.rename(target)
        return
    if not overwrite:
        raise _exists(target)
    old = target.parent / f".{target.name}.old"
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


# What comes of a number, a name or a list where another was meant.
_MISTAKES = (
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
    IndexError,
    RecursionError,
    OverflowError,
)


@contextmanager
def understood(what: Path | str, error: type[SamevoiceError] = BundleError) -> Iterator[None]:
    """Files that were edited or damaged are the reader's trouble, not a fault of ours."""
    try:
        yield
    except _MISTAKES as found:
        said = f"{type(found).__name__}: {found}"
        raise error(f"{what} lacks or misstates something ({said})") from found


def changed(folder: Path, written: Mapping[str, str]) -> tuple[str, ...]:
    """Files that are missing, added, or not as they were written."""
    there = file_hashes(folder)
    names = sorted(written.keys() | there.keys())
    return tuple(name for name in names if written.get(name) != there.get(name))

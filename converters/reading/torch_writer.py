"""torch's zip archives, written without torch, for ``torch.load`` and pyannote to read."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np

from samevoice.converters.reading.safetensors_file import as_bytes
from samevoice.converters.reading.stand_ins import StandIn
from samevoice.converters.reading.torch_zip import STORAGES, UNTYPED
from samevoice.converters.transforms import Array

_ALIGNED = 64  # where storages begin, as in torch's own archives
_ROOT = "archive"
_STORAGE_OF = {name: path for path, name in STORAGES.items() if path != UNTYPED}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """What ``torch.load`` reads: arrays as tensors, stand-ins as the classes they stand for.

    The same content gives the same bytes.
    """
    storages: list[Array] = []
    pickled = b"\x80\x02" + b"".join(_pickled(content, storages)) + b"."
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            _add(archive, file.tell(), "data.pkl", pickled)
            _add(archive, file.tell(), "byteorder", sys.byteorder.encode())
            for number, array in enumerate(storages):
                _add(archive, file.tell(), f"data/{number}", as_bytes(array))
            _add(archive, file.tell(), "version", b"3\n")
        file.flush()
        os.fsync(file.fileno())


def _add(archive: zipfile.ZipFile, at: int, name: str, data: bytes | memoryview) -> None:
    """A record whose header begins at ``at``; gaps are filled as torch fills them."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}")  # of 1980, whenever it is written
    info.create_system = 0
    wide = len(data) > zipfile.ZIP64_LIMIT // 2
    room = -(at + 30 + len(info.filename) + 20 * wide + 4) % _ALIGNED
    info.extra = b"FB" + pack("<H", room) + b"Z" * room
    with archive.open(info, "w", force_zip64=wide) as record:
        record.write(data)


def _pickled(value: Any, storages: list[Array]) -> Iterator[bytes]:
    match value:
        case None:
            yield b"N"
        case bool():
            yield b"\x88" if value else b"\x89"
        case int():
            size = value.bit_length() // 8 + 1
            yield b"\x8a" + pack("B", size) + value.to_bytes(size, "little", signed=True)
        case float():
            yield b"G" + pack(">d", value)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            yield b"X" + pack("<I", len(text)) + text
        case StandIn():
            yield _named(value.path)
            yield from _pickled(value.args, storages)
            yield b"R" if value.args else b"\x81"
            if value.state:
                yield from _pickled(value.state, storages)
                yield b"b"
        case np.ndarray():
            storages.append(value)
            yield from _tensor_pickled(value, len(storages) - 1)
        case Mapping():
            yield b"}("
            for pair in value.items():
                for part in pair:
                    yield from _pickled(part, storages)
            yield b"u"
        case tuple() | list():
            yield b"(" if isinstance(value, tuple) else b"]("
            for part in value:
                yield from _pickled(part, storages)
            yield b"t" if isinstance(value, tuple) else b"e"
        case _:
            raise TypeError(f"a {type(value).__name__} is not written into a checkpoint")


def _named(path: str) -> bytes:
    return "c{0}\n{2}\n".format(*path.rpartition(".")).encode()


def _tensor_pickled(array: Array, number: int) -> Iterator[bytes]:
    """A call of torch's own function, with the storage, and the strides of C order."""
    name = array.dtype.name
    typed = name in _STORAGE_OF
    kind = _STORAGE_OF.get(name, UNTYPED)
    steps = tuple(prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
    yield _named(f"torch._utils._rebuild_tensor_v{2 if typed else 3}") + b"(("
    yield from _pickled("storage", [])
    yield _named(kind)
    for said in (str(number), "cpu", array.size if typed else array.nbytes):
        yield from _pickled(said, [])
    yield b"tQ"
    for value in (0, array.shape, steps, False):
        yield from _pickled(value, [])
    yield _named("collections.OrderedDict") + b")R"
    yield (b"" if typed else _named(f"torch.{name}")) + b"tR"

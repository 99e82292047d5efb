"""torch's files from before its version 1.6, read without torch.

Five pickles stand one behind the other: a number, a version, what machine wrote it, the content,
and the names of the storages. Behind them comes each storage: how many numbers, and their bytes.
The file has no checksum.
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from pickletools import genops
from struct import unpack_from
from typing import Any

from samevoice.converters.reading import pickles
from samevoice.converters.reading.pickles import Global, RefusedError
from samevoice.converters.reading.torch_zip import AGAIN, DTYPES, STORAGES, Mapped, Storage

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = 1001
_ANY_SIZE = 1 << 62


def read(path: Path) -> Any:
    """What ``torch.save`` wrote, as ``torch_zip.read`` gives it."""
    return _File(path).load()


class _File(Mapped):
    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.at = len(MAGIC)
        self.kinds: dict[str, tuple[str, int]] = {}  # of each storage: type, how many numbers
        self.storages: dict[str, Storage] = {}

    def load(self) -> Any:
        if (version := self._plain(self._next())) != VERSION:
            raise RefusedError(f"is in version {version!r:.20} of torch's old format: {AGAIN}")
        little = self._plain(self._next())["little_endian"]
        self.swapped = little is not (sys.byteorder == "little")
        content = self._next()
        # Where the storages lie is known once the content has named all of them.
        pickles.load(content, self.allowed(), self._named)
        self._place(self._plain(self._next()), "<q" if little else ">q")
        return pickles.load(content, self.allowed(), self._found)

    def _next(self) -> bytes:
        """The pickle that begins here."""
        data, end = self.map[self.at : self.at + pickles.MOST_BYTES], 0
        for _, _, position in genops(data):
            end = position or 0
        self.at += end + 1
        return data[: end + 1]

    @staticmethod
    def _plain(data: bytes) -> Any:
        """Of values alone."""

        def refuse(saved: Any) -> Any:
            raise RefusedError(f"has a storage where none belongs: {pickles.NOT_RUN}")

        return pickles.load(data, {}, refuse)

    def _named(self, saved: Any) -> Storage:
        key, dtype, count = _storage(saved)
        if self.kinds.setdefault(key, (dtype, count)) != (dtype, count):
            raise ValueError(f"its storage {key[:20]!r} is of two kinds")
        return Storage(0, _ANY_SIZE, dtype)

    def _found(self, saved: Any) -> Storage:
        return self.storages[_storage(saved)[0]]

    def _place(self, keys: Any, number: str) -> None:
        """Every storage in its order, within the file."""
        if type(keys) is not list or sorted(keys) != sorted(self.kinds):
            raise ValueError("its storages are not those that its tensors name")
        for key in keys:
            dtype, count = self.kinds[key]
            if unpack_from(number, self.map, self.at)[0] != count:
                raise ValueError(f"its storage {key[:20]!r} is not as large as its tensors say")
            start, size = self.at + 8, count * DTYPES[dtype].itemsize
            self.at = start + size
            if self.at > len(self.map):
                raise ValueError("it ends within a storage")
            self.storages[key] = Storage(start, size, dtype)


def _storage(saved: Any) -> tuple[str, str, int]:
    """Its name, its type, and how many numbers it holds."""
    match saved:
        case ("storage", Global(path), str(key), _, int(count), None) if (
            STORAGES.get(path) in DTYPES and count >= 0
        ):
            return key, STORAGES[path], count
    raise RefusedError(f"refers to something else than a plain storage: {AGAIN}")

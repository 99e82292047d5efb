"""A .npz file from anybody: its arrays, read one at a time, and never a pickle.

``np.load`` believes what a file says of itself. Here a member must be as large as its own header
says, its checksum must be right, and all members together may not be much larger than the file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from samevoice.errors import SamevoiceError
from samevoice.files import refuse_special

# Unpacked, all members together may take this much, or so many times what the file takes.
ROOM = 64 << 20
RATIO = 100
_FORMATS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what np.savez and savez_compressed write
_ENCRYPTED = 0x1  # of a member's flags


@dataclass(frozen=True)
class Header:
    """What a member says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


class Npz:
    """The arrays of one file by name; whatever is wrong with it is an ``error`` of one line."""

    def __init__(self, path: Path, error: type[SamevoiceError]) -> None:
        refuse_special(path, error)
        self.path, self._error = path, error
        try:
            size = path.stat().st_size
            self._zip = zipfile.ZipFile(path)  # closes the file when nobody holds it any more
        except Exception as found:  # a damaged zip can fail in any way
            raise error(f"{path} is not an npz file, or a damaged one ({_reason(found)})") from None
        members = self._zip.infolist()
        names = [info.filename.removesuffix(".npy") for info in members]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise error(f"{path} holds {twice[0]!r} more than once: save it again")
        if sum(info.file_size for info in members) > max(ROOM, RATIO * size):
            raise error(
                f"{path} unpacks to more than {RATIO} times its size: save it with np.savez, "
                "which does not compress"
            )
        self._members = dict(zip(names, members, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self._members)

    def header(self, name: str) -> Header:
        """Shape and type of one array; its values are not read."""
        with self._member(name) as file:
            return _header(file, self._members[name].file_size)

    def read(self, name: str) -> np.ndarray[Any, Any]:
        header = self.header(name)
        with self._member(name) as file:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
            if header.dtype.kind == "U":
                array.tolist()  # a letter that does not exist is an error now, and not at its use
            return array

    @contextmanager
    def _member(self, name: str) -> Iterator[IO[bytes]]:
        info = self._members[name]
        try:
            if info.flag_bits & _ENCRYPTED:
                raise ValueError("it is encrypted")
            if info.compress_type not in _FORMATS:
                raise ValueError("it is compressed in a way that np.savez_compressed does not use")
            with self._zip.open(info) as file:
                yield file
        except Exception as found:  # damaged bytes can fail in any way
            raise self._error(
                f"{self.path}: {name!r} cannot be read ({_reason(found)}): save it again"
            ) from None


def _header(file: IO[bytes], size: int) -> Header:
    """Checked against the size of the member, so that nobody makes room for what is not there."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError("its header is of a version that no array of numbers has")
    if dtype.hasobject:
        raise ValueError("it is an object array, a pickle that could run code")
    if prod(shape) * dtype.itemsize != size - file.tell() or min(shape, default=0) < 0:
        raise ValueError("it is larger or smaller than its header says")
    return Header(tuple(shape), dtype, fortran)


def _reason(error: Exception) -> str:
    """A few words: numpy's and zipfile's own can hold any bytes of the file."""
    said = str(error)
    if isinstance(error, zlib.error) or "CRC-32" in said:
        return "its bytes are damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(said.split())[:120] or type(error).__name__

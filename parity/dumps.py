"""Named arrays on disk, from any framework: read lazily, never unpickled; and reproductions.

``open_dump`` reads .safetensors and .npz as mappings that hold one array at a time. What is written
here is always safetensors, with the order of the taps kept in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from samevoice.converters.bundle import file_written_aside, written_aside
from samevoice.errors import SamevoiceError
from samevoice.npz import Npz
from samevoice.parity.metrics import Array, is_numeric

ORDER_KEY = "samevoice.order"


class DumpError(SamevoiceError):
    """A file of named arrays that cannot be read, or must not be."""


class Dump(Mapping[str, Array]):
    """Arrays by name, in the order of the file; ``read`` is asked for one at a time."""

    def __init__(self, path: Path, names: Iterable[str], read: Callable[[str], Array]) -> None:
        self.path, self._names, self._read = path, dict.fromkeys(names), read

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        array = self._read(name)
        if not is_numeric(array.dtype):
            raise DumpError(
                f"{self.path}: {name!r} has dtype {array.dtype}, which holds no real numbers: "
                "save it as float32"
            )
        return array


def _safetensors(path: Path) -> Dump:
    """Its order is the one written by ``write_dump``, else the file's."""
    try:
        with safe_open(path, framework="np") as file:
            names, metadata = list(file.offset_keys()), file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DumpError(f"{path} is not a safetensors file: {_one_line(error)}") from None

    def read(name: str) -> Array:
        try:
            with safe_open(path, framework="np") as file:
                array: Array = file.get_tensor(name)
        except (SafetensorError, OSError, TypeError, AttributeError, KeyError) as error:
            raise DumpError(f"{path}: cannot read {name!r}: {_one_line(error)}") from None
        return array

    return Dump(path, _ordered(names, metadata.get(ORDER_KEY)), read)


def _npz(path: Path) -> Dump:
    """Object arrays would be unpickled, which can run code: they are refused."""
    archive = Npz(path, DumpError)
    return Dump(path, archive.names, archive.read)


READERS: Mapping[str, Callable[[Path], Dump]] = {".safetensors": _safetensors, ".npz": _npz}


def open_dump(path: str | Path) -> Dump:
    """A .safetensors or .npz file -> its arrays by name, read one at a time."""
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DumpError(f"{path} is neither .safetensors nor .npz: save the arrays as one of them")
    if not path.is_file():
        raise DumpError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    return reader(path)


def write_dump(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Arrays -> .safetensors that remembers their order; written aside, then renamed."""
    # save_file takes a transposed view's bytes as they lie; a copy in C order is what they mean.
    plain = {name: np.array(array, order="C") for name, array in arrays.items()}
    for name, array in plain.items():
        if not is_numeric(array.dtype):
            raise DumpError(f"cannot write {name!r}: dtype {array.dtype} holds no real numbers")
    with file_written_aside(Path(path), overwrite=True) as aside:
        try:
            save_file(plain, aside, metadata={ORDER_KEY: json.dumps(list(arrays))})
        except SafetensorError as error:
            raise DumpError(f"cannot write {path}: {_one_line(error)}") from None


def write_reproduction(
    folder: str | Path,
    parts: Mapping[str, Mapping[str, Array]],
    about: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Path:
    """One diverging layer, small enough to mail: each part as a .safetensors, and about.json.

    ``parts`` are usually input, weights, truth, reference and candidate; with these names
    ``samevoice judge reference.safetensors candidate.safetensors`` repeats the verdict.
    """
    folder = Path(folder)
    for name in parts:
        if not name.isidentifier():
            raise DumpError(f"{name!r} cannot be a part of a reproduction: use a plain word")
    with written_aside(folder, overwrite=overwrite, replaceable=lambda old: True) as aside:
        for name, arrays in parts.items():
            write_dump(aside / f"{name}.safetensors", arrays)
        text = json.dumps(dict(about), indent=1, sort_keys=True, allow_nan=False)
        (aside / "about.json").write_text(text + "\n", encoding="utf-8")
    return folder


def _ordered(names: list[str], order: str | None) -> list[str]:
    """The names as the writer ordered them; a list that does not fit them is ignored."""
    try:
        written = json.loads(order or "[]")
        return written if sorted(written) == sorted(names) else names
    except (ValueError, TypeError):
        return names


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

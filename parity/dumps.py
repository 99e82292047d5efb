"""Named arrays on disk, from any framework: read lazily, never unpickled; and reproductions.

``open_dump`` reads .safetensors and .npz as mappings that hold one array at a time. What is written
here is always safetensors, with the order of the taps kept in its metadata.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from samevoice.errors import SamevoiceError
from samevoice.npz import Npz
from samevoice.parity.metrics import Array, is_numeric

ORDER_KEY = "samevoice.order"


class DumpError(SamevoiceError):
    """A file of named arrays that cannot be read, or must not be."""


class Dump(Mapping[str, Array]):
    """Arrays by name, in the order of the file, each read when it is asked for."""

    def __init__(self, path: Path, names: list[str], metadata: Mapping[str, str]) -> None:
        self.path, self.names, self.metadata = path, names, metadata
        self._known = frozenset(names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __getitem__(self, name: str) -> Array:
        if name not in self._known:
            raise KeyError(name)
        array = self._read(name)
        if not is_numeric(array.dtype):
            raise DumpError(
                f"{self.path}: {name!r} has dtype {array.dtype}, which holds no real numbers: "
                "save it as float32"
            )
        return array

    def _read(self, name: str) -> Array:
        raise NotImplementedError


class SafetensorsDump(Dump):
    """A .safetensors file; its order is the one written by ``write_dump``, else the file's."""

    def __init__(self, path: Path) -> None:
        try:
            with safe_open(path, framework="np") as file:
                names, metadata = list(file.offset_keys()), dict(file.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise DumpError(f"{path} is not a safetensors file: {_one_line(error)}") from None
        super().__init__(path, _ordered(names, metadata.get(ORDER_KEY)), metadata)

    def _read(self, name: str) -> Array:
        try:
            with safe_open(self.path, framework="np") as file:
                array: Array = file.get_tensor(name)
        except (SafetensorError, OSError, TypeError, AttributeError, KeyError) as error:
            raise DumpError(f"{self.path}: cannot read {name!r}: {_one_line(error)}") from None
        return array


class NpzDump(Dump):
    """A .npz file. Object arrays would be unpickled, which can run code: they are refused."""

    def __init__(self, path: Path) -> None:
        self._archive = Npz(path, DumpError)
        super().__init__(path, list(self._archive.names), {})

    def _read(self, name: str) -> Array:
        return self._archive.read(name)


READERS: Mapping[str, type[SafetensorsDump] | type[NpzDump]] = {
    ".safetensors": SafetensorsDump,
    ".npz": NpzDump,
}


def open_dump(path: str | Path) -> Dump:
    """A .safetensors or .npz file -> its arrays by name, read one at a time."""
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DumpError(f"{path} is neither .safetensors nor .npz: save the arrays as one of them")
    if not path.is_file():
        raise DumpError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    return reader(path)


def write_dump(
    path: str | Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> None:
    """Arrays -> .safetensors that remembers their order; written aside, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = {**(metadata or {}), ORDER_KEY: json.dumps(list(arrays))}
    # save_file takes a transposed view's bytes as they lie; a copy in C order is what they mean.
    plain = {name: np.array(array, order="C") for name, array in arrays.items()}
    for name, array in plain.items():
        if not is_numeric(array.dtype):
            raise DumpError(f"cannot write {name!r}: dtype {array.dtype} holds no real numbers")
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    try:
        save_file(plain, aside, metadata=notes)
        aside.replace(path)
    except (SafetensorError, OSError) as error:
        raise DumpError(f"cannot write {path}: {_one_line(error)}") from None
    finally:
        aside.unlink(missing_ok=True)


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
    if folder.exists() and not overwrite:
        raise DumpError(f"{folder} exists already: choose another, or allow overwriting")
    for name in parts:
        if not name.isidentifier():
            raise DumpError(f"{name!r} cannot be a part of a reproduction: use a plain word")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as aside:
        made = Path(aside) / "made"
        made.mkdir()
        for name, arrays in parts.items():
            write_dump(made / f"{name}.safetensors", arrays)
        text = json.dumps(dict(about), indent=1, sort_keys=True, allow_nan=False)
        (made / "about.json").write_text(text + "\n", encoding="utf-8")
        if folder.is_dir() and not folder.is_symlink():
            shutil.move(folder, Path(aside) / "old")
        made.replace(folder)
    return folder


def _ordered(names: list[str], order: str | None) -> list[str]:
    """The names as the writer ordered them; a list that does not fit them is ignored."""
    try:
        written = json.loads(order) if order else []
    except ValueError:
        return names
    return written if isinstance(written, list) and _same_names(written, names) else names


def _same_names(written: list[Any], names: list[str]) -> bool:
    strings = all(isinstance(name, str) for name in written)
    return strings and sorted(written) == sorted(names)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

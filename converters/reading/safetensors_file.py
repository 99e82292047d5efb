"""One safetensors file: tensors read one by one, or written one by one as they come.

Reading goes through the format's own library. Its writer wants all tensors in memory at once, so
the few lines of the format are written here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from samevoice.converters.rules import Shape, Tensor
from samevoice.converters.transforms import Array

_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
DTYPES = frozenset(_CODES)  # what a file can hold
_DTYPES = {code: name for name, code in _CODES.items()}

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Slot:
    """Room for one array: known before the array is."""

    name: str
    shape: Shape
    dtype: str

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        bfloat16 = self.dtype == "bfloat16"
        return self.count * np.dtype(ml_dtypes.bfloat16 if bfloat16 else self.dtype).itemsize


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor, loaded when asked for, and the file's metadata. OSError where it is broken."""
    from safetensors import SafetensorError, safe_open

    try:
        # Kept open by the tensors: opening it again for each would read the header each time.
        opened: Any = safe_open(path, framework="numpy")
        names = sorted(opened.keys())
        metadata = dict(opened.metadata() or {})
        return {name: _tensor(opened, name) for name in names}, metadata
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _tensor(opened: Any, name: str) -> Tensor:
    cut = opened.get_slice(name)
    dtype = _DTYPES.get(cut.get_dtype(), cut.get_dtype())
    return Tensor(tuple(cut.get_shape()), dtype, lambda: opened.get_tensor(name))


def write(
    path: Path,
    slots: tuple[Slot, ...],
    arrays: Iterator[tuple[str, Array]],
    metadata: Mapping[str, str],
    advance: Advance = lambda done: None,
) -> dict[str, str]:
    """Take one array per slot, in the slots' order; the sha256 of each comes back."""
    digests = {}
    with open(path, "wb") as file:
        file.write(_header(slots, metadata))
        for slot in slots:
            name, array = next(arrays)
            came = Slot(name, tuple(array.shape), array.dtype.name)
            if came != slot:
                raise ValueError(f"{came} came where {slot} was announced")
            data = as_bytes(array)
            digests[name] = hashlib.sha256(data).hexdigest()
            file.write(data)
            del array, data  # before the next one is made
            advance(slot.nbytes)
        file.flush()
        os.fsync(file.fileno())
    return digests


def as_bytes(array: Array) -> memoryview:
    """The values in C order, as they stand in the file."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _header(slots: tuple[Slot, ...], metadata: Mapping[str, str]) -> bytes:
    """Eight bytes of length, then JSON padded to a multiple of eight."""
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for slot in slots:
        end = offset + slot.nbytes
        entries[slot.name] = {
            "dtype": _CODES[slot.dtype],
            "shape": list(slot.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text

"""torch's zip archives, read without torch.

An archive holds a pickle, ``data.pkl``, and beside it the bytes of every storage, uncompressed. A
tensor is a view of a storage: an offset, a shape and strides. The file is mapped, and a tensor's
values are read when they are asked for.
"""

from __future__ import annotations

import mmap
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from struct import unpack_from
from typing import Any

import ml_dtypes
import numpy as np

from samevoice.converters.reading import pickles
from samevoice.converters.reading.pickles import Allowed, Global, Opaque, RefusedError
from samevoice.converters.reading.stand_ins import STAND_INS, StandIn
from samevoice.converters.rules import Shape, Tensor
from samevoice.converters.transforms import Array

MAGIC = b"PK\x03\x04"
AGAIN = "load it with torch and save it again with torch.save"
_MOST_AXES = 64  # of an array in numpy, as of a tensor in torch
_LARGEST = 1 << 63  # bytes

DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex64", "complex128", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
}
_NO_DTYPES = (
    *("complex32", "float4_e2m1fn_x2", "qint8", "quint8", "qint32", "quint4x2", "quint2x4"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
)
UNTYPED = "torch.storage.UntypedStorage"
# A storage's class -> the type of its numbers; newer types are bytes with a type of their own.
STORAGES: Mapping[str, str] = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.ComplexFloatStorage": "complex64",
    "torch.BoolStorage": "bool",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    UNTYPED: "uint8",
    "torch.QInt8Storage": "qint8",
    "torch.QUInt8Storage": "quint8",
    "torch.QInt32Storage": "qint32",
    "torch.QUInt4x2Storage": "quint4x2",
    "torch.QUInt2x4Storage": "quint2x4",
}


@dataclass(frozen=True)
class Unread:
    """A tensor that is no plain one: what it is, and what to do."""

    what: str


# What makes a tensor that has no plain values.
_UNREAD: Mapping[str, str] = {
    "_rebuild_sparse_tensor": "sparse: save its to_dense()",
    "_rebuild_qtensor": "quantised: save its dequantize()",
    "_rebuild_meta_tensor_no_storage": "without values: save it from a device that holds them",
    "_rebuild_nested_tensor": "nested: save its parts, as unbind() gives them",
    "_rebuild_wrapper_subclass": "of a class of its own: save it as a plain tensor",
    "_rebuild_device_tensor_from_numpy": "of another device: save its cpu()",
    "_rebuild_device_tensor_from_cpu_tensor": "of another device: save its cpu()",
}
_OPAQUE = (
    *("builtins.set", "builtins.bytearray", "builtins.complex", "_codecs.encode"),
    *("torch.device", "torch.serialization._get_layout"),
)
_VALUES = (
    *("torch.Tensor", "torch.nn.parameter.Parameter", "torch.per_tensor_affine"),
    *("torch.per_channel_affine", "torch.per_channel_affine_float_qparams"),
    *("torch.per_tensor_symmetric", "torch.per_channel_symmetric"),
)


@dataclass(frozen=True)
class Storage:
    """Bytes of the file, and the type that the storage's class gives them."""

    start: int
    nbytes: int
    dtype: str


def read(path: Path) -> Any:
    """What ``torch.save`` wrote, with Tensor for each tensor and StandIn for each object.

    RefusedError and OSError say what is wrong; any other exception means damage.
    """
    return _Archive(path).load()


class Mapped:
    """A mapped file with a pickle in it, and the storages that its tensors are views of."""

    map: mmap.mmap
    swapped: bool  # in the other byte order than this machine's

    def allowed(self) -> Allowed:
        """Every name that a pickle may hold; what has a function may be called."""
        values = (*STORAGES, *(f"torch.{name}" for name in (*DTYPES, *_NO_DTYPES)), *_VALUES)
        made: dict[str, Callable[..., Any] | None] = dict.fromkeys(values)
        made |= {path: _maker(Opaque(path)) for path in _OPAQUE}
        made |= {f"torch._utils.{name}": _maker(Unread(what)) for name, what in _UNREAD.items()}
        made |= {path: partial(_stand_in, path) for path in STAND_INS}
        tensors: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
        }
        return {
            **made,
            **tensors,
            "torch._tensor._rebuild_from_type_v2": partial(_from_type, {**made, **tensors}),
            "torch.Size": _size,
            "collections.OrderedDict": _mapping,
            "collections.Counter": _mapping,
        }

    def _typed(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any,
        dtype: Any, metadata: Any = None,
    ) -> Tensor | Unread:  # fmt: skip
        """A tensor of bytes, seen as a type that has no class of storages."""
        name = dtype.path.removeprefix("torch.")
        return self._view(storage, name, offset, size, stride, metadata)

    def _tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any = False,
        hooks: Any = None, metadata: Any = None,
    ) -> Tensor | Unread:  # fmt: skip
        return self._view(storage, storage.dtype, offset, size, stride, metadata)

    def _view(
        self, storage: Storage, name: str, offset: int, shape: Shape, stride: Shape, metadata: Any
    ) -> Tensor | Unread:
        """Checked against the bytes of its storage: nobody sees beyond them."""
        if name not in DTYPES:
            return Unread(f"of the type {name}: save it as float32")
        dtype = DTYPES[name]
        _check_axes(offset, shape, stride)
        last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        end = (offset + last + 1 if all(shape) else 0) * dtype.itemsize
        if end > storage.nbytes:
            raise ValueError("a tensor reaches beyond its storage")
        if prod(size or 1 for size in shape) * dtype.itemsize >= _LARGEST:
            raise ValueError("a tensor is larger than any memory")
        changes = tuple(
            change
            for mark, change in (("conj", np.conjugate), ("neg", np.negative))
            if type(metadata) is dict and metadata.get(mark) is True
        )
        start = storage.start + offset * dtype.itemsize
        strides = tuple(
            step * dtype.itemsize if size > 1 else 0
            for size, step in zip(shape, stride, strict=True)
        )
        return Tensor(shape, name, partial(self._array, dtype, shape, start, strides, changes))

    def _array(
        self, dtype: np.dtype[Any], shape: Shape, start: int, strides: Shape, changes: Any
    ) -> Array:
        if 0 in shape:
            return np.empty(shape, dtype)
        array: Array = np.ndarray(shape, dtype, self.map, start, strides)
        if self.swapped:
            array = array.byteswap()
        if not array.flags.aligned:
            array = array.copy()
        for change in changes:
            array = np.asarray(change(array))
        return array


class _Archive(Mapped):
    """The records of one mapped file, each with the checksum that the file says."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _refuse_code([one.filename for one in members])
        self.records: dict[str, tuple[int, int]] = {}
        free = 0  # where the next member may begin: none lies within another
        for one in sorted(members, key=lambda one: one.header_offset):
            start = self._start(one, free)
            free = start + one.file_size
            with memoryview(self.map)[start:free] as data:
                if len(data) != one.file_size or zlib.crc32(data) != one.CRC:
                    raise OSError(f"the checksum of {one.filename!r} is wrong")
            self.records[one.filename] = start, one.file_size
        if len(self.records) < len(members):
            raise OSError("a name stands twice in it")
        self.root = members[0].filename.partition("/")[0] if members else ""
        if f"{self.root}/data.pkl" not in self.records:
            raise RefusedError("is a zip archive, but not one of torch's: it has no data.pkl")
        order = self._bytes("byteorder").decode() or "little"
        if order not in ("little", "big"):
            raise ValueError(f"its byte order is {order[:20]!r}")
        self.swapped = order != sys.byteorder

    def _start(self, one: zipfile.ZipInfo, free: int) -> int:
        """Where a member's bytes begin, behind its own header, which must repeat its name."""
        if one.flag_bits & 1 or one.compress_type != zipfile.ZIP_STORED:
            raise RefusedError(f"is a compressed or encrypted archive: {AGAIN}")
        at = one.header_offset
        magic, name, extra = unpack_from("<4s22xHH", self.map, at)
        said = self.map[at + 30 : at + 30 + name]
        if magic != MAGIC or at < free or said != one.orig_filename.encode(_encoding(one)):
            raise OSError(f"the header of {one.filename!r} is wrong")
        return int(at + 30 + name + extra)

    def _bytes(self, name: str) -> bytes:
        start, size = self.records.get(f"{self.root}/{name}", (0, 0))
        return self.map[start : start + size]

    def load(self) -> Any:
        return pickles.load(self._bytes("data.pkl"), self.allowed(), self._storage)

    def _storage(self, saved: Any) -> Storage:
        match saved:
            case ("storage", Global(path), str(key), _, int(count)) if path in STORAGES:
                name, dtype = f"{self.root}/data/{key}", STORAGES[path]
            case _:
                raise RefusedError(f"refers to something else than a storage: {pickles.NOT_RUN}")
        if name not in self.records:
            raise ValueError(f"its storage {key[:20]!r} is missing")
        start, size = self.records[name]
        # Bytes that make no whole number, behind the last one, are not counted.
        if dtype in DTYPES and count != size // DTYPES[dtype].itemsize:
            raise ValueError(f"its storage {key[:20]!r} is not as large as its tensors say")
        return Storage(start, size, dtype)


def _encoding(one: zipfile.ZipInfo) -> str:
    return "utf-8" if one.flag_bits & 0x800 else "cp437"


def _refuse_code(names: list[str]) -> None:
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise RefusedError("is a TorchScript archive, which holds code: save its state_dict()")


def _check_axes(offset: Any, shape: Any, stride: Any) -> None:
    if type(shape) is not tuple or type(stride) is not tuple or len(shape) != len(stride):
        raise ValueError("a tensor has no shape, or not the strides for it")
    if len(shape) > _MOST_AXES:
        raise ValueError(f"a tensor has more than {_MOST_AXES} axes")
    if any(type(n) is not int or not 0 <= n < _LARGEST for n in (offset, *shape, *stride)):
        raise ValueError("a tensor has a negative or endless axis")


def _maker(value: Any) -> Callable[..., Any]:
    """Of the same value, whatever the arguments."""
    return lambda *args: value


def _stand_in(path: str, *args: Any) -> StandIn:
    return StandIn(path, args)


def _parameter(data: Any, grad: Any, hooks: Any, state: Any = None) -> Any:
    if type(data) not in (Tensor, Unread):
        raise ValueError("a parameter is no tensor")
    return data


def _from_type(makers: Allowed, make: Any, kind: Any, args: Any, state: Any) -> Any:
    """A tensor with attributes of its own, or of a subclass: the tensor."""
    found = makers.get(make.path) if kind.path in _VALUES[:2] else None
    if found is None:
        raise RefusedError(f"holds a tensor of a class of its own: {AGAIN}")
    return found(*args)


def _size(values: Any) -> tuple[int, ...]:
    if type(values) is not tuple or any(type(n) is not int for n in values):
        raise ValueError("a torch.Size is no shape")
    return values


def _mapping(items: Any = ()) -> dict[Any, Any]:
    """Keys that came as a dict were checked when they came; it is no copy, which would cost."""
    if type(items) is not dict and items != ():
        raise RefusedError(f"holds a dict made of a list: {AGAIN}")
    return items if type(items) is dict else {}

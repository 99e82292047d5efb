"""Safe reading: a file or a folder of shards -> named tensors, what was saved beside them.

Nothing in a pickle ever runs. torch's weights-only reader builds tensors and plain containers;
the few classes that pyannote puts into its checkpoints are replaced by stand-ins that hold what
was saved and do nothing. A checkpoint that names any other global is refused by that name.

Tensors come from a mapped file and are read when asked for, so that a checkpoint may be larger
than the memory.
"""

from __future__ import annotations

import copyreg
import errno
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes

from samevoice.converters.reading import safetensors_file
from samevoice.converters.rules import Tensor
from samevoice.converters.transforms import Array
from samevoice.errors import CheckpointError, MissingExtraError, SamevoiceError
from samevoice.files import read_json, refuse_special
from samevoice.npz import RATIO, ROOM, Npz

if TYPE_CHECKING:
    import torch

# The only globals beside torch's own that a checkpoint may name, and what it uses them for.
STAND_INS = (
    "pyannote.audio.core.task.Specifications",
    "pyannote.audio.core.task.Problem",
    "pyannote.audio.core.task.Resolution",
    "pyannote.audio.core.model.Introspection",
    "torch.torch_version.TorchVersion",
)
# Keys under which training scripts put the state dict.
WRAPPERS = ("state_dict", "model", "model_state_dict", "module", "net")
MOST_VALUES = 1_000_000  # of one entry beside the weights
LEGACY_NOTE = (
    "is in torch's format before 1.6, which has no checksum: values that were damaged do not show"
)
REFERENCE_NOTE = "reference weights: for parity, not for use"


class StandIn:
    """What a pickle says of an object whose class is not to be imported: arguments and state."""

    path = ""
    args: tuple[Any, ...] = ()

    def __new__(cls, *args: Any) -> StandIn:
        made = super().__new__(cls)
        made.__dict__["args"] = args
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """With arguments as a call of the class, as enumerations are saved; else as bare state."""
        made = (type(self), self.args) if self.args else (copyreg.__newobj__, (type(self),))  # type: ignore[attr-defined]
        return (*made, self.state or None)

    @property
    def state(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "args"}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and what a conversion needs to know beside them.

    ``metadata``: architecture, hyper_parameters, specifications and note, each where it is known.
    ``container``: the key that held the state dict, or "". ``beside``: what else was saved, as
    ``encode`` writes it. ``entries``: the keys of the file in their order. ``lost``: those whose
    content could not be encoded, such as an optimiser's state. ``notes``: what to know of the file.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    container: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    format: str = "torch"
    notes: tuple[str, ...] = ()


def read(root: Path, files: tuple[str, ...]) -> Checkpoint:
    """The checkpoint that these files of a folder make up: one file, or shards with their index."""
    paths = [root / name for name in files if not name.endswith(".json")]
    for name in files:
        refuse_special(root / name, CheckpointError)
    suffix = paths[0].suffix.lower()
    if suffix == ".npz":
        return _read_npz(paths)
    reader = _read_safetensors if suffix == ".safetensors" else _read_torch
    parts = [reader(path) for path in paths]
    whole = parts[0]
    if len(parts) == 1:
        return whole
    tensors: dict[str, Tensor] = {}
    for path, part in zip(paths, parts, strict=True):
        twice = sorted(tensors.keys() & part.tensors.keys())
        if twice:
            raise CheckpointError(f"{path.name}: {twice[0]!r} stands in another shard already")
        tensors |= part.tensors
    for index in (name for name in files if name.endswith(".json")):
        _check_index(
            root / index,
            {path.name: set(part.tensors) for path, part in zip(paths, parts, strict=True)},
        )
    notes = tuple(note for part in parts for note in part.notes)
    return Checkpoint(tensors, whole.metadata, format=whole.format, notes=notes)


def _check_index(path: Path, held: Mapping[str, set[str]]) -> None:
    """Every tensor is in the shard that the index names for it."""
    said = read_json(path, CheckpointError)["weight_map"]
    found = {name: shard for shard, names in held.items() for name in names}
    wrong = sorted(name for name in {*said, *found} if said.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(
            f"{path.name} and its shards disagree on {len(wrong)} tensors, first {wrong[0]!r}: "
            "get them again from one source"
        )


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        tensors, metadata = safetensors_file.read(path)
    except OSError as error:
        raise _corrupt(path, error) from error
    return Checkpoint(tensors, _noted(metadata), format="safetensors")


def _noted(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Only samevoice's own mark is passed on: a stranger's text would stand in cards and logs."""
    return {"note": REFERENCE_NOTE} if metadata.get("note") == REFERENCE_NOTE else {}


def _read_npz(paths: list[Path]) -> Checkpoint:
    """The arrays of all files, each under its file's name; texts are notes, not tensors."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    fortran: list[str] = []
    texts: dict[str, str] = {}
    for path in paths:
        archive = Npz(path, CheckpointError)
        for inner in archive.names:
            name, header = f"{path.stem}.{inner}", archive.header(inner)
            if header.dtype.kind == "U":
                texts[name] = str(archive.read(inner))
                metadata |= _noted({inner: texts[name]})
                continue
            load = partial(archive.read, inner)
            tensors[name] = Tensor(header.shape, header.dtype.name, load)
            if len(header.shape) > 1 and header.fortran:
                fortran.append(name)
    return Checkpoint(
        tensors, metadata, beside={"fortran_order": fortran, "texts": texts}, format="npz"
    )


def _read_torch(path: Path) -> Checkpoint:
    loaded = _load_torch(path)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path.name} holds a {type(loaded).__name__}, not a state dict")
    container = next((key for key in WRAPPERS if isinstance(loaded.get(key), dict)), "")
    state = loaded[container] if container else loaded
    others = {key: value for key, value in state.items() if not _is_tensor(value)}
    if others or not state:
        what = f"an entry {next(iter(others))!r} that is no tensor" if others else "no tensors"
        raise CheckpointError(f"{path.name}: the state dict holds {what}")
    beside = {key: value for key, value in loaded.items() if key != container} if container else {}
    encoded, lost = _encode_each(beside)
    tensors = {str(name): _tensor(str(name), value) for name, value in state.items()}
    entries = tuple(str(key) for key in loaded) if container else ()
    notes = () if zipfile.is_zipfile(path) else (f"{path.name} {LEGACY_NOTE}",)
    return Checkpoint(tensors, _metadata(beside), container, encoded, entries, lost, notes=notes)


def _load_torch(path: Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"torch, which reads {path.name},", "convert") from error
    zipped = zipfile.is_zipfile(path)
    allowed: list[Any] = [(stand_in(name), name) for name in STAND_INS]
    try:
        mapped = zipped and _check_archive(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter(
                "ignore"
            )  # about pickle protocols; an error follows if it matters
            _refuse_globals(path, zipped)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except SamevoiceError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path.name} is not read, because {_reason(path, error)}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise _corrupt(path, error) from error


def _check_archive(path: Path) -> bool:
    """Check the sums, which torch skips for a mapped file; whether the file can be mapped."""
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist()]
        if any("/code/" in name or name.endswith("constants.pkl") for name in names):
            raise CheckpointError(
                f"{path.name} is a TorchScript archive, which holds code: save its state_dict()"
            )
        if len({*names}) < len(names):
            raise OSError("a name stands twice in it")
        unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > max(ROOM, RATIO * path.stat().st_size):
            raise CheckpointError(f"{path.name} unpacks to more than {RATIO} times its size")
        bad = archive.testzip()
        if bad is not None:
            raise OSError(f"the checksum of {bad!r} is wrong")
        # Mapped, a compressed archive would be read as if its packed bytes were the numbers.
        return all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def _refuse_globals(path: Path, zipped: bool) -> None:
    """Look through the pickle, without running it, for names that are neither torch's nor ours."""
    import torch

    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
    if unsafe:
        raise CheckpointError(
            f"{path.name} names {sorted(unsafe)[0]!r}, which samevoice does not allow: a pickle "
            "may run code, and nothing in this one was run"
        )


def stand_in(path: str) -> type[StandIn]:
    """A class of its own for each global, because torch tells them apart by class."""
    return type(path.rpartition(".")[2], (StandIn,), {"path": path})


def _reason(path: Path, error: Exception) -> str:
    """Our own words: torch's advise to switch the safety off."""
    _, found, after = str(error).partition("GLOBAL ")
    if found:
        return f"it names {after.split()[0]!r}, which samevoice does not allow"
    start = path.open("rb").read(512)
    if start.lstrip()[:1] in (b"<", b"{", b"["):
        return "it is a web page or other text, not a checkpoint: download it again"
    if start[8:9] == b"{":
        return "it is a safetensors file: rename it to .safetensors"
    if start[257:262] == b"ustar":
        return "it is a tar archive: unpack it, and name the checkpoint inside"
    return "it is no PyTorch checkpoint, or a damaged one"


def _corrupt(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, UnicodeError):
        return CheckpointError(f"{str(path)!a} has a name that is no text: rename it")
    if isinstance(error, PermissionError):
        return CheckpointError(f"{path} cannot be read: {error.strerror}")
    lines = str(error).strip().splitlines()
    return CheckpointError(
        f"{path.name} is truncated or corrupt ({lines[0] if lines else type(error).__name__}): "
        "download it again"
    )


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _tensor(name: str, value: torch.Tensor) -> Tensor:
    import torch

    plain = value.layout == torch.strided and not value.is_quantized and not value.is_complex()
    if not plain or value.is_meta:
        raise CheckpointError(
            f"{name!r} is sparse, quantised or complex, or without values: only plain tensors "
            "convert"
        )
    dtype = str(value.dtype).removeprefix("torch.")
    return Tensor(tuple(value.shape), dtype, lambda: _numpy(value))


def _numpy(value: torch.Tensor) -> Array:
    import torch

    value = value.detach()
    if value.dtype == torch.bfloat16:
        return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    array: Array = value.numpy()
    return array


def _metadata(beside: Mapping[str, Any]) -> dict[str, Any]:
    """What pyannote and samevoice write beside the weights, in plain values."""
    found: dict[str, Any] = {}
    pyannote = beside.get("pyannote.audio")
    if isinstance(pyannote, Mapping):
        found["architecture"] = pyannote.get("architecture", {}).get("class")
        specifications = pyannote.get("specifications")
        if isinstance(specifications, StandIn):
            found["specifications"] = _specifications(specifications)
    if isinstance(beside.get("hyper_parameters"), Mapping):
        found["hyper_parameters"] = dict(beside["hyper_parameters"])
    if isinstance(beside.get("samevoice"), Mapping):
        found |= _noted(beside["samevoice"])
    return found


# The values of pyannote's enumerations, which a checkpoint stores by number.
_PROBLEMS = (
    "BINARY_CLASSIFICATION",
    "MONO_LABEL_CLASSIFICATION",
    "MULTI_LABEL_CLASSIFICATION",
    "REPRESENTATION",
    "REGRESSION",
)
_RESOLUTIONS = ("", "FRAME", "CHUNK")


def _specifications(saved: StandIn) -> dict[str, Any]:
    state = saved.state
    try:
        return {
            "problem": _PROBLEMS[state["problem"].args[0]],
            "resolution": _RESOLUTIONS[state["resolution"].args[0]],
            "duration": state["duration"],
            "min_duration": state.get("min_duration"),
            "warm_up": list(state.get("warm_up") or (0.0, 0.0)),
            "classes": list(state["classes"]) if state.get("classes") else None,
            "powerset_max_classes": state.get("powerset_max_classes"),
            "permutation_invariant": state.get("permutation_invariant", False),
        }
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint's specifications lack or misstate {error}"
        ) from error


_NO_JSON = (TypeError, RecursionError, UnicodeEncodeError)


def _encode_each(entries: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What can be written as JSON, and the names of what cannot: entries, or parts of them."""
    encoded: dict[str, Any] = {}
    lost = []
    for key, value in entries.items():
        try:
            encoded[str(key)] = encode(value)
        except _NO_JSON:
            parts = value if type(value) is dict else {}
            kept = {name: part for name, part in parts.items() if _encodable(part)}
            lost += [f"{key}.{name}" for name in parts if name not in kept] or [str(key)]
            if parts:
                encoded[str(key)] = encode(kept)
    return encoded, tuple(lost)


def _encodable(value: Any) -> bool:
    try:
        encode(value)
    except _NO_JSON:
        return False
    return True


def encode(value: Any) -> Any:
    """A saved value as JSON, with marks where JSON has no type of its own."""
    return _encode(value, iter(range(MOST_VALUES)))


def _encode(value: Any, room: Iterator[int]) -> Any:
    # Lists that hold one another many times over are small in a pickle and endless in JSON.
    if next(room, None) is None:
        raise TypeError("more values than anybody saves beside a network")
    if isinstance(value, StandIn):
        return {
            "$class": value.path,
            "args": [_encode(arg, room) for arg in value.args],
            "state": {name: _encode(part, room) for name, part in value.state.items()},
        }
    if isinstance(value, str):
        value.encode("utf-8")  # half of a character is no text
        return value
    if isinstance(value, float) and not isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple):
        return {"$tuple": [_encode(part, room) for part in value]}
    if isinstance(value, list):
        return [_encode(part, room) for part in value]
    if isinstance(value, Mapping):
        pairs = ((_encode(key, room), _encode(part, room)) for key, part in value.items())
        return {"$dict": [[key, part] for key, part in pairs]}
    raise TypeError(f"a {type(value).__name__} has no place in JSON")


def decode(value: Any) -> Any:
    """The way back from ``encode``; classes come back as stand-ins."""
    if isinstance(value, list):
        return [decode(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    if "$float" in value:
        return float(value["$float"])
    if "$tuple" in value:
        return tuple(decode(part) for part in value["$tuple"])
    if "$dict" in value:
        return {decode(key): decode(part) for key, part in value["$dict"]}
    if value.get("$class") not in STAND_INS:
        # Written into a pickle, any other name would run code in whoever loads it.
        raise CheckpointError(f"{value.get('$class')!r} is no class that samevoice writes")
    made = stand_in(value["$class"])(*(decode(arg) for arg in value["args"]))
    made.__dict__.update({name: decode(part) for name, part in value["state"].items()})
    return made


def check_architecture(beside: Mapping[str, Any]) -> None:
    """pyannote imports the module that a checkpoint names: it must be one of pyannote's."""
    said = beside.get("pyannote.audio")
    module = said["architecture"]["module"] if isinstance(said, Mapping) else "pyannote.audio."
    if not str(module).startswith("pyannote.audio."):
        raise CheckpointError(f"{module!r} is no module of pyannote.audio, so it is not written")


def write_torch(path: Path, content: Mapping[str, Any]) -> None:
    """``torch.save``, with each stand-in written as the class that it stands for."""
    import torch

    try:
        torch.save(dict(content), path, pickle_module=_StandInPickling, pickle_protocol=2)
    except RuntimeError as error:  # torch's writer says which of its checks failed, not why
        raise OSError(errno.EIO, "torch could not write it whole; is the disk full?") from error


class _StandInPickler(pickle._Pickler):
    """pickle checks that a class can be imported; a stand-in is written by name without it."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if not (isinstance(obj, type) and issubclass(obj, StandIn)):
            super().save_global(obj, name)  # type: ignore[misc]
            return
        module, _, attribute = obj.path.rpartition(".")
        self.write(f"c{module}\n{attribute}\n".encode())  # type: ignore[attr-defined]
        self.memoize(obj)  # type: ignore[attr-defined]


class _StandInPickling:
    """The one name of the pickle module that torch.save looks up."""

    Pickler = _StandInPickler

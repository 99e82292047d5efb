"""Safe reading: a file or a folder of shards -> named tensors, what was saved beside them.

Nothing in a pickle ever runs, and torch is not imported: ``pickles`` builds tensors and plain
containers, and a stand-in for each of the few classes that pyannote puts into its checkpoints. A
checkpoint that names anything else is refused by that name.

Tensors come from a mapped file and are read when asked for, so that a checkpoint may be larger
than the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from samevoice.converters.bundle import understood
from samevoice.converters.reading import safetensors_file, torch_legacy, torch_zip
from samevoice.converters.reading.pickles import RefusedError
from samevoice.converters.reading.stand_ins import StandIn, encode
from samevoice.converters.reading.torch_zip import Unread
from samevoice.converters.rules import Tensor
from samevoice.errors import CheckpointError
from samevoice.files import read_json, refuse_special
from samevoice.npz import RATIO, ROOM, Npz

# Keys under which training scripts put the state dict.
WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "module", "net")
REFERENCE_NOTE = "reference weights: for parity, not for use"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and what a conversion needs to know beside them.

    ``metadata``: architecture, hyper_parameters, specifications and note, each where it is known.
    ``container``: the key that held the state dict, or "". ``beside``: what else was saved, as
    ``encode`` writes it. ``entries``: the keys of the file in their order. ``lost``: those whose
    content could not be encoded, such as an optimiser's state.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    container: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    format: str = "torch"


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
    return Checkpoint(tensors, whole.metadata, format=whole.format)


def _check_index(path: Path, held: Mapping[str, set[str]]) -> None:
    """Every tensor is in the shard that the index names for it."""
    found = {name: shard for shard, names in held.items() for name in names}
    with understood(path.name, CheckpointError):
        said = dict(read_json(path, CheckpointError)["weight_map"])
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
    beside = {key: value for key, value in loaded.items() if key != container} if container else {}
    encoded, lost = _encode_each(beside)
    tensors = _tensors(path, state)
    entries = tuple(str(key) for key in loaded) if container else ()
    with understood(f"what {path.name} holds beside the tensors", CheckpointError):
        metadata = _metadata(beside)
    return Checkpoint(tensors, metadata, container, encoded, entries, lost)


def _tensors(path: Path, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The plain tensors that a state dict is made of, and nothing else."""
    tensors: dict[str, Tensor] = {}
    room = max(ROOM, RATIO * path.stat().st_size)
    for name, value in state.items():
        if isinstance(value, Unread):
            raise CheckpointError(f"{path.name}: {name!r} is {value.what}")
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path.name}: the state dict holds an entry {name!r} that is no tensor"
            )
        tensors[str(name)] = value
        room -= prod(value.shape) * torch_zip.DTYPES[value.dtype].itemsize
    if not tensors:
        raise CheckpointError(f"{path.name}: the state dict holds no tensors")
    if room < 0:
        raise CheckpointError(f"{path.name} unpacks to more than {RATIO} times its size")
    return tensors


def _load_torch(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if start.startswith(torch_legacy.MAGIC):
            return torch_legacy.read(path)
        if not start.startswith(torch_zip.MAGIC):
            raise RefusedError(_reason(start))
        return torch_zip.read(path)
    except RefusedError as error:
        raise CheckpointError(f"{path.name} {error}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise _corrupt(path, error) from error


def _reason(start: bytes) -> str:
    """Why a file that begins so is no archive of torch's."""
    if start[:1] == b"\x80":
        return "is a plain pickle, which may run code: save a state dict with torch.save"
    if start.lstrip()[:1] in (b"<", b"{", b"["):
        return "is a web page or other text, not a checkpoint: download it again"
    if start[8:9] == b"{":
        return "is a safetensors file: rename it to .safetensors"
    if start[257:262] == b"ustar":
        return "is a tar archive: unpack it, and name the checkpoint inside"
    raise ValueError("no PyTorch checkpoint begins as it does")


def _corrupt(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, UnicodeEncodeError):
        return CheckpointError(f"{str(path)!a} has a name that is no text: rename it")
    if isinstance(error, PermissionError):
        return CheckpointError(f"{path} cannot be read: {error.strerror}")
    lines = str(error).strip().splitlines()
    return CheckpointError(
        f"{path.name} is truncated or corrupt ({lines[0] if lines else type(error).__name__}): "
        "download it again"
    )


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

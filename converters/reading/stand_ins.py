"""What is saved beside the weights: classes that are never imported, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from samevoice.errors import CheckpointError

# The only globals beside torch's own that a checkpoint may name, and what it uses them for.
STAND_INS = (
    "pyannote.audio.core.task.Specifications",
    "pyannote.audio.core.task.Problem",
    "pyannote.audio.core.task.Resolution",
    "pyannote.audio.core.model.Introspection",
    "torch.torch_version.TorchVersion",
)
# Where the class of a checkpoint that pyannote loads may lie.
ARCHITECTURES = ("pyannote.audio.", "suplime.models")
MOST_VALUES = 1_000_000  # of one entry beside the weights


@dataclass
class StandIn:
    """What a pickle says of an object of the class ``path``: arguments and state."""

    path: str
    args: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)


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
    args = tuple(decode(arg) for arg in value["args"])
    state = {name: decode(part) for name, part in value["state"].items()}
    return StandIn(value["$class"], args, state)


def check_architecture(beside: Mapping[str, Any]) -> None:
    """pyannote imports the module that a checkpoint names: it must be one that is known."""
    said = beside.get("pyannote.audio")
    module = said["architecture"]["module"] if isinstance(said, Mapping) else "pyannote.audio."
    if not str(module).startswith(ARCHITECTURES):
        known = " or ".join(name.removesuffix(".") for name in ARCHITECTURES)
        raise CheckpointError(f"{module!r} is no module of {known}, so it is not written")

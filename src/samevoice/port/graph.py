"""What a module did when it was run: its operations and its modules' calls, in order.

Nothing here knows torch. Sizes that depend on what is fed are ``Size``, with a number for each run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from samevoice.errors import SamevoiceError

Shape: TypeAlias = tuple[int, ...]


class PortError(SamevoiceError):
    """A module that cannot be ported, and where it says so."""


class SizesError(PortError):
    """What it does for other sizes does not follow from them."""


@dataclass(frozen=True)
class Size:
    """An integer that is another one for other inputs: what it was in each run."""

    values: tuple[int, ...]


Dim: TypeAlias = "int | Size"


def merged(values: tuple[int, ...]) -> Dim:
    """One number where all runs agree."""
    return values[0] if len(set(values)) == 1 else Size(values)


@dataclass(frozen=True)
class Line:
    """Where in the original's code something is done."""

    file: str
    number: int
    function: str
    code: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(eq=False)
class Value:
    """A tensor: its shape in each run, and what it is where nothing computes it."""

    shapes: tuple[Shape, ...]
    dtype: str
    weight: str = ""  # its path, if it is a parameter or a buffer
    data: np.ndarray | None = None  # if it is a constant of the code

    @property
    def dims(self) -> tuple[Dim, ...]:
        return tuple(map(merged, zip(*self.shapes, strict=True))) if self.shapes[0] else ()

    @property
    def rank(self) -> int:
        return len(self.shapes[0])


@dataclass(eq=False)
class Op:
    """One operation of ATen, "relu" or "add.Tensor", what it takes and what it gives."""

    kind: str
    args: tuple[Any, ...]
    named: dict[str, Any]
    outputs: list[Value]
    lines: tuple[Line, ...]  # the outermost first


@dataclass(eq=False)
class Call:
    """A module that was called: by which names it took its tensors, and what it did."""

    path: str
    module: Any
    names: list[str]
    inputs: list[Value]
    lines: tuple[Line, ...] = ()
    outputs: list[Value] = field(default_factory=list)
    result: Any = None  # the outputs as they were given: a tensor, or tuples and mappings of them
    body: list[Op | Call] = field(default_factory=list)

    @property
    def kind(self) -> type:
        return type(self.module)

    @property
    def flat(self) -> Any:
        """The outputs without structure: one, or a tuple of all."""
        count = len(self.outputs)
        return tuple(range(count)) if count > 1 else 0 if count else None


Item: TypeAlias = "Op | Call"


def values_in(given: Any) -> Iterator[Value]:
    """Every tensor in arguments, however they are nested."""
    if isinstance(given, Value):
        yield given
    elif isinstance(given, Mapping):
        for one in given.values():
            yield from values_in(one)
    elif isinstance(given, tuple | list):
        for one in given:
            yield from values_in(one)


def taken(item: Item) -> list[Value]:
    """What an operation or a call takes, weights and constants included."""
    if isinstance(item, Call):
        return list(dict.fromkeys([*item.inputs, *free_values(item)]))
    return list(values_in((item.args, item.named)))


def free_values(call: Call) -> list[Value]:
    """What a call's body takes from outside beside its inputs, weights and constants left out."""
    known, found = set(map(id, call.inputs)), []
    for item in call.body:
        for one in taken(item):
            if id(one) not in known and not one.weight and one.data is None and one not in found:
                found.append(one)
        known |= {id(one) for one in item.outputs}
    return found


def calls_in(call: Call) -> Iterator[Call]:
    """A call and all calls inside it, outermost first."""
    yield call
    for item in call.body:
        if isinstance(item, Call):
            yield from calls_in(item)

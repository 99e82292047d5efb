"""A pickle read without running anything: values, containers, and what a table allows.

The standard unpickler calls whatever a pickle names. This one has no way to: it takes apart the
instructions with ``pickletools``, knows only those in ``_STEPS``, and a name is never imported.
It stands for itself, and may be called only where the caller's table has a function for it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from samevoice.converters.reading.stand_ins import StandIn

MOST_BYTES = 32 << 20  # of a pickle; a network of 100,000 tensors takes about 12 MB
MOST_VALUES = 1_000_000  # in a container that is not finished: pickle finishes them by thousands
MOST_OPEN = 1_000  # containers in one another
MOST_WORK = (
    20_000_000  # values that calls are handed, and parts of keys: a pickle may repeat itself
)
MOST_PARTS = 16  # of a key
NOT_RUN = "a pickle may run code, and nothing in this one was run"

# Name -> what makes a value of its arguments, or None for a name that is a value itself.
Allowed = Mapping[str, Callable[..., Any] | None]


class RefusedError(ValueError):
    """What a pickle holds and must not, as the end of a sentence that begins with the file."""


@dataclass(frozen=True)
class Global:
    """A name of the table, such as a type of numbers."""

    path: str


@dataclass(frozen=True)
class Opaque:
    """Something harmless that nobody here has a use for, such as a device."""

    path: str


def load(data: bytes, allowed: Allowed, persistent: Callable[[Any], Any]) -> Any:
    """The value that ``data`` describes; ``persistent`` finds what is stored outside of it.

    RefusedError says what must not be there; any other exception means damage.
    """
    if len(data) > MOST_BYTES:
        raise RefusedError(
            f"holds more than {MOST_BYTES >> 20} MiB beside its weights: save its state_dict()"
        )
    machine = _Machine(allowed, persistent)
    for opcode, argument, _ in pickletools.genops(data):
        step = _STEPS.get(opcode.name)
        if step is None:
            raise RefusedError(
                f"holds the pickle instruction {opcode.name}, which no state dict needs: {NOT_RUN}"
            )
        step(machine, argument)
        if len(machine.stack) > MOST_VALUES or len(machine.outer) > MOST_OPEN:
            raise RefusedError("holds a pickle that is nested too deeply: save its state_dict()")
    if machine.outer or len(machine.stack) != 1:
        raise ValueError("its pickle ends too early or too late")
    return machine.stack[0]


class _Machine:
    """``stack`` holds the values since the last mark, ``outer`` the stacks before it."""

    def __init__(self, allowed: Allowed, persistent: Callable[[Any], Any]) -> None:
        self.allowed, self.persistent = allowed, persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.work = 0

    def charge(self, *values: Any) -> None:
        """What it takes to go through these, which may have come up before."""
        self.work += sum(len(x) for x in values if type(x) in (tuple, list, dict))
        if self.work > MOST_WORK:
            raise RefusedError(f"holds a pickle that repeats itself without end: {NOT_RUN}")

    def open(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def close(self) -> list[Any]:
        """The values since the last mark."""
        values, self.stack = self.stack, self.outer.pop()
        return values

    def take(self, count: int) -> list[Any]:
        """The topmost values, the last one last."""
        if len(self.stack) < count:
            raise ValueError("its pickle takes more than it has")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def name(self, path: str) -> None:
        path = path.replace("__builtin__.", "builtins.", 1)  # as Python 2 called it
        if path not in self.allowed:
            raise RefusedError(f"names {path[:100]!r}, which samevoice does not allow: {NOT_RUN}")
        self.stack.append(Global(path))

    def call(self) -> None:
        """A name of the table, with its arguments; nothing else is ever called."""
        named, args = self.take(2)
        make = self.allowed.get(named.path) if type(named) is Global else None
        if make is None or type(args) is not tuple:
            raise RefusedError(f"calls what is no function of a state dict: {NOT_RUN}")
        self.charge(args, *args)
        self.stack.append(make(*args))

    def set_items(self, pairs: list[Any]) -> None:
        target = _of_type(self.stack[-1], dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.charge(key)
            _check_key(key)
            target[key] = value

    def build(self) -> None:
        """Attributes: a stand-in keeps them, those of a dict tell versions of modules."""
        (state,) = self.take(1)
        self.charge(state)
        target = self.stack[-1]
        if type(target) is StandIn and type(state) is dict and {*map(type, state)} <= {str}:
            target.state.update(state)
        elif type(target) is not dict:
            raise RefusedError(f"sets the state of what is no object of a state dict: {NOT_RUN}")


_LARGEST_KEY = 1 << 60
_PLAIN_KEYS = (str, int, float, bool, bytes, type(None), Global)


def _check_key(key: Any) -> None:
    """Nested tuples would break Python itself, which hashes them in one go; and from some size on
    any number of ints have the same hash, which makes a dict endlessly slow.
    """
    parts = key if type(key) is tuple else (key,)
    if len(parts) > MOST_PARTS:
        raise RefusedError(f"has a key of {len(parts)} parts: save its state_dict()")
    for part in parts:
        if type(part) not in _PLAIN_KEYS or (type(part) is int and abs(part) > _LARGEST_KEY):
            kind = type(part).__name__
            raise RefusedError(
                f"has a key of type {kind} that cannot be one: save its state_dict()"
            )


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"its pickle takes a {type(value).__name__} for a {kind.__name__}")
    return value


def _put(machine: _Machine, argument: int | None) -> None:
    index = len(machine.memo) if argument is None else argument
    machine.memo[index] = machine.stack[-1]


def _tuple(machine: _Machine, count: int) -> None:
    machine.stack.append(tuple(machine.take(count)))


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _pass(machine: _Machine, argument: Any) -> None:
    """What frames the data and says nothing about it."""


# Every instruction that is followed, with what ``pickletools`` read behind it.
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _pass),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
        _push,
    ),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES"), _push),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "MARK": lambda m, _: m.open(),
    "TUPLE": lambda m, _: _push(m, tuple(m.close())),
    "TUPLE1": lambda m, _: _tuple(m, 1),
    "TUPLE2": lambda m, _: _tuple(m, 2),
    "TUPLE3": lambda m, _: _tuple(m, 3),
    "APPEND": lambda m, _: _of_type(m.stack[-2], list).append(m.stack.pop()),
    "APPENDS": lambda m, _: _extend(m, m.close()),
    "SETITEM": lambda m, _: m.set_items(m.take(2)),
    "SETITEMS": lambda m, _: m.set_items(m.close()),
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _put,
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "GLOBAL": lambda m, path: m.name(path.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(".".join(_of_type(x, str) for x in m.take(2))),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stack.append(m.persistent(m.stack.pop())),
}


def _extend(machine: _Machine, values: list[Any]) -> None:
    _of_type(machine.stack[-1], list).extend(values)

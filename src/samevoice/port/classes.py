"""Frames of the same class become one class: what differs between them are its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch

from samevoice.port import layers, loops
from samevoice.port.frames import Writer
from samevoice.port.graph import Value
from samevoice.port.kinds import attribute, is_list
from samevoice.port.loops import Line
from samevoice.port.orders import plain
from samevoice.port.statements import Frame
from samevoice.port.text import Number, Text

Args: TypeAlias = dict[str, dict[str, Any]]  # path -> what the original was built with


@dataclass
class Instance:
    """One module of the authors' own: how it is built, and what its call does."""

    path: str
    module: torch.nn.Module
    frame: Frame | None
    built: list[tuple[str, Line]] = field(default_factory=list)  # attribute, pieces

    @cached_property
    def lines(self) -> list[Line]:
        """That it is built with."""
        return loops.built(self.built)

    @property
    def pieces(self) -> Iterator[Any]:
        for line in self.lines:
            yield "\n"
            yield from line
        if self.frame is not None:
            yield f"call({', '.join(self.frame.names)})"
            for line in self.frame.lines:
                yield "\n"
                yield from line

    @property
    def key(self) -> tuple[Any, ...]:
        """The same for all instances that one class can be."""
        named = (("#", one.keyword) if isinstance(one, Number) else one for one in self.pieces)
        return (type(self.module), *named)

    @property
    def numbers(self) -> list[Number]:
        return [one for one in self.pieces if isinstance(one, Number)]


@dataclass
class Class:
    """What is written as one class."""

    name: str
    instances: list[Instance]
    # Parameter -> its value in each instance; and which number of the code is which.
    parameters: dict[str, list[Any]] = field(default_factory=dict)
    spelled: list[str | None] = field(default_factory=list)  # of each number, None for a constant
    kept: list[str] = field(default_factory=list)  # parameters that the call wants

    @property
    def first(self) -> Instance:
        return self.instances[0]

    @property
    def gives_several(self) -> bool:
        frame = self.first.frame
        return frame is not None and len(frame.call.outputs) > 1


def classes(writer: Writer, root: torch.nn.Module, args: Args) -> list[Class]:
    """From the innermost to the whole."""
    tree = _Tree(writer, root)
    left = {
        path: Instance(path, root.get_submodule(path), writer.frames.get(path)) for path in tree.own
    }
    found: list[Class] = []
    made: dict[str, tuple[Class, int]] = {}
    taken: set[str] = set()
    while left:
        ready = [one for path, one in left.items() if all(p in made for p in tree.inner(path))]
        assert ready
        groups: dict[tuple[Any, ...], list[Instance]] = {}
        for one in ready:
            del left[one.path]
            one.built = tree.built(one.path, made)
            groups.setdefault(one.key, []).append(one)
        for instances in groups.values():
            new = Class(_free_name(instances[0], taken, made), instances)
            _parametrise(new, args)
            found.append(new)
            made |= {one.path: (new, n) for n, one in enumerate(instances)}
    return found


def _free_name(one: Instance, taken: set[str], made: dict[str, tuple[Class, int]]) -> str:
    """The original's; of several forms of it, each is called after what it has and others lack."""
    name = type(one.module).__name__.lstrip("_")
    name = name[0].upper() + name[1:]
    others = [kind for kind, _ in made.values() if type(kind.first.module) is type(one.module)]
    if others:
        own = {part for part, _ in one.built}
        theirs = {part for kind in others for part, _ in kind.first.built}
        more = sorted(own - theirs)
        less = sorted(theirs - own)
        if more:
            name += "With" + _camel(more[0])
        elif less:
            name += "Without" + _camel(less[0])
    found, n = name, 2
    while found in taken:
        found, n = f"{name}{n}", n + 1
    taken.add(found)
    return found


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


# What modules hold --------------------------------------------------------------------------------


class _Tree:
    """All that is used of a module, by the modules of the authors' own that hold it."""

    def __init__(self, writer: Writer, root: torch.nn.Module) -> None:
        self.writer, self.root = writer, root
        self.used = {*writer.leaves, *writer.weights, *(path for path in writer.frames if path)}
        self.own = {""} | {path for path in self._above() if self._is_own(path)}

    def _above(self) -> set[str]:
        found: set[str] = set()
        for path in self.used:
            parts = path.split(".")
            found |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        return found

    def _is_own(self, path: str) -> bool:
        if path in self.writer.leaves or path in self.writer.weights:
            return False
        return not is_list(self.root.get_submodule(path))

    def inner(self, path: str) -> list[str]:
        """The authors' own modules right below one."""
        start = f"{path}." if path else ""
        below = [one for one in self.own if one and one.startswith(start) and one != path]
        return [one for one in below if not any(one.startswith(f"{x}.") for x in below)]

    def built(self, path: str, made: dict[str, tuple[Class, int]]) -> list[tuple[str, Line]]:
        return [(attribute(name), self._piece(below, made)) for name, below in self._names(path)]

    def _names(self, path: str) -> list[tuple[str, str]]:
        """What is used of a module's own attributes, in the order of the original."""
        start = f"{path}." if path else ""
        names = {one[len(start) :].partition(".")[0] for one in self.used if one.startswith(start)}
        module = self.root.get_submodule(path)
        order = [*module._parameters, *module._buffers, *module._modules]
        rest = sorted(names - set(order))
        return [(name, f"{start}{name}") for name in [*order, *rest] if name in names]

    def _piece(self, path: str, made: dict[str, tuple[Class, int]]) -> list[Any]:
        if path in self.writer.weights:
            return self._weight(self.writer.weights[path])
        module = self.root.get_submodule(path)
        if path in self.writer.leaves:
            return list(layers.built(module).pieces)
        if path in made:
            kind, number = made[path]
            pieces: list[Any] = [f"{kind.name}("]
            for n, (name, values) in enumerate(kind.parameters.items()):
                pieces += [", "] if n else []
                pieces += [f"{name}="] if n and len(kind.parameters) > 2 else []
                pieces.append(Number(values[number], name))
            return [*pieces, ")"]
        named = isinstance(module, torch.nn.ModuleDict)
        if named or not all(name.isdigit() for name, _ in module.named_children()):
            return self._dict(path, made)
        return self._list(path, module, made)

    def _weight(self, value: Value) -> list[Any]:
        order = self.writer.orders.get(value, plain(value.rank))
        sizes = [Number(value.shapes[0][d], "size") for d in order]
        inner = [piece for one in sizes for piece in (one, ", ")]
        return ["mx.zeros((", *(inner if len(sizes) == 1 else inner[:-1]), "))"]

    def _functions(self) -> dict[str, Text]:
        """Modules without weights that are called in turn with others, by path."""
        return {k: v for one in self.writer.frames.values() for k, v in one.functions.items()}

    def _dict(self, path: str, made: dict[str, tuple[Class, int]]) -> list[Any]:
        pieces: list[Any] = ["{"]
        used = dict(self._names(path))
        functions = self._functions()
        for name, _ in self.root.get_submodule(path).named_children():
            below = f"{path}.{name}"
            if name in used or below in functions:
                pieces += [", "] if len(pieces) > 1 else []
                inner = self._piece(below, made) if name in used else [_function(functions[below])]
                pieces += [f'"{attribute(name)}": ', *inner]
        return [*pieces, "}"]

    def _list(
        self, path: str, module: torch.nn.Module, made: dict[str, tuple[Class, int]]
    ) -> list[Any]:
        used = {name for name, _ in self._names(path)}
        end = max(int(name) for name in used)
        functions = self._functions()
        in_turn = any(k.rpartition(".")[0] == path for k in functions)
        end = max(end, len(list(module.children())) - 1) if in_turn else end
        parts = []
        for n in range(end + 1):
            one = f"{path}.{n}"
            parts.append(
                self._piece(one, made) if str(n) in used else [_function(functions.get(one))]
            )
        return _compressed(parts)


def _function(code: Text | None) -> str:
    """A function of one tensor, as an expression."""
    if code is None:
        return "nn.identity"
    words = "".join("x" if isinstance(one, Value) else str(one) for one in code.pieces)
    name = words.removesuffix("(x)")
    return name if name.replace(".", "").isidentifier() else f"lambda x: {words}"


def _compressed(parts: list[list[Any]]) -> list[Any]:
    """[Block(64), Block(64)] -> [Block(64) for _ in range(2)], where that is shorter."""
    pieces: list[Any] = ["["]
    runs: list[tuple[list[Any], int]] = []
    for part in parts:
        if runs and runs[-1][0] == part:
            runs[-1] = (part, runs[-1][1] + 1)
        else:
            runs.append((part, 1))
    if len(runs) == 1 and runs[0][1] > 1:
        return ["[", *runs[0][0], " for _ in range(", Number(runs[0][1], "count"), ")]"]
    if len(runs) > 1 and all(count == 1 for _, count in runs) and (over := _over(parts)):
        return over
    for n, (part, count) in enumerate(runs):
        pieces += [", "] if n else []
        if count > 2:
            pieces += ["*(", *part, " for _ in range(", Number(count, "count"), "))"]
        else:
            for k in range(count):
                pieces += [", "] if k else []
                pieces += part
    return [*pieces, "]"]


def _over(parts: list[list[Any]]) -> list[Any]:
    """[Block(64 + 32 * n) for n in range(3)], or over numbers where one alone differs."""
    if len(parts) < 3:
        return []
    if loops.evenly(parts):
        count = Number(len(parts), "count")
        return ["[", *loops.grown(parts, 0), " for n in range(", count, ")]"]
    first = parts[0]
    if any(len(part) != len(first) for part in parts):
        return []
    differ = [n for n, one in enumerate(first) if any(part[n] != one for part in parts)]
    if len(differ) != 1 or not all(isinstance(part[differ[0]], Number) for part in parts):
        return []
    at = differ[0]
    number, values = first[at], tuple(part[at].value for part in parts)
    if number.keyword and any(part[at].value == number.usual for part in parts):
        return []
    name = number.hint or "n"
    inner = [*first[:at], number.spelled(name), *first[at + 1 :]]
    return ["[", *inner, f" for {name} in ", Number(values, f"{name}s"), "]"]


# Parameters ---------------------------------------------------------------------------------------


def _parametrise(kind: Class, args: Args) -> None:
    """Which numbers differ from instance to instance, and what their parameters are called."""
    rows = [one.numbers for one in kind.instances]
    built = sum(isinstance(p, Number) for line in kind.first.lines for p in line)
    columns = list(zip(*rows, strict=True))
    given = _given(kind, args)
    for n, column in enumerate(columns):
        values = [one.value for one in column]
        if all(one == values[0] and type(one) is type(values[0]) for one in values):
            kind.spelled.append(None)
            continue
        name = _parameter(kind, column[0].hint or "value", values, given)
        if n >= built and name.isidentifier():
            if name not in kind.kept:
                kind.kept.append(name)
            name = f"self.{name}"
        elif n >= built:
            fresh = _new(kind, column[0].hint or "value", values)
            kind.kept.append(fresh)
            name = f"self.{fresh}"
        kind.spelled.append(name)


def _given(kind: Class, args: Args) -> dict[str, list[Any]]:
    """What the original's own parameters are in each instance, where all of them tell."""
    found: dict[str, list[Any]] = {}
    each = [args.get(one.path, {}) for one in kind.instances]
    for name in each[0]:
        if name != "n" and all(name in one for one in each):  # which is what loops count with
            values = [one[name] for one in each]
            if all(isinstance(one, int | float | bool | str | tuple | None) for one in values):
                found[name] = values
    return found


def _parameter(kind: Class, hint: str, values: list[Any], given: dict[str, list[Any]]) -> str:
    for name, have in kind.parameters.items():
        if have == values:
            return name
    for name, have in given.items():
        if _same(have, values):
            kind.parameters[name] = values
            return name
    if all(isinstance(one, int) and not isinstance(one, bool) for one in values):
        for name, have in {**given, **kind.parameters}.items():
            if not all(isinstance(one, int) and not isinstance(one, bool) for one in have):
                continue
            for k in (2, 3, 4, 8, 16):
                for spelled, made in (
                    (f"{name} // {k}", [x // k for x in have]),
                    (f"{k} * {name}", [x * k for x in have]),
                ):
                    if made == values:
                        kind.parameters.setdefault(name, have)
                        return spelled
    return _new(kind, hint, values)


def _same(one: list[Any], two: list[Any]) -> bool:
    """3 is as good as (3, 3)."""

    def short(x: Any) -> Any:
        if isinstance(x, list):
            x = tuple(x)
        return x[0] if isinstance(x, tuple) and x and len(set(x)) == 1 else x

    return list(map(short, one)) == list(map(short, two))


def _new(kind: Class, hint: str, values: list[Any]) -> str:
    name, n = hint, 2
    while name in kind.parameters:
        name, n = f"{hint}_{n}", n + 1
    kind.parameters[name] = values
    return name


def type_of(values: Sequence[Any]) -> str:
    kinds = {type(one) for one in values}
    if kinds == {int, float}:
        return "float"
    if len(kinds) == 1 and kinds <= {int, float, bool, str}:
        return kinds.pop().__name__
    if kinds == {tuple} and all(isinstance(x, int) for one in values for x in one):
        lengths = {len(one) for one in values}
        return (
            f"tuple[{', '.join(['int'] * lengths.pop())}]"
            if len(lengths) == 1
            else "tuple[int, ...]"
        )
    if kinds <= {int, tuple}:
        return "int | tuple[int, ...]"
    return "Any"

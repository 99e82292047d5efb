"""Classes as Python text: one for each class of the original."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from samevoice.port.classes import Class, type_of
from samevoice.port.graph import Size
from samevoice.port.statements import Frame
from samevoice.port.text import Number

_SUM = re.compile(r"(?<=, )(\d+) \+ (\d+)\)(?=:)")  # range(1, 4 + 1):
Letters = Mapping[tuple[int, ...], str]


def render(kind: Class, letters: Letters, *, whole: bool = False) -> str:
    """The whole network takes its config, every other class its parameters."""
    numbers = iter(kind.spelled)
    lines = [
        f"class {kind.name}({'nn.Network' if whole else 'nn.Module'}):",
        *_doc(kind, letters),
        "",
    ]
    lines += _init(kind, numbers, whole)
    if kind.first.frame is not None:
        lines += ["", *_call(kind.first.frame, numbers)]
    return "\n".join(lines) + "\n"


def _init(kind: Class, numbers: Iterator[str | None], whole: bool) -> Iterator[str]:
    if whole:
        yield "    def __init__(self, config: Mapping[str, Any]) -> None:"
        yield "        super().__init__(config)"
    else:
        given = "".join(f", {name}: {type_of(values)}" for name, values in kind.parameters.items())
        yield f"    def __init__(self{given}) -> None:"
        yield "        super().__init__()"
    mixed = {name for name, pieces in kind.first.built if _is_mixed(pieces)}
    for line in kind.first.lines:
        code = _spelled(line, numbers)
        name, _, rest = code.removeprefix("self.").partition(" = ")
        if name in mixed:
            code = f"self.{name}: nn.{'Steps' if rest[0] == '[' else 'NamedSteps'} = {rest}"
        yield f"        {code}"
    for name in kind.kept:
        yield f"        self.{name} = {name}"


def _is_mixed(pieces: list[Any]) -> bool:
    """Whether a list holds more than one kind of thing."""
    words = "".join(one if isinstance(one, str) else "0" for one in pieces)
    if not words.startswith(("[", "{")):
        return False
    heads, depth, start = set(), 0, 1
    for n, letter in enumerate(words):
        depth += letter in "([{"
        depth -= letter in ")]}"
        if (letter == "," and depth == 1) or n == len(words) - 1:
            part = words[start:n].strip().lstrip("*(")
            heads.add((part.partition(": ")[2] if part.startswith('"') else part).partition("(")[0])
            start = n + 1
    return len(heads) > 1


def _call(frame: Frame, numbers: Iterator[str | None]) -> Iterator[str]:
    names = ", ".join(f"{name}: mx.array" for name in frame.names)
    yield f"    def __call__(self{', ' if names else ''}{names}) -> {_given(frame)}:"
    for line in frame.lines:
        yield f"        {_spelled(line, numbers)}"


def _given(frame: Frame) -> str:
    def kind(structure: Any) -> str:
        if structure is None:
            return "None"
        if isinstance(structure, int):
            return "mx.array"
        if isinstance(structure, dict):
            inner = {kind(one) for one in structure.values()}
            return f"dict[str, {' | '.join(sorted(inner))}]"
        return f"tuple[{', '.join(map(kind, structure))}]"

    return kind(frame.call.result if frame.call.path == "" else frame.call.flat)


def _spelled(pieces: Any, numbers: Iterator[str | None]) -> str:
    words = []
    for one in pieces:
        if isinstance(one, Number):
            name = next(numbers)
            words.append(str(one) if name is None else one.spelled(name))
        else:
            words.append(one)
    return _SUM.sub(lambda sum_: f"{int(sum_[1]) + int(sum_[2])})", "".join(words))


def _doc(kind: Class, letters: Letters) -> list[str]:
    """(B, T, 80) -> (B, 192)."""
    frames = [one.frame for one in kind.instances if one.frame is not None]
    if not frames:
        return ['    """Holds what others call."""']
    first = frames[0]
    orders = [*first.orders]
    given = [_shapes(frames, n, order, letters) for n, order in enumerate(orders)]
    made = [_shapes(frames, n, order, letters, made=True) for n, order in enumerate(first.outputs)]
    return [f'    """{", ".join(given)} -> {", ".join(made)}."""']


def _shapes(
    frames: list[Frame], n: int, order: tuple[int, ...], letters: Letters, made: bool = False
) -> str:
    values = [(one.call.outputs if made else one.inputs)[n] for one in frames]
    words = []
    for dim in order:
        sizes = {value.dims[dim] if dim < value.rank else 0 for value in values}
        words.append(_size(sizes, letters))
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def _size(sizes: set[Any], letters: Letters) -> str:
    one = next(iter(sizes))
    if len(sizes) > 1:
        return "N" if any(isinstance(x, Size) for x in sizes) else "C"
    return letters.get(one.values, "N") if isinstance(one, Size) else str(one)

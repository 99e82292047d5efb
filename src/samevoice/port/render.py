"""Classes as Python text: one for each class of the original."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

from samevoice.port.classes import Class, type_of
from samevoice.port.graph import Size
from samevoice.port.statements import Frame
from samevoice.port.text import Number

_SUM = re.compile(r"(?<=, )(\d+) \+ (\d+)\)(?=:)")  # range(1, 4 + 1):
Letters = Mapping[tuple[int, ...], str]
Known = dict[tuple[Any, ...], str]  # a size in each instance -> its letter


def render(
    kind: Class, letters: Letters, *, whole: bool = False, several: Container[str] = ()
) -> str:
    """The whole network takes its config, every other class its parameters.

    ``several`` are the names of classes that give more than one tensor.
    """
    numbers = iter(kind.spelled)
    lines = [
        f"class {kind.name}({'nn.Network' if whole else 'nn.Module'}):",
        *_doc(kind, letters),
        "",
    ]
    lines += _init(kind, numbers, whole, several)
    if kind.first.frame is not None:
        lines += ["", *_call(kind.first.frame, numbers)]
    return "\n".join(lines) + "\n"


def _init(
    kind: Class, numbers: Iterator[str | None], whole: bool, several: Container[str]
) -> Iterator[str]:
    if whole:
        yield "    def __init__(self, config: Mapping[str, Any]) -> None:"
        yield "        super().__init__(config)"
    else:
        given = "".join(f", {name}: {type_of(values)}" for name, values in kind.parameters.items())
        yield f"    def __init__(self{given}) -> None:"
        yield "        super().__init__()"
    kinds = {name: _annotation(pieces, several) for name, pieces in kind.first.built}
    for line in kind.first.lines:
        code = _spelled(line, numbers)
        name, _, rest = code.removeprefix("self.").partition(" = ")
        if said := kinds.get(name):
            code = f"self.{name}: {said} = {rest}"
        yield f"        {code}"
    for name in kind.kept:
        yield f"        self.{name} = {name}"


def _annotation(pieces: list[Any], several: Container[str]) -> str:
    """The type of a list that holds more than one kind of thing.

    Steps give one tensor each; lists, and classes that give ``several``, are no steps.
    """
    words = "".join(one if isinstance(one, str) else "0" for one in pieces)
    if not words.startswith(("[", "{")):
        return ""
    parts, depth, start = [], 0, 1
    for n, letter in enumerate(words):
        depth += letter in "([{"
        depth -= letter in ")]}"
        if (letter == "," and depth == 1) or n == len(words) - 1:
            part = words[start:n].strip().lstrip("*(")
            parts.append(part.partition(": ")[2] if part.startswith('"') else part)
            start = n + 1
    named = words[0] == "{"
    heads = {part.partition("(")[0] for part in parts}
    nested = any(part.startswith(("[", "{")) for part in parts)
    if nested or (len(heads) > 1 and any(head in several for head in heads)):
        return "dict[str, Any]" if named else "list[Any]"
    if len(heads) < 2:
        return ""
    return "nn.NamedSteps" if named else "nn.Steps"


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
    known: Known = {}
    given = [_shapes(frames, n, order, letters, known) for n, order in enumerate(orders)]
    made = [
        _shapes(frames, n, order, letters, known, made=True)
        for n, order in enumerate(first.outputs)
    ]
    return [f'    """{", ".join(given)} -> {", ".join(made)}."""']


def _shapes(
    frames: list[Frame],
    n: int,
    order: tuple[int, ...],
    letters: Letters,
    known: Known,
    made: bool = False,
) -> str:
    values = [(one.call.outputs if made else one.inputs)[n] for one in frames]
    words = []
    for dim in order:
        sizes = tuple(value.dims[dim] if dim < value.rank else 0 for value in values)
        words.append(_size(sizes, letters, known))
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def _size(sizes: tuple[Any, ...], letters: Letters, known: Known) -> str:
    """A number or a letter of the inputs; N, M, ... follow from these, C, D, ... are parameters."""
    one = sizes[0]
    if len(set(sizes)) == 1 and (not isinstance(one, Size) or one.values in letters):
        return letters[one.values] if isinstance(one, Size) else str(one)
    if sizes not in known:
        pool = "NMLKJI" if any(isinstance(x, Size) for x in sizes) else "CDEFGH"
        taken = set(known.values()) | set(letters.values())
        known[sizes] = next((x for x in pool if x not in taken), pool[-1])
    return known[sizes]

"""Code as pieces: words, tensors that have no name yet, and numbers that may differ elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from samevoice.port.graph import Size, SizesError, Value


@dataclass(frozen=True)
class Number:
    """A constant of the code, which another instance of the same class may have otherwise.

    With a ``keyword`` it is an argument by name, left out where it is what it usually is.
    """

    value: Any
    hint: str = ""  # what a parameter for it would be called
    keyword: str = ""
    usual: Any = None

    def __str__(self) -> str:
        return self.spelled(literal(self.value), always=self.value != self.usual)

    def spelled(self, code: str, always: bool = True) -> str:
        if not self.keyword:
            return code
        return f", {self.keyword}={code}" if always else ""


Piece: TypeAlias = "str | Value | Number"


@dataclass(frozen=True)
class Text:
    """An expression; one that is no ``atom`` stands in brackets beside an operator."""

    pieces: tuple[Piece, ...]
    atom: bool = True

    @property
    def values(self) -> Iterator[Value]:
        return (one for one in self.pieces if isinstance(one, Value))

    @property
    def length(self) -> int:
        """About as many characters as it will have, whatever its numbers are."""
        return sum(len(one) if isinstance(one, str) else 3 for one in self.pieces)


def text(template: str, *given: Any, atom: bool = True) -> Text:
    """``{}`` stands for what is given, ``{!}`` too but in brackets where it is no atom."""
    pieces: list[Piece] = []
    rest, left = template, list(given)
    while (at := rest.find("{")) >= 0:
        end = rest.index("}", at)
        pieces.append(rest[:at])
        pieces += _pieces(left.pop(0), brackets=rest[at + 1 : end] == "!")
        rest = rest[end + 1 :]
    assert not left, template
    return Text((*(one for one in pieces if one != ""), *((rest,) if rest else ())), atom)


def _pieces(given: Any, brackets: bool) -> list[Piece]:
    if isinstance(given, Text):
        inner = list(given.pieces)
        return ["(", *inner, ")"] if brackets and not given.atom else inner
    if isinstance(given, Value | str):
        return [given]
    if isinstance(given, Number):
        return [given]
    if isinstance(given, tuple | list):
        return _row(given)
    if isinstance(given, Size):
        raise SizesError(f"{given.values} follows from the sizes, where only a constant can stand")
    return [Number(given)]


def _row(given: Sequence[Any]) -> list[Piece]:
    found: list[Piece] = ["("]
    for n, one in enumerate(given):
        found += [", "] if n else []
        found += _pieces(one, brackets=False)
    return [*found, ",)" if len(given) == 1 else ")"]


def joined(parts: Iterable[Text | str], between: str = ", ") -> Text:
    pieces: list[Piece] = []
    for n, part in enumerate(parts):
        pieces += [between] if n else []
        pieces += [part] if isinstance(part, str) else part.pieces
    return Text(tuple(pieces))


def literal(value: Any) -> str:
    """As Python reads it again."""
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, tuple | list):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _float(value: float) -> str:
    if value != value:
        return 'float("nan")'
    if value in (float("inf"), float("-inf")):
        return 'float("inf")' if value > 0 else '-float("inf")'
    return repr(value)

"""The smallest mixture that keeps its limits: moves in the order of what they cost for each byte.

The damage of a layer is the square of the error that it makes alone at the network's output: errors
of different layers are independent, so that their squares add up. That orders the moves; whether a
mixture keeps its limits is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Choice:
    """A type of one layer: what it takes, and the damage that it does alone."""

    type: str
    nbytes: int
    damage: float


@dataclass(frozen=True)
class Move:
    """A layer becomes of a smaller type; ``price``: damage for each byte saved."""

    layer: str
    type: str
    price: float


def price(a: Choice, b: Choice) -> float:
    """Of going from ``a`` to the smaller ``b``."""
    return (b.damage - a.damage) / (a.nbytes - b.nbytes)


def worthwhile(choices: Iterable[Choice]) -> list[Choice]:
    """From the largest down, each step at a higher price than the one before: the lower hull.

    What is left out has another at less damage that is as small, or two between which it is dear.
    """
    kept: list[Choice] = []
    for one in sorted(choices, key=lambda x: (-x.nbytes, x.damage)):
        if kept and one.nbytes == kept[-1].nbytes:
            continue
        while len(kept) > 1 and price(kept[-2], kept[-1]) >= price(kept[-1], one):
            kept.pop()
        kept.append(one)
    return kept


def moves(layers: Mapping[str, Sequence[Choice]]) -> list[Move]:
    """Every worthwhile step of every layer, the cheapest first; a layer's own stay in order."""
    found = []
    for layer, choices in layers.items():
        steps = worthwhile(choices)
        found += [Move(layer, b.type, price(a, b)) for a, b in pairwise(steps)]
    return sorted(found, key=lambda move: move.price)


def after(made: Iterable[Move]) -> dict[str, str]:
    """The type of each layer that was moved, in the order of the first moves."""
    types: dict[str, str] = {}
    for move in made:
        types[move.layer] = move.type
    return types


def furthest(count: int, keeps: Callable[[int], bool]) -> int:
    """How many of ``count`` moves keep the limits, by halving; none is known to."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle - 1)
    return low

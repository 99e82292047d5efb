"""Where a tensor's axes lie: which of the original's is first in MLX, which second, and so on."""

from __future__ import annotations

from typing import Any, TypeAlias

from samevoice.port.text import Text, joined, text

Order: TypeAlias = tuple[int, ...]


def plain(rank: int) -> Order:
    """As the original has it."""
    return tuple(range(rank))


def last(rank: int) -> Order:
    """The channels last: (0, 2, 3, 1)."""
    return (0, *range(2, rank), 1) if rank > 2 else plain(rank)


def last_stays(order: Order) -> Order:
    """The same order, but for the last axis, which stands last."""
    rank = len(order)
    return (*(d for d in order if d != rank - 1), rank - 1)


def turned(code: Text, there: Order, wanted: Order) -> Text:
    """The same tensor with its axes in another order."""
    axes = [there.index(dim) for dim in wanted]
    moved = [n for n, axis in enumerate(axes) if n != axis]
    if len(moved) == 2:
        return text("{!}.swapaxes({}, {})", code, *map(str, moved))
    return text("{!}.transpose({})", code, joined(map(str, axes)))


def one_or_all(given: Any, dims: int) -> Any:
    """3 for (3, 3)."""
    if not isinstance(given, tuple):
        return given
    whole = given * dims if len(given) == 1 else given
    return whole[0] if len(set(whole)) == 1 else whole

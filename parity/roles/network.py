"""Any network: arrays in, arrays out. Its config says what it is fed, and it has no task.

``inputs`` are its arguments by position, each with a shape and a dtype. Integers are drawn evenly,
``from`` one number to ``below`` another, or all are one ``value``. A letter in a shape is a size
that may change: ``sizes`` has what it usually is, ``least`` the least that it may be. The size
called B is the batch, whose items the network keeps apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from samevoice.parity.inputs import Example, normal
from samevoice.parity.metrics import Array
from samevoice.parity.roles import BRIEF, WHOLE, Config, Fed, Role, RoleError, Set

Sizes: TypeAlias = Mapping[str, int]
BATCH = "B"
DTYPES = ("float32", "int32", "int64", "bool")


def examples(network: Fed, chosen: Set, speech: Array | None = None) -> Iterator[Example]:
    del speech
    config, usual = network.config, _sizes(network.config)
    yield made("as given", config, usual, depth="full")
    if chosen == BRIEF:
        return
    whole = chosen == WHOLE
    deep, less = ("full", "free") if whole else ("free", "output")
    other = "other sizes" if usual else "other values"
    yield made(other, config, larger(usual), 1, depth=deep)
    if BATCH in usual:
        yield made("one", config, {**usual, BATCH: 1}, 2, depth=less)
    yield made("quiet", config, usual, 3, 2.0**-10, depth=less)
    if set(usual) - {BATCH}:
        yield made("long", config, long(usual), 7, depth="output")
    if whole:
        yield made("loud", config, usual, 4, 8.0, depth="free")
    if whole and usual:
        yield made("smaller", config, smaller(config), 5, depth="full")
    if whole and BATCH in usual:
        yield made("large batch", config, {**usual, BATCH: 8}, 6)


def made(
    name: str, config: Config, sizes: Sizes, seed: int = 0, scale: float = 1.0, **said: Any
) -> Example:
    inputs = config.get("inputs")
    if not inputs:
        raise RoleError(f"the config of {config.get('architecture')} has no 'inputs' to feed it")
    arrays = tuple(
        drawn(one, sizes, 100 * seed + n, np.float32(scale)) for n, one in enumerate(inputs)
    )
    apart = all(list(one["shape"])[:1] == [BATCH] for one in inputs)
    return Example(name, arguments=arrays, items=sizes[BATCH] if apart else 1, **said)


def drawn(one: Mapping[str, Any], sizes: Sizes, seed: int, scale: np.float32) -> Array:
    """Normal numbers; or integers, 0 and 1 unless told otherwise."""
    shape = tuple(_size(x, sizes) for x in one["shape"])
    dtype = str(one.get("dtype", "float32"))
    if dtype not in DTYPES:
        raise RoleError(f"input {one.get('name')!r} is {dtype}: one of {', '.join(DTYPES)}")
    if "value" in one:
        return np.full(shape, _size(one["value"], sizes), dtype)
    if dtype == "float32":
        return scale * normal(shape, seed)
    low, below = int(one.get("from", 0)), _size(one.get("below", 2), sizes)
    return np.random.default_rng(seed).integers(low, below, shape).astype(dtype)


def _sizes(config: Config) -> dict[str, int]:
    return {name: int(size) for name, size in (config.get("sizes") or {}).items()}


def _size(said: str | int, sizes: Sizes) -> int:
    if isinstance(said, str) and said not in sizes:
        raise RoleError(f"an input has the size {said!r}, which 'sizes' lacks")
    return sizes[said] if isinstance(said, str) else int(said)


def larger(sizes: Sizes) -> dict[str, int]:
    """One item more, and all else half as large again."""
    return {name: size + (1 if name == BATCH else size // 2) for name, size in sizes.items()}


def long(sizes: Sizes) -> dict[str, int]:
    """Four times as large: what happens once for every so many happens more often."""
    return {name: size if name == BATCH else 4 * size for name, size in sizes.items()}


def smaller(config: Config) -> dict[str, int]:
    """Two thirds of each size, or the least that it may be; the same batch."""
    least = config.get("least") or {}
    return {
        name: size if name == BATCH else max(int(least.get(name, 1)), 2 * size // 3)
        for name, size in _sizes(config).items()
    }


ROLES = (Role("network", (("output", "free"),), examples),)

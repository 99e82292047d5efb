"""What a module is fed: shapes that were given or found, and which of their sizes are free."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import Any

import torch
from torch.utils import _pytree as pytree

from samevoice.errors import told
from samevoice.port.capture import one_thread
from samevoice.port.graph import PortError

_SPEC = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>[A-Z]?\d*(?:x(?:[A-Z]\d*|\d+))*)"
    r"(?::(?P<dtype>[a-z]+\d*)(?:<(?P<below>\d+|[A-Z])|=(?P<value>\d+|[A-Z]))?)?"
)
# What most networks for sound and images take, tried in turn where nobody says.
_USUAL = (
    (2, 200, 80),
    (2, 1, 16000),
    (2, 16000),
    (2, 80, 200),
    (2, 3, 224, 224),
    (2, 1, 80, 200),
    (2, 200, 40),
)
BATCH, LETTERS = "B", "TUVWXYZ"


@dataclass(frozen=True)
class Input:
    """``shape`` has a letter for each size that is free."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    below: int | str | None = None  # integers are drawn from 0 to that, which may be a size
    value: int | str | None = None  # all numbers are that

    def described(self) -> dict[str, Any]:
        said = {"below": self.below, "value": self.value}
        more = {name: one for name, one in said.items() if one is not None}
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, **more}

    @property
    def letters(self) -> list[str]:
        return [one for one in (*self.shape, self.below, self.value) if isinstance(one, str)]


@dataclass(frozen=True)
class Inputs:
    each: tuple[Input, ...]
    sizes: dict[str, int]

    def tensors(self, sizes: dict[str, int], seed: int = 0) -> tuple[torch.Tensor, ...]:
        chance = torch.Generator().manual_seed(seed)
        return tuple(_tensor(one, sizes, chance) for one in self.each)

    def described(self) -> dict[str, Any]:
        return {"sizes": dict(self.sizes), "inputs": [one.described() for one in self.each]}


def _tensor(one: Input, sizes: dict[str, int], chance: torch.Generator) -> torch.Tensor:
    def size(said: Any) -> Any:
        return sizes[said] if isinstance(said, str) else said

    shape, dtype = [size(d) for d in one.shape], getattr(torch, one.dtype)
    if one.value is not None:
        return torch.full(shape, size(one.value), dtype=dtype)
    if one.below is not None:
        return torch.randint(size(one.below), shape, dtype=dtype, generator=chance)
    if one.dtype == "bool":
        return torch.rand(shape, generator=chance) > 0.5
    if one.dtype.startswith("int"):
        raise PortError(
            f"{one.name} is {one.dtype}: say below which number it is, as in "
            f"{one.name}=2x10:{one.dtype}<100"
        )
    return torch.randn(shape, dtype=dtype, generator=chance)


def parsed(specs: Sequence[str], module: torch.nn.Module) -> Inputs:
    """2x200x80, or with more to say about it: lengths=2:int64<200.

    Letters are the sizes that may be others, with a number where they are first named: B2xT200x80,
    lengths=B:int64=T.
    """
    names = [name for name, _ in _wanted(module)]
    found: list[Input] = []
    sizes: dict[str, int] = {}
    for number, spec in enumerate(specs):
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise PortError(
                f"--input {spec!r}: a shape is wanted, as in 2x200x80 or lengths=2:int64<200"
            )
        shape = tuple(map(_dim, match["shape"].split("x"))) if match["shape"] else ()
        sizes |= {d[0]: int(d[1:]) for d in match["shape"].split("x") if d[:1].isalpha() and d[1:]}
        name = match["name"] or (names[number] if number < len(names) else f"x{number}")
        dtype = match["dtype"] or "float32"
        if not hasattr(torch, dtype):
            raise PortError(f"--input {spec!r}: there is no type {dtype!r}")
        below, value = (_dim(one) if one else None for one in match.group("below", "value"))
        found.append(Input(name, shape, dtype, below, value))
    for letter in [letter for one in found for letter in one.letters]:
        if letter not in sizes:
            raise PortError(f"--input: how large is {letter}? Say it once, as in {letter}200")
    return Inputs(tuple(found), sizes)


def _dim(said: str) -> int | str:
    return said[0] if said[0].isalpha() else int(said)


def _wanted(module: torch.nn.Module) -> list[tuple[str, Parameter]]:
    """The arguments that a module must be given."""
    usual = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    given = signature(module.forward).parameters.items()
    return [(name, one) for name, one in given if one.kind in usual]


def guessed(module: torch.nn.Module) -> Inputs:
    """The first of the usual shapes that it takes."""
    must = [name for name, one in _wanted(module) if one.default is Parameter.empty]
    if len(must) > 1:
        raise PortError(
            f"it takes {', '.join(must)}: say what they are, an --input for each, as in "
            f"{must[0]}=2x200x80"
        )
    name = must[0] if must else "x"
    for shape in _USUAL:
        found = Inputs((Input(name, shape),), {})
        if _runs(module, found.tensors({})) is None:
            return found
    tried = ", ".join("x".join(map(str, shape)) for shape in _USUAL)
    raise PortError(f"it takes none of the usual inputs ({tried}): say what it takes with --input")


def _runs(module: torch.nn.Module, given: Sequence[torch.Tensor]) -> Exception | None:
    """Why it does not."""
    try:
        with torch.no_grad(), one_thread():
            module(*given)
    except Exception as error:
        return error
    return None


def with_free_sizes(module: torch.nn.Module, inputs: Inputs) -> Inputs:
    """Which sizes may be others, where nobody said it.

    Each is tried, alone and together with all that are the same.
    """
    if (error := _runs(module, inputs.tensors(inputs.sizes))) is not None:
        raise PortError(
            f"it does not take {', '.join(_said(one) for one in inputs.each)}: {told(error)}"
        )
    _refuse_chance(module, inputs.tensors(inputs.sizes))
    for letter, places in () if inputs.sizes else _places(inputs):
        if any(isinstance(inputs.each[n].shape[axis], str) for n, axis in places):
            continue
        letter = letter or next((x for x in LETTERS if x not in inputs.sizes), "")
        if not letter:
            break
        tried = _lettered(inputs, places, letter)
        if all(
            _runs(module, tried.tensors({**tried.sizes, letter: other})) is None
            for other in others(tried.sizes[letter])
        ):
            inputs = tried
    return inputs


def with_fewer_sizes(inputs: Inputs) -> Iterator[Inputs]:
    """All free sizes, then without one of them, then none."""
    yield inputs
    if len(inputs.sizes) > 1:
        for name in reversed(inputs.sizes):
            yield _fixed(inputs, {name})
    if inputs.sizes:
        yield _fixed(inputs, set(inputs.sizes))


def _fixed(inputs: Inputs, names: set[str]) -> Inputs:
    def fixed(one: Input) -> Input:
        def size(said: Any) -> Any:
            return inputs.sizes[said] if said in names else said

        shape = tuple(map(size, one.shape))
        return replace(one, shape=shape, below=size(one.below), value=size(one.value))

    left = {name: size for name, size in inputs.sizes.items() if name not in names}
    return Inputs(tuple(map(fixed, inputs.each)), left)


def _refuse_chance(module: torch.nn.Module, given: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        one, two = (pytree.tree_leaves(module(*given)) for _ in range(2))
    pairs = [(x, y) for x, y in zip(one, two, strict=True) if isinstance(x, torch.Tensor)]
    if not all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs):
        raise PortError(
            "it gives something else each time, even in eval mode: it is random, or it keeps a "
            "state; no port can agree"
        )


def _said(one: Input) -> str:
    return f"{one.name} ({'x'.join(map(str, one.shape))})"


Places = list[tuple[int, int]]  # which input, which axis


def _places(inputs: Inputs) -> Iterator[tuple[str, Places]]:
    """The axes that may belong together: the batch first, then each alone, then all of one size."""
    places = [(n, axis) for n, one in enumerate(inputs.each) for axis in range(len(one.shape))]

    def like(place: tuple[int, int], of: Places) -> Places:
        size = inputs.each[place[0]].shape[place[1]]
        return [(n, axis) for n, axis in of if inputs.each[n].shape[axis] == size]

    if places:
        yield BATCH, like(places[0], [place for place in places if not place[1]])
    # One channel is one channel.
    places = [(n, axis) for n, axis in places if inputs.each[n].shape[axis] != 1]
    yield from (("", [place]) for place in places)
    yield from (("", same) for place in places if len(same := like(place, places)) > 1)


def _lettered(inputs: Inputs, places: Places, letter: str) -> Inputs:
    size: Any = inputs.each[places[0][0]].shape[places[0][1]]
    each = [list(one.shape) for one in inputs.each]
    for n, axis in places:
        each[n][axis] = letter
    made = tuple(
        replace(one, shape=tuple(shape)) for one, shape in zip(inputs.each, each, strict=True)
    )
    return Inputs(made, {**inputs.sizes, letter: size})


def others(size: int) -> tuple[int, int]:
    """Two larger ones that have little in common with it: an even and an odd one."""
    return 2 * _prime(size * 2 // 3 + 1), _prime(size * 7 // 4 + 2)


def _prime(least: int) -> int:
    while any(least % k == 0 for k in range(2, int(least**0.5) + 1)):
        least += 1
    return least


def runs(inputs: Inputs) -> list[tuple[torch.Tensor, ...]]:
    """The same inputs in four sizes, none of which divides by much.

    The last is so large that what happens once for every so many, as pooling of segments does,
    happens more often.
    """
    if not inputs.sizes:
        return [inputs.tensors({})]
    first = {name: _prime(size) if size > 8 else size for name, size in inputs.sizes.items()}
    sizes = [first]
    for n in range(2):
        sizes.append(
            {name: others(size + 2 * k)[n] for k, (name, size) in enumerate(first.items())}
        )
    sizes.append({name: _prime(4 * size + 2 * k) for k, (name, size) in enumerate(first.items())})
    if BATCH in first:  # of which a few are enough
        sizes[-1][BATCH] = next(
            n for n in range(2, 9) if n not in {one[BATCH] for one in sizes[:-1]}
        )
    return [inputs.tensors(one) for one in sizes]

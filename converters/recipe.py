"""How each layer's weights are stored: a table of names and types. --dtype and -q stand for one.

A layer is a module of the MLX network with a matrix or a kernel of its own. Its type is that of its
name, else of the first pattern that matches, else (linear layers) ``linear``, else ``default``.
Biases, norms and all that is no matrix are of ``dtype``, which the network also computes in: what
is stored in fewer bits is widened when it is loaded, or multiplied as it is where MLX can.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from samevoice.converters.reading.safetensors_file import Slot
from samevoice.converters.rules import Shape
from samevoice.errors import ConversionError
from samevoice.files import read_named
from samevoice.models import packing

FLOATS = ("float32", "float16", "bfloat16")
BITS = ("8", "6", "4")
TYPES = (*FLOATS, *BITS)
GROUPS = (32, 64, 128)
# Where a recipe says nothing: the larger where it fits, as larger groups have fewer scales.
USUAL_GROUPS = (64, 32)


@dataclass(frozen=True)
class Stored:
    """How one matrix is stored."""

    type: str
    group_size: int = 0  # of what is packed

    @property
    def bits(self) -> int:
        """0 where it is not packed."""
        return int(self.type) if self.type in BITS else 0

    @property
    def config(self) -> dict[str, Any]:
        """As MLX's configs say it."""
        return {"group_size": self.group_size, "bits": self.bits, "mode": "affine"}


@dataclass(frozen=True)
class Recipe:
    """The types of one network's layers."""

    dtype: str = "float32"
    default: str = ""  # as dtype
    linear: str = ""  # as default
    group_size: int | None = None  # 64, or 32 where rows do not divide by 64
    layers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in FLOATS:
            raise ConversionError(f"dtype {self.dtype!r} is not one of {', '.join(FLOATS)}")
        if self.group_size not in (None, *GROUPS):
            raise ConversionError(f"group size {self.group_size} is not one of 32, 64, 128")
        for where, type_ in self._named.items():
            if type_ not in TYPES:
                raise ConversionError(f"{where} is {type_!r}, not one of {', '.join(TYPES)}")
            if type_ in FLOATS and self.dtype not in (type_, "float32"):
                raise ConversionError(
                    f"{where} is {type_}, but dtype is {self.dtype}: two types of floats need "
                    "dtype float32"
                )

    @property
    def _named(self) -> dict[str, str]:
        general = {"default": self.default, "linear": self.linear}
        return {name: x for name, x in general.items() if x} | {
            f"the layer {name!r}": x for name, x in self.layers.items()
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Recipe:
        """A table as TOML gives it."""
        known = ("dtype", "default", "linear", "group_size", "layers")
        for name, value in content.items():
            if name not in known:
                raise ConversionError(f"the recipe has {name!r}: it takes {', '.join(known)}")
            if isinstance(value, Mapping) is not (name == "layers"):
                raise ConversionError(f"{name} of the recipe is {value!r:.80}: no such thing fits")
        layers = {name: str(value) for name, value in content.get("layers", {}).items()}
        size = content.get("group_size")
        texts = {name: str(content[name]) for name in known[:3] if name in content}
        return cls(**texts, group_size=size, layers=layers)

    @property
    def says(self) -> str:
        """In a few words, for cards."""
        if self.layers or self.default not in ("", self.dtype):
            return f"{self.dtype} with mixed precision"
        return f"{self.dtype}, {self.linear} bits" if self.linear else self.dtype

    def type_of(self, layer: str, *, linear: bool = False) -> str:
        if layer in self.layers:
            return self.layers[layer]
        matching = (x for name, x in self.layers.items() if fnmatchcase(layer, name))
        general = (self.linear if linear else "") or self.default or self.dtype
        return next(matching, general)

    def stored(self, shapes: Mapping[str, Shape], linear: Collection[str]) -> dict[str, Stored]:
        """How each of these matrices is stored; ``linear`` are layers that MLX can pack itself."""
        layers: dict[str, list[str]] = {}
        for name in shapes:
            layers.setdefault(layer_of(name), []).append(name)
        self._refuse_unknown(layers)
        found = {}
        for layer, names in layers.items():
            type_ = self.type_of(layer, linear=layer in linear)
            group = self._group({name: shapes[name] for name in names})
            for name in names:
                packs = type_ in BITS and shapes[name][-1] % group == 0
                plain = type_ if type_ in FLOATS else self.dtype
                found[name] = Stored(type_, group) if packs else Stored(plain)
            if layer in self.layers and type_ in BITS and not any(found[n].bits for n in names):
                rows = shapes[names[0]][-1]
                raise ConversionError(
                    f"{layer!r} of the recipe has rows of {rows} values, which do not divide into "
                    f"groups of {group}: {type_} bits do not fit it"
                )
        return found

    def _group(self, shapes: Mapping[str, Shape]) -> int:
        """The group size of a layer: the first that fits whatever of it the smallest fits."""
        sizes = (self.group_size,) if self.group_size else USUAL_GROUPS
        rows = [shape[-1] for shape in shapes.values() if shape[-1] % sizes[-1] == 0]
        fitting = (size for size in sizes if rows and all(row % size == 0 for row in rows))
        return next(fitting, sizes[-1])

    def _refuse_unknown(self, layers: Collection[str]) -> None:
        for name in self.layers:
            if name not in layers and not any(fnmatchcase(one, name) for one in layers):
                raise ConversionError(
                    f"the recipe names {name!r}, which fits no layer: there are "
                    f"{', '.join(sorted(layers)[:3])} and so on, {len(layers)} in all"
                )


def layer_of(tensor: str) -> str:
    return tensor.rpartition(".")[0]


@dataclass(frozen=True)
class Storage:
    """A recipe laid over one network: its matrices, and which of its layers MLX can pack itself."""

    recipe: Recipe
    shapes: Mapping[str, Shape]
    linear: Collection[str]

    @cached_property
    def stored(self) -> dict[str, Stored]:
        return self.recipe.stored(self.shapes, self.linear)

    def of(self, name: str) -> Stored:
        return self.stored.get(name, Stored(self.recipe.dtype))

    @property
    def packed(self) -> dict[str, Stored]:
        return {name: one for name, one in self.stored.items() if one.bits}

    def slots(self, name: str, shape: Shape) -> tuple[Slot, ...]:
        """A parameter as it lies in a file; what is packed has its scales and biases behind it."""
        one = self.of(name)
        if not one.bits:
            return (Slot(name, shape, one.type),)
        words = (*shape[:-1], shape[-1] * one.bits // 32)
        groups = (*shape[:-1], shape[-1] // one.group_size)
        sides = (Slot(side, groups, self.recipe.dtype) for side in packing.beside(name))
        return (Slot(name, words, "uint32"), *sides)

    def config(self) -> dict[str, Any]:
        """What a bundle's config says of it, in MLX's keys: one entry where one says all."""
        said: dict[str, Any] = {"dtype": self.recipe.dtype}
        if self.packed:
            said["quantization"] = said["quantization_config"] = self._quantization()
        widened = {
            layer_of(name): one.type
            for name, one in self.stored.items()
            if not one.bits and one.type != self.recipe.dtype
        }
        return said | ({"dtypes": widened} if widened else {})

    def _quantization(self) -> dict[str, Any]:
        layers = {layer_of(name): one for name, one in self.packed.items()}
        usual = Counter(one.group_size for one in layers.values()).most_common(1)[0][0]
        group = self.recipe.group_size or usual
        coarsest = Stored(str(min(one.bits for one in layers.values())), group)
        fitting = {x for x in self.linear if self.shapes[f"{x}.weight"][-1] % group == 0}
        if layers.keys() == fitting and set(layers.values()) == {coarsest}:
            return coarsest.config
        own = {layer: one.config for layer, one in layers.items()}
        return coarsest.config | own | {layer: False for layer in self.linear if layer not in own}

    def notes(self, counts: Mapping[str, int]) -> list[str]:
        """What share of the values is of which type; ``counts`` are of every parameter."""
        total = sum(counts.values())
        shares: Counter[str] = Counter()
        for name, count in counts.items():
            shares[self.of(name).type] += count
        recipe = self.recipe
        if recipe.linear and not recipe.default and not recipe.layers:
            share = shares[recipe.linear] / total
            return [
                f"{recipe.linear} bits reach {share:.1%} of the weights (linear layers); the rest "
                f"stays {recipe.dtype}"
            ]
        if not shares.keys() - {recipe.dtype}:
            return []
        ordered = [x for x in TYPES if shares[x]]
        text = ", ".join(f"{shares[x] / total:.1%} in {type_name(x)}" for x in ordered)
        return [f"mixed precision: {text}; computed in {recipe.dtype}"]


def type_name(type_: str) -> str:
    return f"{type_} bits" if type_ in BITS else type_


def matrices(shapes: Mapping[str, Shape], exact: Collection[str]) -> dict[str, Shape]:
    """What a recipe speaks of: parameters with rows, but those that stay exact."""
    return {x: shape for x, shape in shapes.items() if len(shape) > 1 and x not in exact}


# Files --------------------------------------------------------------------------------------------


def read(path: str | Path) -> dict[str, Any]:
    """The tables of a recipe's file."""
    try:
        return tomllib.loads(read_named(Path(path), ConversionError))
    except tomllib.TOMLDecodeError as error:
        raise ConversionError(f"{path} is no TOML: {str(error).splitlines()[0]}") from None


def refuse_other_parts(content: Mapping[str, Any], parts: Collection[str]) -> None:
    """A pipeline's recipe has a table for each part that it speaks of, and nothing else."""
    for name, table in content.items():
        if name not in parts or not isinstance(table, Mapping):
            raise ConversionError(
                f"the recipe has {name!r}, but a pipeline's has a table for each part: "
                f"{', '.join(parts)}"
            )


def text(recipes: Mapping[str, Recipe]) -> str:
    """As a file; the part "" is a model that is no part."""
    return "\n".join(_table(name, recipe) for name, recipe in recipes.items())


def _table(part: str, recipe: Recipe) -> str:
    lines = [f"[{part}]"] if part else []
    lines.append(f'dtype = "{recipe.dtype}"')
    for name, value in (("default", recipe.default), ("linear", recipe.linear)):
        lines += [f"{name} = {_value(value)}"] if value else []
    lines += [f"group_size = {recipe.group_size}"] if recipe.group_size else []
    if recipe.layers:
        lines += ["", f"[{part}.layers]" if part else "[layers]"]
        lines += [f'"{name}" = {_value(value)}' for name, value in recipe.layers.items()]
    return "\n".join(lines) + "\n"


def _value(type_: str) -> str:
    return type_ if type_ in BITS else f'"{type_}"'

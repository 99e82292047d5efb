"""Which family a checkpoint belongs to, told from what is saved with it or from its names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from samevoice import family as families
from samevoice.converters.reading.checkpoint import Checkpoint
from samevoice.converters.rules import Shape
from samevoice.errors import ConversionError, nearest
from samevoice.family import Family

_EVERYWHERE = {"", "weight", "bias", "running", "mean", "var", "num", "batches", "tracked"}
PORTING = "docs/porting-your-own.md says how to bring one"


class SeveralFamiliesError(ConversionError):
    """A checkpoint tells its family only to those that somebody names."""


def shapes(family: Family, config: Mapping[str, Any]) -> dict[str, Shape]:
    """Every parameter of the MLX network; nothing is computed, MLX is lazy."""
    if family.shapes_of_data is not None:
        return family.shapes_of_data(config)
    network = _built(config)
    from mlx.utils import tree_flatten

    parameters: Any = tree_flatten(network.parameters())
    return {name: tuple(array.shape) for name, array in parameters}


def linear(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The layers of the MLX network that MLX itself can pack into few bits."""
    modules = _built(config).named_modules()
    return tuple(sorted(path for path, one in modules if hasattr(one, "to_quantized")))


def _built(config: Mapping[str, Any]) -> Any:
    try:
        # First: it puts the fast BLAS beneath MLX.
        registry = import_module("samevoice.models.registry")
    except ImportError as error:
        raise ConversionError(
            f"MLX cannot be imported ({error}): pip install --force-reinstall mlx"
        ) from error
    return registry.build(config)


def recognise(checkpoint: Checkpoint, asked: str = "auto") -> Family:
    """As asked for (a role or an architecture), as saved with it, or as its names tell."""
    known = families.find().families
    fitting = [one for one in known if asked in ("auto", one.role, *one.architectures)]
    if not fitting:
        there = (*families.roles(), *families.architectures())
        said = nearest(asked, there, families.LISTED)
        raise families.FamilyError(f"{asked!r} is neither a role nor an architecture: {said}")
    saved = checkpoint.metadata.get("architecture")
    if saved is not None:
        by_name = [one for one in fitting if saved in one.architectures]
        if by_name:
            return by_name[0]
        if any(saved in one.architectures for one in known):
            raise ConversionError(f"the checkpoint is a {saved}, which is no {asked}")
        raise _unknown(f"no family knows the architecture {saved!r}", checkpoint, fitting)
    found = [one for one in fitting if wrapper(one, checkpoint.tensors) is not None]
    if len(found) == 1 or (asked != "auto" and len(fitting) == 1):
        return (found or fitting)[0]
    if found:
        several = ", ".join(one.architectures[0] for one in found)
        raise SeveralFamiliesError(
            f"several families know this checkpoint ({several}): {_choose()}"
        )
    names = checkpoint.tensors
    count = f"{len(names)} tensor{'' if len(names) == 1 else 's'}"
    first = next(iter(names), None)
    raise _unknown(
        f"no family knows this checkpoint of {count}, first {first!r}", checkpoint, fitting
    )


def wrapper(family: Family, names: Mapping[str, Any]) -> str | None:
    """What stands before the family's names in a checkpoint; None where it is another kind's."""
    first = family.anchors[0]
    for name in names:
        before = name.removesuffix(first)
        whole = before != name and before[-1:] in ("", ".")
        if whole and all(f"{before}{anchor}" in names for anchor in family.anchors):
            return before
    return None


def _unknown(said: str, checkpoint: Checkpoint, fitting: list[Family]) -> ConversionError:
    """Names the nearest family: by its anchors that are there, then by words in common."""
    words = _words(checkpoint.tensors)

    def near(family: Family) -> tuple[int, int]:
        # What one word names, such as linear.weight, many networks have.
        telling = [x for x in family.anchors if len(_words([x])) > 1]
        there = [x for x in telling if any(y.endswith(x) for y in checkpoint.tensors)]
        return len(there), len(words & _words(family.anchors))

    closest = max(fitting, key=near)
    nearness = ""
    if any(near(closest)):
        lacking = (x for x in closest.anchors if not any(y.endswith(x) for y in checkpoint.tensors))
        nearness = f"nearest is {closest.architectures[0]}"
        nearness += f", but {name!r} is missing; " if (name := next(lacking, "")) else "; "
    return ConversionError(f"{said}: {nearness}{families.LISTED}; {PORTING}")


def _words(names: Iterable[str]) -> set[str]:
    """What tensors are named with, without numbers and the words that all networks use."""
    found = {word for name in names for word in re.split(r"[\W\d_]+", name)}
    return {word for word in found if len(word) > 1} - _EVERYWHERE


def _choose() -> str:
    return "name one with --model-type"


@dataclass(frozen=True)
class Naming:
    """How a checkpoint's names differ from the table's: a wrapper's prefix, or a missing one."""

    strip: str = ""
    add: str = ""
    originals: tuple[str, ...] = ()  # in the order of the file

    def canonical(self, name: str) -> str:
        inside = name.startswith(self.strip)
        return self.add + name[len(self.strip) :] if inside else name

    def by_canonical(self) -> dict[str, str]:
        """The table's names, each with the checkpoint's own, in the order of the file."""
        return {self.canonical(name): name for name in self.originals}


def unwrap(checkpoint: Checkpoint, family: Family) -> tuple[Checkpoint, Naming]:
    """The checkpoint with the names that the family's table uses, and the way back to its own."""
    found = wrapper(family, checkpoint.tensors)
    before = family.prefix if found is None else found
    whole = before.endswith(family.prefix)
    naming = Naming(
        strip=before[: len(before) - len(family.prefix)] if whole else before,
        add="" if whole else family.prefix,
        originals=tuple(checkpoint.tensors),
    )
    tensors = {new: checkpoint.tensors[old] for new, old in naming.by_canonical().items()}
    if len(tensors) < len(checkpoint.tensors):
        raise ConversionError(
            f"two tensors get the same name once the prefix {naming.strip!r} is taken off"
        )
    return replace(checkpoint, tensors=tensors), naming

"""Which family a checkpoint belongs to, told from what is saved with it or from its names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from samevoice.converters import plda, pyannet, wespeaker
from samevoice.converters.checkpoint import Checkpoint
from samevoice.converters.rules import Shape, Table, Tensor
from samevoice.errors import ConversionError


def _network_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Every parameter of the MLX network; nothing is computed, MLX is lazy."""
    try:
        # First: it puts the fast BLAS beneath MLX.
        registry = import_module("samevoice.models.registry")
        from mlx.utils import tree_flatten
    except ImportError as error:
        raise ConversionError(
            f"MLX cannot be imported ({error}): pip install --force-reinstall mlx"
        ) from error
    parameters: Any = tree_flatten(registry.build(config).parameters())
    return {name: tuple(array.shape) for name, array in parameters}


@dataclass(frozen=True)
class Family:
    """The facts about one kind of model; ``anchors`` are names that only this kind has together."""

    model_type: str
    architectures: tuple[str, ...]
    anchors: tuple[str, ...]
    prefix: str
    config: Callable[[Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]]
    table: Callable[[Mapping[str, Any]], Table]
    shapes: Callable[[Mapping[str, Any]], dict[str, Shape]] = _network_shapes

    def before(self, names: Iterable[str]) -> str | None:
        """What stands before this family's names, a wrapper's prefix; None where they are not."""
        there, first = set(names), self.anchors[0]
        for name in names:
            before = name.removesuffix(first)
            whole = len(before) < len(name) and before[-1:] in ("", ".")
            if whole and all(before + anchor in there for anchor in self.anchors):
                return before
        return None


FAMILIES = (
    Family(
        "segmentation", pyannet.ARCHITECTURES, pyannet.ANCHORS, "", pyannet.config, pyannet.table
    ),
    Family(
        "embedding",
        wespeaker.ARCHITECTURES,
        wespeaker.ANCHORS,
        wespeaker.PREFIX,
        wespeaker.config,
        wespeaker.table,
    ),
    Family("plda", plda.ARCHITECTURES, plda.ANCHORS, "", plda.config, plda.table, plda.shapes),
)
SUPPORTED = ", ".join(name for family in FAMILIES for name in family.architectures)


def by_model_type(model_type: str) -> Family:
    return next(family for family in FAMILIES if family.model_type == model_type)


def recognise(checkpoint: Checkpoint, model_type: str = "auto") -> Family:
    """The family as asked for, as saved with the checkpoint, or as its names tell."""
    named = checkpoint.metadata.get("architecture")
    if model_type != "auto":
        asked = by_model_type(model_type)
        if named is not None and named not in asked.architectures:
            raise ConversionError(f"the checkpoint is a {named}, which is no {model_type}")
        return asked
    for family in FAMILIES:
        if named in family.architectures:
            return family
    if named is not None:
        raise ConversionError(f"architecture {named!r} is not supported; supported: {SUPPORTED}")
    for family in FAMILIES:
        if family.before(checkpoint.tensors) is not None:
            return family
    first = next(iter(checkpoint.tensors), None)
    raise ConversionError(
        f"{len(checkpoint.tensors)} tensors of no known architecture, first {first!r}; "
        f"supported: {SUPPORTED}"
    )


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
    found = family.before(checkpoint.tensors)
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

"""What there is to know of one kind of model, and where such kinds are found.

A family answers to its architectures' names. samevoice's own are the modules of
``converters/families/``; an installed package adds its own by an entry point of the group
``samevoice.families`` that names a ``Family``. What a checkpoint, a bundle or a result holds never
chooses code: it names an architecture, and an installed family answers to it or none does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from samevoice.errors import SamevoiceError, nearest, told

if TYPE_CHECKING:
    from samevoice.converters.rules import Shape, Table, Tensor

GROUP = "samevoice.families"
LISTED = "samevoice doctor lists all architectures"
OWN, OWN_FAMILIES = "samevoice", "samevoice.converters.families"


class FamilyError(SamevoiceError):
    """No installed family answers to a name."""


@dataclass(frozen=True)
class Family:
    """The facts about one kind of model.

    ``anchors`` are names of tensors that together only this kind has; what stands before them in a
    checkpoint is a wrapper's. ``network`` and ``original`` are "module:name", imported when first
    used: the class of the MLX network, which takes the config, and the function that builds the
    PyTorch module of a config. ``reference`` names a third: it takes a folder, whether the shape is
    to be small and, where there are several, which architecture, and writes a checkpoint with
    seeded weights there.
    """

    role: str
    architectures: tuple[str, ...]
    anchors: tuple[str, ...]
    config: Callable[[Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]]
    table: Callable[[Mapping[str, Any]], Table]
    network: str = ""
    original: str = ""
    reference: str = ""
    prefix: str = ""  # of the table's names; checkpoints may go without
    # What the original has as a method of a module and the network as a module in it, by name.
    methods: Mapping[str, str] = field(default_factory=dict)
    # Of data without a network, what its reader wants: such values are never rounded.
    shapes_of_data: Callable[[Mapping[str, Any]], dict[str, Shape]] | None = None
    package: str = OWN  # where it comes from

    @property
    def is_data(self) -> bool:
        return self.shapes_of_data is not None

    def build_network(self, config: Mapping[str, Any]) -> Any:
        return self._called(self.network, config)

    def write_reference(self, folder: Path, architecture: str, *, small: bool) -> None:
        which = (architecture,) if len(self.architectures) > 1 else ()
        self._called(self.reference, folder, small, *which)

    def build_original(self, config: Mapping[str, Any]) -> Any:
        return self._called(self.original, config)

    def _called(self, name: str, *given: Any) -> Any:
        """What a name gives for this; a fault of a plug-in is told as its own."""
        try:
            return named_object(name)(*given)
        except Exception as error:
            module = name.partition(":")[0]
            known = isinstance(error, SamevoiceError) or self.package == OWN
            lacks = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
            if known or (lacks and lacks.partition(".")[0] != module.partition(".")[0]):
                raise
            said = f"{name} of {self.package} breaks off: {told(error, module)}"
            raise FamilyError(f"{said}; --debug shows more") from error


@dataclass(frozen=True)
class Broken:
    """A plug-in that cannot be used, and why; it hurts nothing else."""

    name: str
    package: str
    why: str

    def __str__(self) -> str:
        return f"the plug-in {self.name!r} of {self.package} cannot be loaded: {self.why}"


@dataclass(frozen=True)
class Found:
    families: tuple[Family, ...]
    broken: tuple[Broken, ...]


def named_object(name: str) -> Any:
    """``"package.module:name"`` -> what it names, imported now."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


@cache
def find() -> Found:
    """Every family: samevoice's own, then those of installed packages."""
    own = import_module(OWN_FAMILIES)  # by name, as all that a family brings
    names = sorted(module.name for module in iter_modules(own.__path__, f"{own.__name__}."))
    found: list[Family] = [import_module(name).FAMILY for name in names]
    broken: list[Broken] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        package = entry.dist.name if entry.dist is not None else "an unknown package"
        try:
            found.append(_plugged_in(entry.load(), package, found))
        except Exception as error:
            why = next(iter(str(error).splitlines()), "") or type(error).__name__
            broken.append(Broken(entry.name, package, why))
    taken = {name for one in _added for name in one.architectures}
    kept = [one for one in found if not taken & set(one.architectures)]
    return Found((*kept, *_added), tuple(broken))


_added: list[Family] = []


def add(given: Family) -> None:
    """One that is not installed, for this process; it stands before an installed one."""
    _added.append(replace(given, package=given.network.partition(".")[0]))
    find.cache_clear()


def _plugged_in(given: Any, package: str, before: list[Family]) -> Family:
    if not isinstance(given, Family):
        raise FamilyError(f"it names a {type(given).__name__} instead of a Family")
    taken = {name: one.package for one in before for name in one.architectures}
    for name in given.architectures:
        if name in taken:
            raise FamilyError(f"the architecture {name!r} is {taken[name]}'s already")
    return replace(given, package=package)


def architectures() -> tuple[str, ...]:
    return tuple(name for family in find().families for name in family.architectures)


def roles() -> tuple[str, ...]:
    return tuple(dict.fromkeys(family.role for family in find().families))


def named(architecture: Any) -> Family:
    """The family of an architecture; where none is installed, one line that says so."""
    for family in find().families:
        if architecture in family.architectures:
            return family
    broken = "; ".join(map(str, find().broken))
    raise FamilyError(
        f"no installed family knows the architecture {architecture!r} "
        f"({broken or nearest(architecture, architectures(), LISTED)})"
    )

"""From anybody's PyTorch module to a proven family: traced, written, converted, compared."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice import family
from samevoice.family import FamilyError

if TYPE_CHECKING:
    import torch

    from samevoice.parity.result import Result
    from samevoice.port.frames import Writer
    from samevoice.port.graph import Call
    from samevoice.port.inputs import Inputs
    from samevoice.port.package import Ported
    from samevoice.port.places import Place


@dataclass(frozen=True)
class Port:
    """What was written, and what the comparison says of it."""

    ported: Ported
    place: Place
    result: Result | None = None  # none where something is not written yet

    @property
    def summary(self) -> str:
        classes, free = len(self.ported.classes), self.ported.inputs.sizes
        sizes = f"free sizes {', '.join(free)}" if free else "all sizes fixed"
        return f"{classes} classes, {len(self.ported.module.state_dict())} tensors, {sizes}"

    @property
    def passed(self) -> bool:
        return self.result is not None and self.result.passed


def port(
    spec: str,
    output: str | Path | None = None,
    *,
    into: str | Path | None = None,
    args: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    name: str = "",
    weights: str = "",
    draft: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda what: None,
) -> Port:
    """Trace MODULE:CLASS, write its family, convert its weights and compare every layer.

    The family is a package below ``output``, or stands in the three rooms of the clone ``into``.
    Without ``weights`` they are seeded. A ``draft`` is the table alone.
    """
    if (output is None) == (into is None):
        raise FamilyError("either --output DIR for a package, or --into CLONE for samevoice's own")
    if name and not name.isidentifier():
        raise FamilyError(f"--name {name!r}: a name of letters, digits and _ is wanted")
    from samevoice.port import places

    if into is not None:
        places.refuse_other_clones(Path(into))
    progress("tracing")
    ported = traced(spec, args or {}, inputs, name)
    from samevoice.port import package

    kind, folder = places.package if into is None else places.rooms, Path(output or into or ".")
    place = kind(folder, ported.architecture)
    if not name and not place.was_written_from(spec):
        ported = replace(ported, architecture=_free_name(ported.architecture))
        place = kind(folder, ported.architecture)
    progress("writing")
    package.write(ported, place, draft=draft, overwrite=overwrite)
    if draft or ported.unknown:
        return Port(ported, place)
    return Port(ported, place, proven(ported, place, weights, progress))


def traced(
    spec: str, args: Mapping[str, Any], inputs: Sequence[str] = (), name: str = ""
) -> Ported:
    """What there is to know of a module, before anything is written."""
    from samevoice.converters.reference import import_pyannote

    import_pyannote()  # also where torch came without its CUDA libraries
    from samevoice.port import building, package
    from samevoice.port import inputs as fed
    from samevoice.port.classes import classes

    package.refuse_without_ruff()
    kind = building.imported(spec)
    module, built_with = building.built(spec, kind, args)
    given = fed.parsed(inputs, module) if inputs else fed.guessed(module)
    given = fed.with_free_sizes(module, given)
    call, writer, given = _followed(module, given)
    found = classes(writer, module, built_with)
    return package.Ported(spec, args, module, call, writer, found, given, name or found[-1].name)


def _followed(module: torch.nn.Module, given: Inputs) -> tuple[Call, Writer, Inputs]:
    """What it does, in as many sizes as its code follows."""
    from samevoice.port import inputs as fed
    from samevoice.port import operations
    from samevoice.port.capture import capture
    from samevoice.port.frames import Writer
    from samevoice.port.graph import SizesError

    for inputs in fed.with_fewer_sizes(given):
        writer = Writer(operations.write, operations.pointwise())
        try:
            call = capture(module, fed.runs(inputs))
            writer.write(call)
        except SizesError:
            if not inputs.sizes:
                raise
            continue
        return call, writer, inputs
    raise AssertionError("the last one has no free sizes")


def _free_name(name: str) -> str:
    """Another one where samevoice has a family of that name itself."""
    own = {
        x for one in family.find().families if one.package == family.OWN for x in one.architectures
    }
    return f"{name}Port" if name in own else name


def proven(ported: Ported, place: Place, weights: str, progress: Callable[[str], None]) -> Result:
    """The bundle, and every layer of it beside the original's."""
    from samevoice.converters.convert import convert
    from samevoice.parity.run import run

    _known(place)
    source = weights or f"reference:{ported.architecture}"
    progress("converting")
    convert(source, place.bundle, model_type=ported.architecture, overwrite=True)
    progress("comparing")
    return run(place.bundle, source, output=place.result)


def _known(place: Place) -> None:
    """As if the package were installed, or the file had always been there."""
    invalidate_caches()
    for name in [one for one in sys.modules if one.startswith(f"{place.name}.")]:
        del sys.modules[name]
    for name in (place.family, place.network, place.original):
        sys.modules.pop(name, None)
    if place.is_package:
        sys.path.insert(0, str(place.folder.resolve()))
        family.add(import_module(place.family).FAMILY)
    else:
        family.find.cache_clear()

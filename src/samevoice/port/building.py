"""Somebody's own class: imported, built, and watched while it builds its parts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, TypeAlias

import torch

from samevoice.errors import told
from samevoice.parity import authors
from samevoice.port.graph import PortError

# Each module that was built and its arguments; held, or another one would have its place in memory.
Given: TypeAlias = dict[int, tuple[torch.nn.Module, dict[str, Any]]]


def imported(name: str) -> Any:
    """What MODULE:CLASS names; modules in the current folder are found, too."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise PortError(f"{name!r}: a module and a class are wanted, as in my_package.models:MyNet")
    authors.find_here()
    try:
        found: Any = import_module(module)
    except Exception as error:
        raise PortError(f"{module} cannot be imported: {told(error, module)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise PortError(f"{module} has no {attribute!r}")
        found = getattr(found, part)
    return found


def built(
    name: str, kind: Any, args: Mapping[str, Any]
) -> tuple[torch.nn.Module, dict[str, dict[str, Any]]]:
    """The module, seeded, and what each part of it was built with, by path."""
    given: Given = {}
    torch.manual_seed(0)
    try:
        with _watched(given):
            module = kind(**args)
    except Exception as error:
        raise PortError(f"{name} cannot be built with {dict(args)}: {told(error, name)}") from error
    if not isinstance(module, torch.nn.Module):
        raise PortError(f"{name} gives a {type(module).__name__}, and no torch.nn.Module")
    parts = authors.in_float32(module).named_modules(remove_duplicate=False)
    paths = {path: given[id(one)][1] if id(one) in given else {} for path, one in parts}
    return module.eval().requires_grad_(False), paths  # or each run would be kept in memory


@contextmanager
def _watched(given: Given) -> Iterator[None]:
    """Whoever builds a module meanwhile leaves it and its arguments here."""

    def note(frame: FrameType, event: str, what: Any) -> None:
        if event != "call" or frame.f_code.co_name != "__init__" or not frame.f_code.co_argcount:
            return
        own, *names = frame.f_code.co_varnames[
            : frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount
        ]
        made = frame.f_locals.get(own)
        if isinstance(made, torch.nn.Module):
            given.setdefault(id(made), (made, {name: frame.f_locals[name] for name in names}))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before if callable(before) else None)

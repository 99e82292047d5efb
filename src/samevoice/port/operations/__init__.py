"""The operations of ATen, each with its form in MLX."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Op


@cache
def forms() -> Mapping[str, Form]:
    """Operation -> what writes it: "relu", "add.Tensor"; "add" is any kind of addition."""
    modules = (import_module(one.name) for one in iter_modules(__path__, f"{__name__}."))
    return {name: form for module in modules for name, form in module.FORMS.items()}


def write(frame: FrameWriter, op: Op) -> bool:
    """Whether the operation has a form, which then is written."""
    base = op.kind.partition(".")[0]
    form = forms().get(op.kind) or forms().get(base)
    return form is not None and form(frame, op) is not False


@cache
def pointwise() -> frozenset[str]:
    """Those that do not care for the order of axes."""
    from samevoice.port.operations import elementwise, pairs

    return frozenset({*elementwise.FORMS, *pairs.FORMS, "cat"})

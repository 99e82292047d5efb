"""Forms that are fast on one device, each beside the plain form that it must equal.

A layer or a network that has such a form asks here whether to take it; ``plain_forms`` switches all
of them off, ``layer_by_layer`` those that hide a layer. The plain form is what the layer computes
in MLX, an operation at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from samevoice.models import backend

_plain: ContextVar[bool] = ContextVar("plain_forms", default=False)
_by_layer: ContextVar[bool] = ContextVar("layer_by_layer", default=False)


def on_cpu() -> bool:
    """Whether the forms for a CPU are wanted: MLX's default device is one."""
    return backend.on_cpu() and not _plain.get()


def on_gpu() -> bool:
    """Whether the forms for a GPU are wanted."""
    return not backend.on_cpu() and not _plain.get()


def whole_on_cpu() -> bool:
    """The same for forms that run many layers as one."""
    return on_cpu() and not _by_layer.get()


def whole_on_gpu() -> bool:
    """The same for forms that run many layers as one."""
    return on_gpu() and not _by_layer.get()


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Every layer called for itself, so that it can be seen; in its fast form, if it has one."""
    token = _by_layer.set(True)
    try:
        yield
    finally:
        _by_layer.reset(token)


@contextmanager
def plain_forms() -> Iterator[None]:
    """Every layer in its plain form."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)

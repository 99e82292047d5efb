"""Forms that are fast on one device, each beside the plain form that it must equal.

A layer or a network that has such a form asks here whether to take it; ``plain_forms`` switches all
of them off, ``layer_by_layer`` those that hide a layer. The plain form is what the layer computes
in MLX, an operation at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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


def layer_by_layer() -> AbstractContextManager[None]:
    """Every layer called for itself, so that it can be seen; in its fast form, if it has one."""
    return _on(_by_layer)


def plain_forms() -> AbstractContextManager[None]:
    """Every layer in its plain form."""
    return _on(_plain)


@contextmanager
def _on(switch: ContextVar[bool]) -> Iterator[None]:
    token = switch.set(True)
    try:
        yield
    finally:
        switch.reset(token)

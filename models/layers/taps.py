"""Taps: see what a layer gives, or feed a layer something else than its neighbour's output.

Every layer that parity looks at runs through ``call`` under its path in the module tree
("resnet.layer1.0.conv1"). Outside ``record`` and ``replace`` that is one test of a flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import mlx.core as mx

_seen: ContextVar[dict[str, mx.array] | None] = ContextVar("taps_seen", default=None)
_heard: ContextVar[dict[str, mx.array] | None] = ContextVar("taps_heard", default=None)
Change = Callable[[Mapping[str, mx.array], mx.array], mx.array]
_changed: ContextVar[tuple[Mapping[str, Change], dict[str, mx.array]] | None] = ContextVar(
    "taps_changed", default=None
)
_fed: ContextVar[Mapping[str, mx.array] | None] = ContextVar("taps_fed", default=None)


@contextmanager
def record() -> Iterator[dict[str, mx.array]]:
    """Collects every layer's output by its path, in the order of the computation."""
    seen: dict[str, mx.array] = {}
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


@contextmanager
def hear() -> Iterator[dict[str, mx.array]]:
    """Collects what reaches every layer, before anything is put in its place."""
    heard: dict[str, mx.array] = {}
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


@contextmanager
def replace(inputs: Mapping[str, mx.array]) -> Iterator[None]:
    """Teacher forcing: each layer named here is fed with the input given for it."""
    token = _fed.set(inputs)
    try:
        yield
    finally:
        _fed.reset(token)


@contextmanager
def change(changes: Mapping[str, Change]) -> Iterator[None]:
    """Each tap named here passes on what its function makes of all taps before it, and of itself.

    What reaches a layer has the name of the layer and ".input".
    """
    before = _changed.get()
    token = _changed.set(({**(before[0] if before else {}), **changes}, {}))
    try:
        yield
    finally:
        _changed.reset(token)


def _passed(name: str, x: mx.array) -> mx.array:
    changed = _changed.get()
    if changed is None:
        return x
    changes, given = changed
    given[name] = changes[name](given, x) if name in changes else x
    return given[name]


def active() -> bool:
    """Whether anyone listens; fused forms that hide a layer step aside then."""
    return any(tap.get() is not None for tap in (_seen, _heard, _fed, _changed))


def feed(name: str, x: mx.array) -> mx.array:
    """What layer ``name`` is to take as its input: ``x``, unless something was put in its place."""
    x = _passed(f"{name}.input", x)
    heard, fed = _heard.get(), _fed.get()
    if heard is not None:
        heard[name] = x
    if fed is None or name not in fed:
        return x
    forced = fed[name]
    if forced.shape != x.shape:
        raise ValueError(f"taps.replace: {name} takes {x.shape}, got {forced.shape}")
    x = forced.astype(x.dtype)
    if (changed := _changed.get()) is not None:
        changed[1][f"{name}.input"] = x
    return x


def emit(name: str, x: mx.array) -> mx.array:
    """Note ``x`` as what layer ``name`` gave."""
    x = _passed(name, x)
    seen = _seen.get()
    if seen is not None:
        seen[name] = x
    return x


def call(name: str, layer: Callable[[mx.array], mx.array], x: mx.array) -> mx.array:
    """``layer(x)``, noted under ``name`` and fed by it."""
    return emit(name, layer(feed(name, x)))

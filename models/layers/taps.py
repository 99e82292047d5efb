"""Taps: see what every layer of a network gives, or feed a layer something of your own.

A network says nothing about them. While somebody listens, each of its modules has a class of its
own, whose ``__call__`` notes what goes in and what comes out under the module's path in the tree
("resnet.layer1.0.conv1"). What the whole network gives is "output". A layer that runs again has
taps of its own: "conv1#2".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import mlx.core as mx

from samevoice.models import fast

# From all that was given until here, and what a tap would pass on, to what it passes on.
Change: TypeAlias = Callable[[Mapping[str, mx.array], mx.array], mx.array]

OUTPUT = "output"


@dataclass
class Heard:
    """What each layer took and gave in the last run, in its order."""

    inputs: dict[str, mx.array] = field(default_factory=dict)
    outputs: dict[str, mx.array] = field(default_factory=dict)
    fed: Mapping[str, mx.array] = field(default_factory=dict)
    changes: Mapping[str, Change] = field(default_factory=dict)
    paths: Mapping[int, str] = field(default_factory=dict)  # of each module, by its identity
    # By path alone, whichever run of a layer was the last: what changes are made of.
    given: dict[str, mx.array] = field(default_factory=dict)

    def take(self, path: str, x: mx.array, *others: Any) -> mx.array:
        """What a layer is to take for ``x``."""
        name = again(self.inputs, path)
        self.inputs[name] = x = self._changed(f"{path}.input", x)
        if (forced := self.fed.get(name)) is not None:
            if forced.shape != x.shape:
                raise ValueError(f"{name} takes {x.shape}, but was to be fed {forced.shape}")
            x = forced.astype(x.dtype)
        if self.changes:
            more = {f"{path}.input.{n}": y for n, y in enumerate(others, 1) if _is_array(y)}
            self.given |= {f"{path}.input": x, **more}
        return x

    def give(self, path: str, x: mx.array) -> mx.array:
        """What a layer passes on for ``x``."""
        x = self._changed(path, x)
        self.outputs[again(self.outputs, path)] = mx.array(x)  # which who takes x may write over
        return x

    def _changed(self, tap: str, x: mx.array) -> mx.array:
        if change := self.changes.get(tap):
            x = change(self.given, x)
        if self.changes:
            self.given[tap] = x
        return x

    def forget(self) -> None:
        """A run begins."""
        for heard in (self.inputs, self.outputs, self.given):
            heard.clear()


_heard: ContextVar[Heard | None] = ContextVar("heard", default=None)


@contextmanager
def listen(
    network: Any,
    fed: Mapping[str, mx.array] | None = None,
    changes: Mapping[str, Change] | None = None,
    paths: Collection[str] = (),
) -> Iterator[Heard]:
    """Hear every layer of ``network``; those in ``fed`` take the input given for them.

    Each tap in ``changes`` passes on what its function makes of all taps before it, and of itself;
    what reaches a layer has the layer's name and ".input". Changes hold for those who listen
    inside, too. Of several paths a module is heard under the one in ``paths``.
    """
    around, modules = _heard.get(), network.named_modules()
    found = {id(module): path for path, module in reversed(modules)}
    found |= {id(module): path for path, module in modules if path in paths}
    changed = {**(around.changes if around else {}), **(changes or {})}
    heard = Heard(fed=fed or {}, changes=changed, paths=found)
    token = _heard.set(heard)
    try:
        with fast.layer_by_layer(), _wrapped(module for _, module in modules):
            yield heard
    finally:
        _heard.reset(token)


def active() -> bool:
    """Whether anyone listens."""
    return _heard.get() is not None


def again(seen: Mapping[str, Any], name: str) -> str:
    """The name for a layer that may have run before."""
    numbers = (f"{name}#{n}" if n > 1 else name for n in range(1, len(seen) + 2))
    return next(one for one in numbers if one not in seen)


def path_of(tap: str) -> str:
    """The layer's path, of what it takes or gives in whichever of its runs."""
    return tap.removesuffix(".input").partition("#")[0]


def outputs_of(output: Any, name: str = OUTPUT) -> Iterator[tuple[str, Any]]:
    """All that a network gives, each under a name: output, output.1, output.key."""
    if isinstance(output, Mapping):
        parts = [(f".{key}", part) for key, part in output.items()]
    elif isinstance(output, tuple | list):
        parts = [(f".{n}" if n else "", part) for n, part in enumerate(output)]
    else:
        parts = []
        if output is not None:
            yield name, output
    for key, part in parts:
        yield from outputs_of(part, f"{name}{key}")


def _with_each(output: Any, change: Callable[[str, Any], Any], name: str = OUTPUT) -> Any:
    """The same things, each changed; by the names of ``outputs_of``."""
    if isinstance(output, Mapping):
        return {key: _with_each(x, change, f"{name}.{key}") for key, x in output.items()}
    if isinstance(output, tuple | list):
        named = [(f"{name}.{n}" if n else name, x) for n, x in enumerate(output)]
        return tuple(_with_each(x, change, one) for one, x in named)
    return change(name, output) if _is_array(output) else output


def first_of(output: Any) -> Any:
    """The first of several things, or what is none."""
    while isinstance(output, tuple | list):
        output = output[0] if output else None
    return output


class _Tapped:
    """What a class that listens can be told by."""


@contextmanager
def _wrapped(modules: Iterable[Any]) -> Iterator[None]:
    wrapped = []
    try:
        for module in modules:
            kind = type(module)
            if not issubclass(kind, _Tapped) and _is_called(kind):
                wrapped.append((module, kind))
                module.__class__ = _tapped(kind)
        yield
    finally:
        for module, kind in wrapped:
            module.__class__ = kind


def _tapped(kind: type) -> type:
    """Python looks ``__call__`` up in the class, so one object alone is heard by its own class.

    It keeps the name, because some modules look at it.
    """

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        heard = _heard.get()
        if heard is None or (path := heard.paths.get(id(self))) is None:
            return kind.__call__(self, *args, **kwargs)
        if not path:
            heard.forget()
        elif args and _is_array(args[0]):
            args = (heard.take(path, *args), *args[1:])
        output = kind.__call__(self, *args, **kwargs)
        if not path:
            return _with_each(output, heard.give)
        if _is_array(output):
            return heard.give(path, output)
        # Of several things a layer's first counts; an LSTM gives its states behind it.
        if _is_array(part := first_of(output)):
            heard.outputs[again(heard.outputs, path)] = part
        return output

    named = {"__call__": call, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind, _Tapped), named)


def _is_called(kind: type) -> bool:
    return any("__call__" in vars(one) for one in kind.__mro__)


def _is_array(x: Any) -> bool:
    return isinstance(x, mx.array)

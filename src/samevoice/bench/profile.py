"""Where the time of a run goes: to which layer of a network, or to which part of its fast form.

Every 5 ms a thread looks what the others are in. What their functions were called with tells
what they work on: a layer, or weights that a fast form holds. The models know nothing of it.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from time import perf_counter
from types import FrameType
from typing import Any

import numpy as np

from samevoice.models.layers import Kept

FORM = "/"  # between a module's path and a part of its fast form
EVERY = 0.005  # seconds; at 0.001 a ResNet takes 1.4 times as long, at 0.005 1.1
WATCHED = ("samevoice.models.", "samevoice.bench.")


class Tally(defaultdict[str, float]):
    """Figures by name, 0 where there is none yet."""

    def __init__(self) -> None:
        super().__init__(float)


def parts_of(network: Any) -> dict[int, str]:
    """Every layer by its identity, and each part of the fast forms that were made already."""
    found: dict[int, str] = {}
    for path, module in network.named_modules():
        found.setdefault(id(module), path)
        for key, value in vars(module).items():
            if isinstance(value, Kept):
                _add_form(value.made, path + FORM, found)
            elif is_dataclass(value):
                found[id(value)] = f"{path}.{key}".strip(".")
    return found


def _add_form(part: Any, name: str, found: dict[int, str]) -> None:
    """Its parts are named by the fields that hold them: "lstm.0.wx"."""
    inside: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(part, tuple | list):
        inside = enumerate(part)
    elif is_dataclass(part):
        inside = ((one.name, getattr(part, one.name)) for one in fields(part))
    if is_dataclass(part) or isinstance(part, np.ndarray):
        found[id(part)] = name
    for key, value in inside:
        _add_form(value, f"{name}{key}" if name.endswith(FORM) else f"{name}.{key}", found)


class Profile:
    """Seconds by the name of a part; "" is what has none."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._watched = threading.get_ident()
        self._done = threading.Event()
        self.seconds = Tally()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _watch(self) -> None:
        last = perf_counter()
        while not self._done.wait(EVERY):
            now = perf_counter()
            names = self._now()
            for name in names:
                self.seconds[name] += (now - last) / len(names)
            last = now

    def _now(self) -> list[str]:
        """What is worked on: by other threads, where the one that is watched waits for them."""
        frames = sys._current_frames()
        main = frames[self._watched]
        if main.f_globals.get("__name__") == "threading":
            del frames[self._watched]
            if found := [name for one in frames.values() if (name := self._name(one)) is not None]:
                return found
        return [self._name(main) or ""]

    def _name(self, frame: FrameType | None) -> str | None:
        """Of the innermost part that a thread is in."""
        while frame is not None:
            if frame.f_globals.get("__name__", "").startswith(WATCHED):
                known = [self._names.get(id(one)) for one in frame.f_locals.values()]
                if found := [name for name in known if name is not None]:
                    return max(found, key=len)
            frame = frame.f_back
        return None

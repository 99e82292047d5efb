"""What a model is for: one file a role. What it is fed, its task, and what a report shows of it.

Roles know neither torch nor MLX. A bundle, a result and golden data name theirs as ``model_type``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, Protocol, TypeAlias

from samevoice.errors import SamevoiceError
from samevoice.parity.inputs import Example, sample, shortest_for
from samevoice.parity.metrics import Array

Set: TypeAlias = Literal["brief", "quick", "full"]
BRIEF: Set = "brief"  # those of a gallery: too few for a release
QUICK: Set = "quick"
WHOLE: Set = "full"
SETS = (BRIEF, QUICK, WHOLE)

Config: TypeAlias = Mapping[str, Any]
Sections: TypeAlias = dict[str, dict[str, Any]]
# An example, and what came out: (example, truth, reference, candidate).
Row: TypeAlias = tuple[Example, Array, Array, Array]


class RoleError(SamevoiceError):
    """A model has a role that nobody knows, or that has no such thing."""


class Fed(Protocol):
    """What examples are made for."""

    @property
    def config(self) -> Config: ...

    def num_frames(self, num_samples: int) -> int: ...


# The examples of a set for a network, perhaps with other speech than pyannote's.
Examples: TypeAlias = Callable[[Fed, Set, Array | None], Iterable[Example]]


def of_speech(
    every: Callable[[Array, int, bool], Iterable[Example]],
    few: Callable[[int], Iterable[Example]],
) -> Examples:
    """Of what hears audio: of a recording and the shortest input; whether the whole set is wanted.

    ``few``: short, but with all that a bug needs to show.
    """

    def build(network: Fed, chosen: Set, speech: Array | None) -> Iterable[Example]:
        shortest = shortest_for(network.num_frames)
        if chosen == BRIEF:
            return few(shortest)
        return every(sample() if speech is None else speech, shortest, chosen == WHOLE)

    return build


@dataclass(frozen=True)
class Role:
    """One thing that a model can be for.

    ``task`` takes the outputs that have labels. ``judged`` are the taps that a result must have for
    every input, each with its mode. ``needs_corpus``: with rounded weights it may mix up the voices
    of a recording, though it passes on these examples.
    """

    name: str
    judged: tuple[tuple[str, str], ...] = ()
    examples: Examples | None = None
    # What a gallery of it holds beside the bugs of layers: its name, what it does, how often.
    decisions: Callable[[Array], Iterator[tuple[str, str, int]]] | None = None
    labels: tuple[str, ...] = ()  # of every piece of a recording that is given
    task: Callable[[Sequence[Row], Config], Sections] | None = None
    # What plots show: of what came out, the config, and the seconds of the first frame and a step.
    drawn: Callable[[Sequence[Row], Config, float, float], dict[str, Any]] | None = None
    needs_corpus: bool = False


@cache
def every() -> dict[str, Role]:
    modules = (import_module(one.name) for one in iter_modules(__path__, f"{__name__}."))
    return {role.name: role for module in modules for role in module.ROLES}


def named(name: object) -> Role:
    role = every().get(str(name))
    if role is None:
        known = ", ".join(every())
        raise RoleError(f"there is no role {str(name)!r:.80}: there are {known}")
    return role


def examples(network: Fed, chosen: Set = QUICK, speech: Array | None = None) -> list[Example]:
    """The set for a network.

    ``speech`` stands for the recording inside pyannote.audio, where that is not installed: names
    and shapes are the same then, and hashes are not.
    """
    role = named(network.config.get("model_type"))
    if role.examples is None:
        raise RoleError(f"there are no inputs for a {role.name}: only for networks")
    if chosen not in SETS:
        raise RoleError(f"there is no set of inputs called {chosen!r}: {', '.join(SETS)}")
    return list(role.examples(network, chosen, speech))

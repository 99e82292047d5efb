"""What a model is for: one file a role. What it is fed, its task, and what a report shows of it.

Roles know neither torch nor MLX. A bundle, a result and golden data name theirs as ``model_type``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, TypeAlias

from samevoice.errors import SamevoiceError
from samevoice.parity.inputs import Example, sample
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


@dataclass(frozen=True)
class Role:
    """One thing that a model can be for.

    ``examples`` takes speech, the least number of samples, and whether the whole set is wanted;
    ``task`` the outputs that have labels. ``judged`` are the taps that a result must have for every
    input, each with its mode. ``needs_corpus``: with rounded weights it may mix up the voices of a
    recording, though it passes on these examples.
    """

    name: str
    judged: tuple[tuple[str, str], ...] = ()
    examples: Callable[[Array, int, bool], Iterator[Example]] | None = None
    # Few and short, but with all that a bug needs to show, from the shortest that gives a number.
    gallery: Callable[[int], list[Example]] | None = None
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


def examples(
    model_type: str, shortest: int, chosen: Set = QUICK, speech: Array | None = None
) -> list[Example]:
    """The set for a kind of network; ``shortest`` is the least number of samples that it takes.

    ``speech`` stands for the recording inside pyannote.audio, where that is not installed: names
    and shapes are the same then, and hashes are not.
    """
    role = named(model_type)
    build = role.examples
    if build is None:
        raise RoleError(f"there are no inputs for a {model_type}: only for networks")
    if chosen not in SETS:
        raise RoleError(f"there is no set of inputs called {chosen!r}: {', '.join(SETS)}")
    if chosen == BRIEF and role.gallery is not None:
        return role.gallery(shortest)
    return list(build(sample() if speech is None else speech, shortest, chosen == WHOLE))

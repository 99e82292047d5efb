"""Every tap under the modules that it belongs to, in the order of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import Result
from samevoice.reports.words import limit_words


@dataclass(frozen=True)
class Line:
    """A tap as a row of the table; ``depth`` is its place in the tree of modules."""

    tap: TapVerdict
    limit: str
    depth: int = 0
    doubtful: bool = False

    @property
    def verdict(self) -> str:
        if not self.tap.passed:
            return "failed"
        return "doubtful" if self.doubtful else "passed"


@dataclass(frozen=True)
class Branch:
    """A module in the tree, over the taps below it."""

    path: str
    depth: int
    taps: int
    failed: int
    worst: float


def tree(result: Result) -> Iterator[Branch | Line]:
    """Branches and taps in the order of the run: a module that comes back has two branches."""
    doubtful = {tap.key for tap in result.verdict.doubtful}
    limit_of: dict[tuple[str, bool], str] = {}
    lines = []
    for tap in result.taps:
        where = (tap.name, tap.output)
        if where not in limit_of:
            limit_of[where] = limit_words(result.limits, tap)
        lines.append(Line(tap, limit_of[where], doubtful=tap.key in doubtful))
    yield from _branches([(line.tap.name.split("."), line) for line in lines], 0, 0)


Placed: TypeAlias = tuple[list[str], Line]


def _branches(placed: Sequence[Placed], taken: int, depth: int) -> Iterator[Branch | Line]:
    """``taken`` parts of the names are said by the branches above."""

    def part(one: Placed) -> str:
        return one[0][taken] if len(one[0]) > taken else ""

    for name, found in groupby(placed, part):
        group = list(found)
        shared = _shared([parts for parts, _ in group]) if name else 0
        if len(group) == 1 or shared <= taken or depth >= 12:
            for _, line in group:
                yield Line(line.tap, line.limit, depth, line.doubtful)
            continue
        yield _branch(group, shared, depth)
        yield from _branches(group, shared, depth + 1)


def _shared(names: Sequence[list[str]]) -> int:
    """How many first parts all names have in common."""
    first, last = min(names), max(names)
    same = (k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return next(same, min(len(first), len(last)))


def _branch(group: Sequence[Placed], shared: int, depth: int) -> Branch:
    taps = [line.tap for _, line in group]
    failed = sum(not tap.passed for tap in taps)
    worst = max(tap.judged_ratio for tap in taps)
    return Branch(".".join(group[0][0][:shared]), depth, len(taps), failed, worst)

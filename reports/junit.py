"""JUnit XML, as every CI reads it: suites of cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from samevoice.reports.rendering import rendered

Fault = Literal["failure", "error"]


@dataclass(frozen=True)
class Case:
    """``why``: the reasons for which it fails, if it does."""

    name: str
    why: tuple[str, ...] = ()
    figures: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Suite:
    """``kind``: of all cases. ``fault``: a case that fails is wrong, or has no answer."""

    name: str
    kind: str
    command: str
    properties: Sequence[tuple[str, object]]
    cases: Sequence[Case]
    fault: Fault = "failure"

    def count(self, fault: Fault) -> int:
        return sum(bool(one.why) for one in self.cases) if fault == self.fault else 0


def suites_of(suites: Iterable[Suite]) -> str:
    return rendered("junit.xml", suites=list(suites))

"""What few bits or the fast mode cost over a corpus: the evaluations that a release needs.

The limits of a comparison with PyTorch rest on a few recordings. An embedding that passes them in
16 bits can still mix up the voices of another recording, so these releases must show a corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samevoice.evaluation.gate import Evaluated, Limit, answers
from samevoice.parity import roles
from samevoice.release.parts import Part

EXACT = "float32"
# A quarter of the 2 points that `parity --fast` allows on its few recordings.
LIMIT = Limit("der_increase", 0.5)
# What goes wrong in one recording of seven is among so many in 95 of 100 cases.
FEWEST = 20
EVALUATION = "evaluation.json"
EVALUATIONS = "evaluations"  # of the provenance


@dataclass(frozen=True)
class Claim:
    """What a release says of itself, and where it shows the corpus; ``says`` is a clause."""

    says: str
    fast: bool
    file: str  # below parity/

    def is_about(self, offered: Part, found: Evaluated) -> bool:
        """Whether B is what is offered; a network alone is heard in a pipeline that holds it."""
        made_of = found.made_of[-1]
        names = [made_of.get("fingerprint"), *dict(made_of.get("parts", {})).values()]
        return (
            len(found.made_of) == 2
            and offered.fingerprint in names
            and bool(made_of.get("fast")) == self.fast
        )


def claims(parts: Sequence[Part], fast: bool) -> Iterator[Claim]:
    """``parts``: all that is offered, the whole last."""
    coarse = [x for x in parts if not x.is_pipeline and x.dtype != EXACT and _is_heard(x)]
    if coarse:
        yield Claim(f"the {coarse[0].label} is {coarse[0].dtype}", False, EVALUATION)
    if fast:
        yield Claim("the card offers --fast", True, "evaluation-fast.json")


def _is_heard(part: Part) -> bool:
    return roles.named(part.kind).needs_corpus


def chosen(
    claim: Claim, offered: Part, given: Iterable[tuple[Path, Evaluated]]
) -> tuple[Path, Evaluated] | None:
    """The evaluation of just this; of several the first."""
    return next((one for one in given if claim.is_about(offered, one[1])), None)


def fault(found: Evaluated) -> str:
    """Why an evaluation does not show that B may stand for the exact A, or ""."""
    a, b = found.made_of
    if not found.referenced:
        return "has no references, so that nobody knows which of the two is right"
    if (
        a.get("kind") != "bundle"
        or a.get("dtype") != EXACT
        or a.get("fast")
        or str(a.get("device")).endswith("-tf32")
    ):
        return f"is against an A that is not exact ({_said(a)})"
    if not a.get("origin") or a.get("origin") != b.get("origin"):
        return "is against an A of another source, or with other settings"
    if found.failed:
        return f"lacks recordings that failed, first {found.failed[0]!r:.80}"
    if (count := len(found.rows)) < FEWEST:
        return f"has {count} recordings, which are not enough to say: at least {FEWEST} would be"
    (answer,) = answers(found, [LIMIT])
    return "" if answer.kept else f"says no: {answer.sentence}"


def _said(made_of: Mapping[str, Any]) -> str:
    words = [str(made_of.get("dtype", "no bundle")), str(made_of.get("device", ""))]
    return ", ".join([*filter(None, words), *["fast"] * bool(made_of.get("fast"))])


def summary(found: Evaluated) -> dict[str, Any]:
    """Which corpus it was, and what came out: for the provenance."""
    figure = found.figure(LIMIT.name)
    return {
        "corpus": str(found.corpus["name"]),
        "sha256": str(found.corpus["sha256"]),
        "recordings": len(found.rows),
        LIMIT.name: figure.as_dict(),
    }


def sentence(found: Evaluated) -> str:
    (answer,) = answers(found, [LIMIT])
    said = summary(found)
    where = f"{said['recordings']} recordings of {said['corpus']}"
    return f"{answer.sentence}, on {where}, corpus sha256 {said['sha256']}"


def without_paths(said: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation.json as others may have it: a recording's name, not where it lay."""
    rows = [{**row, "audio": Path(row["audio"]).name} for row in said["recordings"]]
    return {**said, "recordings": rows}

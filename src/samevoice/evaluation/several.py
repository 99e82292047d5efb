"""Several evaluations side by side: a line a system and corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samevoice.evaluation.evaluated import Evaluation
from samevoice.evaluation.scores import JACCARD, STRICT
from samevoice.evaluation.shown import rate

HEADS = ("DER", "JER", "speakers right", "real time", "memory")


@dataclass(frozen=True)
class Line:
    """``said``: what evaluation.json says of the system."""

    corpus: str
    system: str
    recordings: int
    said: Mapping[str, Any]

    @property
    def cells(self) -> list[str]:
        """Under ``HEADS``; empty where nothing is known."""
        one = self.said
        rates = [rate(one[name]["micro"]) if name in one else "" for name in (STRICT, JACCARD)]
        right = f"{one['speakers_right']} of {one['recordings']}" if STRICT in one else ""
        factor, peak = one["real_time_factor"], one["peak_memory"]
        return [
            *rates,
            right,
            "" if factor is None else f"{factor:.3f}",
            "" if peak is None else f"{peak / 1e9:.2f} GB",
        ]


def lines(found: Sequence[Evaluation]) -> list[Line]:
    """Corpora together, in the order given; what two evaluations say alike stands there once."""
    kept: list[Line] = []
    for made in sorted(found, key=lambda one: _first(found, one.corpus.name)):
        for system, said in zip(made.systems, made.by_system, strict=True):
            line = Line(made.corpus.name, system.name, len(made.recordings), said)
            if line not in kept:
                kept.append(line)
    return kept


def _first(found: Sequence[Evaluation], corpus: str) -> int:
    return [one.corpus.name for one in found].index(corpus)


def differing(found: Sequence[Evaluation]) -> list[str]:
    """Corpora of which not all evaluations scored the same: their lines cannot be compared."""
    scored: dict[str, set[str]] = {}
    for made in found:
        scored.setdefault(made.corpus.name, set()).add(made.about["sha256"])
    return [name for name, kinds in scored.items() if len(kinds) > 1]


def headline(found: Sequence[Evaluation]) -> str:
    """How many systems there are, and on what."""
    every = lines(found)
    corpora = {line.corpus for line in every}
    systems = "1 system" if len(every) == 1 else f"{len(every)} systems"
    return f"{systems} on {every[0].corpus if len(corpora) == 1 else f'{len(corpora)} corpora'}"


def best(found: Sequence[Evaluation]) -> list[str]:
    """Of each corpus the system with the lowest DER, in a sentence."""
    by_corpus: dict[str, list[Line]] = {}
    for line in lines(found):
        if STRICT in line.said and line.corpus not in differing(found):
            by_corpus.setdefault(line.corpus, []).append(line)
    said = []
    for corpus, these in by_corpus.items():
        if len(these) > 1:
            one = min(these, key=lambda line: line.said[STRICT]["micro"]["value"])
            der = rate(one.said[STRICT]["micro"])
            said.append(f"{one.system} has the lowest DER on {corpus}: {der}.")
    return said

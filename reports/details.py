"""What a result's task and its free details hold, checked before anybody is shown it.

Details decide nothing and may hold anything: what is not what it should be is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samevoice.parity.result import Result
from samevoice.reports.words import cosine, number, percent

MOST_VOICES = 200  # whose nearest neighbours are listed
# What became of tensors, in the order that it is told.
FATES: Mapping[str, str] = {
    "used": "used",
    "derived": "derived",
    "dropped": "dropped",
    "identity": "without a tensor (layers that do nothing)",
}


def text(value: Any) -> str:
    """Words and numbers as they are; nothing of what else may stand in a free part."""
    return str(value) if isinstance(value, str | int | float) and value is not True else ""


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def items(value: Any) -> list[tuple[str, Any]]:
    return list(mapping(value).items())


def real(value: Any) -> float:
    """A number, or NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def section(result: Result, name: str) -> Mapping[str, Any]:
    return mapping(result.task.get(name))


# The task -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """Something that was compared, or that it was compared with; ``code`` is for hashes, names."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Facts:
    title: str
    facts: tuple[Fact, ...]


# Figures that say something in a line, in words, and how each is written: what is all but 1 must
# not become 1. Tables are drawn instead.
TASK_FIGURES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "decision_agreement": ("frames decided alike", percent),
    "agreement_beyond_noise": ("decided alike, apart from noise", percent),
    "decisions": ("frames", number),
    "flips": ("frames that differ", number),
    "flips_within_noise": ("of these within float32 noise", number),
    "embedding_cosine_min": ("least cosine of a voice with itself", cosine),
    "similarity_gap": ("largest change of a similarity", number),
    "eer_reference": ("equal-error rate of PyTorch", number),
    "eer_candidate": ("equal-error rate of MLX", number),
    "eer_gap": ("difference of the equal-error rates", number),
    "kendall_tau": ("Kendall's tau over all rankings", cosine),
    "neighbour_agreement": ("voices whose ranking is the same", percent),
    "nearest_agreement": ("voices with the same nearest neighbour", percent),
    "noise": ("gaps below this are noise", number),
}


def task_facts(result: Result) -> Iterator[Facts]:
    for title, found in result.task.items():
        facts = []
        for name in (*TASK_FIGURES, *sorted(found.keys() - TASK_FIGURES.keys())):
            if type(found.get(name)) in (int, float):
                words, shown = TASK_FIGURES.get(name, (name.replace("_", " "), number))
                facts.append(Fact(words, shown(real(found[name]))))
        if facts:
            yield Facts(title.replace("_", " ").capitalize(), tuple(facts))


def error_rates(details: Mapping[str, Any]) -> Iterator[float]:
    """The diarization error rates in a whole pipeline's result."""
    for one in mapping(details.get("diarization")).values():
        rate = real(mapping(one).get("der"))
        if not math.isnan(rate):
            yield rate


def flip_lines(result: Result) -> Iterator[dict[str, Any]]:
    """Each frame on which the two frameworks differ."""
    names = class_names(result)

    def named(value: Any) -> str:
        return names.get(value, str(value)) if type(value) is int else text(value)

    for one in map(mapping, sequence(section(result, "agreement").get("flips_listed"))):
        if one:
            yield {
                "place": ", ".join(text(k) for k in sequence(one.get("index"))),
                "reference": named(one.get("reference")),
                "candidate": named(one.get("candidate")),
                "margin": real(one.get("margin")),
                "within_noise": one.get("within_noise") is True,
            }


def class_names(result: Result) -> dict[Any, str]:
    """Class -> its name, where the timelines' classes are those that were counted."""
    lines = list(mapping(result.details.get("timelines")).values())
    names = [text(x) for x in sequence(mapping(lines[0] if lines else None).get("classes"))]
    counted = sequence(section(result, "agreement").get("confusion"))
    return dict(enumerate(names)) if len(names) == len(counted) else {}


def nearest(result: Result) -> Iterator[dict[str, Any]]:
    """Each voice's nearest neighbour, where the similarity matrices are what they should be."""
    found, noise = section(result, "similarity"), section(result, "ranking").get("noise")
    sides = [_matrix(found.get(side)) for side in ("reference", "candidate")]
    size = len(sides[0])
    if size < 2 or size != len(sides[1]) or size > MOST_VOICES:
        return
    voices = [text(one) for one in sequence(result.details.get("voices"))]
    names = [f"{k}: {voices[k]}" if len(voices) == size else str(k) for k in range(size)]
    for k in range(size):
        others = [j for j in range(size) if j != k]
        ours, theirs = (max(others, key=lambda j: _low(table[k][j])) for table in sides)
        gap = _low(sides[0][k][ours]) - _low(sides[0][k][theirs])
        yield {
            "voice": names[k],
            "reference": names[ours],
            "reference_similarity": sides[0][k][ours],
            "candidate": names[theirs],
            "candidate_similarity": sides[1][k][theirs],
            "same": ours == theirs or gap <= (real(noise) if real(noise) > 0 else 0.0),
        }


def _matrix(found: Any) -> list[list[float]]:
    """A square table of numbers, or nothing."""
    rows = [[real(x) for x in sequence(row)] for row in sequence(found)]
    return rows if all(len(row) == len(rows) for row in rows) else []


def _low(value: float) -> float:
    return -math.inf if math.isnan(value) else value


# Tensors and bugs ---------------------------------------------------------------------------------


def tensors(found: Any) -> dict[str, Any] | None:
    """What became of the checkpoint's tensors; nothing where that is not what it should be."""
    told = mapping(found)
    counts = {str(k): v for k, v in items(told.get("counts")) if type(v) is int}
    if not counts:
        return None
    fates = [
        *(fate for fate in FATES if fate in counts),
        *(fate for fate in counts if fate not in FATES),
    ]
    derived = [[text(x) for x in row] for row in sequence(told.get("derived")) if sequence(row)]
    dropped = [mapping(one) for one in sequence(told.get("dropped"))]
    return {
        "said": ", ".join(f"{counts[fate]:,} {FATES.get(fate, fate)}" for fate in fates),
        "derived": [row for row in derived if len(row) == 3],
        "dropped": [
            {"why": text(one.get("why")), "names": [text(x) for x in sequence(one.get("names"))]}
            for one in dropped
            if one
        ],
        "assumed": [text(note) for note in sequence(told.get("assumed"))],
    }


def bug_lines(found: Any) -> Iterator[dict[str, Any]]:
    """Each bug that was put in, and whether the harness found it."""
    for one in map(mapping, sequence(found)):
        if text(one.get("bug")):
            yield {
                **{key: text(one.get(key)) for key in ("bug", "effect", "where", "found")},
                "noise_ratio": real(one.get("noise_ratio")),
                "right": one.get("right") is True,
            }

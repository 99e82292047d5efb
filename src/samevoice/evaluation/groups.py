"""Recordings of one kind: by how many speak in the reference, and by how much at the same time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from samevoice.evaluation.corpus import Regions
from samevoice.models.diarization.output import Turns

FEWEST = 5  # recordings of a group with figures of its own
# Each from its first bound up to its second, which is not in it.
SPEAKERS = {"1": (1, 2), "2": (2, 3), "3-4": (3, 5), "5+": (5, math.inf)}
OVERLAP = {"0-5 %": (0.0, 0.05), "5-15 %": (0.05, 0.15), "15 %+": (0.15, math.inf)}
Bounds = Mapping[str, tuple[float, float]]


def places(values: Sequence[float], bounds: Bounds) -> Iterable[tuple[str, list[int]]]:
    """Each group that has enough recordings, and which these are."""
    for name, (least, most) in bounds.items():
        found = [at for at, value in enumerate(values) if least <= value < most]
        if len(found) >= FEWEST:
            yield name, found


def overlap(reference: Turns, scored: Regions) -> float:
    """Of the speech where it is scored, the share in which two or more speak."""
    speech = several = before = 0.0
    talking: Counter[str] = Counter()
    turns = (turn for start, end in scored for turn in reference.crop(start, end).spans)
    edges = (edge for start, end, who in turns for edge in ((start, 1, who), (end, -1, who)))
    for time, step, who in sorted(edges):
        speech += (time - before) * (len(talking) > 0)
        several += (time - before) * (len(talking) > 1)
        before = time
        talking[who] += step
        if not talking[who]:
            del talking[who]
    return several / speech if speech else 0.0

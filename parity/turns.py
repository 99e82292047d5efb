"""Who spoke when, on two sides: the diarization error rate, in numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Turn: TypeAlias = tuple[float, float, str]  # start and end in seconds, who


@dataclass(frozen=True)
class Errors:
    """Seconds that two diarizations disagree about, of how many."""

    wrong: float = 0.0
    total: float = 0.0

    @property
    def rate(self) -> float:
        """The diarization error rate; speech where there is none counts in full."""
        return self.wrong / self.total if self.total else float(self.wrong > 0)

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.wrong + other.wrong, self.total + other.total)


def errors(reference: Sequence[Turn], hypothesis: Sequence[Turn]) -> Errors:
    """pyannote.metrics' DER without a collar, overlaps included, without needing it.

    Labels are paired so that as many seconds as possible agree.
    """
    from scipy.optimize import linear_sum_assignment

    edges = np.unique(
        [time for turns in (reference, hypothesis) for turn in turns for time in turn[:2]]
    )
    if len(edges) < 2:
        return Errors()
    lengths = np.diff(edges)
    theirs, ours = (_active(turns, edges) for turns in (reference, hypothesis))
    rows, columns = linear_sum_assignment((theirs * lengths) @ ours.T, maximize=True)
    agreed = (theirs[rows] * ours[columns]).sum(axis=0)  # voices, so that equal turns give zero
    spoken, said = theirs.sum(axis=0), ours.sum(axis=0)
    wrong = np.maximum(spoken, said) - agreed
    return Errors(float(wrong @ lengths), float(spoken @ lengths))


def _active(turns: Sequence[Turn], edges: np.ndarray) -> np.ndarray:
    """(speakers, intervals): who speaks between one edge and the next."""
    labels = list(dict.fromkeys(who for *_, who in turns))
    found = np.zeros((len(labels), len(edges) - 1))
    for start, end, who in turns:
        found[labels.index(who), np.searchsorted(edges, start) : np.searchsorted(edges, end)] = 1.0
    return found

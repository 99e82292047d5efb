"""Figures over many recordings, and how sure they are.

A rate has two means. Micro: all errors over all speech, so that long recordings count for more.
Macro: the mean of the recordings' rates. How sure both are, the bootstrap says: the recordings are
drawn again, with replacement, and the middle 95 % of what comes out is the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samevoice.evaluation.scores import JACCARD, LENIENT, STRICT, Jaccard, Score, Scores

RESAMPLINGS, SEED, LEVEL = 2000, 0, 0.95


@dataclass(frozen=True)
class Figure:
    """A value and its interval, which one recording alone does not have."""

    value: float
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Rates:
    """Of each recording: ``wrong`` of ``total``, and the rate that these come to alone.

    ``empty``: the rate where there is no total: None where it depends on whether all was right.
    """

    wrong: np.ndarray  # (R,)
    total: np.ndarray  # (R,)
    empty: float | None = None

    @classmethod
    def of_scores(cls, scores: Sequence[Score]) -> Rates:
        return cls(np.array([x.wrong for x in scores]), np.array([x.total for x in scores]))

    @classmethod
    def of_jaccards(cls, found: Sequence[Jaccard]) -> Rates:
        errors, speakers = [x.error for x in found], [x.speakers for x in found]
        return cls(np.array(errors, dtype=float), np.array(speakers, dtype=float), 1.0)

    @property
    def columns(self) -> np.ndarray:
        """(R, 3): what is summed to get both means."""
        rates = self._rate(self.wrong, self.total)
        return np.stack([self.wrong, self.total, rates], axis=1)

    def means(self, sums: np.ndarray, count: int) -> np.ndarray:
        """(..., 3) -> (..., 2): micro and macro from sums over so many recordings."""
        return np.stack([self._rate(sums[..., 0], sums[..., 1]), sums[..., 2] / count], axis=-1)

    def _rate(self, wrong: np.ndarray, total: np.ndarray) -> np.ndarray:
        alone = wrong > 0 if self.empty is None else np.full(np.shape(wrong), self.empty)
        return np.where(total > 0, wrong / np.where(total > 0, total, 1.0), alone)


def rates_of(scores: Sequence[Scores]) -> dict[str, Rates]:
    """By every measure."""
    return {
        STRICT: Rates.of_scores([one.strict for one in scores]),
        LENIENT: Rates.of_scores([one.lenient for one in scores]),
        JACCARD: Rates.of_jaccards([one.jaccard for one in scores]),
    }


def resampled(columns: np.ndarray) -> np.ndarray:
    """(R, C) -> (RESAMPLINGS, C): sums over recordings that are drawn with replacement.

    The same draws for every figure of as many recordings, so that pairs stay pairs.
    """
    random, count = np.random.default_rng(SEED), len(columns)
    drawn = (random.integers(count, size=count) for _ in range(RESAMPLINGS))
    return np.array([np.bincount(one, minlength=count) @ columns for one in drawn])


def means(rates: Rates) -> tuple[Figure, Figure]:
    """Micro and macro."""
    columns = rates.columns
    values = rates.means(columns.sum(axis=0), len(columns))
    return _figures(values, rates.means(resampled(columns), len(columns)), len(columns))


def changes(before: Rates, after: Rates) -> tuple[Figure, Figure]:
    """The difference of both means, recording by recording: ``after`` less ``before``."""
    count = len(before.total)
    was, becomes = before.columns, after.columns
    old = before.means(was.sum(axis=0), count), before.means(resampled(was), count)
    new = after.means(becomes.sum(axis=0), count), after.means(resampled(becomes), count)
    return _figures(new[0] - old[0], new[1] - old[1], count)


def _figures(values: np.ndarray, drawn: np.ndarray, count: int) -> tuple[Figure, Figure]:
    if count < 2:
        micro, macro = (Figure(float(value)) for value in values)
        return micro, macro
    outside = 100 * (1 - LEVEL) / 2
    ends = np.percentile(drawn, [outside, 100 - outside], axis=0)
    micro, macro = (
        Figure(float(value), float(low), float(high))
        for value, low, high in zip(values, *ends, strict=True)
    )
    return micro, macro

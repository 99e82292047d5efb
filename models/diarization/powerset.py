"""Frames of scores into frames of speakers: by powerset classes, or each label by a threshold.

A powerset has one class a set of speakers, from nobody to the largest set.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np


def size(speakers: int, largest: int, most: int) -> int:
    """How many classes there are; counted no further than beyond ``most``."""
    found = 0
    for held in range(min(speakers, largest) + 1):
        found += comb(speakers, held)
        if found > most:
            break
    return found


def mapping(speakers: int, largest: int) -> np.ndarray:
    """(K, S) in float32: which speakers a class holds; small sets first, in order."""
    sets = [one for size in range(largest + 1) for one in combinations(range(speakers), size)]
    table = np.zeros((len(sets), speakers), dtype=np.float32)
    for row, one in enumerate(sets):
        table[row, list(one)] = 1
    return table


def decode(scores: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(..., K), (K, S) -> (..., S): the speakers of the best class; of equal ones the first."""
    # No softmax: it keeps the order, but rounding may make two scores equal.
    found: np.ndarray = table[scores.argmax(axis=-1)]
    return found


def above(scores: np.ndarray, threshold: float) -> np.ndarray:
    """(..., F, S) -> the same of zeros and ones: who speaks, where each label is decided alone.

    A score that lies on the threshold changes nothing; nobody speaks at first.
    """
    frames = np.arange(scores.shape[-2])[:, None]
    last = np.maximum.accumulate(np.where(scores == threshold, -1, frames), axis=-2)
    speaks = np.take_along_axis(scores > threshold, np.maximum(last, 0), axis=-2) & (last >= 0)
    return speaks.astype(np.float32)

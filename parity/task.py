"""What the figures mean for the task: who sounds like whom, and who speaks when.

Both sides here are what people use: the reference in float32 and the port. The truth only says how
much of a difference is noise.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from samevoice.errors import SamevoiceError
from samevoice.parity.metrics import (
    FLOAT32_ROUNDOFF,
    FLOAT32_TINY,
    Array,
    Floats,
    Pair,
    ShapeMismatchError,
    as_float64,
    row_cosines,
)

# A similarity is the sum of two rounded unit vectors' products: each adds one rounding.
SIMILARITY_ROUNDING = 2 * FLOAT32_ROUNDOFF
LISTED = 100  # flips that a result names

Classes: TypeAlias = npt.NDArray[np.int64]


class TaskError(SamevoiceError):
    """A task figure that is not defined for these arrays."""


def columns(rows: Iterable[Sequence[Array]]) -> list[Array]:
    """Rows of (..., D) arrays -> each column as one (N, D)."""
    flat = ([x.reshape(-1, x.shape[-1]) for x in row] for row in rows)
    try:
        return [np.concatenate(column) for column in zip(*flat, strict=True)]
    except ValueError as error:  # one network gives embeddings of one size
        raise ShapeMismatchError(str(error)) from None


# Embeddings ---------------------------------------------------------------------------------------


def similarity(embeddings: npt.ArrayLike) -> Floats:
    """(N, D) -> (N, N): cosine of every two; NaN in the row and column of one that is not finite.

    As in metrics.py two zero embeddings have 1, a zero one and another have 0.
    """
    rows = as_float64(embeddings)
    if rows.ndim != 2:
        raise TaskError(f"embeddings must be (N, D), not {rows.shape}")
    if rows.shape[1] == 0:
        return np.ones((len(rows), len(rows)))
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    largest = np.abs(np.where(finite[:, None], rows, 0.0)).max(axis=1, keepdims=True, initial=0.0)
    scaled = np.where(finite[:, None], rows, 0.0) / np.where(largest == 0.0, 1.0, largest)
    norms = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    sizes: Floats = norms.ravel() * largest.ravel()
    zero = sizes < FLOAT32_TINY
    unit = np.where(zero[:, None], 0.0, scaled / np.where(norms == 0.0, 1.0, norms))
    table: Floats = np.clip(unit @ unit.T, -1.0, 1.0)
    table[np.ix_(zero, zero)] = 1.0
    np.fill_diagonal(table, 1.0)
    table[~finite, :] = math.nan
    table[:, ~finite] = math.nan
    return table


def concordance(x: npt.ArrayLike, y: npt.ArrayLike, noise: float = 0.0) -> Classes:
    """(N,), (N,) -> how many pairs are ordered alike, oppositely, and on one side only.

    A pair that lies no more than ``noise`` apart on both sides is a tie and is left out. One that
    either side can tell apart counts: an exact tie on the other side is "one-sided", so that a
    ranking that has collapsed to one value never passes for the same. O(N^2) time, O(N) memory.
    """
    pair = Pair(x, y)
    if pair.truth.ndim != 1:
        raise ShapeMismatchError(f"rankings must be (N,), not {pair.truth.shape}")
    if not pair.finite or not math.isfinite(noise):
        raise TaskError("a ranking of NaN or infinite values is not defined")
    counted = np.zeros(3, dtype=np.int64)
    for k in range(len(pair.truth) - 1):
        dx, dy = pair.truth[k + 1 :] - pair.truth[k], pair.got[k + 1 :] - pair.got[k]
        apart = (np.abs(dx) > noise) | (np.abs(dy) > noise)
        agreed = (np.sign(dx) * np.sign(dy))[apart]
        counted += [np.sum(agreed > 0), np.sum(agreed < 0), np.sum(agreed == 0)]
    return counted


def kendall_tau(counted: Classes) -> float:
    """Of a concordance; without ties this is the textbook's.

    1 exactly if every pair that can be told apart is ordered alike, or there is none.
    """
    alike, opposite, one_sided = counted.tolist()
    pairs = alike + opposite + one_sided
    return float((alike - opposite) / pairs) if pairs else 1.0


@dataclass(frozen=True, eq=False)
class EmbeddingComparison:
    """Two sets of embeddings of the same voices, (N, D) each."""

    reference: Floats
    candidate: Floats
    noise: float
    labels: tuple[Hashable, ...] | None = None
    lost: float = 0.0  # of the reference's cosines to the truth, at most

    @cached_property
    def similarity_reference(self) -> Floats:
        return similarity(self.reference)

    @cached_property
    def similarity_candidate(self) -> Floats:
        return similarity(self.candidate)

    @property
    def similarity_gap(self) -> float:
        """The most that any two voices moved towards or away from each other."""
        return Pair(self.similarity_reference, self.similarity_candidate).max_abs

    @cached_property
    def cosines(self) -> Floats:
        """(N,): each embedding against itself in the other framework."""
        return row_cosines(self.reference, self.candidate)

    @property
    def embedding_cosine_min(self) -> float:
        return float(self.cosines.min(initial=1.0))

    @cached_property
    def rankings(self) -> tuple[Classes, ...] | None:
        """For each voice, the order of all others by similarity; None if not finite."""
        x, y = self.similarity_reference, self.similarity_candidate
        if not Pair(x, y).finite:
            return None
        others = ~np.eye(len(x), dtype=bool)
        return tuple(
            concordance(x[k, others[k]], y[k, others[k]], self.noise) for k in range(len(x))
        )

    @property
    def kendall_tau(self) -> float:
        """Over all voices' rankings together: 1 exactly if no ranking changed beyond the noise."""
        if self.rankings is None:
            return -math.inf
        return kendall_tau(sum(self.rankings, np.zeros(3, dtype=np.int64)))

    @property
    def neighbour_agreement(self) -> float:
        """Share of voices whose whole ranking is the same beyond the noise."""
        if self.rankings is None:
            return -math.inf
        same = [kendall_tau(one) == 1.0 for one in self.rankings]
        return sum(same) / len(same) if same else 1.0

    @property
    def nearest_agreement(self) -> float:
        """Share of voices with the same nearest neighbour, or one that lies within the noise."""
        if self.rankings is None:
            return -math.inf
        x, y = self.similarity_reference.copy(), self.similarity_candidate.copy()
        if len(x) < 2:
            return 1.0
        np.fill_diagonal(x, -math.inf)
        np.fill_diagonal(y, -math.inf)
        chosen = np.take_along_axis(x, y.argmax(axis=1)[:, None], axis=1)[:, 0]
        return float(np.mean(x.max(axis=1) - chosen <= self.noise))

    def error_rates(self) -> tuple[float, float] | None:
        """Equal-error rates of reference and candidate; None without labels of both kinds."""
        if self.labels is None or not 1 < len(set(self.labels)) < len(self.labels):
            return None
        sides = (self.similarity_reference, self.similarity_candidate)
        reference, candidate = (equal_error_rate(*labelled_pairs(x, self.labels)) for x in sides)
        return reference, candidate

    def sections(self) -> dict[str, dict[str, Any]]:
        """The result's task sections: limited figures, and what reports draw."""
        found: dict[str, dict[str, Any]] = {
            "similarity": {
                "embedding_cosine_min": self.embedding_cosine_min,
                "embedding_cosine_noise": self.lost,
                "embedding_cosines": self.cosines.tolist(),
                "similarity_gap": self.similarity_gap,
                "reference": self.similarity_reference.tolist(),
                "candidate": self.similarity_candidate.tolist(),
            },
            "ranking": {
                "kendall_tau": self.kendall_tau,
                "neighbour_agreement": self.neighbour_agreement,
                "nearest_agreement": self.nearest_agreement,
                "noise": self.noise,
            },
        }
        if rates := self.error_rates():
            found["similarity"] |= {
                "eer_reference": rates[0],
                "eer_candidate": rates[1],
                "eer_gap": abs(rates[0] - rates[1]) if all(map(math.isfinite, rates)) else math.inf,
            }
        return found


def compare_embeddings(
    reference: npt.ArrayLike,
    candidate: npt.ArrayLike,
    *,
    truth: npt.ArrayLike | None = None,
    labels: Sequence[Hashable] | None = None,
) -> EmbeddingComparison:
    """(N, D) of each framework -> similarity, ranking and error rates.

    Similarities closer than the noise are ties. It is four times the largest error of the
    reference's similarities against the truth's: two similarities on two sides, each off by as
    much. Without a truth it is the rounding of float32 alone.
    """
    pair = Pair(reference, candidate)
    if pair.truth.ndim != 2:
        raise TaskError(f"embeddings must be (N, D), not {pair.truth.shape}")
    if labels is not None and len(labels) != len(pair.truth):
        raise TaskError(f"{len(labels)} labels for {len(pair.truth)} embeddings")
    noise = similarity_noise(pair.truth, truth)
    near = 1.0 if truth is None else float(row_cosines(pair.truth, truth).min(initial=1.0))
    lost = 1 - near if math.isfinite(near) else 0.0
    named = None if labels is None else tuple(labels)
    return EmbeddingComparison(pair.truth, pair.got, noise, named, lost)


def similarity_noise(reference: npt.ArrayLike, truth: npt.ArrayLike | None = None) -> float:
    """How close two similarities may be before float32 cannot order them."""
    measured = 0.0
    if truth is not None:
        Pair(truth, reference)  # shapes never broadcast
        measured = Pair(similarity(truth), similarity(reference)).max_abs
    error = max(measured, SIMILARITY_ROUNDING)
    return 4 * error if math.isfinite(error) else 4 * SIMILARITY_ROUNDING


def labelled_pairs(
    table: Floats, labels: Sequence[Hashable]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(N, N), N labels -> scores of all unordered pairs, and whether both are one speaker."""
    first, second = np.triu_indices(len(labels), k=1)
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    same = [labels[a] == labels[b] for a, b in pairs]
    return table[first, second], np.array(same, dtype=bool)


def equal_error_rate(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """Where as many impostors are accepted as speakers are refused; infinite if not finite.

    A pair is accepted if its score reaches the threshold, so equal scores are decided alike. The
    curves are taken as straight between the two thresholds where they cross.
    """
    values, target = as_float64(scores), np.asarray(same, dtype=bool)
    if values.ndim != 1 or values.shape != target.shape:
        raise ShapeMismatchError(f"{values.shape} scores for {target.shape} pairs")
    if target.all() or not target.any():
        raise TaskError("an equal-error rate needs pairs of one speaker and pairs of two")
    if not np.isfinite(values).all():
        return math.inf
    thresholds = np.append(np.unique(values), math.inf)
    speakers, impostors = np.sort(values[target]), np.sort(values[~target])
    refused = np.searchsorted(speakers, thresholds, side="left") / len(speakers)
    accepted = 1.0 - np.searchsorted(impostors, thresholds, side="left") / len(impostors)
    k = int(np.argmax(refused >= accepted))  # at the lowest threshold nothing is refused
    gap, before = refused[k] - accepted[k], accepted[k - 1] - refused[k - 1]
    part = before / (before + gap)
    return float(refused[k - 1] + part * (refused[k] - refused[k - 1]))


# Decisions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flip:
    """A place where the two frameworks decide otherwise."""

    index: tuple[int, ...]
    reference: int
    candidate: int
    margin: float  # how far the reference was from deciding otherwise
    within_noise: bool


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions of both frameworks: classes of a powerset, or 0 and 1 under a threshold."""

    reference: Classes
    candidate: Classes
    classes: int
    noise: float
    flips: tuple[Flip, ...] = ()
    near: int = 0  # so close that the noise could turn them
    finite: bool = True

    @property
    def agreement(self) -> float:
        """Share of equal decisions; flips within the noise are flips."""
        return self._share(len(self.flips))

    @property
    def agreement_beyond_noise(self) -> float:
        """The same, with the flips forgiven that float32 cannot decide."""
        return self._share(sum(not flip.within_noise for flip in self.flips))

    def _share(self, wrong: int) -> float:
        if not self.finite:
            return -math.inf
        return 1.0 - wrong / self.reference.size if self.reference.size else 1.0

    @property
    def confusion(self) -> Classes:
        """(K, K): how often the reference said the row and the candidate the column."""
        joint = self.reference.ravel() * self.classes + self.candidate.ravel()
        counts = np.bincount(joint, minlength=self.classes**2).astype(np.int64)
        return counts.reshape(self.classes, self.classes)

    def sections(self) -> dict[str, dict[str, Any]]:
        """The result's task section; of the flips the first hundred, and how many there are."""
        flips = [{**vars(flip), "index": list(flip.index)} for flip in self.flips[:LISTED]]
        return {
            "agreement": {
                "decision_agreement": self.agreement,
                "agreement_beyond_noise": self.agreement_beyond_noise,
                "decisions": int(self.reference.size),
                "flips": len(self.flips),
                "flips_within_noise": sum(flip.within_noise for flip in self.flips),
                "flips_listed": flips,
                "confusion": self.confusion.tolist(),
                "noise": self.noise,
            }
        }


def compare_decisions(
    reference: npt.ArrayLike,
    candidate: npt.ArrayLike,
    *,
    threshold: float | None = None,
    truth: npt.ArrayLike | None = None,
) -> Decisions:
    """(..., K) scores of each framework -> decisions and flips.

    Without a threshold each row of K decides for its largest (powerset), of equals for the first;
    with one each element decides alone whether it is above. The noise is four times the
    reference's largest error against the truth, and without a truth zero: two scores on two sides,
    each off by as much.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise TaskError(f"a threshold of {threshold} decides nothing")
    pair = Pair(reference, candidate)
    error = 0.0 if truth is None else Pair(truth, pair.truth).max_abs
    noise = 4 * error if math.isfinite(error) else 0.0
    if not pair.finite:
        empty = np.zeros(0, dtype=np.int64)
        return Decisions(empty, empty, 0, noise, finite=False)
    classes = 2 if threshold is not None else _width(pair.truth)
    chosen, other = _decided(pair.truth, threshold), _decided(pair.got, threshold)
    margins = _margins(pair.truth, threshold)
    near = int(np.count_nonzero(margins <= noise))
    return Decisions(chosen, other, classes, noise, _flips(chosen, other, margins, noise), near)


def _width(scores: Floats) -> int:
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise TaskError(f"decisions need (..., K) with at least one class, not {scores.shape}")
    return int(scores.shape[-1])


def _decided(scores: Floats, threshold: float | None) -> Classes:
    """(..., K) -> (...) best classes, or (..., K) of 0 and 1."""
    if threshold is None:
        return np.asarray(scores.argmax(axis=-1), dtype=np.int64)
    return np.asarray(scores > threshold, dtype=np.int64)


def _margins(scores: Floats, threshold: float | None) -> Floats:
    """How far each decision is from another; infinite where there is only one class."""
    if threshold is not None:
        return np.abs(scores - threshold)
    if scores.shape[-1] == 1:
        return np.full(scores.shape[:-1], math.inf)
    top = np.partition(scores, -2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2])


def _flips(reference: Array, candidate: Array, margins: Floats, noise: float) -> tuple[Flip, ...]:
    return tuple(
        Flip(
            tuple(int(i) for i in at),
            int(reference[tuple(at)]),
            int(candidate[tuple(at)]),
            float(margins[tuple(at)]),
            bool(margins[tuple(at)] <= noise),
        )
        for at in np.argwhere(reference != candidate)
    )

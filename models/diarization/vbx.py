"""Variational Bayes over x-vectors: which of the first clusters are one speaker.

Landini et al., "Bayesian HMM clustering of x-vector sequences (VBx) in speaker diarization", here
without the Markov chain. Everything is float64: rounding may lead to another fixed point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMOOTHING = 7.0
ITERATIONS = 20
EPSILON = 1e-4  # the least that one more iteration must gain
TINY = 1e-8


@dataclass(frozen=True, eq=False)
class Steps:
    """What VBx begins and ends with."""

    ahc: np.ndarray  # (N,): the first clusters
    features: np.ndarray  # (N, D), of the PLDA
    gamma: np.ndarray  # (N, S): how much each embedding belongs to each speaker
    pi: np.ndarray  # (S,): how likely each speaker is
    elbo: np.ndarray  # (iterations,)


def vbx(labels: np.ndarray, features: np.ndarray, phi: np.ndarray, fa: float, fb: float) -> Steps:
    """First clusters (N,), PLDA features (N, D), variances (D,) -> what they end with."""
    first = np.zeros((len(labels), int(labels.max()) + 1))
    first[np.arange(len(labels)), labels] = 1.0
    gamma, _ = _shares(SMOOTHING * first)
    speakers = gamma.shape[1]
    pi = np.ones(speakers) / speakers

    constant = -0.5 * (
        (features**2).sum(axis=1, keepdims=True) + features.shape[1] * np.log(2 * np.pi)
    )
    rho = features * np.sqrt(phi)
    scale = fa / fb
    elbo: list[float] = []
    for _ in range(ITERATIONS):
        inverse = 1.0 / (1 + scale * gamma.sum(axis=0)[:, None] * phi)  # (S, D)
        alpha = scale * inverse * (gamma.T @ rho)  # (S, D)
        scores = rho @ alpha.T
        scores -= 0.5 * ((inverse + alpha**2) @ phi)
        scores += constant
        scores *= fa
        scores += np.log(pi + TINY)
        gamma, evidence = _shares(scores)
        pi = gamma.sum(axis=0)
        pi = pi / pi.sum()
        prior = (np.log(inverse) - inverse - alpha**2 + 1).sum()
        elbo.append(float(evidence.sum() + 0.5 * fb * prior))
        # A fall ends it, too; the gamma of that last iteration is the one that counts.
        if len(elbo) > 1 and elbo[-1] - elbo[-2] < EPSILON:
            break
    return Steps(labels, features, gamma, pi, np.array(elbo))


def _shares(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, S), overwritten -> (N, S): softmax; (N,): the logarithm of the sum of exponentials."""
    top = scores.max(axis=1, keepdims=True)
    scores -= top
    np.exp(scores, out=scores)
    total = scores.sum(axis=1, keepdims=True)
    scores /= total
    return scores, (np.log(total) + top)[:, 0]

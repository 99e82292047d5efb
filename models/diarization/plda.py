"""The x-vector transform and PLDA: from embeddings to the space in which VBx works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.linalg import LinAlgError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from samevoice.errors import BundleError
from samevoice.files import refuse_special
from samevoice.models import recorded
from samevoice.models.fast.cpu import one_blas_thread

WEIGHTS = "model.safetensors"
NAMES = ("plda.mu", "plda.tr", "plda.psi", "xvec.mean1", "xvec.mean2", "xvec.lda")


@dataclass(frozen=True)
class Plda:
    """Arrays as the checkpoint has them, and two covariances that have eigenvectors in common."""

    mean1: np.ndarray  # (E,)
    mean2: np.ndarray  # (D,)
    lda: np.ndarray  # (E, D)
    mu: np.ndarray  # (D,)
    within: np.ndarray  # (D, D), of one speaker's voices
    between: np.ndarray  # (D, D), of speakers

    @classmethod
    def load(cls, folder: str | Path) -> Plda:
        file = Path(folder) / WEIGHTS
        refuse_special(file, BundleError)
        recorded.check(Path(folder), [WEIGHTS])
        try:
            return cls.of(load_file(file))
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{file} cannot be read: {error}") from error
        except KeyError as error:
            raise BundleError(f"{file} has no tensor {error}: it is no PLDA") from error
        except (LinAlgError, ValueError) as error:
            raise BundleError(f"{file} holds no valid PLDA: {error}") from error

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray]) -> Plda:
        mu, tr, psi, mean1, mean2, lda = (tensors[name] for name in NAMES)
        for name in NAMES:
            if not np.isfinite(tensors[name]).all():
                raise ValueError(f"{name} holds values that are NaN or infinite")
        # Two threads have been seen to take fifty times as long, and so small a matrix rounds
        # otherwise by their number.
        with one_blas_thread():
            within = np.linalg.inv(tr.T @ tr)
            between = np.linalg.inv((tr.T / psi) @ tr)
            if not (np.isfinite(within).all() and np.isfinite(between).all()):
                raise ValueError("its covariances are not finite")
            np.linalg.cholesky(within)  # what the eigenvectors will ask of it
        return cls(mean1, mean2, lda, mu, within, between)

    @property
    def phi(self) -> np.ndarray:
        """(D,): the variance between speakers along each row of ``basis``, falling."""
        return self._spectrum[0]

    @property
    def basis(self) -> np.ndarray:
        """(D, D)."""
        return self._spectrum[1]

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        # By way of within's Cholesky factor, as scipy's eigh goes, whose import takes longer than
        # all of a bundle's loading: the vectors have scipy's signs, and agree to 1e-12.
        with one_blas_thread():
            lower = np.linalg.cholesky(self.within)
            half = np.linalg.solve(lower, self.between)
            values, vectors = np.linalg.eigh(np.linalg.solve(lower, half.T))
            vectors = np.linalg.solve(lower.T, vectors)
        return values[::-1], vectors.T[::-1]

    def whiten(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, E) -> (N, D): centred, normalised, reduced, centred and normalised again."""
        # The raw embeddings: normalised ones are silently wrong here.
        speech, space = self.lda.shape
        centred = np.sqrt(speech) * unit(embeddings - self.mean1)
        reduced: np.ndarray = np.sqrt(space) * unit((self.lda.T @ centred.T).T - self.mean2)
        return reduced

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, E) -> (N, D) in float64."""
        projected: np.ndarray = (self.whiten(embeddings) - self.mu) @ self.basis.T
        return projected


def unit(x: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, D), each row of length 1."""
    normed: np.ndarray = x / np.linalg.norm(x, axis=1)[:, None]
    return normed

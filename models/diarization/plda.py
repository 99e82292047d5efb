"""The x-vector transform and PLDA: from embeddings to the space in which VBx works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.linalg import LinAlgError, eigh

from samevoice.errors import BundleError

WEIGHTS = "model.safetensors"
NAMES = ("plda.mu", "plda.tr", "plda.psi", "xvec.mean1", "xvec.mean2", "xvec.lda")


@dataclass(frozen=True)
class Plda:
    """Arrays as the checkpoint has them, and what the eigenvectors make of them."""

    mean1: np.ndarray  # (E,)
    mean2: np.ndarray  # (D,)
    lda: np.ndarray  # (E, D)
    mu: np.ndarray  # (D,)
    basis: np.ndarray  # (D, D), rows by falling variance between speakers
    phi: np.ndarray  # (D,)

    @classmethod
    def load(cls, folder: str | Path) -> Plda:
        file = Path(folder) / WEIGHTS
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
        within = np.linalg.inv(tr.T @ tr)
        between = np.linalg.inv((tr.T / psi) @ tr)
        values, vectors = eigh(between, within)
        return cls(mean1, mean2, lda, mu, vectors.T[::-1], values[::-1])

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

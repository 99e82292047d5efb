"""A whole pipeline for the tests, whose embedding network is narrow, and somebody who speaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline


@pytest.fixture(scope="session")
def bundle(narrow_bundle: Path) -> Path:
    return narrow_bundle


@pytest.fixture(scope="session")
def pipeline(bundle: Path) -> SpeakerDiarizationPipeline:
    return SpeakerDiarizationPipeline(bundle)


@pytest.fixture(scope="session")
def talk(references: dict[str, Path]) -> np.ndarray:
    """(N,): twelve seconds in which somebody speaks."""
    del references
    from samevoice.converters.reference import sample

    return np.ascontiguousarray(sample()[12 * 16_000 : 24 * 16_000])

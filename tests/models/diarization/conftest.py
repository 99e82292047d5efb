"""Whole pipelines for the tests: the reference one, and one whose embedding network is narrow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import samevoice
from samevoice.models import registry
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline


@pytest.fixture(scope="session")
def reference_bundle(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("pipeline") / "full"
    samevoice.convert(references["full"], target)
    return target


@pytest.fixture(scope="session")
def bundle(reference_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an eighth of the embedding network's channels: a fiftieth of its work."""
    target = tmp_path_factory.mktemp("narrow") / "full"
    shutil.copytree(reference_bundle, target)
    config = json.loads((target / "embedding" / "config.json").read_text()) | {"m_channels": 4}
    mx.random.seed(0)
    network = registry.build(config)
    flat: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    mx.save_safetensors(str(target / "embedding" / "model.safetensors"), dict(flat))
    (target / "embedding" / "config.json").write_text(json.dumps(config))
    return target


@pytest.fixture(scope="session")
def pipeline(bundle: Path) -> SpeakerDiarizationPipeline:
    return SpeakerDiarizationPipeline(bundle)


@pytest.fixture(scope="session")
def talk(references: dict[str, Path]) -> np.ndarray:
    """(N,): twelve seconds in which somebody speaks."""
    del references
    from samevoice.converters.reference import sample

    return np.ascontiguousarray(sample()[12 * 16_000 : 24 * 16_000])

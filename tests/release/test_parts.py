"""What a release is made up of follows from the bundle's config, whatever its parts are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from samevoice.release.parts import PartsError, part_names, strangers, wanted

PARTS: Mapping[str, Mapping[str, str]] = {
    "segmentation": {"model_type": "segmentation", "architecture": "PyanNet"},
    "embedding": {"model_type": "embedding", "architecture": "CAMPPlus"},
    "plda": {"model_type": "plda", "architecture": "PLDA"},
}


def pipeline(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(PARTS[name]))
    config = {
        "model_type": "full",
        "architecture": "SpeakerDiarization",
        "components": list(names),
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_pipeline_may_have_any_embedding_and_no_plda(tmp_path: Path) -> None:
    *parts, whole = wanted(pipeline(tmp_path, "segmentation", "embedding"))
    assert [(part.label, part.architecture) for part in parts] == [
        ("segmentation", "PyanNet"),
        ("embedding", "CAMPPlus"),
    ]
    assert all(part.is_network and part.source == part.name for part in parts)
    assert (whole.label, whole.kind, whole.source) == ("pipeline", "full", "full")
    assert not whole.is_network


def test_data_are_told_by_their_family(tmp_path: Path) -> None:
    part = next(wanted(pipeline(tmp_path, "plda", "segmentation")))
    assert part.is_data
    assert not part.is_network
    assert part.golden is None


def test_only_its_own_parts_may_have_files(tmp_path: Path) -> None:
    pipeline(tmp_path, *PARTS)
    assert strangers(tmp_path) == []
    pipeline(tmp_path, "segmentation", "embedding")
    assert strangers(tmp_path) == ["plda/config.json"]


@pytest.mark.parametrize("name", ["parity", "origin", "pipeline", "golden", "a/b", "a b"])
def test_no_part_stands_where_something_else_does(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"components": [name]}))
    with pytest.raises(PartsError, match="which can be no part"):
        part_names(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "full", "architecture": "PyanNet"},
        {"model_type": "plda", "architecture": "PyanNet"},
        {"model_type": "segmentation", "architecture": "PyanNet", "components": ["embedding"]},
    ],
)
def test_a_config_cannot_choose_what_is_asked_of_it(tmp_path: Path, config: dict[str, Any]) -> None:
    """A network called a pipeline, say, would need no tap."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    *_, whole = wanted(tmp_path)
    with pytest.raises(PartsError, match="says model_type"):
        assert whole.kind

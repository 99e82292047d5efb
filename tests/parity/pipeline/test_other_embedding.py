"""A pipeline around an embedding that pyannote does not know is compared like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import made_up
import numpy as np
import pytest
from made_campplus import CONFIG_YAML, source_of

import samevoice
from samevoice.converters import convert
from samevoice.converters.bundle import WEIGHTS, read_weights
from samevoice.converters.reference import sample
from samevoice.errors import ConversionError
from samevoice.parity.inputs import RATE
from samevoice.parity.originals import campplus
from samevoice.parity.pipeline import compare
from samevoice.parity.pipeline.recordings import Recorded
from samevoice.parity.replay import replay

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pair(
    references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A bundle without a PLDA, and the source that it was made from."""
    import torch

    folder = tmp_path_factory.mktemp("other")
    network = campplus.seeded(init_channels=32, growth_rate=8, bn_size=2, embedding_size=16)
    torch.save(network.state_dict(), folder / "campplus.pt")
    source = source_of(folder / "source", references["segmentation"], folder / "campplus.pt")
    convert.convert(source, folder / "bundle")
    return folder / "bundle", source


def speech() -> list[Recorded]:
    return [Recorded("speech", sample()[16 * RATE : 28 * RATE])]


def test_it_is_green_stage_by_stage(pair: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, source = pair
    made = compare.run(bundle, source, inputs=speech(), device="cpu", output=tmp_path)
    assert made.passed, made.verdict.reasons
    judged = {(tap.name, tap.mode) for tap in made.taps}
    stages = {"masks", "count", "weights", "embeddings", "trained", "hard", "discrete", "turns"}
    assert {(name, "forced") for name in stages - {"embeddings"}} <= judged
    # With other masks, by decisions within float32 noise, the port is given pyannote's.
    alike = made.task["agreement"]["decision_agreement"] == 1.0
    assert ("embeddings", "free" if alike else "forced") in judged
    assert not {"xvectors", "plda", "gamma"} & {name for name, _ in judged}
    assert made.task["diarization"]["der"] == 0.0
    index = json.loads((tmp_path / "golden" / "golden.json").read_text())
    assert [row["name"] for row in index["examples"]] == ["speech"]


@pytest.mark.parametrize("clustering", ["KMeansClustering", "average", "ward"])
def test_other_clusterings_are_green(
    clustering: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """KMeans must be told how many speakers there are: both sides are told two."""
    source = tmp_path / "source"
    shutil.copytree(pair[1], source)
    text = (source / "config.yaml").read_text()
    if clustering == "KMeansClustering":
        text = text.replace("AgglomerativeClustering", clustering)
        head, tail = text.split("  clustering:\n    method")
        text = head + tail[tail.index("  segmentation:") :]
    else:
        text = text.replace("method: centroid", f"method: {clustering}")
    (source / "config.yaml").write_text(text)
    convert.convert(source, tmp_path / "bundle")
    made = compare.run(tmp_path / "bundle", source, inputs=speech(), device="cpu")
    assert made.passed, made.verdict.reasons
    assert ("hard", "forced") in {(tap.name, tap.mode) for tap in made.taps}
    assert made.task["diarization"]["der"] < 0.005  # a frame may lie on the noise floor


@pytest.fixture(scope="module")
def labels(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source whose segmentation has a score for each speaker, decided by a threshold."""
    folder = tmp_path_factory.mktemp("labels")
    segmentation = made_up.labelled(folder / "segmentation")
    source = source_of(folder / "source", segmentation, pair[1] / "embedding" / "campplus.pt")
    text = CONFIG_YAML.replace("overlap: true", "overlap: true\n    segmentation_step: 0.4")
    (source / "config.yaml").write_text(text + "    threshold: 0.45\n")
    return source


def test_scores_of_single_labels_are_green(labels: Path, tmp_path: Path) -> None:
    convert.convert(labels, tmp_path / "bundle")
    made = compare.run(tmp_path / "bundle", labels, inputs=speech(), device="cpu", output=tmp_path)
    assert made.passed, made.verdict.reasons
    judged = {(tap.name, tap.mode) for tap in made.taps}
    assert {(name, "forced") for name in ("masks", "count", "discrete", "turns")} <= judged
    found = made.task["diarization"]
    assert found["turns"] > 1
    assert found["der"] < 0.005  # a frame may lie on the noise floor
    assert made.task["agreement"]["decisions"] % 3 == 0  # each of three labels in each frame
    assert replay(tmp_path / "bundle", tmp_path / "golden", device="cpu").passed
    samevoice.to_torch(tmp_path / "bundle", tmp_path / "back")
    assert (tmp_path / "back" / "config.yaml").read_text() == (labels / "config.yaml").read_text()


@pytest.mark.parametrize("threshold", [None, 1.5, "high"])
def test_single_labels_need_a_threshold(threshold: object, labels: Path, tmp_path: Path) -> None:
    shutil.copytree(labels, tmp_path / "source")
    said = "" if threshold is None else f"    threshold: {threshold}\n"
    (tmp_path / "source" / "config.yaml").write_text(CONFIG_YAML + said)
    wanted = "names no threshold for its segmentation" if threshold is None else "between 0 and 1"
    with pytest.raises(ConversionError, match=wanted):
        convert.convert(tmp_path / "source", tmp_path / "bundle")


def test_powerset_classes_take_no_threshold(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(pair[1], tmp_path / "source")
    (tmp_path / "source" / "config.yaml").write_text(CONFIG_YAML + "    threshold: 0.5\n")
    with pytest.raises(ConversionError, match="has powerset classes and needs none"):
        convert.convert(tmp_path / "source", tmp_path / "bundle")


def test_another_voice_is_red_at_the_embeddings(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """One row of the last layer is doubled: everything before it stays right."""
    import made_up
    from safetensors.numpy import load_file, save_file

    bundle, source = pair
    spoilt = tmp_path / "spoilt"
    shutil.copytree(bundle, spoilt)
    assert read_weights(spoilt / "embedding")
    path = spoilt / "embedding" / WEIGHTS
    weights = load_file(path)
    last = next(name for name in weights if name.startswith("xvector.dense.linear"))
    weights[last] = np.concatenate([2 * weights[last][:1], weights[last][1:]])
    save_file(weights, path, metadata={"format": "mlx"})
    made_up.record(spoilt / "embedding")
    made_up.record(spoilt)
    made = compare.run(spoilt, source, inputs=speech(), device="cpu")
    assert made.first_divergence == "embeddings"

"""A pipeline's embedding is whatever embeds: CAM++ small and trained, and somebody's plug-in."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import made_up
import mlx.core as mx
import numpy as np
import pytest
from made_campplus import CONFIG_YAML, small_campplus, source_of
from mlx.nn.layers.linear import Linear
from safetensors.numpy import load_file, save_file

import samevoice
from samevoice import family as families
from samevoice.converters import bundle as bundles
from samevoice.converters import pipeline as configs
from samevoice.converters.layers import affine
from samevoice.errors import BundleError, ConversionError, DiarizationError
from samevoice.family import Family
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline
from samevoice.models.network import Network, as_batch
from samevoice.parity.turns import errors

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def small(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    network = small_campplus(folder / "campplus.pt")
    return source_of(folder / "source", references["segmentation"], network)


@pytest.fixture(scope="module")
def bundle(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("campplus") / "bundle"
    samevoice.convert(small, target)
    return target


def test_a_small_one_converts_and_tells_who_speaks(bundle: Path, talk: np.ndarray) -> None:
    config = bundles.read_json(bundle / "config.json")
    assert bundles.components(config) == ("embedding", "segmentation")
    assert config["pipeline"]["clustering"] == "AgglomerativeClustering"
    pipeline = SpeakerDiarizationPipeline(bundle)
    found = pipeline({"waveform": talk[None], "sample_rate": 16_000})
    assert len(found.speaker_diarization) > 1
    assert found.speaker_embeddings.shape == (len(found.labels), 5)
    assert len(pipeline({"waveform": talk[None], "sample_rate": 16_000}, num_speakers=1).labels) < 2


def test_each_voice_is_what_the_network_makes_of_its_chunk_and_mask(
    bundle: Path, talk: np.ndarray
) -> None:
    pipeline = SpeakerDiarizationPipeline(bundle)
    analysis = pipeline.analyse([talk])
    first = mx.array(talk[None, :160_000])
    masks = pipeline.weights(analysis.segmentations[:1])
    wanted = pipeline.embedding(first, masks)
    np.testing.assert_allclose(analysis.embeddings[0], np.array(wanted)[0], atol=1e-5)
    assert np.ptp(analysis.embeddings, axis=(0, 1)).min() > 0


def test_it_comes_back_as_it_was(bundle: Path, small: Path, tmp_path: Path) -> None:
    import torch

    samevoice.to_torch(bundle, tmp_path / "back")
    assert not (tmp_path / "back" / "plda").exists()
    files = (small / "embedding" / "campplus.pt", tmp_path / "back/embedding/pytorch_model.bin")
    before, after = (torch.load(file, weights_only=True) for file in files)
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "back" / "config.yaml").read_text() == CONFIG_YAML
    samevoice.convert(tmp_path / "back", tmp_path / "again")
    for part in ("segmentation", "embedding"):
        file = f"{part}/model.safetensors"
        one, two = (load_file(folder / file) for folder in (bundle, tmp_path / "again"))
        assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("step", [1.0, 0.73])  # on a frame of the trunk, and between two
def test_a_chunk_alone_is_exact_in_the_fast_tier(
    step: float, bundle: Path, talk: np.ndarray
) -> None:
    exact, fast = (
        SpeakerDiarizationPipeline(bundle, "cpu", step=step, fast=fast) for fast in (False, True)
    )
    fast.apart = 0.0
    wanted, found = (pipeline.analyse([talk]).embeddings for pipeline in (exact, fast))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_chunks_that_go_together_are_near_what_each_gives_alone(
    bundle: Path, talk: np.ndarray
) -> None:
    pipeline = SpeakerDiarizationPipeline(bundle, "cpu", fast=True)
    shared = pipeline.analyse([talk]).embeddings
    pipeline.fast = False
    alone = pipeline.analyse([talk]).embeddings
    assert not np.array_equal(shared, alone)
    cosines = (shared * alone).sum(axis=2) / np.linalg.norm(shared, axis=2)
    assert np.median(cosines / np.linalg.norm(alone, axis=2)) > 0.99


def test_a_plda_of_another_embedding_is_refused(
    small: Path, references: dict[str, Path], talk: np.ndarray, tmp_path: Path
) -> None:
    shutil.copytree(small, tmp_path / "mixed")
    shutil.copytree(references["full"] / "plda", tmp_path / "mixed" / "plda")
    text = (references["full"] / "config.yaml").read_text()
    (tmp_path / "mixed" / "config.yaml").write_text(text)
    samevoice.convert(tmp_path / "mixed", tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"for embeddings of 256 values, and \S* gives 5:"):
        SpeakerDiarizationPipeline(tmp_path / "bundle").analyse([talk])


def test_networks_of_two_sample_rates_are_refused(bundle: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(bundle, torn)
    path = torn / "embedding" / "config.json"
    path.write_text(path.read_text().replace('"sample_rate": 16000', '"sample_rate": 8000'))
    made_up.record(torn)
    with pytest.raises(BundleError, match="hears 8000 samples a second, its segmentation 16000"):
        SpeakerDiarizationPipeline(torn)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("method: centroid", "method: mean", "asks for method 'mean'; supported: average, cen"),
        (
            "    threshold: 0.7045654963945799\n",
            "",
            "gives 'threshold' as None, which is no number",
        ),
        ("Agglomerative", "Oracle", "clustering 'OracleClustering', which is not supported"),
        ("Agglomerative", "VBx", "names no plda: a pipeline with VBxClustering needs"),
    ],
)
def test_what_a_config_may_not_ask_for(old: str, new: str, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        configs.parameters(CONFIG_YAML.replace(old, new), "config.yaml")


# --- somebody's own network ---------------------------------------------------------------------


class Whisker(Network):
    """The loudness of each hundredth of a second, averaged under masks, through one layer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.whisker = Linear(1, config["size"])

    @property
    def fewest_samples(self) -> int:
        return 160

    def frames(self, x: mx.array) -> mx.array:
        x = as_batch(x)
        x = x[:, : x.shape[1] // 160 * 160].reshape(x.shape[0], -1, 160)
        return mx.log(mx.square(x).mean(axis=2) + 1e-6)

    def embed(self, frames: mx.array, masks: mx.array | None = None) -> mx.array:
        assert masks is not None
        count = masks.shape[2]
        heard = frames[:, mx.arange(count) * frames.shape[1] // count][:, None]
        mean = (heard * masks).sum(axis=2) / (masks.sum(axis=2) + 1e-6)
        found: mx.array = self.whisker(mean[..., None])
        return found


WHISKER = Family(
    role="embedding",
    architectures=("Whisker",),
    anchors=("whisker.weight",),
    config=lambda tensors, metadata: {
        "model_type": "embedding",
        "architecture": "Whisker",
        "size": tensors["whisker.weight"].shape[0],
        "assumed": [],
    },
    table=lambda config: affine("whisker", "whisker"),
    network=f"{__name__}:Whisker",
    package="cat-models",
)


def test_a_plug_ins_embedding_works_like_any_other(
    references: dict[str, Path],
    talk: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = families.find()
    known = families.Found((*found.families, WHISKER), ())
    monkeypatch.setattr(families, "find", lambda: known)
    weights = {"whisker.weight": np.ones((3, 1)), "whisker.bias": np.arange(3.0)}
    file = tmp_path / "whisker.safetensors"
    save_file({name: array.astype(np.float32) for name, array in weights.items()}, file)
    source = source_of(tmp_path / "source", references["segmentation"], file)
    samevoice.convert(source, tmp_path / "bundle")
    heard = SpeakerDiarizationPipeline(tmp_path / "bundle")
    result = heard({"waveform": talk[None], "sample_rate": 16_000})
    assert len(result.speaker_diarization) > 1
    assert result.speaker_embeddings.shape[1] == 3
    with pytest.raises(DiarizationError, match="Whisker cannot share its work") as caught:
        SpeakerDiarizationPipeline(tmp_path / "bundle", fast=True)
    assert "\n" not in str(caught.value)


# --- trained ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeakerDiarizationPipeline:
    checkpoints = golden / "checkpoints"
    network = checkpoints / "campplus-zh-en-common" / "campplus_cn_en_common.pt"
    if not network.is_file():
        pytest.skip(f"no CAM++ at {network}")
    folder = tmp_path_factory.mktemp("trained")
    segmentation = checkpoints / "community-1-fitted" / "segmentation"
    samevoice.convert(source_of(folder / "source", segmentation, network), folder / "bundle")
    return SpeakerDiarizationPipeline(folder / "bundle")


@pytest.mark.parametrize(
    ("clip", "speakers", "most"),
    # Of the three speakers community-1 took all for one, so its turns say who speaks only roughly.
    [
        ("02_pyannote_sample", 2, 0.02),
        ("03_dual_speaker", 2, 0.02),
        ("04_three_speaker", 3, 0.5),
    ],
)
def test_the_trained_one_hears_the_clips_speakers(
    golden: Path, clip: str, speakers: int, most: float, trained: SpeakerDiarizationPipeline
) -> None:
    folder = golden / "clips" / clip
    found = trained(folder / "clip_16k.wav")
    assert len(found.labels) == speakers
    assert found.speaker_embeddings.shape == (speakers, 192)
    lines = [line.split() for line in (folder / "reference.rttm").read_text().splitlines()]
    wanted = [(float(x[3]), float(x[3]) + float(x[4]), x[7]) for x in lines]
    ours = [(turn.start, turn.end, who) for turn, who in found.speaker_diarization]
    assert errors(wanted, ours).rate < most

"""suplime's pipeline on small networks, stage by stage against the authors' own class."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub import Hub
from made_audio import recording
from made_campplus import CONFIG_YAML, source_of

from samevoice import to_torch
from samevoice.converters import convert
from samevoice.converters.reference import sample, seeded_torch
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline
from samevoice.parity.inputs import RATE
from samevoice.parity.originals import campplus, suplime
from samevoice.parity.pipeline import compare
from samevoice.parity.pipeline.original import ReferencePipeline
from samevoice.parity.pipeline.recordings import Recorded

pytestmark = pytest.mark.long

# Chunks of four seconds every 1.6, the last one padded: batches of two, one and one.
SPEECH = sample()[16 * RATE : 24 * RATE]
CONFIG = (
    CONFIG_YAML.replace("version: 3.1.0", "dependencies:\n  suplime: 0.2.0")
    .replace("pyannote.audio.pipelines.SpeakerDiarization", "suplime.SuplimeDiarization")
    .replace("overlap: true", "overlap: true\n    segmentation_batch_size: 2")
    .replace("overlap: true", "overlap: true\n    segmentation_step: 0.4")
)


@pytest.fixture(scope="module")
def source(pyannote: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WavLM as in the large one: it levels the chunks of a batch together."""
    import torch

    del pyannote
    folder = tmp_path_factory.mktemp("suplime")
    (folder / "segmentation").mkdir()
    large = {"extractor_mode": "layer_norm", "encoder_layer_norm_first": True}
    sizes = {"num_heads": 4, "ffn_dim": 32, "num_layers": 1, "depthwise_conv_kernel_size": 7}
    with seeded_torch():
        common = suplime.common(small=True)
        config = {
            **common,
            "specifications": {**common["specifications"], "duration": 4.0},
            "wav2vec": {**suplime.SMALL, **large},
            "wav2vec_layer": -1,
            "conformer": sizes,
            "normalize_waveform": True,
        }
        suplime.write(suplime.build(config), folder / "segmentation")
    network = campplus.seeded(init_channels=32, growth_rate=8, bn_size=2, embedding_size=16)
    torch.save(network.state_dict(), folder / "campplus.pt")
    made = source_of(folder / "source", folder / "segmentation", folder / "campplus.pt")
    (made / "config.yaml").write_text(CONFIG)
    return made


@pytest.fixture(scope="module")
def bundle(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("suplime") / "bundle"
    convert.convert(source, target)
    return target


def test_it_is_green_stage_by_stage_against_the_authors_own(bundle: Path, source: Path) -> None:
    made = compare.run(bundle, source, inputs=[Recorded("speech", SPEECH)], device="cpu")
    assert made.passed, made.verdict.reasons
    judged = {(tap.name, tap.mode): tap for tap in made.taps}
    assert judged["log_probabilities", "free"].judged_ratio < 2
    stages = {"masks", "count", "weights", "trained", "hard", "discrete", "turns"}
    assert {(name, "forced") for name in stages} <= set(judged)
    assert made.task["diarization"]["turns"] > 1
    assert made.task["diarization"]["der"] < 0.005  # a frame may lie on the noise floor
    planned = compare.made_from(bundle, source, None)
    authors = ReferencePipeline.load(planned)
    assert type(authors.pipeline).__module__ == "suplime.pipeline"
    assert authors.run(SPEECH).batches == (2, 1, 1)


def test_the_chunks_of_a_batch_are_levelled_together(bundle: Path) -> None:
    import torch

    pipeline = SpeakerDiarizationPipeline(bundle, "cpu")
    pair = np.stack([SPEECH[:64_000], 0.1 * SPEECH[-64_000:]])
    expected = torch.nn.functional.layer_norm(torch.from_numpy(pair), pair.shape).numpy()
    assert np.allclose(pipeline.level(pair), expected, atol=1e-5)
    assert not np.allclose(pipeline.level(pair[:1]), expected[:1], atol=1e-2)


def test_the_checkpoint_comes_back(bundle: Path, source: Path, tmp_path: Path) -> None:
    to_torch(bundle, tmp_path / "back")
    assert (tmp_path / "back" / "config.yaml").read_text() == (source / "config.yaml").read_text()


def test_diarize_takes_it_by_its_hub_id(source: Path, tmp_path: Path) -> None:
    """Fetched, converted, and its licence kept; small networks in the layout of the hub."""
    found = (path for path in source.rglob("*") if path.is_file())
    repo = {path.relative_to(source).as_posix(): path.read_bytes() for path in found}
    repo["README.md"] = b"---\nlicense: cc-by-nc-4.0\n---\n"
    recording(tmp_path / "talk.wav", SPEECH)
    here = {"HF_HOME": str(tmp_path / "hf"), "SAMEVOICE_CACHE": str(tmp_path / "cache")}
    words = ["diarize", "talk.wav", "--model", "rewayai/suplime", "--output", "talk.rttm"]
    with Hub({"rewayai/suplime": repo}) as hub:
        done = subprocess.run(
            [sys.executable, "-m", "samevoice", *words],
            cwd=tmp_path,
            env={**os.environ, **here, "HF_ENDPOINT": hub.url},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    assert "SPEAKER talk 1 " in (tmp_path / "talk.rttm").read_text()
    (card,) = (tmp_path / "cache" / "bundles").glob("*/*/README.md")
    assert "license: cc-by-nc-4.0" in card.read_text()

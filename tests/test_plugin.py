"""A segmentation that comes with a package of its own goes through every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_family import command, install

FAMILY = """
from samevoice.converters.layers import affine, conv1d
from samevoice.family import Family

CLASSES = ["speaker#1", "speaker#2", "speaker#3"]


def config(tensors, metadata):
    channels, _, kernel = tensors["ear.weight"].shape
    return {
        "model_type": "segmentation", "architecture": "Ear", "sample_rate": 16000,
        "channels": channels, "kernel": kernel, "stride": 160, "activation": "log_softmax",
        "num_classes": tensors["classifier.bias"].shape[0], "assumed": [],
        "specifications": {"problem": "MONO_LABEL_CLASSIFICATION", "resolution": "FRAME",
                           "duration": 4.0, "classes": CLASSES, "powerset_max_classes": 2},
    }


FAMILY = Family(
    role="segmentation",
    architectures=("Ear",),
    anchors=("ear.weight", "classifier.weight"),
    config=config,
    table=lambda config: (*conv1d("ear", "ear"), *affine("hidden", "hidden"),
                          *affine("classifier", "classifier")),
    network="ear:Ear",
    original="ear_original:build",
)
"""
NETWORK = """
import mlx.core as mx
from mlx.nn import Conv1d, Linear

from samevoice.models.layers import leaky_relu
from samevoice.models.layers.geometry import Window
from samevoice.models.network import Network, as_batch


class Ear(Network):
    def __init__(self, config):
        super().__init__(config)
        channels = config["channels"]
        self.ear = Conv1d(1, channels, config["kernel"], config["stride"])
        self.hidden = Linear(channels, channels)
        self.classifier = Linear(channels, config["num_classes"])

    @property
    def windows(self):
        return (Window(self.config["kernel"], self.config["stride"]),)

    def __call__(self, waveforms):
        x = as_batch(mx.array(waveforms))[:, :, None]
        x = mx.maximum(self.ear(x), 0)
        x = leaky_relu(self.hidden(x))
        x = self.classifier(x)
        return x - mx.logsumexp(x, axis=-1, keepdims=True)
"""
ORIGINAL = """
import sys

import torch
from torch.nn.functional import leaky_relu


class Ear(torch.nn.Module):
    def __init__(self, channels, kernel, stride, classes):
        super().__init__()
        self.ear = torch.nn.Conv1d(1, channels, kernel, stride)
        self.hidden = torch.nn.Linear(channels, channels)
        self.classifier = torch.nn.Linear(channels, classes)

    def forward(self, waveforms):
        x = self.ear(waveforms).relu().permute(0, 2, 1)
        return self.classifier(leaky_relu(self.hidden(x))).log_softmax(-1)


def build(config):
    assert "pyannote.audio" not in sys.modules, "an original of its own needs no pyannote"
    return Ear(*(config[name] for name in ("channels", "kernel", "stride", "num_classes")))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "ear-models", "ear_family")
    for module, text in (("ear_family", FAMILY), ("ear", NETWORK), ("ear_original", ORIGINAL)):
        (folder / f"{module}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as on the hub: weights that hear something, and a card that says the licence."""
    folder = tmp_path_factory.mktemp("source") / "ear"
    folder.mkdir()
    rng = np.random.default_rng(1)

    def drawn(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weights = {
        "ear.weight": drawn(16, 1, 400, scale=0.5),
        "ear.bias": drawn(16, scale=0.1),
        "hidden.weight": drawn(16, 16, scale=0.3),
        "hidden.bias": drawn(16, scale=0.1),
        "classifier.weight": drawn(7, 16),
        "classifier.bias": drawn(7),
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nAn ear.\n")
    return folder


def test_it_goes_through_every_command_of_a_network(
    site: Path, source: Path, tmp_path: Path
) -> None:
    bundle, parity, release = tmp_path / "bundle", tmp_path / "parity", tmp_path / "release"
    back = tmp_path / "back.safetensors"
    for words in (
        ("convert", source, "--mlx-path", bundle),
        ("inspect", bundle),
        ("export", bundle, "--output", back),
        ("parity", bundle, "--source", source, "--output", parity),
        ("replay", bundle, "--golden", parity / "golden"),
        ("gallery", source, "--output", parity / "gallery.md"),
        ("gate", parity / "result.json"),
        ("report", parity, "--gallery", parity / "gallery.json", "--overwrite"),
        ("release", bundle, "--result", parity, "--output", release),
        ("verify", release),
    ):
        done = command(site, *words)
        assert done.returncode == 0, f"samevoice {words[0]}: {done.stdout}{done.stderr}"
    found, held = load_file(back), load_file(source / "model.safetensors")
    assert found.keys() == held.keys()
    assert all(np.array_equal(found[name], array) for name, array in held.items())
    result = json.loads((parity / "result.json").read_text())
    assert result["passed"]
    assert {"ear", "hidden", "classifier", "output"} <= {tap["name"] for tap in result["taps"]}


def test_it_is_the_segmentation_of_a_pipeline(
    site: Path, source: Path, references: dict[str, Path], tmp_path: Path
) -> None:
    from made_audio import RATE
    from soundfile import write

    pipeline, bundle, turns = tmp_path / "pipeline", tmp_path / "bundle", tmp_path / "turns.rttm"
    shutil.copytree(references["full"], pipeline)
    shutil.rmtree(pipeline / "segmentation")
    shutil.copytree(source, pipeline / "segmentation")
    noise = np.random.default_rng(2).standard_normal(6 * RATE) * np.repeat(
        (0.3, 0.0, 0.1), 2 * RATE
    )
    write(tmp_path / "noise.wav", noise, RATE)
    done = command(site, "convert", pipeline, "--mlx-path", bundle, "--quiet")
    assert done.returncode == 0, done.stderr
    done = command(site, "diarize", tmp_path / "noise.wav", "--model", bundle, "--output", turns)
    assert done.returncode == 0, done.stderr
    assert turns.read_text().startswith("SPEAKER noise 1 ")

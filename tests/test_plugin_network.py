"""A network that is no speaker model comes with a package of its own and goes through all commands.

It takes images and numbers, gives two arrays, and its port has the channels last inside.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_family import command, install

pytestmark = pytest.mark.long

pytest.importorskip("torch")

FAMILY = """
from samevoice.converters.layers import BATCH_COUNTERS, affine, batch_norm, conv2d
from samevoice.converters.rules import Rule
from samevoice.family import Family


def config(tensors, metadata):
    return {
        "model_type": "network", "architecture": "Eye", "channels": tensors["head.weight"].shape[1],
        "inputs": [
            {"name": "images", "shape": ["B", 3, "H", "W"], "dtype": "float32"},
            {"name": "place", "shape": ["B"], "dtype": "int64", "below": 7},
        ],
        "sizes": {"B": 2, "H": 12, "W": 18}, "least": {"H": 4, "W": 16}, "assumed": [],
    }


FAMILY = Family(
    role="network",
    architectures=("Eye",),
    anchors=("stem.weight", "places.weight", "mixer.weight"),
    config=config,
    table=lambda config: (
        *conv2d("stem", "stem"), *batch_norm("bn", "bn"),
        *conv2d("block.conv", "block.conv"), *batch_norm("block.bn", "block.bn"),
        Rule("places.weight", "places.weight"), *affine("mixer", "mixer"), *affine("head", "head"),
        BATCH_COUNTERS,
    ),
    network="eye:Eye",
    original="eye_original:build",
)
"""
NETWORK = """
import mlx.core as mx
from mlx.nn import Conv2d, Embedding, Linear

from samevoice.models.layers import BatchNorm, Module, relu
from samevoice.models.network import ArrayNetwork


class Block(Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)
        self.bn = BatchNorm(channels)

    def __call__(self, x):
        y = relu(self.bn(self.conv(x)))
        return x + y, y


class Eye(ArrayNetwork):
    def __init__(self, config):
        super().__init__(config)
        channels = config["channels"]
        self.stem = Conv2d(3, channels, (3, 5), 2, (1, 2))
        self.bn = BatchNorm(channels)
        self.block = Block(channels)
        self.places = Embedding(7, channels)
        self.mixer = Linear(channels, channels)
        self.head = Linear(channels, 5)

    def __call__(self, images, place):
        x = relu(self.bn(self.stem(images.transpose(0, 2, 3, 1))))
        x, _ = self.block(x)
        x = x + self.places(place)[:, None, None]
        rows = relu(self.mixer(x.mean(1)))
        return self.head(rows.mean(1)), x.transpose(0, 3, 1, 2)
"""
ORIGINAL = """
import torch
from torch.nn import BatchNorm2d, Conv2d, Embedding, Linear

from samevoice.parity import hints

IMAGE = ((0, 2, 3, 1), (0, 2, 3, 1))
ORDERS = {
    "": (None, (0, 1, 2, 3)),  # laid out as the original does
    "stem": IMAGE, "bn": IMAGE, "block": IMAGE, "block.conv": IMAGE, "block.bn": IMAGE,
    "places": (None, None), "mixer": ((1, 0, 2), (1, 0, 2)), "head": (None, None),
}


class Block(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)
        self.bn = BatchNorm2d(channels)

    def forward(self, x):
        y = self.bn(self.conv(x)).relu()
        return x + y, y


class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * x


class Eye(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.stem = Conv2d(3, channels, (3, 5), 2, (1, 2))
        self.bn = BatchNorm2d(channels)
        self.block = Block(channels)
        self.places = Embedding(7, channels)
        self.doubled = Doubled()
        self.mixer = Linear(channels, channels)
        self.head = Linear(channels, 5)

    def forward(self, images, place):
        x, _ = self.block(self.bn(self.stem(images)).relu())
        x = x + self.doubled(self.places(place))[:, :, None, None] / 2
        rows = self.mixer(x.mean(2).permute(2, 0, 1)).relu()  # (W, B, C)
        return self.head(rows.mean(0)), x


def build(config):
    module = Eye(config["channels"])
    hints.lay(module, ORDERS)
    hints.hear_by_first(module.block)
    hints.mark_function(module.doubled)
    return module.eval()
"""
TURNED = """
from samevoice.converters.transforms import Transform

TURN = Transform(
    "turned", lambda w: (w.transpose(1, 2, 3, 0),), lambda w: (w.transpose(3, 0, 1, 2),)
)
"""


def installed(folder: Path, **changed: str) -> Path:
    install(folder, "eye-models", "eye_family")
    texts = {"eye_family": FAMILY, "eye": NETWORK, "eye_original": ORIGINAL, **changed}
    for module, text in texts.items():
        (folder / f"{module}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "eye"
    folder.mkdir()
    rng = np.random.default_rng(1)

    def drawn(*shape: int, scale: float = 0.3) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weights = {
        "stem.weight": drawn(8, 3, 3, 5),
        "block.conv.weight": drawn(8, 8, 3, 3),
        "places.weight": drawn(7, 8),
        "mixer.weight": drawn(8, 8),
        "head.weight": drawn(5, 8),
    }
    weights |= {f"{n}.bias": drawn(8) for n in ("stem", "block.conv", "mixer")}
    for name in ("bn", "block.bn"):
        weights |= {f"{name}.{part}": drawn(8) for part in ("bias", "running_mean")}
        weights |= {f"{name}.{part}": 1 + abs(drawn(8)) for part in ("weight", "running_var")}
        weights[f"{name}.num_batches_tracked"] = np.array(3)
    save_file(weights | {"head.bias": drawn(5)}, folder / "model.safetensors")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nAn eye.\n")
    return folder


def test_it_goes_through_every_command_of_a_network(source: Path, tmp_path: Path) -> None:
    site, bundle, parity = installed(tmp_path / "site"), tmp_path / "bundle", tmp_path / "parity"
    back, release = tmp_path / "back.safetensors", tmp_path / "release"
    for words in (
        ("convert", source, "--mlx-path", bundle),
        ("inspect", bundle),
        ("export", bundle, "--output", back),
        ("parity", bundle, "--source", source, "--inputs", "full", "--output", tmp_path / "full"),
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
    names = {tap["name"] for tap in result["taps"]}
    assert {"stem", "block", "places.input", "mixer.input", "output", "output.1"} <= names
    assert not {name for name in names if name.startswith("doubled")}
    card = (release / "README.md").read_text()
    assert "model(mx.zeros((2, 3, 12, 18), mx.float32), mx.zeros((2,), mx.int64))" in card
    for refused, why in (
        (("bench", "networks", "--model", bundle), "hears no audio"),
        (("precision", bundle, "--source", source), "no task to measure precision by"),
        (("parity", bundle, "--source", source, "--audio", source), "takes no recordings"),
    ):
        done = command(site, *refused)
        assert done.returncode == 2, f"samevoice {refused[0]}: {done.stdout}{done.stderr}"
        assert why in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "right", "wrong", "where"),
    [
        ("eye", "self.bn(self.conv(x))", "self.conv(x)", "block.bn.input"),
        (
            "eye_family",
            '*conv2d("block.conv", "block.conv")',
            'Rule("block.conv.weight", "block.conv.weight", TURN),'
            ' Rule("block.conv.bias", "block.conv.bias")',
            "block.conv",
        ),
    ],
)
def test_a_wrong_port_is_red_where_it_is_wrong(
    source: Path, tmp_path: Path, module: str, right: str, wrong: str, where: str
) -> None:
    texts = {"eye_family": TURNED + FAMILY, "eye": NETWORK}
    assert right in texts[module]
    site = installed(tmp_path / "site", **{module: texts[module].replace(right, wrong)})
    bundle, parity = tmp_path / "bundle", tmp_path / "parity"
    assert command(site, "convert", source, "--mlx-path", bundle).returncode == 0
    words = ("parity", bundle, "--source", source, "--inputs", "brief", "--output", parity)
    done = command(site, *words)
    assert done.returncode == 1, f"{done.stdout}{done.stderr}"
    result = json.loads((parity / "result.json").read_text())
    assert result["first_divergence"] == where, done.stdout

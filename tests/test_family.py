"""Families of installed packages: found by their entry point, harmless where they are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from samevoice.family import Family, FamilyError

PLUGIN = """
from samevoice.converters.layers import affine
from samevoice.family import Family


def config(tensors, metadata):
    outputs, inputs = tensors["whisker.weight"].shape
    return {"model_type": "embedding", "architecture": "Whisker", "inputs": inputs,
            "embed_dim": outputs, "assumed": []}


FAMILY = Family(
    role="embedding",
    architectures=("Whisker",),
    anchors=("whisker.weight",),
    config=config,
    table=lambda config: affine("whisker", "whisker"),
    network="whisker:Network",
)
"""
NETWORK = """
from mlx.nn import Linear

from samevoice.models.network import Network as Base


class Network(Base):
    def __init__(self, config):
        super().__init__(config)
        self.whisker = Linear(config["inputs"], config["embed_dim"])

    def __call__(self, x):
        return self.whisker(x)
"""


def install(folder: Path, package: str, module: str) -> None:
    """What pip leaves beside the modules of a package that brings a ``FAMILY``."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[samevoice.families]\n{module.removesuffix('_family')} = {module}:FAMILY\n"
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What pip leaves of a plug-in that works, and of one that does not."""
    folder = tmp_path / "site"
    for package, module in (("cat-models", "whisker"), ("dog-models", "snout")):
        install(folder, package, f"{module}_family")
    (folder / "whisker_family.py").write_text(PLUGIN)
    (folder / "whisker.py").write_text(NETWORK)
    (folder / "snout_family.py").write_text("raise RuntimeError('no snout today')\n")
    return folder


def command(site: Path | None, *words: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site or ""), *sys.path])}
    line = [sys.executable, "-m", "samevoice", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, env=env)


def test_a_plug_in_brings_a_model(site: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weights = {
        "whisker.weight": rng.standard_normal((3, 5), np.float32),
        "whisker.bias": rng.standard_normal(3, np.float32),
    }
    source, bundle, back = tmp_path / "w.safetensors", tmp_path / "b", tmp_path / "back.safetensors"
    save_file({f"model.{name}": array for name, array in weights.items()}, source)
    assert command(site, "convert", source, "--mlx-path", bundle).returncode == 0
    assert json.loads((bundle / "config.json").read_text())["architecture"] == "Whisker"
    assert command(site, "inspect", bundle).returncode == 0
    done = command(site, "export", bundle, "--output", back)
    assert (done.returncode, done.stderr) == (0, "")
    found = load_file(back)
    assert set(found) == {f"model.{name}" for name in weights}
    for name, array in weights.items():
        np.testing.assert_array_equal(found[f"model.{name}"], array)
    # Whoever has not installed it is told so, and nothing is called broken.
    done = command(None, "export", bundle, "--output", tmp_path / "x.bin")
    assert done.returncode == 2
    assert done.stderr == (
        "samevoice: no installed family knows the architecture 'Whisker' "
        "(samevoice doctor lists all architectures)\n"
    )


def test_a_fault_of_a_plug_in_is_told_as_its_own_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn.py").write_text("def build(config):\n    return config['claws']\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = Family("embedding", ("Paw",), (), lambda *_: {}, lambda _: (), package="cat-models")
    made = replace(made, network="pww:Network", original="torn:build")
    with pytest.raises(
        FamilyError, match=r"torn:build of cat-models .*KeyError.*torn\.py, line 2\)"
    ):
        made.build_original({})
    with pytest.raises(FamilyError, match=r"pww:Network of cat-models .* No module named 'pww'"):
        made.build_network({})
    with pytest.raises(KeyError):
        replace(made, package="samevoice").build_original({})
    (tmp_path / "claw.py").write_text("import another_package\n")
    with pytest.raises(ModuleNotFoundError):  # which may be one of an extra
        replace(made, original="claw:build").build_original({})


def test_the_doctor_names_them_and_the_broken_one_is_one_line(site: Path) -> None:
    done = command(site, "doctor", "--json")
    checks = {one["name"]: one for one in json.loads(done.stdout)}
    assert checks["models of cat-models"]["found"] == "Whisker"
    broken = checks["models of dog-models"]
    assert broken["state"] == "broken"
    assert broken["found"].endswith("dog-models cannot be loaded: no snout today")
    assert {"PLDA", "PyanNet", "CAMPPlus"} < set(checks["models of samevoice"]["found"].split(", "))

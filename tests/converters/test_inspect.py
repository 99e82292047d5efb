"""Looking without converting."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from safetensors.numpy import save_file

import samevoice
from samevoice.errors import BundleError, SamevoiceError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save_file(made_up.pyannet_arrays(), tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_a_bundle_and_its_source_tell_the_same_tally(source: Path, tmp_path: Path) -> None:
    samevoice.convert(source, tmp_path / "out")
    before, after = samevoice.inspect(source), samevoice.inspect(tmp_path / "out")
    assert (before.kind, after.kind) == ("checkpoint", "bundle")
    assert before.tallies == after.tallies
    assert before.config == after.config
    assert not after.changed


def test_a_pipeline_shows_each_part(references: dict[str, Path], tmp_path: Path) -> None:
    samevoice.convert(references["full"], tmp_path / "out")
    found = samevoice.inspect(tmp_path / "out")
    assert set(found.tallies) == {"segmentation", "embedding", "plda"}
    assert sum(map(len, found.tallies.values())) == 54 + 220 + 6
    json.dumps(found.as_dict())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md"])
def test_one_changed_byte_is_seen(name: str, source: Path, tmp_path: Path) -> None:
    samevoice.convert(source, tmp_path / "out")
    data = bytearray((tmp_path / "out" / name).read_bytes())
    data[-2] ^= 1
    (tmp_path / "out" / name).write_bytes(data)
    if name == "config.json":
        with pytest.raises(BundleError, match=r"config\.json cannot be read"):
            samevoice.inspect(tmp_path / "out")
    else:
        assert samevoice.inspect(tmp_path / "out").changed == (name,)


def test_added_and_missing_files_are_seen(source: Path, tmp_path: Path) -> None:
    samevoice.convert(source, tmp_path / "out")
    (tmp_path / "out" / "README.md").unlink()
    (tmp_path / "out" / "extra.bin").write_text("x")
    assert samevoice.inspect(tmp_path / "out").changed == ("README.md", "extra.bin")


def test_a_provenance_of_nonsense(source: Path, tmp_path: Path) -> None:
    samevoice.convert(source, tmp_path / "out")
    (tmp_path / "out" / "provenance.json").write_text("{}")
    with pytest.raises(BundleError, match=r"provenance\.json lacks or misstates"):
        samevoice.inspect(tmp_path / "out")


def edit(bundle: Path, change: Callable[[Any], None]) -> None:
    path = bundle / "provenance.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["tensors"][0].update(fate="[red]lost"),
        lambda found: found["tensors"][0].update(fate=["used"]),
        lambda found: found["tensors"][0].update(source="\ud800"),
        lambda found: found["tensors"][0].update(source_shape=[-1, 10**400]),
        lambda found: found["tensors"][0].update(source_shape=["a"]),
        lambda found: found["tensors"][0].update(why=3),
        lambda found: found["tensors"].append([]),
        lambda found: found.update(tensors=7),
        lambda found: found.update(outputs=["a"]),
        lambda found: found.update(outputs=None),
        lambda found: found.update(notes=None),
    ],
)
def test_a_provenance_that_says_what_cannot_be_is_refused(
    source: Path, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    samevoice.convert(source, tmp_path / "out")
    edit(tmp_path / "out", change)
    with pytest.raises(BundleError, match=r"provenance\.json (lacks or misstates|cannot be read)"):
        samevoice.inspect(tmp_path / "out")


def test_a_bundle_without_hashes_says_so(source: Path, tmp_path: Path) -> None:
    samevoice.convert(source, tmp_path / "out")
    edit(tmp_path / "out", lambda found: found.pop("outputs"))
    found = samevoice.inspect(tmp_path / "out")
    assert any("holds no hashes" in note for note in found.notes)
    assert not found.changed
    assert not found.checked


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "model.safetensors", "extra"])
def test_a_pipe_in_a_bundle_keeps_nobody_waiting(source: Path, tmp_path: Path, name: str) -> None:
    samevoice.convert(source, tmp_path / "out")
    (tmp_path / "out" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "out" / name)
    with pytest.raises(SamevoiceError):
        samevoice.inspect(tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    ["a.bin", "pytorch_model.bin", "model.safetensors", "x.ckpt", "config.yaml", "plda.npz",
     "model.safetensors.index.json"],
)  # fmt: skip
def test_a_pipe_or_a_device_as_a_source_keeps_nobody_waiting(tmp_path: Path, name: str) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder / name)
        (folder / "xvec_transform.npz").write_bytes(b"x")
        for path in (folder, folder / name):
            with pytest.raises(SamevoiceError):
                samevoice.inspect(path)


def test_a_path_that_is_too_long_for_any_file() -> None:
    for path in ("x/" * 3000, "y" * 5000 + ".bin"):
        with pytest.raises(SamevoiceError):
            samevoice.inspect(path)
        with pytest.raises(SamevoiceError):
            samevoice.convert(path)


def test_whatever_byte_is_wrong_nothing_but_one_line_comes_of_it(
    source: Path, tmp_path: Path
) -> None:
    """Files that were changed are either named or refused; nothing is overlooked."""
    samevoice.convert(source, tmp_path / "out")
    draw = np.random.default_rng(0)
    for name in ("config.json", "provenance.json", "model.safetensors", "origin/checkpoint.json"):
        path = tmp_path / "out" / name
        good = path.read_bytes()
        for _ in range(60):
            data = bytearray(good)
            for at in draw.integers(0, min(len(data), 6000), draw.integers(1, 4)):
                data[at] = draw.integers(0, 256)
            path.write_bytes(data[: draw.integers(1, len(data) + 1)])
            for use in (samevoice.inspect, samevoice.load):
                with contextlib.suppress(SamevoiceError):
                    found = use(tmp_path / "out")
                    seen = getattr(found, "changed", ())
                    assert name in seen or use is samevoice.load or name == "provenance.json"
        path.write_bytes(good)

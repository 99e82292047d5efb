"""Looking without converting."""

from __future__ import annotations

import json
from pathlib import Path

import made_up
import pytest
from safetensors.numpy import save_file

import samevoice
from samevoice.errors import BundleError


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


@pytest.mark.parametrize("key", ["source", "rule", "fate", "why", "target_dtype"])
def test_a_tally_of_other_things_than_texts(key: str, source: Path, tmp_path: Path) -> None:
    samevoice.convert(source, tmp_path / "out")
    path = tmp_path / "out" / "provenance.json"
    found = json.loads(path.read_text())
    found["tensors"][0][key] = ["a list"]
    path.write_text(json.dumps(found))
    with pytest.raises(BundleError, match=r"provenance\.json lacks or misstates"):
        samevoice.inspect(tmp_path / "out")


def test_a_fate_that_nobody_knows(source: Path, tmp_path: Path) -> None:
    samevoice.convert(source, tmp_path / "out")
    path = tmp_path / "out" / "provenance.json"
    found = json.loads(path.read_text())
    found["tensors"][0]["fate"] = "eaten"
    path.write_text(json.dumps(found))
    with pytest.raises(BundleError, match="eaten"):
        samevoice.inspect(tmp_path / "out")


def test_a_note_that_is_no_text(source: Path, tmp_path: Path) -> None:
    samevoice.convert(source, tmp_path / "out")
    path = tmp_path / "out" / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"notes": [[1]]}))
    with pytest.raises(BundleError, match=r"provenance\.json lacks or misstates"):
        samevoice.inspect(tmp_path / "out")

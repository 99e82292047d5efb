"""Dumps of any framework are read as they were written; what must not be read is refused."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from samevoice.errors import BundleError
from samevoice.parity.dumps import DumpError, open_dump, write_dump, write_reproduction
from samevoice.parity.judge import judge_pair

ARRAYS: dict[str, npt.NDArray[Any]] = {
    "waveform": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "conv": np.arange(3).astype(ml_dtypes.bfloat16),
    "a": np.array(1.5, np.float16),
    "none": np.zeros((0, 4)),
    "classes": np.array([1, 2], np.int64),
}


def test_safetensors_come_back_in_their_order_type_and_layout(tmp_path: Path) -> None:
    write_dump(tmp_path / "deep" / "x.safetensors", ARRAYS)
    dump = open_dump(tmp_path / "deep" / "x.safetensors")
    assert list(dump) == list(ARRAYS)
    assert len(dump) == 5
    for name, array in ARRAYS.items():
        assert dump[name].dtype == array.dtype
        assert dump[name].shape == array.shape
        assert np.array_equal(dump[name], array)
    assert "nowhere" not in dump
    assert dump.get("nowhere") is None
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "x.safetensors"]


def test_npz_comes_back_in_its_order(tmp_path: Path) -> None:
    plain: dict[str, Any] = {name: ARRAYS[name] for name in ("waveform", "a", "classes")}
    np.savez(tmp_path / "x.npz", **plain)
    dump = open_dump(str(tmp_path / "x.npz"))
    assert list(dump) == list(plain)
    assert all(np.array_equal(dump[name], array) for name, array in plain.items())


def test_files_of_others_without_an_order_are_read(tmp_path: Path) -> None:
    for metadata in (None, {"samevoice.order": "[1"}, {"samevoice.order": '["b"]'}):
        save_file({"b": np.zeros(2), "a": np.ones(2)}, tmp_path / "x.safetensors", metadata)
        assert sorted(open_dump(tmp_path / "x.safetensors")) == ["a", "b"]


def test_a_dump_is_read_lazily(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", good=np.ones(2), bad=np.array([None, {}], dtype=object))
    dump = open_dump(tmp_path / "x.npz")
    assert dump["good"].sum() == 2.0
    with pytest.raises(DumpError, match=r"'bad' cannot be read \(it is an object array"):
        dump["bad"]


def test_bfloat16_that_npz_lost_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", lost=ARRAYS["conv"])
    with pytest.raises(DumpError, match="'lost' has dtype"):
        open_dump(tmp_path / "x.npz")["lost"]


@pytest.mark.parametrize("name", ["x.safetensors", "x.npz"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64, b"PK\x03\x04 cut off"])
def test_what_only_looks_like_a_dump_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DumpError, match="is not a") as caught:
        open_dump(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_dump_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    write_dump(tmp_path / "x.safetensors", ARRAYS)
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[:-1])
    with pytest.raises(DumpError, match="not a safetensors file"):
        open_dump(tmp_path / "x.safetensors")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(100.0))
    damaged = bytearray((tmp_path / "x.npz").read_bytes())
    damaged[400] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(damaged)
    with pytest.raises(DumpError, match="'a' cannot be read"):
        open_dump(tmp_path / "x.npz")["a"]


def test_missing_files_folders_and_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="does not exist"):
        open_dump(tmp_path / "x.safetensors")
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(DumpError, match="is no file"):
        open_dump(tmp_path / "x.npz")
    with pytest.raises(DumpError, match="neither"):
        open_dump(tmp_path / "x.pkl")


def test_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="no real numbers"):
        write_dump(tmp_path / "x.safetensors", {"a": np.array([None])})
    assert not list(tmp_path.iterdir())


def test_a_reproduction_is_whole_and_can_be_judged(tmp_path: Path) -> None:
    got = {"conv": np.ones(4, np.float32)}
    parts = {"input": got, "reference": got, "candidate": {"conv": got["conv"] * 2}}
    folder = write_reproduction(tmp_path / "repro" / "conv", parts, {"tap": "conv"})
    assert {path.name for path in folder.iterdir()} == {
        "input.safetensors",
        "reference.safetensors",
        "candidate.safetensors",
        "about.json",
    }
    assert json.loads((folder / "about.json").read_text()) == {"tap": "conv"}
    verdict = judge_pair(
        open_dump(folder / "reference.safetensors"), open_dump(folder / "candidate.safetensors")
    )
    assert verdict.first_divergence == "conv"


def test_a_reproduction_replaces_only_when_told_and_then_wholly(tmp_path: Path) -> None:
    folder = write_reproduction(tmp_path / "repro", {"input": {"x": np.zeros(2)}}, {})
    with pytest.raises(BundleError, match="exists"):
        write_reproduction(folder, {}, {})
    with pytest.raises(DumpError, match="plain word"):
        write_reproduction(folder, {"../input": {}}, {}, overwrite=True)
    write_reproduction(folder, {"weights": {"x": np.zeros(2)}}, {}, overwrite=True)
    assert {path.name for path in folder.iterdir()} == {"weights.safetensors", "about.json"}
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("shadow", ["a", "a.npy"])
def test_an_array_that_hides_another_of_its_name_is_refused(tmp_path: Path, shadow: str) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        warnings.simplefilter("ignore")  # the same name twice is what is wanted
        archive.writestr(shadow, archive.read("a.npy"))
    with pytest.raises(DumpError, match="'a' more than once"):
        open_dump(tmp_path / "x.npz")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DumpError, match="'a' cannot be read"):
        open_dump(tmp_path / "x.npz")["a"]

"""A conversion that is stopped while the new bundle takes the old one's place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import pytest
from safetensors.numpy import save_file

import samevoice


def once(work: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    """The same, but for the first call for which ``when`` holds: there Ctrl-C comes."""
    left = [True]

    def call(*given: Any, **more: Any) -> Any:
        if left[0] and when(*given):
            left[0] = False
            raise KeyboardInterrupt
        return work(*given, **more)

    return call


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_file(made_up.pyannet_arrays(), tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def stopped(checkpoint: Path, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        samevoice.convert(checkpoint, folder / "out", overwrite=True, dtype="float16")
    assert [path.name for path in folder.iterdir()] == ["out"]


def test_while_the_old_one_is_removed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"
    samevoice.convert(checkpoint, folder / "out")
    there = Path.exists
    rmtree = once(shutil.rmtree, lambda path: path.name == ".out.old" and there(path))
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    stopped(checkpoint, folder)
    assert samevoice.inspect(folder / "out").config["dtype"] == "float16"


def test_between_the_two_renames(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"
    samevoice.convert(checkpoint, folder / "out")
    rename = once(Path.rename, lambda path, _: path.name == ".out.partial")
    monkeypatch.setattr(Path, "rename", rename)
    stopped(checkpoint, folder)
    assert samevoice.inspect(folder / "out").config["dtype"] == "float32"

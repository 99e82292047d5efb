"""Every file that a comparison or a release reads: a pipe, a device or a giant in its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samevoice.errors import SamevoiceError
from samevoice.parity import bounds, gallery_file, golden, result
from samevoice.parity.dumps import open_dump

READERS: dict[str, Callable[[Path], Any]] = {
    "result.json": result.read,
    "gallery.json": gallery_file.read,
    "golden.json": lambda path: golden.read(path.parent),
    "limits.toml": bounds.read_overrides,
    "arrays.npz": open_dump,
    "arrays.safetensors": open_dump,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(SamevoiceError, match=r"not an ordinary file|is no file"):
        READERS[name](path)


@pytest.mark.parametrize("name", ["result.json", "gallery.json", "golden.json", "limits.toml"])
def test_a_giant_and_what_is_not_text_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(SamevoiceError, match="UTF-8"):
        READERS[name](path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SamevoiceError, match="larger than 512 MiB"):
        READERS[name](path)

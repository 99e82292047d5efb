"""The gallery's file: what was found of every bug, and a file that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from samevoice.parity import gallery_file
from samevoice.parity.gallery import Finding
from samevoice.parity.gallery_file import GalleryError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    dropped = ("a bias dropped", "lost", "segmentation", "PyanNet")
    found = {
        "reference:x": [Finding(*dropped, "lstm.0", "lstm.1", 12.5)],
        "reference:y": [Finding("idle", "lost", "embedding", "ResNet", "", "", 1.1)],
    }
    (tmp_path / "gallery.json").write_text(gallery_file.written(found, {"samevoice": "1"}))
    read = gallery_file.read(tmp_path / "gallery.json")
    assert read.versions == {"samevoice": "1"}
    assert read.of("PyanNet") == (
        {
            "source": "reference:x",
            "family": "segmentation",
            "architecture": "PyanNet",
            "bug": "a bias dropped",
            "effect": "lost",
            "where": "lstm.0",
            "found": "lstm.1",
            "noise_ratio": 12.5,
            "right": False,
        },
    )
    assert read.wrong("PyanNet") == ("a bias dropped",)
    assert read.wrong("ResNet") == ()


@pytest.mark.parametrize("text", ["[", "[]", "3", '{"schema": 2, "findings": []}', "[" * 5000])
def test_anything_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gallery.json"
    path.write_text(text)
    with pytest.raises(GalleryError, match=r"gallery\.json"):
        gallery_file.read(path)

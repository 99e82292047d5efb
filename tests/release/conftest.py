"""A small segmentation that was really converted and really compared, and what a release needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up
import pytest
from made_release import Ready, write_gallery

from samevoice.converters import convert
from samevoice.parity import run
from samevoice.release import contents


@pytest.fixture(scope="session")
def made(pyannote: Any, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """Never to be changed: tests that tamper take a copy."""
    del pyannote
    ready = Ready(tmp_path_factory.mktemp("release") / "made")
    ready.folder.mkdir()
    source = made_up.save(made_up.pyannet(layers=1), ready.folder / "x.ckpt")
    convert.convert(source, ready.bundle)
    run.run(ready.bundle, source, output=ready.parity, device="cpu")
    write_gallery(ready.gallery, "segmentation")
    contents.release(ready.offer(), ready.release)
    return ready


@pytest.fixture
def ready(made: Ready, tmp_path: Path) -> Ready:
    return made.copy(tmp_path / "copy")

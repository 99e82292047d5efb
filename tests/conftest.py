"""What tests share: the golden data, a cache for the reference checkpoints, pyannote itself."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import samevoice.models  # noqa: F401  before any mlx.core: it puts the fast BLAS beneath MLX

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("SAMEVOICE_CACHE", str(ROOT / "out" / "cache"))
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
os.environ["COLUMNS"] = "80"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Real captures, which are never part of this repository."""
    folder = Path(os.environ.get("SAMEVOICE_GOLDEN", ROOT.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}: set SAMEVOICE_GOLDEN to its folder")
    return folder


@pytest.fixture(scope="session")
def pyannote() -> Any:
    """pyannote.audio, the package whose modules every port is held against."""
    if find_spec("torch") is None or find_spec("pyannote") is None:
        pytest.skip("pyannote.audio is not installed: pip install 'samevoice[parity]'")
    from samevoice.converters.reference import import_pyannote

    return import_pyannote()


@pytest.fixture(scope="session")
def references(pyannote: Any) -> dict[str, Path]:
    """The folders of the offline reference checkpoints, built once."""
    del pyannote
    from samevoice.converters.reference import KINDS, build

    return {kind: build(kind) for kind in KINDS}

"""What tests share: the golden data, a cache for the reference checkpoints, pyannote itself."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import made_up
import pytest

import samevoice
import samevoice.models  # before any mlx.core: it puts the fast BLAS beneath MLX

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("SAMEVOICE_CACHE", str(ROOT / "out" / "cache"))
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
os.environ["COLUMNS"] = "80"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests begin, so that no core stands idle at the end."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


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


@pytest.fixture(scope="session")
def reference_bundle(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The offline reference pipeline, converted."""
    target = tmp_path_factory.mktemp("reference") / "full"
    samevoice.convert(references["full"], target)
    return target


@pytest.fixture(scope="session")
def narrow_bundle(reference_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an eighth of the embedding network's channels: a fiftieth of its work."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from samevoice.models import registry

    target = tmp_path_factory.mktemp("narrow") / "full"
    shutil.copytree(reference_bundle, target)
    config = json.loads((target / "embedding" / "config.json").read_text()) | {"m_channels": 4}
    mx.random.seed(0)
    network = registry.build(config)
    flat: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    mx.save_safetensors(str(target / "embedding" / "model.safetensors"), dict(flat))
    (target / "embedding" / "config.json").write_text(json.dumps(config))
    made_up.record(target)
    return target


@pytest.fixture(scope="session")
def fitted_bundle(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that behaves like the real one on the golden clips, converted."""
    target = tmp_path_factory.mktemp("fitted") / "full"
    samevoice.convert(golden / "checkpoints" / "community-1-fitted", target)
    return target


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless chromium; skipped where there is none."""
    import headless

    started = headless.start(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()
